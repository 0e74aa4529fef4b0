"""The whole chain against the clock: from images to a checked submission, in one session or in several."""

from __future__ import annotations

import json

import pytest
import torch
import yaml

from pipeline.config import load as load_module
from pipeline.engine import api
from pipeline.errors import Stopped, UserError
from pipeline.paths import BEST, HISTORY, PLAN_CHANGES, PLAN_FILE, PROJECT, REPORT, SUBMISSION, RunPaths
from pipeline.report.read import read_columns
from pipeline.training.checkpoint import load_checkpoint
from tests.experiments import copy_configs
from tests.tiny import draw_nothing, overrides, write_competition
from tests.training.simulated_clock import STEP_S, VALIDATION_S, Simulated, simulate

pytestmark = pytest.mark.slow

EPOCH_S = 4 * STEP_S + VALIDATION_S  # 8 training images in batches of 2
LONG = ("SOLVER.NUM_EPOCHS=40", "SOLVER.ANN_EPOCHS=2", "SOLVER.PATIENCE=30", "SWEEP.ENABLE=false")


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    draw_nothing(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_competition(tmp_path_factory.mktemp("competition") / "data")


def run(monkeypatch, data, seconds: float | None, *changes: str, stop=None, log=None) -> RunPaths:
    """Runs the chain on a clock of the test's own, to be finished within so many seconds."""
    limit = "null" if seconds is None else f"{seconds / 3600:.9f}"
    given = overrides(data, *LONG, f"SOLVER.FINISH_WITHIN_HOURS={limit}", *changes)
    with monkeypatch.context() as patch:
        stop = stop or Simulated(noise=0.0)
        simulate(patch, stop)
        return api.run("demo", given, stop=stop, log=log or (lambda line: None)).paths


def num_epochs(paths: RunPaths) -> int:
    return len(read_columns(paths / HISTORY)["epoch"]) - 1


@pytest.mark.parametrize("plan", ["flat_cosine", "one_cycle"])
def test_a_run_ends_in_time_and_its_plan_gives_the_same_weights_again(monkeypatch, data, tmp_path, plan):
    stop, lines = Simulated(noise=0.0), []
    paths = run(monkeypatch, data, 14 * EPOCH_S, f"SOLVER.PLAN={plan}", stop=stop, log=lines.append)
    assert stop.time_s <= 14 * EPOCH_S and 4 <= num_epochs(paths) < 14
    assert json.loads((paths / SUBMISSION).read_text())["checked"]
    assert "SOLVER.FINISH_WITHIN_HOURS: phase" in (paths / REPORT).read_text()
    assert any(
        "to repeat the run without a time limit, copy it to configs/plans/demo_in_time.yaml" in one for one in lines
    )
    folder = tmp_path / "project"
    copy_configs(PROJECT, folder)
    monkeypatch.setattr(load_module, "CONFIGS", folder / "configs")
    (folder / "configs" / "plans" / "demo_in_time.yaml").write_bytes((paths / PLAN_FILE).read_bytes())
    again = run(monkeypatch, data, None, "SOLVER.PLAN=demo_in_time")
    first, second = (load_checkpoint(one / BEST)["network"] for one in (paths, again))
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert (again / HISTORY).read_bytes() == (paths / HISTORY).read_bytes()
    assert yaml.safe_load((paths / PLAN_FILE).read_text())[0]["EPOCHS"] < 40


def test_a_session_ends_resumable_and_the_next_one_finishes_in_the_rest_of_the_time(monkeypatch, data):
    budget = f"RUNTIME.TIME_BUDGET_HOURS={5 * EPOCH_S / 3600:.9f}"
    with pytest.raises(Stopped, match="time budget is used up"):
        run(monkeypatch, data, 12 * EPOCH_S, budget, "SOLVER.PLAN=flat_cosine")
    # The next session has the rest of the 12 epochs' time.
    stop = Simulated(noise=0.0)
    paths = run(monkeypatch, data, 12 * EPOCH_S, "SOLVER.PLAN=flat_cosine", stop=stop)
    assert 5 * EPOCH_S < 5 * EPOCH_S + stop.time_s <= 12 * EPOCH_S
    assert json.loads((paths / SUBMISSION).read_text())["checked"]
    (what,) = read_columns(paths / PLAN_CHANGES)["what"]
    assert what.startswith("SOLVER.FINISH_WITHIN_HOURS: phase flat: EPOCHS 40 -> ")


def test_too_little_time_is_refused_with_what_is_needed(monkeypatch, data):
    with pytest.raises(UserError, match=r"SOLVER.FINISH_WITHIN_HOURS: .* are left, .* allow more time"):
        run(monkeypatch, data, 2 * EPOCH_S, "SOLVER.PLAN=one_cycle")
    with pytest.raises(UserError, match="this session has no time limit"):
        run(monkeypatch, data, None, "SOLVER.FINISH_WITHIN_HOURS=session")
