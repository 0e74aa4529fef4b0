"""The formats of boxes as a table, and the functions that all share: encoding, writing and reading.

`kind` is always the name of the format.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config.box_convention import XYWH, XYXY
from pipeline.config.competition import Competition
from pipeline.detection.boxes import Detections, clip_boxes
from pipeline.detection.submission import json_boxes, prediction_string
from pipeline.detection.submission.entries import Block, detections_of, entry_fault, labels_of
from pipeline.detection.submission.grid import Grid, Size, on_grid
from pipeline.errors import UserError
from pipeline.submission.file import Sizes

MOST_OUTSIDE_PX = 0.5  # by rounding, boxes may exceed the border by less than half a pixel


@dataclass(frozen=True)
class Kind:
    """A format of boxes.

    Attributes:
        file_key: (id, competition) to what the file calls an image.
        lists_all: (competition) to whether an image without boxes is in the file, too.
        layout: (competition) to which four numbers give a box, in their order.
        encode: (id, boxes in steps, competition) to the text that the file has of an image.
        write: (path, pairs of id and bytes, competition) writes the file.
        parse: (path, competition) yields the blocks of a file, in its order.
        file_faults: (path, competition) to what is wrong beside the boxes.
    """

    file_key: Callable[[str, Competition], str]
    lists_all: Callable[[Competition], bool]
    layout: Callable[[Competition], tuple[str, ...]]
    encode: Callable[[str, Grid, Competition], str]
    write: Callable[[Path, Iterable[tuple[str, bytes]], Competition], None]
    parse: Callable[[Path, Competition], Iterator[Block]]
    file_faults: Callable[[Path, Competition], list[str]] = lambda path, competition: []


KINDS = {
    "prediction_string": Kind(
        prediction_string.file_key,
        prediction_string.lists_all,
        prediction_string.layout,
        prediction_string.encode,
        prediction_string.write,
        prediction_string.parse,
    ),
    "coco_results": Kind(
        json_boxes.coco_key,
        lambda competition: False,
        lambda competition: XYWH,
        json_boxes.encode_coco,
        json_boxes.write_coco,
        json_boxes.parse_coco,
    ),
    "nuscenes_boxes": Kind(
        json_boxes.token_key,
        lambda competition: True,
        lambda competition: XYXY,
        json_boxes.encode_nuscenes,
        json_boxes.write_nuscenes,
        json_boxes.parse_nuscenes,
        json_boxes.meta_faults,
    ),
}


def encode(image_id: str, found: Detections, size: Size, competition: Competition, kind: str) -> bytes:
    """Returns what the file has of an image; boxes are cut at its borders.

    Raises:
        UserError: a number is not finite, a score not from 0 to 1, a class unknown, or a box is not of an image of that
            (height, width).
    """
    why = _why_impossible(found, size, competition)
    if why is not None:
        raise UserError(f"the boxes of {image_id} cannot be written: {why}")
    return KINDS[kind].encode(image_id, on_grid(found, size, competition), competition).encode()


def _why_impossible(found: Detections, size: Size, competition: Competition) -> str | None:
    """Returns what is wrong with detections, None where nothing is."""
    if not (np.isfinite(found.xyxy).all() and np.isfinite(found.scores).all()):
        return "a coordinate or score is not a finite number"
    if ((found.scores < 0) | (found.scores > 1)).any():
        return f"scores are {found.scores.min():g} to {found.scores.max():g}; expected 0 to 1"
    if ((found.classes < 0) | (found.classes >= len(competition.classes))).any():
        most = len(competition.classes) - 1
        return f"class indices are {found.classes.min()} to {found.classes.max()}; expected 0 to {most}"
    beyond_N4 = np.abs(found.xyxy - clip_boxes(found.xyxy, size))
    if (beyond_N4 > MOST_OUTSIDE_PX).any():
        box = found.xyxy[beyond_N4.max(1).argmax()].tolist()
        return f"{', '.join(f'{value:g}' for value in box)} reaches beyond its image of {size[1]}x{size[0]} pixels"
    return None


def write(path: Path, images: Iterable[tuple[str, bytes]], competition: Competition, kind: str) -> None:
    """Writes the file of encoded images."""
    KINDS[kind].write(path, images, competition)


def keys_of(ids: Iterable[str], competition: Competition, kind: str) -> dict[str, str]:
    """Returns the id of each image by its key in the file.

    Raises:
        UserError: two images have the same key.
    """
    found: dict[str, str] = {}
    for image_id in ids:
        key = KINDS[kind].file_key(image_id, competition)
        if found.setdefault(key, image_id) != image_id:
            raise UserError(f"{found[key]} and {image_id} are both {key} in a submission; write IMAGE_ID: text")
    return found


def read(
    path: Path, competition: Competition, sizes: Sizes, skipped: Iterable[str] = (), kind: str = ""
) -> Iterator[tuple[str, Detections]]:
    """Yields id and detections of each image, in the order of `sizes`.

    An image that the file does not have is left out, or without detections where the format has only boxes.

    Args:
        sizes: (height, width) of each image; with NORMALISED they matter.
        skipped: images whose boxes are not read.

    Raises:
        UserError: a box is of no image in `sizes` or cannot be read, or an image appears twice; names line and id.
    """
    form, labels = KINDS[kind], labels_of(competition)
    expected, not_read = keys_of(sizes, competition, kind), keys_of(skipped, competition, kind)
    blocks: dict[str, Block] = {}
    for block in form.parse(path, competition):
        if block.key in not_read:
            continue
        fault = next(iter(block.faults), None) or next(
            filter(None, (entry_fault(e, labels) for e in block.entries)), ""
        )
        if fault:
            raise UserError(f"{path}: {fault}")
        if block.key not in expected:
            raise UserError(
                f"{path}: {block.name}: not one of the {len(sizes)} images of {competition.name}; expected for example "
                f"{next(iter(expected), 'none')}. Is it a submission to another competition?"
            )
        if block.key in blocks:
            raise UserError(f"{path}: {block.name}: the image appears twice, first in {blocks[block.key].name}")
        blocks[block.key] = block
    lists_all, layout = form.lists_all(competition), form.layout(competition)
    for key, image_id in expected.items():
        if key in blocks or not lists_all:
            entries = blocks[key].entries if key in blocks else []
            yield image_id, detections_of(entries, layout, sizes[image_id], competition)


def list_ids(path: Path, competition: Competition, kind: str) -> list[str]:
    """Returns the images that the file has, in its order; with IMAGE_ID: number, these numbers.

    Raises:
        UserError: the file cannot be read, or has no image.
    """
    suffix = competition.box_convention.id_suffix
    blocks = list(KINDS[kind].parse(path, competition))
    if not blocks:
        raise UserError(f"{path}: no boxes; it is read as a submission to {competition.name}")
    unnamed = next((block.faults[0] for block in blocks if not block.key and block.faults), None)
    if unnamed is not None:
        raise UserError(f"{path}: {unnamed}")
    return list(dict.fromkeys(block.key.removesuffix(suffix) for block in blocks))


def images_in(path: Path, competition: Competition, ids: Mapping[str, str], kind: str) -> tuple[list[str], list[str]]:
    """Returns the known images that a file has, and what it calls those that are not known.

    Args:
        ids: by what the file calls an image, see `keys_of`.
    """
    keys = dict.fromkeys(block.key for block in KINDS[kind].parse(path, competition) if block.key)
    return [ids[key] for key in keys if key in ids], [key for key in keys if key not in ids]
