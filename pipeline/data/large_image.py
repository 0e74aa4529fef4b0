"""An image that is too large to be held in memory as a whole: read some rows or windows at a time.

In: its files, read by region. Out: windows, rows resized, thumbnails, some of its pixels.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence

import cv2
import numpy as np

from pipeline.data.images import BadFile, by_fours
from pipeline.data.regions import Regions
from pipeline.data.tiles import Box, Size
from pipeline.errors import UserError

BAND_BYTES = 2**25  # of rows that are read at once
MOST_THUMBNAIL = 2048  # pixels of a thumbnail's longer side
SPOT = 64  # side of the windows from which single pixels are taken
ONE_AT_A_TIME = threading.Lock()  # held by whoever works on a large image, so that threads do not add up


class LargeImage:
    """An image of one file, or of several whose channels are stacked.

    Args:
        files: all of one size and number format.
        channels: how many there are; a single grey one is repeated.

    Attributes:
        size: (height, width).
        dtype: uint8, uint16 or float32.

    Raises:
        BadFile: sizes, number formats or the number of channels do not fit.
    """

    def __init__(self, files: Sequence[Regions], channels: int):
        self.files, self.channels = list(files), channels
        self.size, self.dtype = files[0].size, files[0].dtype
        if len({file.size for file in files}) > 1:
            sizes = sorted({file.size for file in files})
            raise BadFile("files of different sizes", " and ".join(f"{width}x{height}" for height, width in sizes))
        self.read(Box(0, 0, 1, 1))

    def read(self, box: Box) -> np.ndarray:
        """Returns the pixels of a box inside the image, (box.height, box.width, channels)."""
        return stack([file.read(box) for file in self.files], self.channels)

    def bands(self, top: int = 0, bottom: int | None = None) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (first row, pixels of the whole width) from top to bottom."""
        height, width = self.size
        bottom = height if bottom is None else bottom
        step = max(1, BAND_BYTES // (width * self.channels * self.dtype.itemsize))
        for first in range(top, bottom, step):
            yield first, self.read(Box(0, first, width, min(step, bottom - first)))

    def resized(self, size: Size) -> Iterator[tuple[int, np.ndarray]]:
        """Yields (first row, rows) of the image at (width, height), averaged by area.

        Raises:
            UserError: the image would be enlarged.
        """
        (height, width), (new_width, new_height) = self.size, size
        if size == (width, height):
            yield from self.bands()
            return
        if new_width > width or new_height > height:
            raise UserError(
                f"DATASETS.AUGMENTATION.TILE.SETS enlarges an image of {width}x{height} to {new_width}x{new_height}. "
                "Images above WHOLE_PX of IMAGE can only be shrunk: use a smaller size or factor."
            )
        factor = height / new_height
        step = max(1, int(BAND_BYTES // (width * self.channels * 4) / factor))
        for first in range(0, new_height, step):
            last = min(first + step, new_height)
            top, bottom = int(first * factor), min(height, int(np.ceil(last * factor)))
            pixels = self.read(Box(0, top, width, bottom - top)).astype(np.float32)
            narrow = by_fours(
                pixels, lambda four: cv2.resize(four, (new_width, len(four)), interpolation=cv2.INTER_AREA)
            )
            weights = _area_weights(first, last, factor, top, bottom)
            rows = (weights @ narrow.reshape(len(narrow), -1)).reshape(last - first, new_width, self.channels)
            yield first, rows if self.dtype.kind == "f" else np.rint(rows).astype(self.dtype)

    def thumbnail(self) -> np.ndarray:
        """Returns the image at a size of at most MOST_THUMBNAIL pixels, (H, W, channels)."""
        factor = max(1.0, max(self.size) / MOST_THUMBNAIL)
        height, width = (max(1, round(side / factor)) for side in self.size)
        return np.concatenate([rows for _, rows in self.resized((width, height))])

    def some_pixels(self, count: int) -> np.ndarray:
        """Returns about `count` pixels from evenly spread windows, (P, channels)."""
        height, width = self.size
        across = max(1, round(np.sqrt(count * width / height) / SPOT)) + 1
        down = max(1, round(np.sqrt(count * height / width) / SPOT)) + 1
        box_size = min(SPOT, width), min(SPOT, height)
        spots = [
            self.read(Box(int(x), int(y), *box_size)).reshape(-1, self.channels)
            for y in np.linspace(0, height - box_size[1], down)
            for x in np.linspace(0, width - box_size[0], across)
        ]
        pixels = np.concatenate(spots)
        return pixels[:: max(1, len(pixels) // count)].copy()


def stack(parts: Sequence[np.ndarray], channels: int) -> np.ndarray:
    """Returns the channels of several files one behind the other; a single grey image is repeated.

    Raises:
        BadFile: there are more or fewer channels than `channels`.
    """
    if len({part.dtype for part in parts}) > 1:
        formats = ", ".join(sorted({part.dtype.name for part in parts}))
        raise BadFile("image of another form", f"number formats {formats} in one image")
    image = parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)
    if image.shape[2] == 1 and channels > 1:
        image = np.repeat(image, channels, axis=2)
    if image.shape[2] != channels:
        raise BadFile("number of channels", f"{image.shape[2]} channels, expected {channels}")
    return np.ascontiguousarray(image)


def _area_weights(first: int, last: int, factor: float, top: int, bottom: int) -> np.ndarray:
    """Returns what the source rows `top` to `bottom` add to each of `first` to `last`: float32, (rows, source rows)."""
    starts = np.arange(first, last)[:, None] * factor
    rows = np.arange(top, bottom)[None]
    shared = np.clip(np.minimum(rows + 1, starts + factor) - np.maximum(rows, starts), 0, None)
    return (shared / shared.sum(1, keepdims=True)).astype(np.float32)
