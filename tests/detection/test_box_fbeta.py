"""The F-beta of boxes: counted independently by pycocotools' matching, and its best thresholds by trying all."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.competition import ScoreOptions
from pipeline.detection.box_fbeta import best_threshold, box_fbeta, fbeta_of, fbeta_parts, hits_by_image, tally
from pipeline.detection.boxes import make_boxes, make_detections
from pipeline.detection.fitting import above
from pipeline.errors import UserError
from tests.detection.box_sets import random_set, reference_scores

BARRIER_REEF = ScoreOptions(beta=2.0, thresholds=tuple(np.linspace(0.3, 0.8, 11).round(2).tolist()))
AT_HALF = ScoreOptions(thresholds=(0.5,))


def reference_fbeta(truth, found, num_classes: int, options: ScoreOptions) -> np.ndarray:
    """The F-beta of each class from the matches of pycocotools, image by image."""
    matched = reference_scores(truth, found, num_classes, options.thresholds)
    all_sizes = matched.params.areaRng[0]
    values, square = [], options.beta**2
    for index in range(num_classes):
        hits = kept = true = 0
        for one in matched.evalImgs:
            if one is not None and one["category_id"] == index and one["aRng"] == all_sizes:
                is_counted = ~one["dtIgnore"].astype(bool)
                hits = hits + ((one["dtMatches"] > 0) & is_counted).sum(1)
                kept = kept + is_counted.sum(1)
                true += int((one["gtIgnore"] == 0).sum())
        values.append(np.mean((1 + square) * hits / (square * true + kept)))
    return np.array(values)


@pytest.mark.parametrize("options", [AT_HALF, BARRIER_REEF, ScoreOptions(beta=0.5)], ids=["F1", "F2 of 11", "F0.5"])
@pytest.mark.parametrize("seed", range(3))
def test_it_is_counted_from_the_matches_of_pycocotools(seed, options):
    truth, found = random_set(seed, crowds=0.2, digits=1)
    ours = box_fbeta(truth, found, 4, options)
    np.testing.assert_allclose(ours, reference_fbeta(truth, found, 4, options), rtol=0, atol=1e-12)
    assert (ours > 0.1).all() and (ours < 0.9).all()


def test_a_box_is_hit_once_by_the_surest_detection_and_a_detection_takes_the_box_it_overlaps_most():
    truth = {"a": make_boxes([[0, 0, 10, 10], [0, 0, 10, 8]], [0, 0])}
    found = {"a": make_detections([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 10]], [0.9, 0.8, 0.7], [0] * 3)}
    assert box_fbeta(truth, found, 1, AT_HALF) == pytest.approx(4 / 5)  # two hits of two boxes, three detections
    nearer = ScoreOptions(thresholds=(0.95,))
    assert box_fbeta(truth, found, 1, nearer) == pytest.approx(2 / 5)  # 0.8 at most of the lower box is hit by 0.9


def test_all_detections_count_where_ap_takes_a_hundred():
    truth = {"a": make_boxes([[0, 0, 10, 10]], [0])}
    found = {"a": make_detections([[20, 20, 30, 30]] * 150 + [[0, 0, 10, 10]], [0.9] * 150 + [0.8], [0] * 151)}
    assert box_fbeta(truth, found, 1, AT_HALF) == pytest.approx(2 / 152)


def test_a_class_that_is_only_labelled_or_only_found_scores_0_and_one_that_is_neither_is_undefined():
    truth = {"a": make_boxes([[0, 0, 10, 10], [50, 0, 90, 90]], [0, 3], [False, True]), "b": make_boxes([], [])}
    found = {"a": make_detections([[0, 0, 5, 5], [60, 10, 70, 20]], [0.9, 0.5], [1, 3])}
    values = box_fbeta(truth, found, 4, AT_HALF)
    assert values[:2].tolist() == [0, 0] and np.isnan(values[2:]).all()  # what is found in a crowd counts nowhere


def test_images_without_labels_are_refused():
    with pytest.raises(UserError, match="no labels: b"):
        box_fbeta({"a": make_boxes([], [])}, {"b": make_detections([], [], [])}, 1, AT_HALF)


@pytest.mark.parametrize("options", [AT_HALF, BARRIER_REEF], ids=["F1", "F2 of 11"])
def test_no_other_threshold_of_a_class_has_a_higher_fbeta(options):
    truth, found = random_set(5, crowds=0.2, digits=2)
    for index in range(4):
        least = best_threshold(hits_by_image(truth, found, index, options.thresholds), options.beta)

        def scored(own: float, index: int = index) -> float:
            least_C = np.full(4, own)
            kept = {name: above(one, least_C) for name, one in found.items()}
            return float(box_fbeta(truth, kept, 4, options)[index])

        values = {own: scored(own) for own in np.unique(np.concatenate([one.scores for one in found.values()]))}
        assert values[np.float32(least)] == pytest.approx(max(values.values()), abs=1e-12)


def test_a_class_without_a_hit_keeps_all_its_detections():
    truth = {"a": make_boxes([[0, 0, 10, 10]], [0])}
    found = {"a": make_detections([[20, 0, 30, 10]], [0.9], [0])}
    assert best_threshold(hits_by_image(truth, found, 0, [0.5]), 1.0) == 0
    assert best_threshold(hits_by_image(truth, {}, 0, [0.5]), 1.0) == 0


@given(seed=st.integers(0, 10_000), beta=st.sampled_from([0.5, 1.0, 2.0]), least=st.floats(0, 1))
def test_the_mean_of_what_images_add_is_the_fbeta(seed, beta, least):
    truth, found = random_set(seed, num_images=4, num_classes=1, num_true=3, num_others=3)
    counted = tally(hits_by_image(truth, found, 0, (0.3, 0.75)), least)
    assert fbeta_parts(counted, beta).mean() == pytest.approx(fbeta_of(counted, beta), abs=1e-12)


def test_the_spread_of_what_images_add_is_that_of_leaving_each_image_out():
    truth, found = random_set(3, num_images=40, num_classes=1)
    counted = tally(hits_by_image(truth, found, 0, BARRIER_REEF.thresholds), 0.3)
    parts = fbeta_parts(counted, 2.0)
    error = parts.std(ddof=1) / np.sqrt(len(parts))
    left_out = np.array(
        [fbeta_of(type(counted)(*(np.delete(own, index, 0) for own in counted)), 2.0) for index in range(len(parts))]
    )
    jackknife = np.sqrt((len(parts) - 1) / len(parts) * np.square(left_out - left_out.mean()).sum())
    assert error == pytest.approx(jackknife, rel=0.05)
