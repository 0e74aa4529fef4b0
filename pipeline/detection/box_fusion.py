"""Combines the detections of several networks: weighted box fusion, and non-maximum suppression over members.

In: the detections of each member of an ensemble in an image, in pixels. Out: one set of detections.
Fusion averages overlapping boxes; suppression keeps the one with the highest score.

Letters: M members, N boxes of all members, K clusters of boxes of a class.

Source: Solovyev, Wang, Gabruseva 2021, "Weighted boxes fusion: Ensembling boxes from different object detection
models", https://arxiv.org/abs/1910.13302. A test holds `fuse` equal to its authors' `ensemble_boxes` (MIT).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.detection.boxes import Detections, make_detections
from pipeline.detection.hits import NOTHING_FOUND
from pipeline.detection.suppression import nms

Confidence = Literal["avg", "max"]
IOU = 0.55  # the authors' own default
GRID = (0.0, 0.25, 0.5, 1.0, 2.0)  # weights that are tried; finer ones differ by less than noise
IOUS = (0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75)
MOST_PASSES = 4  # over all numbers; ends a search that gains little by little
LEAST_GAIN = 1e-6  # of the score; less is rounding


@dataclass(frozen=True)
class FusionFit:
    """The result of a search for weights.

    Attributes:
        weights: one per member; 0: the member is left out.
        iou: of `fuse`.
        score: what they reach on the images of the search, more than they will on others.
        equal_score: what equal weights and the IoU `IOU` reach on them.
        num_tried: settings that were scored.
    """

    weights: tuple[float, ...]
    iou: float
    score: float
    equal_score: float
    num_tried: int


def fuse(
    members: Sequence[Detections],
    weights: Sequence[float] | None = None,
    iou: float = IOU,
    skip_below: float = 0.0,
    conf: Confidence = "avg",
) -> Detections:
    """Returns the detections of several members fused into one set, by falling score.

    Boxes are taken by falling weighted score. Each joins the cluster of its class whose fused box it overlaps most, if
    the IoU is above `iou`; otherwise it starts a new cluster. A fused box is the mean of its cluster, weighted with
    the weighted scores. A cluster with fewer boxes than there are members gets a lower score.

    A member of weight 0 is ignored. Among equal scores, those of earlier members come first. Boxes without area or
    score are dropped.

    Args:
        weights: one per member, 0 or more; None: all equal.
        skip_below: detections of a lower score, before weights, are left out.
        conf: a fused score is the mean weighted score of the cluster, times min(boxes of the cluster, members) / sum
            of the weights; or the highest weighted score / highest weight.

    Raises:
        ValueError: the weights do not fit the members, or `conf` is neither avg nor max.

    >>> one, two = make_detections([[0, 0, 10, 10]], [0.9], [0]), make_detections([[0, 0, 10, 8]], [0.6], [0])
    >>> both = fuse([one, two])
    >>> both.xyxy.round(2).tolist(), both.scores.round(2).tolist()
    ([[0.0, 0.0, 10.0, 9.199999809265137]], [0.75])
    """
    if conf not in ("avg", "max"):
        raise ValueError(f"conf is {conf!r}; expected avg or max")
    members, weights_M = weighted_members(members, weights)
    xyxy_N4, scores_N, classes_N = _laid_together(members, weights_M, skip_below)
    parts = []
    for index in np.unique(classes_N):
        chosen = classes_N == index
        boxes_K4, best_K, sum_K, size_K = _clusters(xyxy_N4[chosen], scores_N[chosen], iou)
        if conf == "max":
            score_K = best_K / weights_M.max()
        else:
            score_K = sum_K / size_K * np.minimum(size_K, len(members)) / weights_M.sum()
        parts.append((boxes_K4, score_K, np.full(len(score_K), index)))
    return make_detections(*(np.concatenate(part) for part in zip(*parts, strict=True))) if parts else NOTHING_FOUND


def nms_members(
    members: Sequence[Detections],
    weights: Sequence[float] | None = None,
    iou: float = 0.5,
    top: int | None = None,
    class_agnostic: bool = False,
) -> Detections:
    """Returns the concatenated detections of the members after non-maximum suppression, by falling score.

    Scores are multiplied by weight / highest weight, so the scores of the member with the highest weight do not change.

    Args:
        weights: one per member, 0 or more; None: all equal.
        iou: see `suppression.nms`, as `top` and `class_agnostic`.

    Raises:
        ValueError: the weights do not fit the members.
    """
    members, weights_M = weighted_members(members, weights)
    shares_M = weights_M / weights_M.max()
    scores_N = np.concatenate([member.scores * share for member, share in zip(members, shares_M, strict=True)])
    xyxy_N4, classes_N = (np.concatenate([getattr(one, name) for one in members]) for name in ("xyxy", "classes"))
    return nms(make_detections(xyxy_N4, scores_N, classes_N), iou, top, class_agnostic)


def fit_fusion_weights(
    members_by_image: Mapping[str, Sequence[Detections]],
    score: Callable[[Mapping[str, Detections]], float],
    grid: Sequence[float] = GRID,
    ious: Sequence[float] = IOUS,
) -> FusionFit:
    """Returns the weights and the IoU of `fuse` that reach the highest score on images.

    Starts with equal weights and the IoU `IOU`, and changes one number at a time, the IoU first, then each member's
    weight in turn, as long as the score rises; at the end it also tries each member alone. Deterministic. Pass only
    images that no member was trained on, and measure the gain on other images.

    Args:
        members_by_image: for each image the detections of every member, in the same order.
        score: the detections of all images to what is to be raised, such as `set_scores.own_score`; NaN where it is
            undefined, as no image has a box of a scored class: if so, nothing is searched.
        grid: weights to try.
        ious: values to try.

    Raises:
        ValueError: images differ in their number of members, or there is no member.
    """
    lengths = {len(members) for members in members_by_image.values()}
    if len(lengths) != 1 or 0 in lengths:
        raise ValueError(f"images have {sorted(lengths)} members; expected one number of members, 1 or more, for all")
    tried: dict[tuple[float, ...], float] = {}

    def measure(weights: tuple[float, ...], iou: float) -> float:
        key = (*(weight / sum(weights) for weight in weights), iou)  # a common factor changes no order of scores
        if key not in tried:
            fused = {name: fuse(members, weights, iou) for name, members in members_by_image.items()}
            tried[key] = score(fused)
        return tried[key]

    weights, iou = (1.0,) * lengths.pop(), IOU
    best = equal_score = measure(weights, iou)
    if np.isnan(best):
        return FusionFit(weights, iou, best, equal_score, len(tried))
    for _ in range(MOST_PASSES):
        before = best
        best, (weights, iou) = _best_of([(weights, value) for value in ious], measure, best, (weights, iou))
        for index in range(len(weights)):
            changed = [(*weights[:index], float(value), *weights[index + 1 :]) for value in grid]
            candidates = [(own, iou) for own in changed if any(own)]
            best, (weights, iou) = _best_of(candidates, measure, best, (weights, iou))
        if best == before:
            break
    alone = [(tuple(row), iou) for row in np.eye(len(weights)).tolist()]
    best, (weights, iou) = _best_of(alone, measure, best, (weights, iou))
    return FusionFit(weights, iou, best, equal_score, len(tried))


def _best_of(
    candidates: Sequence[tuple[tuple[float, ...], float]],
    measure: Callable[[tuple[float, ...], float], float],
    best: float,
    setting: tuple[tuple[float, ...], float],
) -> tuple[float, tuple[tuple[float, ...], float]]:
    """Returns the highest score with its weights and IoU; the current ones unless a candidate gains `LEAST_GAIN`."""
    for candidate in candidates:
        measured = measure(*candidate)
        if measured > best + LEAST_GAIN:
            best, setting = measured, candidate
    return best, setting


def weighted_members(
    members: Sequence[Detections], weights: Sequence[float] | None
) -> tuple[list[Detections], np.ndarray]:
    """Returns the members whose weight is above 0, and their weights, float64.

    Raises:
        ValueError: there is not one weight per member, one is negative or not finite, or none is above 0.
    """
    weights_M = np.ones(len(members)) if weights is None else np.asarray(weights, np.float64)
    is_valid = len(weights_M) == len(members) and np.isfinite(weights_M).all() and weights_M.min(initial=0) >= 0
    if not is_valid or not weights_M.any():
        raise ValueError(
            f"weights are {weights_M.tolist()} for {len(members)} members; "
            "expected one per member, 0 or more, one at least above 0"
        )
    return [member for member, weight in zip(members, weights_M, strict=True) if weight > 0], weights_M[weights_M > 0]


def _laid_together(
    members: Sequence[Detections], weights_M: np.ndarray, skip_below: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Returns boxes, weighted scores, both float64, and classes of all members' detections, by falling score."""
    parts = []
    for member, weight in zip(members, weights_M, strict=True):
        xyxy_N4, scores_N = member.xyxy.astype(np.float64), member.scores.astype(np.float64)
        is_kept_N = (member.scores >= skip_below) & (scores_N > 0) & (xyxy_N4[:, 2:] > xyxy_N4[:, :2]).all(1)
        parts.append((xyxy_N4[is_kept_N], scores_N[is_kept_N] * weight, member.classes[is_kept_N]))
    xyxy_N4, scores_N, classes_N = (np.concatenate(part) for part in zip(*parts, strict=True))
    order = np.argsort(-scores_N, kind="stable")
    return xyxy_N4[order], scores_N[order], classes_N[order]


