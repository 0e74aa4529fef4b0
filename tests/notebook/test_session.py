"""Notebooks executed as on Kaggle: a training over two sessions, and inference bundles on images never seen."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.config import load as load_module
from pipeline.config.load import load
from tests.experiments import write_ensemble, write_members
from tests.notebook.sandbox import LACKING, can_enter, ended_when, make_image, printed, run_notebook, write_wheels
from tests.tiny import draw, overrides, run_paths, run_stages, tiny, write_competition

PROJECT = Path(__file__).resolve().parents[2]
pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),  # several sessions, each of which imports everything anew
    pytest.mark.skipif(not can_enter(), reason="needs namespaces of Linux (unshare) for a machine like Kaggle's"),
]
TOO_OLD = "matplotlib"  # of which Kaggle's image has had a version older than ours
CHANGES = ("SOLVER.NUM_EPOCHS=20", "SOLVER.PATIENCE=20", "SWEEP.ENABLE=false", "SOLVER.SAVE_MINUTES=0")


@pytest.fixture(scope="module")
def wheels(tmp_path_factory) -> Path:
    return write_wheels(tmp_path_factory.mktemp("packages") / "wheels", (*LACKING, TOO_OLD))


def type_command(*words: str, folder: Path = PROJECT) -> str:
    """Types `./run.sh kaggle ...` in a process of its own; returns what it printed."""
    command = [sys.executable, "-m", "pipeline", "kaggle", *words, "--owner", "somebody"]
    result = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    return result.stdout


def typed(data: Path) -> list[str]:
    """Returns the overrides of the tiny config; where the competition is, the notebook finds out by itself."""
    return [word for word in overrides(data, *CHANGES) if not word.startswith("DATASETS.DIRECTORY")]


def test_a_training_that_a_session_leaves_is_finished_by_the_next_with_the_same_submission(
    tmp_path, wheels, without_drawing
):
    data = write_competition(tmp_path / "demo")
    loaded = tiny(data, *CHANGES)
    paths, _ = run_stages(loaded)
    folder = Path(os.environ["RUNS_DIR"]) / "notebooks" / f"{loaded.run}-train".lower()
    slug, words = folder.name, ["demo", *typed(data), "--data", "somebody/demo", "--wheels", str(wheels)]
    inputs = {"datasets/somebody/demo": data, f"datasets/somebody/{slug}-files": folder / "dataset"}

    def session(name: str, inputs: Mapping[str, Path], *more: str) -> tuple[str, Path]:
        type_command(*words, *more)
        notebook, image = folder / "kernel" / f"{slug}.ipynb", make_image(tmp_path / f"image-{name}")
        return printed(run_notebook(notebook, inputs, tmp_path / name, image)), tmp_path / name / "working"

    with ended_when(tmp_path / "first" / "working" / f"{slug}.log", "epoch   5/", b"pipeline\0demo\0"):
        first, left = session("first", inputs)
    assert "push it again" in first and not (left / "submission.csv").exists()
    last, working = session("last", {**inputs, f"notebooks/somebody/{slug}": left}, "--continue")
    assert "Continues from /kaggle/input/notebooks" in last and "resuming at epoch" in last
    assert "The run is finished." in last
    assert (working / "submission.csv").read_bytes() == paths.submission(".csv").read_bytes()
    facts = json.loads((folder / "kernel/kernel-metadata.json").read_text())
    assert facts["kernel_sources"] == [f"somebody/{slug}"] and facts["enable_internet"] is False


def hidden_folder(folder: Path, count: int) -> Path:
    """Draws the test images of a code competition, which are below `test/`."""
    rng = np.random.default_rng(3)
    (folder / "test").mkdir(parents=True)
    for number in range(count):
        cv2.imwrite(str(folder / f"test/000009_{number:03d}.jpg"), cv2.cvtColor(draw(rng)[0], cv2.COLOR_RGB2BGR))
    return folder


@pytest.fixture
def trained(project_copy, tmp_path, monkeypatch, without_drawing) -> Path:
    """A copy of the project with an ensemble of two finished runs; returns the folder of their competition."""
    data, configs = write_competition(tmp_path / "demo"), project_copy / "configs"
    for name in ("run.sh", "requirements.txt"):
        shutil.copy(PROJECT / name, project_copy)
    shared = {"DATASETS.DIRECTORY": str(data), "DATASETS.SPLIT.BY": "slice", "SWEEP.ENABLE": False}
    write_members(configs, shared | {"SOLVER.PLAN": "constant"}, {"TinyA": 0, "TinyB": 10})
    write_ensemble(configs, "TinyEns", ["TinyA", "TinyB"], {"COMPETITION": "demo", "DIRECTORY": str(data)})
    monkeypatch.setattr(load_module, "CONFIGS", configs)
    for name in ("TinyA", "TinyB", "TinyEns"):
        run_stages(load(name), "evaluate")
    return data


def test_a_bundle_of_an_ensemble_predicts_images_it_never_saw_as_the_ensemble_here_does(
    trained, project_copy, tmp_path, wheels
):
    hidden = hidden_folder(tmp_path / "code-competition", 6)
    loaded = load("TinyEns", (f"DATASETS.TEST_DIRECTORY={hidden / 'test'}",))
    run_stages(loaded, "submit")
    words = ["--predict", "--test-dir", "code-competition/test", "--wheels", str(wheels), "--time-limit", "1h"]
    type_command("TinyEns", *words, folder=project_copy)
    folder = Path(os.environ["RUNS_DIR"]) / "notebooks" / "tinyens-predict"
    with tarfile.open(folder / "dataset" / "tinyens-predict.pack") as pack:
        names = {name for name in pack.getnames() if not name.startswith(("project/", "wheels/"))}
    assert {"runs/TinyA.bundle/best.ckpt", "runs/TinyB.bundle/best.ckpt", "runs/TinyEns.bundle/ensemble.json"} < names
    assert {Path(name).suffix for name in names} == {".ckpt", ".json", ".csv"}
    assert not [name for name in names if name.endswith(("catalog_train.csv", "split.csv"))]
    shutil.rmtree(trained)
    inputs = {"tinyens-predict-files": folder / "dataset", "competitions/code-competition": hidden}
    notebook = folder / "kernel" / "tinyens-predict.ipynb"
    # A package that would have to change: the image stays as it is, and an environment over it has the new one.
    image = make_image(tmp_path / "image", too_old=(TOO_OLD,))
    text = printed(run_notebook(notebook, inputs, tmp_path / "session", image))
    assert "into /tmp/unpacked/project/.venv/bin/python" in text
    assert "time limit: everything fits into" in text and "submission.csv" in text
    wanted = run_paths(loaded.run).submission(".csv").read_bytes()
    assert (tmp_path / "session/working/submission.csv").read_bytes() == wanted
