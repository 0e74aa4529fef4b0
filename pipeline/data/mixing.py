"""Mosaic quarters and blending, for samples made of several images, with labels of any kind."""

from __future__ import annotations

import cv2
import numpy as np

from pipeline.config.augmentation import Mosaic
from pipeline.data.tiles import Box


def other_quarters(settings: Mosaic, size: tuple[int, int], rng: np.random.Generator) -> list[Box]:
    """Returns the three quarters of a sample of `size` (height, width) that a mosaic fills with other images.

    The quarters meet at a random point, and the sample's own quarter is a random one. Quarters without pixels are left
    out.

    Source: Bochkovskiy et al. 2020, https://arxiv.org/abs/2004.10934; the images keep their scale.
    """
    height, width = size
    low, high = settings.center
    x, y = (round(side * share) for side, share in zip((width, height), rng.uniform(low, high, 2), strict=True))
    quarters = [
        Box(left, top, right - left, bottom - top)
        for top, bottom in ((0, y), (y, height))
        for left, right in ((0, x), (x, width))
    ]
    own = int(rng.integers(4))
    return [quarter for quarter in quarters[:own] + quarters[own + 1 :] if quarter.width and quarter.height]


def blended(image: np.ndarray, other: np.ndarray, share: float) -> np.ndarray:
    """Returns an image with a share, 0 to 1, of another one of the same size and number format.

    >>> blended(np.array([[[100]]], np.uint8), np.array([[[200]]], np.uint8), 0.25).tolist()
    [[[125]]]
    """
    rows = [np.ascontiguousarray(array).reshape(len(array), -1) for array in (image, other)]  # OpenCV: few channels
    return cv2.addWeighted(rows[0], 1 - share, rows[1], share, 0).reshape(image.shape)
