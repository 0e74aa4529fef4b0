"""What the pixels of a few files look like: an image or a mask, and which values masks store."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pipeline.config.mask_code import MaskCode
from pipeline.data.decode import stored_pixels
from pipeline.data.images import MAX_PX, BadFile
from pipeline.errors import UserError
from pipeline.files import DAMAGED_ARCHIVE
from pipeline.segmentation.labels import ARRAYS, decode_stored

MOST_FILES = 48  # masks that are read, evenly spread
MOST_BYTES = 2**29  # of a file that is read for its form
FEW = 64  # values or colours; a mask has fewer, a photograph more
_GREY, _COLORS = MaskCode({0: 0}), MaskCode(colors=((0, 0, 0),))
_CLOSED = (".dcm", ".jp2")  # need packages that are not read here


@dataclass(frozen=True)
class Content:
    """What a file holds.

    Attributes:
        size: (width, height), (0, 0) where it is not known.
        values: its grey values, sorted, or its colours (red, green, blue); None: more than `FEW`, or not read.
        is_color: whether `values` are colours.
        is_lossy: whether it is a JPEG, whose values are not exact.
        is_plane: whether it is one plane of pixels, or colours; False: of another form, or not read.
    """

    size: tuple[int, int] = (0, 0)
    values: tuple | None = None
    is_color: bool = False
    is_lossy: bool = False
    is_plane: bool = True


def look_at(path: Path) -> Content:
    """Returns what a file holds; an unreadable one is of no size."""
    suffix = path.suffix.lower()
    if suffix in _CLOSED:
        return Content()
    try:
        if suffix in ARRAYS:
            return _array(path)
        with _opened(path) as opened:
            size, form = opened.size, opened.format
        if size[0] * size[1] > MAX_PX:
            return Content(size)
        data = path.read_bytes()
        is_lossy = form in ("JPEG", "MPO")
        stored = None if is_lossy else decode_stored(data, suffix, _GREY)
        if stored is not None:
            return Content(size, _few(stored))
        stored = decode_stored(data, suffix, _COLORS)
    except (*DAMAGED_ARCHIVE, OSError, SyntaxError, cv2.error):
        return Content(size_of(path), is_plane=False)
    if stored is None:
        return Content(size, is_plane=False)
    blue, green, red = (stored[..., index].astype(np.int64) for index in range(3))
    codes = _few((red << 16) + (green << 8) + blue)
    colors = None if codes is None else tuple((code >> 16, code >> 8 & 255, code & 255) for code in codes)
    return Content(size, colors, True, is_lossy)


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
        with _opened(path) as opened:
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
def _opened(path: Path) -> Iterator[Image.Image]:
    """Opens an image for its header; slides of a gigapixel, which PIL would refuse, too.

    Silent about damages, which `prepare` lists.
    """
    most, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            with Image.open(path) as opened:
                yield opened
    finally:
        Image.MAX_IMAGE_PIXELS = most


def _array(path: Path) -> Content:
    with open(path, "rb") as file:
        if file.read(2) == b"PK":  # a zip: an npz. NumPy would leave it open
            file.seek(0)
            with np.load(file, allow_pickle=False) as arrays:
                stored = arrays[arrays.files[0]] if len(arrays.files) == 1 else np.zeros((1, 1, 2))
        else:
            stored = np.load(path, mmap_mode="r", allow_pickle=False)
    stored = stored.squeeze()
    if stored.ndim != 2 or stored.size > MAX_PX:
        return Content(size_of(path), is_plane=False)
    is_whole = stored.dtype.kind in "uib" or bool((stored == np.rint(stored)).all())
    return Content(stored.shape[::-1], _few(np.asarray(stored).astype(np.int64)) if is_whole else None)


def _few(stored: np.ndarray) -> tuple[int, ...] | None:
    values = np.unique(stored)
    return tuple(values.tolist()) if len(values) <= FEW else None
