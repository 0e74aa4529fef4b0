"""What training and validation of boxes are told: losses of a mix, scores of a validation."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from pipeline.config.competition import ScoreOptions
from pipeline.config.load import load
from pipeline.config.loss_mix import parse_mix
from pipeline.detection.box_fbeta import box_fbeta
from pipeline.detection.boxes import make_boxes, make_detections
from pipeline.detection.coco_scores import coco_scores, image_scores
from pipeline.detection.learning import BoxScorer, mixed_loss, score_of, seen_targets
from pipeline.detection.networks import network_of, seen_size
from pipeline.detection.samples import labels_of
from tests.detection.box_sets import random_set

CLASSES = ("RBC", "WBC", "Platelets")
SIZE = (64, 128)
PLAIN = ("DATASETS.INPUT_SCALE=1", "MODEL.ENCODER.WEIGHTS=null")


def labels():
    return labels_of([make_boxes([[8, 8, 40, 40], [50, 10, 90, 60]], [0, 2]), make_boxes([], [])], SIZE)


def outputs_of(loaded):
    torch.manual_seed(2)
    with torch.no_grad():
        return network_of(loaded).eval()(torch.rand(2, 3, *SIZE))


@pytest.mark.parametrize(("name", "mix"), [("BccdR", "1 sigmoid_focal + 1 smooth_l1"), ("BccdY", "5 iou + 1 conf")])
def test_a_mix_is_the_weighted_sum_of_its_terms(name, mix):
    loaded = load(name, PLAIN)
    outputs, parsed = outputs_of(loaded), parse_mix(mix)
    loss = mixed_loss(loaded, parsed, outputs, labels())
    assert set(loss.terms) == {term for term, _ in parsed}
    assert float(loss.total) == pytest.approx(sum(weight * float(loss.terms[term]) for term, weight in parsed))
    doubled = mixed_loss(loaded, [(term, 2 * weight) for term, weight in parsed], outputs, labels())
    assert float(doubled.total) == pytest.approx(2 * float(loss.total))


def test_the_settings_of_a_term_have_their_effect_and_name_it():
    loaded = load("BccdR", PLAIN)
    outputs = outputs_of(loaded)
    plain, other = (
        mixed_loss(loaded, parse_mix(mix), outputs, labels()) for mix in ("1 sigmoid_focal", "1 sigmoid_focal(gamma=0)")
    )
    assert list(other.terms) == ["sigmoid_focal(gamma=0)"]
    assert float(other.total) > float(plain.total)


@pytest.mark.parametrize("factor", [0.5, 2])
def test_targets_are_in_the_pixels_that_the_network_sees(factor):
    plain, loaded = load("BccdR", PLAIN), load("BccdR", (f"DATASETS.INPUT_SCALE={factor}", PLAIN[1]))
    targets = seen_targets(labels().targets, factor)
    assert targets.size == seen_size(SIZE, factor)
    torch.testing.assert_close(targets.boxes[0], labels().targets.boxes[0] * factor)
    outputs = outputs_of(loaded)
    mix = parse_mix("1 sigmoid_focal + 1 smooth_l1")
    scaled = labels_of([make_boxes(labels().truth[0].xyxy * factor, [0, 2]), make_boxes([], [])], targets.size)
    expected = mixed_loss(plain, mix, outputs, scaled)
    assert float(mixed_loss(loaded, mix, outputs, labels()).total) == pytest.approx(float(expected.total))
    assert seen_targets(labels().targets, 1).size == SIZE


def scorer(truth, found) -> BoxScorer:
    made = BoxScorer(load("BccdR"), CLASSES, (0, 1))
    made.truth, made.found = list(truth.values()), list(found.values())
    return made


def test_the_scores_of_a_validation_are_cocos_over_all_images_at_once():
    truth, found = random_set(3, num_classes=3)
    scores, expected = scorer(truth, found).scores(), coco_scores(truth, found, CLASSES)
    assert set(scores.by_name) == {"ap", "ap50", "ap75", "image_ap"}
    for name in expected.by_class:
        own = scores.by_name[name]
        assert own.classes == pytest.approx(expected.by_class[name], nan_ok=True)
        assert own.mean == pytest.approx(np.mean(expected.by_class[name][:2]))
    assert scores.has_hit == [True] * 3 and scores.class_scores == pytest.approx(expected.by_class["ap"])


def test_the_fbeta_of_boxes_is_a_score_where_it_is_the_competitions_or_is_watched():
    truth, found = random_set(3, num_classes=3)
    own = scorer(truth, found)
    options = ScoreOptions(beta=2.0, thresholds=(0.3, 0.5))
    competition = replace(own.loaded.competition, score="box_fbeta", score_options=options)
    own.loaded = replace(own.loaded, competition=competition)
    expected = box_fbeta(truth, found, 3, options)
    assert own.scores().by_name["box_fbeta"].classes == expected.tolist()
    assert own.scores().by_name["box_fbeta"].mean == pytest.approx(expected[:2].mean())
    watching = scorer(truth, found)
    watching.loaded = load("BccdR", ("SOLVER.MONITOR=valid_box_fbeta",))
    assert "box_fbeta" in watching.scores().by_name


def test_a_validation_in_two_processes_has_the_scores_of_one():
    truth, found = random_set(5, num_classes=3)
    whole, names = scorer(truth, found).scores(), list(truth)
    first, second = (
        scorer({name: truth[name] for name in own}, {name: found[name] for name in own})
        for own in (names[:5], names[5:])
    )
    first.take(second.collected())
    assert first.scores() == whole


def test_a_class_that_no_image_has_is_no_failure():
    truth, found = {"a": make_boxes([[0, 0, 9, 9]], [0])}, {"a": make_detections([], [], [])}
    scores = scorer(truth, found).scores()
    assert scores.by_name["ap"].mean == 0 and scores.has_hit == [False, True, True]
    assert scores.class_scores == [0, 0, 0]


def test_a_single_image_also_has_the_score_that_images_are_compared_by():
    truth, found = random_set(8, num_images=1, num_classes=3)
    own = scorer(truth, found).scores().by_name["image_ap"]
    expected = image_scores(*truth.values(), *found.values(), 3)["ap"]
    assert own.classes == pytest.approx(expected.tolist(), nan_ok=True)
    assert own.mean == pytest.approx(np.nanmean(expected[:2]))


def test_a_mean_is_over_scored_classes_that_have_a_value():
    assert score_of([0.2, float("nan"), 0.9], [0, 1]).mean == 0.2
    assert score_of([float("nan")] * 2, [0, 1]).mean is None
