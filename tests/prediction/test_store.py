"""The store of probabilities: the same bytes however often it was interrupted, and damage is never read.

DAMAGES=300 ./run.sh test tests/prediction/test_store.py is the long form of the damage tests.
"""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import zlib
from collections import namedtuple

import numpy as np
import pytest
import torch
from safetensors import safe_open

from pipeline.errors import UserError
from pipeline.prediction import store as probability_store
from pipeline.prediction.progress import IMAGES_PER_FILE
from pipeline.prediction.store import PredictionStore, StoreWriter
from pipeline.segmentation.compact import CompactLogits, to_codes
from pipeline.segmentation.predict import Prediction, decode, pack, unpack
from tests.damages import cut, flip, zero_page

DAMAGES = int(os.environ.get("DAMAGES", 20))
IDS = [f"{number:06d}_001" for number in range(2 * IMAGES_PER_FILE + 3)]
FACTS = {"classes": ["Road", "Car"], "competition": "demo"}


def prediction(image_id: str) -> Prediction:
    """Some are kept before the upsampling, some compressed at full size."""
    rng = np.random.default_rng(int(image_id[:6]))
    if int(image_id[:6]) % 3 == 0:
        codes = to_codes(torch.from_numpy(rng.normal(size=(1, 2, 11, 15)).astype(np.float32)))[0].numpy()
        return Prediction(CompactLogits(codes), factor=1, align_corners=True, offset=(0, 0), size=(11, 15))
    logits = rng.normal(size=(2, 3, 4 + int(image_id[:6]) % 2)).astype(np.float16)
    return Prediction(logits, factor=4, align_corners=True, offset=(8, 0), size=(11, 15))


def write(folder, ids=IDS, order=None, key="key", until=None):
    """Writes a store, or its first `until` images as a process does that is killed then."""
    writer = StoreWriter(folder, key, ids, FACTS, pack)
    missing = writer.missing()
    for image_id in (order or missing)[:until]:
        if image_id in missing:
            writer.put(image_id, prediction(image_id))
    if until is None:
        writer.finish()
    return missing


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_what_was_put_comes_back(tmp_path):
    write(tmp_path)
    store = PredictionStore(tmp_path, unpack)
    assert list(store) == IDS and store.index["classes"] == ["Road", "Car"]
    for image_id in IDS:
        wanted = prediction(image_id)
        for found in (store[image_id], store.view(image_id)):
            assert np.array_equal(found.logits, wanted.logits)
            assert np.array_equal(found.logits[:, 1:3, :2], np.asarray(wanted.logits)[:, 1:3, :2])
            facts = [{name: value for name, value in vars(one).items() if name != "logits"} for one in (found, wanted)]
            assert facts[0] == facts[1] and type(found.logits) in (np.ndarray, np.memmap, CompactLogits)


def test_what_is_put_may_be_anything_that_pack_and_unpack_understand(tmp_path):
    """Boxes with scores, as a detector would keep them."""

    def pack_boxes(boxes: list[tuple]) -> tuple[np.ndarray, dict]:
        return np.array([box for box, _ in boxes], np.uint8).reshape(-1, 4), {"scores": [score for _, score in boxes]}

    def unpack_boxes(array: np.ndarray, facts: dict) -> list[tuple]:
        return [(tuple(map(int, box)), score) for box, score in zip(array, facts["scores"], strict=True)]

    boxes = {"a": [((1, 2, 3, 4), 0.5), ((5, 6, 7, 8), 0.25)], "b": [], "c": [((9, 9, 9, 9), 1.0)]}
    writer = StoreWriter(tmp_path, "key", list(boxes), FACTS, pack_boxes)
    for image_id, found in boxes.items():
        writer.put(image_id, found)
    writer.finish()
    store = PredictionStore(tmp_path, unpack_boxes)
    assert {image_id: store[image_id] for image_id in store} == boxes
    assert {image_id: store.view(image_id) for image_id in store} == boxes


