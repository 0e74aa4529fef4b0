"""The F-beta of boxes over images at once, and the score threshold of a class that raises it most.

In: which detections of a class hit a box, by image and at each IoU of THRESHOLDS (`hits.py`). Out: the F-beta, 0 to 1,
and a threshold.

At one IoU it is (1 + beta²) h / (beta² t + k), of h hits, t labelled boxes and k detections; at several it is their
mean. Crowds, and detections in them, are not counted. Detections are matched from the highest score down, so dropping
those with the lowest scores changes no other hit, and one matching serves all score thresholds.

Letters: I images, C classes, N detections of a class, T thresholds of IoU.

Source: van Rijsbergen 1979, "Information Retrieval"; the mean over IoUs, with hits of all images together, is the score
of https://www.kaggle.com/competitions/tensorflow-great-barrier-reef (beta 2, IoUs from 0.3 to 0.8).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.config.competition import ScoreOptions
from pipeline.detection.boxes import Boxes, Detections
from pipeline.detection.hits import NOTHING_FOUND, Hits, check_images, hits_of, pooled
from pipeline.scores import mean_scored


class Tally(NamedTuple):
    """Counts of a class in each image.

    Attributes:
        hits: int64 (I, T).
        kept: int64 (I, T), detections that are not ignored.
        true: int64 (I,), labelled boxes.
    """

    hits: np.ndarray
    kept: np.ndarray
    true: np.ndarray


def box_fbeta(
    truth: Mapping[str, Boxes], detections: Mapping[str, Detections], num_classes: int, options: ScoreOptions
) -> np.ndarray:
    """Returns the F-beta of each class, float64 (C,); NaN for a class that is neither labelled nor detected.

    Raises:
        UserError: as `coco_scores`.

    >>> from pipeline.detection.boxes import make_boxes, make_detections
    >>> truth = {"a": make_boxes([[0, 0, 10, 10], [50, 0, 60, 10]], [0, 0])}
    >>> found = {"a": make_detections([[0, 0, 10, 7], [80, 0, 90, 9]], [0.9, 0.2], [0, 0])}
    >>> box_fbeta(truth, found, 1, ScoreOptions(thresholds=(0.5,))), box_fbeta(truth, found, 1, ScoreOptions())
    (array([0.5]), array([0.25]))
    """
    check_images(truth, detections, num_classes)
    return np.array(
        [
            fbeta_of(tally(hits_by_image(truth, detections, index, options.thresholds)), options.beta)
            for index in range(num_classes)
        ]
    )


def best_fbeta(
    truth: Mapping[str, Boxes], detections: Mapping[str, Detections], num_classes: int, options: ScoreOptions
) -> np.ndarray:
    """Returns the F-beta of each class at its best score threshold, float64 (C,); NaN as in `box_fbeta`.

    >>> from pipeline.detection.boxes import make_boxes, make_detections
    >>> truth = {"a": make_boxes([[0, 0, 10, 10]], [0])}
    >>> found = {"a": make_detections([[0, 0, 10, 10], [80, 0, 90, 9]], [0.9, 0.2], [0, 0])}
    >>> best_fbeta(truth, found, 2, ScoreOptions())
    array([ 1., nan])
    """
    check_images(truth, detections, num_classes)
    parts_C = [hits_by_image(truth, detections, index, options.thresholds) for index in range(num_classes)]
    is_known_C = np.array([not np.isnan(fbeta_of(tally(parts), options.beta)) for parts in parts_C])
    best_C = [fbeta_curve(pooled(parts), options.beta).max(initial=0.0) for parts in parts_C]
    return np.where(is_known_C, best_C, np.nan)


def hits_by_image(
    truth: Mapping[str, Boxes], detections: Mapping[str, Detections], index: int, thresholds: Sequence[float]
) -> list[Hits]:
    """Returns the hits of a class in each image, in the order of `truth`; all detections count."""
    return [hits_of(truth[name], detections.get(name, NOTHING_FOUND), index, thresholds, None) for name in truth]


def tally(parts: Sequence[Hits], least: float | np.ndarray = 0.0) -> Tally:
    """Returns the counts of a class in each image.

    Args:
        least: score below which detections are left out, one for all images or one for each (I,).
    """
    is_kept = [part.scores >= own for part, own in zip(parts, np.broadcast_to(least, len(parts)), strict=True)]
    hits, kept = (
        np.array([values[:, own].sum(1) for values, own in zip(of_images, is_kept, strict=True)])
        for of_images in ([part.is_hit for part in parts], [~part.is_ignored for part in parts])
    )
    return Tally(hits, kept, np.array([part.num_true for part in parts]))


def fbeta_of(counted: Tally, beta: float) -> float:
    """Returns the F-beta of a class over images at once; NaN where it has neither boxes nor detections."""
    return float(mean_scored(_fbeta(counted.hits.sum(0), counted.kept.sum(0), counted.true.sum(), beta)))


def fbeta_parts(counted: Tally, beta: float) -> np.ndarray:
    """Returns the part of each image in the F-beta of a class that has one, float64 (I,).

    Their mean is the F-beta. It is the linearisation of a ratio of two sums, whose spread gives the interval.

    Source: Cochran 1977, "Sampling Techniques", chapter 6.
    """
    square = beta**2
    tops_IT, bottoms_IT = (1 + square) * counted.hits, square * counted.true[:, None] + counted.kept
    is_known_T = bottoms_IT.any(0)
    tops_IT, bottoms_IT = tops_IT[:, is_known_T], bottoms_IT[:, is_known_T]
    means_T = bottoms_IT.mean(0)
    ratios_T = tops_IT.mean(0) / means_T
    return (ratios_T + (tops_IT - ratios_T * bottoms_IT) / means_T).mean(1)


def fbeta_curve(hits: Hits, beta: float = 1.0) -> np.ndarray:
    """Returns the F-beta of detections with at least the score of each one, float64 (N,).

    Detections with equal scores are kept or dropped together, so all but the last of them have 0.

    >>> hits = Hits(np.array([0.9, 0.7, 0.7, 0.3]), np.array([[1, 0, 1, 0]], bool), np.zeros((1, 4), bool), 2)
    >>> fbeta_curve(hits).round(2).tolist()
    [0.67, 0.0, 0.8, 0.67]
    """
    values_TN = _fbeta(np.cumsum(hits.is_hit, 1), np.cumsum(~hits.is_ignored, 1), hits.num_true, beta)
    is_last_N = np.append(hits.scores[1:] != hits.scores[:-1], True)[: len(hits.scores)]
    return np.where(is_last_N, np.nan_to_num(values_TN).mean(0), 0.0)


def best_threshold(parts: Sequence[Hits], beta: float) -> float:
    """Returns the score threshold with the highest F-beta; 0 if no threshold has one above 0.

    Of several, it is the highest.
    """
    hits = pooled(parts)
    curve_N = fbeta_curve(hits, beta)
    return float(hits.scores[curve_N.argmax()]) if curve_N.max(initial=0.0) > 0 else 0.0


def _fbeta(hits: np.ndarray, kept: np.ndarray, true: int | np.ndarray, beta: float) -> np.ndarray:
    square = beta**2
    bottoms = square * true + kept
    return np.where(bottoms > 0, (1 + square) * hits / np.where(bottoms > 0, bottoms, 1), np.nan)
