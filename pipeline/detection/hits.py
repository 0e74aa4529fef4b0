"""Which detections hit which labelled boxes, by the rules of COCO, and what precision follows.

A box is hit once, by the highest-scoring detection that overlaps it enough. Among several boxes a detection takes the
one that it overlaps most. Detections in a crowd are ignored. `coco_scores.py` scores whole sets with an external
evaluator; this file is for code that needs the result of each detection.

Letters: N detections of a class, M labelled boxes of it, T thresholds of IoU, R points of recall.

Source: Lin et al. 2014, "Microsoft COCO: Common Objects in Context", as evaluated by pycocotools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.detection.boxes import Boxes, Detections, areas, intersections, ious, make_detections
from pipeline.errors import UserError

THRESHOLDS = np.linspace(0.5, 0.95, 10)  # of COCO's AP
RECALLS = np.linspace(0, 1, 101)  # where COCO reads the precision
MOST = 100  # highest-scoring detections that count, per image and class
NOTHING_FOUND = make_detections([], [], [])


class Hits(NamedTuple):
    """The detections of a class in one image or several, by falling score.

    Attributes:
        scores: float32 (N,).
        is_hit: bool (T, N), at each threshold of IoU.
        is_ignored: bool (T, N): in a crowd, neither a hit nor a false positive.
        num_true: labelled boxes of the class, without crowds.
    """

    scores: np.ndarray
    is_hit: np.ndarray
    is_ignored: np.ndarray
    num_true: int


def check_images(truth: Mapping[str, Boxes], detections: Mapping[str, Detections], num_classes: int) -> None:
    """Checks that images can be scored.

    Raises:
        UserError: no image has labels, or detections are of images without labels.
        ValueError: a class is not one of the `num_classes`.
    """
    if not truth:
        raise UserError("no image has labels; scoring boxes needs labelled images")
    unknown = sorted(map(str, detections.keys() - truth.keys()))
    if unknown:
        few = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
        raise UserError(
            f"{len(unknown)} of {len(detections)} images with detections have no labels: {few}\n"
            "Only labelled images can be scored: score images of the labelled set, "
            "or add labels for these (an image without objects has an empty list of boxes)."
        )
    for image_id, boxes in (*truth.items(), *detections.items()):
        if len(boxes.classes) and not 0 <= boxes.classes.min() <= boxes.classes.max() < num_classes:
            raise ValueError(f"image {image_id} has boxes of classes beyond the {num_classes} of the competition")


def overlaps(xyxy_N4: np.ndarray, truth: Boxes) -> np.ndarray:
    """Returns IoUs, float64 (N, M); for crowds, the share of the detection that is inside the crowd.

    >>> from pipeline.detection.boxes import make_boxes
    >>> overlaps(np.array([[0, 0, 2, 2]]), make_boxes([[0, 0, 4, 4]] * 2, [0, 0], is_crowd=[False, True])).tolist()
    [[0.25, 1.0]]
    """
    found_N4, true_M4 = xyxy_N4.astype(np.float64), truth.xyxy.astype(np.float64)
    result_NM = ious(found_N4, true_M4)
    if truth.is_crowd.any():
        shared_NM, own_N1 = intersections(found_N4, true_M4[truth.is_crowd]), areas(found_N4)[:, None]
        result_NM[:, truth.is_crowd] = shared_NM / np.where(own_N1 > 0, own_N1, 1)
    return result_NM


def partners(overlaps_NM: np.ndarray, is_crowd_M: np.ndarray, thresholds: Sequence[float] | np.ndarray) -> np.ndarray:
    """Returns the index of the box that each detection takes, int64 (T, N); -1 where it takes none.

    Args:
        overlaps_NM: of the detections of a class, by falling score, with its boxes.
        is_crowd_M: whether a box is a crowd. A crowd can be taken several times, but only by a detection that has no
            other box to take.

    >>> partners(np.array([[0.6, 0.8], [0.6, 0.9]]), np.array([False, False]), [0.5, 0.75]).tolist()
    [[1, 0], [1, -1]]
    """
    num_found, num_true = overlaps_NM.shape
    bars_T1 = np.asarray(thresholds, np.float64)[:, None]
    result_TN = np.full((len(bars_T1), num_found), -1)
    if num_true == 0:
        return result_TN
    # Boxes before crowds, then by overlap; among equal overlaps the last box.
    ranks_NM = np.argsort(np.argsort(overlaps_NM, 1, kind="stable"), 1) + num_true * ~is_crowd_M
    is_free_TM = np.ones((len(bars_T1), num_true), bool)
    for index in np.flatnonzero(overlaps_NM.max(1) >= bars_T1.min()):
        ranks_TM = np.where(is_free_TM & (overlaps_NM[index] >= bars_T1), ranks_NM[index], -1)
        best_T = ranks_TM.argmax(1)
        hit = np.flatnonzero(ranks_TM.max(1) >= 0)
        result_TN[hit, index] = best_T[hit]
        is_free_TM[hit, best_T[hit]] = is_crowd_M[best_T[hit]]
    return result_TN


def hits_of(
    truth: Boxes,
    found: Detections,
    index: int,
    thresholds: Sequence[float] | np.ndarray = THRESHOLDS,
    most: int | None = MOST,
) -> Hits:
    """Returns the hits of a class in an image.

    Args:
        most: how many detections count, those with the highest scores; None: all.
    """
    own, own_truth = found.keep(np.flatnonzero(found.classes == index)[:most]), truth.keep(truth.classes == index)
    partners_TN = partners(overlaps(own.xyxy, own_truth), own_truth.is_crowd, thresholds)
    is_taken_TN = partners_TN >= 0
    is_ignored_TN = is_taken_TN & np.append(own_truth.is_crowd, False)[partners_TN]
    return Hits(own.scores, is_taken_TN & ~is_ignored_TN, is_ignored_TN, int((~own_truth.is_crowd).sum()))


def pooled_hits(
    truth: Mapping[str, Boxes], detections: Mapping[str, Detections], index: int, thresholds: Sequence[float]
) -> Hits:
    """Returns the hits of a class over images, by falling score; equal scores in the order of the image ids."""
    return pooled(
        [hits_of(truth[name], detections.get(name, NOTHING_FOUND), index, thresholds) for name in sorted(truth)]
    )


def pooled(parts: Sequence[Hits]) -> Hits:
    """Returns the hits of several images as one, by falling score; equal scores in the order of the images."""
    scores_N = np.concatenate([part.scores for part in parts])
    order = np.argsort(-scores_N, kind="stable")
    is_hit_TN, is_ignored_TN = (
        np.concatenate(joined, axis=1)[:, order] for joined in list(zip(*parts, strict=True))[1:3]
    )
    return Hits(scores_N[order], is_hit_TN, is_ignored_TN, sum(part.num_true for part in parts))


def precision_at_recalls(hits: Hits) -> np.ndarray:
    """Returns the highest precision at each of `RECALLS` or beyond it, float64 (T, R); NaN where there is no box.

    >>> one = Hits(np.array([0.9, 0.5]), np.array([[False, True]]), np.zeros((1, 2), bool), 2)
    >>> precision_at_recalls(one)[0, [0, 50, 51]].tolist()
    [0.5, 0.5, 0.0]
    """
    num_thresholds = len(hits.is_hit)
    if hits.num_true == 0:
        return np.full((num_thresholds, len(RECALLS)), np.nan)
    right_TN = np.cumsum(hits.is_hit, 1, dtype=np.float64)
    wrong_TN = np.cumsum(~hits.is_hit & ~hits.is_ignored, 1)
    precision_TN = right_TN / (right_TN + wrong_TN + np.spacing(1))  # the spacing as in COCO
    precision_TN = np.maximum.accumulate(precision_TN[:, ::-1], 1)[:, ::-1]
    precision_TN = np.pad(precision_TN, ((0, 0), (0, 1)))  # 0 beyond the highest recall
    places = [np.searchsorted(row, RECALLS) for row in right_TN / hits.num_true]
    return np.take_along_axis(precision_TN, np.array(places), 1)
