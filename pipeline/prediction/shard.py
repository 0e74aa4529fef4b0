"""A file of a probability store: the arrays of a few images, what they mean, and a hash over both.

The format is safetensors, written here by hand: its own writer copies every array three times, and would hide an error
of the disk behind one of its own. Metadata `store` is JSON: `key` of the store, `sha256` of the content, `images`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from pipeline.files import atomic_path

DTYPES = {np.dtype(np.float16): "F16", np.dtype(np.uint8): "U8"}
ALIGNMENT = 8  # of the arrays' first byte, as safetensors writes it


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
            arrays = {name: shard.get_tensor(name) for name in shard.keys()}  # noqa: SIM118 - it is no mapping
        arrays = {name: arrays.pop(name) for name in facts["images"]} | arrays
        return content_hash(facts["key"], facts["images"], arrays) == facts["sha256"]
    except (SafetensorError, OSError, KeyError):
        return False


def content_hash(key: str, images: Mapping[str, Any], arrays: Mapping[str, np.ndarray]) -> str:
    """Returns the hash of all that a shard holds, kept in the shard, so that it is known before there is an index."""
    digest = hashlib.sha256(json.dumps([key, images]).encode())
    for name, array in arrays.items():
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(np.ascontiguousarray(array))
    return digest.hexdigest()


def mapped_array(path: Path, name: str) -> np.memmap:
    """Returns an array that stays on the disk until parts of it are read."""
    with open(path, "rb") as file:
        header_bytes = int.from_bytes(file.read(8), "little")
        entry = json.loads(file.read(header_bytes))[name]
    dtype = next(dtype for dtype, label in DTYPES.items() if label == entry["dtype"])
    return np.memmap(path, dtype, "r", 8 + header_bytes + entry["data_offsets"][0], tuple(entry["shape"]))
