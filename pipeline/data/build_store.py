"""Builds a tile store, see `store.py`: images and labels are decoded, resized and written once.

A large image is resized and written some rows at a time.
"""

from __future__ import annotations

import errno
import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from pipeline.data.image_source import ImageSource
from pipeline.data.images import by_fours, map_files
from pipeline.data.remote_store import Remote, attach, upload
from pipeline.data.store import FORMAT, PIXELS, PLANES, label_bytes
from pipeline.data.tiles import Scale, Size, scaled_size
from pipeline.errors import UserError
from pipeline.files import (
    check_disk,
    check_writable,
    sha256_text,
    sweep_temporaries,
    sync_folder,
    temporary_of,
    write_atomic,
)
from pipeline.paths import INDEX
from pipeline.task import Labels

WITHOUT_LOCKS = (errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP)  # of a network disk; builders then do not wait


def build_store(
    images: ImageSource,
    catalog: pd.DataFrame,
    scales: Sequence[Scale] | None,
    target_root: Path | str,
    labels: Labels,
    log: Callable[[str], None] = print,
    remote: Remote | None = None,
) -> Path:
    """Returns the folder of the store for these images and scales, building it unless it is there already.

    Args:
        images: of the catalog's rows.
        catalog: columns id, image, mask, width, height.
        scales: sizes (width, height) or factors as from `scales_of`; None keeps each image's own size.
        target_root: the folder of all tile stores.
        labels: whose `read` returns uint8, height x width, or height x width x `planes`; of labels that are no pixels
            (`planes` 0) the store keeps what `values` returns.
        log: receives the announcement of the size before anything is written.
        remote: where stores are kept elsewhere. A store that is there is read from there; otherwise it is built here
            and uploaded.

    Raises:
        UserError: the disk cannot hold the store, or an image changed its size since the catalog was written.
    """
    target_root = Path(target_root)
    rows = list(catalog[["id", "image", "mask", "width", "height"]].itertuples(index=False))
    if not rows:
        raise UserError(f"{images.folder} has no training image; run `prepare` for the list of problems.")
    path = target_root / _content_key(images, rows, scales, labels)
    with _one_builder(target_root, log) as is_alone:
        if not (path / INDEX).exists():
            if is_alone:  # whoever wrote temporary files is dead: a live builder would hold the lock
                sweep_temporaries(target_root)
            if remote is None or not attach(path, remote, log):
                _build(path, images, rows, scales, labels, log)
        if remote is not None:
            upload(path, remote, log)
    return path


def resize(image: np.ndarray, label: np.ndarray, scale: Scale) -> tuple[np.ndarray, np.ndarray]:
    """Returns image and label at (width, height): the image averaged to shrink, the label by nearest pixel."""
    if (image.shape[1], image.shape[0]) == scale:
        return image, label
    shrinks = scale[0] * scale[1] < image.shape[0] * image.shape[1]
    # Linear interpolation skips pixels when shrinking, and thin poles flicker; the area mean sees them all.
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return by_fours(image, lambda four: cv2.resize(four, scale, interpolation=how)), _resize_label(label, scale)


def _resize_label(label: np.ndarray, size: Size) -> np.ndarray:
    """Returns a label at (width, height), by nearest pixel."""

    def nearest(part: np.ndarray) -> np.ndarray:
        return cv2.resize(part, size, None, 0, 0, cv2.INTER_NEAREST_EXACT)

    if not label.size:
        return np.empty((size[1], size[0], 0), np.uint8)
    return nearest(label) if label.ndim == 2 else by_fours(label, nearest)


def _content_key(images: ImageSource, rows: list, scales: Sequence[Scale] | None, labels: Labels) -> str:
    hashes = map_files(lambda row: (images.content(row.image), labels.content(row)), rows, "hash")
    content = [FORMAT, _plain_scales(scales), *([labels.planes] if labels.planes is not None else [])]
    content += [(row.id, int(row.width), int(row.height), *pair) for row, pair in zip(rows, hashes, strict=True)]
    return sha256_text(json.dumps(content))[:16]


