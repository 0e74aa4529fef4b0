"""Tile stores that lie elsewhere (STORES_URL): uploaded once, and read through a cache on this disk.

`STORES_URL/<key>/` has the files of the store and `chunks.json`, the checksums of their parts; `index.json` is written
last. On this machine the store has a folder as if built here, with `origin.json` and, instead of the pixels, sparse
files (see `cached_file.py`). When all chunks are there, the folder is an ordinary tile store.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.data.cached_file import CachedFile, Origin, can_punch, make_cached
from pipeline.data.remote import join, read_file, write_file, write_last
from pipeline.errors import UserError
from pipeline.files import RESERVE, existing_folder, sync_folder, temporary_of, write_atomic
from pipeline.paths import CHUNKS, INDEX, ORIGIN, Folders
from pipeline.wording import GIB, size

CHUNK_BYTES = 4 * 2**20  # a multiple of every disk's blocks; at 20 ms and 1 Gbit/s more than half of the time is data
READ_ONLY = ("http://", "https://")
START_WITHIN_S = 60.0  # shorter at the start of a stage, where somebody may be waiting


class Remote(NamedTuple):
    """Where tile stores are beside this machine.

    Attributes:
        address: of the folder of all stores.
        cache_gib: how much of each may be on this disk; None: all of it.
    """

    address: str
    cache_gib: float | None = None


def remote_of(folders: Folders) -> Remote | None:
    """Returns where STORES_URL says that tile stores are."""
    return Remote(folders.stores, folders.stores_cache_gib) if folders.stores else None


def upload(path: Path, remote: Remote, log: Callable[[str], None] = print) -> bool:
    """Uploads the finished store in a folder, unless it is there already; returns whether it was uploaded.

    Raises:
        UserError: it cannot be written there.
    """
    address = join(remote.address, path.name)
    if (path / ORIGIN).exists() or _is_there(address):
        return False
    if address.startswith(READ_ONLY):
        log(f"note: {address} does not exist; not uploaded, because a web server can only be read")
        return False
    files = [file for file in sorted(path.iterdir()) if file.is_file() and file.name != INDEX]
    sizes = {file.name: file.stat().st_size for file in files}
    log(f"tile store: uploading {size(sum(sizes.values()))} to {address}")
    parts = {file.name: {"bytes": sizes[file.name], "checksums": _checksums(file)} for file in files}
    for file in files:
        write_file(file, join(address, file.name))
    with tempfile.TemporaryDirectory() as folder:
        chunks = Path(folder) / CHUNKS
        chunks.write_text(json.dumps({"chunk_bytes": CHUNK_BYTES, "files": parts}), encoding="utf-8")
        write_file(chunks, join(address, CHUNKS))
    write_last(path / INDEX, join(address, INDEX))
    return True


def attach(path: Path, remote: Remote, log: Callable[[str], None] = print) -> bool:
    """Returns whether the store is there; if so, makes the folder `path` its cache, still without chunks.

    Raises:
        UserError: the address cannot be reached, or has something else.
    """
    address = join(remote.address, path.name)
    try:
        index = read_file(join(address, INDEX), START_WITHIN_S)
        chunks = read_file(join(address, CHUNKS), START_WITHIN_S)
    except FileNotFoundError:
        return False
    temporary = temporary_of(path)
    try:
        shutil.rmtree(temporary, ignore_errors=True)  # of a killed process with the same id
        temporary.mkdir(parents=True)
        _write_cache(temporary, address, index, chunks, remote.cache_gib, log)
        os.rename(temporary, path)
        sync_folder(path.parent)
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f"{address} is not a usable tile store: {error}. Remove it there and upload it again."
        ) from None
    except OSError as error:
        if not (path / INDEX).exists():  # another process was faster
            raise UserError(f"cannot write the tile store {path}: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return True


def _write_cache(
    folder: Path, address: str, index: bytes, chunks: bytes, cache_gib: float | None, log: Callable[[str], None]
) -> None:
    files = json.loads(chunks)["files"]
    total = sum(file["bytes"] for file in files.values())
    most_bytes = None if cache_gib is None or cache_gib * GIB >= total else int(cache_gib * GIB)
    if most_bytes is not None and not can_punch(folder):
        most_bytes = None
        log("note: STORES_CACHE_GIB has no effect: this disk cannot free parts of a file")
    free = shutil.disk_usage(existing_folder(folder)).free - RESERVE
    if free < (most_bytes or total):
        log(
            f"note: the tile store may take {size(most_bytes or total)} in {folder.parent}, which has "
            f"{size(max(free, 0))} free; STORES_CACHE_GIB sets a limit"
        )
    limited = f"; at most {size(most_bytes)} are kept on this disk" if most_bytes else ""
    log(f"tile store: {size(total)} are read from {address} as needed{limited}")
    for name, file in files.items():
        if Path(name).name != name:
            raise ValueError(f"{CHUNKS} names {name!r}")
        make_cached(folder / name, file["bytes"], len(file["checksums"]))
    write_atomic(folder / CHUNKS, chunks)
    write_atomic(folder / ORIGIN, json.dumps({"address": address, "most_bytes": most_bytes}))
    write_atomic(folder / INDEX, index)
    sync_folder(folder)


def cached(path: Path, values: dict[str, np.ndarray]) -> dict[str, np.ndarray | CachedFile]:
    """Returns the mapped files of a store by their names; those of a store that lies elsewhere fetch what is read.

    If all chunks are on this disk, they are the mapped files themselves.
    """
    if not (path / ORIGIN).exists():
        return dict(values)
    origin, chunks = (json.loads((path / name).read_text(encoding="utf-8")) for name in (ORIGIN, CHUNKS))
    total, chunk_bytes = sum(one.nbytes for one in values.values()), chunks["chunk_bytes"]
    files: dict[str, np.ndarray | CachedFile] = {}
    for name, one in values.items():
        most = origin["most_bytes"] and max(1, origin["most_bytes"] * one.nbytes // total // chunk_bytes)
        checksums = np.array(chunks["files"][name]["checksums"], np.uint32)
        parts = Origin(join(origin["address"], name), chunk_bytes, checksums, most)
        files[name] = CachedFile(one, path / name, parts) if one.nbytes else one
    is_whole = all(one.is_whole() for one in files.values() if isinstance(one, CachedFile))
    return dict(values) if is_whole and origin["most_bytes"] is None else files


def _is_there(address: str) -> bool:
    try:
        read_file(join(address, INDEX), START_WITHIN_S)
    except FileNotFoundError:
        return False
    return True


def _checksums(path: Path) -> list[int]:
    """Returns the CRC-32 of each chunk of a file."""
    checksums = []
    with open(path, "rb") as file:
        while chunk := file.read(CHUNK_BYTES):
            checksums.append(zlib.crc32(chunk))
    return checksums
