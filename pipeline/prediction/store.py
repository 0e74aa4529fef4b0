"""The probabilities of many images on disk: small, checked, resumable, readable by others in a few lines.

A store is a folder of safetensors files ("shards") of a few images each, and `index.json`, written last. A tensor's
name is the image's id. Where the network ends in a bilinear upsampling, its values are the float16 logits before it
(upsampling them later is exact and needs a sixteenth of the space):

    shard = safetensors.safe_open("shard-00000.safetensors", "np")
    logits = shard.get_tensor("000001_001")          # (classes, h, w)

Otherwise they are bytes, compressed as described in `compact.py`, of shape `shape`, in bands that end at `ends`.

`index.json` has each image's shard, upsampling factor, padding offset and size, and the hash of each shard's content,
which the shard holds too. So a shard that a power cut damaged is detected, and shards are flushed to the disk only
just before the index. They hold fixed runs of the id list, so a store that was killed and resumed has the same bytes as
one that was not. They are written by hand: safetensors' own writer copies every array three times, and would hide an
error of the disk behind one of its own. Their metadata `store` is JSON: `key`, `sha256` of the content, `images`.
"""

from __future__ import annotations

import hashlib
import json
import mmap
import os
import shutil
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.files import GIB, atomic_path, check_disk, sha256_text, sweep_temporaries, sync_folder, write_atomic
from pipeline.paths import INDEX, PROBS, shown
from pipeline.prediction.progress import Parts

Pack = Callable[[Any], tuple[np.ndarray, dict[str, Any]]]
Unpack = Callable[[np.ndarray, Mapping[str, Any]], Any]
FORMAT = 2  # 1 held full-size logits as float16
DTYPES = {np.dtype(np.float16): "F16", np.dtype(np.float32): "F32", np.dtype(np.uint8): "U8"}
MOST_COPIED_BYTES = 2**26
LEAST_LOGGED = 2**24  # bytes of a store; nobody's disk depends on less
CHUNK_BYTES = 2**24  # of a shard that is checked
ALIGNMENT = 8  # of the arrays' first byte, as safetensors writes it
USUAL_SHARE = 0.2  # what compression leaves of a byte per class and pixel: 0.09 to 0.21 on street images


