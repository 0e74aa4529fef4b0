"""Predictions against true masks: scores of a run's validation images, and the panels that show the extremes.

Letters: I images, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.engine.run import Run
from pipeline.paths import CLASSES, CONFUSION, PANELS
from pipeline.report.figure import write_image
from pipeline.report.read import choose_images
from pipeline.scores import LABELS, Chosen, chosen_scores, per_image_score
from pipeline.segmentation.decision import confusion_of
from pipeline.segmentation.mask_scores import score_masks
from pipeline.segmentation.mask_source import masks_of
from pipeline.segmentation.panels import draw_panel
from pipeline.segmentation.predict import Prediction, decode
from pipeline.segmentation.scores import confusion_table, image_scores, image_table, majority_guess, summarise
from pipeline.task import Evaluation
from pipeline.training.inputs import images_of

NUM_PANELS = 3  # of each: best, median, worst
MOST_DRAWN = 8192  # pixels of a side; of a larger mask every second pixel is drawn, or fewer


def evaluate_predictions(
    run: Run, folder: Path, rows: pd.DataFrame, prediction_of: Callable[[str], Prediction]
) -> Evaluation:
    """Returns the scores of the most probable class per pixel.

    Args:
        folder: of the competition.
        rows: catalog rows of the validation images.
        prediction_of: an image's prediction by its id.
    """
    num_classes, masks = run.loaded.competition.num_classes, masks_of(run, folder)
    bar = tqdm(rows.itertuples(), total=len(rows), desc="score", leave=False, disable=None)
    confusions = []
    for row in bar:
        truth = masks.read(row)  # first: it needs more memory than it takes
        confusions.append(confusion_of(decode(prediction_of(row.id)), truth, num_classes))
    return evaluation_of(run, folder, rows, np.stack(confusions), lambda image_id: decode(prediction_of(image_id)))


def evaluation_of(
    run: Run, folder: Path, rows: pd.DataFrame, confusion_ICC: np.ndarray, mask_of: Callable[[str], np.ndarray]
) -> Evaluation:
    """Returns the evaluation that follows from a confusion matrix per row.

    Args:
        folder: of the competition.
        mask_of: the predicted mask of an image by its id.
    """
    competition = run.loaded.competition
    classes, scored = competition.class_names, competition.scored_indices
    chosen = chosen_scores(competition, run.loaded.config.solver.monitor)
    majority = int(pd.read_csv(run.paths / CLASSES, keep_default_na=False)["pixels"].idxmax())
    found, guessed = mask_scores_of(run, folder, rows, mask_of, majority, chosen)
    of_images = image_scores(confusion_ICC, chosen, found)
    per_image = image_table(rows["id"], rows["sequence"], of_images, classes, scored)
    metrics = summarise(confusion_ICC, classes, scored, competition.score, chosen, found)
    metrics["majority"] = majority_guess(confusion_ICC, majority, classes, scored, chosen, guessed)
    return Evaluation(metrics, per_image, {CONFUSION: confusion_table(confusion_ICC.sum(0), classes)}, mask_of)


def mask_scores_of(
    run: Run,
    folder: Path,
    rows: pd.DataFrame,
    mask_of: Callable[[str], np.ndarray],
    majority: int,
    chosen: Chosen,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the scores that need masks, float64 (I, C) by name: of the predictions, and of always one class."""
    if not chosen.of_masks:
        return {}, {}
    masks, found, guessed = masks_of(run, folder), [], []
    for row in tqdm(rows.itertuples(), total=len(rows), desc="score masks", leave=False, disable=None):
        truth = masks.read(row)
        for scores, mask in ((found, mask_of(row.id)), (guessed, np.full_like(truth, majority))):
            num_classes = run.loaded.competition.num_classes
            scores.append(score_masks(chosen.of_masks, mask, truth, num_classes, chosen.options))
    joined = [
        {name: np.stack([own[name] for own in scores]) for name in chosen.of_masks} for scores in (found, guessed)
    ]
    return joined[0], joined[1]


def draw_panels(run: Run, folder: Path, rows: pd.DataFrame, evaluation: Evaluation) -> None:
    """Draws image, truth and prediction of the best, median and worst validation images."""
    competition, classes = run.loaded.competition, run.loaded.competition.class_names
    score = per_image_score(competition.score)
    images, masks, files = images_of(run, folder), masks_of(run, folder), {row.id: row for row in rows.itertuples()}
    scores = evaluation.per_image.set_index("id")
    for old in (run.paths / PANELS).glob("*.png"):
        old.unlink()
    for kind, chosen in choose_images(evaluation.per_image, score, NUM_PANELS).items():
        for rank, image_id in enumerate(chosen, start=1):
            image = images.shown(files[image_id].image)
            step = 1 + max(files[image_id].height, files[image_id].width) // MOST_DRAWN
            truth = masks.read(files[image_id])[::step, ::step].copy()
            row = scores.loc[image_id]
            own = {name: float(row[f"{score}_{name}"]) for name in classes if not pd.isna(row[f"{score}_{name}"])}
            path = run.paths / PANELS / f"{kind}_{rank}_{image_id.replace('/', '_')}.png"
            title = f"{kind} {rank}: {image_id}, mean {LABELS[score]} {row[score]:.3f}"
            mask = evaluation.decoded(image_id)[::step, ::step].copy()
            write_image(path, draw_panel(image, truth, mask, classes, competition.colors, title, own))
