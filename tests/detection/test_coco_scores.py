"""COCO's scores equal those of pycocotools; what is undefined is NaN; images without truth are refused."""

from __future__ import annotations

import sys

import numpy as np
import pytest

from pipeline.detection.boxes import make_boxes, make_detections
from pipeline.detection.coco_scores import BY_CLASS, NUMBERS, coco_scores, image_scores
from pipeline.errors import UserError
from tests.detection.box_sets import random_set, reference_scores

NAMES = ("car", "dog", "cat", "bus")
NO_BOXES, NOTHING = make_boxes([], []), make_detections([], [], [])


def nan_for_minus_1(values: np.ndarray) -> np.ndarray:
    return np.where(np.asarray(values) == -1, np.nan, values)


def assert_equal_to_pycocotools(truth, found, num_classes=4):
    names = [f"class {index}" for index in range(num_classes)]
    ours, theirs = coco_scores(truth, found, names), reference_scores(truth, found, num_classes)
    assert list(ours.numbers) == list(NUMBERS) and list(ours.by_class) == list(BY_CLASS)
    np.testing.assert_allclose(list(ours.numbers.values()), nan_for_minus_1(theirs.stats), rtol=0, atol=1e-9)
    precision = nan_for_minus_1(theirs.eval["precision"][:, :, :, 0, 2]).transpose(2, 0, 1)
    np.testing.assert_allclose(ours.precision_CTR, precision, rtol=0, atol=1e-9)
    wanted = [precision.mean((1, 2)), precision[:, 0].mean(1), precision[:, 5].mean(1)]
    np.testing.assert_allclose(list(ours.by_class.values()), wanted, rtol=0, atol=1e-9)
    return ours


@pytest.mark.parametrize("seed", range(6))
def test_the_scores_of_a_random_set_are_those_of_pycocotools(seed):
    scores = assert_equal_to_pycocotools(*random_set(seed))
    assert 0.1 < scores.numbers["ap"] < scores.numbers["ap50"] < 1


@pytest.mark.parametrize("seed", range(6))
def test_they_are_with_crowds_and_many_equal_scores(seed):
    truth, found = random_set(seed, crowds=0.3, digits=1)
    assert sum(boxes.is_crowd.sum() for boxes in truth.values()) > 5
    assert len(np.unique(np.concatenate([one.scores for one in found.values()]))) <= 11
    assert_equal_to_pycocotools(truth, found)


def test_they_are_with_more_than_100_detections_of_a_class_in_an_image():
    truth, found = random_set(3, num_images=3, num_classes=2, num_true=60, num_others=400)
    assert min(np.bincount(one.classes).min() for one in found.values()) > 150
    assert_equal_to_pycocotools(truth, found, 2)


def test_they_are_with_images_without_boxes_or_detections_and_classes_without_boxes():
    truth, found = random_set(4, num_classes=3)
    truth |= {"image 002": NO_BOXES, "image 003": NO_BOXES}
    found["image 003"] = found["image 004"] = NOTHING
    del found["image 005"]
    found["image 006"] = found["image 006"]._replace(classes=found["image 006"].classes * 0 + 3)
    scores = assert_equal_to_pycocotools(truth, found)
    assert np.isnan(scores.by_class["ap"]).tolist() == [False, False, False, True]


def test_they_are_with_twenty_classes_most_of_which_an_image_does_not_have():
    assert_equal_to_pycocotools(*random_set(5, num_images=30, num_classes=20, num_true=4), 20)


def test_perfect_detections_score_1_and_a_size_that_no_box_has_is_undefined():
    truth = {"a": make_boxes([[0, 0, 40, 40], [50, 50, 90, 95]], [0, 1])}
    found = {"a": make_detections(truth["a"].xyxy, [0.9, 0.8], [0, 1])}
    scores = coco_scores(truth, found, NAMES)
    assert {name for name, value in scores.numbers.items() if value == 1} == {
        *("ap", "ap50", "ap75", "ap_medium", "ar_1", "ar_10", "ar_100", "ar_medium")
    }
    assert all(np.isnan(scores.numbers[name]) for name in ("ap_small", "ap_large", "ar_small", "ar_large"))
    assert scores.by_class["ap50"][:2] == [1, 1] and np.isnan(scores.by_class["ap50"][2:]).all()


def test_a_set_in_which_nothing_was_found_scores_0_and_one_without_any_box_is_undefined():
    truth, _ = random_set(1)
    assert coco_scores(truth, {}, NAMES).numbers["ap"] == 0
    empty = coco_scores({"a": NO_BOXES}, {"a": make_detections([[0, 0, 5, 5]], [0.5], [0])}, NAMES)
    assert np.isnan(list(empty.numbers.values())).all() and np.isnan(empty.precision_CTR).all()
    assert np.isnan(list(coco_scores({"a": NO_BOXES}, {}, NAMES).numbers.values())).all()


