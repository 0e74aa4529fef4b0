"""The store of probabilities: the same bytes however often it was interrupted, and damage is never read.

DAMAGES=300 ./run.sh test tests/inference/test_probability_store.py is the long form of the damage tests.
"""

from __future__ import annotations

import json
import os
import random

import numpy as np
import pytest
from safetensors import safe_open

from pipeline.errors import UserError
from pipeline.inference.predict import Prediction
from pipeline.inference.probability_store import PICTURES_PER_SHARD, ProbabilityStore, StoreWriter

DAMAGES = int(os.environ.get("DAMAGES", 20))
IDS = [f"{number:06d}_001" for number in range(2 * PICTURES_PER_SHARD + 3)]
FACTS = {"classes": ["Road", "Car"], "competition": "demo"}


def prediction(picture_id: str) -> Prediction:
    rng = np.random.default_rng(int(picture_id[:6]))
    logits = rng.normal(size=(2, 3, 4 + int(picture_id[:6]) % 2)).astype(np.float16)
    return Prediction(logits, factor=4, align_corners=True, offset=(8, 0), size=(11, 15))


def write(folder, ids=IDS, order=None, key="key", until=None):
    """Writes a store, or its first `until` pictures as a process does that is killed then."""
    writer = StoreWriter(folder, key, ids, FACTS)
    missing = writer.missing()
    for picture_id in (order or missing)[:until]:
        if picture_id in missing:
            writer.put(picture_id, prediction(picture_id))
    if until is None:
        writer.finish()
    return missing


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_put_comes_back(tmp_path):
    write(tmp_path)
    store = ProbabilityStore(tmp_path)
    assert store.ids == list(store) == IDS and store.index["classes"] == ["Road", "Car"]
    for picture_id in IDS:
        found, wanted = store[picture_id], prediction(picture_id)
        assert np.array_equal(found.logits, wanted.logits) and found.logits.dtype == np.float16
        assert [found.factor, found.align_corners, found.offset, found.size] == [4, True, (8, 0), (11, 15)]


def test_others_read_it_in_two_lines(tmp_path):
    write(tmp_path)
    with safe_open(tmp_path / "shard-00000.safetensors", "np") as shard:
        assert np.array_equal(shard.get_tensor(IDS[0]), prediction(IDS[0]).logits)


@pytest.mark.parametrize("until", [0, 1, PICTURES_PER_SHARD, PICTURES_PER_SHARD + 1, len(IDS)])
def test_a_store_that_was_killed_and_resumed_has_the_same_bytes(tmp_path, until):
    write(tmp_path / "whole")
    write(tmp_path / "killed", until=until)
    (tmp_path / "killed/shard-00001.tmp-77.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match="there is no whole probability store"):
        ProbabilityStore(tmp_path / "killed")
    missing = write(tmp_path / "killed")
    assert len(missing) == len(IDS) - (until if until == len(IDS) else until // PICTURES_PER_SHARD * PICTURES_PER_SHARD)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_the_order_in_which_pictures_come_does_not_matter(tmp_path):
    write(tmp_path / "whole")
    write(tmp_path / "mixed", order=random.Random(0).sample(IDS, len(IDS)))
    assert contents(tmp_path / "mixed") == contents(tmp_path / "whole")


@pytest.mark.parametrize(("ids", "key"), [(IDS, "another key"), (IDS[1:], "key"), (IDS[:5], "key")])
def test_what_belongs_to_other_settings_or_pictures_is_not_continued(tmp_path, ids, key):
    write(tmp_path / "store", until=len(IDS))
    write(tmp_path / "store", ids=ids, key=key)
    write(tmp_path / "fresh", ids=ids, key=key)
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


def cut(data, rng):
    return data[: rng.randrange(len(data))]


def flip(data, rng):
    place = rng.randrange(len(data))
    return data[:place] + bytes([data[place] ^ (1 << rng.randrange(8))]) + data[place + 1 :]


def zero(data, rng):
    start = rng.randrange(0, len(data) - 64)
    return data[:start] + bytes(64) + data[start + 64 :]


@pytest.mark.parametrize("damage", [cut, flip, zero])
@pytest.mark.parametrize("name", ["shard-00001.safetensors", "index.json"])
def test_a_damaged_store_is_refused_by_name(tmp_path, damage, name):
    write(tmp_path)
    path, rng = tmp_path / name, random.Random(damage.__name__)
    whole = path.read_bytes()
    for _ in range(DAMAGES):
        path.write_bytes(damage(whole, rng))
        if name == "index.json" and _says_the_same(path.read_bytes(), whole):
            continue  # a blank became another blank
        with pytest.raises(UserError, match=r"shard-00001\.safetensors is damaged|no whole probability store"):
            store = ProbabilityStore(tmp_path)
            _ = [store[picture_id] for picture_id in store]


def _says_the_same(one: bytes, other: bytes) -> bool:
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


@pytest.mark.parametrize("damage", [cut, flip, zero])
def test_a_shard_damaged_before_the_store_was_whole_is_written_again(tmp_path, damage):
    write(tmp_path / "whole")
    rng = random.Random(damage.__name__)
    path = tmp_path / "killed/shard-00000.safetensors"
    write(tmp_path / "killed", until=PICTURES_PER_SHARD)
    whole = path.read_bytes()
    for _ in range(DAMAGES):
        path.write_bytes(damage(whole, rng))
        writer = StoreWriter(tmp_path / "killed", "key", IDS, FACTS)
        assert writer.missing() == IDS or path.read_bytes() == whole
    write(tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_an_absent_shard_is_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "shard-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"shard-00002\.safetensors is damaged.*predict again with --force"):
        ProbabilityStore(tmp_path)[IDS[-1]]


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"format": 1}', '{"format": 99, "sha256": ""}'])
def test_an_index_of_something_else_is_refused(tmp_path, text):
    write(tmp_path)
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(UserError, match="there is no whole probability store"):
        ProbabilityStore(tmp_path)
