"""Mask files of competitions with several classes per pixel (LABELS: multilabel), checked and read as planes.

In: a file of one class ({class} in MASKS, or the only class), a file with a channel per class, or one whose grey values
mean classes (MASK_VALUES). Out: uint8 planes, see `planes.py`.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from pipeline.config.competition import IGNORE, IGNORED, OTHERS, Competition
from pipeline.data.decode import ARRAYS, stored_pixels
from pipeline.data.images import BadFile, Header, Inspection, changed_file, inspect_file
from pipeline.data.problems import Problem, make_problem
from pipeline.errors import UserError
from pipeline.segmentation.inspect_mask import FORMATS, LOSSY, listed
from pipeline.segmentation.labels import INDICES, decode_stored
from pipeline.segmentation.planes import FULL, from_bool

SHARES = "shares"  # MASK_VALUES: stored values say how sure a class is, from 0 to the largest value of the format
BACKGROUND = 0  # a value that is no class unless MASK_VALUES says so


def read_planes(path: Path, competition: Competition, class_index: int | None) -> np.ndarray:
    """Returns the planes of a mask file, uint8 (H, W, C).

    Args:
        class_index: class of the file; None: the file has all classes.

    Raises:
        UserError: the file is absent, or is not what it was when it was checked.
    """
    try:
        stored = _stored(path.read_bytes(), path.suffix, competition)
    except (OSError, ValueError, BadFile, cv2.error):
        stored = None
    faults = (_shape_problem, _strange)
    if (
        stored is None
        or _number_problem(stored, competition)
        or any(fault(stored, competition, class_index) for fault in faults)
    ):
        raise changed_file(path, "a mask as MASKS and MASK_VALUES describe it")
    return planes_of(stored, competition, class_index)


def inspect_planes(
    path: Path, file: str, competition: Competition, class_index: int | None
) -> tuple[Inspection, np.ndarray | None]:
    """Returns what a mask file holds, and its planes, None if it is bad; `file` is its name in messages."""
    is_array = path.suffix.lower() in ARRAYS
    seen, stored = inspect_file(
        path, file, _form_problems, lambda data: _stored(data, path.suffix, competition), is_array=is_array
    )
    if stored is None:
        return seen, None
    problem = _shape_problem(stored, competition, class_index)
    if problem:
        found = make_problem("mask of other channels", file, problem, competition=competition.name)
        return Inspection(seen.width, seen.height, None, (found,)), None
    if found := _number_problem(stored, competition):
        problem = make_problem("mask of other numbers", file, found)
        return Inspection(seen.width, seen.height, None, (problem,)), None
    if strange := _strange(stored, competition, class_index):
        found, values = f"values {listed(strange)}", listed(sorted(_known(competition)), most=20)
        problem = make_problem(
            "mask value not in MASK_VALUES", file, found, values=values, competition=competition.name
        )
        return Inspection(seen.width, seen.height, None, (problem,)), None
    return seen, planes_of(stored, competition, class_index)


def planes_of(stored: np.ndarray, competition: Competition, class_index: int | None) -> np.ndarray:
    """Returns the planes, uint8 (H, W, C), of the pixels that a file stores, (H, W) or (H, W, C).

    >>> from types import SimpleNamespace as Described
    >>> two = Described(mask_values={"cat": (1, 3), "dog": (2, 3)}, classes=("cat", "dog"), num_classes=2)
    >>> planes_of(np.array([[0, 1, 3]]), two, None).tolist()
    [[[0, 0], [240, 0], [240, 240]]]
    """
    num_classes, values = competition.num_classes, competition.mask_values
    if isinstance(values, dict) and class_index is None:
        planes = np.zeros((*stored.shape, num_classes), np.uint8)
        others = ~np.isin(stored, [BACKGROUND, *_known(competition)])
        for name, own in values.items():
            where = others if own == OTHERS else np.isin(stored, own)
            planes[where, slice(None) if name == IGNORED else competition.classes.index(name)] = (
                IGNORE if name == IGNORED else FULL
            )
        return planes
    own = shares_of(stored) if values == SHARES else from_bool(stored != BACKGROUND)
    if own.ndim == 3:
        return own
    planes = np.zeros((*own.shape, num_classes), np.uint8)
    planes[..., class_index or 0] = own
    return planes


def shares_of(stored: np.ndarray) -> np.ndarray:
    """Returns stored values as shares of `FULL`, which stands for the format's largest integer, or 1.0 of floats.

    >>> shares_of(np.array([0, 51, 255], np.uint8)).tolist(), shares_of(np.array([0.5, 1.0])).tolist()
    ([0, 48, 240], [120, 240])
    """
    most = np.iinfo(stored.dtype).max if stored.dtype.kind in "ui" else 1
    return np.rint(np.clip(stored.astype(np.float32) / most, 0, 1) * FULL).astype(np.uint8)


def _stored(data: bytes, suffix: str, competition: Competition) -> np.ndarray | None:
    """Returns what a file stores: palette numbers, grey values, or a channel per class."""
    stored = None if competition.mask_values == SHARES else decode_stored(data, suffix, INDICES)
    try:
        return stored_pixels(data, suffix) if stored is None else stored
    except UserError:  # a library for TIFF is not installed
        return None


def _shape_problem(stored: np.ndarray, competition: Competition, class_index: int | None) -> str | None:
    """Returns what is wrong with the channels of a file, None where nothing is."""
    if class_index is not None or competition.num_classes == 1 or isinstance(competition.mask_values, dict):
        wanted = (2,)
    else:
        wanted = (3,)
    if stored.ndim == 3 and 3 in wanted and stored.shape[2] != competition.num_classes:
        return f"{stored.shape[2]} channels for {competition.num_classes} classes"
    if stored.ndim in wanted:
        return None
    return "one channel" if stored.ndim == 2 else f"the shape {stored.shape}"


def _number_problem(stored: np.ndarray, competition: Competition) -> str | None:
    """Returns what is wrong with the numbers of a file, None where nothing is."""
    kind, span = stored.dtype.kind, f"{stored.dtype} from {stored.min():g} to {stored.max():g}"
    if kind == "f" and not np.isfinite(stored).all():
        return "NaN or infinite pixels"
    if competition.mask_values != SHARES or kind == "b":
        return None
    if kind == "f":
        return None if stored.min() >= 0 and stored.max() <= 1 else span
    return None if kind == "u" and stored.dtype.itemsize <= 2 else span


def _strange(stored: np.ndarray, competition: Competition, class_index: int | None) -> list[int]:
    """Returns the values that MASK_VALUES does not name."""
    values = competition.mask_values
    if not isinstance(values, dict) or class_index is not None or OTHERS in values.values():
        return []
    return np.setdiff1d(stored, [BACKGROUND, *_known(competition)]).tolist()


def _known(competition: Competition) -> set[int]:
    return {value for own in competition.mask_values.values() if own != OTHERS for value in own}


def _form_problems(header: Header, file: str) -> list[Problem]:
    """Returns why a file cannot hold planes."""
    found = f"{header.format}, {header.bits}-bit {header.color}"
    if header.format in LOSSY:
        return [make_problem("lossy mask", file, found)]
    return [] if header.format in FORMATS else [make_problem("mask in another format", file, found)]
