"""The check of a file of boxes, by line and id: its form, its images, its boxes, the competition's sample.

Errors prove that a file is wrong: it cannot be read, an image is unknown, missing or duplicate, a class is unknown, a
number is not finite, a score is outside 0 to 1, right is not greater than left. Warnings are for what competitions
accept although it is rarely intended: boxes that reach beyond their image, more than `MOST_BOXES` boxes in an image,
duplicate boxes, the same score for all boxes, another order than the sample's.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.config.box_convention import LAYOUTS
from pipeline.config.competition import Competition
from pipeline.data.problems import Problem, make_problem
from pipeline.detection.submission.entries import Block, Entry, corners, entry_fault, labels_of
from pipeline.detection.submission.grid import Size, corners_of, units
from pipeline.detection.submission.kinds import KINDS, MOST_OUTSIDE_PX, keys_of
from pipeline.errors import UserError
from pipeline.submission.file import WARNING, Sizes
from pipeline.wording import alike_names, similar_name

MOST_BOXES = 100  # per image; most scores of boxes count no more
_MAX_SUGGESTIONS = 20  # finding a similar id is slow; a file with more unknown ids has one common cause


class Image(NamedTuple):
    """The boxes of an image that can be read, and its (height, width)."""

    block: Block
    entries: list[Entry]
    size: Size


def check(path: Path, competition: Competition, sizes: Sizes, sample_path: Path | None, kind: str) -> list[str]:
    """Returns what is wrong with a file of boxes, see `Format`."""
    form = KINDS[kind]
    try:
        blocks = list(form.parse(path, competition))
        problems = form.file_faults(path, competition)
        expected = keys_of(sizes, competition, kind)
    except UserError as error:
        return [str(error)]
    matched, unmatched = _match(blocks, expected)
    problems += unmatched
    if form.lists_all(competition):
        problems += _missing(matched, expected)
    if sample_path is not None:
        problems += _sample_problems(sample_path, list(matched), expected, competition, kind)
    labels, images = labels_of(competition), []
    for block in blocks:
        found = [(entry, entry_fault(entry, labels)) for entry in block.entries]
        problems += [*block.faults, *(fault for _, fault in found if fault is not None)]
        if block.key in expected:
            size = sizes[expected[block.key]]
            images.append(Image(block, [entry for entry, fault in found if fault is None], size))
    return problems + _check_boxes(images, competition, form.layout(competition))


def check_sample(competition: Competition, path: Path, test_ids: set[str], kind: str) -> list[Problem]:
    """Returns what is wrong with the sample submission: its form, and unknown, double or missing images."""
    file, form, labels = path.name, KINDS[kind], labels_of(competition)
    facts = {"competition": competition.name}
    try:
        blocks = list(form.parse(path, competition))
        expected = keys_of(sorted(test_ids), competition, kind)
    except UserError as error:
        return [make_problem("sample of another form", file, str(error), **facts)]
    faults = [fault for block in blocks for fault in block.faults]
    faults += [fault for block in blocks for entry in block.entries if (fault := entry_fault(entry, labels))]
    problems = [make_problem("sample of another form", file, fault, **facts) for fault in faults]
    if not test_ids or not blocks:
        return problems
    name_of: dict[str, str] = {}
    unknown: list[Block] = []
    for block in blocks:
        if block.key and block.key not in expected:
            unknown.append(block)
        elif block.key in name_of:
            problems.append(make_problem("sample row twice", file, f"{block.name}, first {name_of[block.key]}"))
        name_of.setdefault(block.key, block.name)
    hints = alike_names([block.key for block in unknown], expected)
    problems += [make_problem("sample row unknown", file, block.name + hints[block.key]) for block in unknown]
    absent = [image_id for key, image_id in expected.items() if key not in name_of]
    if form.lists_all(competition):
        problems += [make_problem("sample row missing", file, f"{image_id}: no row") for image_id in absent]
    return problems


def _match(blocks: Sequence[Block], expected: Mapping[str, str]) -> tuple[dict[str, Block], list[str]]:
    """Returns the first block of each test image, and what is wrong with the ids of all others."""
    matched: dict[str, Block] = {}
    problems, num_unknown = [], 0
    for block in blocks:
        if block.key in matched:
            problems.append(f"{block.name}: the image appears twice, first in {matched[block.key].name}")
        elif block.key in expected:
            matched[block.key] = block
        elif block.key or not block.faults:
            num_unknown += 1
            hint = similar_name(block.key, expected) if num_unknown <= _MAX_SUGGESTIONS else ""
            problems.append(f"{block.name}: no test image has this id{hint}")
    return matched, problems


def _missing(matched: Mapping[str, Block], expected: Mapping[str, str]) -> list[str]:
    missing = [key for key in expected if key not in matched]
    if missing and not matched:
        return [f"all {len(missing)} images are missing, from {missing[0]} on"]
    return [f"image {key}: missing" for key in missing]


def _sample_problems(
    sample_path: Path, keys: Sequence[str], expected: Mapping[str, str], competition: Competition, kind: str
) -> Iterator[str]:
    """Yields where the competition's own sample contradicts BOX_CONVENTION or the file.

    A sample may be shorter than the test list, so images that it lacks are a warning.
    """
    try:
        blocks = list(KINDS[kind].parse(sample_path, competition))
    except UserError as error:
        yield f"{WARNING}not compared with the sample submission: {error}"
        return
    fault = next((fault for block in blocks for fault in block.faults), None)
    if fault is not None:
        yield f"{WARNING}{sample_path.name} does not match BOX_CONVENTION: {fault}"
    sample_keys = list(dict.fromkeys(block.key for block in blocks if block.key))
    known = set(expected)
    more, fewer = [key for key in sample_keys if key not in known], known - set(sample_keys)
    if more:
        yield f"{sample_path.name}: {len(more)} images are not of the test images, such as {more[0]}"
    if not KINDS[kind].lists_all(competition):  # such a file lists only boxes, so the sample may have any images
        return
    if fewer:
        yield f"{WARNING}{sample_path.name} lacks {len(fewer)} of {len(known)} test images, such as {min(fewer)}"
    in_both = set(keys) & set(sample_keys)
    own, wanted = ([key for key in one if key in in_both] for one in (keys, sample_keys))
    for key, other in zip(own, wanted, strict=True):
        if key != other:
            yield f"{WARNING}image {key}: another order than {sample_path.name}, which has {other} here"
            return


def _check_boxes(images: Sequence[Image], competition: Competition, layout: tuple[str, ...]) -> list[str]:
    """Returns what is wrong with the boxes of a file: faults of single boxes, then warnings on the file."""
    faults, beyond, crowded, equal = [], [], [], []
    scores: set[float] = set()
    num_boxes = 0
    for image in images:
        entries = image.entries
        num_boxes += len(entries)
        scores.update(entry.score for entry in entries)
        faults += [
            f"{entry.name}: the score is {entry.score:g}; expected 0 to 1"
            for entry in entries
            if not 0 <= entry.score <= 1
        ]
        xyxy_N4 = corners(entries, layout, image.size, competition)
        for index in np.flatnonzero((xyxy_N4[:, :2] >= xyxy_N4[:, 2:]).any(1)).tolist():
            faults.append(f"{entries[index].name}: {_without_area(xyxy_N4[index])}")
        beyond += [entries[index].name for index in np.flatnonzero(_is_beyond(xyxy_N4, image.size)).tolist()]
        crowded += [f"{image.block.name} with {len(entries)}"] * (len(entries) > MOST_BOXES)
        if len({(entry.label, entry.numbers) for entry in entries}) < len(entries):
            equal.append(image.block.name)
    other = _other_layout(images, competition, layout) if faults or beyond else None
    warnings = [
        f"{len(beyond)} of {num_boxes} boxes reach beyond their image, such as {beyond[0]}" if beyond else "",
        f"{len(crowded)} images have more than {MOST_BOXES} boxes, such as {crowded[0]}" if crowded else "",
        f"{len(equal)} images have duplicate boxes of a class, such as {equal[0]}" if equal else "",
        f"all {num_boxes} boxes have the score {next(iter(scores)):g}" if num_boxes > 1 and len(scores) == 1 else "",
        "no image has a box" if images and not num_boxes else "",
        other or "",
    ]
    return faults + [f"{WARNING}{warning}" for warning in warnings if warning]


def _is_beyond(xyxy_N4: np.ndarray, size: Size) -> np.ndarray:
    """Returns which boxes reach beyond an image of (height, width) by more than `MOST_OUTSIDE_PX`, bool (N,)."""
    most = np.array([size[1], size[0]]) + MOST_OUTSIDE_PX
    return (xyxy_N4[:, :2] < -MOST_OUTSIDE_PX).any(1) | (xyxy_N4[:, 2:] > most).any(1)


def _without_area(xyxy: np.ndarray) -> str:
    """Returns which side of a box has no length."""
    left, top, right, bottom = (f"{value:g}" for value in xyxy.tolist())
    if xyxy[0] >= xyxy[2]:
        return f"left is {left} and right is {right}; expected a right greater than left"
    return f"top is {top} and bottom is {bottom}; expected a bottom greater than top"


def _other_layout(images: Sequence[Image], competition: Competition, layout: tuple[str, ...]) -> str | None:
    """Returns a text on another layout with which all boxes are inside their images; None if there is none."""
    for other in LAYOUTS:
        if other != layout and all(_fits(image, other, layout, competition) for image in images):
            return (
                f"all boxes are inside their images if they are read as {', '.join(other)} instead of "
                f"{', '.join(layout)}; correct BOX_CONVENTION.FIELDS, or the file"
            )
    return None


def _fits(image: Image, other: tuple[str, ...], layout: tuple[str, ...], competition: Competition) -> bool:
    """Returns whether the boxes of an image fit into it, read in another way; their numbers stay in their order."""
    own = next(one for one in LAYOUTS if set(one) == set(layout))
    names = [other[own.index(name)] for name in layout]
    numbers_N4 = np.array([entry.numbers for entry in image.entries], np.float64).reshape(-1, 4)
    xyxy_N4 = corners_of(dict(zip(names, numbers_N4.T, strict=True)), other) * units(image.size, competition)
    return bool((xyxy_N4[:, :2] < xyxy_N4[:, 2:]).all() and not _is_beyond(xyxy_N4, image.size).any())
