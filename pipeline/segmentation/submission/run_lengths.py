"""Run lengths in a csv, a row per image and class: how rows are named, written and read back into masks.

In: index masks, or a csv, and the competition's convention. Out: a csv, or index masks (uint8, H, W; `IGNORE` where no
class has the pixel).
"""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.config.competition import Competition, Convention, split_row
from pipeline.data.csv_file import long_cells
from pipeline.errors import UserError
from pipeline.segmentation.labels import digest_classes, require_size
from pipeline.segmentation.submission import rle
from pipeline.submission.file import Sizes


class Row(NamedTuple):
    """One line of a submission: `key` names image and class, `line` counts from 1 (the header)."""

    line: int
    key: tuple[str, ...]
    text: str


def encode(image_id: str, mask_HW: np.ndarray, size: tuple[int, int], competition: Competition) -> bytes:
    """Returns the rows of one image, one per class that is submitted; that of an ignored class is empty.

    Raises:
        UserError: the mask is not of that (height, width).
    """
    require_size(image_id, mask_HW, size)
    convention = competition.convention
    texts = rle.encode(mask_HW, competition.num_classes, convention)
    texts += [convention.empty] * (len(competition.classes) - len(texts))
    rows = ((row_key(image_id, index, competition), texts[index]) for index in competition.submitted_indices)
    return "".join(write_line(join_cells(key, text, convention)) for key, text in rows).encode()


def write(path: Path, images: Iterable[tuple[str, bytes]], competition: Competition) -> None:
    """Writes a header and the rows of each image."""
    with open(path, "wb") as file:
        file.write(write_line(header_columns(competition.convention)).encode())
        file.writelines(rows for _, rows in images)


def digest(mask_HW: np.ndarray, competition: Competition) -> bytes:
    """Returns a hash of what the rows of an image hold of its mask."""
    return digest_classes(mask_HW, competition.scored_indices)


