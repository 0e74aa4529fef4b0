"""Images whose sides are not multiples of the network's stride: padded around the centre.

What the added pixels are worth in the mask is `DATASETS.PADDING`, an open question of the original's author:

| policy     | image    | mask                                         |
|------------|----------|----------------------------------------------|
| reflect    | mirrored | mirrored                                     |
| background | black    | the background class                         |
| ignore     | black    | 255: neither loss nor metric                 |
| class      | black    | a class of its own, dropped when decoding    |

Black is 0; of images of other number formats what was measured or given as such.
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from pipeline.config.competition import IGNORE
from pipeline.config.schema import STRIDE

Policy = Literal["reflect", "background", "ignore", "class"]
BACKGROUND = 0  # its class index
BLACK = 0


def padded_size(height: int, width: int) -> tuple[int, int]:
    """Returns the smallest (height, width) that holds the image and is a multiple of `STRIDE`.

    >>> padded_size(720, 1280)
    (736, 1280)
    """
    return -(-height // STRIDE) * STRIDE, -(-width // STRIDE) * STRIDE


def offset_in(frame: tuple[int, int], size: tuple[int, int]) -> tuple[int, int]:
    """Returns where (top, left) an image of (height, width) begins in its frame: an odd row more is at the bottom.

    >>> offset_in((32, 64), (27, 64))
    (2, 0)
    """
    return (frame[0] - size[0]) // 2, (frame[1] - size[1]) // 2


def padding_values(policy: Policy, num_classes: int, black: float = BLACK) -> tuple[float | None, int | None]:
    """Returns the values of padded pixels in image and mask, None where they are mirrored.

    >>> padding_values("class", num_classes=12), padding_values("reflect", num_classes=12)
    ((0, 12), (None, None))
    """
    if policy == "reflect":
        return None, None
    return black, {"background": BACKGROUND, "ignore": IGNORE, "class": num_classes}[policy]


def pad(pixels: np.ndarray, frame: tuple[int, int], value: float | None) -> np.ndarray:
    """Returns an image or mask (H, W or H, W, C) in the middle of a frame of (height, width).

    Around it is `value`, or the mirrored pixels for None. What fills the frame is returned as it is, not copied.
    """
    height, width = pixels.shape[:2]
    if (height, width) == tuple(frame):
        return pixels
    top, left = offset_in(frame, (height, width))
    borders = (top, frame[0] - height - top, left, frame[1] - width - left)
    if pixels.ndim == 3 and pixels.shape[2] != 3:  # OpenCV takes up to four channels and drops a single one
        around = ((borders[0], borders[1]), (borders[2], borders[3]), (0, 0))
        options = {"mode": "reflect"} if value is None else {"constant_values": value}
        return np.pad(pixels, around, **options)
    if value is None:
        return cv2.copyMakeBorder(pixels, *borders, cv2.BORDER_REFLECT_101)
    return cv2.copyMakeBorder(pixels, *borders, cv2.BORDER_CONSTANT, value=(value,) * 4)
