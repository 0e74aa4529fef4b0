"""Image files that are read by region: TIFF by its tiles or strips, npy and uncompressed TIFF by pixel offset.

In: a path. Out: windows (H, W, C) of the pixels that `decode` returns of the whole file. The last tiles or strips are
kept decoded, so that neighbouring windows do not decode them again. A compression that tifffile does not know itself
(LZW, JPEG, JPEG 2000) needs the package imagecodecs.

Letters: S planes of a TIFF, T rows and U columns of a tile or strip, C channels.
"""

from __future__ import annotations

import logging
import os
import threading
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.competition import ImageForm
from pipeline.data.decode import TIFF, library, plain, select
from pipeline.data.images import BadFile
from pipeline.data.tiles import Box
from pipeline.errors import UserError
from pipeline.optional import install_command

NPY = (".npy",)
BY_REGION = (*TIFF, *NPY)  # kinds of files of which some can be read by region
MOST_SEGMENT_BYTES = 2**27  # a file with a larger tile or strip, decoded, cannot be read by region
KEPT_BYTES = 2**27  # of decoded tiles and strips: 2,200 rows of an 8-bit RGB image 20,000 pixels wide
PHOTOMETRICS = (1, 2, 6)  # grey, RGB, and YCbCr, which the decoder makes RGB
Window = Callable[[Box], np.ndarray]


class Regions:
    """An image file that is read by window; another process that receives it opens it again.

    Args:
        form: which bands and which frame of it.
        kept_bytes: how much is kept decoded.

    Attributes:
        size: (height, width).
        channels: of what `read` returns, after BANDS.
        dtype: uint8, uint16 or float32.

    Raises:
        BadFile: it cannot be read by region, or is damaged.
        UserError: a library that it needs is not installed.
    """

    def __init__(self, path: Path, form: ImageForm, kept_bytes: int = KEPT_BYTES):
        self.path, self.form, self.kept_bytes = path, form, kept_bytes
        opened = _open_npy if path.suffix.lower() in NPY else _open_tiff
        self.size, channels, dtype, self._window = opened(path, form, kept_bytes)
        self._bands = replace(form, frame=None)
        one = self._plain(np.empty((1, 1, channels), dtype))
        self.channels, self.dtype = one.shape[2], one.dtype

    def __reduce__(self):
        return Regions, (self.path, self.form, self.kept_bytes)

    def read(self, box: Box) -> np.ndarray:
        """Returns the pixels of a box inside the image, (box.height, box.width, C)."""
        return self._plain(self._window(box))

    def _plain(self, pixels: np.ndarray) -> np.ndarray:
        return plain(select(pixels, self._bands), self.form.nan)


def stored_size(path: Path) -> tuple[int, int] | None:
    """Returns (height, width) of a file of a kind that may be read by region; None for others or a damaged one."""
    suffix = path.suffix.lower()
    try:
        if suffix in NPY:
            shape = _mapped(path).shape
            return shape[:2] if len(shape) > 1 else None
        if suffix in TIFF:
            with _opened_tiff(path) as tiff:
                page = tiff.pages[0]
                return page.imagelength, page.imagewidth
    except UserError:
        raise
    except Exception:  # the check, which reads the file as a whole, reports what is wrong with it
        return None
    return None


def _open_npy(path: Path, form: ImageForm, kept_bytes: int) -> tuple[tuple[int, int], int, np.dtype, Window]:
    def view() -> np.ndarray:
        return select(_mapped(path), replace(form, bands=None))

    # Mapped again for each window, so that pages already read do not add up to the whole file.
    pixels = view()
    return pixels.shape[:2], pixels.shape[2], pixels.dtype, lambda box: np.array(view()[_slices(box)])


def _mapped(path: Path) -> np.ndarray:
    return np.load(path, mmap_mode="r", allow_pickle=False).squeeze()


def _open_tiff(path: Path, form: ImageForm, kept_bytes: int) -> tuple[tuple[int, int], int, np.dtype, Window]:
    with _opened_tiff(path) as tiff:
        pages = tiff.series[0].pages
        if len(pages) > 1 and form.frame is None:
            raise BadFile("several images in a file", f"TIFF, {len(pages)} images; too large to be read as a whole")
        page = pages[form.frame or 0].aspage()
        num_planes, depth, height, width, samples = page.shaped
        if depth != 1 or page.photometric not in PHOTOMETRICS:
            kind = f"{depth} layers in one page" if depth != 1 else page.photometric.name
            raise BadFile("image too large", f"{width}x{height}, a TIFF of {kind}, which cannot be read by region")
        if "Orientation" in page.tags and page.tags["Orientation"].value != 1:
            raise BadFile("EXIF rotation", f"orientation {int(page.tags['Orientation'].value)}")
        size, channels, dtype = (height, width), num_planes * samples, page.dtype.newbyteorder(tiff.byteorder)
        if page.is_memmappable:
            shape, offset = page.shaped, page.dataoffsets[0]

            def window(box: Box) -> np.ndarray:
                part = np.memmap(path, dtype, "r", offset, shape)[(slice(None), 0, *_slices(box))]
                return _joined(np.array(part))

            return size, channels, dtype, window
        return size, channels, dtype, _Segments(path, page, kept_bytes).read


