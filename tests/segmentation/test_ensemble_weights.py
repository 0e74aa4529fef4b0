"""Fitted weights: their sums are exact, they find the optimum, and they are adopted only where they gain."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize

from pipeline.prediction.fewer_members import normalised
from pipeline.segmentation import ensemble_weights
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.ensemble import Recipe, combine, for_members
from pipeline.segmentation.ensemble_weights import (
    MemberSample,
    fit_greedy,
    fit_soft,
    fit_weights,
    project,
    sample_members,
    weighted_scores,
)
from pipeline.segmentation.predict import Prediction
from pipeline.segmentation.scores import image_scores
from tests.segmentation.members import CLASSES, draw_prediction


def draw_truth(generator: np.random.Generator, size: tuple[int, int], num_classes: int = len(CLASSES)) -> np.ndarray:
    truth = generator.integers(0, num_classes, (-(-size[0] // 8), -(-size[1] // 8)), dtype=np.uint8)
    truth = np.kron(truth, np.ones((8, 8), np.uint8))[: size[0], : size[1]]
    truth[generator.random(size) < 0.05] = 255
    return truth


def predict_from(generator: np.random.Generator, truth: np.ndarray, skill: float, num_classes: int) -> Prediction:
    """A member whose logits lean towards the truth by `skill`, with noise of size 1."""
    logits = generator.normal(0, 1, (num_classes, *truth.shape))
    logits += skill * (truth == np.arange(num_classes)[:, None, None])
    return Prediction(logits.astype(np.float16), 1, False, (0, 0), truth.shape)


def draw_images(skills, num_sequences: int = 8, members_of=None, seed: int = 0, frames: int = 2) -> list[MemberSample]:
    generator = np.random.default_rng(seed)
    images = []
    for sequence in range(num_sequences):
        for frame in range(frames):
            truth = draw_truth(generator, (24, 24))
            members = members_of(sequence, frame) if members_of else tuple(range(len(skills)))
            predictions = [predict_from(generator, truth, skills[member], len(CLASSES)) for member in members]
            images.append(sample_members(f"{sequence}_{frame}", f"s{sequence}", members, predictions, truth))
    return images


def adopted_of(found):
    """The trial of the kind that is adopted."""
    return found.trials.by_key[found.adopted]


@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
@settings(max_examples=25)
def test_the_dice_from_disputed_pixels_is_that_of_the_whole_mask(seed, num_members):
    generator = np.random.default_rng(seed)
    size = (int(generator.integers(1, 33)), int(generator.integers(1, 33)))  # few enough that none is left out
    truth = draw_truth(generator, size)
    members = tuple(sorted(generator.permutation(6)[:num_members].tolist()))
    predictions = [draw_prediction(generator, size, int(generator.choice([1, 4])), sharpness=4.0) for _ in members]
    weights = generator.dirichlet(np.ones(6))[:, None]
    image = sample_members("p", "s", members, predictions, truth)
    mask = combine(predictions, [for_members(Recipe("WEIGHTED", weights), members)])[0]
    wanted = image_scores(SOFTMAX.count_masks(mask, truth, len(CLASSES)))["dice"]
    found = weighted_scores(image, weights)
    assert image.scale == 1
    assert np.allclose(weighted_scores(image, weights, "iou"), found / (2 - found))
    assert np.abs(found - wanted).max() < 0.02  # the kept probabilities are float16: a pixel may be ranked otherwise
    assert image.soft_hits.sum() <= image.soft_areas.sum() + 1e-6
    assert np.allclose(image.soft_areas.sum(1), (truth != 255).sum())


def test_a_sample_of_many_disputed_pixels_estimates_the_dice(monkeypatch):
    generator = np.random.default_rng(2)
    truth = draw_truth(generator, (120, 160))
    predictions = [predict_from(generator, truth, 1.0, len(CLASSES)) for _ in range(3)]
    weights = normalised([1, 2, 1])
    whole = sample_members("p", "s", (0, 1, 2), predictions, truth)
    monkeypatch.setattr(ensemble_weights, "MOST_DISPUTED", 10**6)
    exact = weighted_scores(sample_members("p", "s", (0, 1, 2), predictions, truth), weights)
    assert whole.scale > 1
    assert np.abs(weighted_scores(whole, weights) - exact).max() < 0.03


def test_projected_gradient_finds_what_slsqp_finds():
    images = draw_images((2.0, 1.0, 0.2, 0.0), num_sequences=5)

    def soft_dice(weights: np.ndarray) -> float:
        ratios = [
            (2 * weights @ one.soft_hits / (weights @ (one.soft_areas + one.true_areas)))[one.true_areas > 0]
            for one in images
        ]
        return float(np.concatenate(ratios).mean())

    ours = fit_soft(images, 4, per_class=False)[:, 0]
    peer = minimize(
        lambda weights: -soft_dice(weights),
        np.full(4, 0.25),
        method="SLSQP",
        bounds=[(0, 1)] * 4,
        constraints={"type": "eq", "fun": lambda weights: weights.sum() - 1},
    )
    assert ours.sum() == pytest.approx(1)
    assert soft_dice(ours) >= -peer.fun - 1e-5


def test_weights_per_class_sum_to_one_in_each_class_and_differ_where_members_do():
    images = draw_images((2.0, 0.5), num_sequences=4)
    weights = fit_soft(images, 2, per_class=True)
    assert weights.shape == (2, len(CLASSES))
    assert np.allclose(weights.sum(0), 1)
    assert (weights[0] > weights[1]).all()


def test_greedy_selection_leaves_out_a_member_that_only_guesses():
    weights = fit_greedy(draw_images((1.5, 1.5, -1.0)), 3)[:, 0]
    assert weights[2] == 0
    assert weights.sum() == pytest.approx(1)


def test_weights_are_adopted_where_a_member_is_plainly_worse():
    found = fit_weights(draw_images((1.5, 1.5, -1.0), num_sequences=10), 3)
    assert found.adopted is not None
    assert adopted_of(found).gain.low > 0
    assert adopted_of(found).setting[2].max() < 0.1
    assert set(adopted_of(found).held_out) == {f"{sequence}_{frame}" for sequence in range(10) for frame in range(2)}
    assert found.words[0] == f"weights fitted by {found.adopted}"


@pytest.mark.parametrize("seed", range(4))
def test_equal_members_keep_equal_weights_whatever_the_fit_gains_on_its_own_images(seed):
    found = fit_weights(draw_images((1.0, 1.0, 1.0), seed=seed), 3)
    assert found.adopted is None
    assert found.trials.by_key["greedy"].in_sample >= 0
    assert found.words[0] == "equal weights: no gain on held-out sequences exceeds noise"


@pytest.mark.parametrize("scored", [0, 1])
def test_every_kind_of_fit_prefers_the_member_that_is_right_about_the_scored_class(scored):
    """Of two members each takes its own class for the third one where the other is right."""
    truth = np.repeat(np.uint8([[0, 1, 2]]), 8, axis=0)
    both = [0.05, 0.05, 0.9]
    probs = np.array([[[0.7, 0.05, 0.25], [0.05, 0.2, 0.75], both], [[0.2, 0.05, 0.75], [0.05, 0.7, 0.25], both]])
    predictions = [
        Prediction(np.log(own.T[:, truth]).astype(np.float16), 1, False, (0, 0), truth.shape) for own in probs
    ]
    images = [sample_members(f"p{number}", f"s{number}", (0, 1), predictions, truth) for number in range(5)]
    found = fit_weights(images, 2, (scored,))
    assert list(found.trials.by_key) == ["greedy", "soft", "soft per class"]
    for trial in found.trials.by_key.values():
        assert trial.setting[scored, min(scored, trial.setting.shape[1] - 1)] > 0.5


def test_images_without_a_value_of_the_score_take_no_part_in_the_fit():
    images = draw_images([1.5, 0.1], num_sequences=12)
    other = (len(CLASSES) - 1,)
    emptied = [replace(image, image_id=f"empty {image.image_id}", true_areas=without_last(image)) for image in images]
    plain = fit_weights(images, 2, other, "present_dice")
    mixed = fit_weights([*images, *emptied], 2, other, "present_dice")
    assert plain.adopted is not None and (plain.adopted, plain.words) == (mixed.adopted, mixed.words)


def without_last(image: MemberSample) -> np.ndarray:
    return np.where(np.arange(len(CLASSES)) == len(CLASSES) - 1, 0, image.true_areas)


def test_slices_that_do_not_overlap_leave_nothing_to_fit():
    found = fit_weights(draw_images((2.0, 0.0), members_of=lambda sequence, frame: (sequence % 2,)), 2)
    assert found.adopted is None
    assert found.words[0].startswith("equal weights, as no image is out of fold for two members")


def test_too_few_sequences_leave_equal_weights():
    found = fit_weights(draw_images((2.0, -1.0), num_sequences=3), 2)
    assert found.adopted is None
    assert found.words == ["equal weights: fitting needs 4 sequences or more, found 3"]


def test_overlapping_slices_are_fitted_from_the_members_that_did_not_train_on_each_image():
    pairs = ((0, 1), (1, 2), (0, 2))
    images = draw_images((1.5, 1.5, -1.0), 12, lambda sequence, frame: pairs[(sequence + frame) % 3])
    found = fit_weights(images, 3)
    assert found.adopted is not None
    assert adopted_of(found).setting[2].max() < 0.2


def test_the_weights_that_score_an_image_were_fitted_without_its_sequence():
    generator = np.random.default_rng(5)
    images = draw_images((1.5, 1.5, -1.0), num_sequences=10)
    changed = []
    for one in images:
        if one.sequence == "s4":  # the same images, but here only the third member is right
            truth = draw_truth(generator, (24, 24))
            predictions = [predict_from(generator, truth, skill, len(CLASSES)) for skill in (1.0, 1.0, 1.2)]
            changed.append(sample_members(one.image_id, one.sequence, (0, 1, 2), predictions, truth))
        else:
            changed.append(one)
    before, after = fit_weights(images, 3), fit_weights(changed, 3)
    assert before.adopted == after.adopted is not None
    for name in ("4_0", "4_1"):
        assert np.array_equal(adopted_of(before).held_out[name], adopted_of(after).held_out[name])
    assert not np.array_equal(adopted_of(before).setting, adopted_of(after).setting)


@given(st.lists(st.floats(-3, 3), min_size=1, max_size=6))
def test_the_projection_lies_on_the_simplex_and_no_nearer_point_does(values):
    point = np.array(values)
    found = project(point)
    assert found.min() >= 0
    assert found.sum() == pytest.approx(1)
    others = np.random.default_rng(0).dirichlet(np.ones(len(point)), 50)
    assert (np.square(others - point).sum(1) >= np.square(found - point).sum() - 1e-9).all()
