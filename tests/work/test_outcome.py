"""A network no better than a constant guess is called so in the terminal and with the submission."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from pipeline.work.experiment import competition_folder
from pipeline.work.outcome import Decoding, truth_masks, write_checked_submission, write_outcome

from pipeline.segmentation.scores import confusion_of
from pipeline.training.inputs import split_rows
from tests.tiny import BACKGROUND, ROAD, SIDE, draw_nothing, make_workshop, run_of

FACTS = {"split": {"by": "sequence", "index": 0}, "checkpoint": {"epoch": 0, "valid_loss": 0.6, "sha256": "c" * 64}}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return make_workshop(tmp_path_factory.mktemp("workshop"))


def block() -> np.ndarray:
    mask = np.full((SIDE, SIDE), BACKGROUND, np.uint8)
    mask[20:40, 20:40] = ROAD
    return mask


@pytest.mark.parametrize("is_right", [False, True])
def test_a_score_not_above_the_majority_guess_is_warned_of_and_written_beside_the_submission(
    workshop, is_right, monkeypatch, capsys
):
    draw_nothing(monkeypatch)
    loaded = workshop.tiny()
    run = run_of(loaded)
    folder, rows = competition_folder(run), split_rows(run.paths, "valid")
    truths = dict(zip(rows["id"], truth_masks(run, folder, rows), strict=True))
    predicted = {name: truth if is_right else np.full_like(truth, BACKGROUND) for name, truth in truths.items()}
    num_classes = loaded.competition.num_classes
    confusion_PCC = torch.stack([confusion_of(predicted[name], truths[name], num_classes) for name in rows["id"]])
    write_outcome(run, folder, rows, confusion_PCC, FACTS, predicted.__getitem__)
    said = capsys.readouterr().out
    write_checked_submission(run, folder, lambda image_id: block(), Decoding(None, ()))
    origin = json.loads(run.paths.submission.with_suffix(".json").read_text())
    if is_right:
        assert "warning" not in said + capsys.readouterr().out and "warning" not in origin
    else:
        assert "the score of predicting Background everywhere." in origin["warning"]
        for words in (said, capsys.readouterr().out):
            assert f"warning: {origin['warning']}" in words
