"""COCO files of an unknown folder: which has the boxes of the training images, which those for validation."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from pipeline.config.template import CONVERT
from pipeline.detection.annotations.coco_json import wrong_form
from pipeline.detection.annotations.table import four_numbers
from pipeline.detection.discovery.annotations import Annotations, Remark, stem_of, subset_of

MOST_FILES, MOST_BYTES = 20, 2**30  # JSON files that are read: the largest, but none larger than this


class CocoFile(NamedTuple):
    """A COCO file with boxes.

    Attributes:
        stems: of the images that it names.
        num_matched: how many of these are in the folder.
        names: of the categories by id.
        used: the ids of those that have boxes.
        numbers: the ids of the images, by their stems.
    """

    file: str
    subset: str
    stems: set[str]
    num_matched: int
    num_boxes: int
    names: dict[Any, str]
    used: set[Any]
    numbers: dict[str, Any]
    has_outlines: bool


def find_coco(folder: Path, paths: Sequence[str], stems: set[str]) -> Annotations | None:
    """Returns the boxes of the COCO files in a folder; None where none names images that are there.

    Args:
        paths: of all files.
        stems: of the images.
    """
    sizes = {path: (folder / path).stat().st_size for path in paths if path.lower().endswith(".json")}
    largest = sorted(sizes, key=lambda path: (-sizes[path], path))[:MOST_FILES]
    read = (_read(folder / path, path, stems) for path in largest if sizes[path] <= MOST_BYTES)
    files = [one for one in read if one is not None]
    train = _best(files, "train", "") or _best(files, "valid") or _best(files, "test")
    if train is None:
        return None
    valid = _best(files, "valid") if train.subset != "valid" else None
    used = [one for one in (train, valid) if one]
    form = {"COCO": train.file} | ({"VALID_COCO": valid.file} if valid else {})
    names = {number: name for one in used for number, name in one.names.items() if number in train.used | one.used}
    numbers = sorted(names, key=lambda number: (isinstance(number, str), number))
    classes = list(dict.fromkeys(names[number] for number in numbers))
    text = " and ".join(f"{one.file} has {one.num_boxes:,} boxes in {len(one.stems):,} images" for one in used)
    return Annotations(form, text, {stem for one in used for stem in one.stems}, classes, _remarks(used, files, names))


def result_numbers(annotations: Annotations, folder: Path) -> tuple[list[str], bool]:
    """Returns the category id of each class, as text, and whether the ids of images are the numbers at their ends."""
    one = _read(folder / annotations.form["COCO"], annotations.form["COCO"], annotations.stems)
    ids = {name: str(number) for number, name in reversed(one.names.items())}
    are_numbers = all(stem.lstrip("0") == str(number) for stem, number in one.numbers.items())
    return [ids.get(name, name) for name in annotations.classes], are_numbers


def _best(files: Sequence[CocoFile], *subsets: str) -> CocoFile | None:
    own = [one for one in files if one.subset in subsets]
    rank = {subset: index for index, subset in enumerate(subsets)}
    return max(
        own,
        key=lambda one: (one.num_matched > 0, -rank[one.subset], "instances" in one.file, one.num_boxes),
        default=None,
    )


def _read(path: Path, file: str, stems: set[str]) -> CocoFile | None:
    """Returns a COCO file; None where it is another JSON file, has no boxes, or none of images in the folder."""
    try:
        content = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return None
    if wrong_form(content) is not None:
        return None
    boxes = [entry for entry in content["annotations"] if four_numbers(entry.get("bbox"))]
    numbers = {stem_of(str(entry["file_name"])): entry["id"] for entry in content["images"]}
    num_matched = len(numbers.keys() & stems)
    if not boxes or not num_matched:
        return None
    names = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
    used = {entry["category_id"] for entry in boxes} & names.keys()
    has_outlines = any(entry.get("segmentation") for entry in boxes)
    return CocoFile(file, subset_of(file), set(numbers), num_matched, len(boxes), names, used, numbers, has_outlines)


def _remarks(used: Sequence[CocoFile], files: Sequence[CocoFile], names: dict[Any, str]) -> list[Remark]:
    remarks = [Remark("SURE", "CLASSES", f"the categories of {used[0].file}, by their ids")]
    if outlines := [one.file for one in used if one.has_outlines]:
        text = f"{outlines[0]} also has outlines, which are not read; to segment, draw them into PNGs once: {CONVERT}"
        remarks.append(Remark("GUESS", "BOXES", text))
    if others := [one.file for one in files if one not in used]:
        remarks.append(Remark("GUESS", "BOXES", f"not used: {', '.join(others)}"))
    left = [name for number, name in used[0].names.items() if number not in names]
    if left:
        remarks.append(Remark("GUESS", "CLASSES", f"categories without a box are left out: {', '.join(left)}"))
    return remarks