class StoreWriter:
    """Writes a store, resuming where an earlier process of the same key stopped.

    Args:
        key: hash of all that the predictions depend on; shards of another key are removed.
        ids: every image, in the order in which `put` will be called.
        facts: plain values for the index, e.g. the class names.
        pack: a prediction to an array and plain values, see `Task.pack`.
        log: takes the lines about disk space.
        alone: ids of images that are so large that each has a shard of its own.
    """

    def __init__(
        self,
        folder: Path,
        key: str,
        ids: Sequence[str],
        facts: dict[str, Any],
        pack: Pack,
        log: Callable[[str], None] = lambda line: None,
        alone: Collection[str] = (),
    ) -> None:
        self.folder, self.key, self.facts, self.pack, self.log = folder, f"{FORMAT} {key}", facts, pack, log
        folder.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(folder)
        self.parts: Parts[tuple[np.ndarray, dict[str, Any]]] = Parts(ids, self._shard, alone)
        (folder / INDEX).unlink(missing_ok=True)
        self._remove_foreign()
        self.is_estimate_due = False

    def missing(self) -> list[str]:
        """Returns the ids that are still to be predicted, in order."""
        return self.parts.missing()

    def expect(self, num_bytes: int, is_exact: bool) -> None:
        """Logs the disk space that the missing images will take, if it is much; refuses when the disk is too small.

        Args:
            num_bytes: of all of them.
            is_exact: otherwise it is the most that they may take, and after the first shard a nearer figure is logged.

        Raises:
            UserError: the disk is too small.
        """
        self.is_estimate_due = not is_exact
        words = ("", "") if is_exact else ("at most ", "usually a fifth or less, ")
        self.is_estimate_due &= num_bytes >= LEAST_LOGGED
        if num_bytes >= LEAST_LOGGED:
            self._log_size(num_bytes, len(self.missing()), *words)
        check_disk(self.folder, num_bytes if is_exact else int(num_bytes * USUAL_SHARE), "the probability store")

    def put(self, image_id: str, prediction: Any) -> None:
        """Adds a prediction; a shard is written as soon as it is complete, in whatever order they come."""
        complete = self.parts.add(image_id, self.pack(prediction))
        if complete is not None:
            self._write(*complete)

    def view(self, image_id: str, unpack: Unpack) -> Any:
        """Returns a prediction that was put, None where there is none yet; its array may stay on the disk."""
        if image_id in self.parts.pending:
            return unpack(*self.parts.pending[image_id])
        path = self._shard(self.parts.number_of[image_id])
        if not path.is_file():
            return None
        return unpack(mapped_array(path, image_id), read_facts(path)["images"][image_id])

    def finish(self) -> None:
        """Flushes the shards to the disk and writes the index, which makes the store complete."""
        images, shards = {}, {}
        for path in self.parts.paths:
            _sync(path)
            own = read_facts(path)
            shards[path.name] = own["sha256"]
            images |= {image_id: {"shard": path.name, **facts} for image_id, facts in own["images"].items()}
        sync_folder(self.folder)
        content = {"format": FORMAT, "key": self.key, **self.facts, "shards": shards, "images": images}
        content["sha256"] = _sha256_of_index(content)
        write_atomic(self.folder / INDEX, json.dumps(content))

    def _write(self, index: int, packed: dict[str, tuple[np.ndarray, dict[str, Any]]]) -> None:
        arrays = {image_id: array for image_id, (array, _) in packed.items()}
        left = [other for other in self.missing() if other not in packed]
        num_bytes = sum(array.nbytes for array in arrays.values())
        bytes_left = round(num_bytes / len(arrays) * len(left))
        check_disk(self.folder, num_bytes + bytes_left, "the probability store")
        write_shard(self._shard(index), self.key, {image_id: own for image_id, (_, own) in packed.items()}, arrays)
        if self.is_estimate_due and left:
            self._log_size(bytes_left, len(left), "about ", f"by the {len(arrays)} before them, ")
        self.is_estimate_due = False

    def _log_size(self, num_bytes: int, num_images: int, how: str, why: str) -> None:
        free = shutil.disk_usage(self.folder).free / GIB
        self.log(
            f"disk: the predictions of {num_images} images take {how}{num_bytes:,} bytes ({why}"
            f"{free:.1f} GiB free) in {shown(self.folder)}"
        )

    def _shard(self, index: int) -> Path:
        return self.folder / f"shard-{index:05d}.safetensors"

    def _remove_foreign(self) -> None:
        """Removes shards of another key, format or list of images, and damaged ones."""
        expected = dict(zip(self.parts.paths, self.parts.runs, strict=True))
        for path in self.folder.glob("shard-*.safetensors"):
            facts = read_facts(path)
            is_ours = facts.get("key") == self.key and list(facts.get("images", ())) == expected.get(path)
            if not is_ours or not is_whole(path, facts):
                path.unlink()


class PredictionStore:
    """A whole store, for reading; `store[id]` is a prediction.

    Args:
        unpack: an array and plain values to a prediction, see `Task.unpack`.

    Raises:
        UserError: there is none, or a shard does not match its hash.
    """

    def __init__(self, folder: Path, unpack: Unpack) -> None:
        self.folder, self.unpack = folder, unpack
        try:
            self.index = json.loads((folder / INDEX).read_text(encoding="utf-8"))
            if self.index["format"] != FORMAT or self.index["sha256"] != _sha256_of_index(self.index):
                raise ValueError("another format, or changed")
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"there is no whole probability store in {shown(folder)}; run the stage that writes it again"
            ) from None
        self.checked: set[str] = set()

    def __getitem__(self, image_id: str) -> Any:
        array = mapped_array(self._checked_shard(image_id), image_id)
        if array.nbytes <= MOST_COPIED_BYTES:  # of a large image it stays on the disk, as in `view`
            array = np.array(array)
        return self.unpack(array, self.index["images"][image_id])

    def view(self, image_id: str) -> Any:
        """Returns a prediction whose array stays on the disk (a memory map) until parts of it are read."""
        path, facts = self._checked_shard(image_id), self.index["images"][image_id]
        return self.unpack(mapped_array(path, image_id), facts)

    def __iter__(self) -> Iterator[str]:
        return iter(self.index["images"])

    def _checked_shard(self, image_id: str) -> Path:
        path = self.folder / self.index["images"][image_id]["shard"]
        if path.name not in self.checked:
            facts = read_facts(path)
            if facts.get("sha256") != self.index["shards"][path.name] or not is_whole(path, facts):
                raise UserError(
                    f"{shown(path)} is damaged: its content is not what {INDEX} says; predict again with --force"
                )
            self.checked.add(path.name)
        return path


