"""The check of run lengths in a csv, by line and row: header, missing, unknown and double rows, runs, the sample."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from pipeline.config.competition import Competition, Convention, split_row
from pipeline.data.csv_file import read_cells, read_csv
from pipeline.data.problems import Problem, make_problem
from pipeline.errors import UserError
from pipeline.segmentation.submission.rle import RleError, Runs, join_classes, parse_runs
from pipeline.segmentation.submission.run_lengths import (
    EXPECTED,
    Row,
    expected_keys,
    header_columns,
    row_key,
    row_name,
    split_cells,
)
from pipeline.submission.file import WARNING, Sizes
from pipeline.wording import alike_names, similar_name

Key = tuple[str, ...]
Expected = Mapping[Key, tuple[str, int]]  # image and class that each row names, in the order of the file
_MAX_SUGGESTIONS = 20  # finding a similar id is slow; a file with more unknown ids has one common cause


def check(path: Path, competition: Competition, sizes: Sizes, sample_path: Path | None) -> list[str]:
    """Returns what is wrong with a csv, see `Format`."""
    expected = expected_keys(sizes, competition)
    try:
        lines = list(read_cells(path, EXPECTED))
    except UserError as error:
        return [str(error)]
    problems = list(_header_problems(lines, header_columns(competition.convention)))
    rows, row_problems = _match_rows(lines[1:], expected, competition)
    problems += row_problems
    problems += _missing_rows(rows, expected, competition)
    if sample_path is not None:
        problems += _sample_problems(sample_path, rows, expected, competition)
    images: dict[str, dict[int, list[Row]]] = {}
    for key, own in rows.items():
        image_id, class_index = expected[key]
        images.setdefault(image_id, {})[class_index] = own
    return problems + (_check_runs(images, sizes, competition) if images else [])


def check_sample(competition: Competition, path: Path, test_ids: set[str]) -> list[Problem]:
    """Returns what is wrong with the sample submission: its columns, and unknown, double or missing rows.

    A sample of another version of the data, or a descriptor that submits other classes, would otherwise be noticed when
    the upload is refused. Of a sample without rows, which organisers hide, the columns are compared.
    """
    file, convention = path.name, competition.convention
    columns = {convention.id_column: "CONVENTION.ID_COLUMN", convention.value_column: "CONVENTION.VALUE_COLUMN"}
    columns |= {convention.class_column: "CONVENTION.CLASS_COLUMN"} if convention.class_column else {}
    rows, problems = read_csv(path, file, columns, competition.name, "SAMPLE_SUBMISSION")
    if not rows or not test_ids:
        return [problem for problem in problems if problem.kind != "list without rows"]
    expected = expected_keys(test_ids, competition)
    line_of: dict[Key, int] = {}
    unknown: list[tuple[int, str]] = []
    for line, row in rows:
        key = split_cells([row[column] for column in header_columns(convention)], convention)[0]
        if key not in expected:
            unknown.append((line, ", ".join(key)))
        elif key in line_of and not competition.has_objects:
            found = f"{', '.join(key)} in lines {line_of[key]} and {line}"
            problems.append(make_problem("sample row twice", file, found))
        else:
            line_of.setdefault(key, line)
    hints = alike_names([text for _, text in unknown], map(", ".join, expected))
    problems += [
        make_problem("sample row unknown", file, f"line {line}: {text}{hints[text]}") for line, text in unknown
    ]
    if _is_row_per_object_alone(competition):
        there = {expected[key][0] for key in line_of}
        absent_ids = sorted(test_ids - there)
        return problems + [make_problem("sample row missing", file, f"{image_id}: no row") for image_id in absent_ids]
    classes = sorted({expected[key][1] for key in line_of})
    absent = [index for index in competition.submitted_indices if index not in classes] if classes else []
    if absent:
        names = ", ".join(competition.classes[index] for index in absent)
        kept = [competition.classes[index] for index in competition.submitted_indices if index in classes]
        facts = {"submitted": f"[{', '.join(kept)}]", "competition": competition.name}
        kind = "sample without a class" + " of objects" * competition.has_objects
        problems.append(make_problem(kind, file, f"no row of {names}", **facts))
    for image_id in sorted(test_ids):
        lacking = [index for index in classes if row_key(image_id, index, competition) not in line_of]
        if len(lacking) == len(classes):
            problems.append(make_problem("sample row missing", file, f"{image_id}: no row"))
        elif lacking:
            labels = ", ".join(competition.label_texts[index] for index in lacking)
            problems.append(make_problem("sample row missing", file, f"{image_id}: no row for class {labels}"))
    return problems


def _header_problems(lines: list[tuple[int, list[str]]], columns: list[str]) -> Iterator[str]:
    if not lines:
        yield f"the file is empty; expected the line {','.join(columns)} and a row per image and class"
    elif lines[0][1] != columns:
        yield f"line 1: the header is {','.join(lines[0][1])[:80]!r}; expected {','.join(columns)!r}"


def _match_rows(
    lines: list[tuple[int, list[str]]], expected: Expected, competition: Competition
) -> tuple[dict[Key, list[Row]], list[str]]:
    """Returns the rows of each image and class, and what is wrong with all other rows.

    There is one, the first in the file; where OBJECTS is given, one per object.
    """
    num_cells = len(header_columns(competition.convention))
    rows: dict[Key, list[Row]] = {}
    problems = []
    num_unknown = 0
    for line, cells in lines:
        if len(cells) != num_cells:
            problems.append(
                f"line {line} ({cells[0][:40]}): {len(cells)} cells; expected {num_cells}, with commas between "
                "cells and blanks between numbers"
            )
            continue
        row = Row(line, *split_cells(cells, competition.convention))
        if row.key not in expected:
            num_unknown += 1
            problems.append(f"{row_name(row)}: {_why_unknown(row.key, expected, competition, num_unknown)}")
        elif row.key in rows and not competition.has_objects:
            problems.append(f"{row_name(row)}: the row appears twice, first in line {rows[row.key][0].line}")
        else:
            rows.setdefault(row.key, []).append(row)
    empty, together = competition.convention.empty, rows
    if _is_row_per_object_alone(competition):
        together = {}
        for key, own in rows.items():
            together.setdefault(expected[key][0], []).extend(own)
    blank = (row for own in together.values() if len(own) > 1 for row in own if row.text == empty)
    return rows, problems + [f"{row_name(row)}: empty, though there are rows of objects; remove it" for row in blank]


def _is_row_per_object_alone(competition: Competition) -> bool:
    """Returns whether an image has rows of its objects only, and an empty one where it has none."""
    return competition.has_objects and competition.objects.empty_rows == "image"


def _why_unknown(key: Key, expected: Expected, competition: Competition, num_unknown: int) -> str:
    """Returns whether the class or the image is unknown, and what may have been meant."""
    rows, texts = competition.convention.rows, competition.label_texts
    labels = [texts[index] for index in competition.submitted_indices]
    image_id, label = split_row(key[0], texts) if rows == "id_class" else (key[0], key[-1])
    ids = {image for image, _ in expected.values()}
    if rows != "id" and image_id in ids:
        return f"there is no class {label!r}; the {len(labels)} classes are {', '.join(labels)}"
    return f"no test image has this id{similar_name(image_id, ids) if num_unknown <= _MAX_SUGGESTIONS else ''}"


def _missing_rows(rows: Mapping[Key, list[Row]], expected: Expected, competition: Competition) -> Iterator[str]:
    """Yields one problem per class without any row, per image without any row, and per other row that is missing."""
    missing = {key: names for key, names in expected.items() if key not in rows}
    if expected and not rows:
        yield f"all {len(expected)} rows are missing, from {','.join(next(iter(expected)))} on"
        return
    with_rows = {name for key in rows for name in expected[key]}  # images and classes
    if _is_row_per_object_alone(competition):  # any row of an image is enough
        absent_ids = dict.fromkeys(image_id for image_id, _ in missing.values() if image_id not in with_rows)
        yield from (f"image {image_id}: all its rows are missing" for image_id in absent_ids)
        return
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
    sample_path: Path, rows: Mapping[Key, list[Row]], expected: Expected, competition: Competition
) -> Iterator[str]:
    """Yields where the competition's own sample contradicts CONVENTION or the rows.

    A sample may be shorter than the test list, so rows that it lacks are a warning.
    """
    try:
        lines = list(read_cells(sample_path, EXPECTED))
    except UserError as error:
        yield f"{WARNING}not compared with the sample submission: {error}"
        return
    columns = header_columns(competition.convention)
    if not lines or lines[0][1] != columns:
        found = ",".join(lines[0][1]) if lines else ""
        yield f"{sample_path.name}, line 1: the header is {found[:80]!r}, by CONVENTION it is {','.join(columns)!r}"
    whole = [cells for _, cells in lines[1:] if len(cells) == len(columns)]
    sample_keys = list(dict.fromkeys(split_cells(cells, competition.convention)[0] for cells in whole))
    known = f"the test images times {len(competition.submitted_indices)} classes"
    more, fewer = set(sample_keys) - set(expected), set(expected) - set(sample_keys)
    if more:
        yield f"{sample_path.name}: {len(more)} rows are not of {known}, such as {','.join(min(more))}"
    if _is_row_per_object_alone(competition):  # of which the sample has any
        return
    if fewer:
        yield f"{WARNING}{sample_path.name} lacks {len(fewer)} rows of {known}, such as {','.join(min(fewer))}"
    in_sample = set(sample_keys)
    common = (own[0] for key, own in rows.items() if key in in_sample)
    for key, row in zip((key for key in sample_keys if key in rows), common, strict=False):
        if key != row.key:
            yield f"{WARNING}{row_name(row)}: another order than {sample_path.name}, which has {','.join(key)} here"
            return


def _check_runs(images: Mapping[str, Mapping[int, list[Row]]], sizes: Sizes, competition: Competition) -> list[str]:
    """Returns rows that cannot be read or overlap, a file without a pixel; those of the whole file first.

    Classes may overlap where a pixel may have several.

    Args:
        images: the rows of each image by class index.
        sizes: (height, width) of each image.
        competition: whether rows may overlap, and how runs are written.
    """
    convention, each = competition.convention, "object" if competition.has_objects else "class"
    faults, touching, base = [], [], convention.base
    num_runs = num_other_base = 0
    for image_id, by_class in images.items():
        num_pixels = sizes[image_id][0] * sizes[image_id][1]
        rows = [row for index in sorted(by_class) for row in by_class[index]]
        parsed = [_parse(row, num_pixels, convention) for row in rows]
        unreadable = [runs for runs in parsed if isinstance(runs, str)]
        read = [(row, runs) for row, runs in zip(rows, parsed, strict=True) if isinstance(runs, Runs)]
        num_runs += sum(runs.starts.size for _, runs in read)
        for row, runs in read:
            touching += _touching_runs(row, runs, base)
        if unreadable:
            other = [_parse(row, num_pixels, replace(convention, base=1 - base)) for row in rows]
            num_other_base += all(isinstance(runs, Runs) for runs in other)
        may_overlap = competition.is_multilabel
        faults += unreadable or ([] if may_overlap else _overlaps(rows, [runs for _, runs in read], each))
    if num_other_base:
        found = f"{num_other_base} of {len(images)} images do not fit with BASE: {base}, and do with BASE: {1 - base}"
        faults.insert(0, found)
    if touching:
        faults.append(f"{WARNING}{len(touching)} rows have runs that touch and could be one, such as {touching[0]}")
    if not faults and not num_runs:
        faults.append(f"{WARNING}no class has a single pixel in any image")
    return faults


def _parse(row: Row, num_pixels: int, convention: Convention) -> Runs | str:
    """Returns the runs of a row, or why they cannot be read."""
    try:
        return parse_runs(row.text, num_pixels, convention)
    except RleError as error:
        return f"{row_name(row)}: {error}"


def _touching_runs(row: Row, runs: Runs, base: int) -> Iterator[str]:
    touching = np.flatnonzero(runs.starts[1:] == runs.starts[:-1] + runs.lengths[:-1])
    if touching.size:
        run = int(touching[0]) + 1
        yield f"{row_name(row)}: run {run + 1} (start {runs.starts[run] + base}) touches run {run}"


def _overlaps(rows: Sequence[Row], all_runs: Sequence[Runs], each: str) -> list[str]:
    """Returns the first overlap of two rows of an image, none where no pixel is in more than one class or object."""
    runs, positions = join_classes(all_runs)
    furthest = np.maximum.accumulate(runs.starts + runs.lengths)
    shared = np.minimum(furthest[:-1] - runs.starts[1:], runs.lengths[1:])
    overlaps = np.flatnonzero(shared > 0)
    if not overlaps.size:
        return []
    second = int(overlaps[0]) + 1
    first = int(np.flatnonzero(furthest[:second] > runs.starts[second])[0])
    return [
        f"{row_name(rows[positions[second]])}: overlaps {row_name(rows[positions[first]])}; "
        f"{int(shared[overlaps].sum())} pixels of the image are in more than one {each}"
    ]
