"""An ensemble from trained members to a checked submission, on a competition so small that members train in seconds."""

from __future__ import annotations

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from pipeline.config import load as load_module
from pipeline.config.component_rules import parse_components
from pipeline.config.load import Loaded, load
from pipeline.engine.chain import run_chain
from pipeline.errors import Stopped, UserError
from pipeline.paths import TEST_PROBS, VALID_PROBS
from pipeline.prediction.store import PredictionStore
from pipeline.report.trained_on import trained_on
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.components import with_components
from pipeline.segmentation.ensemble import Recipe, combine
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.predict import unpack
from pipeline.segmentation.scores import image_scores
from pipeline.segmentation.submission.rle import decode_classes
from tests.experiments import copy_configs, run_all, use_copy, write_ensemble, write_members
from tests.tiny import SIDE, executed, run_of, run_paths, run_stages, write_competition
from tests.training.toy import StopAt

pytestmark = pytest.mark.slow

FITTED = ("DECODE.SUPPRESS=fitted", "DECODE.OFFSETS=fitted")
SPLITS = {"TinyA": 0, "TinyB": 10, "TinyC": 5}  # overlapping slices: an image is judged by one to three of them


def write_configs(folder: Path, competition: Path) -> None:
    """Three members and their ensemble beside the project's own configs."""
    shared = {"DATASETS.DIRECTORY": str(competition), "DATASETS.SPLIT.BY": "slice", "SWEEP.ENABLE": False}
    shared |= {"SOLVER.NUM_EPOCHS": 1, "SOLVER.PLAN": "constant"}
    write_members(folder, shared, SPLITS)
    write_ensemble(folder, "TinyEns", SPLITS, {"COMPETITION": "demo", "DIRECTORY": str(competition)})


@pytest.fixture(scope="module")
def trained(project, tmp_path_factory):
    """The folder of configs and the folder of three trained runs."""
    folder = tmp_path_factory.mktemp("trained")
    write_configs(copy_configs(project, folder), write_competition(folder / "data"))
    run_all(folder, SPLITS, "train")
    return folder


@pytest.fixture
def members_trained(trained, tmp_path, monkeypatch) -> Path:
    """This test's own copy of the trained runs; returns the competition's folder."""
    use_copy(monkeypatch, trained, tmp_path, has_tiles=True)
    return trained / "data"


def ensemble(*overrides: str) -> Loaded:
    return load("TinyEns", overrides)


def test_members_without_a_training_are_named_with_the_command_and_none_is_started(trained, monkeypatch):
    monkeypatch.setattr(load_module, "CONFIGS", trained / "configs")
    with pytest.raises(UserError) as refusal:
        run_stages(ensemble())
    assert "3 of 3 members cannot predict yet" in str(refusal.value)
    assert "TinyB  not trained; type: ./run.sh TinyB train" in str(refusal.value)
    assert not (run_paths("TinyA") / "catalog_train.csv").exists()


def test_trained_members_predict_are_combined_and_end_in_a_checked_submission_and_a_page(members_trained):
    paths, lines = run_stages(ensemble())
    assert executed(lines) == ["predict", "evaluate", "submit", "report"]
    assert json.loads((paths / "submission.json").read_text())["checked"]
    assert len(paths.submission(".csv").read_text().splitlines()) == 1 + 4 * 12
    page = (paths / "report.html").read_text()
    assert "TinyC" in page and 'id="gallery"' in page and 'id="calibration"' in page
    confusion = pd.read_csv(paths / "confusion.csv").iloc[:, 1:].to_numpy()
    facts = json.loads((paths / "diagnosis.json").read_text())
    assert np.array(facts["calibration"]["right"]).sum(1).tolist() == confusion.diagonal().tolist()
    assert facts["suspects"]["left_out"] == 0, "each image is predicted by members that did not train on it"
    _, lines = run_stages(ensemble())
    assert executed(lines) == []
    for own in json.loads((paths / "stores.json").read_text()):
        assert own["agreement"] > 0.999
        assert own["float32_bytes"] == 4 * 12 * SIDE**2 * own["images"]

    split = pd.read_csv(paths / "split.csv", dtype=str, keep_default_na=False).set_index("id")
    for number, name in enumerate(SPLITS):
        own = pd.read_csv(run_paths(name) / "split.csv", dtype=str).set_index("id")["subset"]
        held_out = [id for id, members in split["members"].items() if str(number) in members.split()]
        assert held_out == own[own == "valid"].index.tolist()
    scores = pd.read_csv(paths / "per_image.csv", dtype={"id": str}).set_index("id")
    assert sorted(scores.index) == sorted(split.index[split["subset"] == "valid"])
    stores = [PredictionStore(run_paths(name) / VALID_PROBS, unpack) for name in SPLITS]
    for image_id, row in scores.iterrows():
        views = [stores[int(number)].view(image_id) for number in split.at[image_id, "members"].split()]
        truth = read_mask(members_trained / f"masks/masks/{image_id}.png")
        dice = image_scores(SOFTMAX.count_masks(combine(views, [Recipe("AP")])[0], truth, 12))["dice"]
        assert row["dice"] == pytest.approx(float(dice.mean()), abs=1e-6)


