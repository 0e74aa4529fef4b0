"""Masks: read from files as class indices, checked, counted, and described in the catalog.

In: 8-bit PNG files of class indices, other grey values or colours. Out: uint8 arrays (height, width) of class indices,
`IGNORE` where a pixel is ignored.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from pipeline.config.competition import IGNORE, Competition, MaskCode, mask_code
from pipeline.data.images import STORED_ORIENTATION, Header, Inspection, changed_file, inspect_file
from pipeline.data.problems import Problem, make_problem
from pipeline.errors import UserError

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
    """Returns class indices, uint8 HxW, of decoded mask pixels: uint8, HxW grey or HxWx3 BGR.

    `IGNORE` marks ignored pixels. Where values or colours are given, any other one becomes `UNKNOWN`.

    >>> class_indices(np.array([[0, 255, 7]], np.uint8), MaskCode(values=(0, 255))).tolist()
    [[0, 1, 254]]
    """
    if not code.colors:
        return cv2.LUT(stored, _index_of_value(code))
    mask = np.full(stored.shape[:2], UNKNOWN, np.uint8)
    for index, (red, green, blue) in enumerate(code.colors):
        color = (blue, green, red)
        mask[cv2.inRange(stored, color, color) > 0] = IGNORE if index == code.ignore_index else index
    return mask


def _index_of_value(code: MaskCode) -> np.ndarray:
    """Returns the class index of each grey value, uint8 [256]."""
    table, ignore = np.arange(256, dtype=np.uint8), code.ignore_index
    if code.values:
        table[:] = UNKNOWN
        table[list(code.values)] = np.arange(len(code.values))
    if ignore is not None:
        table[code.values[ignore] if code.values and ignore < len(code.values) else ignore] = IGNORE
    return table


def keep_classes(mask_HW: np.ndarray, classes: Sequence[int]) -> np.ndarray:
    """Returns a mask (uint8, H, W) with pixels of other classes `IGNORE`.

    >>> keep_classes(np.array([[0, 1, 7]], np.uint8), [1]).tolist()
    [[255, 1, 255]]
    """
    kept = np.full(256, IGNORE, np.uint8)
    kept[list(classes)] = classes
    return cv2.LUT(mask_HW, kept)  # ten times as fast as indexing


def digest_classes(mask_HW: np.ndarray, classes: Sequence[int]) -> bytes:
    """Returns a hash of where a mask (uint8, H, W) has which of some classes."""
    return hashlib.sha256(keep_classes(mask_HW, classes).tobytes()).digest()


def require_size(image_id: str, mask_HW: np.ndarray, size: tuple[int, int]) -> None:
    """Refuses a mask that is not of its image's (height, width).

    Raises:
        UserError: with both sizes.
    """
    if mask_HW.shape != tuple(size):
        raise UserError(f"the mask of {image_id} is {mask_HW.shape} (height, width); its image is {tuple(size)}")


def inspect_mask(path: Path, file: str, competition: Competition) -> Inspection:
    """Returns what a mask file holds, by the competition's MASK_VALUES, COLORS and IGNORE_INDEX.

    `counts` is int64 [256], the pixels per class index; at `IGNORE` those that are ignored.
    """
    code = mask_code(competition)
    problems_of = partial(_mask_problems, code=code, competition=competition.name)
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
        counts = np.bincount(_index_of_value(code), stored_counts, minlength=256).astype(np.int64)
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


def class_table(catalog: pd.DataFrame, split: pd.DataFrame, competition: Competition) -> pd.DataFrame:
    """Returns a row per scored class, in index order.

    Columns: index, name, red, green, blue; over all masks the images with a pixel of the class, its pixels, and their
    share of all scored pixels (0..1); train_images and valid_images: those images on each side of the split.
    """
    names = competition.class_names
    pixels = catalog[pixel_columns(competition)[:-1]].set_axis(names, axis="columns")
    present = pixels > 0
    num_pixels = pixels.sum()
    table = pd.DataFrame({"index": range(len(names)), "name": names})
    table[["red", "green", "blue"]] = [list(color) for color in competition.colors[: len(names)]]
    table["images"] = present.sum().to_numpy()
    table["pixels"] = num_pixels.to_numpy()
    table["pixel_share"] = (num_pixels / max(1, num_pixels.sum())).to_numpy()
    for side in ("train", "valid"):
        ids = split["id"][split["subset"] == side]
        table[f"{side}_images"] = present[catalog["id"].isin(ids).to_numpy()].sum().to_numpy()
    return table


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


def count_values(mask: np.ndarray, inside: np.ndarray | None = None) -> np.ndarray:
    """Returns the number of pixels of each value, int64 [256], of a uint8 HxW mask, or where `inside` is not 0.

    Twice as fast as np.bincount, and the interpreter is free meanwhile (0.12 against 0.28 ms on 480x360).

    >>> count_values(np.array([[0, 1], [1, 255]], np.uint8))[[0, 1, 255]].tolist()
    [1, 2, 1]
    """
    rows = max(1, _EXACT_FLOAT // mask.shape[1])
    bands = (slice(top, top + rows) for top in range(0, mask.shape[0], rows))
    counts = (
        cv2.calcHist([mask[band]], [0], None if inside is None else inside[band], [256], [0, 256]) for band in bands
    )
    return sum(count.ravel().astype(np.int64) for count in counts)


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


def _mask_problems(header: Header, file: str, code: MaskCode, competition: str) -> list[Problem]:
    """Returns the first reason why a file cannot hold a mask of this code, judged by its header."""
    is_grey, found = not code.colors, f"{header.bits}-bit {header.color}"
    if header.format != "PNG":
        return [make_problem("mask not a PNG", file, f"{header.format}, {found}")]
    faults = {
        "16-bit mask": header.bits > 8,
        "mask with palette": is_grey and "palette" in header.color,
        "RGB mask": is_grey and header.color.startswith("RGB"),
        "mask with alpha": is_grey and "alpha" in header.color,
        "mask of less than 8 bits": is_grey and not code.values and header.bits < 8,
    }
    kinds = [kind for kind, is_so in faults.items() if is_so]
    return [make_problem(kind, file, found, competition=competition) for kind in kinds[:1]]


def listed(values: Sequence[object], most: int = _MOST_NAMED) -> str:
    """Returns the first values for a message, and how many there are more."""
    return ", ".join(map(str, values[:most])) + (f" and {len(values) - most} more" if len(values) > most else "")
