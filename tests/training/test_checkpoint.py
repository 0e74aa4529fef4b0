"""Checkpoints are whole, checked and harmless: damage is refused, the one before is used and said, no code runs.

DAMAGES=300 ./run.sh test tests/training/test_checkpoint.py is the long form of the damage tests.
"""

from __future__ import annotations

import hashlib
import io
import os
import random
import resource
import zipfile
from contextlib import contextmanager

import pytest
import torch

from pipeline.errors import UserError
from pipeline.training.checkpoint import (
    MARK,
    Damaged,
    load_checkpoint,
    load_newest,
    load_or_refuse,
    previous_of,
    repair_best,
    replace_best,
    replace_last,
    save_checkpoint,
)
from tests.damages import cut, flip, zero_page

DAMAGES = int(os.environ.get("DAMAGES", 20))


def content(epoch: int, best_epoch: int = 0, key: str = "key") -> dict:
    weights = torch.arange(20_000, dtype=torch.float32) * (epoch + 1)
    state = {"key": key, "epoch": epoch, "step": 0, "best": 0.5, "best_epoch": best_epoch}
    return {"network": {"weight": weights}, "ema": None, "state": state}


@contextmanager
def file_size_limit(num_bytes: int):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def seal(archive: bytes) -> bytes:
    """Returns what a forger would write who knows the format: the right mark and hash around anything."""
    return archive + MARK + hashlib.sha256(archive).digest()


def test_what_was_saved_comes_back(tmp_path):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, content(3))
    found = load_checkpoint(path)
    assert found["state"] == content(3)["state"]
    assert torch.equal(found["network"]["weight"], content(3)["network"]["weight"])


def test_equal_contents_are_equal_bytes_also_after_a_load(tmp_path):
    first, second = tmp_path / "first.ckpt", tmp_path / "second.ckpt"
    save_checkpoint(first, content(1))
    save_checkpoint(second, load_checkpoint(first) | {"state": dict(content(1)["state"])})
    assert first.read_bytes() == second.read_bytes()


def test_a_checkpoint_is_an_ordinary_archive_for_torch(tmp_path):
    path = tmp_path / "last.ckpt"
    save_checkpoint(path, content(1))
    archive = path.read_bytes()[: -len(MARK) - 32]
    assert zipfile.is_zipfile(io.BytesIO(archive))
    assert torch.load(io.BytesIO(archive), weights_only=True)["state"]["epoch"] == 1


@pytest.mark.parametrize("damage", [cut, flip, zero_page])
def test_damage_is_refused_and_the_one_before_is_used_and_said(tmp_path, damage):
    path = tmp_path / "last.ckpt"
    replace_last(path, content(1))
    replace_last(path, content(2))
    whole, rng = path.read_bytes(), random.Random(damage.__name__)
    for _ in range(DAMAGES):
        path.write_bytes(damage(whole, rng))
        if path.read_bytes() == whole:
            continue  # the page was of zeros before
        with pytest.raises(Damaged, match=r"last\.ckpt is damaged"):
            load_checkpoint(path)
        lines: list[str] = []
        found, source = load_newest(path, lines.append)
        assert (found["state"]["epoch"], source) == (1, previous_of(path))
        assert "last.ckpt is damaged" in lines[0] and lines[1].endswith("previous-last.ckpt")


def test_without_any_whole_checkpoint_training_begins_anew_and_says_so(tmp_path):
    path = tmp_path / "last.ckpt"
    replace_last(path, content(1))
    path.write_bytes(b"")
    lines: list[str] = []
    assert load_newest(path, lines.append) is None
    assert lines[-1] == "no whole checkpoint is left; training begins anew"


def test_a_checkpoint_that_was_removed_is_not_replaced_by_the_one_before(tmp_path):
    path = tmp_path / "last.ckpt"
    replace_last(path, content(1))
    replace_last(path, content(2))
    path.unlink()
    assert load_newest(path, pytest.fail) is None


def test_pickled_code_is_refused_and_does_not_run(tmp_path):
    path, trace = tmp_path / "last.ckpt", tmp_path / "trace"

    class Malice:
        def __reduce__(self):
            return os.system, (f"touch {trace}",)

    buffer = io.BytesIO()
    torch.save({"network": {}, "state": Malice()}, buffer)
    path.write_bytes(seal(buffer.getvalue()))
    with pytest.raises(Damaged, match="is not a checkpoint of tensors and plain values"):
        load_checkpoint(path)
    with pytest.raises(UserError, match="train it"):
        load_or_refuse(path, "train it")
    assert not trace.exists()


@pytest.mark.parametrize("archive", [b"", b"PK", b"no archive at all", b"\x80\x02]q\x00."])
def test_anything_else_under_a_right_hash_is_refused(tmp_path, archive):
    path = tmp_path / "last.ckpt"
    path.write_bytes(seal(archive))
    with pytest.raises(Damaged):
        load_checkpoint(path)


