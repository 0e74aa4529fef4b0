"""Boxes as text in a csv: a row per image, whose cell repeats the values of FIELDS for each box.

In: detections, or a csv, and BOX_CONVENTION. Out: a csv, or its blocks.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

from pipeline.config.competition import Competition
from pipeline.data.csv_file import read_cells, write_line
from pipeline.detection.submission.entries import Block, Entry
from pipeline.detection.submission.grid import Grid, texts_of
from pipeline.errors import UserError

EXPECTED = "a csv file with a row per image"


def file_key(image_id: str, competition: Competition) -> str:
    """Returns what the file calls an image."""
    return image_id + competition.box_convention.id_suffix


def lists_all(competition: Competition) -> bool:
    """Returns whether an image without boxes has a row, too."""
    return competition.box_convention.empty is not None


def layout(competition: Competition) -> tuple[str, ...]:
    """Returns which four numbers give a box, in their order in FIELDS."""
    return tuple(name for name in competition.box_convention.fields if name not in ("class", "score"))


def header(competition: Competition) -> list[str]:
    """Returns the column names."""
    own = competition.box_convention
    return [own.id_column or competition.id_column, own.value_column]


def encode(image_id: str, grid: Grid, competition: Competition) -> str:
    """Returns the row of an image; "" where it has none."""
    own = competition.box_convention
    boxes = texts_of(grid, own.fields, competition.label_texts, own.most_decimals)
    text = " ".join(value for box in boxes for value in box) if boxes else own.empty
    return "" if text is None else write_line([file_key(image_id, competition), text])


def write(path: Path, images: Iterable[tuple[str, bytes]], competition: Competition) -> None:
    """Writes a header and the row of each image."""
    with open(path, "wb") as file:
        file.write(write_line(header(competition)).encode())
        file.writelines(row for _, row in images)


def parse(path: Path, competition: Competition) -> Iterator[Block]:
    """Yields the block of each row.

    Raises:
        UserError: the file cannot be read, or has other columns.
    """
    columns, lines = header(competition), read_cells(path, EXPECTED)
    line, found = next(lines, (1, []))
    if sorted(found) != sorted(columns):
        seen = f"the first line is {','.join(found)[:80]!r}" if found else "the file is empty"
        raise UserError(
            f"{path}: {seen}; expected {','.join(columns)!r}, see BOX_CONVENTION.ID_COLUMN and VALUE_COLUMN"
        )
    place = found.index(columns[0])
    for line, cells in lines:
        if len(cells) != 2:
            why = "expected 2, separated by a comma, with spaces between numbers"
            fault = f"line {line} ({cells[0][:40]}): {len(cells)} cells; {why}"
            yield Block(cells[place] if len(cells) > place else "", f"line {line}", [], [fault])
        else:
            yield _block(line, cells[place], cells[1 - place], competition)


def _block(line: int, key: str, text: str, competition: Competition) -> Block:
    """Returns what a row has of its image."""
    own, name, tokens = competition.box_convention, f"line {line} ({key[:40]})", text.split()
    if tokens == (own.empty or "").split():
        return Block(key, name, [], [])
    num, entries, faults = len(own.fields), [], []
    if len(tokens) % num:
        wanted = f"a multiple of {num}: {' '.join(own.fields)} for each box"
        why = f"; for an image without boxes, {own.empty!r}" if own.empty is not None else ""
        return Block(key, name, [], [f"{name}: {len(tokens)} values; expected {wanted}{why}"])
    for start in range(0, len(tokens), num):
        box = f"{name}, box {start // num + 1}"
        entry = _entry(box, dict(zip(own.fields, tokens[start : start + num], strict=True)), layout(competition))
        (faults if isinstance(entry, str) else entries).append(entry)
    return Block(key, name, entries, faults)


def _entry(name: str, values: dict[str, str], names: tuple[str, ...]) -> Entry | str:
    """Returns a box, or why it is none."""
    numbers = {}
    for field in ("score", *names):
        try:
            numbers[field] = float(values[field])
        except ValueError:
            return f"{name}: the {field} is {values[field][:40]!r}; expected a number"
        if "_" in values[field] or not values[field].isascii():  # which only Python takes for a number
            return f"{name}: the {field} is {values[field][:40]!r}; expected a number"
    return Entry(name, values.get("class"), numbers["score"], tuple(numbers[field] for field in names))
