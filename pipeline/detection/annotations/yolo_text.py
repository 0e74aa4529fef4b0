"""Boxes in text files in YOLO's format, one per image: a line is class index, centre x, centre y, width and height.

All four numbers are fractions of the image's sides. An empty file means that the image has no boxes.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.data.problems import Problem, make_problem
from pipeline.detection.annotations.table import NO_NUMBERS, Annotated, Row, annotated, edges, four_numbers, shown_value

WANTED = "lines of class index, centre x, centre y, width and height, as fractions of the image's sides"


def read_yolo(path: Path, file: str, competition: str) -> tuple[Annotated, list[Problem]]:
    """Returns the boxes of a text file, as shares of the image's sides, and what is wrong with its lines.

    Args:
        file: how messages call it.
        competition: its name.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        found = (error.strerror if isinstance(error, OSError) else None) or str(error)
        return annotated([]), [_unreadable(file, found, competition)]
    rows, problems = [], []
    for number, line in enumerate(lines, start=1):
        cells = line.split()
        if not cells:
            continue
        if len(cells) != 5:
            why = "; polygons and scores are not supported" if len(cells) > 5 else ""
            problems.append(_unreadable(file, f"line {number}: {len(cells)} values, expected 5{why}", competition))
            continue
        numbers, place = four_numbers(cells[1:]), f"line {number}"
        if numbers is None:
            place = f"{place}, {shown_value(line)}"
        rows.append(Row(cells[0], place, edges(numbers, "cxcywh") if numbers else NO_NUMBERS))
    return annotated(rows), problems


def _unreadable(file: str, found: str, competition: str) -> Problem:
    return make_problem("annotations unreadable", file, found, wanted=WANTED, competition=competition)
