"""The ready descriptions of known competitions, by description alone, on faithful miniatures of their folders."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label

from pipeline.engine.api import run
from pipeline.paths import TEST_CATALOG, TRAIN_CATALOG, Folders
from pipeline.prediction.store import open_predictions
from pipeline.report.read import read_columns
from pipeline.segmentation.predict import decode
from tests.tiny import SETTINGS

QUICK = {**SETTINGS, "SWEEP.ENABLE": "false", "SOLVER.PLAN": "constant"}
# The split that a user of each would choose, and the number of images: for training, to predict.
KNOWN = {
    "carvana": ("sequence", 16, 8),
    "tgs_salt": ("slice", 20, 6),
    "airbus_ships": ("slice", 16, 6),
    "severstal": ("slice", 20, 6),
    "siim_pneumothorax": ("slice", 16, 6),
    "hubmap_kidney": ("slice", 6, 2),
    "uw_madison": ("sequence", 32, 0),
    "contrails": ("given", 16, 3),
    "cityscapes": ("given", 18, 6),
    "vesuvius_ink": ("slice", 3, 2),
    "loveda": ("given", 12, 4),
}


@pytest.fixture(scope="session")
def miniatures(shared: Path, tmp_path_factory) -> Path:
    """The folder of all miniatures; skips where the script that draws them is absent."""
    script = shared / "competitions" / "make_miniatures.py"
    if not script.is_file():
        pytest.skip(f"no {script}")
    folder = tmp_path_factory.mktemp("miniatures")
    subprocess.run([sys.executable, str(script), str(folder)], check=True)
    return folder


def folders_in(folder: Path, data: Path) -> Folders:
    return Folders(folder / "runs", folder / "submissions", folder / "scratch", (data,), ())


def overrides(name: str) -> list[str]:
    changes = {**QUICK, "DATASETS.COMPETITION": name, "DATASETS.SPLIT.BY": KNOWN[name][0]}
    if name == "vesuvius_ink":  # two images to train on, of different sizes
        changes["DATALOADERS.TRAIN.BATCH_SIZE"] = "1"
    return [f"{key}={value}" for key, value in changes.items()]


@pytest.mark.parametrize("name", KNOWN)
def test_prepare_and_testset_take_the_folder_as_it_is(miniatures, tmp_path, name):
    _, num_train, num_test = KNOWN[name]
    last = "testset" if num_test else "prepare"
    finished = run("demo", overrides(name), last, folders_in(tmp_path, miniatures), log=lambda line: None)
    assert len(read_columns(finished.paths / TRAIN_CATALOG)["id"]) == num_train
    test = read_columns(finished.paths / TEST_CATALOG)
    assert (len(test["id"]) if test else 0) == num_test


def unpacked(runs: str, height: int, width: int, order: str, base: int, relative: bool) -> np.ndarray:
    """Returns the mask of run lengths, decoded pixel by pixel as the competitions' pages describe it."""
    pixels, position = [False] * (height * width), 0
    numbers = [] if runs.strip() in ("", "-", "-1") else list(map(int, runs.split()))
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        first = position + start - (base if not relative or not position else 0) if relative else start - base
        for pixel in range(first, first + length):
            pixels[pixel] = True
        position = first + length
    return np.array(pixels).reshape((height, width), order="C" if order == "row" else "F")


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in KNOWN if name not in ("hubmap_kidney", "uw_madison")])
def test_the_submission_decodes_to_what_was_predicted(miniatures, tmp_path, name):
    changes = overrides(name)
    finished = run("demo", changes, "submit", folders_in(tmp_path, miniatures), log=lambda line: None)
    competition, store = finished.loaded.competition, open_predictions(finished, "test")
    predicted = {image_id: decode(store[image_id]) for image_id in store}
    (path,) = [path for path in (tmp_path / "submissions").iterdir() if path.suffix in (".csv", ".zip")]
    if path.suffix == ".zip":
        compare_zip(path, predicted, competition)
        return
    sample = read_rows(next(miniatures.glob(f"{competition.kaggle_slug}/{competition.sample_submission}")))
    rows, convention = read_rows(path), competition.convention
    assert list(rows[0]) == list(sample[0])  # the columns and their order
    if competition.has_objects:
        compare_objects(rows, predicted, convention)
        return
    keys = [column for column in rows[0] if column != convention.value_column]
    assert [[row[key] for key in keys] for row in rows] == [[row[key] for key in keys] for row in sample]
    for row in rows:
        mask = predicted[row[convention.id_column]]
        label = row[convention.class_column] if convention.class_column else None
        index = 1 if label is None else competition.label_texts.index(label)
        form = (convention.order, convention.base, convention.relative)
        assert (unpacked(row[convention.value_column], *mask.shape, *form) == (mask == index)).all()


def read_rows(path: Path) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(path.read_text())))


def compare_objects(rows: list[dict[str, str]], predicted: dict[str, np.ndarray], convention) -> None:
    """Each row is one connected piece of the predicted mask, and all rows of an image together are all of it."""
    found: dict[str, list[np.ndarray]] = {}
    form = (convention.order, convention.base, convention.relative)
    for row in rows:
        image_id = row[convention.id_column]
        pixels = unpacked(row[convention.value_column], *predicted[image_id].shape, *form)
        found.setdefault(image_id, []).append(pixels)
    assert list(found) == list(predicted)
    for image_id, own in found.items():
        assert (sum(pixels.astype(int) for pixels in own) == (predicted[image_id] == 1)).all()  # and none overlap
        assert len(own) == max(1, label(predicted[image_id] == 1, np.ones((3, 3)))[1])
        assert all(label(pixels, np.ones((3, 3)))[1] == 1 for pixels in own if pixels.any())


def compare_zip(path: Path, predicted: dict[str, np.ndarray], competition) -> None:
    values = np.array(competition.submission.values)
    with zipfile.ZipFile(path) as zipped:
        assert len(zipped.namelist()) == len(predicted)
        for image_id, mask in predicted.items():
            stored = np.array(Image.open(zipped.open(competition.submission.file.format(id=image_id))))
            assert (stored == values[mask]).all()
