"""Probabilities of one class each: codes, ensembles, thresholds, and the samples that weights are fitted on."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.competition import IGNORE
from pipeline.errors import UserError
from pipeline.prediction.fewer_members import normalised
from pipeline.segmentation.activation import SIGMOID
from pipeline.segmentation.compact import CompactLogits, compress, to_sigmoid_codes
from pipeline.segmentation.decoding import Rule, decode_with_rules
from pipeline.segmentation.ensemble import Recipe, combine, mean_probs
from pipeline.segmentation.ensemble_weights import fit_weights, sample_members, weighted_scores
from pipeline.segmentation.planes import FULL, count_matches, from_bool, is_present
from pipeline.segmentation.predict import Prediction, decode, pack, unpack
from pipeline.segmentation.thresholds import THRESHOLDS, ThresholdImage, count_probs, fit_thresholds, threshold_scores

SIZE = (6, 5)


def logit(probs) -> np.ndarray:
    probs = np.asarray(probs, np.float64)
    return np.log(probs / (1 - probs))


def prediction(probs_CHW: np.ndarray) -> Prediction:
    return Prediction(logit(probs_CHW).astype(np.float32), 1, False, (0, 0), probs_CHW.shape[1:], is_sigmoid=True)


def random_probs(seed: int, num_classes: int = 3, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.02, 0.98, (num_classes, *size))


def one_pixel(*probs: float) -> list[Prediction]:
    """Returns members that see one pixel of one class with these probabilities."""
    return [prediction(np.full((1, 1, 1), prob)) for prob in probs]


@given(st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=40))
def test_codes_keep_the_decision_and_nearly_the_probability(logits):
    given_logits = torch.tensor(logits).view(1, -1, 1, 1)
    codes = to_sigmoid_codes(given_logits)[0].numpy()
    read = np.asarray(CompactLogits(codes, is_sigmoid=True))
    assert np.array_equal(read >= 0, given_logits[0].numpy() >= 0)
    probs, found = (1 / (1 + np.exp(-values.astype(np.float64))) for values in (given_logits[0].numpy(), read))
    assert np.abs(probs - found).max() < 0.0032


def test_a_stored_prediction_is_read_as_what_it_is():
    codes = to_sigmoid_codes(torch.from_numpy(logit(random_probs(1))).float()[None])[0].numpy()
    kept = Prediction(CompactLogits(codes, True), 1, False, (0, 0), SIZE, True)
    array, facts = pack(kept)
    read = unpack(array, facts)
    assert read.is_sigmoid and np.array_equal(decode(read), decode(kept))
    assert np.array_equal(np.asarray(read.logits), np.asarray(kept.logits))
    assert compress(codes).shape == (3, *SIZE)


@pytest.mark.parametrize(
    ("probs", "method", "is_there"),
    [
        ((0.9, 0.3, 0.2), "AP", False),  # mean 0.47
        ((0.9, 0.4, 0.3), "AP", True),
        ((0.9, 0.3, 0.2), "BP", True),  # 0.9 is the most certain
        ((0.7, 0.05, 0.6), "BP", False),
        ((0.6, 0.6, 0.01), "MW", True),
        ((0.9, 0.4, 0.4), "MW", False),
        ((0.9, 0.2), "MW", True),  # one of two: the mean decides
        ((0.7, 0.2), "MW", False),
        ((0.99, 0.1, 0.4), "GEO", True),  # mean logit 0.66
        ((0.9, 0.05), "GEO", False),
    ],
)
def test_each_method_decides_a_class_alone(probs, method, is_there):
    assert (combine(one_pixel(*probs), [Recipe(method)])[0].item() == FULL) == is_there


def test_weights_and_thresholds_decide_a_class_alone():
    members = one_pixel(0.8, 0.3)
    for weights, threshold, is_there in (((1, 1), 0.5, True), ((1, 3), 0.5, False), ((1, 3), 0.4, True)):
        recipe = Recipe("WEIGHTED", normalised(weights), np.array([threshold]))
        assert (combine(members, [recipe])[0].item() == FULL) == is_there


def test_members_of_another_kind_are_refused():
    own = random_probs(1)
    other = Prediction(own.astype(np.float32), 1, False, (0, 0), SIZE)
    with pytest.raises(UserError, match="different LABELS"):
        combine([prediction(own), other], [Recipe("AP")])


def test_the_mean_probabilities_are_those_of_the_members():
    parts = [random_probs(seed) for seed in range(3)]
    (_, _, found), *rest = mean_probs([prediction(one) for one in parts])
    assert not rest and np.allclose(found.numpy(), np.mean(parts, 0), atol=1e-6)


def test_counts_are_those_of_a_plain_loop_without_ignored_pixels():
    rng = np.random.default_rng(2)
    truth = rng.choice(np.array([0, FULL, IGNORE], np.uint8), (*SIZE, 3))
    predicted = from_bool(rng.random((*SIZE, 3)) < 0.5)
    counts = SIGMOID.count_masks(predicted, truth, 3)
    assert np.array_equal(counts, count_matches(truth, predicted))
    for index in range(3):
        known = truth[..., index] != IGNORE
        true, found = (truth[..., index] == FULL) & known, (predicted[..., index] == FULL) & known
        assert counts[:, index].tolist() == [(true & found).sum(), true.sum(), found.sum()]


def make_images(best: float, number: int = 12) -> list[ThresholdImage]:
    """Returns images of one class whose probability is above `best` exactly where it is, each a sequence."""
    images = []
    for seed in range(number):
        probs = random_probs(seed, 1, (40, 40))
        truth = from_bool(np.moveaxis(probs >= best, 0, -1))
        images.append(count_probs(f"i{seed}", f"s{seed}", [prediction(probs)], Recipe("AP"), truth))
    return images


def test_scores_at_each_threshold_are_those_of_the_masks():
    probs, rng = random_probs(4, 2, (30, 30)), np.random.default_rng(4)
    truth = from_bool(rng.random((30, 30, 2)) < 0.4)
    image = count_probs("a", "s", [prediction(probs)], Recipe("AP"), truth)
    scores_CT = threshold_scores(image)
    for column, threshold in enumerate(THRESHOLDS):
        mask = combine([prediction(probs)], [Recipe("AP", None, np.full(2, threshold))])[0]
        hits, true, predicted = count_matches(truth, mask)
        assert np.allclose(scores_CT[:, column], 2 * hits / (true + predicted), atol=0.005)  # at the edge of a step


def test_a_threshold_that_helps_everywhere_is_adopted_and_one_that_does_not_is_not():
    moved = fit_thresholds(make_images(0.7), ["cat"])
    assert moved.adopted[0] == pytest.approx(0.7) and moved.trials.adopted
    kept = fit_thresholds(make_images(0.5), ["cat"])
    assert kept.adopted.tolist() == [0.5] and "stay at 0.5" in kept.words[0]
    few = fit_thresholds(make_images(0.7, 3), ["cat"])
    assert few.adopted.tolist() == [0.5] and "needs 4 sequences" in few.words[0]


def test_the_member_that_is_right_gets_the_weight():
    images = []
    for seed in range(8):
        truth = from_bool(random_probs(seed, 2, (24, 24)).transpose(1, 2, 0) > 0.5)
        right = prediction(np.where(np.moveaxis(is_present(truth), -1, 0), 0.9, 0.1))
        noise = prediction(random_probs(seed + 100, 2, (24, 24)))
        images.append(sample_members(f"i{seed}", f"s{seed}", [0, 1], [right, noise], truth))
    fitted = fit_weights(images, 2)
    weights = fitted.trials.by_key[fitted.adopted].setting
    assert weights[0].min() > 0.8
    assert weighted_scores(images[0], weights).min() > 0.97


def test_a_class_that_is_too_small_is_dropped_even_if_it_is_the_largest():
    probs = np.full((2, 10, 10), 0.1)
    probs[0, 0, 0] = 0.9
    mask = decode_with_rules([prediction(probs)], Recipe("AP"), [Rule(0, "area", 0.05)])
    assert not mask.any()
    assert decode_with_rules([prediction(probs)], Recipe("AP"), [Rule(1, "area", 0.05)]).any()
