"""The ready descriptions of known competitions, by description alone, on faithful miniatures of their folders."""

from __future__ import annotations

import csv
import io
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import label

from pipeline.engine.api import run
from pipeline.engine.run import Run
from pipeline.paths import CLASSES, SPLIT, TEST_CATALOG, TRAIN_CATALOG, Folders
from pipeline.prediction.store import open_predictions
from pipeline.report.read import read_columns
from pipeline.segmentation.predict import decode
from tests.miniatures import DRAWN
from tests.tiny import SETTINGS

# As the sources in the descriptors have it: what is stored for each class, and classes that the miniature shows.
ISAID = [
    *[(0, 0, 0), (0, 0, 63), (0, 63, 63), (0, 63, 0), (0, 63, 127), (0, 63, 191), (0, 63, 255), (0, 127, 63)],
    *[(0, 127, 127), (0, 0, 127), (0, 0, 191), (0, 0, 255), (0, 191, 127), (0, 127, 191), (0, 127, 255)],
    (0, 100, 155),
]
COCO_UNUSED = {
    11,
    25,
    28,
    29,
    44,
    65,
    67,
    68,
    70,
    82,
    90,
}  # numbers of labels.txt less one: street sign, hat, shoe, ...
STORED = {
    "ade20k": (np.arange(1, 151), {"wall": 9, "sky": 9, "flag": 5, "person": 4}),
    "pascal_voc_2012": (np.arange(21), {"background": 9, "aeroplane": 9, "person": 2, "tvmonitor": 1}),
    "coco_stuff": (
        np.setdiff1d(np.arange(182), list(COCO_UNUSED)),
        {"person": 9, "sky-other": 9, "stop sign": 9, "wood": 4},
    ),
    "inria_aerial": (np.array([0, 255]), {"Background": 14, "Building": 14}),
    "isaid": (
        np.array(ISAID),
        {"background": 9, "ship": 9, "plane": 9, "Harbor": 9},
    ),
}
# Where test images are an archive of their own, its folder; and how many images validate and are predicted.
BENCHMARKS = {
    "ade20k": ("release_test/testing", 3, 3),
    "pascal_voc_2012": ("VOCtest", 3, 4),
    "coco_stuff": ("test2017", 3, 3),
    "inria_aerial": (None, 6, 4),
    "isaid": (None, 3, 2),
}
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


@pytest.fixture
def benchmark(tmp_path) -> Callable[..., Run]:
    """`benchmark(name, last, log)` draws a benchmark's folder, and runs the stages on it up to `last`."""

    def run_on(name: str, last: str, log: Callable[[str], None]) -> Run:
        folder, tests = DRAWN[name](tmp_path / "data"), BENCHMARKS[name][0]
        changes = {**QUICK, "DATASETS.COMPETITION": name, "DATASETS.SPLIT.BY": "given", "DATASETS.DIRECTORY": folder}
        changes |= {"DATASETS.TEST_DIRECTORY": tmp_path / "data" / tests} if tests else {}
        arguments = [f"{key}={value}" for key, value in changes.items()]
        return run("demo", arguments, last, folders_in(tmp_path, tmp_path), log=log)

    return run_on


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmarks_images_masks_and_validation_are_read_as_published(benchmark, name, capfd):
    lines: list[str] = []
    finished = benchmark(name, "testset", lines.append)
    _, num_valid, num_test = BENCHMARKS[name]
    assert read_columns(finished.paths / SPLIT)["subset"].count("valid") == num_valid
    assert len(read_columns(finished.paths / TEST_CATALOG)["id"]) == num_test
    classes = read_columns(finished.paths / CLASSES)
    images = dict(zip(classes["name"], map(int, classes["images"]), strict=True))
    stored, shown = STORED[name]
    assert len(images) == len(stored)
    assert {label: images[label] for label in shown} == shown
    if name == "inria_aerial":
        split = read_columns(finished.paths / SPLIT)
        valid = {id for id, subset in zip(split["id"], split["subset"], strict=True) if subset == "valid"}
        assert valid == {f"{city}{number}" for city in ("austin", "tyrol-w") for number in (1, 2, 5)}
    assert not [line for line in lines if "in no list" in line and name != "pascal_voc_2012"]
    assert "TIFF" not in capfd.readouterr().err  # of a GeoTIFF's tags


@pytest.mark.slow
@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_benchmarks_predictions_are_a_zip_of_the_values_that_it_stores(benchmark, tmp_path, name):
    finished = benchmark(name, "submit", lambda line: None)
    store, stored = open_predictions(finished, "test"), STORED[name][0]
    (path,) = (tmp_path / "submissions").glob("*.zip")
    with zipfile.ZipFile(path) as zipped:
        assert len(zipped.namelist()) == len([*store]) == BENCHMARKS[name][2]
        for image_id in store:
            file = file_of(image_id, finished.loaded.competition)
            assert (np.array(Image.open(zipped.open(file))) == stored[decode(store[image_id])]).all()


def test_pixels_of_several_organs_keep_all_of_them(miniatures, tmp_path):
    finished = run("demo", overrides("uw_madison"), "prepare", folders_in(tmp_path, miniatures), log=lambda line: None)
    (folder,) = miniatures.glob(f"{finished.loaded.competition.kaggle_slug}*")
    counted, overlaps = dict.fromkeys(finished.loaded.competition.classes, 0), 0
    texts: dict[str, list[str]] = {}
    for row in read_rows(folder / "train.csv"):
        pixels = row["segmentation"].split()
        counted[row["class"]] += sum(map(int, pixels[1::2]))
        texts.setdefault(row["id"], []).append(row["segmentation"])
    catalog = read_columns(finished.paths / TRAIN_CATALOG)
    for index, name in enumerate(counted):
        assert sum(map(int, catalog[f"pixels_{index}"])) == counted[name]
    for own in texts.values():
        sets = [{pixel for first, length in pairs(text) for pixel in range(first, first + length)} for text in own]
        overlaps += len(set.union(*sets)) < sum(map(len, sets))
    assert overlaps  # the miniature has some, as the competition does


def pairs(text: str) -> list[tuple[int, int]]:
    numbers = list(map(int, text.split()))
    return list(zip(numbers[::2], numbers[1::2], strict=True))


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


def file_of(image_id: str, competition) -> str:
    """Returns the name of an image's mask in a zip."""
    suffix = {"png_masks": ".png", "tiff_masks": ".tif"}[competition.submission.format]
    return (competition.submission.file or f"{{id}}{suffix}").format(id=image_id)


def compare_zip(path: Path, predicted: dict[str, np.ndarray], competition) -> None:
    values = np.array(competition.submission.values)
    with zipfile.ZipFile(path) as zipped:
        assert len(zipped.namelist()) == len(predicted)
        for image_id, mask in predicted.items():
            stored = np.array(Image.open(zipped.open(file_of(image_id, competition))))
            assert (stored == values[mask]).all()
