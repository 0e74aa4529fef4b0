"""Scores of predicted masks against true ones, by name: per image and class, and from the summed confusion matrix.

In: confusion matrices of images. Out: `metrics.json`, `per_image.csv`, `confusion.csv`. `pipeline/scores.py` says what
each score is.

Letters: I images, C classes. A confusion matrix, int64, has a row per true class and a column per predicted one; it may
have a last column more, of pixels that are predicted as no class. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.competition import IGNORE
from pipeline.scores import PER_IMAGE, class_scores, mean_scored, score_table


def count_pairs(first_HW: np.ndarray, second_HW: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns how many pixels of two index masks have each pair of classes, int64 (C + 1, C + 1); the last: `IGNORE`.

    >>> count_pairs(np.array([[0, 1, 255]], np.uint8), np.array([[0, 0, 1]], np.uint8), 2).tolist()
    [[1, 0, 0], [1, 0, 0], [0, 1, 0]]
    """
    num_values = num_classes + 1
    first, second = (np.where(mask == IGNORE, num_classes, mask).astype(np.uint16) for mask in (first_HW, second_HW))
    counts = np.bincount((first * np.uint16(num_values) + second).ravel(), minlength=num_values**2)
    return counts.reshape(num_values, num_values)


def image_scores(confusion_ICC: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the scores of each class, float64 (..., C), by name; 1 where truth and prediction both lack it."""
    return {name: class_scores(name, *_hits_and_areas(confusion_ICC)) for name in PER_IMAGE}


def scores_over_all(confusion_ICC: np.ndarray) -> dict[str, np.ndarray]:
    """Returns the scores of each class over all images, float64 (C,), by name; a class without pixels has mIoU NaN."""
    values = {name: values_IC.T.copy().mean(1) for name, values_IC in image_scores(confusion_ICC).items()}
    return values | {"miou": dataset_iou(confusion_ICC.sum(0))}


def dataset_iou(confusion_CC: np.ndarray) -> np.ndarray:
    """Returns the IoU of each class from one matrix summed over all images: float64 (C,), NaN where it has no pixels.

    Its mean over the classes that are not NaN is the mIoU of the papers.

    >>> dataset_iou(np.array([[2, 1, 0], [1, 0, 0], [0, 0, 0]])).tolist()
    [0.5, 0.0, nan]
    """
    hits_C, areas_C = _hits_and_areas(confusion_CC)
    return np.divide(hits_C, areas_C - hits_C, out=np.full(len(hits_C), np.nan), where=areas_C > 0)


def _hits_and_areas(confusion_CC: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns correctly predicted pixels, and true plus predicted pixels, of each class: two int64 (..., C)."""
    predicted_C = confusion_CC.sum(-2)[..., : confusion_CC.shape[-2]]
    return confusion_CC.diagonal(axis1=-2, axis2=-1), confusion_CC.sum(-1) + predicted_C


def image_table(
    ids: Sequence[str],
    sequences: Sequence[str],
    confusion_ICC: np.ndarray,
    classes: Sequence[str],
    scored: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Returns one row per image: id, sequence, each score as a mean over the scored classes, then by class.

    Args:
        scored: indices of the classes that enter means; None: all.
    """
    scores = image_scores(confusion_ICC)
    table = {"id": ids, "sequence": sequences}
    table |= {name: mean_scored(values_IC, scored) for name, values_IC in scores.items()}
    for name, values_IC in scores.items():
        table |= {f"{name}_{own}": values_IC[:, index] for index, own in enumerate(classes)}
    return pd.DataFrame(table)


def summarise(
    confusion_ICC: np.ndarray, classes: Sequence[str], scored: Sequence[int] | None = None, score: str = "dice"
) -> dict[str, Any]:
    """Returns the scores of `metrics.json`.

    Args:
        scored: indices of the classes that enter means; None: all.
        score: the name of the competition's own score.
    """
    names = [classes[index] for index in (range(len(classes)) if scored is None else scored)]
    families = score_table(scores_over_all(confusion_ICC), classes, scored)
    return {"images": len(confusion_ICC), "score": score, "scores": families, "scored": names}


def majority_guess(
    confusion_ICC: np.ndarray, majority_index: int, classes: Sequence[str], scored: Sequence[int] | None = None
) -> dict[str, Any]:
    """Returns the mean scores of always predicting one class, that of the most training pixels, on the same images."""
    guess_ICC = np.zeros_like(confusion_ICC)
    guess_ICC[..., majority_index] = confusion_ICC.sum(-1)
    families = score_table(scores_over_all(guess_ICC), classes, scored)
    return {"class": classes[majority_index], "scores": {name: family["mean"] for name, family in families.items()}}


def confusion_table(confusion_CC: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Returns the table behind confusion.csv: pixels, a row per true class, a column per predicted one."""
    table = pd.DataFrame(confusion_CC, columns=list(classes))
    table.insert(0, "truth", list(classes))
    return table
