"""What the pixels of a few files look like: an image or a mask, and which values masks store."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.config.mask_code import MaskCode
from pipeline.data.discovery.sizes import opened_image, size_of
from pipeline.data.images import MAX_PX
from pipeline.files import DAMAGED_ARCHIVE
from pipeline.segmentation.labels import ARRAYS, decode_stored

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
        with opened_image(path) as opened:
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
