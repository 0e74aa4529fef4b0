"""A study in sessions as on Kaggle: every run is trained once, continues where it was cut, and arrives here."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from pipeline.__main__ import main
from pipeline.config import load as load_module
from pipeline.paths import BEST, LAST, STUDIES, Folders
from tests.notebook.sandbox import PROJECT, can_enter, ended_when, make_image, printed, run_notebook, write_wheels
from tests.submission.loopback import kaggle_at
from tests.tiny import write_competition, write_tiny_study

SLUG = "mine-study"
SHORT, LONG = "short", "long"
SETTINGS = f"{{{SHORT}: [SOLVER.NUM_EPOCHS=1], {LONG}: [SOLVER.NUM_EPOCHS=10, SOLVER.PATIENCE=10]}}"


def write_project(copy: Path, data: Path) -> None:
    """Writes a competition that no session draws, and a study of it, into a copy of the project."""
    for name in ("run.sh", "requirements.txt"):
        shutil.copy(PROJECT / name, copy)
    competitions = copy / "configs" / "competitions"
    shutil.copy(competitions / "demo.yaml", competitions / f"{data.name}.yaml")
    changes = ("SWEEP.ENABLE=false", "RUNTIME.KEEP_STATE=false", "SOLVER.SAVE_MINUTES=0")
    write_tiny_study(copy, data, SETTINGS, *changes, f"DATASETS.COMPETITION={data.name}", seeds="0, 1")
    path = copy / "configs" / "studies" / "mine.yaml"
    study = yaml.safe_load(path.read_text())
    study["SET"] = [word for word in study["SET"] if not word.startswith("DATASETS.DIRECTORY")]
    path.write_text("# Q?\n# ./run.sh study mine\n" + yaml.safe_dump(study))


def type_here(copy: Path, *words: str, **environment: str) -> str:
    """Types a command in the copy of the project; returns what it printed."""
    command = [sys.executable, "-m", "pipeline", *words]
    own = {"env": {**os.environ, **environment}, "capture_output": True, "text": True, "check": False}
    result = subprocess.run(command, cwd=copy, **own)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def weights_of(runs: Path) -> dict[str, bytes]:
    """Returns what each run predicts with, by the run's folder."""
    return {path.parent.name: path.read_bytes() for path in runs.glob(f"*/{BEST}")}


def table_of(path: Path) -> list[dict[str, str]]:
    """Returns the table of a study but for the times."""
    with open(path, newline="") as file:
        return [{name: value for name, value in row.items() if name != "minutes"} for row in csv.DictReader(file)]


@pytest.mark.slow
@pytest.mark.timeout(1800)  # two sessions, each of which imports everything anew
@pytest.mark.skipif(not can_enter(), reason="needs namespaces of Linux (unshare) for a machine like Kaggle's")
def test_a_study_that_a_session_leaves_is_finished_by_the_next_with_the_same_weights_and_fetched(
    project_copy, tmp_path, monkeypatch, capsys
):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")  # two runs at a time, as on two T4s, but on the CPU
    data = write_competition(tmp_path / "tiny_shapes")
    write_project(project_copy, data)
    here = {name: str(tmp_path / "here" / name) for name in ("RUNS_DIR", "SUBMISSIONS_DIR", "SCRATCH_DIR")}
    type_here(project_copy, "study", "mine", DATA_DIR=str(tmp_path), **here)
    weights, table = weights_of(Path(here["RUNS_DIR"])), table_of(Path(here["RUNS_DIR"]) / STUDIES / "mine.csv")
    wheels = write_wheels(tmp_path / "wheels")
    words = ["kaggle", "mine", "--owner", "somebody", "--data", "somebody/my-shapes", "--wheels", str(wheels)]
    folders = Folders.from_environment()
    folder = folders.runs / "notebooks" / SLUG
    inputs = {"datasets/somebody/my-shapes": data, f"datasets/somebody/{SLUG}-files": folder / "dataset"}

    def session(name: str, inputs: Mapping[str, Path], *more: str) -> tuple[str, Path]:
        type_here(project_copy, *words, *more)
        image = make_image(tmp_path / f"image-{name}")
        executed = run_notebook(folder / "kernel" / f"{SLUG}.ipynb", inputs, tmp_path / name, image)
        return printed(executed), tmp_path / name / "working"

    log, finished = tmp_path / "first" / "working" / f"{SLUG}.log", f"{SHORT}, split 0, seed 0: evaluate  done"
    with ended_when(log, finished, b"pipeline\0study\0mine\0--time-limit\0"):
        first, left = session("first", inputs)
    assert finished in first and "on GPU 1" in first and "push it again" in first
    with tarfile.open(left / f"{SLUG}-runs.pack") as pack:
        checkpoints = Counter(Path(name).name for name in pack.getnames() if name.endswith(".ckpt"))
    assert checkpoints[BEST] >= 2 and checkpoints[LAST] >= 1 and set(checkpoints) == {BEST, LAST}
    second, working = session("second", {**inputs, f"notebooks/somebody/{SLUG}": left}, "--continue")
    assert "All runs are finished." in second and f"{LONG}, split 0, seed 0: resuming at epoch" in second
    assert f"{SHORT}, split 0, seed 0: train     up to date" in second
    assert table_of(working / "mine.csv") == table and [row["runs"] for row in table] == ["2", "2"]
    assert {path.name for path in working.iterdir()} == {f"{SLUG}-runs.pack", f"{SLUG}.log", "mine.csv"}

    (tmp_path / "kaggle").mkdir()
    shutil.copytree(working, tmp_path / "kaggle" / "output")
    monkeypatch.setattr(load_module, "CONFIGS", project_copy / "configs")
    with kaggle_at(tmp_path / "kaggle") as server:
        server.write("kernels.json", {f"somebody/{SLUG}": {"version": 2, "status": "COMPLETE"}})
        assert main([*words, "--fetch"]) == 0
    assert "the table of all runs: ./run.sh study mine --table" in capsys.readouterr().out
    assert weights_of(folders.runs) == weights and len(weights) == 4
    assert main(["study", "mine", "--table"]) == 0
    assert table_of(folders.runs / STUDIES / "mine.csv") == table
