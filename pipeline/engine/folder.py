"""The run's folder: one process at a time, no leftovers of killed writers, the resolved config inside."""

from __future__ import annotations

import errno
import fcntl
import glob
import os
import platform
import shutil
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.engine.run import Run, Stage
from pipeline.errors import UserError
from pipeline.files import TEMPORARY_MARK, sweep_temporaries, write_atomic
from pipeline.paths import (
    CANDIDATES,
    CONFIG,
    CROPS,
    GALLERY,
    HPARAMS,
    PANELS,
    PLOTS,
    PROBS,
    PROVENANCE,
    PSEUDO_LABELS,
    REPLACED,
    SCENES,
    STREAM,
    RunPaths,
    shown,
)

# `struct flock` of 64-bit systems: its fields as `struct` packs them, and their order.
LOCK_LAYOUTS = {
    "linux": ("hhqqi4x", ("type", "whence", "start", "length", "process")),
    "darwin": ("qqihh", ("start", "length", "process", "type", "whence")),
}


FOLDERS = (PLOTS, PANELS, SCENES, HPARAMS, PROVENANCE, GALLERY, CROPS, CANDIDATES, REPLACED, PSEUDO_LABELS)
FOLDERS += (STREAM, *(folder for path in PROBS.values() for folder in (os.path.dirname(path), path)))

FILE_SUFFIXES = (".ckpt", ".csv", ".json", ".npz", ".html", ".yaml")


def prepare_folder(run: Run) -> None:
    """Makes the run's folder, removes what killed writers left, and writes the resolved config into it."""
    paths = run.paths
    paths.markers.mkdir(parents=True, exist_ok=True)
    for name in FOLDERS:
        if os.path.lexists(paths / name) and not (paths / name).is_dir():
            raise UserError(f"{shown(paths / name)} is a file, expected a folder; move it away")
    places = (paths.folder, paths.markers, *(paths / name for name in PROBS.values()))
    for path in (path for place in places if place.is_dir() for path in place.iterdir()):
        if path.suffix in FILE_SUFFIXES and path.is_dir():
            raise UserError(f"{shown(path)} is a folder, expected a file; move it away")
    for folder in (
        paths.folder,
        paths.markers,
        paths / PLOTS,
        paths / PANELS,
        paths / SCENES,
        paths / HPARAMS,
        paths / PROVENANCE,
    ):
        sweep_temporaries(folder)
    # All runs share the folder of submissions: only this run's temporary files are surely dead.
    for path in paths.submissions.glob(f"{glob.escape(paths.name)}{TEMPORARY_MARK}*"):
        with suppress(OSError):  # a folder that cannot be written is reported when something is to be written there
            path.unlink()
    write_atomic(paths / CONFIG, run.loaded.text)


def is_new(paths: RunPaths) -> bool:
    """Returns whether the run was never started."""
    return not (paths / CONFIG).exists()


@contextmanager
def locked(paths: RunPaths) -> Iterator[None]:
    """Keeps a second process out of the run's folder; the lock ends with the process, however it dies.

    Raises:
        UserError: another process holds it, or the folder cannot be written.
    """
    with locked_by(paths.markers / "lock", paths.name):
        yield


@contextmanager
def locked_by(path: Path, name: str) -> Iterator[None]:
    """Keeps a second process out while the file `path` is held by this one; `name` is for messages."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = open(path, "a+b", buffering=0)  # noqa: SIM115 - held open as long as the lock
    except OSError as error:
        raise _cannot_write(path, error) from None
    with file:
        try:
            # Unlike flock's, this lock is not inherited by loader workers, which may outlive a killed process.
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            if error.errno in (errno.EACCES, errno.EAGAIN):
                file.seek(0)
                raise UserError(_in_use(name, file.read().decode(errors="replace"))) from None
            # A network file system without locks: running without one is better than not running.
        try:
            file.truncate(0)
            file.write(f"{os.getpid()} {platform.node()}".encode())
        except OSError as error:
            raise _cannot_write(path, error) from None
        yield


def _in_use(name: str, holder: str) -> str:
    """Returns the message on a lock that a process of this machine, or of another on the same disk, holds."""
    process, _, machine = holder.partition(" ")
    if machine and machine != platform.node():
        return (
            f"{name} is already being run by process {process} on machine {machine}; wait for it to end, or stop "
            f"it there: kill {process}. If that machine is down, the file server frees the lock after a few minutes"
        )
    found = process or "?"
    return f"{name} is already being run by process {found}; wait for it to end, or stop it: kill {found}"


@contextmanager
def removed_when_refused(stages: Sequence[Stage], paths: RunPaths) -> Iterator[None]:
    """Removes a new run's folder when a mistake is reported before any stage was finished: a typo makes no run.

    To be entered while the folder's lock is held.
    """
    was_new = is_new(paths)
    try:
        yield
    except UserError:
        if was_new and not any(paths.marker(stage.name).is_file() for stage in stages):
            shutil.rmtree(paths.folder, ignore_errors=True)
        raise


def _cannot_write(path: Path, error: OSError) -> UserError:
    fix = "free space there, or set RUNS_DIR to a folder that you can write to"
    return UserError(f"cannot write below {shown(path.parent)}: {error.strerror}; {fix}")


def lock_holder(paths: RunPaths) -> int | None:
    """Returns the process that runs in the run's folder, None where there is none; 0 where its number is not known.

    The lock is asked for, never taken, so that a run that begins at this moment is not refused. Not for the process
    that holds the lock: it would lose it when the file is closed here.
    """
    if (layout := LOCK_LAYOUTS.get(sys.platform)) is None:
        return None
    fields, order = layout
    request = {"type": fcntl.F_WRLCK, "whence": os.SEEK_SET, "start": 0, "length": 0, "process": 0}
    try:
        with open(paths.markers / "lock", "rb") as file:
            answer = fcntl.fcntl(file, fcntl.F_GETLK, struct.pack(fields, *(request[name] for name in order)))
    except OSError:  # never run, or a network file system without locks
        return None
    found = dict(zip(order, struct.unpack(fields, answer), strict=True))
    return None if found["type"] == fcntl.F_UNLCK else max(found["process"], 0)
