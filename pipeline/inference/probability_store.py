"""The probabilities of many pictures on disk: small, checked, resumable, readable by others in two lines.

A store is a folder of safetensors files ("shards") of a few pictures each, and `index.json`, written last. A tensor's
name is the picture's id; its values are float16 logits, before the network's final bilinear upsampling where it has
one (upsampling them later is exact and needs a sixteenth of the space):

    shard = safetensors.safe_open("shard-00000.safetensors", "np")
    logits = shard.get_tensor("000001_001")          # (classes, h, w)

`index.json` tells each picture's shard, upsampling factor, padding offset and size, and each shard's sha256. Shards
hold fixed runs of the id list, so a store that was killed and resumed has the same bytes as one that was not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save

from pipeline.errors import UserError
from pipeline.files import check_disk, sha256_file, sha256_text, sweep_temporaries, write_atomic
from pipeline.inference.predict import Prediction
from pipeline.paths import shown

FORMAT = 1
PICTURES_PER_SHARD = 16  # some 40 files for 648 pictures: Kaggle keeps 500 files; a kill loses at most 15 predictions


class StoreWriter:
    """Writes a store, going on where an earlier process of the same key left it.

    Args:
        key: hash of all that the predictions depend on; shards of another key are removed.
        ids: every picture, in the order in which `put` will be called.
        facts: plain values for the index, e.g. the class names.
    """

    def __init__(self, folder: Path, key: str, ids: Sequence[str], facts: dict[str, Any]) -> None:
        self.folder, self.key, self.facts = folder, key, facts
        folder.mkdir(parents=True, exist_ok=True)
        sweep_temporaries(folder)
        self.runs = [list(ids[start : start + PICTURES_PER_SHARD]) for start in range(0, len(ids), PICTURES_PER_SHARD)]
        (folder / "index.json").unlink(missing_ok=True)
        self._remove_strangers()
        self.pending: dict[str, Prediction] = {}

    def missing(self) -> list[str]:
        """Returns the ids that are still to be predicted, in order."""
        done = [index for index in range(len(self.runs)) if self._shard(index).is_file()]
        return [picture_id for index, run in enumerate(self.runs) if index not in done for picture_id in run]

    def put(self, picture_id: str, prediction: Prediction) -> None:
        """Takes in a prediction; a shard is written as soon as it is complete, in whatever order they come."""
        self.pending[picture_id] = prediction
        index = next(index for index, run in enumerate(self.runs) if picture_id in run)
        if all(other in self.pending for other in self.runs[index]):
            self._write(index, {other: self.pending.pop(other) for other in self.runs[index]})

    def finish(self) -> None:
        """Writes the index: from now on the store is whole."""
        pictures, shards = {}, {}
        for index in range(len(self.runs)):
            path = self._shard(index)
            shards[path.name] = sha256_file(path)
            pictures |= {
                picture_id: {"shard": path.name, **facts} for picture_id, facts in _facts_of(path)["pictures"].items()
            }
        content = {"format": FORMAT, "key": self.key, **self.facts, "shards": shards, "pictures": pictures}
        content["sha256"] = _sha256_of_index(content)
        write_atomic(self.folder / "index.json", json.dumps(content, indent=1))

    def _write(self, index: int, predictions: dict[str, Prediction]) -> None:
        tensors = {picture_id: prediction.logits for picture_id, prediction in predictions.items()}
        pictures = {}
        for picture_id, prediction in predictions.items():
            pictures[picture_id] = {name: value for name, value in vars(prediction).items() if name != "logits"}
        check_disk(
            self.folder,
            sum(array.nbytes for array in tensors.values()) * (len(self.runs) - index),
            "the probability store",
        )
        facts = {"key": self.key, "sha256": _sha256_of_shard(pictures, tensors), "pictures": pictures}
        # One metadata entry only: safetensors writes several in an order that changes from run to run.
        write_atomic(self._shard(index), save(tensors, {"store": json.dumps(facts)}))

    def _shard(self, index: int) -> Path:
        return self.folder / f"shard-{index:05d}.safetensors"

    def _remove_strangers(self) -> None:
        """Removes shards of another key, of another list of pictures, or damaged ones."""
        expected = {self._shard(index): set(run) for index, run in enumerate(self.runs)}
        for path in self.folder.glob("shard-*.safetensors"):
            facts = _facts_of(path)
            is_ours = facts.get("key") == self.key and set(facts.get("pictures", ())) == expected.get(path)
            if not is_ours or not _is_whole(path, facts):
                path.unlink()


class ProbabilityStore:
    """A whole store, for reading; `store[id]` is a `Prediction`.

    Raises:
        UserError: there is none, or a shard does not match its sha256.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        try:
            self.index = json.loads((folder / "index.json").read_text())
            if self.index["format"] != FORMAT or self.index["sha256"] != _sha256_of_index(self.index):
                raise ValueError("another format, or changed")
        except (OSError, ValueError, KeyError, TypeError):
            raise UserError(
                f"there is no whole probability store in {shown(folder)}; run the stage that writes it again"
            ) from None
        self.checked: set[str] = set()

    @property
    def ids(self) -> list[str]:
        return list(self.index["pictures"])

    def __getitem__(self, picture_id: str) -> Prediction:
        facts = dict(self.index["pictures"][picture_id])
        path = self.folder / facts.pop("shard")
        self._check(path)
        with safe_open(path, "np") as shard:
            logits = shard.get_tensor(picture_id)
        facts |= {"offset": tuple(facts["offset"]), "size": tuple(facts["size"])}
        return Prediction(logits=np.asarray(logits), **facts)

    def view(self, picture_id: str) -> Prediction:
        """Returns a prediction whose logits stay on the disk (a memory map) until rows of them are looked at."""
        facts = dict(self.index["pictures"][picture_id])
        path = self.folder / facts.pop("shard")
        self._check(path)
        with open(path, "rb") as file:
            header_bytes = int.from_bytes(file.read(8), "little")
            place = json.loads(file.read(header_bytes))[picture_id]
        start = 8 + header_bytes + place["data_offsets"][0]
        logits = np.memmap(path, np.float16, "r", start, tuple(place["shape"]))
        return Prediction(logits, facts["factor"], facts["align_corners"], tuple(facts["offset"]), tuple(facts["size"]))

    def __iter__(self) -> Iterator[str]:
        return iter(self.ids)

    def _check(self, path: Path) -> None:
        if path.name in self.checked:
            return
        if not path.is_file() or sha256_file(path) != self.index["shards"][path.name]:
            raise UserError(
                f"{shown(path)} is damaged: its sha256 is not the one in index.json; predict again with --force"
            )
        self.checked.add(path.name)


