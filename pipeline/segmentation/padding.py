"""Images whose sides are not multiples of the network's stride: padded around the centre, and cut out again.

What the added pixels are worth in the mask is `DATASETS.PADDING`, an open question of the original's author:

| policy     | image    | mask                                         |
|------------|----------|----------------------------------------------|
| reflect    | mirrored | mirrored                                     |
| background | black    | the background class                         |
| ignore     | black    | 255: neither loss nor metric                 |
| class      | black    | a class of its own, dropped when decoding    |
"""

from __future__ import annotations

from typing import Literal

import cv2
import numpy as np

from pipeline.config.competition import IGNORE
from pipeline.config.schema import STRIDE
from pipeline.errors import UserError

Policy = Literal["reflect", "background", "ignore", "class"]
Size = tuple[int, int]
BACKGROUND = 0  # its class index


def padded_size(height: int, width: int, multiple: int = STRIDE) -> Size:
    """Returns the smallest (height, width) that holds the image and is a multiple of `multiple`.

    >>> padded_size(720, 1280)
    (736, 1280)
    """
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


def pad(
    image: np.ndarray, mask: np.ndarray | None, policy: Policy, multiple: int = STRIDE, pad_class: int | None = None
) -> tuple[np.ndarray, np.ndarray | None, tuple[int, int]]:
    """Returns image and mask padded to multiples of `multiple`, and where (top, left) the original begins.

    Args:
        image: uint8, HxWx3.
        mask: uint8, HxW, or None for an image without a mask.
        policy: see the module's table.
        pad_class: class index of the padding, for the policy `class`; the first index after the real classes.

    Returns:
        Image, mask and (top, left); an odd number of rows gives the extra one to the bottom. Arrays that need no
        padding are returned as they are, not copied.

    Raises:
        UserError: policy `class` without `pad_class`, or an unknown policy.
    """
    return pad_to(image, mask, padded_size(*image.shape[:2], multiple), policy, pad_class)


def pad_to(
    image: np.ndarray, mask: np.ndarray | None, size: Size, policy: Policy, pad_class: int | None = None
) -> tuple[np.ndarray, np.ndarray | None, tuple[int, int]]:
    """Returns image and mask in the middle of a frame of `size` = (height, width); otherwise like `pad`."""
    mask_value = padding_value(policy, pad_class)
    height, width = image.shape[:2]
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    if (height, width) == size:
        return image, mask, (0, 0)
    mode = cv2.BORDER_REFLECT_101 if mask_value is None else cv2.BORDER_CONSTANT  # black
    image = cv2.copyMakeBorder(image, *_borders(image, size), mode)
    return image, None if mask is None else pad_mask(mask, size, mask_value), (top, left)


def pad_mask(mask: np.ndarray, size: Size, value: int | None) -> np.ndarray:
    """Returns a mask (uint8, HxW) in the middle of a frame of `size`, around it `value`, or mirrored for None."""
    if value is None:
        return cv2.copyMakeBorder(mask, *_borders(mask, size), cv2.BORDER_REFLECT_101)
    return cv2.copyMakeBorder(mask, *_borders(mask, size), cv2.BORDER_CONSTANT, value=value)


def padding_value(policy: Policy, pad_class: int | None = None) -> int | None:
    """Returns the mask value of padded pixels, None where the mask is mirrored.

    >>> padding_value("ignore"), padding_value("class", pad_class=12), padding_value("reflect")
    (255, 12, None)

    Raises:
        UserError: policy `class` without `pad_class`, or an unknown policy.
    """
    if policy == "class" and pad_class is None:
        raise UserError("DATASETS.PADDING: class needs the index of the padding class, one after the real classes")
    values = {"reflect": None, "background": BACKGROUND, "ignore": IGNORE, "class": pad_class}
    if policy not in values:
        raise UserError(f"DATASETS.PADDING: {policy!r} is none of {', '.join(values)}")
    return values[policy]


def _borders(array: np.ndarray, size: Size) -> tuple[int, int, int, int]:
    height, width = size[0] - array.shape[0], size[1] - array.shape[1]
    return height // 2, height - height // 2, width // 2, width - width // 2
