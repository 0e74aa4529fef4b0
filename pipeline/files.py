"""Atomic writes, content hashes, and checks of free disk space: a file is complete or absent.

Source of the steps (temporary file, flush, fsync, rename, fsync of the folder): Pillai et al., "All File Systems Are
Not Created Equal", OSDI 2014.
"""

from __future__ import annotations

import errno
import functools
import hashlib
import json
import os
import platform
import re
import shutil
import struct
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from pipeline.errors import DiskTooSmall, UserError
from pipeline.wording import GIB, size

TEMPORARY_MARK = ".tmp-"
TEMPORARY = re.compile(rf"{re.escape(TEMPORARY_MARK)}[0-9]+")
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)
RESERVE = 64 * 1024**2
# What reading a damaged zip, npz or tar raises; they may be packed by deflate, bz2 or LZMA, and their names are text.
DAMAGED_ARCHIVE: tuple[type[Exception], ...] = (
    *(zipfile.BadZipFile, tarfile.TarError, EOFError, RuntimeError, ValueError, OverflowError, MemoryError, KeyError),
    *(struct.error, zlib.error, getattr(zipfile.lzma, "LZMAError", zlib.error)),  # a Python may be built without LZMA
)


def sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems have no fsync of folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path | str, is_durable: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is flushed to the disk and renamed to `path`.

    Without `is_durable` the flush is left out: after a power cut, but not after a kill, the file may be absent or
    damaged. For files whose hash is stored, and of which many are flushed together later.

    On an exception (also Ctrl-C) the temporary file is removed and an existing `path` is not changed. An exception that
    does not concern this file, such as a missing input, passes through.

    Raises:
        UserError: the disk is full or cannot be written; names the path and the free space.
    """
    path = Path(path)
    temporary = temporary_of(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _as_user_error(error, path) from error
    is_written = False
    try:
        yield temporary
        is_written = True
        if is_durable:
            with open(temporary, "rb") as file:
                os.fsync(file.fileno())
        os.replace(temporary, path)
        if is_durable:
            sync_folder(path.parent)
    except BaseException as error:
        with suppress(OSError):  # an error of the clean-up must not hide the first one
            _remove(temporary)
        if isinstance(error, OSError) and (is_written or _is_about(error, temporary)):
            raise _as_user_error(error, path) from error
        raise


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Writes `data` to `path`; a reader sees the old or the new content, never a part of it."""
    content = data.encode() if isinstance(data, str) else data
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def append_text(path: Path, text: str) -> None:
    """Adds text to the end of a file; a kill or a full disk may leave a part of it.

    Raises:
        UserError: the disk is full or cannot be written; names the path.
    """
    try:
        with open(path, "a", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise _as_user_error(error, path) from error


def write_json(path: Path, content: Any) -> None:
    """Writes plain values as JSON that can be read by people, too."""
    write_atomic(path, json.dumps(content, indent=1))


def read_json(path: Path, shape: Any = object) -> Any:
    """Returns the content of a JSON file; None if it cannot be read or does not have the shape, see `fits`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return content if fits(content, shape) else None


def fits(content: Any, shape: Any) -> bool:
    """Returns whether plain values have a shape: a type, or a tuple of possible shapes; a list of one; a mapping.

    >>> fits({"mean": 0.5}, {"mean": (int, float, None), "label?": str}), fits({"mean": "x"}, {"mean": float})
    (True, False)
    >>> fits([1, 2], [int]), fits({"dice": 1}, {str: int}), fits(3, dict)
    (True, True, False)
    """
    if isinstance(shape, tuple):
        return any(fits(content, one) for one in shape)
    if isinstance(shape, list):
        return isinstance(content, list) and all(fits(one, shape[0]) for one in content)
    if isinstance(shape, dict):
        return isinstance(content, dict) and all(_has(content, key, own) for key, own in shape.items())
    return content is None if shape is None else isinstance(content, shape)


def _has(content: Mapping[str, Any], key: Any, shape: Any) -> bool:
    if key is str:
        return all(fits(one, shape) for one in content.values())
    name = key.removesuffix("?")
    return fits(content[name], shape) if name in content else name != key


def stamp_of(path: Path) -> tuple[int, ...] | None:
    """Returns what differs between two contents of a file in one process; None where there is no file.

    Size and modification time alone may be equal: a copy keeps the time, and a disk counts it in steps.
    """
    if not path.is_file():
        return None
    status = path.stat()
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino


def sweep_temporaries(folder: Path) -> int:
    """Removes the temporary files of killed writers in `folder` (not below it); returns how many.

    Only for the holder of the folder's lock: a running writer's file would be removed, too.
    """
    left_over = [path for path in folder.iterdir() if TEMPORARY.search(path.name)] if folder.is_dir() else []
    for path in left_over:
        _remove(path)
    return len(left_over)


def sha256_file(path: Path | str) -> str:
    """Returns the sha256 of a file's content as hexadecimal text."""
    digest = hashlib.sha256()  # hashlib.file_digest is new in Python 3.11
    with open(path, "rb") as file:
        while chunk := file.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def sha256_text(text: str) -> str:
    """Returns the sha256 of a text.

    >>> sha256_text("tile")[:8]
    '8b668b89'
    """
    return hashlib.sha256(text.encode()).hexdigest()


def second_name(path: Path, other: Path) -> None:
    """Makes `other` a hard link to `path`, or a copy where the file system has no hard links."""
    with atomic_path(other) as temporary:
        temporary.unlink(missing_ok=True)  # left by a killed process with the same id
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def check_disk(path: Path | str, bytes_needed: int, what: str) -> None:
    """Refuses to write `what` where the disk of `path` is too small for it.

    Raises:
        DiskTooSmall: less than `bytes_needed` and RESERVE is free.
    """
    free = shutil.disk_usage(existing_folder(path)).free
    if free < bytes_needed + RESERVE:
        raise DiskTooSmall(
            f"{what} needs {size(bytes_needed)} and {size(RESERVE)} in reserve below {path}; {size(free)} are free.\n"
            "Free space, or set RUNS_DIR (runs), SCRATCH_DIR (tile stores) or DATA_DIR (images) to a larger disk."
        )


def check_writable(folder: Path, variable: str = "") -> None:
    """Refuses a folder in which no files can be written; for a missing one, tests the nearest existing parent.

    Args:
        variable: of the environment, by which the user chooses the folder; "": there is none.

    Raises:
        UserError: names the folder and the variable.
    """
    there = next(one for one in (folder, *folder.absolute().parents) if os.path.lexists(one))
    try:
        with tempfile.TemporaryFile(dir=there):  # permissions alone do not show read-only mounts
            return
    except OSError as error:
        other = f", or set {variable} to a folder that you can write to" if variable else ""
        raise UserError(f"cannot write to {folder}: {error.strerror}; allow writing there{other}") from None


def temporary_of(path: Path) -> Path:
    """Returns where this process writes a file or folder first; no other one, of any machine, has the same name."""
    # The suffix stays at the end: writers such as matplotlib choose the format by it.
    return path.with_name(f"{path.stem}{TEMPORARY_MARK}{os.getpid()}{_machine()}{path.suffix}")


def existing_folder(path: Path | str) -> Path:
    """Returns the nearest folder above a path, or the path itself, that exists."""
    folder = Path(path)
    while not folder.exists():
        folder = folder.parent
    return folder


@functools.cache
def _machine() -> str:
    """Returns a number of this machine, because processes of two machines (or containers) may have the same id."""
    return f"{zlib.crc32(platform.node().encode()):010d}"


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        path.unlink()


def _is_about(error: OSError, temporary: Path) -> bool:
    """Returns whether an error is about the file that is being written.

    The error of a failed write has no file name, and that of NumPy's `tofile` no number.
    """
    named = (None, str(temporary))
    return error.errno in (None, *DISK_ERRORS) and error.filename in named


def _as_user_error(error: OSError, path: Path) -> UserError:
    try:
        free = f" ({shutil.disk_usage(path.parent).free / GIB:.2f} GiB are free there)"
    except OSError:
        free = ""
    kind = DiskTooSmall if error.errno in (errno.ENOSPC, errno.EDQUOT) else UserError
    return kind(
        f"cannot write {path}: {error.strerror or error}{free}.\n"
        "The previous content is unchanged. Free space or allow writing there, or set RUNS_DIR (runs), SUBMISSIONS_DIR "
        "(submissions) or SCRATCH_DIR (tile stores) to another folder; then type the same command again."
    )
