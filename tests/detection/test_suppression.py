"""Hard and soft non-maximum suppression; the soft one equals `ensemble_boxes`."""

from __future__ import annotations

import numpy as np
import pytest
from ensemble_boxes import ensemble_boxes_nms
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detection.boxes import Detections, ious, make_detections
from pipeline.detection.suppression import nms, soft_nms
from tests.detection.box_sets import jittered, random_xyxy

seeds = st.integers(0, 2**32 - 1)
NOTHING = make_detections([], [], [])


def drawn(seed: int, num_boxes: int = 12, num_classes: int = 3, shift: float = 0.0, digits: int = 6) -> Detections:
    """Objects that are found about four times each."""
    rng = np.random.default_rng(seed)
    xyxy = jittered(rng, np.repeat(random_xyxy(rng, num_boxes), 4, axis=0)) - shift
    scores = rng.uniform(0.05, 1, len(xyxy)).round(digits)
    return make_detections(xyxy, scores, np.repeat(rng.integers(0, num_classes, num_boxes), 4))


def plain_nms(found: Detections, iou: float, class_agnostic: bool) -> list[int]:
    """Kept indices, by the definition."""
    kept: list[int] = []
    for index in range(len(found.scores)):
        rivals = [other for other in kept if class_agnostic or found.classes[other] == found.classes[index]]
        overlaps = ious(found.xyxy[[index]].astype(float), found.xyxy[rivals].astype(float))
        if not (overlaps > iou).any():
            kept.append(index)
    return kept


def assert_same(one: Detections, other: Detections) -> None:
    for ours, theirs in zip(one, other, strict=True):
        np.testing.assert_array_equal(ours, theirs)


@given(seeds, st.sampled_from([0.0, 300.0, 1e5]), st.booleans(), st.sampled_from([1, 6]))
def test_a_detection_is_kept_unless_a_surer_kept_one_overlaps_it(seed, shift, class_agnostic, digits):
    found = drawn(seed, shift=shift, digits=digits)  # with a shift, coordinates are below 0
    kept = nms(found, 0.5, class_agnostic=class_agnostic)
    assert_same(kept, found.keep(plain_nms(found, 0.5, class_agnostic)))


def test_boxes_of_two_classes_do_not_meet_where_coordinates_are_below_0():
    found = make_detections([[-100, -100, 0, 0], [-99, -99, 1, 1]], [0.9, 0.8], [1, 0])
    assert len(nms(found).scores) == 2 and len(nms(found, class_agnostic=True).scores) == 1


def test_suppressing_twice_changes_nothing():
    once = nms(drawn(1), 0.5)
    assert_same(nms(once, 0.5), once)


def test_the_surest_are_returned_where_there_is_a_limit():
    found = drawn(2)
    for suppress in (nms, soft_nms):
        assert_same(suppress(found, top=5), suppress(found).keep(np.arange(5)))
        assert len(suppress(found, top=0).scores) == 0


def test_an_image_without_detections_stays_one():
    for kept in (nms(NOTHING), soft_nms(NOTHING), soft_nms(NOTHING, "linear", class_agnostic=True)):
        assert_same(kept, NOTHING)


@pytest.mark.parametrize("decay", ["gaussian", "linear"])
@pytest.mark.parametrize("seed", range(5))
def test_soft_nms_keeps_what_ensemble_boxes_keeps(decay, seed):
    found = drawn(seed)
    options = {"iou_thr": 0.4, "sigma": 0.3, "thresh": 0.05}
    one = ([found.xyxy / 500], [found.scores], [found.classes])
    boxes, scores, labels = ensemble_boxes_nms.soft_nms(*one, method=1 if decay == "linear" else 2, **options)
    ours = soft_nms(found, decay, iou=0.4, sigma=0.3, floor=0.05)
    assert 10 < len(scores) < len(found.scores)
    for index in range(3):  # the reference returns class by class, and the scores from before
        np.testing.assert_allclose(ours.xyxy[ours.classes == index] / 500, boxes[labels == index], atol=1e-6)


@pytest.mark.parametrize("decay", ["gaussian", "linear"])
@pytest.mark.parametrize("seed", range(5))
def test_soft_nms_lowers_scores_as_ensemble_boxes_does(decay, seed):
    found = drawn(seed)
    one_class = found._replace(classes=found.classes * 0)
    scores = found.scores.astype(np.float64)  # the reference writes the new scores here, in its order
    method = 1 if decay == "linear" else 2
    order = ensemble_boxes_nms.cpu_soft_nms_float(found.xyxy / np.float64(500), scores, 0.4, 0.3, -1, method)
    for ours in (soft_nms(one_class, decay, 0.4, 0.3, -1), soft_nms(found, decay, 0.4, 0.3, -1, class_agnostic=True)):
        np.testing.assert_allclose(ours.scores, scores, atol=1e-6)
        np.testing.assert_array_equal(ours.xyxy, found.xyxy[order])


@given(seeds, st.sampled_from(["gaussian", "linear"]))
def test_classes_do_not_touch_each_other_in_soft_nms(seed, decay):
    found = drawn(seed)
    together = soft_nms(found, decay)
    for index in range(3):
        assert_same(together.keep(together.classes == index), soft_nms(found.keep(found.classes == index), decay))


@given(seeds, st.sampled_from(["gaussian", "linear"]))
def test_soft_scores_fall_in_the_order_returned_and_none_rises(seed, decay):
    found = drawn(seed)
    kept = soft_nms(found, decay, floor=-1)
    assert (np.diff(kept.scores) <= 0).all() and kept.scores[0] == found.scores[0]
    before = {tuple(box): score for box, score in zip(found.xyxy.tolist(), found.scores, strict=True)}
    assert all(score <= before[tuple(box)] for box, score in zip(kept.xyxy.tolist(), kept.scores, strict=True))


def test_a_score_at_the_floor_is_dropped_and_an_overlap_at_the_threshold_lowers_nothing():
    found = make_detections([[0, 0, 10, 10], [0, 0, 10, 5], [50, 0, 60, 10]], [1.0, 0.5, 0.25], [0, 0, 0])
    assert soft_nms(found, "linear", iou=0.5).scores.tolist() == [1.0, 0.5, 0.25]
    assert soft_nms(found, "linear", iou=0.49, floor=0.25).scores.tolist() == [1.0]  # 0.5 becomes 0.25
    assert soft_nms(found, "linear", iou=0.49, floor=0.24).scores.tolist() == [1.0, 0.25, 0.25]


def test_of_settings_that_are_not_given_those_of_the_documentation_count():
    found = make_detections([[0, 0, 10, 10], [0, 0, 10, 5], [50, 0, 60, 10]], [0.75, 0.5, 0.0009], [0, 0, 0])
    gaussian, linear = soft_nms(found), soft_nms(found, "linear")
    assert gaussian.scores.tolist() == pytest.approx([0.75, 0.5 * np.exp(-(0.5**2) / 0.5)])
    assert linear.scores.tolist() == pytest.approx([0.75, 0.5])


def test_soft_nms_needs_one_of_its_two_decays():
    with pytest.raises(ValueError, match="decay is 'hard'"):
        soft_nms(NOTHING, "hard")
