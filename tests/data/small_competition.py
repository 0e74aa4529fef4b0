"""A competition folder small enough for a test: blocks of colour with the masks that belong to them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from pipeline.config.augmentation import Augmentation
from pipeline.config.load import load

CLASSES = ("Sky", "Building", "Road", "Car", "Boat")


def make_competition(
    folder: Path, num_images: int = 6, sizes: Sequence[tuple[int, int]] = ((96, 64),), ignore_index: int | None = None
) -> pd.DataFrame:
    """Writes images and masks below `folder` and returns their catalog; sizes are (width, height), taken in turn."""
    rng = np.random.default_rng(0)
    (folder / "imgs").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = []
    for number in range(num_images):
        width, height = sizes[number % len(sizes)]
        mask = make_mask(rng, height, width)
        if ignore_index is not None:
            mask[:4, :6] = ignore_index
        image = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
        row = {"id": f"{number:03d}", "image": f"imgs/{number:03d}.png", "mask": f"masks/{number:03d}.png"}
        cv2.imwrite(str(folder / row["image"]), image)
        cv2.imwrite(str(folder / row["mask"]), mask)
        rows.append({**row, "width": width, "height": height})
    return pd.DataFrame(rows)


def make_mask(rng: np.random.Generator, height: int, width: int) -> np.ndarray:
    """Returns a mask of coarse blocks; the last class is in about a quarter of the masks, in one block."""
    blocks = rng.integers(0, len(CLASSES) - 1, (4, 6), dtype=np.uint8)
    if rng.random() < 0.25:
        blocks[rng.integers(4), rng.integers(6)] = len(CLASSES) - 1
    return cv2.resize(blocks, (width, height), interpolation=cv2.INTER_NEAREST)


def augmentation(*overrides: str, name: str = "ExpAAC") -> Augmentation:
    """Returns an experiment's augmentation with keys below DATASETS.AUGMENTATION overridden."""
    return load(name, tuple(f"DATASETS.AUGMENTATION.{text}" for text in overrides)).config.datasets.augmentation


# A grey level for each class, and for pixels beyond the image: an image drawn from its mask is `GREYS[mask]`.
GREYS = np.zeros(256, np.uint8)
GREYS[: len(CLASSES)] = (40, 90, 140, 190, 240)


def draw_from_masks(folder: Path, catalog: pd.DataFrame) -> None:
    """Overwrites the images of a competition by what their masks say: one grey level per class."""
    for row in catalog.itertuples(index=False):
        mask = cv2.imread(str(folder / row.mask), cv2.IMREAD_GRAYSCALE)
        cv2.imwrite(str(folder / row.image), cv2.merge([GREYS[mask]] * 3))


def misplaced(image: np.ndarray, mask: np.ndarray, margin: int = 2) -> int:
    """Returns how many pixels of an image are not as its mask says, away from all borders of classes.

    Args:
        image: HxWxC that was drawn from its mask before both were augmented.
        margin: pixels beside a border of two classes that interpolation may mix; one may lie just outside the image.
    """
    window = np.ones((2 * margin + 1, 2 * margin + 1), np.uint8)
    outside = {"borderType": cv2.BORDER_CONSTANT, "borderValue": 254}
    is_inside = cv2.erode(mask, window, **outside) == cv2.dilate(mask, window, **outside)
    differs = np.abs(image.astype(int) - GREYS[mask][..., None]).max(-1) > 1
    return int((is_inside & differs & (mask != 255)).sum())
