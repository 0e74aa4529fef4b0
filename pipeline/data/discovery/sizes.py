"""How large the images of an unknown folder are, and what a few of them store."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.data.decode import stored_pixels
from pipeline.data.images import BadFile
from pipeline.errors import UserError

MOST_FILES = 48  # files that are read, evenly spread
MOST_BYTES = 2**29  # of a file that is read for its form


def size_of(path: Path) -> tuple[int, int]:
    """Returns (width, height) of an image by its header, or else its pixels; (0, 0) where neither is read."""
    if (size := header_size(path)) != (0, 0):
        return size
    pixels = pixels_of(path)
    if pixels is None or pixels.ndim < 2:
        return (0, 0)
    shortest = sorted(range(pixels.ndim), key=lambda axis: pixels.shape[axis])[: pixels.ndim - 2]
    height, width = (side for axis, side in enumerate(pixels.shape) if axis not in shortest)
    return (width, height)


def header_size(path: Path) -> tuple[int, int]:
    """Returns (width, height) of an image by its header, (0, 0) where there is none that PIL knows."""
    try:
        with opened_image(path) as opened:
            return opened.size
    except (OSError, ValueError, SyntaxError):
        return (0, 0)


def pixels_of(path: Path) -> np.ndarray | None:
    """Returns all that an image file stores, as `stored_pixels`; None where it cannot be read, or is too large."""
    try:
        if path.stat().st_size > MOST_BYTES:
            return None
        return stored_pixels(path.read_bytes(), path.suffix)
    except (OSError, BadFile, UserError):
        return None


def spread(items: Sequence, most: int = MOST_FILES) -> list:
    """Returns at most `most` items, evenly spread.

    >>> spread(range(10), 4)
    [0, 2, 5, 7]
    """
    num = min(most, len(items))
    return [items[index * len(items) // num] for index in range(num)]


@contextmanager
def opened_image(path: Path) -> Iterator[Image.Image]:
    """Opens an image for its header; slides of a gigapixel, which PIL would refuse, too.

    Silent about damages, which `prepare` lists.
    """
    most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as image:
                yield image
    finally:
        Image.MAX_IMAGE_PIXELS = most
