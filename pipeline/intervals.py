"""Confidence intervals of a mean over images that come in sequences; frames of one video are nearly the same image.

In: a value per image and its sequence. Out: the mean and its interval. Imports NumPy and `scipy.special` only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtrit  # quantiles of Student's t; scipy.stats takes four times as long to import

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
        ('+0.0100 (-0.0020 to +0.0220)', '+0.0100 (no interval)')
        """
        if not np.isfinite(self.low):
            return f"{self.mean:+.4f} (no interval)"
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
    """Returns the mean over images and its interval, from the spread between sequences; infinite with one sequence.

    Student's t with a standard error that is right for few sequences, and with as many degrees of freedom as sequences
    of so unequal sizes are worth: 8 sequences of equal size have 7, one of 100 images among 7 of 10 has 1.3. It is
    wrong in at most 5 % of cases with 3 to 60 sequences whose means are spread symmetrically, and in up to 12 % with
    few sequences and a very skewed spread (`tests/long/intervals.py`).

    Args:
        values: float (I,), e.g. the gain in Dice of each image.
        groups: int (I,), the sequence of each.
        tail: the probability beyond either end; 0.025 makes a 95 % interval.

    Source: CR2 and its degrees of freedom, Bell and McCaffrey 2002; Imbens and Kolesar 2016, whose choice of the
    degrees of freedom is narrowed here to the fewer of two models: independent images, and equal images in a sequence.

    >>> str(interval(np.array([0.0, 0.02, 0.04, 0.06]), np.arange(4)))
    '+0.0300 (-0.0111 to +0.0711)'
    """
    mean, error, degrees, num_groups = mean_and_error(values, groups)
    half = float(error * stdtrit(degrees, 1 - tail))
    return Interval(mean, mean - half, mean + half, num_groups)


def mean_and_error(values: np.ndarray, groups: np.ndarray) -> tuple[float, float, float, int]:
    """Returns the mean over images, its standard error, the error's degrees of freedom, and the number of sequences.

    With one sequence the error is infinite. See `interval`.
    """
    mean = float(np.mean(values))
    _, group_of = np.unique(groups, return_inverse=True)
    sums, sizes = np.bincount(group_of, values), np.bincount(group_of)
    num_groups = len(sizes)
    if num_groups < 2:
        return mean, np.inf, 1.0, num_groups
    shares = sizes / sizes.sum()
    error = float(np.sqrt((np.square(sums - mean * sizes) / (1 - shares)).sum()) / sizes.sum())
    degrees = min(degrees_of_freedom(shares, sizes), degrees_of_freedom(shares, np.square(sizes)))
    return mean, error, degrees, num_groups


def degrees_of_freedom(shares: np.ndarray, variances: np.ndarray) -> float:
    """Returns those of the CR2 variance of a mean, by matching two moments (Satterthwaite).

    Args:
        shares: float (G,), of the images in each sequence; their sum is 1.
        variances: float (G,), of the sums over the sequences, up to a common factor.

    >>> round(degrees_of_freedom(np.full(8, 1 / 8), np.ones(8)), 6)
    7.0
    """
    # The variance is s' A s of the sums s, with A = diag(a) + t - c - c', where a = 1 / (1 - shares), c = a * shares.
    # The traces of A V and of its square follow without building A, which has a row per image where all stand alone.
    a = 1 / (1 - shares)
    c, t = a * shares, float((a * shares * shares).sum())
    off = t - 2 * c
    moments = [float((variances * c**power).sum()) for power in range(3)]
    squares = t * t * moments[0] ** 2 + 2 * moments[0] * moments[2] - 4 * t * moments[0] * moments[1]
    squares += 2 * moments[1] ** 2 + float((np.square(variances) * (np.square(a + off) - np.square(off))).sum())
    return float((variances * (a + off)).sum()) ** 2 / squares


def assign_folds(groups: np.ndarray, num_folds: int) -> np.ndarray:
    """Returns the fold of each image, int64 (I,): whole sequences, the largest first to the smallest fold.

    >>> assign_folds(np.array([0, 0, 0, 1, 1, 2]), 2).tolist()
    [0, 0, 0, 1, 1, 1]
    """
    names, sizes = np.unique(groups, return_counts=True)
    folds, totals = {}, np.zeros(num_folds, int)
    for index in np.argsort(-sizes, kind="stable"):
        fold = int(totals.argmin())
        folds[names[index]] = fold
        totals[fold] += sizes[index]
    return np.array([folds[group] for group in groups], int)
