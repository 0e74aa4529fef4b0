"""Scores of predicted masks against true ones, by name: per image and class, and from the summed confusion matrix.

In: confusion matrices of images. Out: `metrics.json`, `per_image.csv`, `confusion.csv`. `pipeline/scores.py` says what
each score is.

Letters: I images, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import torch

from pipeline.scores import PER_IMAGE, mean_scored, score_table
from pipeline.segmentation import decision
from pipeline.segmentation.metrics import dataset_iou, dice_iou


def confusion_of(predicted: np.ndarray, truth: np.ndarray, num_classes: int) -> torch.Tensor:
    """Returns the confusion matrix (C, C), rows truth, of two uint8 index masks; 255 in truth is ignored."""
    return decision.count(torch.from_numpy(predicted)[None], torch.from_numpy(truth)[None], num_classes)[0]


def image_scores(confusion_ICC: torch.Tensor | np.ndarray) -> dict[str, np.ndarray]:
    """Returns the scores of each class, float64 (..., C), by name."""
    scores = dice_iou(torch.as_tensor(confusion_ICC))
    return {name: values.numpy() for name, values in zip(PER_IMAGE, scores, strict=True)}


def image_table(
    ids: Sequence[str],
    sequences: Sequence[str],
    confusion_ICC: torch.Tensor,
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


def score_families(
    confusion_ICC: torch.Tensor, classes: Sequence[str], scored: Sequence[int] | None = None
) -> dict[str, dict[str, Any]]:
    """Returns of each score its label, the mean over the scored classes, and the value of each class.

    A class without pixels has no mIoU: None.
    """
    families = {name: values_IC.T.copy().mean(1) for name, values_IC in image_scores(confusion_ICC).items()}
    families["miou"] = dataset_iou(confusion_ICC.sum(0)).numpy()
    return score_table(families, classes, scored)


def summarise(
    confusion_ICC: torch.Tensor, classes: Sequence[str], scored: Sequence[int] | None = None, score: str = "dice"
) -> dict[str, Any]:
    """Returns the scores of `metrics.json`.

    Args:
        scored: indices of the classes that enter means; None: all.
        score: the name of the competition's own score.
    """
    names = [classes[index] for index in (range(len(classes)) if scored is None else scored)]
    families = score_families(confusion_ICC, classes, scored)
    return {"images": len(confusion_ICC), "score": score, "scores": families, "scored": names}


def majority_guess(
    truths: Iterable[np.ndarray], majority_index: int, classes: Sequence[str], scored: Sequence[int] | None = None
) -> dict[str, Any]:
    """Returns the mean scores of always predicting one class, that of the most training pixels."""
    confusions = [confusion_of(np.full_like(truth, majority_index), truth, len(classes)) for truth in truths]
    families = score_families(torch.stack(confusions), classes, scored)
    return {"class": classes[majority_index], "scores": {name: family["mean"] for name, family in families.items()}}


def confusion_table(confusion_CC: torch.Tensor, classes: Sequence[str]) -> pd.DataFrame:
    """Returns the table behind confusion.csv: pixels, a row per true class, a column per predicted one."""
    table = pd.DataFrame(confusion_CC.numpy(), columns=list(classes))
    table.insert(0, "truth", list(classes))
    return table
