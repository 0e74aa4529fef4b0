"""Which samples come in an epoch, how often, and of which sizes they are: arrays, since there may be millions."""

from __future__ import annotations

import numpy as np


def draw_shares(shares: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Returns as many indices as there are shares, each drawn its expected number of times, rounded up or down.

    >>> draw_shares(np.array([0.5, 0.25, 0.25, 0.0]), np.random.default_rng(1)).tolist()
    [0, 0, 1, 2]
    """
    num = len(shares)
    positions = (np.arange(num) + rng.random()) / num
    return np.minimum(np.searchsorted(np.cumsum(shares), positions, side="right"), num - 1)


def times_before(order: np.ndarray) -> np.ndarray:
    """Returns of each entry how often it has come before.

    >>> times_before(np.array([7, 3, 7, 7, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    by_value = np.argsort(order, kind="stable")
    values = order[by_value]
    is_first = np.r_[True, values[1:] != values[:-1]]
    positions = np.arange(len(order))
    times = np.empty_like(positions)
    times[by_value] = positions - np.maximum.accumulate(np.where(is_first, positions, 0))
    return times


def distinct_frames(frames: np.ndarray) -> set[tuple[int, int]]:
    """Returns the different sizes (height, width) of samples.

    >>> sorted(distinct_frames(np.array([[32, 64], [32, 32], [32, 64]])))
    [(32, 32), (32, 64)]
    """
    if frames.strides[0] == 0:  # one, repeated
        frames = frames[:1]
    codes = np.unique(frames[:, 0].astype(np.int64) << 32 | frames[:, 1])
    return {(code >> 32, code & (2**32 - 1)) for code in codes.tolist()}
