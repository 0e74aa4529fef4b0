"""Boxes in a COCO file: JSON with `images`, `annotations` and `categories`; `bbox` is left, top, width, height.

Source: the format description at https://cocodataset.org/#format-data. `iscrowd: 1` marks a crowd. So does `ignore: 1`,
by which files of CrowdHuman and CityPersons mark what is neither an object to find nor background; COCO has none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

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

WANTED = "a COCO file: an object with lists `images`, `annotations` and `categories`"
PARTS = ("images", "annotations", "categories")
# What an entry of each list must have.
NEEDED = {"images": ("id", "file_name"), "annotations": ("id", "image_id", "category_id"), "categories": ("id", "name")}


def read_coco(path: Path, file: str, key: str, competition: str) -> tuple[Table, list[Problem]]:
    """Returns the boxes of a COCO file by `file_name`, and the problems if the file cannot be read.

    Args:
        file: how messages call it.
        key: the descriptor's key that names it.
        competition: its name.
    """
    content, problems = load_json(path, file, WANTED, key, competition)
    if problems:
        return Table(file, {}, True), problems
    if found := wrong_form(content):
        return Table(file, {}, True), [
            make_problem("annotations unreadable", file, found, wanted=WANTED, competition=competition)
        ]
    strays = [_problem("number twice", file, found) for part in PARTS for found in _twice(content[part], part)]
    names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    rows: dict[Any, list[Row]] = {entry["id"]: [] for entry in content["images"]}
    for entry in content["annotations"]:
        place = f"annotation {entry['id']}"
        if entry["image_id"] not in rows:
            strays.append(_problem("box of no image", file, f"{place}: image_id {shown_value(entry['image_id'])}"))
            continue
        numbers = four_numbers(entry.get("bbox"))
        if numbers is None:
            place = f"{place}, bbox {shown_value(entry.get('bbox'))}"
        label = names.get(entry["category_id"], f"category_id {entry['category_id']}, not in categories")
        is_crowd = 1 in (entry.get("iscrowd"), entry.get("ignore"))
        rows[entry["image_id"]].append(Row(label, place, edges(numbers, "xywh") if numbers else NO_NUMBERS, is_crowd))
    images = {}
    for entry in content["images"]:
        name = str(entry["file_name"])
        if name in images:
            strays.append(
                _problem(
                    "image annotated twice", file, f"image {entry['id']}: {name!r} is also the name of an earlier entry"
                )
            )
            continue
        images[name] = annotated(rows[entry["id"]], _size_of(entry))
    return Table(file, images, True, strays), []


def _problem(kind: str, file: str, found: str) -> Problem:
    return make_problem(kind, file, found)


def wrong_form(content: Any) -> str | None:
    """Returns how the content differs from the form of a COCO file; None if it does not."""
    if not isinstance(content, dict):
        return f"{type(content).__name__} at the top"
    for part in PARTS:
        entries = content.get(part)
        if not isinstance(entries, list):
            return f"no list {part!r}; it has {', '.join(map(str, list(content)[:6])) or 'nothing'}"
        for index, entry in enumerate(entries):
            lacks = [key for key in NEEDED[part] if not isinstance(entry, dict) or not _is_plain(entry.get(key))]
            if lacks:
                return f"entry {index} of {part!r} has no {lacks[0]!r} that is a number or a text"
    return None


def _is_plain(value: Any) -> bool:
    return isinstance(value, int | str) and not isinstance(value, bool)


def _twice(entries: list[dict[str, Any]], part: str) -> list[str]:
    """Returns the numbers that a list gives several times, in words."""
    counts: dict[Any, int] = {}
    for entry in entries:
        counts[entry["id"]] = counts.get(entry["id"], 0) + 1
    return [f"{part}: id {shown_value(number)} appears {count} times" for number, count in counts.items() if count > 1]


def _size_of(entry: dict[str, Any]) -> tuple[int, int] | None:
    size = entry.get("height"), entry.get("width")
    return size if all(isinstance(side, int) and side > 0 for side in size) else None
