"""The origin of a submission: a `.json` beside it that names its content, its run and its local scores.

It is removed before the file is written and written after it, so a file with an origin is whole.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from pipeline.errors import UserError
from pipeline.files import sha256_file, write_atomic


def origin_path(path: Path) -> Path:
    """Returns where the origin of a submission is."""
    return path.with_suffix(".json")


def write_origin(path: Path, facts: Mapping[str, Any]) -> None:
    """Writes the origin of a submission: `facts`, the hash of its content and the time."""
    now = datetime.now(timezone.utc).isoformat(timespec="seconds")
    origin = {**facts, "sha256": sha256_file(path), "created_utc": now}
    write_atomic(origin_path(path), json.dumps(origin, indent=2, ensure_ascii=False) + "\n")


def read_origin(path: Path) -> dict[str, Any]:
    """Returns the origin of a submission, empty where it has none.

    Raises:
        UserError: it cannot be read.
    """
    beside = origin_path(path)
    if not beside.is_file():
        return {}
    try:
        origin = json.loads(beside.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read {beside}: {error}; write the submission again, or remove the file") from error
    if not isinstance(origin, dict):
        raise UserError(f"{beside} is no origin of a submission; write the submission again, or remove the file")
    return _renamed(origin)


def _renamed(origin: dict[str, Any]) -> dict[str, Any]:
    """Returns an origin with today's names; earlier ones are of csv files scored by Dice.

    >>> _renamed({"csv_sha256": "0f", "local_dice": 0.5, "local_iou": 0.4})
    {'sha256': '0f', 'score': 'dice', 'local_score': 0.5, 'local_scores': {'dice': 0.5, 'iou': 0.4}}
    """
    if "csv_sha256" in origin:
        origin["sha256"] = origin.pop("csv_sha256")
    if "local_dice" in origin:
        scores = {"dice": origin.pop("local_dice"), "iou": origin.pop("local_iou", None)}
        origin |= {"score": "dice", "local_score": scores["dice"], "local_scores": scores}
    return origin


def is_own(path: Path) -> bool:
    """Returns whether a file is as `write_submission` left it: its origin names its content."""
    try:
        return read_origin(path).get("sha256") == sha256_file(path)
    except UserError:
        return False
