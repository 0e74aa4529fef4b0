"""Checkpoints that are whole, checked and harmless: atomic writes, a sha256 at the end, no pickled code.

A checkpoint is an ordinary `torch.save` archive followed by 40 bytes: a mark and the sha256 of the archive. torch and
safetensors both load flipped bits without complaint, so the hash is checked before anything else.

`last.ckpt` is where training stands, `best.ckpt` a second name (hard link) of what `last.ckpt` was when validation was
best. Of both the one before is kept, as `previous-last.ckpt` and `previous-best.ckpt`. A finished run keeps its best
weights alone, see `kept.py`.
"""

from __future__ import annotations

import hashlib
import io
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch

from pipeline.errors import UserError
from pipeline.files import atomic_path, check_disk, second_name
from pipeline.paths import previous_of, shown
from pipeline.training.weights import read_archive

NAME, FORMAT = b"SEGCKPT", b"1"  # the second is to be raised when a program that reads this one cannot read the next
MARK = NAME + FORMAT
TRAILER_BYTES = len(MARK) + hashlib.sha256().digest_size
PARTS = ("network", "ema", "state")  # what every checkpoint of ours holds

MEASURED = ("running_mean", "running_var")  # of batch norm: in a state dict, but no parameters


def num_parameters(weights: Mapping[str, torch.Tensor]) -> int:
    """Returns the number of parameters in a state dict.

    >>> num_parameters({"conv.weight": torch.zeros(2, 3), "norm.running_mean": torch.zeros(2)})
    6
    """
    return sum(own.numel() for name, own in weights.items() if own.is_floating_point() and not name.endswith(MEASURED))


class Damaged(Exception):
    """A checkpoint that is cut, changed, or not one of ours."""


def save_checkpoint(path: Path, content: dict[str, Any]) -> None:
    """Writes a checkpoint; a kill at any instant leaves the old or the new one. Equal contents give equal bytes.

    Raises:
        UserError: the disk cannot hold it; the old checkpoint stays.
    """
    buffer = io.BytesIO()
    torch.save(_canonical(content), buffer)
    archive = buffer.getbuffer()
    check_disk(path, len(archive), "a checkpoint")
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        file.write(archive)
        file.write(MARK + hashlib.sha256(archive).digest())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Returns a checkpoint's content.

    Raises:
        Damaged: the file is cut or changed, cannot be read, holds anything but tensors and plain values, or lacks what
            every checkpoint has.
        UserError: it is whole, but of a format of another version of the program.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise Damaged(f"{shown(path)} cannot be read ({error.strerror})") from None
    archive, trailer = data[:-TRAILER_BYTES], data[-TRAILER_BYTES:]
    mark, digest = trailer[: len(MARK)], trailer[len(MARK) :]
    is_whole = digest == hashlib.sha256(archive).digest() and mark.startswith(NAME)
    if is_whole and mark != MARK:
        found = f"{shown(path)} has checkpoint format {mark[len(NAME) :].decode(errors='replace')}"
        fix = "use the version of the program that wrote it, or move the file away to train from the beginning"
        raise UserError(f"{found}, this program reads format {FORMAT.decode()}; {fix}")
    if not is_whole:
        raise Damaged(f"{shown(path)} is damaged: its content and its sha256 do not agree")
    try:
        content = read_archive(io.BytesIO(archive))
    except Exception as error:  # whoever forges the hash too may make the unpickler raise whatever he likes
        first_line = (str(error) or type(error).__name__).splitlines()[0]
        raise Damaged(f"{shown(path)} is not a checkpoint of tensors and plain values: {first_line}") from None
    if why := _why_foreign(content):
        raise Damaged(f"{shown(path)} is not a checkpoint of this project: {why}")
    return content


def load_or_refuse(path: Path, fix: str) -> dict[str, Any]:
    """Returns a checkpoint that must be there.

    Raises:
        UserError: it is absent or damaged; ends with `fix`.
    """
    if not path.is_file():
        raise UserError(f"there is no {shown(path)}; {fix}")
    try:
        return load_checkpoint(path)
    except Damaged as damage:
        raise UserError(f"{damage}; {fix}") from None


