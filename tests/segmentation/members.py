"""Drawn predictions of several members for the tests: different frames, sizes of logits and upsampling."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from pipeline.prediction.store import StoreWriter
from pipeline.segmentation.predict import Prediction, pack

CLASSES = ("ground", "road", "car", "sky")


def draw_prediction(
    generator: np.random.Generator,
    size: tuple[int, int],
    factor: int = 1,
    align_corners: bool = False,
    sharpness: float = 2.0,
    num_classes: int = len(CLASSES),
) -> Prediction:
    """A member's prediction of random logits; a padded frame lies around the image where it is upsampled."""
    height, width = size
    if factor == 1:
        shape, offset = (num_classes, height, width), (0, 0)
    else:
        rows, columns = -(-height // factor) + 1, -(-width // factor) + 2
        shape = (num_classes, rows, columns)
        offset = tuple(
            int(generator.integers(0, high + 1)) for high in (rows * factor - height, columns * factor - width)
        )
    logits = generator.normal(0, sharpness, shape).astype(np.float16)
    return Prediction(logits, factor, align_corners, offset, size)


def write_store(
    folder: Path, predictions: dict[str, Prediction], competition: str = "demo", classes: tuple[str, ...] = CLASSES
) -> Path:
    """A whole store of predictions."""
    facts = {"classes": list(classes), "competition": competition}
    writer = StoreWriter(folder, "key", list(predictions), facts, pack)
    for image_id, prediction in predictions.items():
        writer.put(image_id, prediction)
    writer.finish()
    return folder
