"""The files of an evaluation; a network no better than a constant guess is warned of with its submission too."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.config.competition import mask_code
from pipeline.data.catalog import build_test_catalog, write_table
from pipeline.paths import CONFUSION, METRICS, PANELS, PER_IMAGE, SUBMISSION, TEST_CATALOG
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.predict import Prediction
from pipeline.submission.origin import origin_path
from pipeline.training.inputs import split_rows
from pipeline.work.evaluation import decoding_facts, write_checked_submission, write_evaluation
from pipeline.work.inputs import competition_folder
from tests.tiny import BACKGROUND, ROAD, SIDE, draw_nothing, make_workshop, run_of

FACTS = {"split": {"by": "sequence", "index": 0}, "checkpoint": {"epoch": 0, "valid_loss": 0.6, "sha256": "c" * 64}}


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return make_workshop(tmp_path_factory.mktemp("workshop"))


def block() -> np.ndarray:
    mask = np.full((SIDE, SIDE), BACKGROUND, np.uint8)
    mask[20:40, 20:40] = ROAD
    return mask


def certain(mask: np.ndarray, num_classes: int) -> Prediction:
    """Returns a prediction of exactly this mask."""
    logits = np.moveaxis(np.eye(num_classes, dtype=np.float16)[mask], -1, 0)
    return Prediction(np.ascontiguousarray(logits), 1, False, (0, 0), mask.shape)


def true_masks(folder: Path, rows: pd.DataFrame, code) -> dict[str, np.ndarray]:
    return {row.id: read_mask(folder / row.mask, code) for row in rows.itertuples()}


@pytest.mark.parametrize("is_right", [False, True])
def test_a_score_not_above_the_majority_guess_is_warned_of_and_written_beside_the_submission(
    workshop, is_right, monkeypatch
):
    draw_nothing(monkeypatch)
    loaded, lines = workshop.tiny(), []
    run = run_of(loaded, lines.append)
    folder, rows = competition_folder(run), split_rows(run.paths, "valid")
    truths = true_masks(folder, rows, mask_code(loaded.competition))
    predicted = {name: truth if is_right else np.full_like(truth, BACKGROUND) for name, truth in truths.items()}
    num_classes = loaded.competition.num_classes
    evaluation = run.task.evaluate(run, folder, rows, lambda image_id: certain(predicted[image_id], num_classes))
    write_evaluation(run, folder, rows, evaluation, FACTS)
    metrics = json.loads((run.paths / METRICS).read_text())
    assert metrics["score"] == "dice" and metrics["split"] == FACTS["split"] and metrics["images"] == len(rows)
    assert (metrics["scores"]["dice"]["mean"] == 1) == is_right
    assert pd.read_csv(run.paths / PER_IMAGE, dtype={"id": str})["id"].tolist() == rows["id"].tolist()
    assert (run.paths / CONFUSION).is_file() and len(list((run.paths / PANELS).glob("*.png"))) >= 3
    evaluated = list(lines)
    write_table(run.paths / TEST_CATALOG, build_test_catalog(loaded.competition, folder)[0])
    write_checked_submission(run, lambda image_id: block(), decoding_facts(run))
    origin = json.loads(origin_path(run.paths.submission(".csv")).read_text())
    assert (origin["score"], origin["local_score"]) == ("dice", metrics["scores"]["dice"]["mean"])
    assert origin["local_scores"].keys() == metrics["scores"].keys()
    assert json.loads((run.paths / SUBMISSION).read_text())["checked"]
    if is_right:
        assert not any("warning" in line for line in lines) and "warning" not in origin
    else:
        assert "the score of predicting Background everywhere." in origin["warning"]
        for logged in (evaluated, lines[len(evaluated) :]):
            assert f"warning: {origin['warning']}" in logged
