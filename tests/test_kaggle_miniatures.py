"""Further competitions on Kaggle by description alone: prepared, described by `new`, submitted, and decoded again."""

from __future__ import annotations

import csv
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.load import load_competition
from pipeline.data.competition import list_files
from pipeline.engine.api import run
from pipeline.engine.run import Run
from pipeline.paths import TEST_CATALOG, TRAIN_CATALOG, Folders
from pipeline.prediction.store import open_predictions
from pipeline.report.read import read_columns
from pipeline.segmentation.discovery.describe import describe_folder
from pipeline.segmentation.mask_source import MaskSource
from pipeline.segmentation.predict import decode
from tests.kaggle_miniatures import DRAWN
from tests.tiny import SETTINGS

# The split that a user of each would choose, and the number of images: for training, to predict.
KNOWN = {
    "understanding_clouds": ("slice", 6, 3),
    "ultrasound_nerve": ("sequence", 16, 5),
    "sartorius_cells": ("slice", 8, 3),
    "sennet_vessels": ("sequence", 16, 4),
    "hubmap_organs": ("slice", 8, 1),
    "imaterialist_fashion": ("slice", 8, 3),
}
QUICK = {
    **SETTINGS,
    "SWEEP.ENABLE": "false",
    "SOLVER.PLAN": "constant",
    "DATALOADERS.TRAIN.BATCH_SIZE": "1",  # images of several sizes
    "DATASETS.AUGMENTATION.COPY_PASTE.ENABLE": "false",
}
FACTS = {"order": "column", "base": 1, "relative": False}  # of run lengths, of which the files alone are compared
# How the rows of the training list and of a submission are read: columns of id and runs, whether by column.
LISTS = {
    "understanding_clouds": ("train.csv", "Image_Label", "EncodedPixels", True),
    "ultrasound_nerve": ("train_masks.csv", "img", "pixels", True),
    "sartorius_cells": ("train.csv", "id", "annotation", False),
    "sennet_vessels": ("train_rles.csv", "id", "rle", False),
    "hubmap_organs": ("train.csv", "id", "rle", True),
    "imaterialist_fashion": ("train.csv", "ImageId", "EncodedPixels", True),
}


def run_on(name: str, last: str, folder: Path) -> Run:
    """Draws a competition below `folder` and runs the stages on it up to `last`."""
    changes = {**QUICK, "DATASETS.COMPETITION": name, "DATASETS.SPLIT.BY": KNOWN[name][0]}
    DRAWN[name](folder / "data")
    folders = Folders(folder / "runs", folder / "submissions", folder / "scratch", (folder / "data",), ())
    return run("demo", [f"{key}={value}" for key, value in changes.items()], last, folders, log=lambda line: None)


def read_rows(path: Path) -> list[dict[str, str]]:
    with open(path, newline="") as file:
        return list(csv.DictReader(file))


def listed_pixels(name: str, folder: Path) -> dict[str, int]:
    """Returns the pixels of the masks of each image, as its list's run lengths sum up to."""
    file, id_column, value_column, _ = LISTS[name]
    found: dict[str, int] = defaultdict(int)
    for row in read_rows(folder / file):
        image_id = row[id_column].partition("_")[0] if name == "understanding_clouds" else row[id_column]
        image_id = f"{row['subject']}_{image_id}" if name == "ultrasound_nerve" else image_id
        found[image_id] += sum(map(int, row[value_column].split()[1::2]))
    return found


@pytest.mark.parametrize("name", KNOWN)
def test_prepare_and_testset_read_each_image_and_pixel_as_published(tmp_path, name):
    finished = run_on(name, "testset", tmp_path)
    _, num_train, num_test = KNOWN[name]
    train, competition = read_columns(finished.paths / TRAIN_CATALOG), finished.loaded.competition
    assert len(read_columns(finished.paths / TEST_CATALOG)["id"]) == num_test
    assert len(train["id"]) == num_train
    wanted = listed_pixels(name, tmp_path / "data" / competition.kaggle_slug)
    first = 0 if competition.is_multilabel else 1
    columns = [train[f"pixels_{index}"] for index in range(first, competition.num_classes)]
    for image_id, *counts in zip(train["id"], *columns, strict=True):
        if competition.border_index is None:
            assert sum(map(int, counts)) == wanted[image_id], image_id
        else:  # borders also take pixels around the cells
            assert 0 < int(counts[0]) <= wanted[image_id] <= sum(map(int, counts))


