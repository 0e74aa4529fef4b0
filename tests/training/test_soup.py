"""A greedy soup: networks that help are taken, and a gain is one on images that chose nothing."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.soup import choose_soup, greedy_soup


@given(values=st.lists(st.floats(0, 1), min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_the_soup_is_never_worse_than_the_best_network_and_each_step_raised_the_score(values, seed):
    rng, known = np.random.default_rng(seed), {}

    def mean_of(soup):
        return values[soup[0]] if len(soup) == 1 else known.setdefault(soup, float(rng.random()))

    soup = greedy_soup(len(values), mean_of)
    assert mean_of(soup) >= max(values)
    best = values.index(max(values))
    assert best in soup and list(soup) == sorted(set(soup))


def test_of_equal_networks_the_first_stays_alone():
    assert greedy_soup(3, lambda soup: 0.5) == (0,)


def additive(effects: np.ndarray):
    """Returns the scores of means whose effects on each image are the mean of the networks'."""
    return lambda soup: effects[list(soup)].mean(0)


def test_a_mean_that_helps_every_sequence_is_proven():
    rng, groups = np.random.default_rng(1), np.repeat(np.arange(8), 3)
    base = rng.random(24)
    scores = {
        (0,): base,
        (1,): base - 0.01,
        (2,): base - 0.5,
        (0, 1): base + 0.1 + 0.01 * rng.random(24),
        (0, 1, 2): base - 0.2,
    }
    chosen = choose_soup(3, scores.__getitem__, groups)
    assert chosen.soup == (0, 1) and set(chosen.by_fold) == {(0, 1)}
    assert chosen.gain.low > 0.09 and chosen.gain.num_groups == 8
    assert chosen.gain.mean == pytest.approx(chosen.in_sample)


def test_each_image_is_measured_with_a_soup_that_it_did_not_choose():
    """A network that is good on one sequence alone is chosen for it, and only where it is held out is it measured."""
    groups = np.repeat(np.arange(5), 2)
    own, other = np.zeros(10), np.full(10, -0.1)
    other[groups == 2] = 1.0
    chosen = choose_soup(2, lambda soup: {(0,): own, (1,): other, (0, 1): other - 0.05}[soup], groups)
    assert chosen.soup == (1,) and chosen.in_sample > 0
    assert sorted(chosen.by_fold).count((0,)) == 1, "without the sequence that it is good on it is not chosen"
    assert chosen.gain.mean == pytest.approx(-0.08) and chosen.gain.low < 0


@pytest.mark.parametrize("num_sequences", [5, 8, 20])
def test_of_networks_that_differ_by_noise_a_soup_is_adopted_as_seldom_as_promised(num_sequences):
    rng, num_adopted, num_trials, in_sample = np.random.default_rng(3), 0, 200, []
    groups = np.repeat(np.arange(num_sequences), 4)
    for _ in range(num_trials):
        of_sequences = rng.normal(0, 0.05, (5, num_sequences))[:, groups]
        chosen = choose_soup(5, additive(of_sequences + rng.normal(0, 0.02, (5, len(groups)))), groups)
        num_adopted += chosen.gain.low > 0
        in_sample.append(chosen.in_sample)
    assert np.mean(in_sample) > 0.01, "on the images that choose it, the soup seems to gain"
    assert num_adopted <= 0.025 * num_trials


def test_with_few_sequences_nothing_is_chosen():
    groups = np.array([0, 1, 2, 2])
    assert choose_soup(2, lambda soup: pytest.fail("nothing need be scored"), groups) is None
