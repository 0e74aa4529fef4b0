"""Curves of precision over recall, and the score thresholds that give the best F1.

In: the scores of a set (`coco_scores.py`), or the labelled boxes and detections of images. Out: arrays for a report,
and a threshold per class. Do not measure a threshold on the images that it was fitted on: fit it on some folds and
use it on others.

Letters: C classes, N detections, R points of recall (0, 0.01, ... 1; `hits.RECALLS`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pipeline.detection.box_fbeta import fbeta_curve
from pipeline.detection.boxes import Boxes, Detections
from pipeline.detection.coco_scores import CocoScores
from pipeline.detection.hits import THRESHOLDS, Hits, check_images, pooled_hits

CURVE_IOUS = (0.5, 0.75)  # those of a report


class BestF1(NamedTuple):
    """The score threshold of the highest F1 of a class, and what it gives.

    Attributes:
        threshold: detections of this score or a higher one are kept; NaN where no threshold has an F1 above 0.
        f1: 0 to 1; NaN where the class has no box.
        precision: share of correct detections among the kept ones; NaN where none is kept.
        recall: share of boxes that are found; NaN where the class has no box.
    """

    threshold: float
    f1: float
    precision: float
    recall: float


def precision_curves(scores: CocoScores, iou: float = 0.5) -> np.ndarray:
    """Returns the precision at each of `hits.RECALLS`, float64 (C, R); NaN for a class without boxes.

    The precision at a recall is the highest at this recall or beyond it, and 0 beyond the highest recall; the mean of
    a row is the class's AP at this IoU.

    Args:
        iou: one of 0.5, 0.55, ... 0.95; a report shows `CURVE_IOUS`.

    Raises:
        ValueError: the scores are not measured at this IoU.
    """
    (places,) = np.nonzero(np.isclose(THRESHOLDS, iou))
    if not len(places):
        raise ValueError(f"no curve at IoU {iou:g}; expected one of {', '.join(f'{one:g}' for one in THRESHOLDS)}")
    return scores.precision_CTR[:, places[0]]


def best_f1(
    truth: Mapping[str, Boxes], detections: Mapping[str, Detections], num_classes: int, iou: float = 0.5
) -> list[BestF1]:
    """Returns the best threshold of each class over images.

    Raises:
        UserError: as `coco_scores`.
    """
    check_images(truth, detections, num_classes)
    return [f1_of_hits(pooled_hits(truth, detections, index, [iou])) for index in range(num_classes)]


def f1_of_hits(hits: Hits) -> BestF1:
    """Returns the best threshold for hits at one IoU; among equal F1 the highest threshold.

    >>> hits = Hits(np.array([0.9, 0.7, 0.5, 0.3]), np.array([[1, 0, 1, 0]], bool), np.zeros((1, 4), bool), 2)
    >>> f1_of_hits(hits)._asdict()
    {'threshold': 0.5, 'f1': 0.8, 'precision': 0.6666666666666666, 'recall': 1.0}
    """
    if hits.num_true == 0:
        return BestF1(np.nan, np.nan, np.nan, np.nan)
    f1_N = fbeta_curve(hits)
    if f1_N.max(initial=0) == 0:
        return BestF1(np.nan, 0.0, np.nan, 0.0)
    best = int(f1_N.argmax())
    right, kept = (float(values_TN[0, : best + 1].sum()) for values_TN in (hits.is_hit, ~hits.is_ignored))
    return BestF1(float(hits.scores[best]), float(f1_N[best]), right / kept, right / hits.num_true)


def thresholds_by_f1(
    truth: Mapping[str, Boxes],
    detections: Mapping[str, Detections],
    num_classes: int,
    iou: float = 0.5,
    otherwise: float = 0.5,
) -> np.ndarray:
    """Returns the score threshold of the highest F1 of each class, float64 (C,).

    Args:
        otherwise: the threshold of a class that these images do not have, or without a correct detection.

    Raises:
        UserError: as `coco_scores`.
    """
    thresholds_C = np.array([one.threshold for one in best_f1(truth, detections, num_classes, iou)], np.float64)
    return np.where(np.isnan(thresholds_C), otherwise, thresholds_C)
