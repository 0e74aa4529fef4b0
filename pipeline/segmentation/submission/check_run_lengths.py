"""The check of run lengths in a csv, by line and row: header, missing, unknown and double rows, the sample.

The runs themselves are a matter of `check_runs.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.segmentation.submission.check_runs import check_runs
from pipeline.segmentation.submission.run_lengths import (
    Row,
    expected_keys,
    header_columns,
    read_cells,
    row_classes,
    row_name,
)
from pipeline.submission.check import WARNING

Key = tuple[str, ...]
Expected = Mapping[Key, tuple[str, int]]  # image and class that each row names, in the order of the file
_MAX_SUGGESTIONS = 20  # finding a similar id is slow; a file with more unknown ids has one common cause


def check(
    path: Path, competition: Competition, sizes: Mapping[str, tuple[int, int]], sample_path: Path | None
) -> list[str]:
    """Returns what is wrong with a csv, see `check.py`."""
    expected = expected_keys(sizes, competition)
    try:
        lines = list(read_cells(path))
    except UserError as error:
        return [str(error)]
    problems = list(_header_problems(lines, header_columns(competition.convention)))
    rows, row_problems = _match_rows(lines[1:], expected, competition)
    problems += row_problems
    problems += _missing_rows(rows, expected, competition)
    if sample_path is not None:
        problems += _sample_problems(sample_path, rows, expected, competition)
    if rows:
        problems += check_runs(_by_image(rows, expected), sizes, competition)
    return problems


def _header_problems(lines: list[tuple[int, list[str]]], columns: list[str]) -> Iterator[str]:
    if not lines:
        yield f"the file is empty; expected the line {','.join(columns)} and a row per image and class"
    elif lines[0][1] != columns:
        yield f"line 1: the header is {','.join(lines[0][1])[:80]!r}; expected {','.join(columns)!r}"


def _match_rows(
    lines: list[tuple[int, list[str]]], expected: Expected, competition: Competition
) -> tuple[dict[Key, Row], list[str]]:
    """Returns the first row of each image and class, and what is wrong with all other rows."""
    num_cells = len(header_columns(competition.convention))
    rows: dict[Key, Row] = {}
    problems = []
    num_unknown = 0
    for line, cells in lines:
        if len(cells) != num_cells:
            problems.append(
                f"line {line} ({cells[0][:40]}): {len(cells)} cells; expected {num_cells}, with commas between "
                "cells and blanks between numbers"
            )
            continue
        row = Row(line, tuple(cells[:-1]), cells[-1])
        if row.key not in expected:
            num_unknown += 1
            problems.append(f"{row_name(row)}: {_why_unknown(row.key, expected, competition, num_unknown)}")
        elif row.key in rows:
            problems.append(f"{row_name(row)}: the row appears twice, first in line {rows[row.key].line}")
        else:
            rows[row.key] = row
    return rows, problems


def _why_unknown(key: Key, expected: Expected, competition: Competition, num_unknown: int) -> str:
    """Returns whether the class or the image is unknown, and what may have been meant."""
    rows, base = competition.convention.rows, competition.convention.class_base
    image_id, _, number = key[0].rpartition("_") if rows == "id_class" else (key[0], "", key[-1])
    ids = {image for image, _ in expected.values()}
    if rows != "id" and image_id in ids:
        last = base + len(competition.classes) - 1
        return f"there is no class {number!r}; the {len(competition.classes)} classes are {base} to {last}"
    similar = difflib.get_close_matches(image_id, ids, n=1) if num_unknown <= _MAX_SUGGESTIONS else []
    return f"no test image has this id{f'; did you mean {similar[0]}?' if similar else ''}"


def _missing_rows(rows: Mapping[Key, Row], expected: Expected, competition: Competition) -> Iterator[str]:
    """Yields one problem per class without any row, per image without any row, and per other row that is missing."""
    missing = {key: names for key, names in expected.items() if key not in rows}
    if expected and not rows:
        yield f"all {len(expected)} rows are missing, from {','.join(next(iter(expected)))} on"
        return
    with_rows = {name for key in rows for name in expected[key]}  # images and classes
    reported: set[str | int] = set()
    for key, (image_id, class_index) in missing.items():
        absent = next((name for name in (class_index, image_id) if name not in with_rows), None)
        if absent is None:
            yield f"row {','.join(key)}: missing"
        elif absent not in reported and absent == class_index:
            yield f"class {class_index} ({competition.classes[class_index]}): the row of every image is missing"
        elif absent not in reported:
            yield f"image {image_id}: all its rows are missing, from {','.join(key)} on"
        reported.add(absent)


def _sample_problems(
    sample_path: Path, rows: Mapping[Key, Row], expected: Expected, competition: Competition
) -> Iterator[str]:
    """Yields where the competition's own sample contradicts CONVENTION or the rows.

    A sample may be shorter than the test list, so rows that it lacks are a warning.
    """
    try:
        lines = list(read_cells(sample_path))
    except UserError as error:
        yield f"{WARNING}not compared with the sample submission: {error}"
        return
    columns = header_columns(competition.convention)
    if not lines or lines[0][1] != columns:
        found = ",".join(lines[0][1]) if lines else ""
        yield f"{sample_path.name}, line 1: the header is {found[:80]!r}, by CONVENTION it is {','.join(columns)!r}"
    sample_keys = [tuple(cells[: len(columns) - 1]) for _, cells in lines[1:]]
    known = f"the test images times {len(row_classes(competition))} classes"
    more, fewer = set(sample_keys) - set(expected), set(expected) - set(sample_keys)
    if more:
        yield f"{sample_path.name}: {len(more)} rows are not of {known}, such as {','.join(min(more))}"
    if fewer:
        yield f"{WARNING}{sample_path.name} lacks {len(fewer)} rows of {known}, such as {','.join(min(fewer))}"
    in_sample = set(sample_keys)
    common = (row for row in rows.values() if row.key in in_sample)
    for key, row in zip((key for key in sample_keys if key in rows), common, strict=False):
        if key != row.key:
            yield f"{WARNING}{row_name(row)}: another order than {sample_path.name}, which has {','.join(key)} here"
            return


def _by_image(rows: Mapping[Key, Row], expected: Expected) -> dict[str, dict[int, Row]]:
    images: dict[str, dict[int, Row]] = {}
    for key, row in rows.items():
        image_id, class_index = expected[key]
        images.setdefault(image_id, {})[class_index] = row
    return images
