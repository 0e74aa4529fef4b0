"""A competition scored by the masks themselves: training, metrics, `score` and an ensemble say one number."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from pipeline.__main__ import main
from pipeline.config.load import load
from pipeline.errors import UserError
from pipeline.paths import VALID_PROBS
from pipeline.prediction.store import PredictionStore
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.predict import decode, unpack
from pipeline.segmentation.volume_scores import Volumes
from pipeline.submission.file import write_submission
from tests.experiments import copy_configs, run_all, use, write_ensemble, write_members
from tests.tiny import draw_nothing, run_paths, run_stages, write_competition

pytestmark = pytest.mark.slow

MEMBERS = {"EdgeA": 0, "EdgeB": 10}


@pytest.fixture(scope="module")
def done(project, tmp_path_factory) -> Path:
    """Two members and their ensemble, all stages done, of a competition that is scored by its boundaries."""
    folder = tmp_path_factory.mktemp("edges")
    competitions = copy_configs(project, folder) / "competitions"
    text = (competitions / "demo.yaml").read_text()
    own = "SCORE: surface_dice\nSCORE_OPTIONS: {TOLERANCE: 3}\n"
    (competitions / "edges.yaml").write_text(f"{text}\n{own}")
    write_competition(folder / "data" / "edges")
    shared = {"DATASETS.COMPETITION": "edges", "DATASETS.SPLIT.BY": "slice", "SWEEP.ENABLE": False}
    shared |= {"SOLVER.PLAN": "constant", "SOLVER.NUM_EPOCHS": 6, "SOLVER.MAX_LR": 0.01}
    shared |= {"SOLVER.OPTIMIZER.NAME": "AdamW"}
    shared["SOLVER.MONITOR"] = "valid_surface_dice"
    write_members(
        folder / "configs", shared, {name: {"DATASETS.SPLIT_INDEX": index} for name, index in MEMBERS.items()}
    )
    how, decode = {"METHOD": "WEIGHTED", "WEIGHTS": "fitted"}, {"SUPPRESS": "fitted", "OFFSETS": "fitted"}
    write_ensemble(folder / "configs", "EdgeEns", MEMBERS, {"COMPETITION": "edges"}, how, DECODE=decode)
    run_all(folder, (*MEMBERS, "EdgeEns"))
    return folder


@pytest.fixture
def edges(done, monkeypatch) -> Path:
    use(monkeypatch, done)
    return done


def metrics_of(name: str) -> dict:
    return json.loads((run_paths(name) / "metrics.json").read_text())


def mean_of(name: str) -> float:
    return metrics_of(name)["scores"]["surface_dice"]["mean"]


@pytest.mark.parametrize("name", [*MEMBERS, "EdgeEns"])
def test_it_is_the_headline_beside_the_three_that_are_always_there(edges, name):
    metrics, table = metrics_of(name), pd.read_csv(run_paths(name) / "per_image.csv")
    assert metrics["score"] == "surface_dice"
    assert list(metrics["scores"]) == ["dice", "iou", "miou", "surface_dice"] == list(metrics["majority"]["scores"])
    assert table["surface_dice"].mean() == pytest.approx(mean_of(name), abs=1e-5)
    assert not table["surface_dice"].equals(table["dice"])
    assert json.loads(run_paths(name).submission(".json").read_text())["local_score"] == mean_of(name)
    assert "surface Dice" in (run_paths(name) / "report.html").read_text()


def test_the_monitor_is_that_number_too(edges):
    history = pd.read_csv(run_paths("EdgeA") / "history.csv")
    best = history[history["is_best"] == 1].iloc[-1]
    assert best["valid_surface_dice"] == history["valid_surface_dice"][1:].max()  # not of the untrained network
    assert best["valid_surface_dice"] == pytest.approx(mean_of("EdgeA"), abs=2e-3)  # stored as bytes since


def test_score_says_the_same_of_the_same_masks(edges, tmp_path, capsys):
    store = PredictionStore(run_paths("EdgeA") / VALID_PROBS, unpack)
    masks = [(image_id, decode(store[image_id])) for image_id in store]
    sizes = {image_id: mask.shape for image_id, mask in masks}
    path, competition = tmp_path / "valid.csv", load("EdgeA").competition
    write_submission(path, masks, list(store), competition, {}, sizes)
    folder = edges / "data" / "edges" / "masks" / "masks"
    assert main(["score", str(path), "--masks", str(folder), "--competition", "edges"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["surface_dice"]["mean"] == pytest.approx(mean_of("EdgeA"))


def test_an_ensemble_compares_its_methods_and_members_by_it(edges):
    found = json.loads((run_paths("EdgeEns") / "ensemble.json").read_text())
    assert found["score"] == "surface_dice"
    assert found["methods"][found["method"]]["score"]["mean"] == pytest.approx(mean_of("EdgeEns"))
    for member, name in zip(found["members"], MEMBERS, strict=True):
        assert member["score"]["mean"] == pytest.approx(mean_of(name))


def test_another_tolerance_makes_the_training_that_it_steers_stale(edges, monkeypatch):
    from pipeline.engine.dependence import settings_of
    from pipeline.stages import STAGES
    from tests.tiny import run_of

    train = next(stage for stage in STAGES if stage.name == "train")
    watched, other = (run_of(load("EdgeA", changes)) for changes in ((), ("SOLVER.MONITOR=valid_dice",)))
    assert settings_of(train, watched)["COMPETITION.SCORE_OPTIONS.TOLERANCE"] == 3
    assert not [key for key in settings_of(train, other) if key.startswith("COMPETITION.SCORE")]


@pytest.fixture(scope="module")
def volumes(done) -> Path:
    """The same, scored by volumes: the frames of a flight are their slices."""
    text = (done / "configs" / "competitions" / "demo.yaml").read_text()
    (done / "configs" / "competitions" / "slices.yaml").write_text(f"{text}\nSCORE: uw_madison\n")
    shutil.copytree(done / "data" / "edges", done / "data" / "slices")
    base = yaml.safe_load((done / "configs" / "EdgeA.yaml").read_text())
    base["SOLVER"] |= {"MONITOR": "valid_hausdorff_dice", "NUM_EPOCHS": 8}
    base["DATASETS"] |= {"COMPETITION": "slices", "SPLIT": {"BY": "sequence"}}
    for name, index in {"CutA": 0, "CutB": 1}.items():
        base["DATASETS"]["SPLIT_INDEX"], base["EXPERIMENT"]["PREFIX"] = index, name
        (done / "configs" / f"{name}.yaml").write_text(f"# Whole? ./run.sh {name}\n{yaml.safe_dump(base)}")
    tree = {"DATASETS": {"COMPETITION": "slices"}, "ENSEMBLE": {"MEMBERS": ["CutA", "CutB"]}}
    (done / "configs" / "CutEns.yaml").write_text(f"# Both? ./run.sh CutEns\n{yaml.safe_dump(tree)}")
    with pytest.MonkeyPatch.context() as patch:
        use(patch, done)
        draw_nothing(patch)
        for name in ("CutA", "CutB", "CutEns"):
            run_stages(load(name))
    return done


@pytest.mark.parametrize("name", ["CutA", "CutEns"])
def test_a_score_of_volumes_is_that_of_whole_sequences_and_is_the_headline(volumes, monkeypatch, name):
    use(monkeypatch, volumes)
    metrics, table = metrics_of(name), pd.read_csv(run_paths(name) / "per_image.csv")
    assert metrics["score"] == "uw_madison"
    assert list(metrics["scores"]) == ["dice", "iou", "miou", "hausdorff_dice", "uw_madison"]
    assert "uw_madison" not in table and "hausdorff_dice" in table
    page = (run_paths(name) / "report.html").read_text()
    assert "Dice and 3D Hausdorff" in page and "volumes are scored without" not in page
    competition = load(name).competition
    if name == "CutA":
        store, masks = (
            PredictionStore(run_paths(name) / VALID_PROBS, unpack),
            volumes / "data" / "slices" / "masks/masks",
        )
        found = Volumes(("uw_madison",), competition.num_classes, competition.scored_indices)
        for image_id in store:
            found.add(image_id[:6], image_id, decode(store[image_id]), read_mask(masks / f"{image_id}.png"))
        mean = float(np.nanmean(found.scores()["uw_madison"]))
        assert metrics["scores"]["uw_madison"]["mean"] == pytest.approx(mean)


def test_training_has_the_score_of_single_images_and_cannot_watch_that_of_volumes(volumes, monkeypatch):
    use(monkeypatch, volumes)
    history = pd.read_csv(run_paths("CutA") / "history.csv")
    assert "valid_hausdorff_dice" in history and "valid_uw_madison" not in history
    with pytest.raises(UserError, match=r"uw_madison needs whole volumes.*set valid_hausdorff_dice"):
        load("CutA", ("SOLVER.MONITOR=valid_uw_madison",))


def test_score_gives_the_score_of_volumes_of_a_file(volumes, monkeypatch, tmp_path, capsys):
    use(monkeypatch, volumes)
    store, competition = PredictionStore(run_paths("CutA") / VALID_PROBS, unpack), load("CutA").competition
    masks = [(image_id, decode(store[image_id])) for image_id in store]
    path = tmp_path / "valid.csv"
    write_submission(path, masks, list(store), competition, {}, {image_id: mask.shape for image_id, mask in masks})
    folder = volumes / "data" / "slices" / "masks" / "masks"
    assert main(["score", str(path), "--masks", str(folder), "--competition", "slices"]) == 0
    mean = json.loads(capsys.readouterr().out)["scores"]["uw_madison"]["mean"]
    assert mean == pytest.approx(metrics_of("CutA")["scores"]["uw_madison"]["mean"])


def test_volumes_that_a_split_cuts_are_counted(volumes, monkeypatch):
    use(monkeypatch, volumes)
    draw_nothing(monkeypatch)
    _, lines = run_stages(load("CutA", ("DATASETS.SPLIT.BY=slice", "SOLVER.NUM_EPOCHS=1")), "evaluate")
    assert any("volumes are scored without some of their slices; DATASETS.SPLIT.BY=sequence" in line for line in lines)
