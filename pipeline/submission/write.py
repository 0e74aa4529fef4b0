"""The submission file: index masks in any order go in, a csv in the competition's order and its origin go out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pipeline.config.competition import Competition, num_scored
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

    The csv depends on masks, ids and competition only, whatever the order in which the masks come: a picture that comes
    early waits as text. The origin is removed first and written last, so a csv with an origin is a whole one.

    Args:
        path: where to write; the folder is made.
        masks: id and index mask (uint8, H, W, at the picture's own size) of each picture.
        ids: the order of the sample submission or of test.csv.
        competition: classes and convention.
        origin: what to remember about this file; `competition`, `csv_sha256`, `rows` and `created_utc` are added.
        sizes: (height, width) of each picture; where given, a mask of another size is refused.

    Raises:
        UserError: a picture is missing, unknown, twice there, or not of its size; an earlier `path` stays as it was.
    """
    path = Path(path)
    origin_path = path.with_suffix(".json")
    if len(set(ids)) != len(ids):
        raise UserError(f"{path}: an id appears twice in the list of pictures to submit")
    with atomic_path(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(write_line(header_columns(competition.convention)))
            _write_pictures(file, path, masks, ids, competition, sizes)
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


def picture_lines(picture_id: str, mask_HW: np.ndarray, competition: Competition) -> str:
    """Returns the csv lines of one picture, one per class; an ignored last class has an empty one."""
    convention = competition.convention
    scored = num_scored(competition)
    texts = encode(mask_HW, scored, convention.order, convention.base, convention.relative, convention.empty)
    texts += [convention.empty] * (len(competition.classes) - scored)
    return "".join(
        write_line([*row_key(picture_id, index, convention), texts[index]]) for index in row_classes(competition)
    )


def _write_pictures(
    file: TextIO,
    path: Path,
    masks: Iterable[tuple[str, np.ndarray]],
    ids: Sequence[str],
    competition: Competition,
    sizes: Mapping[str, tuple[int, int]] | None,
) -> None:
    """Writes each picture as soon as all before it are written."""
    positions = {picture_id: position for position, picture_id in enumerate(ids)}
    waiting: dict[int, str] = {}
    next_position = 0
    for picture_id, mask_HW in masks:
        position = positions.pop(picture_id, None)
        if position is None:
            raise UserError(f"{path}: picture {picture_id} came twice or is not among the {len(ids)} to submit")
        if sizes is not None and mask_HW.shape != tuple(sizes[picture_id]):
            raise UserError(
                f"{path}: the mask of {picture_id} is {mask_HW.shape} (height, width); "
                f"its picture is {tuple(sizes[picture_id])}"
            )
        waiting[position] = picture_lines(picture_id, mask_HW, competition)
        while next_position in waiting:
            file.write(waiting.pop(next_position))
            next_position += 1
    if positions:
        some = ", ".join(list(positions)[:5])
        raise UserError(f"{path}: {len(positions)} of {len(ids)} pictures have no mask, such as {some}")