def read(
    path: Path, competition: Competition, sizes: Sizes, skipped: Iterable[str] = ()
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields id and index mask of each image that the file has rows of, in the order of `sizes`.

    Classes without a row are empty.

    Args:
        sizes: (height, width) of each image.
        skipped: images whose rows are not decoded.

    Raises:
        UserError: a row is of no image in `sizes`, appears twice or cannot be decoded; names line and row.
    """
    expected, not_decoded = expected_keys(sizes, competition), expected_keys(skipped, competition)
    texts: dict[str, dict[int, Row]] = {}
    for row in read_rows(path, competition.convention):
        image_id, class_index = expected.get(row.key, (None, None))
        if image_id is None and row.key in not_decoded:
            continue
        if image_id is None:
            raise UserError(
                f"{path}: {row_name(row)}: no row of the {len(sizes)} images times "
                f"{len(competition.submitted_indices)} classes of {competition.name}; expected rows such as "
                f"{','.join(next(iter(expected), ('none',)))}. Is it a submission to another competition?"
            )
        if class_index in texts.setdefault(image_id, {}):
            raise UserError(f"{path}: {row_name(row)}: the row appears twice")
        texts[image_id][class_index] = row
    for image_id, size in sizes.items():
        if image_id in texts:
            yield image_id, _decode_image(path, texts.pop(image_id), competition, size)


def list_ids(path: Path, competition: Competition) -> list[str]:
    """Returns the images that a csv has rows of, in its order.

    Raises:
        UserError: the file cannot be read, has no rows, or a row names no image and class.
    """
    keys = [row.key for row in read_rows(path, competition.convention)]
    has_class = competition.convention.rows == "id_class"  # in the cell of the image
    labels = {competition.labels[index] for index in competition.submitted_indices}
    ids = list(dict.fromkeys(split_row(key[0], labels)[0] if has_class else key[0] for key in keys))
    expected = expected_keys(ids, competition)
    unknown = next((key for key in keys if key not in expected), None)
    if unknown is not None or not keys:
        found = f"row {','.join(unknown)} names no image and class" if unknown else "no rows below the header"
        example = ",".join(row_key("<id>", competition.submitted_indices[0], competition))
        raise UserError(
            f"{path}: {found}; expected rows such as {example} of the {len(competition.submitted_indices)} classes. "
            f"It is read as a submission to {competition.name}."
        )
    return ids


def like_sample(competition: Competition, sample: Path | None) -> Competition:
    """Returns the competition with the columns in the order of its sample submission, where that has the same ones."""
    convention = competition.convention
    if sample is None or convention.columns is not None or competition.submission.format != "run_lengths":
        return competition
    header = next((tuple(cells) for _, cells in read_cells(sample)), ())
    columns = header_columns(convention)
    if list(header) == columns or sorted(header) != sorted(columns):
        return competition
    return replace(competition, convention=replace(convention, columns=header))


def header_columns(convention: Convention) -> list[str]:
    """Returns the column names that the first line must have, in order."""
    return list(convention.columns or [*_key_columns(convention), convention.value_column])


def join_cells(key: Sequence[str], text: str, convention: Convention) -> list[str]:
    """Returns the cells of a row in the order of the columns."""
    cells = dict(zip(_key_columns(convention), key, strict=True)) | {convention.value_column: text}
    return [cells[column] for column in header_columns(convention)]


def split_cells(cells: Sequence[str], convention: Convention) -> tuple[tuple[str, ...], str]:
    """Returns what names image and class in the cells of a row, and its run lengths."""
    by_column = dict(zip(header_columns(convention), cells, strict=True))
    return tuple(by_column[column] for column in _key_columns(convention)), by_column[convention.value_column]


def _key_columns(convention: Convention) -> list[str]:
    return [convention.id_column, *([convention.class_column] if convention.class_column else [])]


def row_key(image_id: str, class_index: int, competition: Competition) -> tuple[str, ...]:
    """Returns the cells that name image and class."""
    rows, label = competition.convention.rows, competition.labels[class_index]
    if rows == "id":
        return (image_id,)
    return (f"{image_id}_{label}",) if rows == "id_class" else (image_id, label)


def expected_keys(ids: Iterable[str], competition: Competition) -> dict[tuple[str, ...], tuple[str, int]]:
    """Returns, in the order of the file, the key of each row and the image and class that it names."""
    classes = competition.submitted_indices
    return {row_key(image_id, index, competition): (image_id, index) for image_id in ids for index in classes}


def read_cells(csv_path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yields line number and cells of each line that is not blank, the header first; cells are text, never numbers.

    Raises:
        UserError: there is no such file, it is not UTF-8, or its quotes do not close.
    """
    try:
        with long_cells(), open(csv_path, encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, strict=True)
            for cells in reader:
                if cells:
                    yield reader.line_num, cells
    except OSError as error:
        raise UserError(f"cannot read {csv_path}: {error.strerror}; expected a csv file of run lengths") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{csv_path} is not a csv file of UTF-8 text: {error}") from error


def read_rows(csv_path: Path, convention: Convention) -> Iterator[Row]:
    """Yields the rows after the header.

    Raises:
        UserError: the header or the number of cells of a row is not the convention's.
    """
    columns = header_columns(convention)
    lines = read_cells(csv_path)
    _, header = next(lines, (1, []))
    if header != columns and sorted(header) == sorted(columns):  # another order of the columns loses nothing
        convention = replace(convention, columns=tuple(header))
    elif header != columns:
        found = f"the first line is {','.join(header)[:80]!r}" if header else "the file is empty"
        raise UserError(f"{csv_path}: {found}; expected {','.join(columns)!r}")
    for line, cells in lines:
        if len(cells) != len(columns):
            raise UserError(f"{csv_path}: line {line} has {len(cells)} cells; expected {len(columns)}")
        yield Row(line, *split_cells(cells, convention))


def row_name(row: Row) -> str:
    """Returns how messages name a row.

    >>> row_name(Row(3, ("000001_001_1",), "0 2"))
    'line 3 (000001_001_1)'
    """
    return f"line {row.line} ({','.join(row.key)})"


def write_line(cells: Sequence[str]) -> str:
    """Returns one csv line with its line end; quotes only where a cell needs them.

    >>> write_line(["a,b", "0 2"])
    '"a,b",0 2\\n'
    """
    quoted = [f'"{cell.replace(chr(34), chr(34) * 2)}"' if set(cell) & set(',"\r\n') else cell for cell in cells]
    return ",".join(quoted) + "\n"


def _decode_image(
    csv_path: Path, rows: Mapping[int, Row], competition: Competition, size: tuple[int, int]
) -> np.ndarray:
    convention = competition.convention
    texts = [rows[index].text if index in rows else convention.empty for index in range(len(competition.classes))]
    try:
        return rle.decode_classes(texts, *size, convention)
    except rle.RleError as error:
        for row in rows.values():  # decoded again one by one only to name the line at fault
            try:
                rle.decode_classes([row.text], *size, convention)
            except rle.RleError as cause:
                raise UserError(f"{csv_path}: {row_name(row)}: {cause}") from cause
        first = min(rows.values())
        raise UserError(f"{csv_path}: rows from {row_name(first)} on: {error}") from error
