"""Run lengths in a csv, a row per image and class: how rows are named, written and read back into masks.

In: masks, or a csv, and the competition's convention. Out: a csv, or masks: index masks (uint8, H, W; `IGNORE` where no
class has the pixel), or planes where a pixel may have several classes. Where OBJECTS is given, masks are object maps
(see `objects.py`): an image and class have a row per object, by its top row, then its left pixel, or without any object
one empty row; with EMPTY_ROWS: image an image without any object has one, of the first submitted class.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.config.competition import IGNORE, Competition, Convention, split_row
from pipeline.data.csv_file import read_cells, write_line
from pipeline.errors import UserError
from pipeline.segmentation.labels import digest_classes, require_size
from pipeline.segmentation.objects import NUMBER, digest_objects, renumbered
from pipeline.segmentation.planes import from_bool, is_present
from pipeline.segmentation.submission import rle
from pipeline.submission.file import Sizes

EXPECTED = "a csv file of run lengths"  # for messages


class Row(NamedTuple):
    """One line of a submission: `key` names image and class, `line` counts from 1 (the header)."""

    line: int
    key: tuple[str, ...]
    text: str


def encode(image_id: str, mask_HW: np.ndarray, size: tuple[int, int], competition: Competition) -> bytes:
    """Returns the rows of one image, by class that is submitted; that of an ignored class is empty.

    Raises:
        UserError: the mask is not of that (height, width).
    """
    require_size(image_id, mask_HW, size)
    texts = _object_texts(mask_HW, competition) if competition.has_objects else _class_texts(mask_HW, competition)
    empty, indices = [competition.convention.empty], competition.submitted_indices
    if competition.has_objects and competition.objects.empty_rows == "image":
        indices = [index for index in indices if texts[index]] or indices[:1]
    rows = (
        join_cells(row_key(image_id, index, competition), text, competition.convention)
        for index in indices
        for text in texts[index] or empty
    )
    return "".join(map(write_line, rows)).encode()


def _class_texts(mask_HW: np.ndarray, competition: Competition) -> list[list[str]]:
    """Returns one text by class index, none for an ignored class."""
    if mask_HW.ndim == 3:
        planes = np.where(is_present(mask_HW), np.uint8(0), np.uint8(IGNORE))
        return [rle.encode(plane, 1, competition.convention) for plane in np.moveaxis(planes, -1, 0)]
    texts = rle.encode(mask_HW, competition.num_classes, competition.convention)
    return [[text] for text in texts] + [[]] * (len(competition.classes) - len(texts))


def _object_texts(map_HW: np.ndarray, competition: Competition) -> list[list[str]]:
    """Returns a text per object by class index, in the order in which `renumbered` numbers objects."""
    map_HW, texts = renumbered(map_HW), [[] for _ in competition.classes]
    codes = np.unique(map_HW[map_HW >= NUMBER])
    positions_HW = np.where(map_HW >= NUMBER, map_HW // NUMBER - 1, len(codes)).astype(np.int32)
    encoded = rle.encode(positions_HW, len(codes), competition.convention)
    for code, text in zip(codes.tolist(), encoded, strict=True):
        texts[code % NUMBER].append(text)
    return texts


def write(path: Path, images: Iterable[tuple[str, bytes]], competition: Competition) -> None:
    """Writes a header and the rows of each image."""
    with open(path, "wb") as file:
        file.write(write_line(header_columns(competition.convention)).encode())
        file.writelines(rows for _, rows in images)


def digest(mask_HW: np.ndarray, competition: Competition) -> bytes:
    """Returns a hash of what the rows of an image hold of its mask."""
    digest_of = digest_objects if competition.has_objects else digest_classes
    return digest_of(mask_HW, competition.scored_indices)


def read(
    path: Path, competition: Competition, sizes: Sizes, skipped: Iterable[str] = ()
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields id and mask of each image that the file has rows of, in the order of `sizes`.

    Classes without a row are empty.

    Args:
        sizes: (height, width) of each image.
        skipped: images whose rows are not decoded.

    Raises:
        UserError: a row is of no image in `sizes`, appears twice without being an object's, or cannot be decoded; names
            line and row.
    """
    expected, not_decoded = expected_keys(sizes, competition), expected_keys(skipped, competition)
    rows: dict[str, dict[int, list[Row]]] = {}
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
        of_class = rows.setdefault(image_id, {}).setdefault(class_index, [])
        if of_class and not competition.has_objects:
            raise UserError(f"{path}: {row_name(row)}: the row appears twice")
        of_class.append(row)
    for image_id, size in sizes.items():
        if image_id in rows:
            yield image_id, _decode_image(path, rows.pop(image_id), competition, size)


