"""Scores of predicted masks against true ones, by name: per image and class, and from the summed confusion matrix.

In: confusion matrices of images, and scores that need their masks. Out: `metrics.json`, `per_image.csv`,
`confusion.csv`. `pipeline/scores.py` says what each score is.

Letters: I images, C classes. A confusion matrix, int64, has a row per true class and a column per predicted one; it may
have a last column more, of pixels that are predicted as no class. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.config.competition import IGNORE
from pipeline.scores import BASIC, KINDS, Chosen, class_scores, mean_scored, score_table

NO_CLASS = "no class"  # what is always predicted, in metrics.json


def count_pairs(first_HW: np.ndarray, second_HW: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns how many pixels of two index masks have each pair of classes, int64 (C + 1, C + 1); the last: `IGNORE`.

    >>> count_pairs(np.array([[0, 1, 255]], np.uint8), np.array([[0, 0, 1]], np.uint8), 2).tolist()
    [[1, 0, 0], [1, 0, 0], [0, 1, 0]]
    """
    num_values = num_classes + 1
    first, second = (np.where(mask == IGNORE, num_classes, mask).astype(np.uint16) for mask in (first_HW, second_HW))
    counts = np.bincount((first * np.uint16(num_values) + second).ravel(), minlength=num_values**2)
    return counts.reshape(num_values, num_values)


class Counts(NamedTuple):
    """Correctly predicted, true and predicted pixels of each class: int64 (..., C) each."""

    hits: np.ndarray
    true: np.ndarray
    predicted: np.ndarray


def counts_of(confusion_CC: np.ndarray | Counts) -> Counts:
    """Returns the counts of any number of confusion matrices, (..., C, C or C + 1); counts as they are."""
    if isinstance(confusion_CC, Counts):
        return confusion_CC
    predicted_C = confusion_CC.sum(-2)[..., : confusion_CC.shape[-2]]
    return Counts(confusion_CC.diagonal(axis1=-2, axis2=-1), confusion_CC.sum(-1), predicted_C)