def _sha256_of_index(index: dict[str, Any]) -> str:
    return sha256_text(json.dumps({name: value for name, value in index.items() if name != "sha256"}))


def _sha256_of_shard(pictures: dict[str, Any], tensors: Mapping[str, np.ndarray]) -> str:
    """Returns the hash of all that a shard holds, kept in the shard, so that it is known before there is an index."""
    digest = hashlib.sha256(json.dumps(pictures).encode())
    for picture_id in pictures:
        digest.update(f"{picture_id} {tensors[picture_id].dtype} {tensors[picture_id].shape}".encode())
        digest.update(np.ascontiguousarray(tensors[picture_id]))
    return digest.hexdigest()


def _is_whole(path: Path, facts: dict[str, Any]) -> bool:
    """Returns whether a shard's content is what was written: safetensors itself loads flipped bits in silence."""
    try:
        with safe_open(path, "np") as shard:
            tensors = {picture_id: shard.get_tensor(picture_id) for picture_id in facts["pictures"]}
        return _sha256_of_shard(facts["pictures"], tensors) == facts["sha256"]
    except (SafetensorError, OSError, KeyError):
        return False


def _facts_of(path: Path) -> dict[str, Any]:
    """Returns what a shard says of itself, or nothing when it is damaged."""
    try:
        with safe_open(path, "np") as shard:
            return json.loads((shard.metadata() or {}).get("store", "{}"))
    except (SafetensorError, OSError, ValueError):
        return {}
