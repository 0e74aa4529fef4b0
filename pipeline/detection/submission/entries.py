"""The boxes of a file before they are interpreted: numbers and labels as written, and their position in the file.

In: what the reader of a format found. Out: detections, or what is wrong, by line and id.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.config.competition import Competition
from pipeline.detection.boxes import Detections, make_detections
from pipeline.detection.submission.grid import Size, corners_of, units


class Entry(NamedTuple):
    """A box as it is written.

    Attributes:
        name: how messages call it.
        label: of its class; None: the file names no class.
        score: as it is.
        numbers: four coordinates in the order of the layout.
    """

    name: str
    label: str | None
    score: float
    numbers: tuple[float, float, float, float]


class Block(NamedTuple):
    """The boxes that a file has for an image, or a part of them.

    Attributes:
        key: what the file calls the image.
        name: how messages call it.
        entries: the boxes that can be read.
        faults: what is wrong with the others.
    """

    key: str
    name: str
    entries: list[Entry]
    faults: list[str]


def entry_fault(entry: Entry, labels: dict[str, int]) -> str | None:
    """Returns why an entry is no detection; None where it is one.

    Args:
        labels: index of each submitted class by its label.
    """
    if entry.label is not None and entry.label not in labels:
        known = ", ".join(list(labels)[:20]) + (", ..." if len(labels) > 20 else "")  # a line, not a list of 500
        return f"{entry.name}: there is no class {entry.label[:40]!r}; expected one of {known}"
    strange = next((value for value in (entry.score, *entry.numbers) if not math.isfinite(value)), None)
    return None if strange is None else f"{entry.name}: found {strange}; expected finite scores and coordinates"


def labels_of(competition: Competition) -> dict[str, int]:
    """Returns the index of each submitted class by its label in a file."""
    return {competition.label_texts[index]: index for index in competition.submitted_indices}


def detections_of(entries: Sequence[Entry], layout: Sequence[str], size: Size, competition: Competition) -> Detections:
    """Returns the detections of an image; all entries are without fault, see `entry_fault`."""
    labels, only = labels_of(competition), competition.submitted_indices[0]
    classes = [only if entry.label is None else labels[entry.label] for entry in entries]
    return make_detections(corners(entries, layout, size, competition), [entry.score for entry in entries], classes)


def corners(entries: Sequence[Entry], layout: Sequence[str], size: Size, competition: Competition) -> np.ndarray:
    """Returns left, top, right, bottom of each box in pixels, float64 (N, 4)."""
    numbers_N4 = np.array([entry.numbers for entry in entries], np.float64).reshape(-1, 4)
    return corners_of(dict(zip(layout, numbers_N4.T, strict=True)), layout) * units(size, competition)


def find_number(value: object) -> float | None:
    """Returns a JSON value as a number; None where it is none. JSON's NaN and Infinity are numbers here.

    >>> find_number(3), find_number(True), find_number("3")
    (3.0, None, None)
    """
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    try:
        return float(value) if is_number else None
    except OverflowError:  # an integer beyond float64
        return math.inf


def numbers_of(value: object) -> tuple[float, float, float, float] | None:
    """Returns a JSON value as four numbers; None where it is something else."""
    if not isinstance(value, list) or len(value) != 4:
        return None
    numbers = tuple(map(find_number, value))
    return None if None in numbers else numbers


def joined(blocks: Sequence[Block]) -> Iterator[Block]:
    """Yields one block per image, in the order in which images first appear."""
    by_key: dict[str, list[Block]] = {}
    for block in blocks:
        by_key.setdefault(block.key, []).append(block)
    for key, own in by_key.items():
        if len(own) == 1:
            yield own[0]
            continue
        entries, faults = ([item for block in own for item in block[part]] for part in (2, 3))
        yield Block(key, own[0].name, entries, faults)