def test_what_is_found_in_a_crowd_is_no_error():
    truth = {"a": make_boxes([[0, 0, 40, 40], [100, 100, 200, 200]], [0, 0], [False, True])}
    right = make_detections([[0, 0, 40, 40]], [0.5], [0])
    in_crowd = make_detections([[110, 110, 130, 130], [0, 0, 40, 40]], [0.9, 0.5], [0, 0])
    of_another = in_crowd._replace(classes=np.array([1, 0]))
    assert coco_scores(truth, {"a": right}, NAMES).numbers["ap"] == 1
    assert coco_scores(truth, {"a": in_crowd}, NAMES).numbers["ap"] == 1
    outside = make_detections([[210, 110, 230, 130], [0, 0, 40, 40]], [0.9, 0.5], [0, 0])
    assert coco_scores(truth, {"a": outside}, NAMES).numbers["ap"] == pytest.approx(0.5)
    assert coco_scores(truth, {"a": of_another}, NAMES).numbers["ap"] == 1  # class 1 has no box: its AP is undefined


def test_detections_of_images_without_labels_are_refused():
    truth, found = random_set(0, num_images=3)
    found |= {"test 1": NOTHING, "test 0": NOTHING}
    with pytest.raises(UserError, match=r"2 of 5 images with detections have no labels: test 0, test 1\n"):
        coco_scores(truth, found, NAMES)
    with pytest.raises(UserError, match="no image has labels"):
        coco_scores({}, {}, NAMES)


def test_a_class_beyond_the_names_is_an_error():
    truth, found = random_set(0, num_images=2)
    with pytest.raises(ValueError, match="classes beyond the 3"):
        coco_scores(truth, found, NAMES[:3])


def test_nothing_is_printed(capfd):
    coco_scores(*random_set(0, num_images=2), NAMES)
    assert capfd.readouterr() == ("", "")


def test_without_the_evaluator_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    with pytest.raises(UserError, match="install faster_coco_eval"):
        coco_scores(*random_set(0, num_images=2), NAMES)


def test_the_order_of_the_images_does_not_change_a_bit():
    truth, found = random_set(2, digits=1)
    turned = coco_scores(dict(reversed(truth.items())), dict(reversed(found.items())), NAMES)
    assert turned.numbers == coco_scores(truth, found, NAMES).numbers


@pytest.mark.parametrize("seed", range(4))
def test_the_scores_of_an_image_are_those_of_pycocotools_on_a_set_of_one(seed):
    truth, found = random_set(seed, num_images=8, num_true=10, num_others=8, crowds=0.2, digits=1)
    num_compared = 0
    for name in truth:
        ours, theirs = (
            image_scores(truth[name], found[name], 4),
            reference_scores({"a": truth[name]}, {"a": found[name]}, 4),
        )
        precision = nan_for_minus_1(theirs.eval["precision"][:, :, :, 0, 2])
        wanted = (precision.mean((0, 1)), precision[0].mean(0), precision[5].mean(0))
        has_boxes = ~np.isnan(wanted[0])
        num_compared += has_boxes.sum()
        for kind, values in zip(BY_CLASS, wanted, strict=True):
            np.testing.assert_allclose(ours[kind][has_boxes], values[has_boxes], rtol=0, atol=1e-9)
            assert not np.nan_to_num(ours[kind][~has_boxes]).any()
    assert num_compared > 20


def test_the_scores_of_an_image_with_a_crowded_class_are_those_of_pycocotools():
    truth, found = random_set(8, num_images=1, num_classes=1, num_true=40, num_others=300, crowds=0.1)
    ((name, boxes),) = truth.items()
    theirs = reference_scores(truth, found, 1)
    assert image_scores(boxes, found[name], 1)["ap"][0] == pytest.approx(theirs.stats[0], abs=1e-9)


def test_a_class_that_an_image_does_not_have_scores_0_where_it_was_found_outside_of_crowds():
    truth = make_boxes([[0, 0, 10, 10], [50, 50, 90, 90]], [0, 1], [False, True])
    found = make_detections([[47, 52, 57, 60], [0, 0, 10, 10]], [0.9, 0.1], [1, 2])  # the first: 0.7 of it in the crowd
    ap = image_scores(truth, found, 4)["ap"]
    assert ap[[0, 2]].tolist() == [0, 0] and np.isnan(ap[[1, 3]]).all()
    outside = make_detections([[44, 52, 54, 60]], [0.9], [1])  # 0.4 of it in the crowd
    assert image_scores(truth, outside, 4)["ap"][1] == 0
    assert np.isnan(image_scores(NO_BOXES, NOTHING, 2)["ap50"]).all()