def test_an_archive_of_something_else_is_refused(tmp_path):
    path = tmp_path / "last.ckpt"
    for other in ([torch.zeros(1)], {"weights": torch.zeros(1)}):
        save_checkpoint(path, other)
        with pytest.raises(Damaged, match="is not a checkpoint of this project"):
            load_checkpoint(path)


def test_a_folder_in_the_place_of_a_checkpoint_is_refused(tmp_path):
    (tmp_path / "last.ckpt").mkdir()
    with pytest.raises(Damaged, match="cannot be read"):
        load_checkpoint(tmp_path / "last.ckpt")


def test_an_absent_checkpoint_is_refused_with_the_cure(tmp_path):
    with pytest.raises(UserError, match=r"there is no .*best\.ckpt; train it: \./run\.sh ExpAAB train"):
        load_or_refuse(tmp_path / "best.ckpt", "train it: ./run.sh ExpAAB train")


def test_a_full_disk_is_told_and_keeps_the_old_checkpoint(tmp_path):
    path = tmp_path / "last.ckpt"
    replace_last(path, content(1))
    with file_size_limit(30_000), pytest.raises(UserError, match=r"cannot write .*last\.ckpt: File too large"):
        replace_last(path, content(2))
    assert load_checkpoint(path)["state"]["epoch"] == 1
    assert not [name for name in os.listdir(tmp_path) if ".tmp-" in name]
    replace_last(path, content(2))
    assert [load_checkpoint(file)["state"]["epoch"] for file in (path, previous_of(path))] == [2, 1]


def test_the_best_is_a_second_name_that_stays_when_the_last_moves_on(tmp_path):
    last, best = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    replace_last(last, content(1, best_epoch=1))
    replace_best(best, last)
    assert os.path.samefile(last, best)
    replace_last(last, content(2, best_epoch=1))
    assert [load_checkpoint(file)["state"]["epoch"] for file in (last, best)] == [2, 1]


def test_where_there_are_no_hard_links_a_copy_does(tmp_path, monkeypatch):
    def refuse(*arguments):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    last, best = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    replace_last(last, content(1))
    replace_best(best, last)
    replace_last(last, content(2))
    assert [load_checkpoint(file)["state"]["epoch"] for file in (last, best, previous_of(last))] == [2, 1, 1]


def test_a_best_that_was_not_named_yet_is_named(tmp_path):
    last, best = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    replace_last(last, content(4, best_epoch=4))
    for _ in range(2):
        assert repair_best(best, content(4, best_epoch=4)["state"], last, pytest.fail)
        assert os.path.samefile(last, best) and not previous_of(best).exists()


def test_a_best_from_the_future_gives_way_to_the_one_before(tmp_path):
    """`last.ckpt` was damaged, so training went back to an epoch that does not know the newest best."""
    last, best = tmp_path / "last.ckpt", tmp_path / "best.ckpt"
    for epoch in (1, 4):
        replace_last(last, content(epoch, best_epoch=epoch))
        replace_best(best, last)
    assert repair_best(best, content(3, best_epoch=1)["state"], last, pytest.fail)
    assert load_checkpoint(best)["state"]["epoch"] == 1


def test_a_best_that_is_gone_is_said(tmp_path):
    lines: list[str] = []
    assert not repair_best(
        tmp_path / "best.ckpt", content(3, best_epoch=1)["state"], tmp_path / "last.ckpt", lines.append
    )
    assert "best.ckpt of epoch 1 is gone or damaged; training begins anew" in lines[0]


def test_before_the_first_validation_there_is_no_best_to_look_for(tmp_path):
    state = content(0)["state"] | {"best": None}
    assert repair_best(tmp_path / "best.ckpt", state, tmp_path / "last.ckpt", pytest.fail)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"ema": {}}, "expected None or averaged 'weights' in its 'ema'"),
        ({"ema": {"weights": [1]}}, "expected tensors by name in its 'ema'"),
        ({"network": {"weight": 1.0}}, "expected tensors by name in its 'network'"),
        ({"network": None}, "expected tensors by name in its 'network'"),
        ({"state": 3}, "expected a dict in its 'state'"),
        *(({part: ...}, f"it has no '{part}'") for part in ("network", "ema", "state")),
    ],
)
def test_a_checkpoint_without_what_is_read_from_it_is_refused(tmp_path, change, words):
    path = tmp_path / "best.ckpt"
    save_checkpoint(path, {name: value for name, value in (content(1) | change).items() if value is not ...})
    with pytest.raises(UserError, match=rf"best\.ckpt is not a checkpoint of this project: {words}; train it"):
        load_or_refuse(path, "train it")
