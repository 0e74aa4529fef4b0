"""A real training as the board and `./run.sh watch` see it: while it runs, and when it is scored."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from pipeline.engine.chain import run_chain
from pipeline.paths import PROJECT, Folders
from pipeline.report.board import read_board
from pipeline.report.read import read_metrics
from pipeline.stages import STAGES
from tests.tiny import run_of

# In a process of its own: the one that holds a lock would lose it when it asks for it.
ASK = """
import dataclasses, json, sys, time
from pipeline.paths import Folders
from pipeline.report.live import read_live
from pipeline.stages import STAGES
live = read_live(Folders.from_environment().run(sys.argv[1]), STAGES, time.time(), "dice")
print(json.dumps(dataclasses.asdict(live)))
"""


@pytest.mark.slow
def test_a_training_is_followed_from_outside_and_then_on_the_board(workshop, without_drawing):
    loaded, seen = workshop.tiny("SOLVER.NUM_EPOCHS=2", "SOLVER.ANN_EPOCHS=1", "SWEEP.ENABLE=false"), {}

    def log(line: str) -> None:
        if line.split()[:2] == ["epoch", "2/3"] and not seen:
            command = [sys.executable, "-c", ASK, loaded.run]
            seen.update(json.loads(subprocess.run(command, cwd=PROJECT, capture_output=True, check=True).stdout))

    run_chain(run_of(loaded, log), "evaluate")
    assert (seen["is_running"], seen["stage"], seen["num_epochs"]) == (True, "train", 3)
    assert seen["epoch"] in (1, 2) and seen["left_s"] is not None and 0 <= seen["score"] <= seen["best"]
    (own,) = read_board(Folders.from_environment(), STAGES)
    run = own.runs[loaded.run]
    metrics = read_metrics(Folders.from_environment().run(loaded.run).folder)
    assert own.name == "demo" and run.state == "" and run.curve.epochs == (0, 1, 2, 3)
    assert sum(value for _, value in run.images.values()) / len(run.images) == pytest.approx(metrics.mean("dice"))
    (entry,) = [one for root in own.book for one in root.walk() if loaded.run in one.runs]
    assert entry.answer == "nothing to compare with: demo was not run"
