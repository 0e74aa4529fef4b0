"""The scores of a prediction: their names, what they are per class, and their mean over the scored classes.

    dice, iou   per image and class, 1 where prediction and truth both lack the class; mean over images, then classes
    miou        per class, from the confusion matrix summed over all images; mean over classes that have pixels

Imports NumPy only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

LABELS = {"dice": "Dice", "iou": "IoU", "miou": "mIoU"}  # by the name that files and configs use
PER_IMAGE = ("dice", "iou")  # those that a single image has


def label_of(score: str) -> str:
    """Returns the label of a score; one that has none is shown by its name.

    >>> label_of("miou"), label_of("accuracy")
    ('mIoU', 'accuracy')
    """
    return LABELS.get(score, score)


def score_of(monitor: str) -> str | None:
    """Returns the score that SOLVER.MONITOR watches, or None for the validation loss.

    >>> score_of("valid_dice"), score_of("valid_loss")
    ('dice', None)
    """
    return None if monitor == "valid_loss" else monitor.removeprefix("valid_")


def monitor_label(monitor: str) -> str:
    """Returns what SOLVER.MONITOR watches, for messages.

    >>> monitor_label("valid_miou"), monitor_label("valid_loss")
    ('validation mIoU', 'validation loss')
    """
    name = score_of(monitor)
    return f"validation {label_of(name) if name else 'loss'}"


def per_image_score(score: str) -> str:
    """Returns the score by which single images are compared where `score` is the competition's.

    >>> per_image_score("dice"), per_image_score("miou")
    ('dice', 'iou')
    """
    return score if score in PER_IMAGE else "iou"


def class_scores(score: str, hits: np.ndarray, areas: np.ndarray) -> np.ndarray:
    """Returns Dice or IoU, float64, of any shape; 1 where there are no pixels.

    Args:
        score: one of `PER_IMAGE`.
        hits: pixels of a class that were predicted correctly.
        areas: its true plus its predicted pixels.

    >>> class_scores("dice", np.array([1, 0]), np.array([3, 0])).tolist()
    [0.6666666666666666, 1.0]
    >>> class_scores("iou", np.array([1, 0]), np.array([3, 0])).tolist()
    [0.5, 1.0]
    """
    tops, bottoms = (2 * hits, areas) if score == "dice" else (hits, areas - hits)
    return np.where(areas > 0, tops / np.where(areas > 0, bottoms, 1), 1.0)


def mean_scored(values: np.ndarray | Sequence[float], scored: Sequence[int] | None = None) -> np.ndarray:
    """Returns the mean over the scored classes, float64 (...), of values (..., C).

    NaNs (a class without pixels) are left out; where all are NaN, so is the mean.

    Args:
        scored: indices of the scored classes; None: all.

    >>> mean_scored([[0.5, 1.0, 0.0], [0.25, np.nan, 0.5]], [0, 1]).tolist()
    [0.75, 0.25]
    """
    values = np.asarray(values, np.float64)
    values = values if scored is None else values[..., list(scored)]
    is_known = ~np.isnan(values)
    # Added up class by class, so that the same scores have the same mean to the last bit in every file.
    totals, counts = np.cumsum(np.where(is_known, values, 0), -1)[..., -1], is_known.sum(-1)
    return np.where(counts > 0, totals / np.maximum(counts, 1), np.nan)


def score_table(
    values: Mapping[str, np.ndarray], classes: Sequence[str], scored: Sequence[int] | None = None
) -> dict[str, dict[str, Any]]:
    """Returns of each score its label, the mean over the scored classes, and the value of each class; None for NaN.

    Args:
        values: float64 (C,), by the name of the score.
        classes: their C names.
        scored: indices of the scored classes; None: all.

    >>> score_table({"miou": np.array([0.5, np.nan])}, ["Car", "Road"])
    {'miou': {'label': 'mIoU', 'mean': 0.5, 'classes': {'Car': 0.5, 'Road': None}}}
    """

    def known(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return {
        name: {
            "label": LABELS[name],
            "mean": known(mean_scored(values_C, scored)),
            "classes": dict(zip(classes, map(known, values_C), strict=True)),
        }
        for name, values_C in values.items()
    }