def _clusters(
    xyxy_N4: np.ndarray, scores_N: np.ndarray, iou: float
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Returns the clusters of the boxes of a class: fused boxes (K, 4), highest scores, sums of scores, sizes.

    Boxes are added one by one, since a fused box moves with each that joins it. Rows of coordinates are kept apart, as
    NumPy is fastest on whole rows and each step is a few calls.
    """
    num_clusters, fused_4K, area_K = 0, np.zeros((4, len(scores_N))), np.zeros(len(scores_N))
    sums_4K, sum_K, best_K = np.zeros((4, len(scores_N))), np.zeros(len(scores_N)), np.zeros(len(scores_N))
    size_K = np.zeros(len(scores_N), np.int64)
    areas_N = (xyxy_N4[:, 2:] - xyxy_N4[:, :2]).prod(1)
    for box_4, score, area in zip(xyxy_N4, scores_N.tolist(), areas_N.tolist(), strict=True):
        left, top, right, bottom = fused_4K[:, :num_clusters]
        width_K = np.minimum(right, box_4[2]) - np.maximum(left, box_4[0])
        height_K = np.minimum(bottom, box_4[3]) - np.maximum(top, box_4[1])
        shared_K = np.maximum(width_K, 0) * np.maximum(height_K, 0)
        ious_K = shared_K / (area_K[:num_clusters] + area - shared_K)
        place = int(ious_K.argmax()) if num_clusters else -1
        if place < 0 or ious_K[place] <= iou:
            place, num_clusters = num_clusters, num_clusters + 1
            best_K[place] = score
        sums_4K[:, place] += score * box_4
        sum_K[place] += score
        size_K[place] += 1
        fused = sums_4K[:, place] / sum_K[place]
        fused_4K[:, place] = fused
        area_K[place] = (fused[2] - fused[0]) * (fused[3] - fused[1])
    kept = slice(num_clusters)
    return fused_4K.T[kept], best_K[kept], sum_K[kept], size_K[kept]
