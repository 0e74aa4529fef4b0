"""Weighted box fusion equals `ensemble_boxes`; the search for weights finds what helps, and only that."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from ensemble_boxes import ensemble_boxes_nms, weighted_boxes_fusion
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detection.box_fusion import GRID, IOU, IOUS, fit_fusion_weights, fuse, nms_members
from pipeline.detection.boxes import Boxes, Detections, make_boxes, make_detections
from pipeline.detection.coco_scores import coco_scores
from pipeline.errors import UserError
from tests.detection.box_sets import SIZE, jittered, random_xyxy

seeds = st.integers(0, 2**32 - 1)
SCALE = np.array([*SIZE[::-1], *SIZE[::-1]], np.float64)  # of pixels to the reference's coordinates, 0 to 1
NOTHING = make_detections([], [], [])


def drawn(seed: int, num_members: int = 4, num_boxes: int = 15, num_classes: int = 3) -> list[Detections]:
    """Members that find the same objects, each most of them, and some of nothing."""
    rng = np.random.default_rng(seed)
    xyxy, classes = random_xyxy(rng, num_boxes), rng.integers(0, num_classes, num_boxes)
    members = []
    for _ in range(num_members):
        found = np.flatnonzero(rng.random(2 * num_boxes) < 0.6) % num_boxes
        boxes = np.concatenate([jittered(rng, xyxy[found], 0.07), random_xyxy(rng, 6)])
        own_classes = np.concatenate([classes[found], rng.integers(0, num_classes, 6)])
        members.append(make_detections(boxes, rng.uniform(0.01, 1, len(boxes)), own_classes))
    return members


def reference(members: list[Detections], **options: object) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Boxes in pixels, scores and classes of `ensemble_boxes`."""
    boxes, scores, labels = weighted_boxes_fusion(
        [member.xyxy / SCALE for member in members],
        [member.scores for member in members],
        [member.classes for member in members],
        **options,
    )
    return boxes * SCALE, scores, labels


def assert_equal_to_reference(ours: Detections, theirs: tuple[np.ndarray, np.ndarray, np.ndarray]) -> None:
    """Compares in the reference's coordinates; of scores that differ by rounding only, the order may differ."""
    boxes, scores, labels = theirs
    assert len(ours.scores) == len(scores)
    np.testing.assert_allclose(ours.scores, scores, rtol=0, atol=1e-5)
    one = np.lexsort((ours.xyxy[:, 0].round(1), ours.classes))
    other = np.lexsort((boxes[:, 0].round(1), labels))
    np.testing.assert_array_equal(ours.classes[one], labels[other])
    np.testing.assert_allclose(ours.xyxy[one] / SCALE, boxes[other] / SCALE, rtol=0, atol=1e-5)


@pytest.mark.parametrize("conf", ["avg", "max"])
@pytest.mark.parametrize("seed", range(8))
def test_fused_boxes_and_scores_are_those_of_ensemble_boxes(seed, conf):
    members = drawn(seed)
    for weights in (None, [1, 1, 1, 1], [2, 0.5, 1, 0.25]):
        theirs = reference(members, weights=weights, iou_thr=0.55, conf_type=conf)
        assert len(theirs[1]) < sum(len(member.scores) for member in members)
        assert_equal_to_reference(fuse(members, weights, conf=conf), theirs)


@pytest.mark.parametrize("iou", [0.3, 0.45, 0.7, 0.9])
def test_they_are_at_other_ious_and_with_low_scores_left_out(iou):
    members = drawn(20, num_members=5, num_boxes=40)
    theirs = reference(members, weights=[3, 1, 1, 2, 1], iou_thr=iou, skip_box_thr=0.2)
    assert_equal_to_reference(fuse(members, [3, 1, 1, 2, 1], iou, skip_below=0.2), theirs)


def test_they_are_where_members_find_nothing():
    members = [*drawn(3, num_members=2), NOTHING]
    assert_equal_to_reference(fuse(members), reference(members))
    assert len(fuse([NOTHING, NOTHING]).scores) == 0 and fuse([NOTHING]).xyxy.shape == (0, 4)


def test_a_box_that_one_of_two_members_found_gets_half_its_score():
    one = make_detections([[0, 0, 10, 10], [50, 50, 60, 60]], [0.8, 0.6], [0, 1])
    other = make_detections([[0, 0, 10, 6]], [0.4], [0])
    fused = fuse([one, other])
    np.testing.assert_allclose(fused.scores, [0.6, 0.3], atol=1e-6)
    np.testing.assert_allclose(fused.xyxy, [[0, 0, 10, (8 * 10 + 4 * 6) / 12], [50, 50, 60, 60]], atol=1e-5)
    np.testing.assert_allclose(fuse([one, other], [3, 1]).scores, [(3 * 0.8 + 0.4) / 4, 0.6 * 3 / 4], atol=1e-6)


