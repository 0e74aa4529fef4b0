"""The kinds of errors are those of TIDE; counts and the confusion matrix account for every box and detection once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detection.boxes import Boxes, Detections, make_boxes, make_detections
from pipeline.detection.error_kinds import KINDS, confusion_matrix, count_errors, image_errors
from pipeline.detection.hits import hits_of, overlaps
from tests.detection.box_sets import random_image

NUM_CLASSES = 3
BOX = [0, 0, 10, 10]
seeds = st.integers(0, 2**32 - 1)


def drawn(seed: int) -> tuple[Boxes, Detections]:
    """An image with crowds, whose boxes are close enough for errors of all kinds."""
    rng = np.random.default_rng(seed)
    truth, found = random_image(rng, NUM_CLASSES, int(rng.integers(0, 12)), 12, crowds=0.15)
    xyxy = np.concatenate([found.xyxy, np.clip(truth.xyxy + rng.normal(0, 12, truth.xyxy.shape), 0, 500)])
    classes = np.concatenate([found.classes, rng.integers(0, NUM_CLASSES, len(truth.classes))])
    return truth, make_detections(xyxy, rng.random(len(xyxy)), classes)


def tide_kinds(truth: Boxes, found: Detections) -> list[str]:
    """The kinds of errors by the words of the paper, detection by detection; None for a hit or what is ignored."""
    used: set[int] = set()
    fits = overlaps(found.xyxy, truth)
    hit = {}
    for index in range(len(found.scores)):
        own = [other for other in range(len(truth.classes)) if truth.classes[other] == found.classes[index]]
        free = [other for other in own if not truth.is_crowd[other] and other not in used and fits[index, other] >= 0.5]
        if free:
            hit[index] = max(free, key=lambda other: fits[index, other])
            used.add(hit[index])
        elif any(truth.is_crowd[other] and fits[index, other] >= 0.5 for other in own):
            hit[index] = None
    kinds = []
    for index in range(len(found.scores)):
        same = [
            fits[index, other]
            for other in range(len(truth.classes))
            if truth.classes[other] == found.classes[index] and not truth.is_crowd[other]
        ]
        others = [
            fits[index, other]
            for other in range(len(truth.classes))
            if truth.classes[other] != found.classes[index] and not truth.is_crowd[other]
        ]
        most, most_of_others = max(same, default=0), max(others, default=0)
        if index in hit:
            kinds.append("ignored" if hit[index] is None else "hit")
        elif 0.1 <= most < 0.5:
            kinds.append("localisation")
        elif most_of_others >= 0.5:
            kinds.append("classification")
        elif most >= 0.5:
            kinds.append("double")
        else:
            kinds.append("both" if most_of_others >= 0.1 else "background")
    return kinds


@pytest.mark.parametrize(
    ("xyxy", "index", "kind"),
    [
        ([0, 0, 10, 5], 0, "hit"),  # IoU 0.5
        ([0, 0, 10, 4], 0, "localisation"),
        ([0, 0, 10, 1], 0, "localisation"),  # IoU 0.1
        ([0, 0, 9, 1], 0, "background"),
        ([0, 0, 10, 5], 1, "classification"),
        ([0, 0, 10, 4], 1, "both"),
        ([0, 0, 10, 1], 1, "both"),
        ([0, 0, 9, 1], 1, "background"),
        ([80, 80, 90, 90], 0, "background"),
    ],
)
def test_a_detection_has_the_kind_of_its_iou_and_class(xyxy, index, kind):
    errors = image_errors(make_boxes([BOX], [0]), make_detections([xyxy], [0.9], [index]), 0.5)
    assert errors.kinds == [kind]
    assert errors.partners.tolist() == [-1 if kind == "background" else 0]
    covered = {"hit", "localisation", "classification"}
    assert errors.truth_kinds == [kind if kind in covered else "missed"]


def test_a_second_detection_of_a_box_is_double_and_one_near_its_own_box_is_badly_placed():
    truth = make_boxes([BOX, [8, 0, 18, 10]], [0, 1])
    found = make_detections([BOX, [0, 0, 10, 8], [7, 0, 17, 10]], [0.9, 0.8, 0.7], [0, 0, 0])
    errors = image_errors(truth, found, 0.5)
    assert errors.kinds == ["hit", "double", "localisation"]  # the last one also lies on the box of class 1
    assert errors.truth_kinds == ["hit", "missed"]
    assert errors.partners.tolist() == [0, 0, 0]
    at_the_threshold = make_detections([BOX, [0, 0, 10, 5]], [0.9, 0.8], [0, 0])
    assert image_errors(truth, at_the_threshold, 0.5).kinds == ["hit", "double"]


def test_a_box_that_no_detection_hits_has_the_kind_of_the_surest_at_fault():
    truth = make_boxes([BOX], [0])
    both = [[0, 0, 10, 9], [0, 0, 10, 4]]
    assert image_errors(truth, make_detections(both, [0.9, 0.8], [1, 0]), 0.5).truth_kinds == ["classification"]
    assert image_errors(truth, make_detections(both, [0.8, 0.9], [1, 0]), 0.5).truth_kinds == ["localisation"]
    hit_later = make_detections([*both, BOX], [0.9, 0.8, 0.7], [1, 0, 0])
    assert image_errors(truth, hit_later, 0.5).truth_kinds == ["hit"]


def test_what_is_found_in_a_crowd_of_its_class_is_ignored_and_of_another_class_is_background():
    truth = make_boxes([[0, 0, 100, 100]], [0], [True])
    found = make_detections([BOX, BOX], [0.9, 0.8], [0, 1])
    errors = image_errors(truth, found, 0.5)
    assert (errors.kinds, errors.truth_kinds) == (["ignored", "background"], ["crowd"])
    assert confusion_matrix([errors], 2).tolist() == [[0, 0, 0], [0, 0, 0], [0, 1, 0]]


def test_detections_below_the_threshold_of_their_class_do_not_exist():
    truth = make_boxes([BOX], [0])
    found = make_detections([BOX, BOX, BOX], [0.9, 0.5, 0.4], [1, 0, 1])
    assert image_errors(truth, found, 0.5).kinds == ["classification", "hit"]
    assert image_errors(truth, found, np.array([0.6, 0.3])).kinds == ["classification", "classification"]
    at_the_bar = make_detections([BOX], [0.7], [0])
    assert (
        image_errors(truth, at_the_bar, 0.7).kinds == image_errors(truth, at_the_bar, np.array([0.7])).kinds == ["hit"]
    )
    errors = image_errors(truth, found, 1.0)
    assert (errors.kinds, errors.truth_kinds) == ([], ["missed"])


def test_images_without_boxes_or_detections_have_errors_of_one_kind():
    nothing, found = make_boxes([], []), make_detections([BOX, BOX], [0.9, 0.8], [0, 1])
    assert image_errors(nothing, found, 0).kinds == ["background"] * 2
    assert image_errors(make_boxes([BOX], [0]), make_detections([], [], []), 0).truth_kinds == ["missed"]
    assert count_errors([], 2)["hit"].tolist() == [0, 0] and not confusion_matrix([], 2).any()


@given(seeds)
def test_kinds_are_those_of_the_paper(seed):
    truth, found = drawn(seed)
    assert image_errors(truth, found, 0).kinds == tide_kinds(truth, found)


def test_random_images_have_errors_of_every_kind():
    seen = {kind for seed in range(40) for kind in image_errors(*drawn(seed), 0).kinds}
    assert seen == set(KINDS)


@given(seeds)
def test_hits_are_those_of_the_score(seed):
    truth, found = drawn(seed)
    hits = count_errors([image_errors(truth, found, 0)], NUM_CLASSES)["hit"]
    assert hits.tolist() == [hits_of(truth, found, index, [0.5]).is_hit.sum() for index in range(NUM_CLASSES)]


@given(st.lists(seeds, min_size=1, max_size=3), st.floats(0, 1))
def test_each_box_and_each_detection_is_counted_once(some_seeds, threshold):
    images = [image_errors(*drawn(seed), threshold) for seed in some_seeds]
    counts, matrix = count_errors(images, NUM_CLASSES), confusion_matrix(images, NUM_CLASSES)
    for index in range(NUM_CLASSES):
        kept = sum(
            (drawn(seed)[1].keep(drawn(seed)[1].scores >= threshold).classes == index).sum() for seed in some_seeds
        )
        true = sum(((image.truth.classes == index) & ~image.truth.is_crowd).sum() for image in images)
        assert sum(counts[kind][index] for kind in KINDS) == kept
        assert matrix[index].sum() == true and matrix[:, index].sum() == kept - counts["ignored"][index]
        assert matrix[index, index] == counts["hit"][index]
        assert counts["missed"][index] <= matrix[index, NUM_CLASSES] <= true - counts["hit"][index]
    assert matrix[NUM_CLASSES, NUM_CLASSES] == 0


def test_lists_for_panels_have_the_boxes_of_a_kind():
    truth = make_boxes([BOX, [50, 50, 60, 60]], [0, 1])
    found = make_detections([BOX, [80, 80, 90, 90]], [0.9, 0.8], [0, 1])
    errors = image_errors(truth, found, 0.5)
    assert errors.found_of("hit").xyxy.tolist() == [BOX] and errors.found_of("background").classes.tolist() == [1]
    assert errors.truth_of("missed").classes.tolist() == [1] and not len(errors.truth_of("crowd").classes)
