"""The strict check of one file: read once, parsed, decoded whole.

In: paths. Out: the size, and everything that is wrong. `catalog.py` runs this over all files; what a label file holds
is the task's, see `Task.inspect_label`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.data.image_header import MAX_PX, READ_FORMATS, BadFile, Header, read_header
from pipeline.data.images import STORED_ORIENTATION
from pipeline.data.problems import Problem, make_problem



@dataclass(frozen=True)
class Inspection:
    """What a file holds: size (0: unknown), its problems, and `counts`, whatever the task counts in a good label."""

    width: int
    height: int
    counts: Any
    problems: tuple[Problem, ...]


def inspect_image(path: Path, file: str) -> Inspection:
    """Returns what an image file holds; `file` is how messages call it."""
    return inspect_file(path, file, _image_problems, cv2.IMREAD_COLOR)[0]


def inspect_file(
    path: Path, file: str, problems_of: Callable[[Header, str], list[Problem]], flags: int
) -> tuple[Inspection, np.ndarray | None]:
    """Returns what a file holds, and its pixels as OpenCV decodes them where nothing is wrong so far."""
    try:
        data = path.read_bytes()
        header = read_header(data)
    except OSError as error:
        return _bad(make_problem("file unreadable", file, error.strerror or str(error)))
    except BadFile as error:
        return _bad(make_problem(error.kind, file, error.found, most=f"{MAX_PX:,}"))
    size_problems = _size_problems(header, file)
    if size_problems:
        return _bad(*size_problems)
    problems = _common_problems(header, file) + problems_of(header, file)
    if problems:
        return _bad(*problems, width=header.width, height=header.height)
    pixels = _decode(data, flags)
    if pixels is None or pixels.shape[:2] != (header.height, header.width):
        return _bad(make_problem("file damaged", file, f"{header.format}, its pixels do not decode"))
    return Inspection(header.width, header.height, None, ()), pixels


def _bad(*problems: Problem, width: int = 0, height: int = 0) -> tuple[Inspection, None]:
    return Inspection(width, height, None, problems), None


def _decode(data: bytes, flags: int) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.frombuffer(data, np.uint8), flags | STORED_ORIENTATION)
    except cv2.error:
        return None


def _size_problems(header: Header, file: str) -> list[Problem]:
    size = f"{header.width}x{header.height}"
    if header.width == 0 or header.height == 0:
        return [make_problem("image of no size", file, size)]
    if header.width * header.height > MAX_PX:
        return [make_problem("image too large", file, size, most=f"{MAX_PX:,}")]
    return []


def _common_problems(header: Header, file: str) -> list[Problem]:
    problems = []
    if header.num_frames > 1:
        problems.append(
            make_problem("several images in a file", file, f"{header.format}, {header.num_frames} frames")
        )
    if header.orientation != 1:
        problems.append(make_problem("EXIF rotation", file, f"orientation {header.orientation}"))
    return problems


def _image_problems(header: Header, file: str) -> list[Problem]:
    found = f"{header.bits}-bit {header.color}"
    if header.num_frames == 1 and header.format not in READ_FORMATS:
        return [make_problem("file format", file, header.format)]
    if "palette" in header.color:
        return [make_problem("palette image", file, found)]
    if "alpha" in header.color:
        return [make_problem("image with alpha", file, found)]
    if header.bits > 8:
        return [make_problem("16-bit image", file, found)]
    if header.color in ("greyscale", "CMYK"):
        return [make_problem(f"{header.color} image", file, found)]
    if header.color != "RGB":
        return [make_problem("image in another colour space", file, header.color)]
    return []


def compare_sizes(image: Inspection, label: Inspection, file: str) -> list[Problem]:
    """Returns the problem of a label (called `file`) that does not lie on its image; sizes that are unknown pass."""
    size, label_size = (image.width, image.height), (label.width, label.height)
    if size == label_size or 0 in size + label_size:
        return []
    kind = "size turned by 90 degrees" if size == label_size[::-1] else "size mismatch"
    return [make_problem(kind, file, f"{label.width}x{label.height}, its image {image.width}x{image.height}")]
