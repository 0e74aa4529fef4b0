"""Files that are whole or absent: atomic writes, content hashes, a look at the disk before writing.

Source of the recipe (temporary file, flush, fsync, rename, fsync of the folder): Pillai et al., "All File Systems Are
Not Created Equal", OSDI 2014.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pipeline.errors import DiskTooSmall, UserError

TEMPORARY_MARK = ".tmp-"
TEMPORARY = re.compile(rf"{re.escape(TEMPORARY_MARK)}[0-9]+")
DISK_ERRORS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)
GIB = 1024**3
ROOM_TO_BREATHE = 64 * 1024**2


def sync_folder(folder: Path) -> None:
    """Makes renames inside `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # some network file systems know no fsync of folders
            raise
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: Path | str, is_durable: bool = True) -> Iterator[Path]:
    """Yields a temporary path beside `path`; on success it is flushed to the disk and renamed to `path`.

    Without `is_durable` the flush is left out: after a power cut the file may be absent or damaged, never after a kill.
    For files that know their own hash, of which many are brought to the disk at once later.

    On an exception (also Ctrl-C) the temporary file is removed and an earlier `path` stays as it was. An error of the
    caller's own that has nothing to do with this file, such as an input that is missing, passes through unchanged.

    Raises:
        UserError: the disk is full or refuses the write; names the path and what is free.
    """
    path = Path(path)
    # The suffix stays last: writers such as matplotlib choose the format by it.
    temporary = path.with_name(f"{path.stem}{TEMPORARY_MARK}{os.getpid()}{path.suffix}")
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
        _remove(temporary)
        if isinstance(error, OSError) and (is_written or _is_about(error, temporary)):
            raise _as_user_error(error, path) from error
        raise


def write_atomic(path: Path | str, data: bytes | str) -> None:
    """Writes `data` to `path` so that a reader sees the old or the new content, never a part."""
    content = data.encode() if isinstance(data, str) else data
    with atomic_path(path) as temporary:
        temporary.write_bytes(content)


def sweep_temporaries(folder: Path) -> int:
    """Removes what killed writers left behind in `folder` (not below it); returns how many.

    To be called by whoever holds the folder's lock, or it would take a living writer's file away.
    """
    left_over = [path for path in folder.iterdir() if TEMPORARY.search(path.name)] if folder.is_dir() else []
    for path in left_over:
        _remove(path)
    return len(left_over)


def sha256_file(path: Path | str) -> str:
    """Returns the sha256 of a file's content as hexadecimal text."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def sha256_text(text: str) -> str:
    """Returns the sha256 of a text.

    >>> sha256_text("tile")[:8]
    '8b668b89'
    """
    return hashlib.sha256(text.encode()).hexdigest()


def second_name(path: Path, other: Path) -> None:
    """Makes `other` the same file as `path`, or a copy where the file system has no hard links."""
    with atomic_path(other) as temporary:
        temporary.unlink(missing_ok=True)  # left by a killed process of the same number
        try:
            os.link(path, temporary)
        except OSError:
            shutil.copyfile(path, temporary)


def check_disk(path: Path | str, bytes_needed: int, what: str) -> None:
    """Refuses to begin what the disk below `path` cannot hold.

    Raises:
        DiskTooSmall: less than `bytes_needed` and ROOM_TO_BREATHE is free.
    """
    folder = Path(path)
    while not folder.exists():
        folder = folder.parent
    free = shutil.disk_usage(folder).free
    if free < bytes_needed + ROOM_TO_BREATHE:
        needed = f"{in_words(bytes_needed)}, and {in_words(ROOM_TO_BREATHE)} to breathe,"
        raise DiskTooSmall(
            f"{what} needs {needed} below {path}, but only {in_words(free)} are free.\n"
            "Free some, or name a larger disk: RUNS_DIR for runs, SCRATCH_DIR for tile stores, DATA_DIR for images."
        )


def in_words(num_bytes: int) -> str:
    """Returns a size as a person says it.

    >>> in_words(3_000), in_words(70 * 1024**2), in_words(5 * 1024**3)
    ('2.9 KiB', '70.0 MiB', '5.0 GiB')
    """
    unit, divisor = next(
        ((unit, divisor) for unit, divisor in (("GiB", GIB), ("MiB", 1024**2)) if num_bytes >= divisor), ("KiB", 1024)
    )
    return f"{num_bytes / divisor:.1f} {unit}"


def _sha256(file) -> str:
    digest = hashlib.sha256()  # hashlib.file_digest is new in Python 3.11
    while chunk := file.read(1 << 20):
        digest.update(chunk)
    return digest.hexdigest()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
        return
    with suppress(FileNotFoundError, NotADirectoryError, PermissionError):
        path.unlink()


def _is_about(error: OSError, temporary: Path) -> bool:
    """Returns whether an error of a writer comes from the file that is being written.

    A failed write carries no file name, and NumPy's `tofile` not even a number.
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
        f"What was there before is untouched. Free space or allow writing there, then start the same command again."
    )
