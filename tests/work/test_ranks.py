"""A training on two ranks through the chain: the result of one process, an orderly stop, and a rank that is killed."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.paths import BEST, HISTORY, LAST, STEPS
from pipeline.report.read import read_columns
from pipeline.training.checkpoint import load_checkpoint
from tests.long.ranks import are_gone, ranks_of
from tests.tiny import draw_nothing, overrides, run_paths, run_stages

COMMON = ("DATALOADERS.TRAIN.BATCH_SIZE=4", "SWEEP.ENABLE=false", "RUNTIME.LOG_STEPS=1", "SOLVER.NUM_EPOCHS=2")
ENDLESS = (*COMMON, "SOLVER.NUM_EPOCHS=400", "SOLVER.PATIENCE=400")
GIVE_UP_S = 120
END_S = 60


def test_two_ranks_end_with_the_result_of_one_process(workshop, monkeypatch):
    draw_nothing(monkeypatch)
    monkeypatch.setenv("RUNS_DIR", str(workshop.runs.parent / "one"))
    alone = run_stages(workshop.tiny(*COMMON), "train")[0]
    monkeypatch.setenv("RUNS_DIR", str(workshop.runs.parent / "two"))
    together, lines = run_stages(workshop.tiny(*COMMON, "RUNTIME.RANKS=2"), "train")
    assert together.name == alone.name  # the number of ranks belongs to the machine
    assert "2 ranks, each on the CPU, float32" in lines
    assert {path.name for path in together.folder.iterdir()} == {path.name for path in alone.folder.iterdir()}
    for name in (HISTORY, STEPS):
        expected, found = read_columns(alone / name), read_columns(together / name)
        assert found["epoch"] == expected["epoch"]
        for column in ("train_loss", "valid_loss", "valid_dice", "valid_miou", "train_dice", "loss", "loss_dice"):
            if column in expected:
                values = [float(value or 0) for value in expected[column]]
                assert [float(value or 0) for value in found[column]] == pytest.approx(values, abs=5e-3), column
    weights = {name: load_checkpoint(paths / BEST)["network"] for name, paths in (("one", alone), ("two", together))}
    differences = {key: float((value - weights["two"][key]).abs().max()) for key, value in weights["one"].items()}
    assert max(differences.values()) < 0.05 and weights["one"].keys() == weights["two"].keys()


def start(data: Path, *changes: str) -> subprocess.Popen:
    command = [sys.executable, "-u", "-m", "pipeline", "demo", "train", *overrides(data, *changes)]
    return subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
    )


def read_until(process: subprocess.Popen, pattern: str) -> str:
    """Returns what a process has printed up to a line that has the pattern."""
    lines: list[str] = []
    for line in process.stdout:
        lines.append(line)
        if re.search(pattern, line):
            return "".join(lines)
    raise AssertionError(f"no line with {pattern}:\n{''.join(lines)}")


@pytest.mark.slow
@pytest.mark.parametrize("to_group", [False, True])
def test_a_request_to_stop_saves_and_ends_all_ranks(workshop, to_group):
    loaded = workshop.tiny(*ENDLESS, "RUNTIME.RANKS=2")
    with start(workshop.data, *ENDLESS, "RUNTIME.RANKS=2") as process:
        read_until(process, "epoch   2/")
        ranks = ranks_of(process.pid)
        (os.killpg if to_group else os.kill)(process.pid, signal.SIGTERM)
        rest = process.communicate(timeout=GIVE_UP_S)[0]
    assert process.returncode == 3 and "Traceback" not in rest
    (line,) = re.findall(r"^stopped: (.*)$", rest, re.MULTILINE)
    where = re.fullmatch(r"asked to end \(SIGTERM\); saved at epoch (\d+), step (\d+); to continue, .*", line)
    state = load_checkpoint(run_paths(loaded.run) / LAST)["state"]
    assert (state["epoch"], state["step"]) == (int(where[1]), int(where[2]))
    assert len(ranks) == 2 and are_gone(ranks, 5)


@pytest.mark.slow
@pytest.mark.parametrize("victim", [0, 1])
def test_a_killed_rank_ends_all_and_leaves_what_can_be_continued(workshop, victim):
    loaded = workshop.tiny(*ENDLESS, "RUNTIME.RANKS=2")
    with start(workshop.data, *ENDLESS, "RUNTIME.RANKS=2") as process:
        read_until(process, "epoch   2/")
        ranks, begun = ranks_of(process.pid), time.monotonic()
        os.kill(ranks[victim], signal.SIGKILL)
        rest = process.communicate(timeout=GIVE_UP_S)[0]
    assert time.monotonic() - begun < END_S and are_gone(ranks, 5)
    assert process.returncode == 3 and "Traceback" not in rest
    assert f"stopped: rank {victim} was killed by SIGKILL; most often the machine ran out of memory" in rest
    assert load_checkpoint(run_paths(loaded.run) / LAST)["state"]["epoch"] >= 1