def test_another_method_is_a_run_of_its_own_on_the_same_predictions(members_trained):
    run_stages(ensemble(), "evaluate")
    paths, lines = run_stages(ensemble("ENSEMBLE.METHOD=WEIGHTED", "ENSEMBLE.WEIGHTS=fitted", *FITTED))
    assert paths.name.startswith("TinyEns-")
    assert not any(line.startswith("Tiny") and "done in" in line for line in lines)
    found = json.loads((paths / "ensemble.json").read_text())
    assert found["method"] == "WEIGHTED"
    assert np.array(found["weights"]).shape == (3, 1)
    assert found["fit"]["kind"] == "equal"
    assert found["fit"]["words"].startswith("equal weights: fitting needs 4 sequences")
    decoded = json.loads((paths / "decode.json").read_text())
    assert decoded["rules"] == []
    assert decoded["offsets"]["factors"] == {}


def test_rules_for_components_are_measured_out_of_fold_and_used_as_given_with_stores_and_without(members_trained):
    text, competition = "fill_holes(all, share=0.01) + min_area(Car, share=0.005)", load("TinyEns").competition
    decoded, submitted = [], []
    for stream in ("false", "true"):
        settings = (f"DECODE.COMPONENTS={text}", f"ENSEMBLE.STREAM={stream}")
        paths, _ = run_stages(ensemble(*settings), force=("fit", "submit"))
        decoded.append(json.loads((paths / "decode.json").read_text())["components"])
        submitted.append(paths.submission(".csv").read_text())
    assert decoded[0] == decoded[1] and submitted[0] == submitted[1]
    assert len(decoded[0]["rules"]) == 13 and decoded[0]["is_given"]
    assert decoded[0]["words"].startswith("components: rules as given, not fitted; mean Dice ")
    origin = json.loads(paths.submission(".json").read_text())["components"]
    assert origin.startswith("min_area(Car, share=0.005) + fill_holes(") and origin.count("fill_holes") == 12
    assert "min_area(Car, share=0.005)" in (paths / "report.html").read_text()
    stores, recipe = [PredictionStore(run_paths(name) / TEST_PROBS, unpack) for name in SPLITS], Recipe("AP")
    rows = dict(line.split(",") for line in submitted[0].splitlines()[1:])
    for image_id in stores[0]:
        views = [store.view(image_id) for store in stores]
        rules = parse_components(text, competition.class_names, competition.scored_indices)
        wanted = with_components(views, recipe, combine(views, [recipe])[0], rules)
        texts = [rows[f"{image_id}_{index}"] for index in range(12)]
        assert np.array_equal(decode_classes(texts, SIDE, SIDE, competition.convention), wanted)


def test_predictions_that_are_gone_are_made_again_when_they_are_needed(members_trained):
    run_stages(ensemble())
    store = run_paths("TinyB") / TEST_PROBS
    before = {path.name: path.read_bytes() for path in store.iterdir()}
    shutil.rmtree(store)
    _, lines = run_stages(ensemble())
    assert executed(lines) == []  # the submission is what it was
    run_stages(ensemble(), force=("submit",))
    assert {path.name: path.read_bytes() for path in store.iterdir()} == before


def test_a_member_whose_training_is_not_its_configs_any_more_is_named(members_trained, trained, monkeypatch, tmp_path):
    shutil.copytree(trained / "configs", tmp_path / "configs")
    monkeypatch.setattr(load_module, "CONFIGS", tmp_path / "configs")
    path = tmp_path / "configs" / "TinyB.yaml"
    path.write_text(path.read_text().replace("MAX_LR: 0.003", "MAX_LR: 0.004"))
    wanted = r"1 of 3 members cannot predict yet:\n  TinyB  trained with other settings or data: SOLVER.MAX_LR"
    with pytest.raises(UserError, match=wanted):
        run_stages(ensemble())


def test_an_override_of_training_goes_on_to_the_members_who_must_be_trained_for_it(members_trained):
    with pytest.raises(UserError, match=r"type: ./run.sh TinyA SOLVER.MAX_LR=0.009 train"):
        run_stages(ensemble("SOLVER.MAX_LR=0.009"))


def test_an_override_of_prediction_uses_the_members_trainings(members_trained):
    paths, lines = run_stages(ensemble("PREDICT.TTA=flip"), "predict")
    assert executed(lines) == ["predict"]
    for name in SPLITS:
        (flipped,) = (folder for folder in paths.folder.parent.glob(f"{name}-*"))
        assert (flipped / "best.ckpt").samefile(run_paths(name) / "best.ckpt")


