"""Masks: read from files as class indices, checked, counted, and described in the catalog.

In: 8-bit PNG files of class indices, other grey values or colours. Out: uint8 arrays (height, width) of class indices,
`IGNORE` where a pixel is ignored.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pandas as pd

from pipeline.config.competition import IGNORE, Competition, MaskCode, mask_code
from pipeline.data.images import STORED_ORIENTATION, Header, Inspection, changed_file, inspect_file
from pipeline.data.problems import Problem, make_problem

UNKNOWN = 254  # in a decoded mask: of no class; there are 254 at most, so that their indices end below it
INDICES = MaskCode()
_EXACT_FLOAT = 2**24  # cv2.calcHist counts into float32, which is exact up to here
_MOST_NAMED = 6  # values or colours that a message names


def read_mask(path: Path | str, code: MaskCode = INDICES) -> np.ndarray:
    """Returns a mask, uint8 HxW: class indices, and `IGNORE` for ignored pixels.

    Raises:
        UserError: the file is absent, does not decode, is not of the kind that `code` reads, or has unknown values.
    """
    stored = cv2.imread(str(path), mask_flags(code))
    if stored is None or stored.ndim != (3 if code.colors else 2) or stored.dtype != np.uint8:
        raise changed_file(path, "an 8-bit RGB mask" if code.colors else "an 8-bit single-channel PNG")
    mask = class_indices(stored, code)
    if (code.values or code.colors) and (mask == UNKNOWN).any():
        raise changed_file(path, "the colours of COLORS alone" if code.colors else "values of MASK_VALUES alone")
    return mask


def mask_flags(code: MaskCode) -> int:
    """Returns how OpenCV is to decode a mask file: as it is stored, or palettes and greys as colours too."""
    return (cv2.IMREAD_COLOR if code.colors else cv2.IMREAD_UNCHANGED) | STORED_ORIENTATION


def class_indices(stored: np.ndarray, code: MaskCode) -> np.ndarray:
    """Returns class indices, uint8 HxW, of decoded mask pixels: uint8, HxW grey or HxWx3 BGR; may be `stored` itself.

    `IGNORE` marks ignored pixels. Where values or colours are given, any other one becomes `UNKNOWN`.

    >>> class_indices(np.array([[0, 255, 7]], np.uint8), MaskCode(values=(0, 255))).tolist()
    [[0, 1, 254]]
    """
    ignore = code.ignore_index
    if code.colors:
        mask = np.full(stored.shape[:2], UNKNOWN, np.uint8)
        for index, (red, green, blue) in enumerate(code.colors):
            color = (blue, green, red)
            mask[cv2.inRange(stored, color, color) > 0] = IGNORE if index == ignore else index
        return mask
    if code.values:
        table = np.full(256, UNKNOWN, np.uint8)
        table[list(code.values)] = np.arange(len(code.values))
        if ignore is not None:
            table[code.values[ignore] if ignore < len(code.values) else ignore] = IGNORE
        return cv2.LUT(stored, table)
    if ignore is not None and ignore != IGNORE:
        stored[stored == ignore] = IGNORE
    return stored


def inspect_mask(path: Path, file: str, competition: Competition) -> Inspection:
    """Returns what a mask file holds, by the competition's MASK_VALUES, COLORS and IGNORE_INDEX.

    `counts` is int64 [256], the pixels per class index; at `IGNORE` those that are ignored.
    """
    code = mask_code(competition)
    kind = "colors" if code.colors else "values" if code.values else "indices"

    def problems_of(header: Header, file: str) -> list[Problem]:
        return _mask_problems(header, file, kind, competition.name)

    seen, stored = inspect_file(path, file, problems_of, mask_flags(code))
    if stored is None:
        return seen
    if code.colors:
        counts = count_values(class_indices(stored, code))
        problem = _unknown_colors(stored, counts, competition, file) if counts[UNKNOWN] else None
    else:
        values = code.values or tuple(range(len(competition.classes)))
        stored_counts = count_values(stored)
        problem = _unknown_values(stored_counts, values, competition, file)
        counts = _by_class(stored_counts, values, code.ignore_index)
    return Inspection(seen.width, seen.height, counts, (problem,) if problem else ())


def pixel_columns(competition: Competition) -> list[str]:
    """Returns the catalog's columns of a mask: the pixels of each class, and the ignored ones."""
    return [*(f"pixels_{index}" for index in range(competition.num_classes)), "pixels_ignored"]


def pixel_counts(competition: Competition, inspection: Inspection) -> list[int]:
    """Returns the values of `pixel_columns`."""
    counts = np.zeros(256, np.int64) if inspection.counts is None else inspection.counts
    return [*(int(counts[index]) for index in range(competition.num_classes)), int(counts[IGNORE])]


def class_presence(catalog: pd.DataFrame) -> np.ndarray:
    """Returns which classes each image shows: bool, images x classes."""
    return (catalog.filter(regex=r"^pixels_\d+$") > 0).to_numpy()