def list_ids(path: Path, competition: Competition) -> list[str]:
    """Returns the images that a csv has rows of, in its order.

    Raises:
        UserError: the file cannot be read, has no rows, or a row names no image and class.
    """
    keys = [row.key for row in read_rows(path, competition.convention)]
    has_class = competition.convention.rows == "id_class"  # in the cell of the image
    labels = {competition.label_texts[index] for index in competition.submitted_indices}
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
    header = next((tuple(cells) for _, cells in read_cells(sample, EXPECTED)), ())
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
    rows, label = competition.convention.rows, competition.label_texts[class_index]
    if rows == "id":
        return (image_id,)
    return (f"{image_id}_{label}",) if rows == "id_class" else (image_id, label)


def expected_keys(ids: Iterable[str], competition: Competition) -> dict[tuple[str, ...], tuple[str, int]]:
    """Returns, in the order of the file, the key of each row and the image and class that it names."""
    classes = competition.submitted_indices
    return {row_key(image_id, index, competition): (image_id, index) for image_id in ids for index in classes}


def read_rows(csv_path: Path, convention: Convention) -> Iterator[Row]:
    """Yields the rows after the header.

    Raises:
        UserError: the header or the number of cells of a row is not the convention's.
    """
    columns = header_columns(convention)
    lines = read_cells(csv_path, EXPECTED)
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


def _decode_image(
    csv_path: Path, rows: Mapping[int, list[Row]], competition: Competition, size: tuple[int, int]
) -> np.ndarray:
    convention = competition.convention
    try:
        return _object_map(rows, size, convention) if competition.has_objects else _index_mask(rows, size, competition)
    except rle.RleError as error:
        in_order = [row for own in rows.values() for row in own]
        for row in in_order:  # decoded again one by one only to name the line at fault
            try:
                rle.decode_classes([row.text], *size, convention)
            except rle.RleError as cause:
                raise UserError(f"{csv_path}: {row_name(row)}: {cause}") from cause
        raise UserError(f"{csv_path}: rows from {row_name(min(in_order))} on: {error}") from error


def _index_mask(rows: Mapping[int, list[Row]], size: tuple[int, int], competition: Competition) -> np.ndarray:
    """Returns the index mask, or the planes, of the rows of an image."""
    num_classes, convention = len(competition.classes), competition.convention
    texts = [rows[index][0].text if index in rows else convention.empty for index in range(num_classes)]
    if competition.is_multilabel:
        return from_bool(np.stack([rle.decode_classes([text], *size, convention) == 0 for text in texts], -1))
    return rle.decode_classes(texts, *size, convention)


def _object_map(rows: Mapping[int, list[Row]], size: tuple[int, int], convention: Convention) -> np.ndarray:
    """Returns the object map of the rows of an image, by class index; `IGNORE` where there is no object."""
    objects = [(index, row.text) for index, own in rows.items() for row in own if row.text != convention.empty]
    numbers_HW = rle.decode_objects([text for _, text in objects], *size, convention)
    codes = np.array([IGNORE, *(number * NUMBER + index for number, (index, _) in enumerate(objects, start=1))])
    return renumbered(codes.astype(np.int32)[numbers_HW])
