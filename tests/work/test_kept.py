"""What a finished run keeps of its checkpoints, and what it says of them before it trains."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.engine import api
from pipeline.paths import BEST, CANDIDATES, CHECKPOINTS, CHOSEN, LAST, METRICS, PROJECT, Folders, RunPaths
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.learner import validated_weights
from tests.tiny import draw_nothing, executed, overrides, write_competition

UNITS = {"KiB": 1024, "MiB": 1024**2}
SHORT = ("SWEEP.ENABLE=false", "SOLVER.NUM_EPOCHS=3", "SOLVER.ANN_EPOCHS=1")
LEAN = "RUNTIME.KEEP_STATE=false"


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    draw_nothing(monkeypatch)


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    return write_competition(tmp_path_factory.mktemp("competition") / "data")


def run(data: Path, runs: Path, *changes: str, last: str = "evaluate") -> tuple[RunPaths, list[str]]:
    lines: list[str] = []
    own = Folders.from_environment()
    folders = Folders(runs, own.submissions, own.scratch, own.data, own.weights)
    return api.run("demo", overrides(data, *SHORT, *changes), last, folders, lines.append).paths, lines


def checkpoints(paths: RunPaths) -> list[str]:
    return sorted(path.name for path in paths.folder.glob(CHECKPOINTS))


def announced(lines: list[str]) -> tuple[float, float]:
    """Returns the bytes during training and afterwards, of the line that a run logs."""
    (line,) = [line for line in lines if line.startswith("checkpoints: ")]
    found = re.fullmatch(r"checkpoints: at most ([\d.]+) (\w+) in \S+ during training, ([\d.]+) (\w+) afterwards", line)
    return float(found[1]) * UNITS[found[2]], float(found[3]) * UNITS[found[4]]


@pytest.mark.parametrize("change", ["SOLVER.EMA_DECAY=null", "SOLVER.EMA_DECAY=0.9"])
def test_a_finished_run_keeps_its_best_weights_alone_and_scores_as_with_everything(data, tmp_path, change):
    whole, lines = run(data, tmp_path / "whole", "RUNTIME.KEEP_STATE=true", change)
    lean, lean_lines = run(data, tmp_path / "lean", LEAN, change)
    assert {"best.ckpt", "last.ckpt", "previous-last.ckpt"} <= set(checkpoints(whole))
    assert checkpoints(lean) == ["best.ckpt"]
    kept, full = load_checkpoint(lean / BEST), load_checkpoint(whole / BEST)
    assert not {"optimizer", "scaler", "sums"} & set(kept) and kept["ema"] is None
    weights = validated_weights(full)
    assert all(torch.equal(kept["network"][name], weights[name]) for name in weights)
    scores = [json.loads((paths / METRICS).read_text())["scores"] for paths in (lean, whole)]
    assert scores[0] == scores[1]
    peak, after = announced(lean_lines)
    size = (whole / LAST).stat().st_size
    assert 5 * size * 0.8 < peak < 5 * size * 1.1  # besides the weights a checkpoint has names and history
    assert (lean / BEST).stat().st_size * 0.7 < after < (lean / BEST).stat().st_size
    assert announced(lines) == (peak, pytest.approx(0.8 * peak, rel=0.01))


def test_kept_epochs_are_announced_too(data, tmp_path):
    paths, lines = run(data, tmp_path, LEAN, "AVERAGE.METHOD=swa", "AVERAGE.COUNT=2", last="average")
    weights = announced(run(data, tmp_path / "plain", LEAN, last="train")[1])[1]
    assert announced(lines)[1] == pytest.approx(5 * weights, rel=0.03)  # best, chosen, three epochs
    assert checkpoints(paths) == [BEST, CHOSEN] and len(list((paths / CANDIDATES).glob(CHECKPOINTS))) == 3


def test_a_longer_plan_continues_only_where_the_state_was_kept(data, tmp_path):
    final = {}
    for keep in ("true", "false"):
        changes = (f"RUNTIME.KEEP_STATE={keep}", "SOLVER.PLAN=constant", "SOLVER.NUM_EPOCHS=2")
        paths, _ = run(data, tmp_path / keep, *changes, last="train")
        # As if the config had been edited: another value on the command line is another run.
        longer = (*changes[:2], "SOLVER.NUM_EPOCHS=3")
        name = api.open_run("demo", overrides(data, *SHORT, *longer)).name
        paths.folder.rename(paths.folder.with_name(name))
        paths, lines = run(data, tmp_path / keep, *longer, last="train")
        assert any(line.startswith("resuming at epoch 2") for line in lines) == (keep == "true")
        final[keep] = load_checkpoint(paths / BEST)
        assert executed(lines) == ["train"]
    assert all(torch.equal(final["true"]["network"][key], value) for key, value in final["false"]["network"].items())


# Ends processes by SIGKILL before the Nth of: writing the lean checkpoint, going on after that, each removal. They are
# forked from one that has loaded the packages: each prints its exit code and its output.
KILLING = """
import json, os, pathlib, signal, sys
from functools import partial
from tests.long.processes import load_packages, run_to_end
from pipeline.training import kept
def install(number):
    left = [number]
    def count():
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
    save, unlink = kept.save_checkpoint, pathlib.Path.unlink
    def counted_save(*arguments):
        count()
        save(*arguments)
        count()
    def counted_unlink(path, **options):
        if path.name in ("previous-best.ckpt", "previous-last.ckpt", "last.ckpt"):
            count()
        unlink(path, **options)
    kept.save_checkpoint, pathlib.Path.unlink = counted_save, counted_unlink
load_packages()
for number in json.loads(sys.argv[1]):
    print(json.dumps(run_to_end(pathlib.Path(sys.argv[2]), ["train", *sys.argv[3:]], partial(install, number))))
"""


@pytest.mark.slow
def test_a_kill_at_any_moment_of_the_removal_costs_nothing(data, tmp_path):
    expected, _ = run(data, tmp_path / "whole", LEAN, last="train")
    numbers = "[1, 2, 3, 1, 1, 99]"  # the third start writes again what the second wrote, then removes
    command = [sys.executable, "-c", KILLING, numbers, str(tmp_path / "killed"), *overrides(data, *SHORT, LEAN)]
    done = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    outputs = [json.loads(line) for line in done.stdout.splitlines()]
    assert [code for code, _ in outputs] == [-signal.SIGKILL] * 5 + [0], outputs
    assert "epoch   1" in outputs[0][1] and not any("epoch   1" in output for _, output in outputs[1:])
    (killed,) = (RunPaths(path, tmp_path) for path in (tmp_path / "killed/runs").glob("demo*"))
    assert checkpoints(killed) == ["best.ckpt"]
    assert (killed / BEST).read_bytes() == (expected / BEST).read_bytes()
