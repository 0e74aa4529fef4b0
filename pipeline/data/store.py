"""The tile store: every image and its label plane, decoded and resized once, in two flat files mapped into memory.

A folder `<key>/` holds `images.bin` (rows of pixels, in the number format of the images), `labels.u8` (one byte per
pixel, or one per plane of it) and `index.json` (the offset of each image at each scale, and labels that are no pixels).
A tile is then a slice; nothing is decoded or held in memory. The key names the content, so experiments with the same
scales share one store and a changed image gets a new one. A store that lies elsewhere is fetched as it is read, see
`remote_store.py`.

When a process reads an image for the first time, its bytes are compared with the checksum of what was written: a page
that the disk lost is not trained on. Not compared are images of more than MOST_MAPPED_PX, which would be read whole for
one tile, and files whose parts come from elsewhere and are compared as they come.

Kept: uint8 at every scale, 5.3 MB an image for T1. Measured against it in `tests/benchmarks/bench_tiles.py` and
rejected: tiles cut into PNG or JPEG files, decoding anew for each tile, and holding the set in memory.
"""

from __future__ import annotations

import gc
import json
import mmap
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.cached_file import CachedFile
from pipeline.data.remote_store import cached
from pipeline.data.tiles import Scale, Size
from pipeline.errors import UserError
from pipeline.paths import INDEX

FORMAT = 3  # raise it when the layout or the resizing changes: old stores are then built anew
PIXELS, PLANES = "images.bin", "labels.u8"
MOST_MAPPED_PX = 2**24  # of a larger image, what was read before is unmapped, or reading its tiles fills the memory


@dataclass(frozen=True)
class Entry:
    """One image at one scale: its size, its first pixel in both files, and checksums of its bytes."""

    width: int
    height: int
    offset: int
    image_crc: int
    label_crc: int

    @property
    def num_pixels(self) -> int:
        return self.width * self.height


class Store:
    """A finished tile store, mapped read-only; opened anew, not copied, when it travels to another process."""

    def __init__(self, path: Path, index: dict):
        self.path = path
        scales = [tuple(scale) if isinstance(scale, list) else scale for scale in index["scales"] or ()]
        self.scales: tuple[Scale, ...] | None = tuple(scales) or None
        self._sizes = {key: tuple(size) for key, size in index.get("sizes", {}).items()}
        self._rows = index["images"]  # an `Entry` is made when it is asked for: of a million images that is a second
        self.channels, self.dtype, self.planes = int(index["channels"]), np.dtype(index["dtype"]), index.get("planes")
        num_labels = index["num_pixels"] * label_bytes(self.planes)
        mapped = {
            PIXELS: _map_file(path / PIXELS, index["num_pixels"] * self.channels, self.dtype),
            PLANES: _map_file(path / PLANES, num_labels, np.dtype(np.uint8)),
        }
        files = cached(path, mapped)
        self._images, self._labels = files[PIXELS], files[PLANES]
        self._values = index.get("values", {})
        self._compared: dict[str, set[int]] = {PIXELS: set(), PLANES: set()}  # offsets of images, in this process

    def __reduce__(self):
        return open_store, (self.path,)

    @property
    def is_remote(self) -> bool:
        """Whether a part of it may have to be fetched from elsewhere."""
        return isinstance(self._images, CachedFile)

    def entry(self, image_id: str, scale: Scale | None = None) -> Entry:
        """Returns the entry of an image; `scale` None is its own size, in a store built without scales.

        Raises:
            KeyError: the store has no such image or scale.
        """
        if scale is None and self.scales is None:
            return Entry(*self._rows[image_id][0])
        if self.scales is None or scale not in self.scales:
            raise KeyError(f"the store {self.path} has the scales {self.scales or 'native'}, not {scale or 'native'}")
        return Entry(*self._rows[image_id][self.scales.index(scale)])

    def offset(self, image_id: str) -> int:
        """Returns where the pixels of an image begin, at any scale: they lie together."""
        return self._rows[image_id][0][2]

    def size(self, image_id: str) -> Size | None:
        """Returns (width, height) of an image before it was scaled; None in a store without factors."""
        return self._sizes.get(image_id)

    def image(self, image_id: str, scale: Scale | None = None) -> np.ndarray:
        """Returns a read-only view, height x width x channels, in the number format of the store.

        Raises:
            UserError: it is damaged, or the store lies elsewhere and cannot be reached.
        """
        entry = self.entry(image_id, scale)
        _forget_mapped(self._images, entry)
        first, last = entry.offset * self.channels, (entry.offset + entry.num_pixels) * self.channels
        pixels = self._images[first:last]
        if entry.offset not in self._compared[PIXELS]:
            self._compare(PIXELS, pixels, entry, entry.image_crc, image_id)
        return pixels.reshape(entry.height, entry.width, self.channels)

    def label(self, image_id: str, scale: Scale | None = None) -> np.ndarray:
        """Returns a read-only view of the label: uint8, height x width, and x planes where labels have planes.

        Raises:
            UserError: as for `image`.
        """
        entry = self.entry(image_id, scale)
        num_planes = label_bytes(self.planes)
        _forget_mapped(self._labels, entry)
        label = self._labels[entry.offset * num_planes : (entry.offset + entry.num_pixels) * num_planes]
        if entry.offset not in self._compared[PLANES]:
            self._compare(PLANES, label, entry, entry.label_crc, image_id)
        return label.reshape(label_shape((entry.height, entry.width), self.planes))

    def values(self, image_id: str) -> Any:
        """Returns what the store keeps of an image's label as plain values; None where labels are pixels."""
        return self._values.get(image_id)

    def _compare(self, name: str, values: np.ndarray, entry: Entry, crc: int, image_id: str) -> None:
        """Refuses values of an image that are not those that were written; remembers those that are."""
        if not self.is_remote and entry.num_pixels <= MOST_MAPPED_PX and zlib.crc32(values) != crc:
            raise UserError(
                f"{self.path / name} is damaged: its bytes of image {image_id} are not those that were written.\n"
                f"Remove the folder {self.path} and run `tile` again."
            )
        self._compared[name].add(entry.offset)


