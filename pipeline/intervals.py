"""Confidence intervals of a mean over images that come in sequences; frames of one video are nearly the same image.

In: a value per image and its sequence. Out: the mean and its interval. Imports NumPy and `scipy.special` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # quantiles of Student's t; scipy.stats takes four times as long to import

NUM_DRAWS = 4000  # fixes the ends of the interval to a few hundredths of its width
TAIL = 0.025
# Of what is fitted on some images and measured on the others.
MAX_FOLDS = 5
LEAST_SEQUENCES = 4  # with fewer, one unusual sequence decides


@dataclass(frozen=True)
class Interval:
    """A mean with its interval, 95 % unless stated otherwise; `num_groups` is the number of sequences behind it."""

    mean: float
    low: float
    high: float
    num_groups: int

    def __str__(self) -> str:
        """Returns the mean of a difference and its interval.

        >>> str(Interval(0.01, -0.002, 0.022, 8)), str(Interval(0.01, -np.inf, np.inf, 1))
        ('+0.0100 (-0.0020 to +0.0220)', '+0.0100 (no interval: one sequence)')
        """
        if not np.isfinite(self.low):
            return f"{self.mean:+.4f} (no interval: one sequence)"
        return f"{self.mean:+.4f} ({self.low:+.4f} to {self.high:+.4f})"


def group_numbers(ids: Sequence[str], sequences: Sequence[str]) -> np.ndarray:
    """Returns a number per image, int64, equal within a sequence; an image without a sequence is a group of its own.

    >>> group_numbers(["a", "b", "c", "d"], ["s", "", "s", ""]).tolist()
    [2, 0, 2, 1]
    """
    pairs = zip(ids, sequences, strict=True)
    names = [f"sequence {sequence}" if sequence else f"image {image_id}" for image_id, sequence in pairs]
    return np.unique(names, return_inverse=True)[1]


def interval(values: np.ndarray, groups: np.ndarray, tail: float = TAIL) -> Interval:
    """Returns the mean over images and its interval from drawing whole sequences with replacement.

    With few sequences the bootstrap's interval is too narrow, so this one is made at least as wide as Student's t on
    the sequences' contributions to the mean. With one sequence the interval is infinite.

    Args:
        values: float (I,), e.g. the gain in Dice of each image.
        groups: int (I,), the sequence of each.
        tail: the probability beyond either end; 0.025 makes a 95 % interval.

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
    deviations = (sums - mean * sizes) / sizes.sum()
    spread = np.sqrt(num_groups / (num_groups - 1) * np.square(deviations).sum()) * stdtrit(num_groups - 1, 1 - tail)
    return Interval(mean, float(min(low, mean - spread)), float(max(high, mean + spread)), num_groups)


def deal_folds(groups: np.ndarray, num_folds: int) -> np.ndarray:
    """Returns the fold of each image, int64 (I,): whole sequences, the largest first to the smallest fold.

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
