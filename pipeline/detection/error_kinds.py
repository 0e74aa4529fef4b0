"""Errors of detection: the kind of each detection and of each labelled box, counts, and a confusion matrix.

In: labelled boxes, and detections at or above a score threshold. Out: the kind of each detection and the missed boxes
of each image, for panels; counts per class; a confusion matrix with a row and a column for the background.

Letters: C classes, N detections, M labelled boxes.

Source: Bolya et al. 2020, "TIDE: A General Toolbox for Identifying Object Detection Errors", section 2: its kinds, its
thresholds of IoU, and the order in which its code (`tidecv`, MIT) tests them. Here kinds are only counted; TIDE
also measures how much AP fixing all errors of a kind would gain.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from pipeline.detection.boxes import Boxes, Detections
from pipeline.detection.hits import overlaps, partners

FOREGROUND_IOU, BACKGROUND_IOU = 0.5, 0.1  # a hit has at least the first; below the second is background
KINDS = {
    "hit": "a correct detection",
    "localisation": f"the correct class, IoU {BACKGROUND_IOU:g} to {FOREGROUND_IOU:g}",
    "classification": f"another class, IoU {FOREGROUND_IOU:g} or more",
    "both": f"another class, IoU {BACKGROUND_IOU:g} to {FOREGROUND_IOU:g}",
    "double": "a box that a detection with a higher score has already hit",
    "background": f"no labelled box at IoU {BACKGROUND_IOU:g} or more",
    "ignored": "in a crowd of its class, not counted",
}
MISSED = "missed"  # a labelled box that is neither hit nor the object of a localisation or classification error
CROWD = "crowd"


class ImageErrors(NamedTuple):
    """The detections and the labelled boxes of an image, each with its kind.

    Attributes:
        found: the N detections at or above the threshold.
        kinds: one of `KINDS` for each of them.
        partners: int64 (N,), the labelled box that each is compared with; -1 for background.
        truth: the M labelled boxes.
        truth_kinds: for each of them: hit, missed or crowd; localisation or classification if it was not hit and the
            highest-scoring wrong detection that is compared with it has this kind.
    """

    found: Detections
    kinds: list[str]
    partners: np.ndarray
    truth: Boxes
    truth_kinds: list[str]

    def found_of(self, kind: str) -> Detections:
        """Returns the detections of a kind."""
        return self.found.keep(np.array([own == kind for own in self.kinds], bool))

    def truth_of(self, kind: str) -> Boxes:
        """Returns the labelled boxes of a kind."""
        return self.truth.keep(np.array([own == kind for own in self.truth_kinds], bool))


def image_errors(truth: Boxes, found: Detections, threshold: float | np.ndarray) -> ImageErrors:
    """Returns the kinds of an image's detections and labelled boxes.

    Args:
        threshold: the lowest score of a detection that is kept, or one for each class, (C,).

    >>> from pipeline.detection.boxes import make_boxes, make_detections
    >>> truth = make_boxes([[0, 0, 10, 10], [50, 50, 60, 60]], [0, 0])
    >>> found = make_detections([[0, 0, 10, 9], [0, 0, 9, 10], [50, 50, 60, 54]], [0.9, 0.8, 0.7], [0, 0, 1])
    >>> errors = image_errors(truth, found, 0.5)
    >>> errors.kinds, errors.truth_kinds
    (['hit', 'double', 'both'], ['hit', 'missed'])
    """
    bars_N = threshold if np.ndim(threshold) == 0 else np.asarray(threshold, np.float32)[found.classes]
    found = found.keep(found.scores >= bars_N)
    overlaps_NM = overlaps(found.xyxy, truth)
    partners_N = _hit_partners(overlaps_NM, found, truth)
    is_hit_M = np.zeros(len(truth.classes), bool)
    is_hit_M[partners_N[partners_N >= 0]] = True
    is_same_NM = found.classes[:, None] == truth.classes
    kinds, truth_kinds = [], ["hit" if is_hit else MISSED for is_hit in is_hit_M]
    for index, partner in enumerate(partners_N):
        if partner >= 0:
            kinds.append("ignored" if truth.is_crowd[partner] else "hit")
            continue
        own_M = np.where(truth.is_crowd, 0, overlaps_NM[index])
        kind, partners_N[index] = _kind_of_error(own_M, is_same_NM[index])
        kinds.append(kind)
        if kind in ("localisation", "classification") and truth_kinds[partners_N[index]] == MISSED:
            truth_kinds[partners_N[index]] = kind
    truth_kinds = [CROWD if crowd else kind for kind, crowd in zip(truth_kinds, truth.is_crowd, strict=True)]
    return ImageErrors(found, kinds, partners_N, truth, truth_kinds)


def _hit_partners(overlaps_NM: np.ndarray, found: Detections, truth: Boxes) -> np.ndarray:
    """Returns the box that each detection hits, or the crowd that it is in, int64 (N,); -1 for neither."""
    partners_N = np.full(len(found.classes), -1)
    for index in np.intersect1d(found.classes, truth.classes):
        rows, columns = np.flatnonzero(found.classes == index), np.flatnonzero(truth.classes == index)
        own_N = partners(overlaps_NM[np.ix_(rows, columns)], truth.is_crowd[columns], [FOREGROUND_IOU])[0]
        partners_N[rows] = np.where(own_N >= 0, columns[own_N], -1)
    return partners_N


def _kind_of_error(overlaps_M: np.ndarray, is_same_M: np.ndarray) -> tuple[str, int]:
    """Returns the kind of a detection that hits nothing, and the box that it is compared with.

    The first kind that fits in TIDE's order: a detection near an object of its class and on an object of another class
    is a localisation error.

    Args:
        overlaps_M: its IoUs; 0 for crowds.
        is_same_M: whether a box is of its class.
    """

    def nearest(chosen_M: np.ndarray) -> tuple[int, float]:
        chosen_overlaps_M = np.where(chosen_M, overlaps_M, 0)
        place = int(chosen_overlaps_M.argmax()) if len(chosen_overlaps_M) else -1
        return place, float(chosen_overlaps_M.max(initial=0))

    own, own_iou = nearest(is_same_M)
    if BACKGROUND_IOU <= own_iou < FOREGROUND_IOU:
        return "localisation", own
    other, other_iou = nearest(~is_same_M)
    if other_iou >= FOREGROUND_IOU:
        return "classification", other
    if own_iou >= FOREGROUND_IOU:  # a detection with a higher score has already hit the box
        return "double", own
    return ("both", other) if other_iou >= BACKGROUND_IOU else ("background", -1)


def count_errors(images: Iterable[ImageErrors], num_classes: int) -> dict[str, np.ndarray]:
    """Returns how many detections of each class are of each of `KINDS`, and labelled boxes missed: int64 (C,) by kind.

    Detections are counted for their own class, missed boxes for theirs.
    """
    counts = {kind: np.zeros(num_classes, np.int64) for kind in (*KINDS, MISSED)}
    for image in images:
        for kind, index in zip(image.kinds, image.found.classes, strict=True):
            counts[kind][index] += 1
        counts[MISSED] += np.bincount(image.truth_of(MISSED).classes, minlength=num_classes)
    return counts


def confusion_matrix(images: Iterable[ImageErrors], num_classes: int) -> np.ndarray:
    """Returns how often a box of a class (row) was found as a class (column), int64 (C + 1, C + 1).

    The last column has the boxes that no detection covers, the last row the detections that cover no box, or a box that
    is already counted. So each box is in one cell of its row and each detection in one cell of its column. Crowds and
    detections in them are not counted. A box is covered by the detection that hits it, otherwise by the highest-scoring
    detection of another class with an IoU of 0.5 or more.

    >>> from pipeline.detection.boxes import make_boxes, make_detections
    >>> truth = make_boxes([[0, 0, 10, 10], [50, 50, 60, 60]], [0, 0])
    >>> found = make_detections([[0, 0, 10, 9], [50, 50, 60, 59], [50, 50, 60, 54]], [0.9, 0.8, 0.7], [0, 1, 0])
    >>> confusion_matrix([image_errors(truth, found, 0.5)], 2).tolist()
    [[1, 1, 0], [0, 0, 0], [1, 0, 0]]
    """
    matrix = np.zeros((num_classes + 1, num_classes + 1), np.int64)
    for image in images:
        is_covered_M = np.array([kind in ("hit", CROWD) for kind in image.truth_kinds], bool)
        for kind, index, partner in zip(image.kinds, image.found.classes, image.partners, strict=True):
            if kind == "hit":
                matrix[index, index] += 1
            elif kind == "classification" and not is_covered_M[partner]:
                is_covered_M[partner] = True
                matrix[image.truth.classes[partner], index] += 1
            elif kind != "ignored":
                matrix[num_classes, index] += 1
        matrix[:num_classes, num_classes] += np.bincount(image.truth.classes[~is_covered_M], minlength=num_classes)
    return matrix
