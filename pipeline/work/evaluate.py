"""`evaluate`: scores the validation images, and draws best, median and worst.

An experiment predicts them into their store; an ensemble combines its members on images that they were not trained on.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd

from pipeline.data.table import read_table
from pipeline.engine.run import Run
from pipeline.files import atomic_path, sha256_text, write_json
from pipeline.paths import ENSEMBLE, LEAKAGE, MEMBERS, METRICS, PER_IMAGE, PSEUDO_LEAKAGE
from pipeline.report.read import read_json, score_warning
from pipeline.scores import label_of
from pipeline.task import Evaluation
from pipeline.training.inputs import split_rows
from pipeline.training.tracking import check_installed, log_scores
from pipeline.work.combining import forget_streamed, make_each
from pipeline.work.inputs import competition_folder
from pipeline.work.members import held_out_rows, split_facts
from pipeline.work.predict import predict_into_store
from pipeline.work.provenance import recorded


def evaluate(run: Run) -> None:
    """Writes `metrics.json`, `per_image.csv`, the task's tables, the panels and the out-of-fold predictions."""
    check_installed(run)
    folder, rows = competition_folder(run), split_rows(run.paths, "valid")
    with recorded(run, "evaluate"):
        store, checkpoint = predict_into_store(run, rows, "valid")
        evaluation = run.task.evaluate(run, folder, rows, store.__getitem__)
        write_evaluation(run, folder, rows, evaluation, {"split": split_facts(run), "checkpoint": checkpoint})


def evaluate_ensemble(run: Run) -> None:
    """Writes the files of an evaluation, and `ensemble.json` with the score and gain of each method."""
    check_installed(run)
    folder, (rows, held_out) = competition_folder(run), held_out_rows(run)
    each = partial(make_each, run, "valid", held_out)
    with recorded(run, "evaluate"):
        evaluation, found = run.task.evaluate_ensemble(run, folder, rows, held_out, each)
        write_evaluation(run, folder, rows, evaluation, _members_origin(run))
        write_json(run.paths / ENSEMBLE, found)
    forget_streamed(run)


def _members_origin(run: Run) -> dict[str, Any]:
    """Returns what metrics.json says of split and checkpoint: those of the members."""
    members = read_json(run.paths / MEMBERS, list)
    kinds = sorted({(member["split"] or {}).get("by", "?") for member in members})
    hashes = [member["checkpoint_sha256"] for member in members]
    checkpoint = {"epoch": None, "valid_loss": None, "sha256": sha256_text(" ".join(hashes))}
    return {"split": {"by": " and ".join(kinds), "index": None}, "checkpoint": checkpoint}


def write_evaluation(
    run: Run, folder: Path, rows: pd.DataFrame, evaluation: Evaluation, facts: Mapping[str, Any]
) -> None:
    """Writes metrics.json, per_image.csv, the task's tables and the panels; logs the scores.

    Args:
        folder: of the competition.
        rows: catalog rows of the validation images.
        facts: the rest of metrics.json: `split` and `checkpoint`.
    """
    leaks = read_table(run.paths / LEAKAGE, ("train_id", "valid_id", "distance"))
    affected = {"near_duplicates": len(leaks), "valid_images_affected": int(leaks["valid_id"].nunique())}
    if run.loaded.has_pseudo_labels:
        near = read_table(run.paths / PSEUDO_LEAKAGE, ("valid_id",))
        affected["valid_images_near_pseudo_labels"] = int(near["valid_id"].nunique())
    metrics = {**evaluation.metrics, **facts, "duplicates": affected}
    for name, table in {PER_IMAGE: evaluation.per_image, **evaluation.tables, **evaluation.notes}.items():
        with atomic_path(run.paths / name) as path:
            table.to_csv(path, index=False, float_format="%.6f")
    write_json(run.paths / METRICS, metrics)
    for name, facts_of_task in evaluation.facts.items():
        write_json(run.paths / name, facts_of_task)
    run.task.draw_panels(run, folder, rows, evaluation)
    run.task.draw_gallery(run, folder, rows, evaluation)
    run.log(scores_line(metrics))
    if warning := score_warning(metrics):
        run.log(f"warning: {warning}")
    log_scores(run, metrics)


def scores_line(metrics: Mapping[str, Any]) -> str:
    """Returns the mean of each score, the competition's own first, and what the majority class gets of that.

    >>> scores = {"dice": {"mean": 0.75}, "miou": {"mean": None}}
    >>> majority = {"class": "Road", "scores": {"dice": 0.5}}
    >>> scores_line({"score": "dice", "scores": scores, "scored": ["Car"], "majority": majority})
    'validation  Dice 0.7500  mIoU –  (over Car; always predicting Road: Dice 0.5000)'
    """

    def text(name: str, value: float | None) -> str:
        return f"{label_of(name)} {'–' if value is None else format(value, '.4f')}"

    main, names, majority = metrics["score"], metrics["scored"], metrics["majority"]
    scores = sorted(metrics["scores"].items(), key=lambda item: item[0] != main)
    means = "  ".join(text(name, family["mean"]) for name, family in scores)
    over = names[0] if len(names) == 1 else f"{len(names)} classes"
    guess = f"; always predicting {majority['class']}: {text(main, majority['scores'][main])}" if majority else ""
    return f"validation  {means}  (over {over}{guess})"
