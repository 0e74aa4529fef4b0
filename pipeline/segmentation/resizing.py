"""Masks at another size than their image's: of a submission (SUBMISSION.SIZE), or as organisers store them (MASK_SIZE).

In: an index mask, planes or an object map. Out: the same at another size.
"""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.config.competition import IGNORE, Competition
from pipeline.segmentation.planes import from_bool, is_present

HALF_SHARE = 0.5  # of a pixel, from which on it has a class of planes; shares are exact sums of few terms
_ROUNDING = 1e-4  # of shares in float32


def resize_mask(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a mask at (height, width), in its own form and type; of the same size it is returned as it is.

    A pixel of an index mask gets the value that has the largest share of its area, the smallest of several; one of
    planes gets each class that has half of its area or more, and is ignored where that is more of the area. Where a
    side grows, shares are interpolated linearly. A pixel of an object map, int32, gets the nearest pixel's object, as
    objects cannot share one.

    >>> resize_mask(np.array([[1, 1, 0, 0], [1, 0, 0, 2]], np.uint8), (1, 2)).tolist()
    [[1, 0]]
    """
    height, width = size
    if mask.shape[:2] == (height, width):
        return mask
    if mask.ndim == 3:
        return np.stack([_resize_plane(plane, size) for plane in np.moveaxis(mask, -1, 0)], -1)
    if mask.dtype != np.uint8:
        return _nearest(mask, size)
    resized, most = np.zeros((height, width), np.uint8), np.zeros((height, width), np.float32)
    for value in np.flatnonzero(np.bincount(mask.ravel(), minlength=256)).tolist():
        share = _share(mask == value, size)
        is_more = share > most + _ROUNDING
        resized[is_more], most[is_more] = value, share[is_more]
    return resized


def run_size(size: tuple[int, int], competition: Competition) -> tuple[int, int]:
    """Returns (height, width) of the run lengths of an image of that size: its own, or that of MASK_SIZE."""
    own = competition.mask_size
    return own[::-1] if isinstance(own, tuple) else size


def stretched(mask: np.ndarray, size: tuple[int, int], competition: Competition) -> np.ndarray:
    """Returns a mask at its image's size where MASK_SIZE allows another one, (0, 0) being not known.

    A mask that is turned against its image stays as it is, so that it is refused for its size.
    """
    is_turned = (mask.shape[0] - mask.shape[1]) * (size[0] - size[1]) < 0
    return mask if competition.mask_size == "image" or 0 in size or is_turned else resize_mask(mask, size)


def _resize_plane(plane_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    is_class, is_ignored = (_share(part, size) for part in (is_present(plane_HW), plane_HW == IGNORE))
    resized = from_bool(is_class >= HALF_SHARE - _ROUNDING)
    return np.where(is_ignored > np.maximum(is_class, HALF_SHARE) + _ROUNDING, np.uint8(IGNORE), resized)


def _share(is_value_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns the share of each new pixel's area that is True: float32 of `size`."""
    height, width = size
    shrinks = height <= is_value_HW.shape[0] and width <= is_value_HW.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(is_value_HW.astype(np.float32), (width, height), interpolation=method)


def _nearest(map_HW: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    rows, columns = (
        np.minimum((np.arange(new) + 0.5) * old / new, old - 1).astype(np.int64)
        for new, old in zip(size, map_HW.shape, strict=True)
    )
    return map_HW[rows[:, None], columns]