def test_another_test_image_makes_an_ensemble_predict_anew(members_trained, trained):
    run_stages(ensemble(), "predict")
    (image, *_) = sorted((trained / "data" / "imgs" / "imgs").glob("000004*"))
    content = image.read_bytes()
    try:
        image.write_bytes(content + b"\n")
        assert executed(run_stages(ensemble(), "predict")[1]) == ["predict"]
    finally:
        image.write_bytes(content)


def test_a_member_does_not_judge_what_the_run_that_it_started_from_was_trained_on(members_trained):
    def of(name: str, *overrides: str) -> set[str] | None:
        loaded = replace(load(name, overrides), run=name)  # as if the config's file had been edited
        return trained_on(run_of(loaded))

    own, both = of("TinyB"), of("TinyB", "EXPERIMENT.LOAD_PREV=TinyA")
    assert both == own | of("TinyA")
    assert both > own
    assert of("TinyB", f"EXPERIMENT.LOAD_PREV={os.path.join('elsewhere', 'best.ckpt')}") is None
    assert of("TinyB", "EXPERIMENT.LOAD_PREV=published.safetensors") == own
    before = shutil.copytree(run_paths("TinyA").folder, run_paths("Elsewhere").folder)
    text = (before / "config.yaml").read_text()
    (before / "config.yaml").write_text(text.replace('"COMPETITION": "demo"', '"COMPETITION": "camvid"'))
    assert of("TinyB", "EXPERIMENT.LOAD_PREV=Elsewhere") == own


@pytest.mark.parametrize(
    "changes",
    [(), ("ENSEMBLE.METHOD=WEIGHTED", "ENSEMBLE.WEIGHTS=fitted", *FITTED)],
    ids=["mean", "fitted"],
)
def test_members_combined_without_stores_give_the_same_files_as_with_them(members_trained, tmp_path, changes):
    paths, _ = run_stages(ensemble("ENSEMBLE.STREAM=true", *changes), "submit")
    assert json.loads((paths / "stores.json").read_text()) == []
    names = ("metrics.json", "per_image.csv", "confusion.csv", "ensemble.json", "split.csv")
    names += ("catalog_train.csv", "catalog_test.csv")
    streamed = {name: (paths / name).read_bytes() for name in names} | {"csv": paths.submission(".csv").read_bytes()}
    assert not (paths / "stream").exists()
    assert not any((run_paths(name) / probs).exists() for name in SPLITS for probs in (TEST_PROBS, VALID_PROBS))
    assert executed(run_stages(ensemble(*changes), "submit")[1]) == []  # the same run, and nothing to do
    shutil.rmtree(paths.folder)
    again, lines = run_stages(ensemble(*changes), "submit")
    assert again.folder == paths.folder
    assert [stage for stage in executed(lines) if stage != "fit"] == ["predict", "evaluate", "submit"]
    assert {name: (paths / name).read_bytes() for name in names} | {
        "csv": paths.submission(".csv").read_bytes()
    } == streamed


def test_a_streamed_ensemble_that_was_stopped_goes_on_with_the_same_result(members_trained, monkeypatch):
    monkeypatch.setattr("pipeline.prediction.progress.IMAGES_PER_FILE", 2)
    whole, _ = run_stages(ensemble("ENSEMBLE.STREAM=true"), "submit")
    wanted = {name: (whole / name).read_bytes() for name in ("metrics.json", "ensemble.json")}
    wanted["csv"] = whole.submission(".csv").read_bytes()
    shutil.rmtree(whole.folder)
    loaded, num_stops = ensemble("ENSEMBLE.STREAM=true"), 0
    for patience in range(7, 60, 2):  # questions until it stops
        try:
            run_chain(run_of(loaded, lambda line: None, StopAt(patience)), "submit")
            break
        except Stopped:
            num_stops += 1
    assert num_stops > 1
    assert wanted == {name: (whole / name).read_bytes() for name in wanted if name != "csv"} | {
        "csv": whole.submission(".csv").read_bytes()
    }


def test_where_the_disk_is_too_small_for_stores_the_refusal_names_the_way_without_them(members_trained, monkeypatch):
    free = shutil.disk_usage("/")._replace(free=2**20)
    monkeypatch.setattr("pipeline.files.shutil.disk_usage", lambda path: free)
    with pytest.raises(
        UserError, match=r"storing the probabilities of 3 members needs .*\n.*\n.*add ENSEMBLE.STREAM=true"
    ):
        run_stages(ensemble(), "predict")
    # Another program filled the disk then.
    monkeypatch.setattr("pipeline.work.predict.check_room", lambda run: None)
    with pytest.raises(UserError, match=r"TinyA: the probability store needs .*\n.*\n.*add ENSEMBLE.STREAM=true"):
        run_stages(ensemble(), "predict")