def float32_bytes(competition: Competition, sizes: Iterable[tuple[int, int]]) -> int:
    """Returns what the probabilities of images of these sizes (height, width) take as float32."""
    return 4 * competition.num_classes * sum(height * width for height, width in sizes)


def mask_notices(competition: Competition, catalog: pd.DataFrame) -> list[str]:
    """Returns what is unusual but no mistake: classes without a pixel, masks of ignored pixels only."""
    pixels, notices = catalog[pixel_columns(competition)[:-1]], []
    unseen = [name for name, count in zip(competition.class_names, pixels.sum(), strict=True) if count == 0]
    if unseen:
        notices.append(f"no mask contains {', '.join(unseen)}: the network cannot learn it")
    blank = catalog["id"][pixels.sum(axis=1) == 0]
    if len(blank):
        notices.append(f"{len(blank):,} masks hold only ignored pixels (first: {blank.iloc[0]})")
    return notices


def count_values(mask: np.ndarray) -> np.ndarray:
    """Returns the number of pixels of each value, int64 [256], of a uint8 HxW mask.

    Twice as fast as np.bincount, and the interpreter is free meanwhile (0.12 against 0.28 ms on 480x360).

    >>> count_values(np.array([[0, 1], [1, 255]], np.uint8))[[0, 1, 255]].tolist()
    [1, 2, 1]
    """
    rows = max(1, _EXACT_FLOAT // mask.shape[1])
    bands = (mask[top : top + rows] for top in range(0, mask.shape[0], rows))
    return sum(cv2.calcHist([band], [0], None, [256], [0, 256]).ravel().astype(np.int64) for band in bands)


def _by_class(stored_counts: np.ndarray, values: tuple[int, ...], ignore: int | None) -> np.ndarray:
    """Returns the pixels per class index, from those per stored value."""
    counts = np.zeros(256, np.int64)
    counts[: len(values)] = stored_counts[list(values)]
    if ignore is not None and ignore < len(values):
        counts[IGNORE], counts[ignore] = counts[ignore], 0
    elif ignore is not None:
        counts[IGNORE] = stored_counts[ignore]
    return counts


def _unknown_values(
    stored_counts: np.ndarray, values: tuple[int, ...], competition: Competition, file: str
) -> Problem | None:
    ignore = competition.ignore_index
    outside = {ignore} if ignore is not None and ignore >= len(values) else set()
    strange = [int(value) for value in np.flatnonzero(stored_counts) if int(value) not in {*values, *outside}]
    if not strange:
        return None
    found = f"value{'s' * (len(strange) > 1)} {listed(strange)} in {int(stored_counts[strange].sum()):,} pixels"
    if len(values) == 2 and not competition.mask_values and strange == [255] and not stored_counts[1]:
        return make_problem("mask of 0 and 255", file, found, competition=competition.name)
    given = f"0 to {len(values) - 1}" if not competition.mask_values else listed(values, most=len(values))
    wanted = given + "".join(f" and {value}" for value in outside)
    kind = "mask value not in MASK_VALUES" if competition.mask_values else "mask value out of range"
    return make_problem(kind, file, found, values=wanted, competition=competition.name)


def _unknown_colors(stored: np.ndarray, counts: np.ndarray, competition: Competition, file: str) -> Problem:
    unknown = stored[class_indices(stored, mask_code(competition)) == UNKNOWN]
    colors, pixels = np.unique(unknown[:, ::-1], axis=0, return_counts=True)  # RGB
    commonest = [colors[index].tolist() for index in np.argsort(-pixels, kind="stable")]
    found = f"colour{'s' * (len(commonest) > 1)} {listed(commonest)} in {int(counts[UNKNOWN]):,} pixels"
    return make_problem("mask colour not in COLORS", file, found, competition=competition.name)


def _mask_problems(
    header: Header, file: str, kind: Literal["indices", "values", "colors"], competition: str
) -> list[Problem]:
    """Returns why a file cannot hold a mask that stores class indices, other grey values, or colours."""
    found = f"{header.bits}-bit {header.color}"
    if header.format != "PNG":
        return [make_problem("mask not a PNG", file, f"{header.format}, {found}")]
    if header.bits > 8:
        return [make_problem("16-bit mask", file, found)]
    if kind == "colors":
        return []
    if "palette" in header.color:
        return [make_problem("mask with palette", file, found, competition=competition)]
    if header.color.startswith("RGB"):
        return [make_problem("RGB mask", file, found, competition=competition)]
    if "alpha" in header.color:
        return [make_problem("mask with alpha", file, found)]
    if header.bits < 8 and kind == "indices":
        return [make_problem("mask of less than 8 bits", file, found, competition=competition)]
    return []


def listed(values: Sequence[object], most: int = _MOST_NAMED) -> str:
    """Returns the first values for a message, and how many there are more."""
    return ", ".join(map(str, values[:most])) + (f" and {len(values) - most} more" if len(values) > most else "")
