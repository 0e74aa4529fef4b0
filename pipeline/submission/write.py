"""The submission file: index masks in any order go in, a csv in the competition's order and its origin go out.

A file is read back before it takes its name, and each image compared with the mask that went in: that proves order,
base and sizes, whatever the masks look like. Only a hash of each mask is kept meanwhile.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from pipeline.config.competition import IGNORE, Competition
from pipeline.errors import UserError
from pipeline.files import atomic_path, sha256_file, write_atomic
from pipeline.submission.rle import encode
from pipeline.submission.rows import header_columns, read_masks, row_classes, row_key, write_line

Written = dict[str, tuple[tuple[int, int], bytes]]  # (height, width) and digest of each mask that went in


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
        RuntimeError: the file does not read back as the masks that went in; likewise.
    """
    path = Path(path)
    origin_path = path.with_suffix(".json")
    if len(set(ids)) != len(ids):
        raise UserError(f"{path}: an id appears twice in the list of images to submit")
    with atomic_path(path) as temporary:
        with open(temporary, "w", encoding="utf-8", newline="") as file:
            file.write(write_line(header_columns(competition.convention)))
            written = _write_images(file, path, masks, ids, competition, sizes)
        _verify(temporary, written, competition)
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


def is_own(path: Path) -> bool:
    """Returns whether a file is as `write_submission` left it: its origin is beside it and names its content."""
    try:
        origin = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(origin, dict) and origin.get("csv_sha256") == sha256_file(path)


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
) -> Written:
    """Writes each image as soon as all before it are written."""
    positions = {image_id: position for position, image_id in enumerate(ids)}
    waiting: dict[int, str] = {}
    written: Written = {}
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
        written[image_id] = (mask_HW.shape, _digest(mask_HW, competition))
        while next_position in waiting:
            file.write(waiting.pop(next_position))
            next_position += 1
    if positions:
        some = ", ".join(list(positions)[:5])
        raise UserError(f"{path}: {len(positions)} of {len(ids)} images have no mask, such as {some}")
    return written


def _verify(path: Path, written: Written, competition: Competition) -> None:
    """Raises a RuntimeError unless each image in a file is the mask that went in."""
    sizes = {image_id: size for image_id, (size, _) in written.items()}
    for image_id, mask_HW in read_masks(path, competition, sizes):
        if _digest(mask_HW, competition) != written.pop(image_id)[1]:
            raise RuntimeError(f"{path}: {image_id} does not read back as the mask that was written")
    if written:
        raise RuntimeError(f"{path}: {len(written)} images do not read back, such as {next(iter(written))}")


def _digest(mask_HW: np.ndarray, competition: Competition) -> bytes:
    """Returns a hash of what a submission holds of a mask: the pixels of classes that have runs."""
    held = np.full(256, IGNORE, np.uint8)
    held[list(competition.scored_indices)] = competition.scored_indices
    return hashlib.sha256(held[mask_HW].tobytes()).digest()
