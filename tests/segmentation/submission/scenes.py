"""Competitions and images that the tests of this folder share: drone-like index masks of any size."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from pipeline.config.competition import IGNORE, Competition, Convention, Submission
from pipeline.segmentation.submission.rle import encode
from pipeline.submission.file import write_submission
from pipeline.submission.formats import format_of_file

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

# What PNG masks may store; the last of five classes is ignored, or a value beyond them, or none.
COLORS = tuple((9 * index, 255 - index, 40) for index in range(len(CLASSES)))
PNG_KINDS = {
    "indices": {},
    "values": {"values": (7, 0, 255, 11, 3)},
    "colours": {"values": "colors"},
    "colours, ignored class": {"values": "colors", "ignore_index": 4},
    "indices, ignored class": {"values": "indices", "ignore_index": 4},
    "values, ignored value": {"values": (7, 0, 254, 11, 3), "ignore_index": 255},
    "as the masks": {"mask_values": (0, 50, 100, 150, 200)},
    "a folder": {"file": "results/{id}_labels.png"},
}


def make_png_competition(kind: str = "indices", **changes) -> Competition:
    """Returns a competition of `CLASSES` whose submissions are PNG masks of that kind."""
    keys = dict(PNG_KINDS[kind])
    submission = Submission("png_masks", keys.pop("file", "{id}.png"), keys.pop("values", None))
    return make_competition(submission=submission, colors=COLORS, **keys, **changes)


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


def encode_binary(mask_HW: np.ndarray, convention: Convention) -> str:
    """Returns the run-length text of the non-zero pixels of a mask of any type."""
    outside_HW = (np.asarray(mask_HW) == 0).astype(np.uint8)  # class 0, the only one that is written, is inside
    return encode(outside_HW, 1, convention)[0]


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


def write(path: Path, images: dict[str, np.ndarray], competition: Competition, **origin) -> Path:
    """Writes a submission of index masks by id; returns its path."""
    write_submission(path, images.items(), list(images), competition, origin, sizes_of(images))
    return path


def write_foreign(path: Path, images: dict[str, np.ndarray], competition: Competition) -> Path:
    """The same without an origin, as if another program had written it."""
    write(path, images, competition).with_suffix(".json").unlink()
    return path


def check_submission(path: Path, competition: Competition, sizes, sample: Path | None = None) -> list[str]:
    """Returns what is wrong with a submission, warnings included."""
    return format_of_file(path, competition).check(path, competition, sizes, sample)
