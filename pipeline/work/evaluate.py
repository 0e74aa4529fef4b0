"""`evaluate`: predicts the validation images into their store, scores them, and draws best, median and worst."""

from __future__ import annotations

from pipeline.engine.run import Run
from pipeline.training.inputs import split_rows
from pipeline.work.evaluation import write_evaluation
from pipeline.work.inputs import competition_folder
from pipeline.work.predict import predict_into_store


def evaluate(run: Run) -> None:
    """Writes `metrics.json`, `per_image.csv`, the task's tables, the panels and the out-of-fold predictions."""
    folder, rows, split = competition_folder(run), split_rows(run.paths, "valid"), run.loaded.config.datasets
    store, checkpoint = predict_into_store(run, rows, "valid")
    evaluation = run.task.evaluate(run, folder, rows, store.__getitem__)
    facts = {"split": {"by": split.split.by, "index": split.split_index}, "checkpoint": checkpoint}
    write_evaluation(run, folder, rows, evaluation, facts)
