"""Pseudo-labels from trained teachers to a checked submission: who may teach, what is learnt, what is said of it."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.config import load as load_module
from pipeline.config.load import Loaded, load
from pipeline.engine.chain import run_chain
from pipeline.engine.dependence import why_run
from pipeline.engine.folder import prepare_folder
from pipeline.errors import Stopped, UserError
from pipeline.paths import BEST, PSEUDO_LABELS, TEST_PROBS
from pipeline.prediction.store import PredictionStore
from pipeline.report.trained_on import trained_on
from pipeline.segmentation.predict import full_logits, unpack
from pipeline.segmentation.pseudo_labels import read_label
from pipeline.task import Batch
from pipeline.training.assemble import open_data
from pipeline.training.checkpoint import load_checkpoint
from tests.experiments import copy_configs, run_all, use_copy, write_ensemble, write_members
from tests.test_stages import WatchedLoaded, undeclared_keys
from tests.tiny import draw, executed, run_of, run_paths, run_stages, write_competition
from tests.training.toy import StopAt, train_in_pieces

pytestmark = pytest.mark.slow

# Sequence 0 validates for two of them; the third was trained on it.
MEMBERS = {"TinyA": 0, "TinyB": {"DATASETS.SPLIT_INDEX": 0, "EXPERIMENT.SEED": 5}, "TinyC": 1}
# Networks as small as these are sure of nothing: of 12 classes the best has a little more than a twelfth.
SURE = 0.092
TILES = (
    *("DATASETS.AUGMENTATION.TILE.ENABLE=true", "DATASETS.AUGMENTATION.TILE.WIDTH=32"),
    *("DATASETS.AUGMENTATION.TILE.HEIGHT=32", "DATASETS.AUGMENTATION.TILE.SETS=[[64, 64, 2, 2]]"),
)
CROPS = (
    *("DATASETS.AUGMENTATION.RANDOM_CROP.ENABLE=true", "DATASETS.AUGMENTATION.RANDOM_CROP.WIDTH=32"),
    "DATASETS.AUGMENTATION.RANDOM_CROP.HEIGHT=32",
)
SOFT = ("PSEUDO.LABELS=soft", "LOSS_FN.MIX=0.5 ce + 0.5 dice")
MIXED = ("DATASETS.AUGMENTATION.MIX_UP.ENABLE=true", "DATASETS.AUGMENTATION.MIX_UP.PROBABILITY=1.0")


@pytest.fixture(scope="module")
def trained(project, tmp_path_factory) -> Path:
    """The folder of configs, data and the trained runs of three members."""
    folder = tmp_path_factory.mktemp("trained")
    configs, data = copy_configs(project, folder), write_competition(folder / "data")
    shared = {"DATASETS.DIRECTORY": str(data), "SWEEP.ENABLE": False, "SOLVER.PLAN": "constant"}
    shared |= {"SOLVER.NUM_EPOCHS": 1, "DATALOADERS.TRAIN.BATCH_SIZE": 4}
    write_members(configs, shared, MEMBERS)
    write_ensemble(configs, "TinyEns", MEMBERS, {"COMPETITION": "demo", "DIRECTORY": str(data)})
    write_ensemble(configs, "TinyOthers", ["TinyC", "TinyD"], {"COMPETITION": "demo", "DIRECTORY": str(data)})
    write_members(configs, shared, {"TinyD": 2})
    run_all(folder, [*MEMBERS, "TinyD"], "train")
    return folder


@pytest.fixture
def teachers(trained, tmp_path, monkeypatch) -> Path:
    """This test's own copy of the trained runs; returns the competition's folder."""
    use_copy(monkeypatch, trained, tmp_path, has_tiles=True)
    return trained / "data"


def student(*changes: str, teacher: str = "TinyEns", name: str = "TinyA") -> Loaded:
    settings = {"PSEUDO.TEACHER": teacher, "PSEUDO.CONFIDENCE": SURE, "PSEUDO.SHARE": 0.5, "SOLVER.NUM_EPOCHS": 2}
    settings |= dict(change.split("=", 1) for change in changes)
    return load(name, tuple(f"{key}={value}" for key, value in settings.items()))


def facts_of(paths) -> dict:
    return json.loads((paths / "pseudo_labels.json").read_text())


def labels_of(paths) -> dict[str, np.ndarray]:
    store = PredictionStore(paths / PSEUDO_LABELS, read_label)
    return {image_id: store[image_id] for image_id in store}


def batches_of(loaded: Loaded, epoch: int = 1) -> list[Batch]:
    return list(open_data(run_of(loaded, lambda line: None)).train_batches(epoch, 0, True, ()))


def is_pseudo(key, num_labelled: int) -> bool:
    return key.index >= num_labelled


def test_a_student_of_an_ensemble_ends_in_a_checked_submission_that_says_so(teachers):
    paths, lines = run_stages(student())
    assert executed(lines) == ["pseudo", "tile", "train", "evaluate", "predict", "submit", "report"]
    assert any("TinyC is left out: trained on 4 of the 4 validation images" in line for line in lines)
    stores = [PredictionStore(run_paths(name) / TEST_PROBS, unpack) for name in ("TinyA", "TinyB")]
    table = pd.read_csv(paths / "pseudo_labels.csv", dtype={"id": str}).set_index("id")
    for image_id, label in labels_of(paths).items():
        probs = np.mean([full_logits(store[image_id]).softmax(0).numpy() for store in stores], axis=0)
        wanted = np.where(probs.max(0) >= SURE, probs.argmax(0), 255)
        assert np.mean(label == wanted) > 0.999
        assert table.at[image_id, "labelled"] == pytest.approx((label != 255).mean())
    facts = facts_of(paths)
    assert list(facts["members"]) == ["TinyA", "TinyB"] and facts["trained_on"] == sorted(trained_on_of("TinyA"))
    origin = json.loads(paths.submission(".json").read_text())
    assert "by TinyEns (TinyA, TinyB)" in origin["trained_on_pseudo_labels"]
    assert origin["trained_on_pseudo_labels"].startswith(f"hard pseudo-labels of {facts['images']} test images")
    assert "transductive" in origin["transductive"] and "TinyC" in origin["left_out_of_teacher"]
    page = (paths / "report.html").read_text()
    assert "Beside labelled images this run was trained on hard pseudo-labels" in page
    assert "TinyC is left out" in page and "transductive learning" in page
    assert executed(run_stages(student())[1]) == []


def trained_on_of(name: str) -> set[str]:
    return trained_on(run_of(load(name)))


def test_without_a_teacher_there_is_no_stage_and_nothing_is_said(teachers):
    paths, lines = run_stages(load("TinyA"))
    assert "pseudo" not in executed(lines) and "train" not in executed(lines)
    origin = json.loads(paths.submission(".json").read_text())
    assert not {"trained_on_pseudo_labels", "transductive"} & origin.keys()
    assert (
        "pseudo" not in (paths / "report.html").read_text().partition("<main>")[2].partition('id="settings"')[0].lower()
    )


@pytest.mark.parametrize(
    ("teacher", "changes", "wanted"),
    [
        (
            "TinyOthers",
            (),
            r"no member of TinyOthers may label .*\n  TinyC: trained on 4 of the 4 validation.*\n  TinyD: ",
        ),
        ("TinyA", (), r"TinyA cannot be its own teacher"),
        ("CamVidAAA", (), r"CamVidAAA is from the competition camvid, TinyA-\w+ from demo"),
        ("TinyX", (), r"PSEUDO\.TEACHER: there is no config 'TinyX'"),
        ("TinyB", ("PSEUDO.AGREEMENT=1.0",), r"PSEUDO\.AGREEMENT: 1 compares members, but TinyB has only TinyB"),
        ("TinyEns", ("PSEUDO.CONFIDENCE=0.99",), r"PSEUDO\.CONFIDENCE 0\.99: none of 4 images has .* lower it"),
        ("TinyEns", ("PSEUDO.IMAGES=nowhere",), r"PSEUDO\.IMAGES: there is no folder nowhere"),
        (
            "TinyEns",
            (f"PSEUDO.IMAGES={Path(__file__).parent}",),
            r"^PSEUDO\.IMAGES: .*/work has no images \(.*\); name a folder of images, or write test$",
        ),
        ("DemoAAA", ("DATASETS.SPLIT_INDEX=0",), r"DemoAAA is not trained yet; type:\n  ./run.sh DemoAAA train"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused_with_the_reason(teachers, teacher, changes, wanted):
    loaded = student(*changes, teacher=teacher)
    if teacher == "TinyA":
        loaded = replace(loaded, run="TinyA")  # as if its own config named it
    with pytest.raises(UserError, match=wanted):
        run_stages(loaded, "pseudo")


def test_what_a_student_learnt_counts_as_what_its_teacher_was_trained_on(teachers):
    loaded = student(teacher="TinyC", name="TinyC")
    run_stages(loaded, "train")
    assert trained_on(run_of(loaded)) == trained_on_of("TinyC")
    # A student of another split, as if the teacher's config had been edited to teach from there.
    shutil.copytree(run_paths(loaded.run).folder, run_paths("Elsewhere").folder)
    facts = facts_of(run_paths("Elsewhere")) | {"trained_on": ["000002_001"]}
    (run_paths("Elsewhere") / "pseudo_labels.json").write_text(json.dumps(facts))
    own = replace(loaded, run="Elsewhere")
    assert trained_on(run_of(own)) == trained_on_of("TinyC") | {"000002_001"}
    (run_paths("Elsewhere") / "pseudo_labels.json").unlink()
    assert trained_on(run_of(own)) is None, "nobody knows what its teacher had seen"


@pytest.mark.parametrize(
    "changes",
    [
        (),
        TILES,
        (*CROPS, "DATASETS.SAMPLING.RARE_CLASS_RATE=0.4"),
        (*TILES, "DATASETS.AUGMENTATION.MOSAIC.ENABLE=true", "DATASETS.AUGMENTATION.CLASS_MIX.ENABLE=true"),
        SOFT,
        (*SOFT, *TILES, *MIXED),
        MIXED,
    ],
    ids=["whole", "tiles", "crops", "mixes", "soft", "soft tiles blended", "blended"],
)
def test_each_batch_has_its_share_and_labelled_samples_are_those_of_a_run_without(teachers, changes):
    loaded = student(*changes, "PSEUDO.SHARE=0.25")
    run_stages(loaded, "tile")
    plain = load("TinyA", ("DATALOADERS.TRAIN.BATCH_SIZE=3", *(name for name in changes if "PSEUDO" not in name)))
    run_stages(plain, "tile")
    num_labelled = json.loads((run_paths(loaded.run) / "tiles.json").read_text())["samples_per_epoch"]
    assert num_labelled == json.loads((run_paths(plain.run) / "tiles.json").read_text())["samples_per_epoch"]
    wanted = {key: image for batch in batches_of(plain) for key, image in zip(batch.keys, batch.images, strict=True)}
    found = {}
    batches = batches_of(loaded)
    for batch in batches:
        assert sum(is_pseudo(key, num_labelled) for key in batch.keys) == 1 and len(batch.keys) == 4
        found |= dict(zip(batch.keys, batch.images, strict=True))
    labelled = {key: image for key, image in found.items() if not is_pseudo(key, num_labelled)}
    assert labelled.keys() == wanted.keys() and len(batches) == len(wanted) // 3
    if "MIX_UP" not in str(changes):
        assert all(torch.equal(image, wanted[key]) for key, image in labelled.items())
    again = batches_of(loaded)
    assert all(torch.equal(one.images, two.images) for one, two in zip(batches, again, strict=True))
    masks = batches[0].labels
    masks = masks if isinstance(masks, torch.Tensor) else masks.first
    assert masks.ndim == (4 if "PSEUDO.LABELS=soft" in changes else 3)


def test_a_pseudo_labelled_sample_shows_the_test_image_with_its_label(teachers):
    plain = [f"DATASETS.AUGMENTATION.{name}.ENABLE=false" for name in ("HORIZONTAL_FLIP", "SHIFT_SCALE_ROTATE")]
    plain += [f"DATASETS.AUGMENTATION.{name}.ENABLE=false" for name in ("COLOR", "COPY_PASTE")]
    loaded = student(*plain)
    paths, _ = run_stages(loaded, "tile")
    labels = labels_of(paths)
    ids = pd.read_csv(paths / "pseudo_labels.csv", dtype=str)["id"].tolist()
    seen = set()
    for batch in batches_of(loaded):
        for image, mask, key in zip(*batch, strict=True):
            if is_pseudo(key, 8):
                image_id = ids[key.index - 8]
                pixels = cv2.imread(str(teachers / f"imgs/imgs/{image_id}.jpg"))[..., ::-1]
                assert np.array_equal(image.numpy(), pixels)
                assert np.array_equal(mask.numpy(), labels[image_id])
                seen.add(image_id)
    assert seen == set(ids)


@pytest.mark.parametrize("changes", [TILES, (*SOFT, *MIXED)], ids=["hard tiles", "soft blended"])
def test_a_training_stopped_at_every_step_ends_with_the_same_bits(teachers, changes):
    loaded = student(*changes, "SOLVER.ACCUMULATE=2")
    paths, _ = run_stages(loaded, "train")
    expected = load_checkpoint(paths / BEST)["network"]
    assert train_in_pieces(loaded) >= 3
    found = load_checkpoint(paths / BEST)["network"]
    assert all(torch.equal(value, found[name]) for name, value in expected.items())


def test_labelling_that_was_stopped_goes_on_with_the_same_bytes(teachers, monkeypatch):
    monkeypatch.setattr("pipeline.prediction.progress.IMAGES_PER_FILE", 1)
    loaded = student()
    paths, _ = run_stages(loaded, "pseudo")
    names = ("pseudo_labels.csv", "pseudo_labels.json", "pseudo_leakage.csv")
    wanted = {name: (paths / name).read_bytes() for name in names}
    wanted |= {path.name: path.read_bytes() for path in (paths / PSEUDO_LABELS).iterdir()}
    shutil.rmtree(paths.folder)
    num_stops = 0
    for patience in range(2, 40):
        try:
            run_chain(run_of(loaded, lambda line: None, StopAt(patience)), "pseudo")
            break
        except Stopped:
            num_stops += 1
    assert num_stops > 1
    found = {name: (paths / name).read_bytes() for name in names}
    assert found | {path.name: path.read_bytes() for path in (paths / PSEUDO_LABELS).iterdir()} == wanted


def test_a_folder_of_other_images_is_labelled_as_the_same_images_of_the_test_set_are(teachers, tmp_path):
    paths, _ = run_stages(student(), "pseudo")
    extra = tmp_path / "extra"
    extra.mkdir()
    for image_id in labels_of(paths):
        shutil.copy(teachers / f"imgs/imgs/{image_id}.jpg", extra)
    other, _ = run_stages(student(f"PSEUDO.IMAGES={extra}"), "submit")
    for image_id, label in labels_of(other).items():
        assert np.array_equal(label, labels_of(paths)[image_id])
    assert not facts_of(other)["of_test"]
    origin = json.loads(other.submission(".json").read_text())
    assert "unlabelled images" in origin["trained_on_pseudo_labels"] and "transductive" not in origin
    run = run_of(student(f"PSEUDO.IMAGES={extra}"))
    assert why_run(run.stage("pseudo"), run) is None
    cv2.imwrite(str(extra / "000009_001.jpg"), draw(np.random.default_rng(5))[0])
    assert why_run(run.stage("pseudo"), run) == "the unlabelled images changed"


def test_near_duplicates_of_validation_images_are_counted_and_warned_of(teachers, tmp_path):
    extra = tmp_path / "extra"
    extra.mkdir()
    paths, _ = run_stages(load("TinyA"), "prepare")
    split = pd.read_csv(paths / "split.csv", dtype=str)
    valid = split["id"][split["subset"] == "valid"].tolist()
    for number, image_id in enumerate(valid[:2]):
        shutil.copy(teachers / f"imgs/imgs/{image_id}.jpg", extra / f"000009_{number:03d}.jpg")
    paths, lines = run_stages(student(f"PSEUDO.IMAGES={extra}"), "report")
    leaks = pd.read_csv(paths / "pseudo_leakage.csv", dtype=str)
    assert {("000009_000", valid[0], "0"), ("000009_001", valid[1], "0")} <= set(map(tuple, leaks.to_numpy().tolist()))
    affected = leaks["valid_id"].nunique()
    assert any(line.startswith(f"leakage: {affected} of 4 validation images have a near-duplicate") for line in lines)
    metrics = json.loads((paths / "metrics.json").read_text())
    assert metrics["duplicates"]["valid_images_near_pseudo_labels"] == affected
    page = (paths / "report.html").read_text()
    assert f"{affected} of 4 validation images have a near-duplicate among the pseudo-labelled images" in page


def test_a_teacher_that_was_trained_again_makes_the_student_train_anew(teachers, trained, tmp_path, monkeypatch):
    run_stages(student(), "train")
    assert executed(run_stages(student(), "train")[1]) == []
    shutil.copytree(trained / "configs", tmp_path / "configs")
    monkeypatch.setattr(load_module, "CONFIGS", tmp_path / "configs")
    monkeypatch.setattr("pipeline.work.teacher.CONFIGS", tmp_path / "configs")
    path = tmp_path / "configs" / "TinyB.yaml"
    path.write_text(path.read_text().replace("MAX_LR: 0.003", "MAX_LR: 0.03"))
    with pytest.raises(UserError, match=r"TinyB  trained with other settings or data: SOLVER.MAX_LR"):
        run_stages(student(), "train")
    run_stages(load("TinyB"), "train")
    paths, lines = run_stages(student(), "train")
    assert executed(lines) == ["pseudo", "tile", "train"]
    assert facts_of(paths)["members"].keys() == {"TinyA", "TinyB"}


def test_a_hidden_test_set_is_not_pseudo_labelled_and_trains_nothing_anew(teachers, tmp_path):
    paths, _ = run_stages(student(), "submit")
    hidden = tmp_path / "hidden"
    hidden.mkdir()
    cv2.imwrite(str(hidden / "000008_001.jpg"), draw(np.random.default_rng(5))[0])
    other, lines = run_stages(student(f"DATASETS.TEST_DIRECTORY={hidden}"), "submit")
    assert executed(lines) == ["testset", "predict", "submit"]
    assert (other / BEST).samefile(paths / BEST)
    assert (other / "pseudo_labels.csv").read_bytes() == (paths / "pseudo_labels.csv").read_bytes()


def test_an_ensemble_whose_member_learnt_from_a_teacher_says_so(teachers, trained, tmp_path, monkeypatch):
    shutil.copytree(trained / "configs", tmp_path / "configs")
    monkeypatch.setattr(load_module, "CONFIGS", tmp_path / "configs")
    for name in ("inputs", "teacher"):
        monkeypatch.setattr(f"pipeline.work.{name}.CONFIGS", tmp_path / "configs")
    text = "BASE: TinyA\nPSEUDO: {TEACHER: TinyB, CONFIDENCE: 0.05, SHARE: 0.5}\n"
    (tmp_path / "configs" / "TinyS.yaml").write_text(text)
    write_ensemble(
        tmp_path / "configs", "TinyTwo", ["TinyS", "TinyC"], {"COMPETITION": "demo", "DIRECTORY": str(teachers)}
    )
    run_stages(load("TinyS"), "train")
    paths, _ = run_stages(load("TinyTwo"), "submit")
    origin = json.loads(paths.submission(".json").read_text())
    assert origin["trained_on_pseudo_labels"].startswith("hard pseudo-labels of 4 test images, by TinyB")


def test_a_stage_reads_no_key_that_it_does_not_declare(teachers):
    loaded = student(*SOFT, *TILES, "PSEUDO.AGREEMENT=0.5", "SWEEP.ENABLE=true")
    prepare_folder(run_of(loaded))
    seen: set[str] = set()
    run = replace(run_of(loaded), loaded=WatchedLoaded(loaded, seen), key="key")
    undeclared = {stage.name: undeclared_keys(stage, run, seen) for stage in run_of(loaded).stages}
    assert not any(undeclared.values()), undeclared


def test_a_run_on_all_images_may_learn_from_any_teacher_and_goes_to_its_end(teachers):
    on_all = ("DATASETS.SPLIT.BY=none", "SOLVER.FROM=TinyA", "DATASETS.AUGMENTATION.COPY_PASTE.VARIANT=random")
    paths, _ = run_stages(student(*on_all, "SOLVER.NUM_EPOCHS=1", teacher="TinyC"))
    facts = facts_of(paths)
    assert facts["members"].keys() == {"TinyC"} and facts["valid_images"] == facts["near_duplicates"] == 0
    assert json.loads((paths / "tiles.json").read_text())["samples_per_epoch"] == 12
    assert "by TinyC" in (paths / "report.html").read_text()
