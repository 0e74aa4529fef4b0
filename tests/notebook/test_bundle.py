"""Inference bundles: small, without anything of training, and their submission is that of the run itself."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.config.load import load
from pipeline.engine.chain import run_chain
from pipeline.errors import UserError
from pipeline.notebook.bundle import is_bundled, open_bundle, write_bundle
from pipeline.paths import BUNDLE
from pipeline.training.checkpoint import load_checkpoint
from tests.experiments import copy_configs, run_all, use, use_copy, write_ensemble, write_members
from tests.predicting_clock import Clock, moved_by_predictions
from tests.tiny import draw_nothing, executed, run_of, run_paths, run_stages, write_competition, write_hidden

pytestmark = pytest.mark.slow

MEMBERS = {"TinyA": 0, "TinyB": {"DATASETS.SPLIT_INDEX": 10, "PREDICT.TTA": "flip"}}
NUM_HIDDEN = 6


@pytest.fixture(scope="module")
def trained(project, tmp_path_factory) -> Path:
    """The folder of configs and of finished runs; the competition is gone."""
    folder = tmp_path_factory.mktemp("trained")
    configs, data = copy_configs(project, folder), write_competition(folder / "data")
    shared = {"DATASETS.DIRECTORY": str(data), "DATASETS.SPLIT.BY": "slice", "SWEEP.ENABLE": False}
    shared |= {"SOLVER.PLAN": "constant", "DATALOADERS.TRAIN.BATCH_SIZE": 4, "SOLVER.OPTIMIZER.NAME": "AdamW"}
    write_members(configs, shared, MEMBERS)
    fitted = {"DECODE": {"OFFSETS": "fitted"}}
    write_ensemble(configs, "TinyEns", MEMBERS, {"COMPETITION": "demo", "DIRECTORY": str(data)}, **fitted)
    run_all(folder, MEMBERS, "evaluate")
    run_all(folder, ["TinyEns"], "fit")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, folder)
        draw_nothing(patch)
        run_stages(load("TinyA", ("PREDICT.TTA=d4",)), "evaluate")
    shutil.rmtree(folder / "data")
    shutil.rmtree(folder / "scratch")
    return folder


@pytest.fixture(autouse=True)
def runs(trained, tmp_path, monkeypatch) -> None:
    """This test's own copy of the finished runs."""
    use_copy(monkeypatch, trained, tmp_path)


@pytest.fixture
def hidden(tmp_path) -> Path:
    return write_hidden(tmp_path / "hidden", [f"000009_{number:03d}" for number in range(NUM_HIDDEN)])


@pytest.fixture
def clock(monkeypatch) -> Clock:
    return moved_by_predictions(monkeypatch)


def elsewhere(monkeypatch, tmp_path: Path, name: str, *overrides: str) -> Path:
    """Writes a run's bundle into the folder of runs of another machine, which has nothing else; returns the folder."""
    folder = tmp_path / "elsewhere"
    write_bundle(run_of(load(name, overrides)), folder)
    monkeypatch.setenv("RUNS_DIR", str(folder))
    monkeypatch.setenv("SUBMISSIONS_DIR", str(tmp_path / "out"))
    return folder


def submitted(name: str, hidden: Path, *overrides: str):
    """Runs a bundle; returns its submission and the lines of the log."""
    lines: list[str] = []
    loaded = load(name, (f"DATASETS.TEST_DIRECTORY={hidden}", "SUBMIT.TIME_LIMIT_HOURS=1", *overrides))
    run = run_of(loaded, lines.append)
    assert is_bundled(run)
    run_chain(open_bundle(run), "submit")
    return run_paths(loaded.run).submission(".csv").read_bytes(), lines


def of_the_run_itself(name: str, hidden: Path, *overrides: str) -> bytes:
    loaded = load(name, (f"DATASETS.TEST_DIRECTORY={hidden}", *overrides))
    run_stages(loaded, "submit")
    return run_paths(loaded.run).submission(".csv").read_bytes()


@pytest.mark.parametrize("name", ["TinyA", "TinyEns"])
def test_the_submission_of_a_bundle_is_that_of_the_run_itself(name, hidden, tmp_path, monkeypatch):
    wanted = of_the_run_itself(name, hidden)
    elsewhere(monkeypatch, tmp_path, name)
    found, lines = submitted(name, hidden)
    assert found == wanted and len(set(found.splitlines())) > NUM_HIDDEN
    assert executed(lines) == ["testset", "submit"]