def open_predictions(run: Run, subset: str) -> PredictionStore:
    """Returns the store of a run's predictions; `subset` is "valid" or "test".

    Raises:
        UserError: there is no whole store.
    """
    return PredictionStore(run.paths / PROBS[subset], run.task.unpack)


def write_shard(path: Path, key: str, images: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Writes a shard and returns the hash of its content. It is whole or absent, but may be lost in a power cut.

    Args:
        key: of the store.
        images: what is known of each image, plain values.
        arrays: float16 or uint8, by the same names.
    """
    sha256 = content_hash(key, images, arrays)
    # One metadata entry only, as safetensors itself would write several in an order that changes from run to run.
    header: dict[str, Any] = {"__metadata__": {"store": json.dumps({"key": key, "sha256": sha256, "images": images})}}
    end = 0
    for name, array in arrays.items():
        start, end = end, end + array.nbytes
        header[name] = {"dtype": DTYPES[array.dtype], "shape": array.shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % ALIGNMENT)
    with atomic_path(path, is_durable=False) as temporary, open(temporary, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for array in arrays.values():
            file.write(np.ascontiguousarray(array).data)
    return sha256


def read_facts(path: Path) -> dict[str, Any]:
    """Returns what a shard says of itself, or nothing where it is damaged or absent."""
    try:
        with safe_open(path, "np") as shard:
            return json.loads((shard.metadata() or {}).get("store", "{}"))
    except (SafetensorError, OSError, ValueError):
        return {}


def is_whole(path: Path, facts: Mapping[str, Any]) -> bool:
    """Returns whether a shard's content is what was written: safetensors itself loads flipped bits in silence."""
    try:
        with safe_open(path, "np") as shard:
            names = set(shard.keys())
        ordered = [*facts["images"], *(names - facts["images"].keys())]
        arrays = {name: mapped_array(path, name) for name in ordered}
        return content_hash(facts["key"], facts["images"], arrays) == facts["sha256"]
    except (SafetensorError, OSError, KeyError, ValueError):
        return False


def content_hash(key: str, images: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the hash of all that a shard holds, kept in the shard, so that it is known before there is an index."""
    digest = hashlib.sha256(json.dumps([key, images]).encode())
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        flat = np.ascontiguousarray(array).reshape(-1)
        step = CHUNK_BYTES // flat.itemsize
        for start in range(0, flat.size, step):
            digest.update(flat[start : start + step])
            forget_mapped(array)
    return digest.hexdigest()


def mapped_array(path: Path, name: str) -> np.memmap:
    """Returns an array that stays on the disk until parts of it are read."""
    with open(path, "rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(header_bytes))[name]
    dtype = next(dtype for dtype, label in DTYPES.items() if label == entry["dtype"])
    return np.memmap(path, dtype, "r", 8 + header_bytes + entry["data_offsets"][0], tuple(entry["shape"]))


def forget_mapped(array: np.ndarray) -> None:
    """Unmaps what was read of a large memory map, so that reading all of it does not fill the memory."""
    mapped = getattr(array, "_mmap", None)
    if mapped is not None and array.nbytes > MOST_COPIED_BYTES and hasattr(mmap, "MADV_DONTNEED"):
        mapped.madvise(mmap.MADV_DONTNEED)


def _sha256_of_index(index: dict[str, Any]) -> str:
    return sha256_text(json.dumps({name: value for name, value in index.items() if name != "sha256"}))


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
