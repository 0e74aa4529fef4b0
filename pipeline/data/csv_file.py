"""A list as text, read strictly: every cell stays as it is, every problem names the line.

In: a path and the columns that must be there; for a list of ids alone, a text file without a header. Out: rows as
dictionaries, and problems. Not by pandas, which turns `NA` into nothing and `007` into 7 and shifts the columns of a
row that is too long.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from pipeline.data.problems import Problem, make_problem
from pipeline.errors import UserError
from pipeline.wording import nearest

Rows = list[tuple[int, dict[str, str]]]


@contextmanager
def long_cells() -> Iterator[None]:
    """Inside, the csv module reads cells of any length: the run lengths of one mask may exceed its 128 KiB."""
    previous_limit = csv.field_size_limit(2**31 - 1)
    try:
        yield
    finally:
        csv.field_size_limit(previous_limit)


def read_csv(
    path: Path, file: str, columns: Mapping[str, str], competition: str, key: str
) -> tuple[Rows, list[Problem]]:
    """Returns (line number, cells by column) for each row of a CSV that has `columns`, and what is wrong with it.

    With a problem that concerns the whole file the rows are empty.

    Args:
        file: how messages call it.
        columns: those that must be there, each with the descriptor's key that names it.
        key: the descriptor's key that names the file.
    """
    text, problems = _read_text(path, file, competition, key)
    if problems:
        return [], problems
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        with long_cells():
            lines = [(reader.line_num, cells) for cells in reader]
        table = [(line, [cell.strip() for cell in cells]) for line, cells in lines if any(map(str.strip, cells))]
    except csv.Error as error:
        return [], [make_problem("list with broken quotes", file, f"line {reader.line_num}: {error}")]
    if not table:
        return [], [make_problem("list empty", file, "no text")]
    header = table[0][1]
    problems = _header_problems(header, file, columns, competition)
    if problems:
        return [], problems
    if len(table) == 1:
        facts = {"key": key, "competition": competition}
        return [], [make_problem("list without rows", file, f"only its header {','.join(header)}", **facts)]
    uneven = [(line, len(cells)) for line, cells in table if len(cells) != len(header)]
    found = [f"line {line}: {num_cells} cells, header {len(header)}" for line, num_cells in uneven]
    rows = [(line, dict(zip(header, cells, strict=True))) for line, cells in table[1:] if len(cells) == len(header)]
    return rows, [make_problem("list with uneven rows", file, text) for text in found]


def read_ids(path: Path, file: str, column: str, competition: str, key: str) -> tuple[Rows, list[Problem]]:
    """Returns (line number, {column: id}) for each line of a text file, and what is wrong with it.

    A line is an id, without spaces around it; empty lines are left out. Arguments as in `read_csv`.
    """
    text, problems = _read_text(path, file, competition, key)
    if problems:
        return [], problems
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1) if line.strip()]
    is_id = [len(line.split()) == 1 and "," not in line for _, line in lines]
    rows = [(number, {column: line}) for (number, line), good in zip(lines, is_id, strict=True) if good]
    bad = [f"line {number}: {line[:60]!r}" for (number, line), good in zip(lines, is_id, strict=True) if not good]
    return rows, [make_problem("list with more than ids", file, found) for found in bad]


def read_cells(path: Path, expected: str) -> Iterator[tuple[int, list[str]]]:
    """Yields line number and cells of each line that is not blank, the header first; cells are text, never numbers.

    Args:
        expected: what the file should be, for messages.

    Raises:
        UserError: there is no such file, it is not UTF-8, or its quotes do not close.
    """
    try:
        with long_cells(), open(path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; expected {expected}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path} is not a csv file of UTF-8 text: {error}") from error


def write_line(cells: Sequence[str]) -> str:
    """Returns one csv line with its line end; quotes only where a cell needs them.

    >>> write_line(["a,b", "0 2"])
    '"a,b",0 2\\n'
    """
    quoted = [f'"{cell.replace(chr(34), chr(34) * 2)}"' if set(cell) & set(',"\r\n') else cell for cell in cells]
    return ",".join(quoted) + "\n"


def _read_text(path: Path, file: str, competition: str, key: str) -> tuple[str, list[Problem]]:
    if not os.path.isfile(path):
        kind = "list missing" if key in ("TRAIN_CSV", "VALID_CSV", "TEST_CSV") else "csv missing"
        return "", [make_problem(kind, file, "no such file", key=key, competition=competition)]
    try:
        data = path.read_bytes()
    except OSError as error:
        return "", [make_problem("list unreadable", file, error.strerror or str(error))]
    text, problem = _decode(data, file)
    return text, [problem] if problem else []


def _decode(data: bytes, file: str) -> tuple[str, Problem | None]:
    if not data.strip():
        return "", make_problem("list empty", file, f"{len(data)} bytes")
    if data.startswith(b"PK\x03\x04"):
        return "", make_problem("list not plain text", file, "a zip archive or spreadsheet")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or b"\0" in data:
        return "", make_problem("list not plain text", file, "UTF-16 or binary content")
    try:
        return data.decode("utf-8-sig"), None
    except UnicodeDecodeError as error:
        found = f"byte {data[error.start]:#04x} at {error.start:,} is not UTF-8"
        return "", make_problem("list not plain text", file, found)


def _header_problems(header: list[str], file: str, columns: Mapping[str, str], competition: str) -> list[Problem]:
    separator = next((mark for mark in ";\t|" if len(header) == 1 and mark in header[0]), None)
    if separator:
        return [make_problem("list with another separator", file, f"{separator!r} in {header[0]!r}")]
    twice = {name for name in header if header.count(name) > 1}
    if twice:
        return [make_problem("list with a column twice", file, f"{', '.join(sorted(twice))!r}")]
    problems = []
    for column, key in columns.items():
        if column not in header:
            near = "".join(f"; did you mean {name!r}?" for name in nearest(column, header))
            found = f"columns {', '.join(map(repr, header))}{near}"
            facts = {"column": column, "key": key, "competition": competition}
            problems.append(make_problem("column missing", file, found, **facts))
    return problems
