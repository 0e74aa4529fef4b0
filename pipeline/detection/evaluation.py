"""Scores of a run's detections on validation images, and panels of the best, median and worst images.

Letters: I images, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.detection.box_source import boxes_of
from pipeline.detection.boxes import Boxes, Detections
from pipeline.detection.coco_scores import CocoScores, coco_scores, image_ap
from pipeline.detection.curves import CURVE_IOUS, best_f1, precision_curves, thresholds_by_f1
from pipeline.detection.error_kinds import KINDS, MISSED, ImageErrors, confusion_matrix, count_errors, image_errors
from pipeline.detection.geometry import scaled
from pipeline.detection.panels import draw_panel
from pipeline.detection.set_scores import set_scores
from pipeline.engine.run import Run
from pipeline.paths import BOX_FACTS, CONFUSION, PANELS
from pipeline.report.examples import choose_images
from pipeline.report.figure import write_image
from pipeline.scores import mean_scored, per_image_score, score_table
from pipeline.task import Evaluation
from pipeline.training.inputs import images_of

NUM_PANELS = 3  # of each: best, median, worst
BACKGROUND = "background"


def evaluate_predictions(
    run: Run, folder: Path, rows: pd.DataFrame, prediction_of: Callable[[str], Detections]
) -> Evaluation:
    """Returns the scores of a run's detections.

    Args:
        folder: of the competition.
        rows: catalog rows of the validation images.
        prediction_of: an image's detections by its id.
    """
    labels = boxes_of(run, folder)
    truth = {row.id: labels.read(row) for row in rows.itertuples()}
    return evaluation_of(run, rows, truth, {image_id: prediction_of(image_id) for image_id in truth})


def evaluation_of(
    run: Run, rows: pd.DataFrame, truth: Mapping[str, Boxes], found: Mapping[str, Detections]
) -> Evaluation:
    """Returns the evaluation of detections by image against the true boxes by image."""
    competition = run.loaded.competition
    classes, scored = competition.class_names, competition.scored_indices
    scores = coco_scores(truth, found, classes)
    families = score_table(set_scores(scores, truth, found, competition), classes, scored)
    metrics = {
        "images": len(rows),
        "score": competition.score,
        "scores": families,
        "scored": [classes[index] for index in scored],
        "majority": None,
        "coco": {name: None if np.isnan(value) else value for name, value in scores.numbers.items()},
    }
    errors = errors_by_image(truth, found, len(classes))
    facts = {BOX_FACTS: box_facts(scores, errors, truth, found, classes)}
    tables = {CONFUSION: confusion_table(errors, classes)}
    return Evaluation(metrics, image_table(run, rows, truth, found), tables, found.__getitem__, facts)


def image_table(
    run: Run, rows: pd.DataFrame, truth: Mapping[str, Boxes], found: Mapping[str, Detections]
) -> pd.DataFrame:
    """Returns one row per image: id, sequence, its mean AP over the scored classes, then its AP by class."""
    competition = run.loaded.competition
    name, classes = per_image_score(competition.score), competition.class_names
    values_IC = np.array([image_ap(truth[image_id], found[image_id], len(classes)) for image_id in rows["id"]])
    table = {"id": rows["id"], "sequence": rows["sequence"], name: mean_scored(values_IC, competition.scored_indices)}
    table |= {f"{name}_{own}": values_IC[:, index] for index, own in enumerate(classes)}
    return pd.DataFrame(table)


def errors_by_image(truth: Mapping[str, Boxes], found: Mapping[str, Detections], num_classes: int) -> list[ImageErrors]:
    """Returns the errors of each image, for detections with at least the best-F1 score of their class."""
    least_C = thresholds_by_f1(truth, found, num_classes)
    return [image_errors(boxes, found[image_id], least_C) for image_id, boxes in truth.items()]


def confusion_table(errors: Sequence[ImageErrors], classes: Sequence[str]) -> pd.DataFrame:
    """Returns the confusion matrix of boxes; the last row and column are the background."""
    names = [*classes, BACKGROUND]
    matrix = confusion_matrix(errors, len(classes))
    return pd.DataFrame({"truth": names} | {name: matrix[:, index] for index, name in enumerate(names)})


def box_facts(
    scores: CocoScores,
    errors: Sequence[ImageErrors],
    truth: Mapping[str, Boxes],
    found: Mapping[str, Detections],
    classes: Sequence[str],
) -> dict[str, Any]:
    """Returns what the page shows in addition to the scores, as plain values; None for NaN.

    `precision`: by IoU and class, at 101 recalls; `best_f1`: by class; `errors`: counts by kind and class; `kinds`:
    descriptions of the kinds.
    """
    best = best_f1(truth, found, len(classes))
    return {
        "classes": list(classes),
        "precision": {f"{iou:g}": _plain(precision_curves(scores, iou)) for iou in CURVE_IOUS},
        "best_f1": [{name: _plain(value) for name, value in own._asdict().items()} for own in best],
        "kinds": KINDS | {MISSED: "a labelled box without a hit, a localisation error or a classification error"},
        "errors": {kind: counts.tolist() for kind, counts in count_errors(errors, len(classes)).items()},
    }


def _plain(values: Any) -> Any:
    """Returns numbers as plain values, rounded to what a page shows; None for NaN."""
    if np.ndim(values):
        return [_plain(value) for value in values]
    return None if np.isnan(values) else round(float(values), 5)


def image_scorer(run: Run, folder: Path) -> Callable[[Any, Detections], float]:
    """Returns a function from a catalog row and its detections to the AP of that image alone, NaN where it has none."""
    labels, competition = boxes_of(run, folder), run.loaded.competition

    def score_of(row: Any, found: Detections) -> float:
        values_C = image_ap(labels.read(row), found, competition.num_classes)
        return float(mean_scored(values_C, competition.scored_indices))

    return score_of


def draw_panels(run: Run, folder: Path, rows: pd.DataFrame, evaluation: Evaluation) -> None:
    """Draws image, label, detections and errors of the best, median and worst validation images."""
    competition, classes = run.loaded.competition, run.loaded.competition.class_names
    score = per_image_score(competition.score)
    images, labels, files = images_of(run, folder), boxes_of(run, folder), {row.id: row for row in rows.itertuples()}
    scores = evaluation.per_image.set_index("id")
    for old in (run.paths / PANELS).glob("*.png"):
        old.unlink()
    (run.paths / PANELS).mkdir(exist_ok=True)
    for kind, chosen in choose_images(evaluation.per_image, score, NUM_PANELS).items():
        for rank, image_id in enumerate(chosen, start=1):
            own = files[image_id]
            image, size = images.shown(own.image), (int(own.height), int(own.width))
            pair = (labels.read(own), evaluation.decoded(image_id))
            boxes, found = (one._replace(xyxy=scaled(one.xyxy, size, image.shape[:2])) for one in pair)
            row = scores.loc[image_id]
            of_class = {name: float(row[f"{score}_{name}"]) for name in classes if not pd.isna(row[f"{score}_{name}"])}
            path = run.paths / PANELS / f"{kind}_{rank}_{image_id.replace('/', '_')}.png"
            title = f"{kind} {rank}: {image_id}, AP of this image {row[score]:.3f}"
            write_image(path, draw_panel(image, boxes, found, classes, competition.colors, title, of_class))