def test_a_member_without_weight_is_not_there():
    members = drawn(5)
    for combine in (fuse, nms_members):
        with_0, without = combine(members, [1, 0, 2, 0]), combine([members[0], members[2]], [1, 2])
        assert all((ours == theirs).all() for ours, theirs in zip(with_0, without, strict=True))


def test_boxes_without_area_or_score_are_left_out():
    odd = make_detections([[5, 5, 5, 9], [9, 0, 3, 4], [0, 0, 4, 4], [0, 0, 8, 8]], [0.9, 0.8, 0.0, 0.5], [0] * 4)
    assert fuse([odd]).xyxy.tolist() == [[0, 0, 8, 8]]


@given(seeds, st.floats(0.1, 10))
def test_a_factor_on_all_weights_changes_nothing(seed, factor):
    members = drawn(seed, num_boxes=6)
    one, other = fuse(members, [1, 2, 0.5, 1]), fuse(members, (np.array([1, 2, 0.5, 1]) * factor).tolist())
    np.testing.assert_allclose(one.scores, other.scores, atol=1e-6)
    assert len(one.scores) == len(other.scores)


@given(seeds)
def test_fused_boxes_lie_within_the_boxes_they_are_made_of(seed):
    members = drawn(seed)
    every = np.concatenate([member.xyxy for member in members])
    fused = fuse(members)
    assert (np.diff(fused.scores) <= 0).all() and fused.scores.max() <= 1
    assert (fused.xyxy.min(0) >= every.min(0) - 1e-3).all() and (fused.xyxy.max(0) <= every.max(0) + 1e-3).all()
    assert set(fused.classes) == set(np.concatenate([member.classes for member in members]))


def test_the_detections_of_one_member_that_do_not_overlap_stay_as_they_are():
    alone = make_detections([[0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 10, 10]], [0.9, 0.8, 0.7], [0, 0, 1])
    for fused in (fuse([alone]), fuse([alone], [0.3]), nms_members([alone], [7])):
        np.testing.assert_allclose(fused.xyxy, alone.xyxy, atol=1e-5)
        np.testing.assert_allclose(fused.scores, alone.scores, atol=1e-6)
        assert fused.classes.tolist() == [0, 0, 1]


def test_suppression_over_members_keeps_what_ensemble_boxes_keeps(monkeypatch):
    plain = ensemble_boxes_nms.nms_float_fast.py_func  # not compiled, which takes seconds
    monkeypatch.setattr(ensemble_boxes_nms, "nms_float_fast", plain)
    members, weights = drawn(9), [1, 2, 0.5, 1]
    parts = zip(*members, strict=True)
    xyxy, scores, classes = ([np.asarray(part, np.float64) for part in kind] for kind in parts)
    boxes, theirs, labels = ensemble_boxes_nms.nms([part / SCALE for part in xyxy], scores, classes, 0.5, weights)
    order = np.argsort(-theirs, kind="stable")
    ours = nms_members(members, weights)
    np.testing.assert_allclose(ours.xyxy / SCALE, boxes[order], atol=1e-6)
    np.testing.assert_array_equal(ours.classes, labels[order])
    np.testing.assert_allclose(ours.scores, theirs[order] * sum(weights) / max(weights), atol=1e-6)


def test_a_box_that_overlaps_by_the_threshold_itself_and_a_score_at_the_limit():
    whole, half = make_detections([[0, 0, 10, 10]], [0.75], [0]), make_detections([[0, 0, 10, 5]], [0.5], [0])
    assert len(fuse([whole, half], iou=0.5).scores) == 2  # above, not from
    assert len(fuse([whole, half], iou=0.49).scores) == 1
    assert len(fuse([whole, half], iou=0.6, skip_below=0.5).scores) == 2  # a lower score is left out, not an equal one
    assert len(fuse([whole, half], iou=0.6, skip_below=0.51).scores) == 1


def test_of_equal_scores_those_of_earlier_members_come_first():
    apart = np.array([[20 * place, 0, 20 * place + 10, 10] for place in range(40)])
    fused = fuse([make_detections(boxes, [0.5] * 20, [0] * 20) for boxes in (apart[20:], apart[:20])])
    assert fused.xyxy.tolist() == np.roll(apart, 20, axis=0).tolist()


def test_suppression_over_members_takes_the_limits_that_it_is_given():
    one = make_detections([[0, 0, 10, 10], [50, 50, 60, 60]], [0.9, 0.3], [0, 0])
    other = make_detections([[0, 0, 10, 8]], [0.8], [1])
    assert nms_members([one, other]).classes.tolist() == [0, 1, 0]
    assert nms_members([one, other], class_agnostic=True).scores.tolist() == pytest.approx([0.9, 0.3])
    assert nms_members([one, other], top=2).scores.tolist() == pytest.approx([0.9, 0.8])
    # The member of the highest weight keeps its scores; the other's are halved.
    assert nms_members([one, other], [1, 2], top=2).scores.tolist() == pytest.approx([0.8, 0.45])


