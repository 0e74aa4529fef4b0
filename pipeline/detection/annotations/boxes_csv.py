"""Boxes in a csv: a row per box, with its four numbers in four columns or in one.

A cell that has all four may be in brackets, as in "[834.0, 222.0, 56.0, 36.0]" of the Global Wheat Detection. A row
without numbers names an image that has no box. An image may have no row.
"""

from __future__ import annotations

import math
from pathlib import Path

from pipeline.config.box_form import BoxForm
from pipeline.data.csv_file import read_csv
from pipeline.data.problems import Problem
from pipeline.detection.annotations.table import NO_NUMBERS, Row, Table, annotated, edges, four_numbers, shown_value

NO_BOX = frozenset(("", "[]"))  # texts of an image without boxes


def read_boxes_csv(path: Path, form: BoxForm, id_column: str, competition: str) -> tuple[Table, list[Problem]]:
    """Returns the boxes of a csv by the image's id, and the problems if the file cannot be read.

    Args:
        form: the keys BOXES of the descriptor.
        id_column: of the competition's lists, where BOXES has none.
        competition: its name.
    """
    own_id = form.id_column or id_column
    numbers_in = (form.box_column,) if form.box_column else form.columns
    columns = {own_id: "ID_COLUMN of BOXES"}
    columns |= {form.class_column: "CLASS_COLUMN of BOXES"} if form.class_column else {}
    columns |= dict.fromkeys(numbers_in, "BOX_COLUMN of BOXES" if form.box_column else "COLUMNS of BOXES")
    lines, problems = read_csv(path, form.csv, columns, competition, "BOXES.CSV")
    rows: dict[str, list[Row]] = {}
    for line, cells in lines:
        own = rows.setdefault(cells[own_id], [])
        texts = [cells[column] for column in numbers_in]
        if all(text in NO_BOX for text in texts):
            continue
        numbers = four_numbers(split_numbers(texts[0]) if form.box_column else texts)
        if numbers is None or not all(map(math.isfinite, numbers)):
            place, sides = f"line {line}, {shown_value(', '.join(texts))}", NO_NUMBERS
        else:
            place, sides = f"line {line}", edges(numbers, form.order, form.first)
        own.append(Row(cells[form.class_column] if form.class_column else "", place, sides))
    return Table(form.csv, {name: annotated(own) for name, own in rows.items()}, False), problems


def split_numbers(text: str) -> list[str]:
    """Returns the numbers of a cell: separated by commas or spaces, in brackets or not.

    >>> split_numbers("[834.0, 222.0, 56.0, 36.0]"), split_numbers("1 2 3 4")
    (['834.0', '222.0', '56.0', '36.0'], ['1', '2', '3', '4'])
    """
    return text.strip("[]()").replace(",", " ").replace(";", " ").split()
