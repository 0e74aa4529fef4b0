"""Intervals of a mean over images in sequences: they hold their error rate, whoever asks for them."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.intervals import Interval, deal_folds, group_numbers, interval
from pipeline.report.compare import paired_gain

FRAMES = 6


def draw_gains(generator: np.random.Generator, num_sequences: int) -> np.ndarray:
    """The gain of each image, of mean 0; frames of a sequence gain nearly the same."""
    of_sequence = generator.normal(0, 1, num_sequences)
    return np.repeat(of_sequence, FRAMES) + generator.normal(0, 0.3, num_sequences * FRAMES)


def test_an_interval_holds_the_truth_about_as_often_as_it_says():
    generator, groups, hits = np.random.default_rng(0), np.repeat(np.arange(8), FRAMES), 0
    for _ in range(200):
        found = interval(draw_gains(generator, 8), groups)
        hits += found.low <= 0 <= found.high
    assert 180 <= hits <= 200


@pytest.mark.parametrize("num_sequences", [3, 5])
def test_runs_of_equal_strength_are_rarely_compared_as_different(num_sequences):
    generator, alarms = np.random.default_rng(num_sequences), 0
    ids = [f"p{index}" for index in range(num_sequences * FRAMES)]
    for _ in range(200):
        gains = draw_gains(generator, num_sequences)
        first = {name: (f"s{index // FRAMES}", 0.5) for index, name in enumerate(ids)}
        other = {name: (f"s{index // FRAMES}", 0.5 + gains[index]) for index, name in enumerate(ids)}
        found = paired_gain(first, other)
        alarms += not found.low <= 0 <= found.high
    assert alarms / 200 < 0.12


def test_one_sequence_has_no_interval():
    found = interval(np.array([1.0, 2.0]), np.array([0, 0]))
    assert found == Interval(1.5, -np.inf, np.inf, 1)


def test_a_wider_interval_is_less_often_wrong():
    gains, groups = draw_gains(np.random.default_rng(1), 8), np.repeat(np.arange(8), FRAMES)
    usual, wide = interval(gains, groups), interval(gains, groups, tail=0.025 / 12)
    assert wide.low < usual.low < usual.mean < usual.high < wide.high


def test_folds_keep_sequences_whole_and_are_of_like_size():
    groups = group_numbers([f"p{index}" for index in range(50)], [f"s{index // 4}" for index in range(50)])
    folds = deal_folds(groups, 5)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 4
