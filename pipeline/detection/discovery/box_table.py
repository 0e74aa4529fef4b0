"""A csv of boxes in an unknown folder: which columns have the image, the class and the four numbers, in which order."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.discovery.lists import Listing
from pipeline.data.discovery.names import words_of
from pipeline.data.discovery.sizes import size_of, spread
from pipeline.detection.annotations.boxes_csv import NO_BOX, split_numbers
from pipeline.detection.annotations.table import edges, four_numbers
from pipeline.detection.discovery.annotations import OBJECT, Annotations, Remark, numbered, stem_of

CLASS_WORDS = frozenset(("class", "classname", "label", "category", "name", "type", "species", "object"))
KNOWN = 0.5  # share of a column's cells that are images of the folder, if it is the column of ids
MOST = 0.9  # share of a column's cells that are four numbers, if the column has boxes
ALLOWED = 1.02  # how much of its image a box may reach to, as annotations are not exact
NUM_TRIED = 200  # cells by which a column is known
# How columns of single numbers are called, in lower case and without signs, by the order of their numbers.
NAMED = {
    "xyxy": (("xmin", "ymin", "xmax", "ymax"), ("x1", "y1", "x2", "y2"), ("left", "top", "right", "bottom"),
             ("x0", "y0", "x1", "y1"), ("minx", "miny", "maxx", "maxy"), ("xstart", "ystart", "xend", "yend")),
    "cxcywh": (("xcenter", "ycenter", "width", "height"), ("centerx", "centery", "width", "height"),
               ("cx", "cy", "w", "h"), ("xcenter", "ycenter", "w", "h")),
    "xywh": (("x", "y", "width", "height"), ("x", "y", "w", "h"), ("left", "top", "width", "height"),
             ("xmin", "ymin", "width", "height"), ("xmin", "ymin", "w", "h"),
             ("bboxx", "bboxy", "bboxwidth", "bboxheight")),
}  # fmt: skip


def find_table(listings: Sequence[Listing], images: Mapping[str, Path]) -> Annotations | None:
    """Returns the boxes of the largest csv that has some; None where none has boxes of images in the folder.

    Args:
        images: the files of the images by their stems.
    """
    for listing in sorted(listings, key=lambda one: (-one.num_rows, one.file)):
        if listing.is_sample or (id_column := _id_column(listing, images)) is None:
            continue
        form = _four_columns(listing) or _one_column(listing, id_column)
        if form is not None:
            return _annotations(listing, id_column, form, images)
    return None


def _id_column(listing: Listing, stems: Collection[str]) -> str | None:
    shares = {
        column: sum(stem_of(cell) in stems for cell in cells) / max(1, len(cells))
        for column, cells in listing.columns.items()
    }
    best = max(shares, key=shares.get, default=None)
    return best if best is not None and shares[best] >= KNOWN else None


def _four_columns(listing: Listing) -> dict[str, Any] | None:
    """Returns ORDER and COLUMNS of four columns that are called so and have numbers."""
    by_name = {"".join(filter(str.isalnum, column.lower())): column for column in listing.columns}
    for order, names in NAMED.items():
        for four in names:
            if all(name in by_name for name in four):
                columns = [by_name[name] for name in four]
                rows = zip(*(listing.columns[column] for column in columns), strict=True)
                given = [row for row in rows if any(cell not in NO_BOX for cell in row)][:NUM_TRIED]
                if given and sum(four_numbers(list(row)) is not None for row in given) >= MOST * len(given):
                    return {"COLUMNS": columns, "ORDER": order}
    return None


def _one_column(listing: Listing, id_column: str) -> dict[str, Any] | None:
    """Returns BOX_COLUMN of a column whose cells are four numbers each."""
    for column, cells in listing.columns.items():
        given = [cell for cell in cells if cell not in NO_BOX][:NUM_TRIED]
        num = sum(four_numbers(split_numbers(cell)) is not None for cell in given)
        if column != id_column and given and num >= MOST * len(given):
            return {"BOX_COLUMN": column}
    return None


def _annotations(listing: Listing, id_column: str, form: dict[str, Any], images: Mapping[str, Path]) -> Annotations:
    columns = form.get("COLUMNS", [form.get("BOX_COLUMN")])
    rows = list(zip(*(listing.columns[column] for column in columns), strict=True))
    numbers = [four_numbers(list(row) if "COLUMNS" in form else split_numbers(row[0])) for row in rows]
    has_box = [one is not None and all(map(math.isfinite, one)) for one in numbers]
    remarks = []
    own = np.array([one for one, has in zip(numbers, has_box, strict=True) if has]).reshape(-1, 4)
    is_normalised = len(own) > 0 and own.max() <= 1 and (own % 1 > 0).any()
    if "ORDER" not in form:
        cells = [stem_of(cell) for cell in listing.columns[id_column]]
        boxes = [(stem, one) for stem, one, has in zip(cells, numbers, has_box, strict=True) if has]
        sizes = {stem: size_of(images[stem]) for stem in spread(sorted({stem for stem, _ in boxes} & images.keys()))}
        known = [
            ((1, 1) if is_normalised else sizes[stem], one) for stem, one in boxes if 0 not in sizes.get(stem, (0,))
        ]
        form["ORDER"], text = _order(known)
        remarks.append(Remark("GUESS", "BOXES", text))
    if is_normalised:
        form["NORMALISED"] = True
        text = "no coordinate is above 1, so boxes seem to be in fractions of the image's sides"
        remarks.append(Remark("GUESS", "BOXES", text))
    labelled = {
        column: [cell for cell, has in zip(cells, has_box, strict=True) if has]
        for column, cells in listing.columns.items()
    }
    class_column, classes, found = _classes(labelled, {id_column, *columns})
    keys = {"CSV": listing.file, "ID_COLUMN": id_column} | ({"CLASS_COLUMN": class_column} if class_column else {})
    text = f"{listing.file} has {sum(has_box):,} boxes, a row each"
    stems = {stem_of(cell) for cell in listing.columns[id_column]}
    return Annotations(keys | form, text, stems, classes, [*remarks, *found], listing=listing)


def _order(known: Sequence[tuple[tuple[int, int], Sequence[float]]]) -> tuple[str, str]:
    """Returns how four numbers are read with fewest boxes that are inside out or leave their image, and why.

    >>> _order([((64, 48), (30, 10, 60, 40))])[0], _order([((64, 48), (30, 10, 20, 5))])[0], _order([])[0]
    ('xyxy', 'xywh', 'xywh')
    """
    wrong = {}
    for order in ("xywh", "xyxy"):
        boxes = [(size, edges(numbers, order)) for size, numbers in known]
        wrong[order] = sum(
            right <= left or bottom <= top or right > width * ALLOWED or bottom > height * ALLOWED
            for (width, height), (left, top, right, bottom) in boxes
        )
    best = min(wrong, key=wrong.get)
    words = {"xywh": "left, top, width, height", "xyxy": "left, top, right, bottom"}[best]
    if wrong["xywh"] == wrong["xyxy"]:
        return (
            best,
            f"{words} is assumed; the boxes do not show whether they have width and height, or right and bottom",
        )
    num = max(wrong.values())
    return (
        best,
        f"read as {words}, {wrong[best]:,} of {len(known):,} boxes do not fit their image; in the other order, {num:,}",
    )


def _classes(columns: Mapping[str, Sequence[str]], others: set[str]) -> tuple[str | None, list[str], list[Remark]]:
    """Returns the column of classes, their names, and notes.

    Args:
        columns: the cells of the rows with a box, by column.
        others: columns that have other values.
    """
    named = [column for column in columns if column not in others and {*words_of(column)} & CLASS_WORDS]
    named = [column for column in named if columns[column] and "" not in columns[column]]
    texts = [column for column in named if not all(cell.isdecimal() for cell in columns[column])]
    numbers = [column for column in named if column not in texts]
    if not texts and not numbers:
        return None, [OBJECT], [Remark("GUESS", "CLASSES", "no column has classes, so one class is assumed; name it")]
    if not texts:
        labels = numbered({*columns[numbers[0]]})
        names = [f"Class {label}" for label in labels]
        text = f"{numbers[0]} has the labels {', '.join(labels)}; name the classes, in this order"
        remarks = [Remark("GUESS", "CLASSES", text)]
        if labels != [str(index) for index in range(len(labels))]:
            remarks.append(Remark("SURE", "CLASS_LABELS", f"the cells of {numbers[0]}", (labels,)))
        return numbers[0], names, remarks
    column = min(texts, key=lambda one: len({*columns[one]}))
    names = sorted({*columns[column]})
    for number in numbers:
        label_of = dict(zip(columns[column], columns[number], strict=True))
        if len({*zip(columns[column], columns[number], strict=True)}) == len(names) == len({*label_of.values()}):
            names.sort(key=lambda name: int(label_of[name]))
            labels = [label_of[name] for name in names]
            named = Remark("SURE", "CLASSES", f"the cells of {column}, in the order of {number}")
            return column, names, [named, Remark("GUESS", "CLASS_LABELS", f"the numbers in {number}", (labels,))]
    return column, names, [Remark("GUESS", "CLASSES", f"the cells of {column}, in alphabetical order")]
