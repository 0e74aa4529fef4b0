"""Boxes in JSON: COCO's results, a list of boxes that name their image, and nuScenes', a list of boxes per image.

In: detections, or such a file, and BOX_CONVENTION. Out: the file, or its blocks. A file that is written has a line per
image.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from pipeline.config.box_convention import XYWH, XYXY
from pipeline.config.competition import Competition
from pipeline.detection.submission.entries import Block, Entry, find_number, joined, numbers_of
from pipeline.detection.submission.grid import Grid, texts_of
from pipeline.errors import UserError
from pipeline.paths import descriptor

NUMBER = re.compile(r"[0-9]+$")  # that an id ends with
COCO_KEYS = ("image_id", "category_id", "bbox", "score")


def coco_key(image_id: str, competition: Competition) -> str:
    """Returns the id of an image in COCO results, as text: its id, or the number at its end.

    Raises:
        UserError: a number is wanted, and the id does not end with one.
    """
    if competition.box_convention.image_id == "text":
        return image_id + competition.box_convention.id_suffix
    found = NUMBER.search(image_id)
    if found is None:
        raise UserError(
            f"image {image_id} does not end with a number, but BOX_CONVENTION.IMAGE_ID is number; set it to text in "
            f"{descriptor(competition.name)}"
        )
    return str(int(found.group()))


def encode_coco(image_id: str, grid: Grid, competition: Competition) -> str:
    """Returns the boxes of an image, separated by commas; "" if there are none."""
    key = coco_key(image_id, competition)
    shown = json.dumps(key) if competition.box_convention.image_id == "text" else key
    decimals = competition.box_convention.most_decimals
    return ", ".join(
        f'{{"image_id": {shown}, "category_id": {label}, "bbox": [{", ".join(numbers)}], "score": {score}}}'
        for label, score, *numbers in texts_of(grid, ("class", "score", *XYWH), competition.label_texts, decimals)
    )


def write_coco(path: Path, images: Iterable[tuple[str, bytes]], competition: Competition) -> None:
    """Writes a list of the boxes of all images."""
    _write(path, "[", (boxes for _, boxes in images if boxes), "]")


def parse_coco(path: Path, competition: Competition) -> Iterator[Block]:
    """Yields a block per image that has boxes.

    Raises:
        UserError: the file cannot be read, or is no list.
    """
    found = _load(path)
    if not isinstance(found, list):
        raise UserError(f"{path}: found {_kind(found)}; expected a list of boxes, each with {', '.join(COCO_KEYS)}")
    yield from joined([_coco_block(number, item, competition) for number, item in enumerate(found, start=1)])


def _coco_block(number: int, item: Any, competition: Competition) -> Block:
    """Returns a box as the block of its image."""
    name = f"entry {number}"
    if not isinstance(item, dict) or (missing := [key for key in COCO_KEYS if key not in item]):
        found = f"lacks {', '.join(missing)}" if isinstance(item, dict) else f"is {_kind(item)}"
        return Block("", name, [], [f"{name} {found}; expected {', '.join(COCO_KEYS)}"])
    image_id, label, numbers, score = (
        item["image_id"],
        item["category_id"],
        *(
            numbers_of(item["bbox"]),
            find_number(item["score"]),
        ),
    )
    name = f"{name} (image {str(image_id)[:40]})"
    wanted = str if competition.box_convention.image_id == "text" else int
    if not isinstance(image_id, wanted) or isinstance(image_id, bool):
        expected = "text in quotes" if wanted is str else "a whole number"
        why = f"image_id is {_kind(image_id)}; expected {expected}, see BOX_CONVENTION.IMAGE_ID"
        return Block("", name, [], [f"{name}: {why}"])
    faults = []
    if not isinstance(label, int) or isinstance(label, bool):
        faults.append(f"{name}: category_id is {_kind(label)}; expected a whole number")
    if numbers is None:
        faults.append(f"{name}: bbox is {_kind(item['bbox'])}; expected 4 numbers: {', '.join(XYWH)}")
    if score is None:
        faults.append(f"{name}: score is {_kind(item['score'])}; expected a number from 0 to 1")
    entries = [] if faults else [Entry(name, str(label), score, numbers)]
    return Block(str(image_id), name, entries, faults)


def token_key(image_id: str, competition: Competition) -> str:
    """Returns what nuScenes boxes call an image."""
    return image_id + competition.box_convention.id_suffix


def encode_nuscenes(image_id: str, grid: Grid, competition: Competition) -> str:
    """Returns an image with the list of its boxes."""
    own, token = competition.box_convention, json.dumps(token_key(image_id, competition))
    repeated = "" if own.token_key is None else f"{json.dumps(own.token_key)}: {token}, "
    names = (json.dumps(own.class_key), json.dumps(own.score_key))
    boxes = ", ".join(
        f'{{{repeated}"bbox_corners": [{", ".join(numbers)}], {names[0]}: {json.dumps(label)}, {names[1]}: {score}}}'
        for label, score, *numbers in texts_of(
            grid, ("class", "score", *XYXY), competition.label_texts, own.most_decimals
        )
    )
    return f"{token}: [{boxes}]"


def write_nuscenes(path: Path, images: Iterable[tuple[str, bytes]], competition: Competition) -> None:
    """Writes META and the boxes of each image."""
    meta = json.dumps(competition.box_convention.meta or {})
    _write(path, f'{{"meta": {meta}, "results": {{', (boxes for _, boxes in images), "}}")


def parse_nuscenes(path: Path, competition: Competition) -> Iterator[Block]:
    """Yields the block of each image.

    Raises:
        UserError: the file cannot be read, or has no `results` by image.
    """
    found = _load(path, refuses_twice=True)
    results = found.get("results") if isinstance(found, dict) else None
    if not isinstance(results, dict):
        seen = _kind(found) if not isinstance(found, dict) else f"keys {', '.join(map(repr, list(found)[:5]))}"
        raise UserError(f"{path}: found {seen}; expected `meta`, and `results` with a list of boxes for each image")
    for token, boxes in results.items():
        name = f"image {token[:40]}"
        if not isinstance(boxes, list):
            yield Block(token, name, [], [f"{name}: found {_kind(boxes)}; expected a list of boxes"])
            continue
        read = [_nuscenes_entry(f"{name}, box {n}", token, item, competition) for n, item in enumerate(boxes, 1)]
        entries, faults = ([one for one in read if isinstance(one, kind)] for kind in (Entry, str))
        yield Block(token, name, entries, faults)


def meta_faults(path: Path, competition: Competition) -> list[str]:
    """Returns a fault if the `meta` of nuScenes boxes differs from BOX_CONVENTION.META."""
    found, wanted = _load(path).get("meta"), competition.box_convention.meta
    if wanted is None or found == wanted:
        return []
    return [f"meta is {json.dumps(found)[:80]}; expected {json.dumps(wanted)}, see BOX_CONVENTION.META"]


def _nuscenes_entry(name: str, token: str, item: Any, competition: Competition) -> Entry | str:
    """Returns a box, or why it is none."""
    own = competition.box_convention
    keys = ("bbox_corners", own.class_key, own.score_key, *([own.token_key] if own.token_key else []))
    if not isinstance(item, dict) or (missing := [key for key in keys if key not in item]):
        found = f"lacks {', '.join(missing)}" if isinstance(item, dict) else f"is {_kind(item)}"
        return f"{name} {found}; expected {', '.join(keys)}"
    numbers, score, label = numbers_of(item["bbox_corners"]), find_number(item[own.score_key]), item[own.class_key]
    if numbers is None:
        return f"{name}: bbox_corners is {_kind(item['bbox_corners'])}; expected 4 numbers: {', '.join(XYXY)}"
    if score is None:
        return f"{name}: {own.score_key} is {_kind(item[own.score_key])}; expected a number from 0 to 1"
    if not isinstance(label, str):
        return f"{name}: {own.class_key} is {_kind(label)}; expected the label of a class, in quotes"
    if own.token_key and item[own.token_key] != token:
        return f"{name}: {own.token_key} is {str(item[own.token_key])[:40]!r}; expected the id of its image"
    return Entry(name, label, score, numbers)


def _write(path: Path, start: str, images: Iterable[bytes], end: str) -> None:
    """Writes the texts of images, a line each, with commas between them."""
    with open(path, "wb") as file:
        file.write(start.encode())
        for index, text in enumerate(images):
            file.write((b",\n" if index else b"\n") + text)
        file.write(f"\n{end}\n".encode())


def _load(path: Path, refuses_twice: bool = False) -> Any:
    """Returns the content of a JSON file.

    Raises:
        UserError: it cannot be read, or is not JSON; names line and column.
    """
    try:
        with open(path, encoding="utf-8-sig") as file:
            return json.load(file, object_pairs_hook=_once if refuses_twice else None)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}; expected a JSON file of boxes") from error
    except (ValueError, RecursionError) as error:  # of JSON, and of UTF-8
        raise UserError(f"{path} is not JSON: {error}; write the file again") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Returns a JSON object; refuses one that has a key twice, since only the last would be read."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r} appears twice")
    return found


def _kind(value: Any) -> str:
    """Returns a JSON value in words.

    >>> _kind([1, 2]), _kind("a"), _kind(None), _kind(2.5)
    ('a list of 2', "the text 'a'", 'null', '2.5')
    """
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return f"the text {value[:40]!r}" if isinstance(value, str) else json.dumps(value)
