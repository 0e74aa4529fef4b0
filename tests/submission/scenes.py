"""Competitions and images that the tests of this folder share: drone-like index masks of any size."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np

from pipeline.config.competition import IGNORE, Competition, Convention

CLASSES = ("Background", "Road", "Tree", "Roof", "Person")

# reference/rle.md, one entry per row of its table
CONVENTIONS = {
    "AeroScapes": Convention("row", 0, False, "", "ImageID", "EncodedPixels", "id_class", None, 0),
    "Carvana": Convention("row", 1, False, "", "img", "rle_mask", "id", None, 0),
    "Airbus Ship": Convention("column", 1, False, "", "ImageId", "EncodedPixels", "id", None, 0),
    "Severstal": Convention("column", 1, False, "", "ImageId_ClassId", "EncodedPixels", "id_class", None, 1),
    "TGS Salt": Convention("column", 1, False, "", "id", "rle_mask", "id", None, 0),
    "HuBMAP kidney": Convention("column", 1, False, "", "id", "predicted", "id", None, 0),
    "Contrails": Convention("column", 1, False, "-", "record_id", "encoded_pixels", "id", None, 0),
    "Vesuvius Ink": Convention("row", 1, False, "", "Id", "Predicted", "id", None, 0),
    "UW-Madison": Convention("row", 1, False, "", "id", "predicted", "id+class", "class", 0),
    "SIIM Pneumothorax": Convention("column", 0, True, "-1", "ImageId", "EncodedPixels", "id", None, 0),
}


def make_competition(convention: Convention | str = "AeroScapes", **changes) -> Competition:
    """Returns a competition of `CLASSES`, or of background and one class when it has one row per image."""
    convention = CONVENTIONS[convention] if isinstance(convention, str) else convention
    classes = CLASSES if convention.rows != "id" else CLASSES[:2]
    competition = Competition(
        name="test", title="Made for a test", classes=classes, colors=tuple((9 * i, 0, 0) for i in range(len(classes))),
        ignore_index=None, images="imgs/{id}.jpg", masks="masks/{id}.png", train_csv="train.csv",
        test_csv="test.csv", id_column="ImageID", sample_submission="sample_submission.csv", sequence_column=None,
        sequence_pattern=None, kaggle_slug="a-competition", repository=None, licence="none", convention=convention,
    )  # fmt: skip
    return replace(competition, **changes)


def make_scene(rng: np.random.Generator, height: int, width: int, num_classes: int) -> np.ndarray:
    """Returns an index mask (uint8, H, W) with a road, layers, round and square things and some noise; all covered."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    horizon = height * rng.uniform(0.1, 0.5) + rng.uniform(-0.3, 0.3) * x
    mask_HW = np.where(y < horizon, 2 % num_classes, 0).astype(np.uint8)
    bend = width * rng.uniform(0.2, 0.8) + rng.uniform(-1, 1) * y
    mask_HW[np.abs(x - bend) < width * rng.uniform(0.02, 0.2)] = 1
    for _ in range(rng.integers(1, 12)):
        center = (int(rng.integers(width)), int(rng.integers(height)))
        radius = int(rng.integers(2, max(3, height // 6)))
        cv2.circle(mask_HW, center, radius, int(rng.integers(num_classes)), -1)
    noise_HW = rng.random((height, width)) < rng.choice([0, 0.002])
    mask_HW[noise_HW] = rng.integers(num_classes, size=int(noise_HW.sum()))
    return mask_HW


def make_images(seed: int, num_images: int, competition: Competition, whole: bool = True) -> dict[str, np.ndarray]:
    """Returns index masks of different sizes by id; without `whole`, the background belongs to no class."""
    rng = np.random.default_rng(seed)
    images = {}
    for number in range(num_images):
        height, width = ((60, 96), (72, 54), (64, 80))[number % 3]
        mask_HW = make_scene(rng, height, width, len(competition.classes))
        images[f"{number:06d}_{seed:03d}"] = mask_HW if whole else np.where(mask_HW == 0, IGNORE, mask_HW)
    return images


def sizes_of(images: dict[str, np.ndarray]) -> dict[str, tuple[int, int]]:
    """Returns (height, width) of each image."""
    return {image_id: mask_HW.shape for image_id, mask_HW in images.items()}
