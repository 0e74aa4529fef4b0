"""Boxes in a JSON list as nuScenes writes them: `bbox_corners` (left, top, right, bottom), `category_name`, an image.

The image is `filename`, or where that is not given `sample_data_token`. An image without boxes is not in the list.

Source: image_annotations.json of the nuScenes devkit, script export_2d_annotations_as_json.py.
"""

from __future__ import annotations

from pathlib import Path

from pipeline.data.problems import Problem, make_problem
from pipeline.detection.annotations.table import (
    NO_NUMBERS,
    Row,
    Table,
    annotated,
    edges,
    four_numbers,
    load_json,
    shown_value,
)

WANTED = "a list of objects with `filename` or `sample_data_token`, `category_name` and `bbox_corners`"


def read_nuscenes(path: Path, file: str, competition: str) -> tuple[Table, list[Problem]]:
    """Returns the boxes of a JSON list by `filename` or `sample_data_token`, and the problems if it cannot be read.

    Args:
        file: how messages call it.
        competition: its name.
    """
    content, problems = load_json(path, file, WANTED, "BOXES.NUSCENES", competition)
    if problems:
        return Table(file, {}, False), problems
    rows: dict[str, list[Row]] = {}
    found = None if isinstance(content, list) else f"{type(content).__name__} at the top"
    for index, entry in enumerate(content if found is None else ()):
        name = (entry.get("filename") or entry.get("sample_data_token")) if isinstance(entry, dict) else None
        if not isinstance(name, str) or not isinstance(entry.get("category_name"), str):
            found = f"entry {index} has no image or no category_name"
            break
        numbers, place = four_numbers(entry.get("bbox_corners")), f"entry {index}"
        if numbers is None:
            place = f"{place}, bbox_corners {shown_value(entry.get('bbox_corners'))}"
        row = Row(entry["category_name"], place, edges(numbers, "xyxy") if numbers else NO_NUMBERS)
        rows.setdefault(name, []).append(row)
    if found is not None:
        return Table(file, {}, False), [
            make_problem("annotations unreadable", file, found, wanted=WANTED, competition=competition)
        ]
    return Table(file, {name: annotated(own) for name, own in rows.items()}, False), []
