"""Data Science Bowl 2018 by its ready description: from a folder of nuclei to a row per nucleus, alone and combined."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from pipeline.__main__ import main
from pipeline.config.load import load
from pipeline.paths import TEST_CATALOG, VALID_PROBS
from pipeline.prediction.store import PredictionStore
from pipeline.report.read import read_columns
from pipeline.segmentation.object_decoding import with_objects
from pipeline.segmentation.predict import decode, unpack
from tests.experiments import copy_configs, run_all, use, write_ensemble, write_members
from tests.segmentation.nuclei import write_folder
from tests.segmentation.test_score_kinds import slow_object_scores
from tests.tiny import draw_nothing, run_paths, run_stages

pytestmark = pytest.mark.slow

MEMBERS = {"NucleiA": (0, 8), "NucleiB": (10, 3)}  # slice of the split, epochs


@pytest.fixture(scope="module")
def nuclei(project, tmp_path_factory) -> tuple[Path, dict[str, list[np.ndarray]]]:
    """The folder after all stages of two members and their ensemble, and the nuclei of its training images."""
    folder = tmp_path_factory.mktemp("nuclei")
    copy_configs(project, folder)
    true = write_folder(folder / "data" / "dsb2018")
    shared = {"DATASETS.COMPETITION": "dsb2018", "DATASETS.SPLIT.BY": "slice", "SWEEP.ENABLE": False}
    shared |= {
        "SOLVER.PLAN": "constant",
        "SOLVER.PATIENCE": 40,
        "SOLVER.MAX_LR": 0.01,
        "SOLVER.OPTIMIZER.NAME": "AdamW",
        "DECODE.OBJECTS": "fitted",
    }
    shared |= {f"DATASETS.AUGMENTATION.{name}.ENABLE": False for name in ("COLOR", "GAUSSIAN_NOISE", "COPY_PASTE")}
    own = {
        name: {"DATASETS.SPLIT_INDEX": index, "SOLVER.NUM_EPOCHS": epochs} for name, (index, epochs) in MEMBERS.items()
    }
    write_members(folder / "configs", shared, own)
    decode = {"OBJECTS": "fitted", "SUPPRESS": "fitted"}
    write_ensemble(folder / "configs", "NucleiEns", MEMBERS, {"COMPETITION": "dsb2018"}, DECODE=decode)
    run_all(folder, (*MEMBERS, "NucleiEns"))
    return folder, true


@pytest.fixture
def done(nuclei, monkeypatch) -> Path:
    use(monkeypatch, nuclei[0])
    return nuclei[0]


def unpacked(text: str, height: int, width: int) -> np.ndarray:
    """The pixels of a row, one by one, as the competition's page describes it: down the columns, from 1."""
    pixels = np.zeros(height * width, int)
    numbers = [int(word) for word in text.split()]
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        for pixel in range(start, start + length):
            pixels[pixel - 1] += 1
    return pixels.reshape(width, height).T


@pytest.mark.parametrize("name", [*MEMBERS, "NucleiEns"])
def test_each_row_is_a_nucleus_and_none_overlap(done, name):
    test = read_columns(run_paths(name) / TEST_CATALOG)
    sizes = {row[0]: (int(row[1]), int(row[2])) for row in zip(test["id"], test["height"], test["width"], strict=True)}
    assert sorted(sizes.values()) == [(256, 256), (256, 320), (520, 696)]
    with open(run_paths(name).submission(".csv"), newline="") as file:
        header, *rows = csv.reader(file)
    assert header == ["ImageId", "EncodedPixels"]
    assert list(dict.fromkeys(image_id for image_id, _ in rows)) == list(sizes)
    masks = {
        image_id: [unpacked(text, *sizes[image_id]) for own, text in rows if own == image_id] for image_id in sizes
    }
    for image_id, own in masks.items():
        assert sum(own).max() <= 1  # no pixel twice, in a row or in two
        least = json.loads((run_paths(name) / "decode.json").read_text())["objects"]["min_size"]
        assert len(own) == 1 or min(mask.sum() for mask in own) >= least
        firsts = [np.argwhere(mask)[0].tolist() for mask in own if mask.any()]
        assert firsts == sorted(firsts), image_id
    if name == "NucleiA":
        assert all(len(own) > 5 for own in masks.values())


def test_the_score_is_that_of_the_nuclei_in_the_files(nuclei, done):
    (_, true), competition, paths = nuclei, load("NucleiA").competition, run_paths("NucleiA")
    store, scores, touching = PredictionStore(paths / VALID_PROBS, unpack), [], 0
    for image_id in store:
        found = with_objects([store[image_id]], decode(store[image_id]), competition)
        guesses = [found == code for code in np.unique(found[found > 255])]
        scores.append(slow_object_scores(guesses, true[image_id], competition.score_options)["object_ap"])
        touching += len(true[image_id]) - (np.unique(found).size - 1)
    metrics = json.loads((paths / "metrics.json").read_text())
    assert metrics["score"] == "object_ap" and metrics["scored"] == ["Nucleus"]
    assert metrics["scores"]["object_ap"]["mean"] == pytest.approx(np.mean(scores)) and np.mean(scores) > 0.02
    ensemble = json.loads((run_paths("NucleiEns") / "ensemble.json").read_text())
    assert ensemble["score"] == "object_ap"
    assert ensemble["members"][0]["score"]["mean"] == pytest.approx(np.mean(scores))


def test_the_score_of_a_file_is_the_same_by_the_folder_of_labels(done, tmp_path, capsys):
    from pipeline.submission.file import write_submission

    competition, paths = load("NucleiA").competition, run_paths("NucleiA")
    store = PredictionStore(paths / VALID_PROBS, unpack)
    maps = {image_id: with_objects([store[image_id]], decode(store[image_id]), competition) for image_id in store}
    path = tmp_path / "valid.csv"
    write_submission(
        path, maps.items(), list(maps), competition, {}, {image_id: one.shape for image_id, one in maps.items()}
    )
    folder = done / "data" / "dsb2018" / "stage1_train"
    assert main(["score", str(path), "--masks", str(folder), "--competition", "dsb2018"]) == 0
    scores = json.loads(capsys.readouterr().out)["scores"]
    wanted = json.loads((paths / "metrics.json").read_text())["scores"]["object_ap"]["mean"]
    assert scores["object_ap"]["mean"] == pytest.approx(wanted)


def test_how_objects_are_told_apart_is_fitted_and_said(done):
    for name in (*MEMBERS, "NucleiEns"):
        fitted = json.loads((run_paths(name) / "decode.json").read_text())["objects"]
        origin = json.loads(run_paths(name).submission(".json").read_text())
        assert origin["objects"] == f"SEED {fitted['seed']:g}, MIN_SIZE {fitted['min_size']}"
        assert "fitting needs 4 sequences" in fitted["words"] or fitted["survived"] is not None or fitted["gains"] == {}


def test_within_a_time_limit_each_row_is_an_object_too(done, monkeypatch):
    draw_nothing(monkeypatch)
    limited, _ = run_stages(load("NucleiA", ("SUBMIT.TIME_LIMIT_HOURS=1",)), "submit")
    assert limited.submission(".csv").read_bytes() == run_paths("NucleiA").submission(".csv").read_bytes()
