"""The interval of the score: centred on it, wider with fewer sequences, and absent where nothing can be said."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.intervals import group_numbers, interval
from pipeline.report.certainty import score_interval
from pipeline.report.page import write_page
from pipeline.report.record import Record
from tests.report.small_run import CLASSES, metrics_of, write_csv
from tests.report.test_page import read
from tests.tiny import run_of

IMAGES = 12


def scored(folder, values_IC, num_sequences: int, score: str = "dice") -> None:
    """Writes metrics.json and per_image.csv of these values per image and class; NaN becomes an empty cell."""
    means = np.nanmean(values_IC, 0)
    content = metrics_of(dice=means.tolist(), score=score)
    content["scores"][score] = content["scores"]["dice"] | {"label": score, "mean": float(means.mean())}
    (folder / "metrics.json").write_text(json.dumps(content))
    rows = [
        [f"{index:03d}", f"s{index % num_sequences}" if num_sequences else "", *("" if np.isnan(v) else v for v in row)]
        for index, row in enumerate(values_IC.tolist())
    ]
    write_csv(folder / "per_image.csv", ["id", "sequence", *(f"{score}_{name}" for name in CLASSES)], rows)


@pytest.fixture
def values() -> np.ndarray:
    return np.random.default_rng(0).uniform(0.3, 0.9, (IMAGES, len(CLASSES)))


def test_where_every_image_has_every_class_it_is_that_of_the_images_own_scores(finished_run, values):
    loaded, folder = finished_run
    scored(folder, values, 4)
    ids, sequences = [str(index) for index in range(IMAGES)], [f"s{index % 4}" for index in range(IMAGES)]
    wanted = interval(values.mean(1), group_numbers(ids, sequences))
    found = score_interval(Record(run_of(loaded)))
    assert [found.mean, found.low, found.high] == pytest.approx([wanted.mean, wanted.low, wanted.high], abs=1e-9)
    assert found.num_groups == 4


def test_where_classes_are_missing_it_is_still_centred_on_the_score_and_as_wide_as_a_jackknife_says(finished_run):
    loaded, folder = finished_run
    values = np.random.default_rng(1).uniform(0.2, 0.9, (IMAGES, len(CLASSES)))
    values[::3, 1] = values[1::4, 3] = np.nan
    scored(folder, values, 0, "present_dice")  # every image stands for itself
    found = score_interval(Record(run_of(loaded)))
    assert found.mean == pytest.approx(np.nanmean(values, 0).mean())
    left_out = [np.nanmean(np.delete(values, index, 0), 0).mean() for index in range(IMAGES)]
    error = np.sqrt((IMAGES - 1) / IMAGES * np.square(left_out - np.mean(left_out)).sum())
    assert (found.high - found.low) / 2 == pytest.approx(2.2 * error, rel=0.15)  # t with 11 degrees of freedom


def test_the_page_says_the_interval_and_from_how_many_sequences(finished_run, quick_plots, values):
    loaded, folder = finished_run
    scored(folder, values, 4)
    reader = read(write_page(run_of(loaded)))
    found = score_interval(Record(run_of(loaded)))
    assert f"{found.low:.3f} to {found.high:.3f} is the 95 % interval of the mean score on seq" in reader.words
    assert "from the variation between 4 sequences. The variation between seeds is not included." in reader.words
    assert reader.faults == [] and "range" in reader.values("class")


def test_one_sequence_gives_none_and_the_page_says_so(finished_run, quick_plots, values):
    loaded, folder = finished_run
    scored(folder, values, 1)
    reader = read(write_page(run_of(loaded)))
    assert "No interval: all 12 images are of one sequence" in reader.words
    assert "range" not in reader.values("class") and "inf" not in reader.words.split()


def test_a_score_of_all_images_at_once_has_none(finished_run, quick_plots):
    loaded, folder = finished_run
    (folder / "metrics.json").write_text(json.dumps(metrics_of(score="miou")))
    assert "No interval: mIoU is of all images at once" in read(write_page(run_of(loaded))).words


def test_a_table_of_another_evaluation_gives_none(finished_run, quick_plots, values):
    loaded, folder = finished_run
    scored(folder, values, 4)
    (folder / "metrics.json").write_text(json.dumps(metrics_of()))
    assert score_interval(Record(run_of(loaded))) is None
    assert "interval" not in read(write_page(run_of(loaded))).words
