"""Predictions against true masks: scores of a run's validation images, and the panels that show the extremes.

Letters: I images, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.config.competition import mask_code
from pipeline.data.images import read_image
from pipeline.engine.run import Run
from pipeline.paths import CLASSES, CONFUSION, PANELS
from pipeline.report.figure import write_image
from pipeline.report.read import choose_images
from pipeline.scores import LABELS, per_image_score
from pipeline.segmentation.decision import confusion_of
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.panels import draw_panel
from pipeline.segmentation.predict import Prediction, decode
from pipeline.segmentation.scores import confusion_table, image_table, majority_guess, summarise
from pipeline.task import Evaluation

NUM_PANELS = 3  # of each: best, median, worst


def evaluate_predictions(
    run: Run, folder: Path, rows: pd.DataFrame, prediction_of: Callable[[str], Prediction]
) -> Evaluation:
    """Returns the scores of the most probable class per pixel.

    Args:
        folder: of the competition.
        rows: catalog rows of the validation images.
        prediction_of: an image's prediction by its id.
    """
    num_classes, code = run.loaded.competition.num_classes, mask_code(run.loaded.competition)
    bar = tqdm(rows.itertuples(), total=len(rows), desc="score", leave=False, disable=None)
    confusions = [
        confusion_of(decode(prediction_of(row.id)), read_mask(folder / row.mask, code), num_classes) for row in bar
    ]
    return evaluation_of(run, rows, np.stack(confusions), lambda image_id: decode(prediction_of(image_id)))


def evaluation_of(
    run: Run, rows: pd.DataFrame, confusion_ICC: np.ndarray, mask_of: Callable[[str], np.ndarray]
) -> Evaluation:
    """Returns the evaluation that follows from a confusion matrix per row.

    Args:
        mask_of: the predicted mask of an image by its id.
    """
    competition = run.loaded.competition
    classes, scored = competition.class_names, competition.scored_indices
    per_image = image_table(rows["id"], rows["sequence"], confusion_ICC, classes, scored)
    metrics = summarise(confusion_ICC, classes, scored, competition.score)
    majority = int(pd.read_csv(run.paths / CLASSES, keep_default_na=False)["pixels"].idxmax())
    metrics["majority"] = majority_guess(confusion_ICC, majority, classes, scored)
    return Evaluation(metrics, per_image, {CONFUSION: confusion_table(confusion_ICC.sum(0), classes)}, mask_of)


def draw_panels(run: Run, folder: Path, rows: pd.DataFrame, evaluation: Evaluation) -> None:
    """Draws image, truth and prediction of the best, median and worst validation images."""
    competition, classes = run.loaded.competition, run.loaded.competition.class_names
    score = per_image_score(competition.score)
    files, scores = rows.set_index("id"), evaluation.per_image.set_index("id")
    for old in (run.paths / PANELS).glob("*.png"):
        old.unlink()
    for kind, chosen in choose_images(evaluation.per_image, score, NUM_PANELS).items():
        for rank, image_id in enumerate(chosen, start=1):
            image = read_image(folder / files.at[image_id, "image"])
            truth = read_mask(folder / files.at[image_id, "mask"], mask_code(competition))
            row = scores.loc[image_id]
            own = {name: float(row[f"{score}_{name}"]) for name in classes}
            path = run.paths / PANELS / f"{kind}_{rank}_{image_id}.png"
            title = f"{kind} {rank}: {image_id}, mean {LABELS[score]} {row[score]:.3f}"
            mask = evaluation.decoded(image_id)
            write_image(path, draw_panel(image, truth, mask, classes, competition.colors, title, own))