def _build(path: Path, images: ImageSource, rows: list, scales: Sequence[Scale] | None, labels: Labels, log) -> None:
    own_sizes = [(int(row.width), int(row.height)) for row in rows]
    sizes = [[scaled_size(scale, own) for scale in scales] if scales else [own] for own in own_sizes]
    ends = np.cumsum([sum(width * height for width, height in image_sizes) for image_sizes in sizes]).tolist()
    pixel_bytes = images.channels * images.dtype.itemsize
    num_bytes = ends[-1] * (pixel_bytes + label_bytes(labels.planes))
    named = ", ".join(map(_scale_name, scales)) if scales else "their own size"
    log(
        f"tile store: {len(rows)} images at {named}: {num_bytes:,} bytes "
        f"({num_bytes / len(rows) / 1e6:.2f} MB an image) in {path}"
    )
    check_disk(path, num_bytes, "the tile store")
    temporary = temporary_of(path)
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed process with the same id
        temporary.mkdir()
        jobs = list(zip(rows, sizes, [0, *ends[:-1]], strict=True))
        entries = _write_pixels(temporary, images, jobs, ends[-1], labels)
        index = {
            "format": FORMAT,
            "scales": _plain_scales(scales),
            "num_pixels": ends[-1],
            "channels": images.channels,
            "dtype": images.dtype.name,
            "planes": labels.planes,
            "images": {row.id: image_entries for row, image_entries in zip(rows, entries, strict=True)},
        }
        if any(isinstance(scale, float) for scale in scales or ()):
            index["sizes"] = {row.id: own for row, own in zip(rows, own_sizes, strict=True)}
        if labels.planes == 0:
            index["values"] = {row.id: labels.values(row) for row in rows}
        write_atomic(temporary / INDEX, json.dumps(index))
        sync_folder(temporary)
        os.rename(temporary, path)
        sync_folder(path.parent)
    except OSError as error:
        if (path / INDEX).exists():  # without locks another process may have been faster
            return
        raise UserError(f"cannot write the tile store {path}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _write_pixels(
    temporary: Path, images: ImageSource, jobs: list[tuple], num_pixels: int, labels: Labels
) -> list[list[list[int]]]:
    """Writes both pixel files and returns the rows of `Entry` values of each image."""
    pixel_bytes, plane_bytes = images.channels * images.dtype.itemsize, label_bytes(labels.planes)
    with open(temporary / PIXELS, "wb") as pixels, open(temporary / PLANES, "wb") as planes:
        _claim(pixels.fileno(), num_pixels * pixel_bytes)
        _claim(planes.fileno(), num_pixels * plane_bytes)

        def store_image(job: tuple) -> list[list[int]]:
            row, sizes, offset = job
            is_large, entries = images.is_large(row.height, row.width), []
            if is_large:
                return store_large(row, sizes, offset)
            whole = _read(images, row, labels)
            for width, height in sizes:
                image, label = resize(*whole, (width, height))
                _write_all(pixels.fileno(), image, offset * pixel_bytes)
                _write_all(planes.fileno(), label, offset * plane_bytes)
                entries.append([width, height, offset, zlib.crc32(image), zlib.crc32(label)])
                offset += width * height
            return entries

        def store_large(row, sizes: list[Size], offset: int) -> list[list[int]]:
            """Does the same, some rows at a time."""
            entries = []
            with images.alone(row.image):
                large, label = images.large(row.image), _pixels_of(labels, row)
                _require_size(row, (0, 0) if large is None else large.size, label.shape[:2])
                for width, height in sizes:
                    image_crc = 0
                    for top, rows in large.resized((width, height)):
                        _write_all(pixels.fileno(), rows, (offset + top * width) * pixel_bytes)
                        image_crc = zlib.crc32(rows, image_crc)
                    is_own = (height, width) == label.shape[:2]
                    resized = label if is_own else _resize_label(label, (width, height))
                    _write_all(planes.fileno(), resized, offset * plane_bytes)
                    entries.append([width, height, offset, image_crc, zlib.crc32(resized)])
                    offset += width * height
            return entries

        entries = map_files(store_image, jobs, "tile")
        os.fsync(pixels.fileno())
        os.fsync(planes.fileno())
    return entries


def _read(images: ImageSource, row, labels: Labels) -> tuple[np.ndarray, np.ndarray]:
    image, label = images.read(row.image), _pixels_of(labels, row)
    _require_size(row, image.shape[:2], label.shape[:2])
    return image, label


def _pixels_of(labels: Labels, row) -> np.ndarray:
    """Returns the label of a row as the store keeps it per pixel; of one that has no pixels, nothing of its size."""
    return labels.read(row) if labels.planes != 0 else np.empty((row.height, row.width, 0), np.uint8)


def _require_size(row, image_size: tuple[int, int], label_size: tuple[int, int]) -> None:
    """Refuses sizes (height, width) that are not the catalog's."""
    if not image_size == label_size == (row.height, row.width):
        raise UserError(
            f"{row.image} is {image_size[1]}x{image_size[0]} and {row.mask} {label_size[1]}x{label_size[0]}, "
            f"but the catalog says {row.width}x{row.height}. The files changed: run `prepare` again."
        )


def _plain_scales(scales: Sequence[Scale] | None) -> list | None:
    return scales and [list(scale) if isinstance(scale, tuple) else scale for scale in scales]


def _scale_name(scale: Scale) -> str:
    return f"{scale[0]}x{scale[1]}" if isinstance(scale, tuple) else f"{scale:g} times their own size"


def _claim(file: int, num_bytes: int) -> None:
    """Takes every block before the first byte is written: a full disk is an error here, never a SIGBUS later."""
    if num_bytes == 0:  # of labels that are no pixels
        return
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file, 0, num_bytes)
    else:  # macOS
        os.ftruncate(file, num_bytes)


@contextmanager
def _one_builder(target_root: Path, log: Callable[[str], None]) -> Iterator[bool]:
    """Lets one process at a time build; the kernel frees the lock of a killed one. Gives whether there are locks."""
    check_writable(target_root, "SCRATCH_DIR")
    target_root.mkdir(parents=True, exist_ok=True)
    has_locks = True
    with open(target_root / "lock", "wb") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log(f"another process is building a tile store in {target_root}; waiting for it")
            fcntl.flock(lock, fcntl.LOCK_EX)
        except OSError as error:
            if error.errno not in WITHOUT_LOCKS:
                raise
            has_locks = False
        yield has_locks


def _write_all(file: int, array: np.ndarray, offset: int) -> None:
    if not array.size:
        return
    rest = memoryview(array).cast("B")
    while rest:
        written = os.pwrite(file, rest, offset)
        rest, offset = rest[written:], offset + written
