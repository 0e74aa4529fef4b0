"""A hidden test set: predicted and submitted by a trained run, without any training image or label on the machine."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

from pipeline.config.load import load
from pipeline.errors import UserError
from pipeline.paths import REPORT, SUBMISSION, TEST_CATALOG, TEST_PROBS
from pipeline.prediction.store import PredictionStore
from pipeline.segmentation.predict import unpack
from tests.experiments import copy_configs, run_all, use_copy, write_ensemble, write_members
from tests.tiny import executed, run_paths, run_stages, write_competition, write_hidden

pytestmark = pytest.mark.slow

MEMBERS = {"TinyA": 0, "TinyB": 10}
HIDDEN = ("000001_001", "000009_001", "000009_002")  # the first is a training image's id


def write_configs(folder: Path, competition: Path) -> None:
    """Two members and their ensemble."""
    shared = {"DATASETS.DIRECTORY": str(competition), "DATASETS.SPLIT.BY": "slice", "SWEEP.ENABLE": False}
    shared |= {"SOLVER.PLAN": "constant", "DATALOADERS.TRAIN.BATCH_SIZE": 4}
    write_members(folder, shared, MEMBERS)
    write_ensemble(folder, "TinyEns", MEMBERS, {"COMPETITION": "demo", "DIRECTORY": str(competition)})


@pytest.fixture(scope="module")
def trained(project, tmp_path_factory) -> Path:
    """The folder of configs and of finished runs, and no competition any more."""
    folder = tmp_path_factory.mktemp("trained")
    write_configs(copy_configs(project, folder), write_competition(folder / "data"))
    run_all(folder, (*MEMBERS, "TinyEns"), "evaluate")
    shutil.rmtree(folder / "data")
    shutil.rmtree(folder / "scratch")
    return folder


@pytest.fixture(autouse=True)
def runs(trained, tmp_path, monkeypatch) -> None:
    """This test's own copy of the finished runs."""
    use_copy(monkeypatch, trained, tmp_path)


@pytest.fixture
def hidden(tmp_path) -> Path:
    """A folder of three images and nothing else."""
    return write_hidden(tmp_path / "hidden", HIDDEN)


def check_submission(name: str, ids: tuple[str, ...]) -> None:
    paths = run_paths(name)
    assert pd.read_csv(paths / TEST_CATALOG, dtype=str)["id"].tolist() == list(ids)
    table = pd.read_csv(paths.submission(".csv"), dtype=str)
    assert table["ImageID"].tolist() == [f"{image_id}_{index}" for image_id in ids for index in range(12)]
    assert json.loads((paths / SUBMISSION).read_text())["checked"]


@pytest.mark.parametrize("name", MEMBERS)
def test_a_trained_run_predicts_and_submits_images_that_it_never_saw_listed(hidden, name):
    loaded = load(name, (f"DATASETS.TEST_DIRECTORY={hidden}",))
    _, lines = run_stages(loaded)
    assert executed(lines) == ["testset", "predict", "submit", "report"]
    reused = [line.split()[0] for line in lines if " reused from " in line]
    assert reused == ["prepare", "tile", "train", "evaluate"]
    check_submission(loaded.run, HIDDEN)
    assert set(PredictionStore(run_paths(loaded.run) / TEST_PROBS, unpack)) == set(HIDDEN)
    assert (run_paths(loaded.run) / REPORT).is_file()
    assert executed(run_stages(loaded)[1]) == []


def test_other_images_are_predicted_anew_and_the_same_ones_elsewhere_are_not(hidden, tmp_path):
    loaded = load("TinyA", (f"DATASETS.TEST_DIRECTORY={hidden}",))
    run_stages(loaded, "submit")
    (hidden / "000009_001.jpg").unlink()
    assert executed(run_stages(loaded, "submit")[1]) == ["testset", "predict", "submit"]
    check_submission(loaded.run, (HIDDEN[0], HIDDEN[2]))
    moved = load("TinyA", (f"DATASETS.TEST_DIRECTORY={hidden.rename(tmp_path / 'moved')}",))
    _, lines = run_stages(moved, "submit")
    assert executed(lines) == ["testset", "submit"]  # the predictions are those of the sibling run
    check_submission(moved.run, (HIDDEN[0], HIDDEN[2]))


def test_a_list_beside_the_images_decides_which_and_in_which_order(hidden):
    (hidden / "imgs" / "imgs").mkdir(parents=True)
    for path in sorted(hidden.glob("*.jpg")):
        path.rename(hidden / "imgs" / "imgs" / path.name)
    (hidden / "test.csv").write_text(f"ImageID\n{HIDDEN[2]}\n{HIDDEN[0]}\n")
    loaded = load("TinyA", (f"DATASETS.TEST_DIRECTORY={hidden}",))
    run_stages(loaded, "submit")
    check_submission(loaded.run, (HIDDEN[2], HIDDEN[0]))


def test_a_sample_beside_the_images_is_held_to_them(hidden):
    loaded = load("TinyA", (f"DATASETS.TEST_DIRECTORY={hidden}",))
    rows = [f"{image_id}_{index}," for image_id in HIDDEN for index in range(12)]
    (hidden / "sample_submission.csv").write_text("\n".join(["ImageID,EncodedPixels", *rows[:-1]]) + "\n")
    with pytest.raises(UserError, match=r"sample row missing[\s\S]*000009_002: no row for class 11"):
        run_stages(loaded, "submit")
    (hidden / "sample_submission.csv").write_text("\n".join(["ImageID,EncodedPixels", *rows]) + "\n")
    run_stages(loaded, "submit")
    check_submission(loaded.run, HIDDEN)


def test_a_folder_without_images_or_none_at_all_is_refused(hidden, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError) as refusal:
        run_stages(load("TinyA", (f"DATASETS.TEST_DIRECTORY={tmp_path / 'empty'}",)), "submit")
    message = " ".join(str(refusal.value).split())
    assert "empty cannot be used as it is:" in message and "no test.csv, and no file that ends with .jpg" in message
    assert "name the folder that holds the test images" in message
    with pytest.raises(UserError, match=r"DATASETS\.TEST_DIRECTORY: there is no folder .*nowhere"):
        run_stages(load("TinyA", (f"DATASETS.TEST_DIRECTORY={tmp_path / 'nowhere'}",)), "submit")


@pytest.mark.parametrize("stream", ["false", "true"])
def test_an_ensemble_predicts_and_submits_a_hidden_test_set(hidden, stream):
    loaded = load("TinyEns", (f"DATASETS.TEST_DIRECTORY={hidden}", f"ENSEMBLE.STREAM={stream}"))
    _, lines = run_stages(loaded)
    assert executed(lines) == ["predict", "submit", "report"]
    assert any(line.startswith("evaluate  reused from ") for line in lines)  # which needs labels
    check_submission(loaded.run, HIDDEN)
    assert executed(run_stages(loaded)[1]) == []
