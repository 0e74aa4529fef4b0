"""Reads and writes files in object storage or on a network disk, through fsspec: s3://, gs://, https://, a path, ...

In: an address, and for s3, gs and others the package that fsspec names. Temporary faults (a lost connection, a
server that refuses or is slow, a cut or damaged answer) are tried again with growing pauses; others end with an error.
"""

from __future__ import annotations

import random
import sys
import time
import zlib
from collections.abc import Callable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeVar

import fsspec
import numpy as np

from pipeline.errors import UserError

GIVE_UP_S = 240.0  # after so long, a fault counts as permanent
LOADER_TIME_OUT_S = 3600.0  # for a batch: a slow network is no fault, and a lost one is noticed here
CHUNK_S, FILE_S = 60.0, 600.0  # for an answer: of a chunk that is 70 kB/s, of an index of a million images 200 kB/s
FIRST_PAUSE_S, LONGEST_PAUSE_S = 0.5, 20.0
TELL_FROM_S = 5.0  # shorter pauses are not worth a line
MOST_DAMAGED = 3  # answers that do not match their checksum
PASSING_STATUS = (408, 425, 429)  # of HTTP's 4xx: too slow, too early, too often

Value = TypeVar("Value")


class Incomplete(Exception):
    """An answer has not as many bytes as were asked for."""


class DamagedAnswer(Exception):
    """The bytes of an answer do not match their checksums."""


def join(address: str, *names: str) -> str:
    """Returns the address of a file below another address.

    >>> join("s3://bucket/stores/", "1a2b", "index.json")
    's3://bucket/stores/1a2b/index.json'
    """
    return "/".join([address.rstrip("/"), *names])


def read_file(address: str, give_up_s: float | None = None) -> bytes:
    """Returns the content of a file.

    Raises:
        FileNotFoundError: there is none.
        UserError: it cannot be read, or not within `give_up_s`.
    """
    return _persist(address, lambda: _read(address, None, None, FILE_S), give_up_s)


def read_chunks(address: str, start: int, sizes: Sequence[int], checksums: Sequence[int]) -> list[memoryview]:
    """Returns neighbouring chunks of a file, read with one request.

    Args:
        start: the first byte.
        sizes: of the chunks, in bytes.
        checksums: their CRC-32.

    Raises:
        UserError: they cannot be read, not within GIVE_UP_S, or do not match their checksums.
    """
    ends = np.cumsum([0, *sizes]).tolist()

    def read() -> list[memoryview]:
        content = memoryview(_read(address, start, start + ends[-1], CHUNK_S * len(sizes)))
        if len(content) != ends[-1]:
            raise Incomplete(f"{len(content)} bytes instead of {ends[-1]}; the server must support range requests")
        chunks = [content[first:last] for first, last in pairwise(ends)]
        if any(zlib.crc32(chunk) != int(crc) for chunk, crc in zip(chunks, checksums, strict=True)):
            raise DamagedAnswer
        return chunks

    try:
        return _persist(address, read)
    except FileNotFoundError:
        raise UserError(f"{address} is missing; upload the tile store again (docs/clusters.md)") from None


def write_file(local: Path, address: str) -> None:
    """Uploads a file; one that is there is replaced.

    Raises:
        UserError: it cannot be written.
    """

    def write() -> None:
        system, path = _open(address)
        if not system.async_impl:  # object storage has no folders
            system.makedirs(system._parent(path), exist_ok=True)
        system.put_file(str(local), path)

    _persist(address, write)


def write_last(local: Path, address: str) -> None:
    """Uploads a file which says that others are complete: it appears at once, as a whole.

    Raises:
        UserError: it cannot be written.
    """
    write_file(local, f"{address}.part")

    def rename() -> None:
        system, path = _open(address)
        system.mv(f"{path}.part", path)

    _persist(address, rename)


def _open(address: str) -> tuple[Any, str]:
    """Returns the file system of an address, and the path in it; anew after a fork, see fsspec."""
    return fsspec.core.url_to_fs(address)


def _read(address: str, start: int | None, end: int | None, within_s: float) -> bytes:
    system, path = _open(address)
    # By name: s3fs has another argument (a version) before them.
    return system.cat_file(path, start=start, end=end, **({"timeout": within_s} if system.async_impl else {}))


def _persist(address: str, act: Callable[[], Value], give_up_s: float | None = None) -> Value:
    """Returns what `act` returns; repeats it after temporary faults.

    Raises:
        FileNotFoundError: there is no such file.
        UserError: the fault is permanent, or lasted for `give_up_s`.
    """
    give_up_at = time.monotonic() + (GIVE_UP_S if give_up_s is None else give_up_s)
    pause_s, num_damaged = FIRST_PAUSE_S, 0
    while True:
        try:
            return act()
        except FileNotFoundError:
            raise
        except DamagedAnswer:
            num_damaged += 1
            if num_damaged == MOST_DAMAGED:
                raise UserError(
                    f"{address} was read {MOST_DAMAGED} times and does not match its checksums, so it is damaged. "
                    "Remove the store from STORES_URL and upload it again (docs/clusters.md)."
                ) from None
            continue
        except Exception as error:  # fsspec passes the errors of many clients through
            why = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
            if _is_final(error):
                raise UserError(f"{address} cannot be used: {why}.\nCheck STORES_URL and its credentials.") from None
            if time.monotonic() + pause_s > give_up_at:
                raise UserError(
                    f"{address} could not be reached for {(GIVE_UP_S if give_up_s is None else give_up_s) / 60:.1f} "
                    f"minutes: {why}.\nWhen the network works again, type the same command; it continues."
                ) from None
            if pause_s >= TELL_FROM_S:
                print(f"{address}: {why}; trying again in {pause_s:.0f} s", file=sys.stderr, flush=True)
        time.sleep(pause_s * random.uniform(0.7, 1))  # so that workers do not all come back at once
        pause_s = min(2 * pause_s, LONGEST_PAUSE_S)


def _is_final(error: Exception) -> bool:
    """Returns whether the same request would fail again."""
    if isinstance(error, (PermissionError, ImportError, ValueError, NotImplementedError, TypeError)):
        return True
    status = getattr(error, "status", None)
    return isinstance(status, int) and 400 <= status < 500 and status not in PASSING_STATUS
