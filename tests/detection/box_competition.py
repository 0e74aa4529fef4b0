"""A competition of boxes so small that the whole chain runs in seconds: squares and discs on noise, 96 x 64 pixels.

It has the descriptor of the demo with boxes, of whose classes it shows two, so that no config need be written:
everything is said by overrides on `configs/demo.yaml`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from pipeline.config.load import Loaded, load

WIDTH, HEIGHT = 96, 64
CLASSES = ("Person", "Car", "Boat", "Animal")
SQUARE, DISC = CLASSES.index("Car"), CLASSES.index("Boat")
COLORS = {SQUARE: (230, 60, 40), DISC: (50, 200, 240)}  # RGB
TRAIN_SEQUENCES, TEST_SEQUENCES, FRAMES = 4, 1, 4

RETINANET = {
    "MODEL.NAME": "RetinaNet",
    "MODEL.ENCODER.NAME": "tu-lcnet_035",  # 200 thousand weights
    "MODEL.OPTIONS": "{CHANNELS: 16, CONVOLUTIONS: 1, ANCHOR_SIZES: [8, 16, 32, 64, 128]}",
    "LOSS_FN.MIX": "1 sigmoid_focal + 1 smooth_l1",
}
YOLOX = {
    "MODEL.NAME": "YOLOX",
    "MODEL.ENCODER.NAME": "yolox_nano",
    "MODEL.OPTIONS": "{}",
    "LOSS_FN.MIX": "5 iou + 1 conf + 1 cls + 1 l1",
}
SETTINGS = RETINANET | {
    "MODEL.ENCODER.WEIGHTS": "null",
    "DATASETS.COMPETITION": "demo_boxes",
    "DATASETS.SPLIT.BY": "sequence",
    "DATASETS.SPLIT_INDEX": "0",
    "DATASETS.AUGMENTATION.TILE.ENABLE": "false",
    "DATASETS.AUGMENTATION.SHIFT_SCALE_ROTATE.ENABLE": "false",
    "DATASETS.AUGMENTATION.COLOR.ENABLE": "false",
    "DATALOADERS.TRAIN.BATCH_SIZE": "4",
    "DATALOADERS.VALID.BATCH_SIZE": "4",
    "RUNTIME.KEEP_STATE": "true",
    "RUNTIME.DEVICE": "cpu",
    "SOLVER.PLAN": "flat_cosine",
    "SOLVER.OPTIMIZER.NAME": "AdamW",
    "SOLVER.MAX_LR": "0.002",
    "SOLVER.CLIP_NORM": "1",
    "SOLVER.NUM_EPOCHS": "1",
    "SOLVER.ANN_EPOCHS": "1",
    "SWEEP.ENABLE": "false",
}
# All changes of geometry, and samples made of several images.
ALL_GEOMETRY = {
    f"DATASETS.AUGMENTATION.{name}": value
    for name, value in {
        "HORIZONTAL_FLIP.ENABLE": "true",
        "VERTICAL_FLIP.ENABLE": "true",
        "QUARTER_TURN.ENABLE": "true",
        "SHIFT_SCALE_ROTATE.ENABLE": "true",
        "ELASTIC.ENABLE": "true",
        "GRID_DISTORTION.ENABLE": "true",
        "OPTICAL_DISTORTION.ENABLE": "true",
        "MOSAIC.ENABLE": "true",
        "COPY_PASTE.ENABLE": "true",
        "COPY_PASTE.VARIANT": "weighted",
    }.items()
}


class Thing(NamedTuple):
    """An object: index of its class; left, top, right, bottom in pixels."""

    index: int
    box: tuple[int, int, int, int]


def draw(rng: np.random.Generator, most: int = 2, size: tuple[int, int] = (HEIGHT, WIDTH)) -> tuple[np.ndarray, list]:
    """Returns an image (uint8 RGB) with up to `most` squares and discs that do not overlap, and these."""
    height, width = size
    image = rng.integers(60, 130, (height, width, 3)).astype(np.uint8)
    things: list[Thing] = []
    for index in (SQUARE, DISC) * most:
        side = 2 * int(rng.integers(6, 12))
        left, top = int(rng.integers(0, width - side + 1)), int(rng.integers(0, height - side + 1))
        box = (left, top, left + side, top + side)
        if any(_touch(box, other.box) for other in things):
            continue
        things.append(Thing(index, box))
        image[_pixels(things[-1], size)] = COLORS[index]
    return image, things


def _touch(one: tuple[int, ...], other: tuple[int, ...]) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def _pixels(thing: Thing, size: tuple[int, int]) -> np.ndarray:
    """Returns which pixels of an image a thing has: bool (H, W)."""
    left, top, right, bottom = thing.box
    y, x = np.mgrid[: size[0], : size[1]] + 0.5
    if thing.index == SQUARE:
        return (x > left) & (x < right) & (y > top) & (y < bottom)
    return (x - (left + right) / 2) ** 2 + (y - (top + bottom) / 2) ** 2 <= ((right - left) / 2) ** 2


def write_competition(
    folder: Path, num_sequences: int = TRAIN_SEQUENCES, size: tuple[int, int] = (HEIGHT, WIDTH), seed: int = 5
) -> Path:
    """Writes sequences of 4 images with boxes, one image without any, and 4 test images; returns `folder`."""
    rng = np.random.default_rng(seed)
    (folder / "imgs/imgs").mkdir(parents=True)
    ids: dict[str, list[str]] = {"train": [], "test": []}
    images, annotations = [], []
    for sequence in range(num_sequences + TEST_SEQUENCES):
        subset = "train" if sequence < num_sequences else "test"
        for frame in range(FRAMES):
            image_id = f"{sequence + 1:06d}_{frame + 1:03d}"
            image, things = draw(rng, 0 if (sequence, frame) == (2, 1) else 2, size)
            cv2.imwrite(
                str(folder / f"imgs/imgs/{image_id}.jpg"),
                cv2.cvtColor(image, cv2.COLOR_RGB2BGR),
                [cv2.IMWRITE_JPEG_QUALITY, 95],
            )
            ids[subset].append(image_id)
            if subset == "test":
                continue
            number = len(images) + 1
            images.append({"id": number, "file_name": f"{image_id}.jpg", "width": size[1], "height": size[0]})
            for index, (left, top, right, bottom) in things:
                box = [left, top, right - left, bottom - top]
                annotation = {"image_id": number, "category_id": index + 1, "bbox": box, "area": box[2] * box[3]}
                annotations.append({"id": len(annotations) + 1, "iscrowd": 0} | annotation)
    categories = [{"id": index, "name": name} for index, name in enumerate(CLASSES, start=1)]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (folder / "train.json").write_text(json.dumps(content))
    for subset, names in ids.items():
        (folder / f"{subset}.csv").write_text("\n".join(["ImageID", *names]) + "\n")
    rows = [f"{image_id}," for image_id in ids["test"]]
    (folder / "sample_submission.csv").write_text("\n".join(["ImageID,PredictionString", *rows]) + "\n")
    return folder


def overrides(folder: Path, *changes: str, more: dict[str, str] | None = None) -> tuple[str, ...]:
    """Returns the `KEY=VALUE` arguments that make the demo config this tiny one, with `changes` of the same form."""
    settings = SETTINGS | (more or {}) | {"DATASETS.DIRECTORY": str(folder)}
    settings |= dict(change.split("=", 1) for change in changes)
    return tuple(f"{key}={value}" for key, value in settings.items())


def tiny(folder: Path, *changes: str, more: dict[str, str] | None = None) -> Loaded:
    """Returns the resolved tiny config on the competition in `folder`."""
    return load("demo", overrides(folder, *changes, more=more))