def label_bytes(planes: int | None) -> int:
    """Returns the bytes that a pixel's label takes: one without planes, none with 0 of them."""
    return 1 if planes is None else planes


def label_shape(size: tuple[int, int], planes: int | None) -> tuple[int, ...]:
    """Returns the shape of a label of (height, width); without planes it has one value per pixel.

    >>> label_shape((2, 3), None), label_shape((2, 3), 4)
    ((2, 3), (2, 3, 4))
    """
    return size if planes is None else (*size, planes)


def open_store(path: Path | str) -> Store:
    """Returns the store in folder `path`.

    Raises:
        UserError: no store, one of another format, or files that are too short; names what to remove.
    """
    path = Path(path)
    try:
        index = _read_index(path / INDEX)
        if index["format"] != FORMAT:
            raise ValueError(f"its format is {index['format']}, expected {FORMAT}")
        return Store(path, index)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{path} is not a usable tile store: {error}.\nRemove that folder and run `tile` again."
        ) from error


def _read_index(path: Path) -> dict:
    """Returns the content of an index; of a million images in four seconds, not in fifteen."""
    was_enabled = gc.isenabled()
    gc.disable()  # else the collector goes through all lists again and again while they are made
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    finally:
        if was_enabled:
            gc.enable()


def _map_file(path: Path, num_values: int, dtype: np.dtype) -> np.ndarray:
    found, expected = path.stat().st_size, num_values * dtype.itemsize
    if found != expected:
        raise ValueError(f"{path.name} has {found} bytes, expected {expected}")
    if num_values == 0:
        return np.empty(0, dtype)  # an empty file cannot be mapped
    return np.asarray(np.memmap(path, dtype, "r"))  # a plain array, whose slices cost less


def _forget_mapped(mapped: np.ndarray | CachedFile, entry: Entry) -> None:
    """Unmaps what was read of a file before tiles of a large image are; the kernel may keep it as long as it likes."""
    if entry.num_pixels > MOST_MAPPED_PX and mapped.base is not None and hasattr(mmap, "MADV_DONTNEED"):
        mapped.base._mmap.madvise(mmap.MADV_DONTNEED)
