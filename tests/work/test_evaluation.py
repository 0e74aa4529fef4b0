"""A network no better than a constant prediction is warned of in the terminal and beside the submission."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.config.mask_code import mask_code
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.evaluation import evaluation_of
from pipeline.segmentation.labels import read_mask
from pipeline.training.inputs import split_rows
from pipeline.work.evaluate import write_evaluation
from pipeline.work.inputs import competition_folder
from pipeline.work.submit import write_checked_submission
from tests.tiny import BACKGROUND, ROAD, SIDE, draw_nothing, run_of, run_stages

FACTS = {"split": {"by": "sequence", "index": 0}, "checkpoint": {"epoch": 0, "valid_loss": 0.6, "sha256": "c" * 64}}


def block() -> np.ndarray:
    mask = np.full((SIDE, SIDE), BACKGROUND, np.uint8)
    mask[20:40, 20:40] = ROAD
    return mask


@pytest.mark.parametrize("is_right", [False, True])
def test_a_score_not_above_the_majority_guess_is_warned_of_and_written_beside_the_submission(
    workshop, is_right, monkeypatch
):
    draw_nothing(monkeypatch)
    loaded, lines = workshop.tiny(), []
    run_stages(loaded, "testset")
    run = run_of(loaded, lines.append)
    folder, rows = competition_folder(run), split_rows(run.paths, "valid")
    truths = {row.id: read_mask(folder / row.mask, mask_code(loaded.competition)) for row in rows.itertuples()}
    predicted = {name: truth if is_right else np.full_like(truth, BACKGROUND) for name, truth in truths.items()}
    num_classes = loaded.competition.num_classes
    confusion_ICC = np.stack([SOFTMAX.count_masks(predicted[name], truths[name], num_classes) for name in rows["id"]])
    evaluation = evaluation_of(run, folder, rows, confusion_ICC, predicted.__getitem__)
    write_evaluation(run, folder, rows, evaluation, FACTS)
    write_checked_submission(run, lambda image_id: block(), {})
    origin = json.loads(run.paths.submission(".json").read_text())
    warnings = [line for line in lines if line.startswith("warning: ")]
    if is_right:
        assert warnings == [] and "warning" not in origin
    else:
        assert "the score of predicting Background everywhere." in origin["warning"]
        assert warnings == [f"warning: {origin['warning']}"] * 2  # with the scores, and with the submission
