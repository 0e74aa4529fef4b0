"""What a teacher is sure of becomes a label, computed here once more in the plainest way; all else is ignored."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.load import load
from pipeline.errors import UserError
from pipeline.segmentation.predict import full_logits
from pipeline.segmentation.pseudo_labels import pseudo_label, read_label
from tests.segmentation.members import draw_prediction

IGNORE = 255
SETTINGS = load("demo", ("PSEUDO.TEACHER=DemoAAA",)).config.pseudo


def run_with(**settings) -> SimpleNamespace:
    """Returns what `pseudo_label` asks of a run."""
    return SimpleNamespace(loaded=SimpleNamespace(config=SimpleNamespace(pseudo=replace(SETTINGS, **settings))))


def members_of(seed: int, num_members: int, is_sigmoid: bool = False, size: tuple[int, int] = (9, 13)) -> list:
    generator = np.random.default_rng(seed)
    factors = [(1, 4, 2)[number % 3] for number in range(num_members)]  # networks store logits of different sizes
    drawn = [draw_prediction(generator, size, factor, sharpness=3.0) for factor in factors]
    return [replace(one, is_sigmoid=is_sigmoid) for one in drawn]


def probabilities(members: list) -> np.ndarray:
    """Returns float64 (M, C, H, W)."""
    logits = torch.stack([full_logits(one) for one in members]).double()
    return (logits.sigmoid() if members[0].is_sigmoid else logits.softmax(1)).numpy()


AGREEMENTS = st.sampled_from([None, 0.5, 0.666667, 1.0])


@given(seed=st.integers(0, 2**16), num_members=st.integers(1, 3), confidence=st.floats(0, 1), agreement=AGREEMENTS)
def test_a_pixel_has_the_best_class_of_the_mean_where_confidence_and_agreement_suffice(
    seed, num_members, confidence, agreement
):
    members = members_of(seed, num_members)
    array, facts = pseudo_label(run_with(confidence=confidence, agreement=agreement), members)
    probs = probabilities(members)
    mean = probs.mean(0)
    best, sureness = mean.argmax(0), mean.max(0)
    votes = (probs.argmax(1) == best).sum(0)
    unsure = np.abs(sureness - confidence) < 1e-5  # float32 may decide otherwise
    unsure |= (np.sort(mean, 0)[-1] - np.sort(mean, 0)[-2]) < 1e-5
    unsure |= (np.sort(probs, 1)[:, -1] - np.sort(probs, 1)[:, -2]).min(0) < 1e-5
    is_kept = (sureness >= confidence) & (votes >= (agreement or 0) * num_members - 1e-4)
    label = read_label(array, facts)
    assert label.dtype == np.uint8 and label.shape == best.shape
    assert (label == np.where(is_kept, best, IGNORE))[~unsure].all()
    assert facts["labelled"] == pytest.approx((label != IGNORE).mean())
    assert facts["confidence"] == pytest.approx(sureness.mean(), abs=1e-5)
    assert facts["pixels"] == [int((label == index).sum()) for index in range(len(mean))]


@given(seed=st.integers(0, 2**16), confidence=st.floats(0.3, 0.9))
def test_a_soft_label_has_the_mean_probabilities_of_the_same_pixels(seed, confidence):
    members = members_of(seed, 3)
    hard = read_label(*pseudo_label(run_with(confidence=confidence), members))
    array, facts = pseudo_label(run_with(confidence=confidence, labels="soft"), members)
    soft = read_label(array, facts)
    assert soft.shape == (*hard.shape, 4)
    is_kept = hard != IGNORE
    assert ((soft == IGNORE).all(-1) == ~is_kept).all() and (soft[is_kept] != IGNORE).all()
    mean = np.moveaxis(probabilities(members).mean(0), 0, -1)
    assert np.abs(soft[is_kept] / 240 - mean[is_kept]).max(initial=0) <= 0.5 / 240 + 1e-6


@given(seed=st.integers(0, 2**16), confidence=st.floats(0.5, 1), agreement=AGREEMENTS, is_soft=st.booleans())
def test_where_a_pixel_may_have_several_classes_each_is_decided_and_ignored_alone(seed, confidence, agreement, is_soft):
    members = members_of(seed, 3, is_sigmoid=True)
    settings = {"confidence": confidence, "agreement": agreement, "labels": "soft" if is_soft else "hard"}
    array, facts = pseudo_label(run_with(**settings), members)
    label, probs = np.moveaxis(read_label(array, facts), -1, 0), probabilities(members)
    mean = probs.mean(0)
    is_class, sureness = mean >= 0.5, np.maximum(mean, 1 - mean)
    votes = ((probs >= 0.5) == is_class).sum(0)
    is_kept = (sureness >= confidence) & (votes >= (agreement or 0) * 3 - 1e-4)
    unsure = (np.abs(sureness - confidence) < 1e-5) | (np.abs(mean - 0.5) < 1e-5)
    unsure |= (np.abs(probs - 0.5) < 1e-5).any(0)
    wanted = np.where(is_kept, np.rint(240 * (mean if is_soft else is_class)), IGNORE)
    difference = np.abs(label.astype(int) - wanted)
    assert difference[~unsure].max(initial=0) <= (1 if is_soft else 0)
    assert facts["labelled"] == pytest.approx((label != IGNORE).mean())
    assert facts["pixels"] == [
        int((own & (values != IGNORE)).sum()) for own, values in zip(is_class, label, strict=True)
    ] or (unsure.any())


def test_an_image_of_many_blocks_of_rows_is_labelled_as_a_whole():
    members = members_of(5, 2, size=(70, 1500))
    label = read_label(*pseudo_label(run_with(confidence=0.0), members))
    assert np.mean(label == probabilities(members).mean(0).argmax(0)) > 0.9999


def test_members_that_do_not_fit_together_are_refused():
    members = [members_of(1, 1)[0], members_of(1, 1, size=(8, 13))[0]]
    with pytest.raises(UserError, match="at sizes"):
        pseudo_label(run_with(), members)
