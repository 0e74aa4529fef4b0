"""How sure a mean over images is when images come in sequences: frames of one video say nearly the same thing.

In: a value per image and its sequence. Out: the mean and a 95 % interval. Needs NumPy and SciPy only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

NUM_DRAWS = 4000  # the ends of the interval are then known to a few hundredths of its width
TAIL = 0.025


@dataclass(frozen=True)
class Interval:
    """A mean with its interval, 95 % unless said otherwise; `num_groups` is the number of sequences behind it."""

    mean: float
    low: float
    high: float
    num_groups: int


def group_numbers(ids: Sequence[str], sequences: Sequence[str]) -> np.ndarray:
    """Returns a number per image, int64, equal within a sequence; images without a sequence are one each.

    >>> group_numbers(["a", "b", "c", "d"], ["s", "", "s", ""]).tolist()
    [2, 0, 2, 1]
    """
    pairs = zip(ids, sequences, strict=True)
    names = [f"sequence {sequence}" if sequence else f"image {image_id}" for image_id, sequence in pairs]
    return np.unique(names, return_inverse=True)[1]


def interval(values: np.ndarray, groups: np.ndarray, tail: float = TAIL) -> Interval:
    """Returns the mean over images and its interval from drawing whole sequences with replacement.

    With few sequences the bootstrap is too sure of itself, so the interval is made at least as wide as Student's t on
    the sequences' shares in the mean; with one sequence nothing is known and the interval is infinite.

    Args:
        values: float (P,), e.g. the gain in Dice of each image.
        groups: int (P,), the sequence of each.
        tail: the share beyond either end; 0.025 makes a 95 % interval.

    Source: cluster bootstrap, Field and Welsh 2007; t interval on cluster sums, Cameron and Miller 2015.
    """
    mean = float(np.mean(values))
    _, group_of = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(group_of, values), np.bincount(group_of)
    num_groups = len(sizes)
    if num_groups < 2:
        return Interval(mean, -np.inf, np.inf, num_groups)
    counts = np.random.default_rng(0).multinomial(num_groups, np.full(num_groups, 1 / num_groups), NUM_DRAWS)
    low, high = np.quantile((counts @ sums) / (counts @ sizes), [tail, 1 - tail])
    shares = (sums - mean * sizes) / sizes.sum()
    spread = np.sqrt(num_groups / (num_groups - 1) * np.square(shares).sum()) * stats.t.ppf(1 - tail, num_groups - 1)
    return Interval(mean, float(min(low, mean - spread)), float(max(high, mean + spread)), num_groups)


def deal_folds(groups: np.ndarray, num_folds: int) -> np.ndarray:
    """Returns the fold of each image, int64 (P,): whole sequences, the largest first to the smallest fold.

    >>> deal_folds(np.array([0, 0, 0, 1, 1, 2]), 2).tolist()
    [0, 0, 0, 1, 1, 1]
    """
    names, sizes = np.unique(groups, return_counts=True)
    folds, totals = {}, np.zeros(num_folds, int)
    for index in np.argsort(-sizes, kind="stable"):
        fold = int(totals.argmin())
        folds[names[index]] = fold
        totals[fold] += sizes[index]
    return np.array([folds[group] for group in groups], int)
