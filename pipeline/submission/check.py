"""The check before an upload: everything that is proved wrong with a submission, named by line and row.

Comes in: the csv, the competition, the size of each test image, the sample submission. Goes out: problems. One that
begins with `WARNING` refuses nothing. What only may be wrong is a matter of `hints.py`.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from pathlib import Path

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.submission.check_images import WARNING, check_images
from pipeline.submission.rows import Row, expected_keys, header_columns, read_cells, row_classes, row_name

Key = tuple[str, ...]
Sizes = Mapping[str, tuple[int, int]]
_MAX_SUGGESTIONS = 20  # finding a similar id is slow; a file with more unknown ids has one common cause


def require_good(
    csv_path: Path | str,
    competition: Competition,
    sizes: Sizes,
    sample_submission: Path | str | None = None,
    num_shown: int = 20,
) -> list[str]:
    """Returns the warnings about a submission.

    Raises:
        UserError: something is proved wrong with it; shows the first `num_shown` problems.
    """
    problems = check_submission(csv_path, competition, sizes, sample_submission)
    faults = [problem for problem in problems if not problem.startswith(WARNING)]
    if faults:
        table = "\n".join(f"{number:>4}  {fault}" for number, fault in enumerate(faults[:num_shown], start=1))
        rest = f"\n      and {len(faults) - num_shown} more" if len(faults) > num_shown else ""
        raise UserError(
            f"{csv_path} cannot be submitted to {competition.name}: {len(faults)} problems\n{table}{rest}\n"
            f"It is checked against the test images and CONVENTION in configs/competitions/{competition.name}.yaml."
        )
    return problems


def check_submission(
    csv_path: Path | str, competition: Competition, sizes: Sizes, sample_submission: Path | str | None = None
) -> list[str]:
    """Returns what is wrong with a submission, in the order of the file; an empty list when it is good.

    Args:
        csv_path: the submission.
        competition: classes and convention.
        sizes: (height, width) of each test image; its keys are the ids that must be there.
        sample_submission: the competition's own, where there is one.
    """
    expected = expected_keys(sizes, competition)
    try:
        lines = list(read_cells(Path(csv_path)))
    except UserError as error:
        return [str(error)]
    problems = list(_header_problems(lines, header_columns(competition.convention)))
    rows, row_problems = _match_rows(lines[1:], expected, competition)
    problems += row_problems
    problems += _missing_rows(rows, expected, competition)
    if sample_submission is not None:
        problems += _sample_problems(Path(sample_submission), rows, expected, competition)
    if rows:
        problems += check_images(_by_image(rows, expected), sizes, competition)
    return problems


def _header_problems(lines: list[tuple[int, list[str]]], columns: list[str]) -> Iterator[str]:
    if not lines:
        yield f"the file is empty; wanted the line {','.join(columns)} and a row per image and class"
    elif lines[0][1] != columns:
        yield f"line 1: the header is {','.join(lines[0][1])[:80]!r}; wanted {','.join(columns)!r}"


def _match_rows(
    lines: list[tuple[int, list[str]]], expected: Mapping[Key, tuple[str, int]], competition: Competition
) -> tuple[dict[Key, Row], list[str]]:
    """Returns the rows that are of an image and class, the first of each, and what is wrong with all others."""
    num_cells = len(header_columns(competition.convention))
    rows: dict[Key, Row] = {}
    problems = []
    num_unknown = 0
    for line, cells in lines:
        if len(cells) != num_cells:
            problems.append(
                f"line {line} ({cells[0][:40]}): {len(cells)} cells; wanted {num_cells}, a comma between each, "
                "and blanks between the numbers"
            )
            continue
        row = Row(line, tuple(cells[:-1]), cells[-1])
        if row.key not in expected:
            num_unknown += 1
            problems.append(f"{row_name(row)}: {_why_unknown(row.key, expected, competition, num_unknown)}")
        elif row.key in rows:
            problems.append(f"{row_name(row)}: the row is there twice, first in line {rows[row.key].line}")
        else:
            rows[row.key] = row
    return rows, problems


def _why_unknown(key: Key, expected: Mapping[Key, tuple[str, int]], competition: Competition, num_unknown: int) -> str:
    """Tells a wrong class from a wrong image, and what may have been meant."""
    rows, base = competition.convention.rows, competition.convention.class_base
    image_id, _, number = key[0].rpartition("_") if rows == "id_class" else (key[0], "", key[-1])
    ids = {image for image, _ in expected.values()}
    if rows != "id" and image_id in ids:
        last = base + len(competition.classes) - 1
        return f"there is no class {number!r}; the {len(competition.classes)} classes are {base} to {last}"
    similar = difflib.get_close_matches(image_id, ids, n=1) if num_unknown <= _MAX_SUGGESTIONS else []
    return f"no test image has this id{f'; did you mean {similar[0]}?' if similar else ''}"


def _missing_rows(
    rows: Mapping[Key, Row], expected: Mapping[Key, tuple[str, int]], competition: Competition
) -> Iterator[str]:
    """Yields one problem per class that is missing everywhere, per image that is missing whole, per single row."""
    missing = {key: place for key, place in expected.items() if key not in rows}
    if len(missing) == len(expected):
        yield f"none of the {len(expected)} rows is there, from {','.join(next(iter(expected)))} on"
        return
    classes_there = {expected[key][1] for key in rows}
    images_there = {expected[key][0] for key in rows}
    said: set[str | int] = set()
    for key, (image_id, class_index) in missing.items():
        if class_index not in classes_there:
            if class_index not in said:
                yield f"class {class_index} ({competition.classes[class_index]}): the row of every image is missing"
            said.add(class_index)
        elif image_id not in images_there:
            if image_id not in said:
                yield f"image {image_id}: all its rows are missing, from {','.join(key)} on"
            said.add(image_id)
        else:
            yield f"row {','.join(key)}: missing"


def _sample_problems(
    sample_path: Path, rows: Mapping[Key, Row], expected: Mapping[Key, tuple[str, int]], competition: Competition
) -> Iterator[str]:
    """Yields where the competition's own sample contradicts the descriptor or the rows.

    A sample may be shorter than the test list, so rows that it lacks are a warning; rows that it has must be there.
    """
    try:
        lines = list(read_cells(sample_path))
    except UserError as error:
        yield f"{WARNING}not compared with the sample submission: {error}"
        return
    columns = header_columns(competition.convention)
    if not lines or lines[0][1] != columns:
        found = ",".join(lines[0][1]) if lines else ""
        yield f"{sample_path.name}, line 1: the header is {found[:80]!r}, CONVENTION wants {','.join(columns)!r}"
    sample_keys = [tuple(cells[: len(columns) - 1]) for _, cells in lines[1:]]
    wanted = f"the test images times {len(row_classes(competition))} classes"
    more, fewer = set(sample_keys) - set(expected), set(expected) - set(sample_keys)
    if more:
        yield f"{sample_path.name}: {len(more)} rows are not of {wanted}, such as {','.join(min(more))}"
    if fewer:
        yield f"{WARNING}{sample_path.name} lacks {len(fewer)} rows of {wanted}, such as {','.join(min(fewer))}"
    in_sample = set(sample_keys)
    common = (row for row in rows.values() if row.key in in_sample)
    for key, row in zip((key for key in sample_keys if key in rows), common, strict=False):
        if key != row.key:
            yield f"{WARNING}{row_name(row)}: another order than {sample_path.name}, which has {','.join(key)} here"
            return


def _by_image(rows: Mapping[Key, Row], expected: Mapping[Key, tuple[str, int]]) -> dict[str, dict[int, Row]]:
    images: dict[str, dict[int, Row]] = {}
    for key, row in rows.items():
        image_id, class_index = expected[key]
        images.setdefault(image_id, {})[class_index] = row
    return images
