"""The pixels of a part that lies completely outside its image, as a random crop larger than it can have."""

from __future__ import annotations

import numpy as np

from pipeline.data.tiles import Box


def part_beyond(array: np.ndarray, box: Box, flips: tuple[bool, bool], value: float | None) -> np.ndarray:
    """Returns the pixels of `box`, which lies outside the array: (box.height, box.width, ...).

    Args:
        flips: whether the array is flipped first (up and down, left and right).
        value: of each pixel; None: the array is mirrored at its borders.
    """
    if value is not None:
        return np.full((box.height, box.width, *array.shape[2:]), value, array.dtype)
    rows, columns = (
        mirrored(np.arange(start, start + length), side)
        for start, length, side in zip((box.y, box.x), (box.height, box.width), array.shape[:2], strict=True)
    )
    rows = array.shape[0] - 1 - rows if flips[0] else rows
    columns = array.shape[1] - 1 - columns if flips[1] else columns
    return array[np.ix_(rows, columns)]


def mirrored(positions: np.ndarray, length: int) -> np.ndarray:
    """Returns positions mirrored into a length; the first and last are not repeated.

    >>> mirrored(np.arange(-3, 6), 3).tolist()
    [1, 2, 1, 0, 1, 2, 1, 0, 1]
    """
    last = max(length - 1, 1)
    return np.minimum(last - np.abs(positions % (2 * last) - last), length - 1)
