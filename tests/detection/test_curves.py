"""Curves of precision over recall, and thresholds by F1."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detection.boxes import make_boxes, make_detections
from pipeline.detection.coco_scores import coco_scores
from pipeline.detection.curves import CURVE_IOUS, best_f1, f1_of_hits, precision_curves, thresholds_by_f1
from pipeline.detection.hits import Hits
from pipeline.errors import UserError
from tests.detection.box_sets import random_set

NAMES = ("car", "dog", "cat", "bus")


def test_the_mean_of_a_curve_is_the_ap_of_its_class_and_curves_fall():
    scores = coco_scores(*random_set(0), NAMES)
    for iou, name in zip(CURVE_IOUS, ("ap50", "ap75"), strict=True):
        curves = precision_curves(scores, iou)
        assert curves.shape == (4, 101) and (np.diff(curves) <= 0).all()
        np.testing.assert_allclose(curves.mean(1), scores.by_class[name])


def test_a_class_without_boxes_has_no_curve():
    truth, found = random_set(0, num_classes=3)
    assert np.isnan(precision_curves(coco_scores(truth, found, NAMES))[3]).all()


def test_a_curve_at_another_iou_is_refused():
    with pytest.raises(ValueError, match=r"no curve at IoU 0\.3"):
        precision_curves(coco_scores(*random_set(0, num_images=2), NAMES), 0.3)


@given(
    st.lists(st.tuples(st.integers(1, 5), st.booleans(), st.booleans()), max_size=12),
    st.integers(0, 4),
)
def test_no_other_threshold_has_a_higher_f1(detections, num_more):
    detections = sorted(detections, key=lambda one: -one[0])
    scores = np.array([one[0] / 10 for one in detections], np.float32)
    hit = np.array([one[1] for one in detections], bool)
    ignored = np.array([one[2] for one in detections], bool) & ~hit
    num_true = int(hit.sum()) + num_more
    best = f1_of_hits(Hits(scores, hit[None], ignored[None], num_true))

    def f1_at(threshold: float) -> float:
        kept = scores >= threshold
        right, wrong = (kept & hit).sum(), (kept & ~hit & ~ignored).sum()
        return 2 * right / (right + wrong + num_true) if num_true else np.nan

    highest = max((f1_at(threshold) for threshold in scores), default=0.0 if num_true else np.nan)
    assert best.f1 == pytest.approx(highest, nan_ok=True)
    if highest > 0:
        assert f1_at(best.threshold) == best.f1
        assert best.f1 == pytest.approx(2 / (1 / best.precision + 1 / best.recall))
        assert all(f1_at(other) < best.f1 for other in scores[scores > best.threshold])
    else:
        assert np.isnan(best.threshold)


def test_detections_kept_by_the_thresholds_have_the_f1_that_was_promised():
    truth, found = random_set(7, digits=2)
    wanted = best_f1(truth, found, 4)
    thresholds = thresholds_by_f1(truth, found, 4)
    kept = {name: one.keep(one.scores >= thresholds[one.classes]) for name, one in found.items()}
    for index, (again, best) in enumerate(zip(best_f1(truth, kept, 4), wanted, strict=True)):
        right = best.recall * sum((boxes.classes == index).sum() for boxes in truth.values())
        assert again == best and 0 < best.f1 < 1
        assert sum((one.classes == index).sum() for one in kept.values()) == round(right / best.precision)


def test_a_class_without_a_right_detection_gets_the_other_threshold():
    truth = {"a": make_boxes([[0, 0, 10, 10], [20, 20, 30, 30]], [0, 1])}
    found = {"a": make_detections([[0, 0, 10, 9], [0, 0, 9, 9], [0, 0, 5, 5]], [0.75, 0.5, 0.9], [0, 1, 2])}
    assert thresholds_by_f1(truth, found, 3).tolist() == [0.75, 0.5, 0.5]
    assert thresholds_by_f1(truth, found, 3, otherwise=0.3).tolist() == [0.75, 0.3, 0.3]
    assert thresholds_by_f1(truth, found, 3, iou=0.95).tolist() == [0.5, 0.5, 0.5]


def test_a_class_without_a_right_detection_has_an_f1_and_recall_of_0_and_one_without_boxes_has_none():
    truth = {"a": make_boxes([[0, 0, 10, 10]], [0])}
    found = {"a": make_detections([[50, 50, 60, 60], [0, 0, 10, 10]], [0.9, 0.8], [0, 1])}
    nan = np.nan
    np.testing.assert_equal(best_f1(truth, found, 2), [(nan, 0.0, nan, 0.0), (nan, nan, nan, nan)])
    np.testing.assert_equal(best_f1(truth, {}, 1), [(nan, 0.0, nan, 0.0)])


def test_thresholds_need_the_truth_of_each_image():
    with pytest.raises(UserError, match="no labels: b"):
        thresholds_by_f1({"a": make_boxes([], [])}, {"b": make_detections([], [], [])}, 1)
