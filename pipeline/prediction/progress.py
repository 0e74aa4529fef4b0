"""The results of a long pass over images so far, so that a killed pass resumes where it was.

In: small arrays by image (masks, confusion matrices). Out: the same, from files of some images each, which are
removed once the pass is used. A file is a zlib stream of a safetensors file: zlib's checksum reveals damage.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from pipeline.files import sha256_text, sweep_temporaries, write_atomic

IMAGES_PER_FILE = 16  # some 40 files for 648 images: Kaggle keeps 500 files; a kill loses at most 15 results
LEVEL = 1  # masks shrink fortyfold at once; more effort gains little

Arrays = dict[str, np.ndarray]
Value = TypeVar("Value")


class Parts(Generic[Value]):
    """The runs of an id list, one to a file: which is still to be made, which is now complete.

    A file is whole or absent and holds a fixed run of the list, whatever order results come in; so a pass that was
    killed and resumed leaves the same files as one that was not.

    Args:
        ids: every image, in the order in which `add` will be called.
        path_of: from the number of a run to its file.
        alone: ids whose values are so large that each has a run of its own.

    >>> parts = Parts(["a", "b"], lambda number: Path("/nowhere") / str(number))
    >>> parts.missing(), parts.add("a", 1), parts.add("b", 2)
    (['a', 'b'], None, (0, {'a': 1, 'b': 2}))
    """

    def __init__(self, ids: Sequence[str], path_of: Callable[[int], Path], alone: Collection[str] = ()) -> None:
        self.runs: list[list[str]] = []
        for image_id in ids:
            is_full = not self.runs or len(self.runs[-1]) == IMAGES_PER_FILE
            if is_full or image_id in alone or self.runs[-1][-1] in alone:
                self.runs.append([])
            self.runs[-1].append(image_id)
        self.paths = [path_of(number) for number in range(len(self.runs))]
        self.number_of = {image_id: number for number, run in enumerate(self.runs) for image_id in run}
        self.pending: dict[str, Value] = {}

    def missing(self) -> list[str]:
        """Returns the ids whose file is not there yet, in order."""
        pairs = zip(self.paths, self.runs, strict=True)
        return [image_id for path, run in pairs if not path.is_file() for image_id in run]

    def add(self, image_id: str, value: Value) -> tuple[int, dict[str, Value]] | None:
        """Adds an image's value; returns the number and the values of its run as soon as that is complete."""
        self.pending[image_id] = value
        number = self.number_of[image_id]
        run = self.runs[number]
        if any(other not in self.pending for other in run):
            return None
        return number, {other: self.pending.pop(other) for other in run}


class Progress:
    """Results of images on disk; `progress[id]` reads one.

    Args:
        folder: of this pass alone.
        key: of all that the results depend on; files of another key, or damaged ones, are removed.
        ids: every image, in the order in which `put` will be called.
        alone: ids whose results are so large that each has a file of its own.
    """

    def __init__(self, folder: Path, key: str, ids: Sequence[str], alone: Collection[str] = ()) -> None:
        self.parts: Parts[Arrays] = Parts(ids, lambda number: folder / f"part-{number:05d}", alone)
        self.key = sha256_text(json.dumps([key, list(ids)]))
        self.latest: tuple[int, dict[str, Arrays]] | None = None
        folder.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(folder)
        for path in folder.iterdir():
            if path not in self.parts.paths or _read(path, self.key) is None:
                path.unlink()

    def missing(self) -> list[str]:
        """Returns the ids whose results are not on disk yet, in order."""
        return self.parts.missing()

    def put(self, image_id: str, result: Mapping[str, np.ndarray]) -> None:
        """Adds an image's result; a file is written as soon as its images are complete."""
        complete = self.parts.add(image_id, dict(result))
        if complete is not None:
            number, results = complete
            write_atomic(self.parts.paths[number], _pack(results, self.key))

    def __getitem__(self, image_id: str) -> Arrays:
        number = self.parts.number_of[image_id]
        if self.latest is None or self.latest[0] != number:
            found = _read(self.parts.paths[number], self.key)
            if found is None:
                raise RuntimeError(f"{self.parts.paths[number]} was changed while it was needed")
            self.latest = (number, found)
        return self.latest[1][image_id]


def _pack(results: Mapping[str, Arrays], key: str) -> bytes:
    tensors = {
        f"{id}/{name}": np.ascontiguousarray(array) for id, result in results.items() for name, array in result.items()
    }
    return zlib.compress(save(tensors, {"key": key}), LEVEL)


def _read(path: Path, key: str) -> dict[str, Arrays] | None:
    """Returns the results in a file, or None when it is damaged or of another key."""
    try:
        data = zlib.decompress(path.read_bytes())
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        if header["__metadata__"]["key"] != key:
            return None
        results: dict[str, Arrays] = {}
        for name, array in load(data).items():
            image_id, _, part = name.rpartition("/")
            results.setdefault(image_id, {})[part] = array
        return results
    except (OSError, zlib.error, SafetensorError, ValueError, KeyError):
        return None