def test_a_bundle_has_weights_and_facts_and_nothing_of_training(tmp_path, monkeypatch):
    folder = elsewhere(monkeypatch, tmp_path, "TinyEns")
    found = {path.name: {file.name for file in path.iterdir()} for path in folder.iterdir()}
    facts = {"images.json", "labels.json", "classes.csv", "metrics.json", BUNDLE}
    assert found["TinyA.bundle"] == found["TinyB.bundle"] == facts | {"best.ckpt"}
    assert found["TinyEns.bundle"] == facts | {"members.json", "ensemble.json", "decode.json"}
    whole = tmp_path / "runs" / "TinyA" / "best.ckpt"
    bundled = folder / "TinyA.bundle" / "best.ckpt"
    assert bundled.stat().st_size < 0.5 * whole.stat().st_size
    assert "optimizer" in load_checkpoint(whole) and "optimizer" not in load_checkpoint(bundled)


def test_overrides_of_a_run_belong_to_its_bundle(hidden, tmp_path, monkeypatch):
    wanted = of_the_run_itself("TinyA", hidden, "PREDICT.TTA=d4")
    assert wanted != of_the_run_itself("TinyA", hidden)
    run_stages(load("TinyA", ("PREDICT.TTA=flip",)), "train")
    with pytest.raises(UserError, match=r"lacks metrics\.json; type: \./run\.sh TinyA PREDICT\.TTA=flip evaluate"):
        write_bundle(run_of(load("TinyA", ("PREDICT.TTA=flip",))), tmp_path / "elsewhere")
    elsewhere(monkeypatch, tmp_path, "TinyA", "PREDICT.TTA=d4")
    assert submitted("TinyA", hidden, "PREDICT.TTA=d4")[0] == wanted
    assert not is_bundled(run_of(load("TinyA", (f"DATASETS.TEST_DIRECTORY={hidden}",))))


def test_what_a_bundle_cannot_do_is_refused(hidden, tmp_path, monkeypatch):
    shutil.rmtree(tmp_path / "runs" / "TinyB")
    with pytest.raises(UserError, match=r"TinyB is not ready .* type: \./run\.sh TinyB evaluate"):
        write_bundle(run_of(load("TinyEns")), tmp_path / "elsewhere")
    folder = elsewhere(monkeypatch, tmp_path, "TinyA")
    with pytest.raises(UserError, match=r"TinyA is an inference bundle, .*; add --time-limit TIME"):
        open_bundle(run_of(load("TinyA")))
    weights = folder / "TinyA.bundle" / "best.ckpt"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(UserError, match=r"best\.ckpt is absent or damaged; copy the bundle again"):
        submitted("TinyA", hidden)


def test_a_member_that_does_not_fit_is_left_out(hidden, tmp_path, monkeypatch, clock):
    # Six images take 90 s with one member, and 150 s with the one that has two views: both do not fit.
    elsewhere(monkeypatch, tmp_path, "TinyEns")
    loaded, lines = load("TinyEns", (f"DATASETS.TEST_DIRECTORY={hidden}", f"SUBMIT.TIME_LIMIT_HOURS={160 / 3600}")), []
    run_chain(open_bundle(run_of(loaded, lines.append, clock)), "submit")
    origin = json.loads(run_paths(loaded.run).submission(".json").read_text())
    assert "1 of 2 members are used; left out: " in origin["shortened"] and "empty" not in origin["shortened"]
    assert clock.time_s < 160


def test_a_valid_submission_is_there_though_the_time_was_over_before_it_began(hidden, tmp_path, monkeypatch, clock):
    elsewhere(monkeypatch, tmp_path, "TinyEns")
    clock.time_s = 37.0
    loaded = load("TinyEns", (f"DATASETS.TEST_DIRECTORY={hidden}", "SUBMIT.TIME_LIMIT_HOURS=0.01"))
    run_chain(open_bundle(run_of(loaded, stop=clock)), "submit")
    origin = json.loads(run_paths(loaded.run).submission(".json").read_text())
    assert "6 of 6 images were not predicted and are empty" in origin["shortened"]
    assert len(run_paths(loaded.run).submission(".csv").read_text().splitlines()) == 1 + NUM_HIDDEN * 12
