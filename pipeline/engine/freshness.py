"""Whether a stage's result is still valid: content hashes of inputs, settings and outputs, kept in markers.

A marker is written last, so a stage that was killed has none. Hashes are of content, not of time stamps: a run that
was copied to another machine stays fresh. A cache keyed by size and times avoids reading unchanged files again.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pipeline.files import read_json, sha256_file, sha256_text, write_atomic
from pipeline.paths import RunPaths

Hashes = dict[str, str]
ABSENT = "absent"
UNREADABLE = "unreadable"  # a stage that reads it says so
NOT_DONE = "not done yet"
CHANGED = "changed"  # behind the name of what a stage reads
MARKER = {"version": int, "settings": dict, "inputs": {str: str}, "outputs": {str: str}, "seconds": (int, float)}
SETTLED_NS = 2_000_000_000  # the coarsest time stamps in use (FAT, 2 s): an older file cannot change unnoticed


class Fingerprints:
    """Content hashes of files and folders, remembered in one JSON file."""

    def __init__(self, cache_path: Path) -> None:
        self.cache_path = cache_path
        known: dict[str, Any] = read_json(cache_path, dict) or {}
        self.known = {path: entry for path, entry in known.items() if _is_entry(entry)}
        self._is_changed = False

    @classmethod
    def of_run(cls, paths: RunPaths) -> Fingerprints:
        return cls(paths.markers / "fingerprints.json")

    def of(self, path: Path) -> str:
        """Returns the hash of a file, of a folder (names and contents, recursively), or "absent".

        Hidden files in a folder do not count: a file browser leaves some wherever it looks.
        """
        if path.is_dir():
            files = (file for file in path.rglob("*") if file.is_file())
            return self.of_files(sorted(file for file in files if not _is_hidden(file.relative_to(path))), path)
        return self._of_file(path)

    def of_files(self, files: Iterable[Path], below: Path) -> str:
        """Returns one hash over the names (relative to `below`) and contents of many files, read in parallel."""
        files = list(files)
        pool = ThreadPoolExecutor(max_workers=min(8, os.cpu_count() or 1))
        try:
            hashes = list(pool.map(self._of_file, files))
        finally:
            pool.shutdown(cancel_futures=True)  # after Ctrl-C the gigabytes not yet read stay unread
        digest = hashlib.sha256()
        for file, file_hash in zip(files, hashes, strict=True):
            digest.update(os.fsencode(f"{os.path.relpath(file, below)}\0{file_hash}\n"))
        return digest.hexdigest()

    def save(self) -> None:
        """Writes the cache if it has changed."""
        if self._is_changed:
            write_atomic(self.cache_path, json.dumps(self.known))
            self._is_changed = False

    def _of_file(self, path: Path) -> str:
        try:
            status = path.stat()
            # ctime cannot be set back: a file restored with its old modification time is read again.
            stamp = [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
            entry = self.known.get(str(path))
            if entry and entry[:-1] == stamp:
                return entry[-1]
            content_hash = sha256_file(path)
        except (FileNotFoundError, NotADirectoryError):
            return ABSENT
        except OSError:  # no permission, a damaged disk, a link that leads to itself
            return UNREADABLE
        if time.time_ns() - max(stamp[1:]) > SETTLED_NS:
            self.known[str(path)] = [*stamp, content_hash]
            self._is_changed = True
        return content_hash


@dataclass(frozen=True)
class Marker:
    """What a stage was when it finished."""

    version: int
    settings: dict[str, Any]
    inputs: Hashes
    outputs: Hashes
    seconds: float


def read_marker(path: Path) -> Marker | None:
    """Returns a stage's marker, or None when there is none or it cannot be read."""
    content = read_json(path, MARKER)
    return Marker(**content) if content and content.keys() == MARKER.keys() else None


def write_marker(path: Path, marker: Marker) -> None:
    """Writes the marker of a finished stage."""
    write_atomic(path, json.dumps(asdict(marker), indent=1, sort_keys=True))


def plain(settings: dict[str, Any]) -> dict[str, Any]:
    """Returns settings as JSON stores them (tuples become lists), so that they can be compared with a marker's."""
    return json.loads(json.dumps(settings))


def key_of(version: int, settings: dict[str, Any], inputs: Hashes) -> str:
    """Returns one hash for everything that a stage's result depends on."""
    return sha256_text(json.dumps([version, plain(settings), inputs], sort_keys=True))


def why_stale(marker: Marker | None, version: int, settings: dict[str, Any], inputs: Hashes) -> str | None:
    """Returns why a stage must run, as text for the log, or None while its inputs are unchanged.

    >>> marker = Marker(1, {"SOLVER.MAX_LR": 0.001}, {"split.csv": "12ab"}, {}, 3.0)
    >>> why_stale(marker, 1, {"SOLVER.MAX_LR": 0.002}, {"split.csv": "12ab"})
    'SOLVER.MAX_LR changed (0.001 -> 0.002)'
    """
    return NOT_DONE if marker is None else next(changes_since(marker, version, settings, inputs), None)


def changes_since(marker: Marker, version: int, settings: dict[str, Any], inputs: Hashes) -> Iterator[str]:
    """Yields everything that is not as a stage found it: its version, then settings, then what it reads."""
    if marker.version != version:
        yield "the stage itself has a new version"
    settings = plain(settings)
    for key in sorted(settings.keys() | marker.settings.keys()):
        if settings.get(key) != marker.settings.get(key):
            yield f"{key} changed ({_short(marker.settings.get(key))} -> {_short(settings.get(key))})"
    for name in sorted(inputs.keys() | marker.inputs.keys()):
        if inputs.get(name) != marker.inputs.get(name):
            yield f"{name} {CHANGED}"


def newest(paths: list[Path], since_s: float) -> Path | None:
    """Returns the first of some files that was written after a point in time, but for hidden ones; else None."""
    seen = (path for path in paths if path.is_file() and not path.name.startswith("."))
    return next((path for path in seen if path.stat().st_ctime > since_s), None)


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)


def _is_entry(entry: Any) -> bool:
    """Returns whether an entry of the cache is size, two times and hash; a cache that was edited may hold anything."""
    return isinstance(entry, list) and list(map(type, entry)) == [int, int, int, str]


def _short(value: Any) -> str:
    text = json.dumps(value)
    return text if len(text) <= 40 else f"{text[:37]}..."
