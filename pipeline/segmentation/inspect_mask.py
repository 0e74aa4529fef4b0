"""The check of one mask file: that its pixels are classes of the competition, and what is wrong where they are not."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from pipeline.config.competition import Competition
from pipeline.config.mask_code import MaskCode
from pipeline.data.decode import ARRAYS
from pipeline.data.images import BadFile, Header, Inspection, inspect_file
from pipeline.data.problems import Problem, make_problem
from pipeline.segmentation.labels import (
    ONE_CLASS,
    UNKNOWN,
    class_indices,
    decode_stored,
    fraction_of,
    has_palette,
    has_unknown,
    unknown_values,
)

FORMATS = ("PNG", "GIF", "TIFF", "BMP", "WEBP")
LOSSY = ("JPEG", "MPO", "JPEG2000")
_MOST_NAMED = 6  # values or colours that a message names


def inspect_mask(
    path: Path, file: str, competition: Competition, code: MaskCode, is_of_class: bool = False
) -> tuple[Inspection, np.ndarray | None]:
    """Returns what a mask file holds, and its class indices where nothing is wrong with it.

    Args:
        file: how messages call it.
        is_of_class: whether it is of one class, whose pixels have any value, and 0 elsewhere.
    """
    if is_of_class:
        code = ONE_CLASS
    kind = "colors" if code.colors else "values" if competition.mask_values or is_of_class else "indices"

    def problems_of(header: Header, file: str) -> list[Problem]:
        return _form_problems(header, file, kind, competition.name)

    def decode(data: bytes) -> np.ndarray | None:
        stored = decode_stored(data, path.suffix, code)
        if stored is None and (found := fraction_of(data, path.suffix, code)):
            raise BadFile("mask with fractions", found)
        return stored

    seen, stored = inspect_file(path, file, problems_of, decode, is_array=path.suffix.lower() in ARRAYS)
    if stored is None:
        return seen, None
    mask = class_indices(stored, code)
    if not has_unknown(mask):
        return seen, mask
    if code.colors:
        problem = _unknown_colors(stored, mask, competition, file)
    else:
        problem = _unknown_values(stored, code, competition, file, has_palette(path.read_bytes()))
    return Inspection(seen.width, seen.height, None, (problem,)), None


def _unknown_values(
    stored: np.ndarray, code: MaskCode, competition: Competition, file: str, is_palette: bool
) -> Problem:
    strange, num_pixels = unknown_values(stored, code)
    found = f"value{'s' * (len(strange) > 1)} {listed(strange)} in {num_pixels:,} pixels"
    has_own = competition.mask_values is not None
    top = int(stored.max())
    if (
        len(competition.classes) == 2
        and not has_own
        and strange == [top]
        and top in (255, 65535)
        and not (stored == 1).any()
    ):
        return make_problem("mask of 0 and 255", file, found, top=top, competition=competition.name)
    known = sorted(code.values)
    is_run = known == list(range(len(known)))
    wanted = f"{known[0]} to {known[-1]}" if is_run else listed(known, most=20)
    kind = "mask value not in MASK_VALUES" if has_own else "mask value out of range"
    if is_palette:
        kind = "mask with palette"
    return make_problem(kind, file, found, values=wanted, competition=competition.name)


def _unknown_colors(stored: np.ndarray, mask: np.ndarray, competition: Competition, file: str) -> Problem:
    unknown = stored[mask == UNKNOWN]
    colors, pixels = np.unique(unknown[:, ::-1], axis=0, return_counts=True)  # RGB
    commonest = [colors[index].tolist() for index in np.argsort(-pixels, kind="stable")]
    found = f"colour{'s' * (len(commonest) > 1)} {listed(commonest)} in {len(unknown):,} pixels"
    return make_problem("mask colour not in COLORS", file, found, competition=competition.name)


def _form_problems(header: Header, file: str, kind: str, competition: str) -> list[Problem]:
    """Returns why a file cannot hold a mask that stores class indices, other grey values, or colours (`kind`)."""
    found = f"{header.bits}-bit {header.color}"
    if header.format in LOSSY:
        return [make_problem("lossy mask", file, f"{header.format}, {found}")]
    if header.format not in FORMATS:
        return [make_problem("mask in another format", file, f"{header.format}, {found}")]
    if kind == "colors" or "palette" in header.color:
        return []
    if header.color.startswith("RGB"):
        return [make_problem("RGB mask", file, found, competition=competition)]
    if "alpha" in header.color:
        return [make_problem("mask with alpha", file, found)]
    if 1 < header.bits < 8 and kind == "indices":
        return [make_problem("mask of less than 8 bits", file, found, competition=competition)]
    return []


def listed(values: Sequence[object], most: int = _MOST_NAMED) -> str:
    """Returns the first values for a message, and how many there are more."""
    return ", ".join(map(str, values[:most])) + (f" and {len(values) - most} more" if len(values) > most else "")
