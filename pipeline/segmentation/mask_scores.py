"""Scores of one image that need its masks: boundaries, distances, objects.

In: predicted and true masks: index masks (H, W), object maps (see `objects.py`), or planes (H, W, C), 255 in the truth
where ignored. Out: a value per class, by the names in `pipeline/scores.py`. Ignored pixels are of no class in either
mask. A class that neither mask has scores 1, one that only one of them has scores 0. The objects of masks without
numbers are their connected components. Needs no torch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import cv2
import numpy as np

from pipeline.config.competition import IGNORE, ScoreOptions
from pipeline.scores import KINDS, class_scores
from pipeline.segmentation.objects import class_of, match_objects, numbers_of
from pipeline.segmentation.planes import is_present
from pipeline.segmentation.scores import Counts, all_ignored, counts_of

DICE_SHARE = 0.4  # of UW-Madison's score; the rest is of the Hausdorff distance
CROSS = cv2.getStructuringElement(cv2.MORPH_CROSS, (3, 3))  # a pixel's four neighbours


def image_score(
    name: str, counted: np.ndarray | Counts, predicted: np.ndarray, truth: np.ndarray, options: ScoreOptions
) -> np.ndarray:
    """Returns any score of `per: image`, float64 (C,), of one image; NaN where all of its pixels are ignored.

    Args:
        counted: the confusion matrix of the two masks, or their counts.
    """
    counts = counts_of(counted)
    if all_ignored(counted):
        return np.full(len(counts.true), np.nan)
    if KINDS[name].needs == "counts":
        return class_scores(name, *counts, options)
    return score_masks((name,), predicted, truth, len(counts.true), options)[name]


def score_masks(
    names: Sequence[str], predicted: np.ndarray, truth: np.ndarray, num_classes: int, options: ScoreOptions
) -> dict[str, np.ndarray]:
    """Returns scores of `needs: masks` of one image, float64 (C,), by name."""
    values = {name: np.ones(num_classes) for name in names}
    predicted_classes, true_classes = class_of(predicted), class_of(truth)
    is_scored = true_classes != IGNORE
    scored_box = _box_of(is_scored if truth.ndim == 2 else is_scored.any(-1))
    diagonal = float(np.hypot(*truth[scored_box].shape[:2]))  # without the padding of a frame
    for index in range(num_classes):
        if truth.ndim == 2:
            own_predicted, true = (predicted_classes == index) & is_scored, true_classes == index
        else:
            own_predicted = is_present(predicted[..., index]) & is_scored[..., index]
            true = is_present(truth[..., index])
        has_predicted, has_true = bool(own_predicted.any()), bool(true.any())
        for name in names:
            values[name][index] = float(not (has_predicted or has_true))
        if not (has_predicted and has_true):
            continue
        box = _box_of(own_predicted | true)  # no distance or neighbour outside matters
        for name in names:
            if name in OBJECT_SCORES:
                both = (numbers_of(predicted[box], own_predicted[box]), numbers_of(truth[box], true[box]))
                values[name][index] = OBJECT_SCORES[name](*both, options)
            else:
                values[name][index] = SCORES[name](own_predicted[box], true[box], diagonal, options)
    return values


def boundary_f(predicted: np.ndarray, true: np.ndarray, diagonal: float, options: ScoreOptions) -> float:
    """Returns the F1 of two masks' boundaries, bool (H, W): how much of each is near the other.

    Source: Csurka et al. 2013, "What is a good evaluation measure for semantic segmentation?".
    """
    precision, recall = (near / total for near, total in _near_boundaries(predicted, true, options.tolerance))
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def surface_dice(predicted: np.ndarray, true: np.ndarray, diagonal: float, options: ScoreOptions) -> float:
    """Returns the share of both masks' boundary pixels that are near the other mask's boundary.

    Source: normalised surface Dice, Nikolov et al. 2018; boundaries are counted in pixels, as MONAI does.
    """
    (near_predicted, num_predicted), (near_true, num_true) = _near_boundaries(predicted, true, options.tolerance)
    return (near_predicted + near_true) / (num_predicted + num_true)


def hausdorff_dice(predicted: np.ndarray, true: np.ndarray, diagonal: float, options: ScoreOptions) -> float:
    """Returns 0.4 Dice + 0.6 (1 - Hausdorff distance / diagonal of the image), within one image.

    All pixels of a mask count, those inside too, as in SciPy's `directed_hausdorff`; MONAI's distance is of outlines,
    which is farther where one mask has a hole that the other fills. `volume_scores.uw_madison` measures in volumes.
    """
    dice = 2 * int((predicted & true).sum()) / (int(predicted.sum()) + int(true.sum()))
    distance = max(float(_distance_to(true)[predicted].max()), float(_distance_to(predicted)[true].max()))
    return DICE_SHARE * dice + (1 - DICE_SHARE) * (1 - distance / diagonal)


def object_ap(predicted_HW: np.ndarray, true_HW: np.ndarray, options: ScoreOptions) -> float:
    """Returns the mean over IoU thresholds of TP / (TP + FP + FN), of numbered objects, int32 (H, W).

    Source: the rules of Data Science Bowl 2018.
    """
    hits_T, num_predicted, num_true = _object_hits(predicted_HW, true_HW, options)
    return float((hits_T / (num_predicted + num_true - hits_T)).mean())


def object_fbeta(predicted_HW: np.ndarray, true_HW: np.ndarray, options: ScoreOptions) -> float:
    """Returns the mean over IoU thresholds of (1 + b^2) TP / ((1 + b^2) TP + b^2 FN + FP), of numbered objects.

    Source: the rules of Airbus Ship Detection, with b = 2.
    """
    hits_T, num_predicted, num_true = _object_hits(predicted_HW, true_HW, options)
    square = options.beta**2
    return float(((1 + square) * hits_T / (square * num_true + num_predicted)).mean())


def _object_hits(predicted_HW: np.ndarray, true_HW: np.ndarray, options: ScoreOptions) -> tuple[np.ndarray, int, int]:
    """Returns how many objects are hit at each threshold, and how many were predicted and are true.

    A predicted object is a hit if its IoU with a true one is above the threshold. With thresholds of 0.5 or more at
    most one pair of each object can be.
    """
    matches = match_objects(predicted_HW, true_HW)
    hits_T = (matches.iou > np.array(options.thresholds)[:, None]).sum(1)
    return hits_T, matches.num_first, matches.num_second


def _box_of(mask: np.ndarray) -> tuple[slice, slice]:
    """Returns the smallest rectangle that has all pixels of a mask; an empty one where there are none."""
    ends = [np.flatnonzero(mask.any(axis))[[0, -1]] if mask.any() else (0, -1) for axis in (1, 0)]
    return tuple(slice(int(first), int(last) + 1) for first, last in ends)


def _near_boundaries(predicted: np.ndarray, true: np.ndarray, tolerance: float) -> list[tuple[int, int]]:
    """Returns of the predicted and of the true boundary: pixels within the tolerance of the other, and all."""
    edges = [_boundary(predicted), _boundary(true)]
    pairs = zip(edges, edges[::-1], strict=True)
    return [(int((_distance_to(other)[edge] <= tolerance).sum()), int(edge.sum())) for edge, other in pairs]


def _boundary(mask: np.ndarray) -> np.ndarray:
    """Returns the pixels of a mask, bool (H, W), with one of four neighbours outside the mask or the image."""
    inner = cv2.erode(mask.astype(np.uint8), CROSS, borderType=cv2.BORDER_CONSTANT, borderValue=0)
    return mask & ~inner.astype(bool)


def _distance_to(mask: np.ndarray) -> np.ndarray:
    """Returns the distance in pixels, float32 (H, W), of each pixel to the nearest one of a mask."""
    return cv2.distanceTransform((~mask).astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)


# By name: from predicted and true pixels of a class, both with some, and the diagonal of the image, to the score.
SCORES: dict[str, Callable[[np.ndarray, np.ndarray, float, ScoreOptions], float]] = {
    "boundary_f": boundary_f,
    "surface_dice": surface_dice,
    "hausdorff_dice": hausdorff_dice,
}
# By name: from the numbers of predicted and true objects of a class, int32 (H, W), to the score.
OBJECT_SCORES: dict[str, Callable[[np.ndarray, np.ndarray, ScoreOptions], float]] = {
    "object_ap": object_ap,
    "object_fbeta": object_fbeta,
}
