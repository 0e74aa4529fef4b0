"""The check of the runs in a csv: rows that cannot be read, classes that overlap, a file without a pixel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.config.competition import Competition, Convention
from pipeline.segmentation.submission.rle import RleError, Runs, join_classes, parse_runs
from pipeline.segmentation.submission.run_lengths import Row, row_name
from pipeline.submission.check import WARNING


class Findings(NamedTuple):
    """What the rows of one image show.

    Attributes:
        faults: what makes rows unreadable or classes overlap.
        touching: rows with two runs that touch; every reader joins them.
        fits_other_base: whether a row cannot be read with the convention's base, and all rows can with the other.
        num_runs: of all rows that can be read.
    """

    faults: list[str]
    touching: list[str]
    fits_other_base: bool
    num_runs: int


def check_runs(
    images: Mapping[str, Mapping[int, Row]], sizes: Mapping[str, tuple[int, int]], competition: Competition
) -> list[str]:
    """Returns the problems of all rows, those of the whole file first.

    Args:
        images: the rows of each image by class index.
        sizes: (height, width) of each image.
        competition: classes and convention.
    """
    convention = competition.convention
    found = [_findings(rows, sizes[image_id], convention) for image_id, rows in images.items()]
    faults = [fault for one in found for fault in one.faults]
    num_other, base = sum(one.fits_other_base for one in found), convention.base
    if num_other:
        faults.insert(
            0, f"{num_other} of {len(found)} images do not fit with BASE: {base}, and do with BASE: {1 - base}"
        )
    touching = [row for one in found for row in one.touching]
    if touching:
        faults.append(f"{WARNING}{len(touching)} rows have runs that touch and could be one, such as {touching[0]}")
    if not faults and not any(one.num_runs for one in found):
        faults.append(f"{WARNING}no class has a single pixel in any image")
    return faults


def _findings(rows: Mapping[int, Row], size: tuple[int, int], convention: Convention) -> Findings:
    """Returns what the rows of one image, by class index, show."""
    num_pixels = size[0] * size[1]
    faults, touching, all_runs = [], [], []
    classes = sorted(rows)
    for index in classes:
        try:
            runs = parse_runs(rows[index].text, num_pixels, convention.base, convention.relative, convention.empty)
        except RleError as error:
            faults.append(f"{row_name(rows[index])}: {error}")
            continue
        all_runs.append(runs)
        touching += _touching_runs(rows[index], runs, convention.base)
    num_runs = sum(runs.starts.size for runs in all_runs)
    if faults:
        return Findings(faults, touching, _fits_other_base(rows, num_pixels, convention), num_runs)
    runs, positions = join_classes(all_runs)
    faults += _overlaps(runs, [rows[classes[position]] for position in positions.tolist()])
    return Findings(faults, touching, False, num_runs)


def _touching_runs(row: Row, runs: Runs, base: int) -> Iterator[str]:
    touching = np.flatnonzero(runs.starts[1:] == runs.starts[:-1] + runs.lengths[:-1])
    if touching.size:
        run = int(touching[0]) + 1
        yield f"{row_name(row)}: run {run + 1} (start {runs.starts[run] + base}) touches run {run}"


def _overlaps(runs: Runs, owners: Sequence[Row]) -> Iterator[str]:
    """Yields the first overlap of two rows; `owners` are the rows of the runs, which are sorted by start."""
    furthest = np.maximum.accumulate(runs.starts + runs.lengths)
    shared = np.minimum(furthest[:-1] - runs.starts[1:], runs.lengths[1:])
    overlaps = np.flatnonzero(shared > 0)
    if overlaps.size:
        second = int(overlaps[0]) + 1
        first = int(np.flatnonzero(furthest[:second] > runs.starts[second])[0])
        yield (
            f"{row_name(owners[second])}: overlaps {row_name(owners[first])}; "
            f"{int(shared[overlaps].sum())} pixels of the image are in more than one class"
        )


def _fits_other_base(rows: Mapping[int, Row], num_pixels: int, convention: Convention) -> bool:
    try:
        for row in rows.values():
            parse_runs(row.text, num_pixels, 1 - convention.base, convention.relative, convention.empty)
    except RleError:
        return False
    return True
