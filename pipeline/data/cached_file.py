"""A file of pixels with some chunks on this disk; the others are fetched from elsewhere when they are read.

On the disk it is a sparse file of the whole length, mapped into memory like that of any tile store, and beside it
`<name>.chunks` with a byte for each chunk. The byte becomes THERE after the chunk is written, so a kill does no harm. A
power cut may leave the byte without the chunk, so after a restart of the machine each chunk is compared with its
checksum before it is used. Several processes may read the same file; each chunk is fetched by one of them.

With a limit, the least recently used chunks are removed from the disk (by punching holes in the file). Values that are
read are then copied, because another process may remove their chunks at any time.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import time
import zlib
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.remote import read_chunks
from pipeline.errors import UserError

NUM_LOCKS = 64  # files; chunks share them
MOST_AT_ONCE = 16  # chunks in one request
KEEP_SIZE, PUNCH_HOLE = 1, 2  # flags of Linux' fallocate
MARKS, USED, BOOT, LOCKS = ".chunks", ".used", ".boot", "locks"
ABSENT, THERE, UNSURE = range(3)  # marks of a chunk; UNSURE: it was THERE before a restart of the machine
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Origin(NamedTuple):
    """Where the chunks of a file come from.

    Attributes:
        address: of the file.
        chunk_bytes: size of all chunks but the last.
        checksums: CRC-32 of each chunk.
        most_chunks: that may be on this disk; None: all.
    """

    address: str
    chunk_bytes: int
    checksums: Sequence[int]
    most_chunks: int | None


class CachedFile:
    """The values of a file, by slices, as read-only arrays.

    Args:
        values: the whole file, mapped read-only.
        path: of the file, made by `make_cached`.
    """

    def __init__(self, values: np.ndarray, path: Path, origin: Origin):
        self.values, self.path, self.origin = values, path, origin
        self.base = values.base  # the mapping, as of a plain array
        self._marks = np.memmap(_beside(path, MARKS), np.uint8, "r+")
        self._used = np.memmap(_beside(path, USED), np.float64, "r+") if origin.most_chunks else None
        self._doubt()

    def __getitem__(self, part: slice) -> np.ndarray:
        """Returns the values from `part.start` to `part.stop`; fetches what is missing.

        Raises:
            UserError: it cannot be fetched, or the disk is full.
        """
        size, chunk_bytes = self.values.itemsize, self.origin.chunk_bytes
        chunks = range(part.start * size // chunk_bytes, -(-part.stop * size // chunk_bytes))
        if self._used is not None:
            return self._copy(part, chunks)
        if not self._are_there(chunks):
            with self._held(chunks, fcntl.LOCK_EX):
                self._fetch(chunks)
        return self.values[part]

    def num_there(self) -> int:
        """Returns how many chunks are on this disk."""
        return int(np.count_nonzero(self._marks))

    def is_whole(self) -> bool:
        """Returns whether all chunks are on this disk."""
        return self._are_there(range(len(self._marks)))

    def _are_there(self, chunks: range) -> bool:
        return bool((self._marks[chunks.start : chunks.stop] == THERE).all())

    def _doubt(self) -> None:
        """Marks all chunks as UNSURE if the machine was restarted since, or if that is unknown."""
        boot = BOOT_ID.read_bytes() if BOOT_ID.exists() else b""
        with open(_beside(self.path, BOOT), "a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            if file.read() != boot or not boot:
                self._marks[self._marks == THERE] = UNSURE
                file.truncate(0)
                file.write(boot)

    def _copy(self, part: slice, chunks: range) -> np.ndarray:
        """Returns a copy of values; no other process removes their chunks meanwhile."""
        with self._held(chunks, fcntl.LOCK_SH):
            if self._are_there(chunks):
                return self._taken(part, chunks)
        self._make_room(chunks)
        with self._held(chunks, fcntl.LOCK_EX):
            self._fetch(chunks)
            return self._taken(part, chunks)

    def _taken(self, part: slice, chunks: range) -> np.ndarray:
        self._used[chunks.start : chunks.stop] = time.time()
        values = self.values[part].copy()
        values.flags.writeable = False
        return values

    @contextmanager
    def _held(self, chunks: Sequence[int], how: int) -> Iterator[None]:
        """Holds the locks of some chunks; the kernel frees those of a killed process."""
        with ExitStack() as stack:
            for number in sorted({chunk % NUM_LOCKS for chunk in chunks}):  # always in one order: no deadlock
                # Opened anew each time: a descriptor from before a fork would share its lock.
                file = stack.enter_context(open(self.path.parent / LOCKS / f"{self.path.name}-{number}", "ab"))
                fcntl.flock(file, how)
            yield

    def _fetch(self, chunks: range) -> None:
        """Fetches what is missing of some chunks, whose locks are held."""
        address, chunk_bytes, checksums, _ = self.origin
        raw = self.values.view(np.uint8)
        for chunk in chunks:
            if self._marks[chunk] == UNSURE:
                is_good = zlib.crc32(raw[chunk * chunk_bytes : (chunk + 1) * chunk_bytes]) == int(checksums[chunk])
                self._marks[chunk] = THERE if is_good else ABSENT
        missing = [chunk for chunk in chunks if self._marks[chunk] == ABSENT]
        if not missing:
            return
        with open(self.path, "r+b") as file:
            for run in _runs(missing):
                first, num_bytes = run[0] * chunk_bytes, self.values.nbytes
                sizes = [min(chunk_bytes, num_bytes - chunk * chunk_bytes) for chunk in run]
                found = read_chunks(address, first, sizes, [checksums[chunk] for chunk in run])
                self._write(file.fileno(), b"".join(found), first)
                self._marks[run[0] : run[-1] + 1] = THERE

    def _write(self, file: int, content: bytes, offset: int) -> None:
        rest = memoryview(content)
        try:
            while rest:
                written = os.pwrite(file, rest, offset)
                rest, offset = rest[written:], offset + written
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            limit = f"Free space; or remove {self.path.parent} and set STORES_CACHE_GIB to a size that fits"
            fix = limit if full else "Check this disk"
            raise UserError(
                f"cannot write {self.path}: {error.strerror}.\n{fix}. The same command continues."
            ) from error

    def _make_room(self, wanted: range) -> None:
        """Removes the least recently used chunks to make room for the wanted ones."""
        there = np.flatnonzero(self._marks.copy())  # other processes change them, which numpy refuses
        new = sum(1 for chunk in wanted if not self._marks[chunk])
        too_many = len(there) + new - self.origin.most_chunks
        if too_many <= 0:
            return
        too_many += self.origin.most_chunks // 64  # some more at a time, since looking for them takes a while
        oldest = there[np.argsort(self._used[there], kind="stable")]
        with open(self.path, "r+b") as file:
            for chunk in oldest.tolist():
                if too_many <= 0:
                    return
                too_many -= chunk not in wanted and self._remove(file.fileno(), chunk)

    def _remove(self, file: int, chunk: int) -> bool:
        """Returns whether a chunk could be removed; one that is being read stays."""
        with open(self.path.parent / LOCKS / f"{self.path.name}-{chunk % NUM_LOCKS}", "ab") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                return False
            self._marks[chunk] = ABSENT
            return punch(file, chunk * self.origin.chunk_bytes, self.origin.chunk_bytes)


def make_cached(path: Path, num_bytes: int, num_chunks: int) -> None:
    """Writes an empty sparse file of the given length, with all of its chunks marked as ABSENT."""
    for name, length in ((path, num_bytes), (_beside(path, MARKS), num_chunks), (_beside(path, USED), 8 * num_chunks)):
        with open(name, "wb") as file:
            file.truncate(length)
            os.fsync(file.fileno())
    (path.parent / LOCKS).mkdir(exist_ok=True)


def punch(file: int, offset: int, num_bytes: int) -> bool:
    """Frees the disk space of a part of a file, which then reads as zeros; returns whether that worked."""
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate64", None)
    if fallocate is None:  # no Linux
        return False
    arguments = (ctypes.c_int(PUNCH_HOLE | KEEP_SIZE), ctypes.c_int64(offset), ctypes.c_int64(num_bytes))
    return fallocate(ctypes.c_int(file), *arguments) == 0


def can_punch(folder: Path) -> bool:
    """Returns whether the disk of a folder can free parts of a file."""
    path = folder / "punched"
    with open(path, "wb") as file:
        file.truncate(mmap.PAGESIZE)
        found = punch(file.fileno(), 0, mmap.PAGESIZE)
    path.unlink()
    return found


def _runs(chunks: Sequence[int]) -> Iterator[list[int]]:
    """Yields groups of consecutive chunks, each small enough for one request.

    >>> list(_runs([1, 2, 5]))
    [[1, 2], [5]]
    """
    run: list[int] = []
    for chunk in chunks:
        if run and (chunk != run[-1] + 1 or len(run) == MOST_AT_ONCE):
            yield run
            run = []
        run.append(chunk)
    yield run


def _beside(path: Path, suffix: str) -> Path:
    return path.with_name(path.name + suffix)
