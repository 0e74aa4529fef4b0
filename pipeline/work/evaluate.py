"""`evaluate`: predicts the validation images into their store, scores them, and draws best, median and worst."""

from __future__ import annotations

import numpy as np
import torch
from tqdm import tqdm

from pipeline.engine.run import Run
from pipeline.segmentation.predict import decode
from pipeline.segmentation.scores import confusion_of
from pipeline.training.inputs import split_rows
from pipeline.work.inputs import competition_folder
from pipeline.work.outcome import true_masks, write_outcome
from pipeline.work.predict import predict_into_store


def evaluate(run: Run) -> None:
    """Writes `metrics.json`, `per_image.csv`, `confusion.csv`, the panels and the out-of-fold predictions."""
    num_classes, folder = run.loaded.competition.num_classes, competition_folder(run)
    rows, split = split_rows(run.paths, "valid"), run.loaded.config.datasets
    store, checkpoint = predict_into_store(run, rows, "valid")

    def mask_of(image_id: str) -> np.ndarray:
        return decode(store[image_id])

    pairs = zip(rows["id"], true_masks(run, folder, rows), strict=True)
    bar = tqdm(pairs, total=len(rows), desc="score", leave=False, disable=None)
    confusion_PCC = torch.stack([confusion_of(mask_of(image_id), truth, num_classes) for image_id, truth in bar])
    facts = {"split": {"by": split.split.by, "index": split.split_index}, "checkpoint": checkpoint}
    write_outcome(run, folder, rows, confusion_PCC, facts, mask_of)