@pytest.mark.parametrize("weights", [[1, 1], [1, 1, -1], [0, 0, 0], [1, 1, np.nan], []])
def test_weights_that_do_not_fit_are_refused(weights):
    with pytest.raises(ValueError, match="for 3 members; expected one per member"):
        fuse(drawn(0, num_members=3), weights)


def test_a_confidence_of_another_name_is_refused():
    with pytest.raises(ValueError, match="conf is 'mean'"):
        fuse(drawn(0), conf="mean")


def ensemble(
    seed: int, noises: tuple[float, ...], num_images: int = 10
) -> tuple[dict[str, list[Detections]], dict[str, Boxes]]:
    """Members that find every box, each with its own error, and images with their truth."""
    rng = np.random.default_rng(seed)
    by_image, truth = {}, {}
    for index in range(num_images):
        xyxy, classes = random_xyxy(rng, 6), rng.integers(0, 2, 6)
        truth[f"{index}"] = make_boxes(xyxy, classes)
        by_image[f"{index}"] = [
            make_detections(jittered(rng, xyxy, noise), rng.uniform(0.5, 1, 6), classes) for noise in noises
        ]
    return by_image, truth


def score_of(truth: dict[str, Boxes], name: str = "ap") -> Callable[[dict[str, Detections]], float]:
    return lambda found: coco_scores(truth, found, ["car", "dog"]).numbers[name]


def test_the_search_lowers_the_weight_of_a_member_that_only_harms_and_its_score_is_what_they_reach():
    by_image, truth = ensemble(0, (0.03, 0.03, 0.15))
    fit = fit_fusion_weights(by_image, score_of(truth))
    assert fit.weights[2] < min(fit.weights[:2]) and fit.score > fit.equal_score + 0.01
    fused = {name: fuse(members, fit.weights, fit.iou) for name, members in by_image.items()}
    assert coco_scores(truth, fused, ["car", "dog"]).numbers["ap"] == fit.score
    plain = {name: fuse(members) for name, members in by_image.items()}
    assert coco_scores(truth, plain, ["car", "dog"]).numbers["ap"] == fit.equal_score
    assert fit == fit_fusion_weights(by_image, score_of(truth))


def test_the_search_is_never_below_the_best_member_alone():
    by_image, truth = ensemble(5, (0.2, 0.2, 0.2, 0.02, 0.2))
    fit = fit_fusion_weights(by_image, score_of(truth), grid=(0.5, 1), ious=(0.45,))
    best = {name: members[3] for name, members in by_image.items()}
    assert fit.equal_score < coco_scores(truth, best, ["car", "dog"]).numbers["ap"] <= fit.score + 1e-6


def test_equal_weights_stay_where_nothing_gains():
    by_image, truth = ensemble(1, (0.0, 0.0, 0.0), num_images=4)
    fit = fit_fusion_weights(by_image, score_of(truth))
    assert (fit.weights, fit.iou, fit.score) == ((1, 1, 1), 0.55, 1.0)


def test_the_values_that_a_search_tries_rise_and_have_the_equal_weights_and_the_iou_that_it_starts_from():
    assert list(GRID) == sorted(GRID) and {0, 1} < set(GRID)
    assert list(IOUS) == sorted(IOUS) and 0 < min(IOUS) < IOU < max(IOUS) < 1


def test_one_member_alone_is_searched_for_its_iou_only():
    by_image, truth = ensemble(4, (0.1,), num_images=3)
    fit = fit_fusion_weights(by_image, score_of(truth))
    assert fit.weights == (1,) and fit.num_tried == len(IOUS)


def test_a_search_for_ap50_uses_the_values_it_is_given():
    by_image, truth = ensemble(2, (0.1, 0.3), num_images=4)
    fit = fit_fusion_weights(by_image, score_of(truth, "ap50"), grid=(0, 1), ious=(0.4,))
    assert set(fit.weights) <= {0, 1} and fit.iou in (0.4, 0.55) and fit.num_tried <= 6
    assert fit.score >= fit.equal_score


def test_a_search_is_refused_where_it_has_no_answer():
    by_image, truth = ensemble(3, (0.1, 0.1), num_images=2)
    with pytest.raises(UserError, match="no labels: 0"):
        fit_fusion_weights(by_image, score_of({"1": truth["1"]}))
    with pytest.raises(ValueError, match="expected one number of members"):
        fit_fusion_weights(by_image | {"1": by_image["1"][:1]}, score_of(truth))
    with pytest.raises(ValueError, match="expected one number of members"):
        fit_fusion_weights({}, score_of(truth))
    with pytest.raises(ValueError, match="expected one number of members"):
        fit_fusion_weights({"1": []}, score_of(truth))


def test_weights_stay_equal_where_the_score_is_undefined():
    by_image, _ = ensemble(3, (0.1, 0.1), num_images=1)
    found = fit_fusion_weights(by_image, lambda _: np.nan)
    assert (found.weights, found.iou, found.num_tried) == ((1, 1), IOU, 1) and np.isnan(found.score)
