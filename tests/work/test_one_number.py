"""With one row per image only class 1 is submitted: training, metrics, `score` and an ensemble say one number."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from pipeline.__main__ import main
from pipeline.config.load import load
from pipeline.errors import UserError
from pipeline.paths import VALID_PROBS
from pipeline.prediction.store import PredictionStore
from pipeline.segmentation.learning import loss_classes, scored_classes
from pipeline.segmentation.predict import decode, unpack
from pipeline.submission.file import write_submission
from tests.experiments import copy_configs, run_all, use, write_ensemble, write_members
from tests.tiny import ROAD, run_paths, write_competition

pytestmark = pytest.mark.slow

COMPETITION = """\
TITLE: Roads
CLASSES: [Ground, Road]
COLORS: [[0, 0, 0], [200, 180, 160]]
IMAGES: imgs/imgs/{id}.jpg
TEST_IMAGES: test/{id}.jpg
MASKS: masks/masks/{id}.png
MASK_VALUES: [0, 255]
TEST_CSV: sample_submission.csv
SAMPLE_SUBMISSION: sample_submission.csv
CONVENTION: {ROWS: id, ORDER: column, BASE: 1, VALUE_COLUMN: rle}
"""
MEMBERS = {"RoadA": 0, "RoadB": 10}


def write_roads(folder: Path) -> Path:
    """The tiny competition as Kaggle would have it: masks of 0 and 255, test images apart, a sample as test list."""
    write_competition(folder)
    for path in sorted((folder / "masks" / "masks").iterdir()):
        cv2.imwrite(str(path), (cv2.imread(str(path), cv2.IMREAD_UNCHANGED) == ROAD).astype(np.uint8) * 255)
    ids = (folder / "test.csv").read_text().split()[1:]
    (folder / "test").mkdir()
    for image_id in ids:
        (folder / "imgs" / "imgs" / f"{image_id}.jpg").rename(folder / "test" / f"{image_id}.jpg")
    (folder / "test.csv").unlink()
    rows = [f"{image_id},1 1" for image_id in ids]
    (folder / "sample_submission.csv").write_text("\n".join(["ImageID,rle", *rows]) + "\n")
    return folder


@pytest.fixture(scope="module")
def done(project, tmp_path_factory):
    """Two members and their ensemble, all stages done; the folder of configs, data, runs and submissions."""
    folder = tmp_path_factory.mktemp("roads")
    (copy_configs(project, folder) / "competitions" / "roads.yaml").write_text(COMPETITION)
    write_roads(folder / "data" / "roads")
    shared = {"DATASETS.COMPETITION": "roads", "DATASETS.SPLIT.BY": "slice", "SWEEP.ENABLE": False}
    shared |= {"SOLVER.PLAN": "constant", "SOLVER.MONITOR": "valid_dice"}
    write_members(
        folder / "configs", shared, {name: {"DATASETS.SPLIT_INDEX": index} for name, index in MEMBERS.items()}
    )
    how, decode = {"METHOD": "WEIGHTED", "WEIGHTS": "fitted"}, {"SUPPRESS": "fitted", "OFFSETS": "fitted"}
    write_ensemble(folder / "configs", "RoadEns", MEMBERS, {"COMPETITION": "roads"}, how, DECODE=decode)
    run_all(folder, (*MEMBERS, "RoadEns"))
    return folder


@pytest.fixture
def roads(done, monkeypatch) -> Path:
    use(monkeypatch, done)
    return done


def metrics_of(name: str) -> dict:
    return json.loads((run_paths(name) / "metrics.json").read_text())


def dice_of(name: str) -> float:
    return metrics_of(name)["scores"]["dice"]["mean"]


def test_both_classes_enter_the_loss_and_one_the_score(roads):
    loaded = load("RoadA")
    assert (loss_classes(loaded), scored_classes(loaded)) == ((0, 1), (1,))
    with pytest.raises(UserError, match=r"none of the scored classes of roads \(Road\) is in the list; add one"):
        load("RoadA", ("DATASETS.CLASSES=[Ground]",))


@pytest.mark.parametrize("name", [*MEMBERS, "RoadEns"])
def test_the_headline_is_the_score_of_the_class_that_is_submitted(roads, name):
    metrics = metrics_of(name)
    for score in metrics["scores"].values():
        assert score["mean"] == score["classes"]["Road"]
    assert set(metrics["scores"]) == {"dice", "iou", "miou"}
    assert metrics["scored"] == ["Road"]
    table = pd.read_csv(run_paths(name) / "per_image.csv")
    assert table["dice"].tolist() == table["dice_Road"].tolist() and table["dice"].mean() == pytest.approx(
        metrics["scores"]["dice"]["mean"], abs=1e-6
    )
    assert (metrics["majority"]["class"], metrics["majority"]["scores"]["dice"]) == (
        "Ground",
        0.0,
    )  # every image has a road
    origin = json.loads(run_paths(name).submission(".json").read_text())
    assert (origin["local_score"], origin["competition"]) == (metrics["scores"]["dice"]["mean"], "roads")


def test_the_monitor_is_that_number_too(roads):
    history = pd.read_csv(run_paths("RoadA") / "history.csv")
    assert history["valid_dice"].tolist() == history["valid_dice_Road"].tolist()
    best = history[history["is_best"] == 1].iloc[-1]
    assert best["valid_dice"] == pytest.approx(dice_of("RoadA"), abs=1e-3)  # stored as bytes since


def test_score_says_the_same_of_the_same_masks(roads, tmp_path, capsys):
    store = PredictionStore(run_paths("RoadA") / VALID_PROBS, unpack)
    ids = list(store)
    masks = [(image_id, decode(store[image_id])) for image_id in ids]
    sizes = {image_id: mask.shape for image_id, mask in masks}
    path = tmp_path / "valid.csv"
    write_submission(path, masks, ids, load("RoadA").competition, {}, sizes)
    assert main(["score", str(path), "--masks", str(roads / "data" / "roads" / "masks" / "masks")]) == 0
    captured = capsys.readouterr()
    found, metrics = json.loads(captured.out)["scores"], metrics_of("RoadA")
    assert found["dice"]["mean"] == pytest.approx(dice_of("RoadA"))
    assert found["dice"]["classes"] == {"Road": pytest.approx(dice_of("RoadA"))}
    assert found["iou"]["mean"] == pytest.approx(metrics["scores"]["iou"]["mean"])
    assert f"{12 - len(ids)} of the 12 masks" in captured.err


def test_an_ensemble_scores_its_members_and_methods_by_it(roads):
    found = json.loads((run_paths("RoadEns") / "ensemble.json").read_text())
    assert found["methods"]["WEIGHTED"]["score"]["mean"] == pytest.approx(dice_of("RoadEns"))
    for member, name in zip(found["members"], MEMBERS, strict=True):
        assert member["score"]["mean"] == pytest.approx(dice_of(name))
    decoding = run_paths("RoadEns") / "decode.json"
    if decoding.is_file():  # a class that is not submitted is not dropped
        assert "Ground" not in json.loads(decoding.read_text()).get("in_sample", {})


def test_a_submission_shows_the_road_alone_when_two_are_compared(roads, capsys):
    first, second = (str(run_paths(name).submission(".csv")) for name in MEMBERS)
    assert main(["diff", first, second]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "of 4 images differ" in lines[0]
    assert all("Ground" not in line for line in lines)
