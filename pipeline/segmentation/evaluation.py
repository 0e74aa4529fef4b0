"""Predictions against true masks: scores of a run's validation images, and the panels that show the extremes.

Letters: I images, C classes.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from pipeline.data.catalog import read_catalog
from pipeline.data.table import read_table
from pipeline.engine.run import Run
from pipeline.paths import CLASSES, CONFUSION, DIAGNOSIS, PANELS, SUSPICIOUS, TRAIN_CATALOG
from pipeline.report.examples import choose_images
from pipeline.report.figure import write_image
from pipeline.scores import LABELS, Chosen, chosen_scores, mean_scored, per_image_score
from pipeline.segmentation.activation import activation_of
from pipeline.segmentation.diagnosis import examine
from pipeline.segmentation.findings import Findings, new_findings
from pipeline.segmentation.mask_scores import image_score
from pipeline.segmentation.mask_source import masks_of
from pipeline.segmentation.neighbours import draw_neighbours
from pipeline.segmentation.object_decoding import with_objects
from pipeline.segmentation.panels import draw_panel
from pipeline.segmentation.predict import Prediction, decode
from pipeline.segmentation.scores import (
    confusion_table,
    counts_table,
    empty_guess,
    image_scores,
    image_table,
    majority_guess,
    summarise,
)
from pipeline.segmentation.seams import seams_of
from pipeline.segmentation.volume_scores import MaskScores
from pipeline.task import Evaluation
from pipeline.training.inputs import images_of

NUM_PANELS = 3  # of each: best, median, worst
MOST_DRAWN = 8192  # pixels of a side; of a larger mask every second pixel is drawn, or fewer


def evaluate_predictions(
    run: Run, folder: Path, rows: pd.DataFrame, prediction_of: Callable[[str], Prediction]
) -> Evaluation:
    """Returns the scores of the most probable class per pixel, or of all classes that are probable.

    Args:
        folder: of the competition.
        rows: catalog rows of the validation images.
        prediction_of: an image's prediction by its id.
    """
    competition, masks = run.loaded.competition, masks_of(run, folder)
    count_masks = activation_of(competition).count_masks
    bar = tqdm(rows.itertuples(), total=len(rows), desc="score", leave=False, disable=None)
    counts, findings, seams = [], new_findings(run), seams_of(run)
    for row in bar:
        truth = masks.read(row)  # first: it needs more memory than it takes
        prediction = prediction_of(row.id)
        mask, size = decode(prediction), truth.shape[:2]
        counts.append(count_masks(mask, truth, competition.num_classes))
        findings.add(row.id, size, examine([prediction], mask, truth, seams(*size), findings.is_searched(row.id)))

    def mask_of(image_id: str) -> np.ndarray:
        prediction = prediction_of(image_id)
        return with_objects([prediction], decode(prediction), competition)

    return evaluation_of(run, folder, rows, np.stack(counts), mask_of, findings)


def image_scorer(run: Run, folder: Path) -> Callable[[Any, Prediction], float]:
    """Returns a function from a catalog row and its prediction to the image's score, the mean over the scored classes.

    It is the competition's own score, or where that has no value per image the one like it, as in per_image.csv; NaN
    where the image has none.
    """
    competition, masks = run.loaded.competition, masks_of(run, folder)
    score, activation = per_image_score(competition.score), activation_of(competition)

    def score_of(row: Any, prediction: Prediction) -> float:
        truth, objects = masks.read_both(row)
        mask = decode(prediction)
        counted = activation.counted(activation.count_masks(mask, truth, competition.num_classes))
        shown = with_objects([prediction], mask, competition)
        values = image_score(score, counted, shown, objects, competition.score_options)
        return float(mean_scored(values, competition.scored_indices))

    return score_of


def evaluation_of(
    run: Run,
    folder: Path,
    rows: pd.DataFrame,
    counts: np.ndarray,
    mask_of: Callable[[str], np.ndarray],
    findings: Findings | None = None,
) -> Evaluation:
    """Returns the evaluation that follows from the counts of pixels of each row.

    Args:
        folder: of the competition.
        counts: int64 (I, C, C) or (I, 3, C), what `Activation.count_masks` returned.
        mask_of: the predicted mask, or object map, of an image by its id.
        findings: what the images were examined for, if they were.
    """
    competition = run.loaded.competition
    classes, scored = competition.class_names, competition.scored_indices
    chosen = chosen_scores(competition, run.loaded.config.solver.monitor)
    counted = activation_of(competition).counted(counts)
    majority = None  # where a pixel may have no class, that is what is predicted everywhere
    if not competition.is_multilabel:
        majority = int(read_table(run.paths / CLASSES, ("pixels",), ("name",))["pixels"].idxmax())
    found, guessed = mask_scores_of(run, folder, rows, mask_of, majority or 0, chosen)
    of_images = image_scores(counted, chosen, found)
    per_image = image_table(rows["id"], rows["sequence"], of_images, classes, scored)
    metrics = summarise(counted, classes, scored, competition.score, chosen, found)
    if majority is None:
        metrics["majority"] = empty_guess(counted, classes, scored, chosen, guessed)
        table = counts_table(counted, classes)
    else:
        metrics["majority"] = majority_guess(counted, majority, classes, scored, chosen, guessed)
        table = confusion_table(counted.sum(0), classes)
    shown = ({DIAGNOSIS: findings.facts()}, {SUSPICIOUS: findings.table()}) if findings else ()
    return Evaluation(metrics, per_image, {CONFUSION: table}, mask_of, *shown)


def mask_scores_of(
    run: Run,
    folder: Path,
    rows: pd.DataFrame,
    mask_of: Callable[[str], np.ndarray],
    guess: int,
    chosen: Chosen,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Returns the scores that need masks, see `MaskScores.by_name`: of the predictions, and of one value everywhere."""
    if not (chosen.of_masks or chosen.of_volumes):
        return {}, {}
    if chosen.of_volumes:
        _note_cut_volumes(run, rows)
    masks, competition = masks_of(run, folder), run.loaded.competition
    found, guessed = (MaskScores(chosen, competition.num_classes, competition.scored_indices) for _ in range(2))
    for row in tqdm(rows.itertuples(), total=len(rows), desc="score masks", leave=False, disable=None):
        truth = masks.read_scored(row)
        found.add(row.sequence, row.id, mask_of(row.id), truth)
        guessed.add(row.sequence, row.id, np.full(truth.shape, guess, np.uint8), truth)
    return found.by_name(), guessed.by_name()