def image_scores(
    confusion_ICC: np.ndarray | Counts,
    chosen: Chosen = BASIC,
    of_masks: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """Returns the scores of each class that images have, float64 (..., C), by name.

    An image whose pixels are all ignored has none: its values are NaN. Counts do not tell it from one without a class.

    Args:
        confusion_ICC: of each image; or its counts, where a pixel may have several classes.
        of_masks: float64 (..., C), the scores that need the masks.
    """
    counts = counts_of(confusion_ICC)
    found = {
        name: of_masks[name] if KINDS[name].needs == "masks" else class_scores(name, *counts, chosen.options)
        for name in chosen.of_images
    }
    is_ignored = all_ignored(confusion_ICC)[..., None]
    return {name: np.where(is_ignored, np.nan, values) for name, values in found.items()}


def all_ignored(confusion_CC: np.ndarray | Counts) -> np.ndarray:
    """Returns bool (...): whether all pixels of an image are ignored, which of counts nobody knows.

    >>> all_ignored(np.array([[[0, 0], [0, 0]], [[0, 1], [0, 0]]])).tolist()
    [True, False]
    """
    if isinstance(confusion_CC, Counts):
        return np.zeros(confusion_CC.true.shape[:-1], bool)
    return confusion_CC.sum((-2, -1)) == 0


def scores_over_all(
    confusion_ICC: np.ndarray | Counts,
    chosen: Chosen = BASIC,
    of_masks: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> dict[str, np.ndarray]:
    """Returns the scores of each class over all images, float64 (C,), by name; NaN where it has none.

    Args:
        of_masks: as in `image_scores`, and float64 (C,) of scores of volumes.
    """
    of_images = image_scores(confusion_ICC, chosen, of_masks)
    counts = Counts(*(part.sum(0) for part in counts_of(confusion_ICC)))

    def over_all(name: str) -> np.ndarray:
        if KINDS[name].per == "volume":
            return of_masks[name]
        return mean_of_images(of_images[name]) if name in of_images else class_scores(name, *counts, chosen.options)

    return {name: over_all(name) for name in chosen.names}


def mean_of_images(values_IC: np.ndarray) -> np.ndarray:
    """Returns the mean of each class, float64 (C,), over the images that have a value; NaN where none has.

    >>> mean_of_images(np.array([[0.5, 1.0, np.nan], [np.nan, 0.0, np.nan]])).tolist()
    [0.5, 0.5, nan]
    """
    is_known_IC = ~np.isnan(values_IC)
    if is_known_IC.all():
        return values_IC.T.copy().mean(1)
    sums_C, counts_C = np.where(is_known_IC, values_IC, 0).sum(0), is_known_IC.sum(0)
    return np.where(counts_C > 0, sums_C / np.maximum(counts_C, 1), np.nan)


def dataset_iou(confusion_CC: np.ndarray) -> np.ndarray:
    """Returns the IoU of each class from one matrix summed over all images: float64 (C,), NaN where it has no pixels.

    Its mean over the classes that are not NaN is the mIoU of the papers.

    >>> dataset_iou(np.array([[2, 1, 0], [1, 0, 0], [0, 0, 0]])).tolist()
    [0.5, 0.0, nan]
    """
    return class_scores("miou", *counts_of(confusion_CC))


def image_table(
    ids: Sequence[str],
    sequences: Sequence[str],
    scores: Mapping[str, np.ndarray],
    classes: Sequence[str],
    scored: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Returns one row per image: id, sequence, each score as a mean over the scored classes, then by class.

    Args:
        scores: what `image_scores` returns.
        scored: indices of the classes that enter means; None: all.
    """
    table = {"id": ids, "sequence": sequences}
    table |= {name: mean_scored(values_IC, scored) for name, values_IC in scores.items()}
    for name, values_IC in scores.items():
        table |= {f"{name}_{own}": values_IC[:, index] for index, own in enumerate(classes)}
    return pd.DataFrame(table)


def summarise(
    confusion_ICC: np.ndarray | Counts,
    classes: Sequence[str],
    scored: Sequence[int] | None = None,
    score: str = "dice",
    chosen: Chosen = BASIC,
    of_masks: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> dict[str, Any]:
    """Returns the scores of `metrics.json`.

    Args:
        scored: indices of the classes that enter means; None: all.
        score: the name of the competition's own score.
        of_masks: as in `image_scores`.
    """
    names = [classes[index] for index in (range(len(classes)) if scored is None else scored)]
    true_IC = counts_of(confusion_ICC).true
    families = score_table(scores_over_all(confusion_ICC, chosen, of_masks), classes, scored, true_IC.sum(0))
    return {"images": len(true_IC), "score": score, "scores": families, "scored": names}


def majority_guess(
    confusion_ICC: np.ndarray,
    majority_index: int,
    classes: Sequence[str],
    scored: Sequence[int] | None = None,
    chosen: Chosen = BASIC,
    of_masks: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> dict[str, Any]:
    """Returns the mean scores of always predicting one class, that of the most training pixels, on the same images.

    Args:
        of_masks: as in `image_scores`, of masks of that class alone.
    """
    guess_ICC = np.zeros_like(confusion_ICC)
    guess_ICC[..., majority_index] = confusion_ICC.sum(-1)
    families = summarise(guess_ICC, classes, scored, chosen=chosen, of_masks=of_masks)["scores"]
    return {"class": classes[majority_index], "scores": {name: family["mean"] for name, family in families.items()}}


def empty_guess(
    counts: Counts,
    classes: Sequence[str],
    scored: Sequence[int] | None = None,
    chosen: Chosen = BASIC,
    of_masks: Mapping[str, np.ndarray] = MappingProxyType({}),
) -> dict[str, Any]:
    """Returns what `majority_guess` does, of always predicting no class, where a pixel may have none."""
    nothing = np.zeros_like(counts.true)
    guess = Counts(nothing, counts.true, nothing)
    families = summarise(guess, classes, scored, chosen=chosen, of_masks=of_masks)["scores"]
    return {"class": NO_CLASS, "scores": {name: family["mean"] for name, family in families.items()}}


def counts_table(counts_IC: Counts, classes: Sequence[str]) -> pd.DataFrame:
    """Returns the table behind confusion.csv where a pixel may have several classes: pixels, a row per class.

    Columns: truth, the class; found, its pixels that are predicted; missed, those that are not; false, pixels that are
    predicted as the class and are not.
    """
    hits_C, true_C, predicted_C = (part.sum(0) for part in counts_IC)
    pixels = {"found": hits_C, "missed": true_C - hits_C, "false": predicted_C - hits_C}
    return pd.DataFrame({"truth": list(classes), **pixels})


def confusion_table(confusion_CC: np.ndarray, classes: Sequence[str]) -> pd.DataFrame:
    """Returns the table behind confusion.csv: pixels, a row per true class, a column per predicted one."""
    table = pd.DataFrame(confusion_CC, columns=list(classes))
    table.insert(0, "truth", list(classes))
    return table