def _joined(planes_SHWC: np.ndarray) -> np.ndarray:
    """Returns planes one behind the other as channels."""
    return np.concatenate(list(planes_SHWC), axis=2) if len(planes_SHWC) > 1 else planes_SHWC[0]


class _Segments:
    """The tiles or strips of a page; those that were decoded last are kept."""

    def __init__(self, path: Path, page: Any, kept_bytes: int):
        self.page, self.kept_bytes = page, kept_bytes
        self.num_planes, _, self.height, self.width, self.samples = page.shaped
        self.rows = page.tilelength if page.is_tiled else min(page.rowsperstrip, self.height)
        self.columns = page.tilewidth if page.is_tiled else self.width
        self.across, down = -(-self.width // self.columns), -(-self.height // self.rows)
        self.per_plane = self.across * down
        size = f"{self.width}x{self.height}"
        if self.rows * self.columns * self.samples * page.dtype.itemsize > MOST_SEGMENT_BYTES:
            raise BadFile("image too large", f"{size}, compressed in pieces of {self.columns}x{self.rows}")
        if self.num_planes * self.per_plane != len(page.dataoffsets):
            raise BadFile("file damaged", f"{size}, TIFF with {len(page.dataoffsets)} tiles or strips")
        tables = {"jpegtables": page.jpegtables, "jpegheader": page.jpegheader}
        self.options = {name: value for name, value in tables.items() if value is not None}
        self.file = os.open(path, os.O_RDONLY)
        self.kept: OrderedDict[int, np.ndarray] = OrderedDict()
        self.num_bytes, self.lock = 0, threading.Lock()
        try:
            self._decode(0)
        except Exception as error:
            if "imagecodecs" in str(error):
                found = f"{path.name}: {size}, a TIFF compressed with {page.compression.name}, is too large to be read"
                why = f"as a whole; to read it by region, install imagecodecs: {install_command('imagecodecs')}"
                raise UserError(f"{found} {why}") from None
            raise BadFile("file damaged", f"{size}, its pixels do not decode: {str(error)[:80]}") from None

    def __del__(self):
        if hasattr(self, "file"):
            os.close(self.file)

    def read(self, box: Box) -> np.ndarray:
        """Returns the stored pixels of a box, (H, W, C)."""
        planes = np.empty((self.num_planes, box.height, box.width, self.samples), self.page.dtype)
        rows = range(box.y // self.rows, -(-(box.y + box.height) // self.rows))
        columns = range(box.x // self.columns, -(-(box.x + box.width) // self.columns))
        with self.lock:
            for plane in range(self.num_planes):
                for row in rows:
                    for column in columns:
                        segment_TUC = self._segment(plane * self.per_plane + row * self.across + column)
                        _copy_shared(planes[plane], box, segment_TUC, row * self.rows, column * self.columns)
        return _joined(planes)

    def _segment(self, index: int) -> np.ndarray:
        if index in self.kept:
            self.kept.move_to_end(index)
            return self.kept[index]
        try:
            segment = self._decode(index)
        except Exception as error:  # for a damaged file each library raises its own errors
            raise BadFile("file damaged", f"tile or strip {index} does not decode: {str(error)[:80]}") from None
        self.kept[index] = segment
        self.num_bytes += segment.nbytes
        while self.num_bytes > self.kept_bytes and len(self.kept) > 1:
            self.num_bytes -= self.kept.popitem(last=False)[1].nbytes
        return segment

    def _decode(self, index: int) -> np.ndarray:
        num_bytes = self.page.databytecounts[index]
        data = os.pread(self.file, num_bytes, self.page.dataoffsets[index])  # forked processes share the file position
        if len(data) < num_bytes:
            raise ValueError("the file ends before it")
        if not data:  # left out by the writer
            return np.zeros((self.rows, self.columns, self.samples), self.page.dtype)
        return self.page.decode(data, index, **self.options)[0][0]


def _copy_shared(target_HWC: np.ndarray, box: Box, segment_TUC: np.ndarray, top: int, left: int) -> None:
    """Copies what a segment at (top, left) of the image shares with a box."""
    first_row, first_column = max(top, box.y), max(left, box.x)
    last_row = min(top + segment_TUC.shape[0], box.y + box.height)
    last_column = min(left + segment_TUC.shape[1], box.x + box.width)
    part = segment_TUC[first_row - top : last_row - top, first_column - left : last_column - left]
    target_HWC[first_row - box.y : last_row - box.y, first_column - box.x : last_column - box.x] = part


def _slices(box: Box) -> tuple[slice, slice]:
    return slice(box.y, box.y + box.height), slice(box.x, box.x + box.width)


def _opened_tiff(path: Path) -> Any:
    tifffile = library("tifffile", "TIFF files")
    logging.getLogger("tifffile").setLevel(logging.CRITICAL)  # the caller reports damage in more detail
    return tifffile.TiffFile(path)
