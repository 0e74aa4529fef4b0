"""The submission file: index masks in any order go in, a csv in the competition's order and its origin go out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.files import atomic_path, sha256_file, write_atomic
from pipeline.submission.rle import encode
from pipeline.submission.rows import header_columns, row_classes, row_key, write_line


def write_submission(
    path: Path | str,
    masks: Iterable[tuple[str, np.ndarray]],
    ids: Sequence[str],
    competition: Competition,
    origin: Mapping[str, Any],
    sizes: Mapping[str, tuple[int, int]] | None = None,
) -> Path:
    """Writes `path` (csv) and the `.json` of its origin beside it; returns `path`.

    The csv depends on masks, ids and competition only, whatever the order in which the masks come: an image that comes
    early waits as text. The origin is removed first and written last, so a csv with an origin is a whole one.

    Args:
        path: where to write; the folder is made.
        masks: id and index mask (uint8, H, W, at the image's own size) of each image.
        ids: the order of the sample submission or of test.csv.
        competition: classes and convention.
        origin: what to remember about this file; `competition`, `csv_sha256`, `rows` and `created_utc` are added.
        sizes: (height, width) of each image; where given, a mask of another size is refused.

    Raises:
        UserError: an image is missing, unknown, twice there, or not of its size; an earlier `path` stays as it was.
    """
    path = Path(path)
    origin_path = path.with_suffix(".json")
    if len(set(ids)) != len(ids):
        raise UserError(f"{path}: an id appears twice in the list of images to submit")
    with atomic_path(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(write_line(header_columns(competition.convention)))
            _write_images(file, path, masks, ids, competition, sizes)
        origin_path.unlink(missing_ok=True)
    facts = {
        **origin,
        "competition": competition.name,
        "csv_sha256": sha256_file(path),
        "rows": len(ids) * len(row_classes(competition)),
        "created_utc": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }
    write_atomic(origin_path, json.dumps(facts, indent=2, ensure_ascii=False) + "\n")
    return path


def image_lines(image_id: str, mask_HW: np.ndarray, competition: Competition) -> str:
    """Returns the csv lines of one image, one per class; an ignored last class has an empty one."""
    convention = competition.convention
    scored = competition.num_classes
    texts = encode(mask_HW, scored, convention.order, convention.base, convention.relative, convention.empty)
    texts += [convention.empty] * (len(competition.classes) - scored)
    return "".join(
        write_line([*row_key(image_id, index, convention), texts[index]]) for index in row_classes(competition)
    )


def _write_images(
    file: TextIO,
    path: Path,
    masks: Iterable[tuple[str, np.ndarray]],
    ids: Sequence[str],
    competition: Competition,
    sizes: Mapping[str, tuple[int, int]] | None,
) -> None:
    """Writes each image as soon as all before it are written."""
    positions = {image_id: position for position, image_id in enumerate(ids)}
    waiting: dict[int, str] = {}
    next_position = 0
    for image_id, mask_HW in masks:
        position = positions.pop(image_id, None)
        if position is None:
            raise UserError(f"{path}: image {image_id} came twice or is not among the {len(ids)} to submit")
        if sizes is not None and mask_HW.shape != tuple(sizes[image_id]):
            raise UserError(
                f"{path}: the mask of {image_id} is {mask_HW.shape} (height, width); "
                f"its image is {tuple(sizes[image_id])}"
            )
        waiting[position] = image_lines(image_id, mask_HW, competition)
        while next_position in waiting:
            file.write(waiting.pop(next_position))
            next_position += 1
    if positions:
        some = ", ".join(list(positions)[:5])
        raise UserError(f"{path}: {len(positions)} of {len(ids)} images have no mask, such as {some}")
