"""Which detections hit which boxes: COCO's rules, in worked cases; whole scores are compared in test_coco_scores."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from pipeline.detection.boxes import make_boxes, make_detections
from pipeline.detection.hits import THRESHOLDS, check_images, hits_of, partners, pooled_hits, precision_at_recalls
from pipeline.errors import UserError
from tests.detection.box_sets import random_set, reference_scores

NO_CROWD = np.zeros(2, bool)


def taken(overlaps, crowd=NO_CROWD, thresholds=(0.5,)):
    return partners(np.array(overlaps, np.float64), np.asarray(crowd), thresholds).tolist()


def test_the_surest_detection_takes_the_box_it_overlaps_most_and_others_take_what_is_left():
    assert taken([[0.6, 0.7], [0.6, 0.9], [0.9, 0.9]]) == [[1, 0, -1]]


def test_a_detection_at_the_threshold_is_a_hit():
    assert taken([[0.5, 0.49], [0.5, 0.49]]) == [[0, -1]]


def test_of_boxes_with_equal_overlap_the_last_is_taken_as_in_coco():
    assert taken([[0.8, 0.8]]) == [[1]]
    many = np.tile(np.where(np.arange(100) % 3, 0.6, 0.8), (3, 1))  # an unstable sort leaves few boxes in order
    assert taken(many, np.zeros(100, bool)) == [[99, 96, 93]]


def test_a_crowd_is_taken_by_many_but_only_when_no_box_is_left():
    assert taken([[0.6, 1.0], [0.6, 1.0], [0.2, 0.7]], [False, True]) == [[0, 1, 1]]
    assert taken([[0.6, 1.0]], [False, True], (0.5, 0.75)) == [[0], [1]]


def test_an_exact_box_is_a_hit_at_every_threshold_up_to_1():
    assert taken([[1.0, 0.0]], thresholds=(0.5, 1.0)) == [[0], [0]]


@given(
    npst.arrays(
        np.float64, st.tuples(st.integers(0, 7), st.integers(0, 5)), elements=st.integers(0, 10).map(lambda n: n / 10)
    )
)
def test_no_box_is_taken_twice_and_the_surest_half_takes_the_same_without_the_rest(overlaps):
    crowd = np.zeros(overlaps.shape[1], bool)
    found = partners(overlaps, crowd, THRESHOLDS)
    for row, threshold in zip(found, THRESHOLDS, strict=True):
        hit = np.flatnonzero(row >= 0)
        assert len(set(row[hit])) == len(hit) and (overlaps[hit, row[hit]] >= threshold).all()
        left = np.setdiff1d(np.arange(overlaps.shape[1]), row[hit])
        assert not (overlaps[row < 0][:, left] >= threshold).any()
    half = len(overlaps) // 2
    assert (partners(overlaps[:half], crowd, THRESHOLDS) == found[:, :half]).all()


def test_only_the_hundred_surest_detections_of_a_class_count():
    truth = make_boxes([[0, 0, 10, 10]], [0])
    found = make_detections([[20, 20, 30, 30]] * 100 + [[0, 0, 10, 10]] * 2, [0.9] * 100 + [0.8] * 2, [0] * 101 + [1])
    assert hits_of(truth, found, 0).is_hit.shape == (10, 100) and not hits_of(truth, found, 0).is_hit.any()


def test_precision_at_a_recall_is_the_highest_at_it_or_beyond():
    truth = make_boxes([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [60, 0, 70, 10]], [0] * 4)
    found = make_detections(
        [[0, 0, 10, 10], [80, 0, 90, 10], [20, 0, 30, 10], [40, 0, 50, 10]], [0.9, 0.8, 0.7, 0.6], [0] * 4
    )
    precision = precision_at_recalls(hits_of(truth, found, 0, [0.5]))[0]
    assert precision[[0, 25, 26, 75, 76, 100]] == pytest.approx([1, 1, 0.75, 0.75, 0, 0])


@pytest.mark.parametrize("seed", range(3))
def test_the_precision_of_pooled_hits_is_that_of_pycocotools(seed):
    truth, found = random_set(seed, crowds=0.2, digits=1)
    theirs = reference_scores(truth, found, 4).eval["precision"][:, :, :, 0, 2]
    for index in range(4):
        ours = precision_at_recalls(pooled_hits(truth, found, index, THRESHOLDS))
        np.testing.assert_allclose(ours, theirs[:, :, index], rtol=0, atol=1e-9)


@pytest.mark.parametrize(
    ("unknown", "words"),
    [("bcd", "3 of 4 images with detections have no labels: b, c, d\n"), ("bcde", "4 of 5 .*: b, c, d, ...\n")],
)
def test_up_to_three_images_without_labels_are_named(unknown, words):
    nothing = make_detections([], [], [])
    with pytest.raises(UserError, match=words):
        check_images({"a": make_boxes([], [])}, dict.fromkeys("a" + unknown, nothing), 1)


def test_a_class_that_the_competition_does_not_have_is_refused_by_image():
    with pytest.raises(ValueError, match="image a has boxes of classes beyond the 2 "):
        check_images({"a": make_boxes([[0, 0, 1, 1]], [2])}, {}, 2)
