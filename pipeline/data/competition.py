"""The folder of a competition's data, and the content of its lists, read strictly: every problem names the line.

In: a competition's descriptor and the folders to search. Out: its folder, and the rows of train.csv and test.csv as
text: an id is a name, so leading zeros, `NA` and `1e5` stay as they are. Not by pandas, which turns `NA` into nothing
and `007` into 7 and shifts the columns of a row that is too long.
"""

from __future__ import annotations

import csv
import io
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

from pipeline.config.competition import Competition
from pipeline.data.problems import Problem, make_problem
from pipeline.errors import UserError
from pipeline.paths import PROJECT, shown
from pipeline.wording import nearest

Rows = list[tuple[int, dict[str, str]]]


class Listed(NamedTuple):
    """A row of train.csv or test.csv: the image's id and the sequence that it belongs to ("": none known)."""

    id: str
    sequence: str


def find_folder(competition: Competition, roots: Sequence[Path], directory: str | None = None) -> Path:
    """Returns the folder with a competition's data.

    An explicit `directory` is used as it is. Otherwise it is the first folder with a train.csv that has the name of the
    competition or its Kaggle slug, directly in one of `roots` or one level down.

    Raises:
        UserError: nothing found (names the folders searched and how to get the data), or found without its train.csv.
    """
    candidates = [Path(directory).expanduser()] if directory else _candidates(competition, roots)
    folders = [folder for folder in candidates if os.path.isdir(folder)]
    for folder in folders:
        if os.path.isfile(folder / competition.train_csv):
            return folder.resolve()
    raise UserError(_incomplete(competition, folders[0]) if folders else _not_found(competition, roots, directory))


def read_list(competition: Competition, folder: Path, subset: str) -> tuple[list[Listed], list[Problem]]:
    """Returns the usable rows of train.csv (`subset` "train") or test.csv ("test"), and what is wrong with the others.

    The first row of an id that appears twice is kept. Spaces around cells and a byte-order mark are dropped.
    """
    file = competition.train_csv if subset == "train" else competition.test_csv
    is_train = subset == "train"
    columns = {competition.id_column: "ID_COLUMN"}
    if is_train and competition.sequence_column:
        columns[competition.sequence_column] = "SEQUENCE_COLUMN"
    rows, problems = read_csv(folder / file, file, columns, competition.name, "TRAIN_CSV" if is_train else "TEST_CSV")
    listed: list[Listed] = []
    line_of: dict[str, int] = {}
    for line, row in rows:
        id = row[competition.id_column]
        if not id:
            problems.append(make_problem("id empty", file, f"line {line}"))
        elif "/" in id or "\\" in id or id in (".", "..") or not id.isprintable():
            problems.append(make_problem("id not a file name", file, f"line {line}: {id!r}"))
        elif id in line_of:
            problems.append(make_problem("id twice", file, f"{id} in lines {line_of[id]} and {line}"))
        else:
            line_of[id] = line
            sequence, wrong = sequence_of(competition, row, file, line)
            listed.append(Listed(id, sequence))
            problems += wrong if is_train else []
    return listed, problems


def sequence_of(competition: Competition, row: dict[str, str], file: str, line: int) -> tuple[str, list[Problem]]:
    """Returns the sequence of an image by its row in a list ("": none known), and what is wrong with it."""
    if competition.sequence_column:
        sequence = row.get(competition.sequence_column, "")
        return sequence, [] if sequence else [make_problem("sequence empty", file, f"line {line}")]
    if competition.sequence_pattern:
        id, pattern = row[competition.id_column], competition.sequence_pattern
        match = re.search(pattern, id)
        if match:
            return match.group(1), []
        facts = {"pattern": pattern, "competition": competition.name}
        return "", [make_problem("sequence not in the id", file, f"line {line}: {id}", **facts)]
    return "", []


def _names(competition: Competition) -> list[str]:
    return [competition.name, *([competition.kaggle_slug] if competition.kaggle_slug else [])]


def _candidates(competition: Competition, roots: Sequence[Path]) -> Iterator[Path]:
    for root in roots:
        yield from (root / name for name in _names(competition))
        for name in _names(competition):  # Kaggle mounts below /kaggle/input/competitions and the like
            yield from sorted(root.glob(f"*/{name}")) if os.path.isdir(root) else ()


def _not_found(competition: Competition, roots: Sequence[Path], directory: str | None) -> str:
    if directory:
        return (
            f"DATASETS.DIRECTORY: there is no folder {directory}.\n"
            f"Name the folder that holds {competition.train_csv}, or leave the key null to search for it by name."
        )
    names = " or ".join(map(repr, _names(competition)))
    lines = [f"No data of the competition '{competition.name}' found. Searched for a folder called {names} in"]
    for root in roots:
        what = "   (a file, not a folder)" if os.path.isfile(root) else "   (no such folder)"
        lines.append(f"  {shown(root)}" + ("" if os.path.isdir(root) else what))
        if os.path.isfile(root / competition.train_csv):
            lines.append(
                f"    which is itself a competition's folder: name the one above it, DATA_DIR={root.resolve().parent}"
            )
    if competition.kaggle_slug or competition.repository:
        lines.append(f"To get it:       ./run.sh download {competition.name}")
    lines.append(
        "If it is here:   DATA_DIR=<the folder above it>, or put it or a link to it at "
        f"{shown(PROJECT / 'data' / competition.name)}"
    )
    return "\n".join(lines)


def _incomplete(competition: Competition, folder: Path) -> str:
    try:
        holds = sorted(entry.name + "/" * entry.is_dir() for entry in folder.iterdir())
    except OSError as error:
        return f"Found the folder {folder}, but it cannot be listed: {error.strerror}.\nchmod u+rx {folder}"
    lines = [
        f"Found the folder {folder} of the competition '{competition.name}', but it has no {competition.train_csv}.",
        f"It holds: {', '.join(holds[:10]) + (' ...' if len(holds) > 10 else '') or 'nothing'}",
    ]
    if any(name.endswith(".csv") for name in holds):
        lines.append(
            "If a csv there lists the training images under another name, give it as TRAIN_CSV in "
            f"configs/competitions/{competition.name}.yaml"
        )
    inner = next(iter(sorted(folder.glob(f"*/{competition.train_csv}"))), None)
    archive = next(iter(sorted(folder.glob("*.zip"))), None)
    if inner:
        lines.append(
            f"There is one in {inner.parent}: move everything one level up, or set DATASETS.DIRECTORY={inner.parent}"
        )
    elif archive:
        lines.append(f"Unpack it first: unzip {archive} -d {folder}")
    elif competition.kaggle_slug or competition.repository:
        lines.append(f"Move it away and get it again: ./run.sh download {competition.name}")
    else:
        lines.append("Put the list there, or name another folder with DATASETS.DIRECTORY=...")
    return "\n".join(lines)


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
    if not os.path.isfile(path):
        return [], [make_problem("list missing", file, "no such file", key=key, competition=competition)]
    try:
        data = path.read_bytes()
    except OSError as error:
        return [], [make_problem("list unreadable", file, error.strerror or str(error))]
    text, problem = _decode(data, file)
    if problem:
        return [], [problem]
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
        return [], [make_problem("list without rows", file, f"only its header {','.join(header)}")]
    uneven = [(line, len(cells)) for line, cells in table if len(cells) != len(header)]
    found = [f"line {line}: {num_cells} cells, header {len(header)}" for line, num_cells in uneven]
    rows = [(line, dict(zip(header, cells, strict=True))) for line, cells in table[1:] if len(cells) == len(header)]
    return rows, [make_problem("list with uneven rows", file, text) for text in found]


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
