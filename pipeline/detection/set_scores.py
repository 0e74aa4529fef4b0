"""The scores of a set of images that a run with boxes reports, by class.

Letters: C classes.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from pipeline.config.competition import Competition
from pipeline.detection.box_fbeta import best_fbeta, box_fbeta
from pipeline.detection.boxes import Boxes, Detections
from pipeline.detection.coco_scores import BY_CLASS, CocoScores, coco_scores, mean_image_ap
from pipeline.scores import mean_scored, score_of


def set_scores(
    scores: CocoScores,
    truth: Mapping[str, Boxes],
    found: Mapping[str, Detections],
    competition: Competition,
    monitor: str = "valid_loss",
) -> dict[str, np.ndarray]:
    """Returns each score's value per class, float64 (C,): the APs, and F-beta if SCORE or MONITOR is it.

    Args:
        scores: COCO's, of the same images.
        monitor: SOLVER.MONITOR.
    """
    values = {name: np.array(scores.by_class[name]) for name in BY_CLASS}
    values["image_ap"] = mean_image_ap(truth, found, competition.num_classes)
    if "box_fbeta" in (competition.score, score_of(monitor)):
        values["box_fbeta"] = box_fbeta(truth, found, competition.num_classes, competition.score_options)
    return values


def own_score(
    truth: Mapping[str, Boxes],
    found: Mapping[str, Detections],
    competition: Competition,
    has_thresholds: bool = False,
) -> float:
    """Returns the competition's own score of a set of images; NaN where no scored class has a box.

    Args:
        has_thresholds: whether F-beta is that of the best score threshold of each class, as DECODE.SUPPRESS: fitted
            fits them later; otherwise all detections count.
    """
    if competition.score == "box_fbeta":
        measure = best_fbeta if has_thresholds else box_fbeta
        values_C = measure(truth, found, competition.num_classes, competition.score_options)
    else:
        values_C = np.array(coco_scores(truth, found, competition.class_names).by_class[competition.score])
    return float(mean_scored(values_C, competition.scored_indices))