def _note_cut_volumes(run: Run, rows: pd.DataFrame) -> None:
    """Logs how many volumes are scored without some of their slices."""
    of_all = read_catalog(run.paths / TRAIN_CATALOG)["sequence"].value_counts()
    own = rows["sequence"].value_counts()
    if num_cut := int((own < of_all[own.index]).sum()):
        fix = "DATASETS.SPLIT.BY=sequence keeps them whole"
        run.log(f"warning: {num_cut} of {len(own)} volumes are scored without some of their slices; {fix}")


def draw_panels(run: Run, folder: Path, rows: pd.DataFrame, evaluation: Evaluation) -> None:
    """Draws image, truth and prediction of the best, median and worst validation images; objects with outlines.

    Beside the worst the training images that look most like them.
    """
    competition, classes = run.loaded.competition, run.loaded.competition.class_names
    score = per_image_score(competition.score)
    images, masks, files = images_of(run, folder), masks_of(run, folder), {row.id: row for row in rows.itertuples()}
    scores = evaluation.per_image.set_index("id")
    for old in (run.paths / PANELS).glob("*.png"):
        old.unlink()
    groups = choose_images(evaluation.per_image, score, NUM_PANELS)
    draw_neighbours(run, images, masks, files, groups["worst"])
    for kind, chosen in groups.items():
        for rank, image_id in enumerate(chosen, start=1):
            image = images.shown(files[image_id].image)
            step = 1 + max(files[image_id].height, files[image_id].width) // MOST_DRAWN
            truth = masks.read_scored(files[image_id])[::step, ::step].copy()
            row = scores.loc[image_id]
            own = {name: float(row[f"{score}_{name}"]) for name in classes if not pd.isna(row[f"{score}_{name}"])}
            path = run.paths / PANELS / f"{kind}_{rank}_{image_id.replace('/', '_')}.png"
            title = f"{kind} {rank}: {image_id}, mean {LABELS[score]} {row[score]:.3f}"
            mask = evaluation.decoded(image_id)[::step, ::step].copy()
            write_image(path, draw_panel(image, truth, mask, classes, competition.colors, title, own))
