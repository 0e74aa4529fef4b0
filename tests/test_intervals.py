"""Intervals of a mean over images in sequences: they hold their error rate, whoever asks for them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from pipeline.intervals import Interval, assign_folds, degrees_of_freedom, group_numbers, interval
from pipeline.report.compare import paired_contrast
from tests.long.intervals import missed_share

FRAMES = 6


def draw_gains(generator: np.random.Generator, num_sequences: int) -> np.ndarray:
    """The gain of each image, of mean 0; frames of a sequence gain nearly the same."""
    of_sequence = generator.normal(0, 1, num_sequences)
    return np.repeat(of_sequence, FRAMES) + generator.normal(0, 0.3, num_sequences * FRAMES)


@pytest.mark.parametrize("size", ["5 to 40 images", "one of 100 among 5 to 14"])
@pytest.mark.parametrize("num_sequences", [3, 5, 8, 20, 60])
def test_runs_of_equal_strength_differ_in_at_most_six_per_cent_of_cases(num_sequences, size):
    # With a true rate of 5 %, 1,000 trials exceed 6.9 % in one of 200 draws; the seed is fixed.
    assert missed_share(size, "normal", num_sequences, 1000) <= 0.06


def test_images_that_stand_alone_have_the_interval_of_student():
    values = np.random.default_rng(0).normal(size=40)
    found, error = interval(values, np.arange(40)), values.std(ddof=1) / np.sqrt(40)
    assert found.high - found.mean == pytest.approx(stats.t.ppf(0.975, 39) * error)


def test_two_sequences_have_the_interval_of_one_degree_of_freedom():
    found = interval(np.array([0.0, 0.0, 1.0, 1.0]), np.array([3, 3, 1, 1]))
    assert found.high - found.mean == found.mean - found.low == pytest.approx(stats.t.ppf(0.975, 1) / 2)
    assert (found.mean, found.num_groups) == (0.5, 2)


def test_a_large_sequence_among_small_ones_counts_as_few():
    sizes, effects = np.r_[100, np.full(7, 10)], np.random.default_rng(0).normal(size=8)
    wide = interval(np.repeat(effects, sizes), np.repeat(np.arange(8), sizes))
    usual = interval(np.repeat(effects, 20), np.repeat(np.arange(8), 20))
    assert wide.high - wide.low > 2 * (usual.high - usual.low)


@pytest.mark.parametrize("power", [1, 2])
def test_degrees_of_freedom_are_those_of_the_whole_matrix(power):
    sizes = np.random.default_rng(power).integers(1, 50, 12).astype(float)
    shares, variances = sizes / sizes.sum(), sizes**power
    residuals = np.eye(12) - shares[:, None]
    product = residuals.T @ np.diag(1 / (1 - shares)) @ residuals @ np.diag(variances)
    wanted = np.trace(product) ** 2 / np.trace(product @ product)
    assert degrees_of_freedom(shares, variances) == pytest.approx(wanted)


def test_runs_are_compared_with_this_interval():
    gains, ids = draw_gains(np.random.default_rng(0), 5), [f"p{index}" for index in range(5 * FRAMES)]
    first = {name: (f"s{index // FRAMES}", 0.5) for index, name in enumerate(ids)}
    other = {name: (f"s{index // FRAMES}", 0.5 + gains[index]) for index, name in enumerate(ids)}
    found, wanted = paired_contrast(first, other).interval, interval(gains, np.repeat(np.arange(5), FRAMES))
    assert (found.mean, found.low, found.high) == pytest.approx((wanted.mean, wanted.low, wanted.high))


def test_one_sequence_has_no_interval():
    found = interval(np.array([1.0, 2.0]), np.array([0, 0]))
    assert found == Interval(1.5, -np.inf, np.inf, 1)


def test_a_wider_interval_is_less_often_wrong():
    gains, groups = draw_gains(np.random.default_rng(1), 8), np.repeat(np.arange(8), FRAMES)
    usual, wide = interval(gains, groups), interval(gains, groups, tail=0.025 / 12)
    assert wide.low < usual.low < usual.mean < usual.high < wide.high


def test_folds_keep_sequences_whole_and_are_of_like_size():
    groups = group_numbers([f"p{index}" for index in range(50)], [f"s{index // 4}" for index in range(50)])
    folds = assign_folds(groups, 5)
    assert all(len(set(folds[groups == group])) == 1 for group in set(groups))
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= 4
