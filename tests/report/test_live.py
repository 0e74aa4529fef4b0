"""What a run is doing, by its files and its lock."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pipeline.engine.folder import lock_holder, locked
from pipeline.paths import PROJECT, Folders, RunPaths
from pipeline.report.live import Live, read_live
from pipeline.stages import STAGES
from tests.report.small_run import make_history, mark_stages, write_csv

HOLD = """
import sys
from pathlib import Path
from pipeline.engine.folder import locked
from pipeline.paths import RunPaths
with locked(RunPaths(Path(sys.argv[1]), Path(sys.argv[1]))):
    print("held", flush=True)
    sys.stdin.read()
"""
NOW = 1_800_000_000.0


@contextmanager
def held(paths: RunPaths) -> Iterator[int]:
    """Another process holds the run's lock, as one that runs it does; yields its number."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(paths.folder)],
        cwd=PROJECT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout.readline() == "held\n"
        yield process.pid
    finally:
        process.kill()
        process.communicate()


@pytest.fixture
def training(new_run) -> RunPaths:
    """A run in its eighth of ten epochs of 60 s; the last ended 20 s ago, the stage began 500 s ago."""
    loaded, folder = new_run("ExpAAB")
    write_csv(folder / "history.csv", *make_history())
    rows = [[epoch, 60.0 if epoch > 3 else 300.0, 20.0] for epoch in range(1, 9)]
    write_csv(folder / "timings.csv", ["epoch", "seconds", "samples_per_s"], rows)
    mark_stages(folder, prepare=1.0, tile=1.0)
    settings = {"SOLVER.PLAN": [{"epochs": 6}, {"epochs": 4}]}
    begun = {"version": 1, "settings": settings, "inputs": {}, "outputs": {}, "seconds": 0.0}
    paths = Folders.from_environment().run(loaded.run)
    paths.started("train").write_text(json.dumps(begun))
    os.utime(folder / "timings.csv", (NOW - 20, NOW - 20))
    os.utime(paths.started("train"), (NOW - 500, NOW - 500))
    return paths


def live(paths: RunPaths, now: float = NOW, score: str = "dice") -> Live:
    return read_live(paths, STAGES, now, score)


def test_a_lock_is_seen_while_its_process_lives_and_never_taken(training):
    assert lock_holder(training) is None
    with held(training) as process:
        assert lock_holder(training) == process
        assert lock_holder(training) == process, "it still holds it"
    assert lock_holder(training) is None
    assert lock_holder(RunPaths(training.folder / "nowhere", training.folder)) is None
    with locked(training):
        pass


def test_a_running_training_shows_epoch_score_and_the_time_that_is_left(training):
    with held(training):
        found = live(training)
    assert (found.is_running, found.stage, found.epochs) == (True, "train", "8/10")
    # Losses fall to 0.39 in the last epoch, and the score is 1 minus the loss.
    assert (found.label, found.score, found.best) == ("Dice", pytest.approx(0.68), pytest.approx(0.68))
    assert found.left_s == pytest.approx(2 * 60 - 20), "two epochs of the recent length, less what has passed"
    assert found.stage_s == pytest.approx(500) and found.note == ""


def test_a_training_without_a_new_epoch_for_long_is_noted(training):
    with held(training):
        assert live(training, NOW + 100).note == ""
        assert live(training, NOW + 280).note == "no new epoch for 5 min 0 s"


def test_without_its_process_a_stage_that_was_begun_has_stopped(training):
    found = live(training)
    assert (found.is_running, found.stage, found.epochs) == (False, "stopped in train", "8/10")
    assert found.left_s is None and found.stage_s is None


def test_a_refusal_is_named(training):
    (training / "refused.json").write_text(json.dumps({"stage": "submit", "message": "no"}))
    assert live(training).stage == "refused in submit"


def test_a_finished_run_says_so(training):
    training.started("train").unlink()
    mark_stages(training.folder, train=600.0, evaluate=3.0)
    assert live(training).stage == "evaluated"


def test_the_score_is_the_competitions_or_else_dice(training):
    assert live(training, score="miou").label == "mIoU"
    assert live(training, score="boundary_f").label == "Dice"


@pytest.mark.parametrize("name", ["history.csv", "timings.csv", ".stages/train.begun.json"])
@pytest.mark.parametrize("content", ["", "epoch,seconds\n1,", "epoch,seconds\none,two\n", "{", '{"settings": 3}'])
def test_half_a_file_is_no_fault(training, name, content):
    (training / name).write_text(content)
    with held(training):
        assert live(training).is_running or live(training).stage.startswith("cannot be read")


def test_a_run_that_has_only_begun(new_run):
    loaded, _ = new_run("ExpAAB")
    paths = Folders.from_environment().run(loaded.run)
    assert live(paths).stage == "started"
    with held(paths):
        assert (live(paths).stage, live(paths).epochs) == ("checking", "")
    assert live(RunPaths(Path("nowhere"), Path("nowhere"))).stage == "not started"
