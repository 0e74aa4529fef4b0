"""Checkpoints that are whole, checked and harmless: atomic writes, a sha256 at the end, no pickled code.

A checkpoint is an ordinary `torch.save` archive followed by 40 bytes: a mark and the sha256 of the archive. torch and
safetensors both load flipped bits without complaint, so the hash is looked at before anything else.
"""

from __future__ import annotations

import hashlib
import io
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import UserError
from pipeline.files import TEMPORARY_MARK, atomic_path, check_disk
from pipeline.paths import shown

MARK = b"SEGCKPT1"
TRAILER_BYTES = len(MARK) + hashlib.sha256().digest_size


class Damaged(Exception):
    """A checkpoint that is cut, changed, or not one of ours."""


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint; a kill at any instant leaves the old or the new one.

    Raises:
        UserError: the disk cannot hold it; the old checkpoint stays.
    """
    buffer = io.BytesIO()
    torch.save(content, buffer)
    archive = buffer.getbuffer()
    check_disk(path, len(archive), "a checkpoint")
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(archive)
        file.write(MARK + hashlib.sha256(archive).digest())


def load_checkpoint(path: Path, device: str = "cpu") -> dict[str, Any]:
    """Returns a checkpoint's content.

    Raises:
        Damaged: the file is cut or changed, or holds anything but tensors and plain values.
    """
    data = path.read_bytes()
    archive, trailer = data[:-TRAILER_BYTES], data[-TRAILER_BYTES:]
    if trailer != MARK + hashlib.sha256(archive).digest():
        raise Damaged(f"{shown(path)} is damaged: its content and its sha256 do not agree")
    try:
        return torch.load(io.BytesIO(archive), map_location=device, weights_only=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        raise Damaged(f"{shown(path)} is not a checkpoint of tensors and plain values: {error}") from None


def load_or_refuse(path: Path, cure: str) -> dict[str, Any]:
    """Returns a checkpoint that must be there.

    Raises:
        UserError: it is absent or damaged; ends with `cure`.
    """
    if not path.is_file():
        raise UserError(f"there is no {shown(path)}; {cure}")
    try:
        return load_checkpoint(path)
    except Damaged as damage:
        raise UserError(f"{damage}; {cure}") from None


def keep_previous(path: Path) -> None:
    """Keeps the present checkpoint under a second name before a new one takes its place."""
    if not path.is_file():
        return
    second_name = path.with_name(f"{path.name}{TEMPORARY_MARK}{os.getpid()}")
    second_name.unlink(missing_ok=True)
    try:
        os.link(path, second_name)
    except OSError:
        return  # a file system without hard links: the last checkpoint alone must do
    os.replace(second_name, previous_of(path))


def previous_of(path: Path) -> Path:
    """Returns where the checkpoint before `path` is kept."""
    return path.with_name(f"previous-{path.name}")


def load_newest(path: Path, key: str, say: Callable[[str], None]) -> dict[str, Any] | None:
    """Returns the newest whole checkpoint of `path` and the one before it that belongs to `key`, or None.

    Says aloud when one is damaged or belongs to other settings.
    """
    for candidate in (path, previous_of(path)):
        if not candidate.is_file():
            continue
        try:
            content = load_checkpoint(candidate)
        except Damaged as damage:
            say(f"{damage}; falling back to the one before it")
            continue
        if content.get("state", {}).get("key") == key:
            return content
        say(f"{shown(candidate)} belongs to other settings or data; training begins anew")
        return None
    return None
