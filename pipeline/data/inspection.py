"""The strict look at one picture and its mask: every file is read once, parsed, decoded whole, and its values counted.

In: paths. Out: size and value counts, and everything that is wrong. `catalog.py` runs this over all files.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np

from pipeline.data.image_header import MAX_PX, READ_FORMATS, BadFile, Header, read_header
from pipeline.data.pictures import STORED_ORIENTATION
from pipeline.data.problems import Problem, make_problem

_EXACT_FLOAT = 2**24  # cv2.calcHist counts into float32, which is exact up to here


@dataclass(frozen=True)
class Inspection:
    """What a file holds: size (0: unknown), pixels per value 0..255 if it is a good mask, and its problems."""

    width: int
    height: int
    counts: np.ndarray | None
    problems: tuple[Problem, ...]


def inspect_picture(path: Path, file: str) -> Inspection:
    """Returns what a picture file holds; `file` is how messages call it."""
    return _inspect(path, file, _picture_problems, cv2.IMREAD_COLOR)


def inspect_mask(path: Path, file: str, num_classes: int, ignore_index: int | None, competition: str) -> Inspection:
    """Returns what a mask file holds; values may be 0..num_classes-1 and `ignore_index`."""
    seen = _inspect(path, file, _mask_problems, cv2.IMREAD_UNCHANGED)
    if seen.counts is None:
        return seen
    allowed = set(range(num_classes)) | ({ignore_index} if ignore_index is not None else set())
    strange = [int(value) for value in np.flatnonzero(seen.counts) if int(value) not in allowed]
    if not strange:
        return seen
    listed = ", ".join(map(str, strange[:6])) + (f" and {len(strange) - 6} more" if len(strange) > 6 else "")
    num_strange = int(seen.counts[strange].sum())
    found = f"value{'s' * (len(strange) > 1)} {listed} in {num_strange:,} pixels"
    values = f"0 to {num_classes - 1}" + (f" and {ignore_index}" if (ignore_index or 0) >= num_classes else "")
    problem = make_problem("mask value out of range", file, found, values=values, competition=competition)
    return Inspection(seen.width, seen.height, seen.counts, (problem,))


def compare_sizes(picture: Inspection, mask: Inspection, file: str) -> list[Problem]:
    """Returns the problem of a mask (called `file`) that does not lie on its picture; sizes that are unknown pass."""
    size, mask_size = (picture.width, picture.height), (mask.width, mask.height)
    if size == mask_size or 0 in size + mask_size:
        return []
    kind = "size turned by 90 degrees" if size == mask_size[::-1] else "size mismatch"
    return [make_problem(kind, file, f"{mask.width}x{mask.height}, its picture {picture.width}x{picture.height}")]


def count_values(mask: np.ndarray) -> np.ndarray:
    """Returns the number of pixels of each value, int64 [256], of a uint8 HxW mask.

    Twice as fast as np.bincount, and the interpreter is free meanwhile (0.12 against 0.28 ms on 480x360).

    >>> count_values(np.array([[0, 1], [1, 255]], np.uint8))[[0, 1, 255]].tolist()
    [1, 2, 1]
    """
    rows = max(1, _EXACT_FLOAT // mask.shape[1])
    bands = (mask[top : top + rows] for top in range(0, mask.shape[0], rows))
    return sum(cv2.calcHist([band], [0], None, [256], [0, 256]).ravel().astype(np.int64) for band in bands)


def _inspect(path: Path, file: str, problems_of, flags: int) -> Inspection:
    try:
        data = path.read_bytes()
        header = read_header(data)
    except OSError as error:
        return Inspection(0, 0, None, (make_problem("file unreadable", file, error.strerror or str(error)),))
    except BadFile as error:
        return Inspection(0, 0, None, (make_problem(error.kind, file, error.found, most=f"{MAX_PX:,}"),))
    size_problems = _size_problems(header, file)
    if size_problems:
        return Inspection(0, 0, None, tuple(size_problems))
    problems = _common_problems(header, file) + problems_of(header, file)
    if problems:
        return Inspection(header.width, header.height, None, tuple(problems))
    pixels = _decode(data, flags)
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        problem = make_problem("file damaged", file, f"{header.format}, its pixels do not decode")
        return Inspection(0, 0, None, (problem,))
    counts = count_values(pixels) if pixels.ndim == 2 else None
    return Inspection(header.width, header.height, counts, ())


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags | STORED_ORIENTATION)
    except cv2.error:
        return None


def _size_problems(header: Header, file: str) -> list[Problem]:
    size = f"{header.width}x{header.height}"
    if header.width == 0 or header.height == 0:
        return [make_problem("picture of no size", file, size)]
    if header.width * header.height > MAX_PX:
        return [make_problem("picture too large", file, size, most=f"{MAX_PX:,}")]
    return []


def _common_problems(header: Header, file: str) -> list[Problem]:
    problems = []
    if header.num_frames > 1:
        problems.append(
            make_problem("several pictures in a file", file, f"{header.format}, {header.num_frames} frames")
        )
    if header.orientation != 1:
        problems.append(make_problem("EXIF rotation", file, f"orientation {header.orientation}"))
    return problems


def _picture_problems(header: Header, file: str) -> list[Problem]:
    found = f"{header.bits}-bit {header.color}"
    if header.num_frames == 1 and header.format not in READ_FORMATS:
        return [make_problem("file format", file, header.format)]
    if "palette" in header.color:
        return [make_problem("palette picture", file, found)]
    if "alpha" in header.color:
        return [make_problem("picture with alpha", file, found)]
    if header.bits > 8:
        return [make_problem("16-bit picture", file, found)]
    if header.color in ("greyscale", "CMYK"):
        return [make_problem(f"{header.color} picture", file, found)]
    if header.color != "RGB":
        return [make_problem("picture in another colour space", file, header.color)]
    return []


def _mask_problems(header: Header, file: str) -> list[Problem]:
    found = f"{header.bits}-bit {header.color}"
    if header.format != "PNG":
        return [make_problem("mask not a PNG", file, f"{header.format}, {found}")]
    if "palette" in header.color:
        return [make_problem("mask with palette", file, found)]
    if "alpha" in header.color:
        return [make_problem("mask with alpha", file, found)]
    if header.color == "RGB":
        return [make_problem("RGB mask", file, found)]
    if header.bits > 8:
        return [make_problem("16-bit mask", file, found)]
    if header.bits < 8:
        return [make_problem("mask of less than 8 bits", file, found)]
    return []