def replace_last(path: Path, content: dict[str, Any]) -> None:
    """Writes a new checkpoint to `path` and keeps the one before it.

    Raises:
        UserError: the disk cannot hold it; the old checkpoint stays.
    """
    if path.is_file():
        second_name(path, previous_of(path))
    save_checkpoint(path, content)


def replace_best(path: Path, source: Path) -> None:
    """Makes `path` a second name of `source` and keeps the best one before it; a second time changes nothing."""
    if path.is_file():
        if os.path.samefile(path, source):
            return
        second_name(path, previous_of(path))
    second_name(source, path)


def load_newest(path: Path, log: Callable[[str], None]) -> tuple[dict[str, Any], Path] | None:
    """Returns the newest whole checkpoint of `path` and the one before it, with its file, or None where none is left.

    Logs when one is damaged. Without `path` itself there is nothing to continue: somebody removed it.
    """
    for candidate in (path, previous_of(path)) if path.exists() else ():
        if not candidate.exists():
            continue
        try:
            content = load_checkpoint(candidate)
        except Damaged as damage:
            log(f"{damage}; looking for the one before it")
            continue
        if candidate != path:
            log(f"going back to {shown(candidate)}")
        return content, candidate
    if path.exists():
        log("no whole checkpoint is left; training begins anew")
    return None


def repair_best(path: Path, state: dict[str, Any], source: Path, log: Callable[[str], None]) -> bool:
    """Makes sure that `path` is the best checkpoint that a loaded state speaks of; returns whether it is.

    It is not when the process was killed between writing `last.ckpt` and naming it the best, when a damaged
    `last.ckpt` made training go back to the one before, or when somebody removed it.

    Args:
        state: the state in the checkpoint `source`.
    """
    if state["best"] is None:
        path.unlink(missing_ok=True)  # of an epoch that is now trained again
        return True
    if state["best_epoch"] == state["epoch"] and state["step"] == 0:
        replace_best(path, source)
        return True
    for candidate in (path, previous_of(path)):
        if _is_of(candidate, state["key"], state["best_epoch"]):
            if candidate != path:
                second_name(candidate, path)
            return True
    log(f"{shown(path)} of epoch {state['best_epoch']} is gone or damaged; training begins anew")
    return False


def _canonical(content: Any) -> Any:
    """Returns nested content anew, in which equal texts are one object and nothing else is shared.

    A pickle stores identical objects once and equal ones twice, which depends on what was loaded before.
    """
    if isinstance(content, dict):
        return {_canonical(key): _canonical(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)([_canonical(value) for value in content])
    return sys.intern(content) if isinstance(content, str) else content


def _why_foreign(content: Any) -> str | None:
    """Returns what a checkpoint's content lacks of what whoever reads one may rely on; None where it has all."""
    if not isinstance(content, dict):
        return f"found {type(content).__name__}, expected a dict"
    if missing := [part for part in PARTS if part not in content]:
        return f"it has no {missing[0]!r}"
    ema = content["ema"]
    if ema is not None and not (isinstance(ema, dict) and "weights" in ema):
        return "expected None or averaged 'weights' in its 'ema'"
    for part, state in (("network", content["network"]), ("ema", ema and ema["weights"])):
        is_named = isinstance(state, dict) and all(isinstance(name, str) for name in state)
        if not (part == "ema" and state is None) and not (
            is_named and all(isinstance(one, torch.Tensor) for one in state.values())
        ):
            return f"expected tensors by name in its {part!r}"
    return None if isinstance(content["state"], dict) else "expected a dict in its 'state'"


def _is_of(path: Path, key: str, epoch: int) -> bool:
    try:
        found = load_checkpoint(path)["state"]
    except Damaged:
        return False
    return (found["key"], found["epoch"]) == (key, epoch)