@pytest.mark.parametrize("name", KNOWN)
def test_new_describes_the_folder_as_the_ready_description_does(tmp_path, name):
    folder = DRAWN[name](tmp_path)
    found, ready = describe_folder(folder, name)[0].competition(), load_competition(name)
    assert found.convention == ready.convention
    assert (found.labels, found.objects.method is None) == (ready.labels, ready.objects.method is None)
    assert found.objects.empty_rows == ready.objects.empty_rows
    for subset in ("train", "test"):
        (listed, problems), (wanted, _) = (list_files(one, folder, subset) for one in (found, ready))
        assert problems == []
        assert [(one.id, file) for one, file in listed] == [(one.id, file) for one, file in wanted]
    for one, _ in list_files(ready, folder, "train")[0]:
        assert MaskSource(found, folder, FACTS).cell(one.id) == MaskSource(ready, folder, FACTS).cell(one.id)
    if found.sequence_pattern:
        assert ready.sequence_pattern


def pixels_of(text: str, size: tuple[int, int], by_column: bool) -> np.ndarray:
    """Returns the pixels of run lengths from 1 on, bool (H, W), written down one by one."""
    height, width = size
    mask, numbers = np.zeros(size, bool), [] if text == "1 0" else list(map(int, text.split()))
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        for place in range(start - 1, start - 1 + length):
            y, x = (place % height, place // height) if by_column else divmod(place, width)
            assert not mask[y, x]
            mask[y, x] = True
    return mask


@pytest.mark.slow
@pytest.mark.parametrize("name", KNOWN)
def test_the_submission_decodes_to_what_was_predicted(tmp_path, name):
    finished = run_on(name, "submit", tmp_path)
    competition, store = finished.loaded.competition, open_predictions(finished, "test")
    predicted = {image_id: decode(store[image_id]) for image_id in store}
    (path,) = (tmp_path / "submissions").glob("*.csv")
    rows, sample = read_rows(path), read_rows(tmp_path / "data" / competition.kaggle_slug / "sample_submission.csv")
    assert list(rows[0]) == list(sample[0])  # the columns and their order
    convention, by_column = competition.convention, LISTS[name][3]
    texts = [row[convention.value_column] for row in rows]
    if not competition.has_objects:
        assert [row[convention.id_column] for row in rows] == [row[convention.id_column] for row in sample]
        for row, text in zip(rows, texts, strict=True):
            cell = row[convention.id_column]
            if name == "understanding_clouds":
                image_id, _, label = cell.rpartition("_")
                plane = predicted[image_id][..., competition.classes.index(label)] > 0
                small = plane.repeat(5, 0).repeat(5, 1).reshape(350, 6, 525, 6).mean((1, 3)) >= 0.5
                assert (pixels_of(text, (350, 525), by_column) == small).all()
            else:
                assert (pixels_of(text, predicted[cell].shape, by_column) == (predicted[cell] == 1)).all()
        return
    covered = {image_id: np.zeros(mask.shape, int) for image_id, mask in predicted.items()}
    for row, text in zip(rows, texts, strict=True):
        label = row[convention.class_column] if convention.class_column else "1"
        index = competition.label_texts.index(label)
        covered[row[convention.id_column]] += (
            pixels_of(text, covered[row[convention.id_column]].shape, by_column) * index
        )
    assert list(dict.fromkeys(row[convention.id_column] for row in rows)) == list(predicted)
    for image_id, mask in predicted.items():
        is_kept = covered[image_id] > 0  # objects of few pixels are dropped, those of cells also take their borders
        border = competition.border_index
        assert ((covered[image_id] == mask) | (mask == border) | ~is_kept).all()
        num_rows = sum(row[convention.id_column] == image_id for row in rows)
        assert is_kept.any() or num_rows == 1