def test_others_read_it_in_a_few_lines(tmp_path):
    write(tmp_path)
    facts = json.loads((tmp_path / "index.json").read_text())["images"]
    with safe_open(tmp_path / facts[IDS[1]]["shard"], "np") as shard:
        assert np.array_equal(shard.get_tensor(IDS[1]), prediction(IDS[1]).logits)
        data, (num_classes, _, width) = shard.get_tensor(IDS[0]), facts[IDS[0]]["shape"]
    (end,) = facts[IDS[0]]["ends"]
    differences = np.frombuffer(zlib.decompress(data[:end]), np.uint8).reshape(num_classes, -1, width)
    codes = differences.cumsum(1, np.uint8).cumsum(2, np.uint8)
    assert np.array_equal(codes, prediction(IDS[0]).logits.codes)


@pytest.mark.parametrize("until", [0, 1, IMAGES_PER_FILE, IMAGES_PER_FILE + 1, len(IDS)])
def test_a_store_that_was_killed_and_resumed_has_the_same_bytes(tmp_path, until):
    write(tmp_path / "whole")
    write(tmp_path / "killed", until=until)
    (tmp_path / "killed/shard-00001.tmp-77.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match="there is no whole probability store"):
        PredictionStore(tmp_path / "killed", unpack)
    missing = write(tmp_path / "killed")
    assert len(missing) == len(IDS) - (until if until == len(IDS) else until // IMAGES_PER_FILE * IMAGES_PER_FILE)
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_the_order_in_which_images_come_does_not_matter(tmp_path):
    write(tmp_path / "whole")
    write(tmp_path / "mixed", order=random.Random(0).sample(IDS, len(IDS)))
    assert contents(tmp_path / "mixed") == contents(tmp_path / "whole")


def test_a_store_of_the_older_format_is_refused_by_readers_and_written_again(tmp_path):
    write(tmp_path / "fresh")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(probability_store, "FORMAT", 1)
        write(tmp_path / "older")
    with pytest.raises(UserError, match="there is no whole probability store"):
        PredictionStore(tmp_path / "older", unpack)
    assert write(tmp_path / "older") == IDS
    assert contents(tmp_path / "older") == contents(tmp_path / "fresh")


def test_every_shard_is_on_the_disk_for_good_before_the_index(tmp_path, monkeypatch):
    write(tmp_path, until=IMAGES_PER_FILE)
    done, fsync, replace = [], os.fsync, os.replace
    name_of = {"fsync": lambda number: os.path.basename(os.readlink(f"/proc/self/fd/{number}"))}
    monkeypatch.setattr(os, "fsync", lambda number: done.append(name_of["fsync"](number)) or fsync(number))
    monkeypatch.setattr(os, "replace", lambda one, other: done.append(f"named {other.name}") or replace(one, other))
    write(tmp_path)
    shards = {f"shard-0000{index}.safetensors" for index in range(3)}
    assert {*done[: done.index(tmp_path.name)]} >= shards | {f"named {name}" for name in shards - {min(shards)}}
    assert done[-2:] == ["named index.json", tmp_path.name] and done.count(tmp_path.name) == 2


def test_what_a_store_takes_is_logged_before_the_first_byte_and_a_nearer_figure_after_the_first_shard(tmp_path):
    for is_exact, num_bytes in ((True, 35 * 10**6), (False, 35 * 10**7)):
        lines, folder = [], tmp_path / str(is_exact)
        writer = StoreWriter(folder, "key", IDS, FACTS, pack, lines.append)
        writer.expect(num_bytes, is_exact)
        assert contents(folder) == {} and len(lines) == 1
        at_most = "" if is_exact else "at most "
        assert f"the predictions of 35 images take {at_most}{num_bytes:,} bytes (" in lines[0]
        assert "GiB free) in " in lines[0] and "\n" not in lines[0]
        for image_id in IDS:
            writer.put(image_id, prediction(image_id))
        assert len(lines) == (1 if is_exact else 2)
    few: list[str] = []
    StoreWriter(tmp_path / "few", "key", IDS, FACTS, pack, few.append).expect(35 * 2400, False)
    assert few == [], "the boxes of some images are nothing to read about"
    (size,) = re.findall(r"of 19 images take about ([0-9,]+) bytes \(by the 16 before them, ", lines[1])
    found = {path.name: path.stat().st_size for path in folder.iterdir()}
    assert int(size.replace(",", "")) < found["shard-00001.safetensors"] + found["shard-00002.safetensors"]


def test_a_disk_that_is_too_small_is_refused_before_the_first_byte_and_when_the_first_shard_tells(
    tmp_path, monkeypatch
):
    usage = namedtuple("usage", "total used free")
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: usage(0, 0, 64 * 2**20 + 1000))
    writer = StoreWriter(tmp_path, "key", IDS, FACTS, pack)
    for num_bytes, is_exact in ((1001, True), (5010, False)):
        with pytest.raises(UserError, match=r"the probability store needs 1\.0 KiB and .* below .* are free"):
            writer.expect(num_bytes, is_exact)
    for num_bytes, is_exact in ((1000, True), (5000, False)):
        writer.expect(num_bytes, is_exact)
    with pytest.raises(UserError, match="the probability store needs"):
        for image_id in IDS:
            writer.put(image_id, prediction(image_id))
    assert contents(tmp_path) == {}


@pytest.mark.parametrize(("ids", "key"), [(IDS, "another key"), (IDS[1:], "key"), (IDS[:5], "key")])
def test_what_belongs_to_other_settings_or_images_is_not_continued(tmp_path, ids, key):
    write(tmp_path / "store", until=len(IDS))
    write(tmp_path / "store", ids=ids, key=key)
    write(tmp_path / "fresh", ids=ids, key=key)
    assert contents(tmp_path / "store") == contents(tmp_path / "fresh")


@pytest.mark.parametrize("damage", [cut, flip, zero_page])
@pytest.mark.parametrize("name", ["shard-00001.safetensors", "index.json"])
def test_a_damaged_store_is_refused_by_name(tmp_path, damage, name):
    write(tmp_path)
    path, rng = tmp_path / name, random.Random(damage.__name__)
    whole = path.read_bytes()
    for _ in range(DAMAGES):
        path.write_bytes(damage(whole, rng))
        if name == "index.json" and _is_same_json(path.read_bytes(), whole):
            continue  # a blank became another blank
        with pytest.raises(UserError, match=r"shard-00001\.safetensors is damaged|no whole probability store"):
            store = PredictionStore(tmp_path, unpack)
            _ = [store[image_id] for image_id in store]


def _is_same_json(one: bytes, other: bytes) -> bool:
    try:
        return json.loads(one) == json.loads(other)
    except ValueError:
        return False


@pytest.mark.parametrize("damage", [cut, flip, zero_page])
def test_a_shard_damaged_before_the_store_was_whole_is_written_again(tmp_path, damage):
    write(tmp_path / "whole")
    rng = random.Random(damage.__name__)
    path = tmp_path / "killed/shard-00000.safetensors"
    write(tmp_path / "killed", until=IMAGES_PER_FILE)
    whole = path.read_bytes()
    for _ in range(DAMAGES):
        path.write_bytes(damage(whole, rng))
        writer = StoreWriter(tmp_path / "killed", "key", IDS, FACTS, pack)
        assert writer.missing() == IDS or path.read_bytes() == whole
    write(tmp_path / "killed")
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_an_absent_shard_is_refused(tmp_path):
    write(tmp_path)
    (tmp_path / "shard-00002.safetensors").unlink()
    with pytest.raises(UserError, match=r"shard-00002\.safetensors is damaged.*predict again with --force"):
        PredictionStore(tmp_path, unpack)[IDS[-1]]


@pytest.mark.parametrize("text", ["[]", "null", "{}", '{"format": 1}', '{"format": 99, "sha256": ""}'])
def test_an_index_of_something_else_is_refused(tmp_path, text):
    write(tmp_path)
    (tmp_path / "index.json").write_text(text)
    with pytest.raises(UserError, match="there is no whole probability store"):
        PredictionStore(tmp_path, unpack)


def test_an_image_that_is_alone_has_a_shard_of_its_own(tmp_path):
    writer = StoreWriter(tmp_path, "key", IDS, FACTS, pack, alone={IDS[0], IDS[5]})
    sizes = [len(run) for run in writer.parts.runs]
    assert sizes == [1, 4, 1, IMAGES_PER_FILE, len(IDS) - 6 - IMAGES_PER_FILE]
    for image_id in writer.missing():
        writer.put(image_id, prediction(image_id))
    writer.finish()
    store = PredictionStore(tmp_path, unpack)
    assert list(store) == IDS and len(list(tmp_path.glob("shard-*"))) == len(sizes)
    assert (decode(store[IDS[5]]) == decode(prediction(IDS[5]))).all()
