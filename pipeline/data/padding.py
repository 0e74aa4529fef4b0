"""Images of sizes that a network does not take: padded around the centre.

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

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Literal

import cv2
import numpy as np

from pipeline.config.competition import IGNORE
from pipeline.config.schema import STRIDE
from pipeline.errors import UserError

Policy = Literal["reflect", "background", "ignore", "class"]
BACKGROUND = 0  # its class index
BLACK = 0


@dataclass(frozen=True)
class Sizes:
    """The sizes of frames that a network takes.

    Attributes:
        multiple: of which height and width are multiples. It is `STRIDE` for all networks with a stride of 32 or a
            part of it: so the same image has the same frame.
        fixed: (height, width) of the only frames that the network itself takes, or None. Larger frames are predicted in
            windows of this size, and training samples have it.
        smallest: height and width at least, a multiple of `multiple`; 0: a single multiple is enough.
    """

    multiple: int = STRIDE
    fixed: tuple[int, int] | None = None
    smallest: int = 0

    def padded(self, height: int, width: int) -> tuple[int, int]:
        """Returns the smallest frame (height, width) for an image.

        >>> Sizes().padded(720, 1280), Sizes(fixed=(224, 224)).padded(200, 300), Sizes(smallest=128).padded(64, 300)
        ((736, 1280), (224, 320), (128, 320))
        """
        least = self.fixed or (self.smallest, self.smallest)
        frame = padded_size(height, width, self.multiple)
        return max(frame[0], least[0]), max(frame[1], least[1])

    def before(self, factor: float) -> Sizes:
        """Returns the sizes of frames that the network takes after they are resized by a factor.

        >>> Sizes(smallest=128).before(0.3), Sizes(smallest=128).before(2)
        (Sizes(multiple=32, fixed=None, smallest=448), Sizes(multiple=32, fixed=None, smallest=64))
        """
        return replace(self, smallest=padded_size(math.ceil(self.smallest / factor), 0, self.multiple)[0])

    def scaled(self, size: tuple[int, int], factor: float) -> tuple[int, int]:
        """Returns (height, width) times a factor, as the nearest sides that the network takes.

        >>> Sizes().scaled((224, 416), 1.5), Sizes(smallest=128).scaled((224, 416), 0.5)
        ((320, 640), (128, 192))
        """
        least = max(self.multiple, self.smallest)
        height, width = (max(least, round(side * factor / self.multiple) * self.multiple) for side in size)
        return height, width


ANY_SIZE = Sizes()  # of networks that take all multiples of STRIDE


def refuse_other_sizes(sizes: Sizes, frames: Collection[tuple[int, int]]) -> None:
    """Refuses training samples whose frames (height, width) a network of one size does not take.

    Raises:
        UserError: the size of the network, that of a sample, and what to set.
    """
    if (
        sizes.fixed is None
        or (other := next((frame for frame in sorted(frames) if frame != sizes.fixed), None)) is None
    ):
        return
    (height, width), (own_height, own_width) = other, sizes.fixed
    tile = f"{{ENABLE: true, WIDTH: {own_width}, HEIGHT: {own_height}, SETS: [[1.0, 0.25]]}}"
    size = f"set MODEL.ENCODER.IMAGE_SIZE: [{width}, {height}]"
    only = size if len(frames) == 1 else f"cut tiles of its size: DATASETS.AUGMENTATION.TILE: {tile}"
    raise UserError(
        f"MODEL: the network takes images of {own_width}x{own_height} only, but a training sample has "
        f"{width}x{height}; {only}"
    )


def padded_size(height: int, width: int, multiple: int = STRIDE) -> tuple[int, int]:
    """Returns the smallest (height, width) that holds the image, in multiples of `multiple`.

    >>> padded_size(720, 1280)
    (736, 1280)
    """
    return -(-height // multiple) * multiple, -(-width // multiple) * multiple


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
