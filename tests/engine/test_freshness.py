"""Hashes of files and folders, and the words in which a stage is stale."""

from __future__ import annotations

import json
import os
import shutil

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.engine import freshness
from pipeline.engine.freshness import (
    ABSENT,
    Fingerprints,
    Marker,
    key_of,
    plain,
    read_marker,
    why_stale,
    write_marker,
)

MARKER = Marker(1, {"A.B": 1, "A.C": [1, 2]}, {"split.csv": "12"}, {"out.csv": "34"}, 1.5)
VALUES = st.none() | st.booleans() | st.integers(-5, 5) | st.text(max_size=3) | st.tuples(st.integers(0, 3))
SETTINGS = st.dictionaries(st.sampled_from(["A", "B", "C"]), VALUES)


@pytest.fixture
def fingerprints(tmp_path):
    return Fingerprints(tmp_path / "cache.json")


@pytest.fixture
def folder(tmp_path):
    folder = tmp_path / "folder"
    (folder / "inner").mkdir(parents=True)
    (folder / "a.txt").write_text("one")
    (folder / "inner/b.txt").write_text("two")
    return folder


def make_old(path):
    """Gives a file the age at which the cache trusts its times."""
    os.utime(path, (1, 1))


def test_a_hash_is_of_the_content(fingerprints, tmp_path):
    for name, text in (("a", "same"), ("b", "same"), ("c", "other")):
        (tmp_path / name).write_text(text)
    one, two, three = (fingerprints.of(tmp_path / name) for name in "abc")
    assert one == two != three
    assert fingerprints.of(tmp_path / "nothing") == ABSENT


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "a.txt").write_text("One"),
        lambda folder: (folder / "inner/b.txt").unlink(),
        lambda folder: (folder / "inner/b.txt").rename(folder / "inner/c.txt"),
        lambda folder: (folder / "inner/b.txt").rename(folder / "b.txt"),
        lambda folder: (folder / "new").write_text(""),
    ],
    ids=["content", "removed", "renamed", "moved", "added"],
)
def test_a_folders_hash_sees_every_change(fingerprints, folder, change):
    before = fingerprints.of(folder)
    change(folder)
    assert fingerprints.of(folder) != before


def test_a_folders_hash_does_not_see_touching_copying_or_hidden_files(fingerprints, folder, tmp_path):
    before = fingerprints.of(folder)
    make_old(folder / "a.txt")
    (folder / ".DS_Store").write_text("left by a file browser")
    (folder / ".cache").mkdir()
    (folder / ".cache/x").write_text("x")
    assert fingerprints.of(folder) == before
    assert fingerprints.of(shutil.copytree(folder, tmp_path / "elsewhere")) == before


def test_a_hidden_folder_may_hold_what_is_hashed(fingerprints, folder, tmp_path):
    """The run folder itself may lie below one, such as ~/.local."""
    hidden = shutil.copytree(folder, tmp_path / ".hidden/folder")
    assert fingerprints.of(hidden) == fingerprints.of(folder)


def test_a_list_of_files_is_known_by_names_below_its_folder(fingerprints, folder):
    files = [folder / "a.txt", folder / "inner/b.txt"]
    before = fingerprints.of_files(files, folder)
    assert before == fingerprints.of(folder)
    assert fingerprints.of_files(files[:1], folder) != before
    assert fingerprints.of_files([], folder)


def test_known_files_are_not_read_again(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(freshness, "SETTLED_NS", -1)
    first = Fingerprints(tmp_path / "cache.json")
    before = first.of(folder)
    first.save()
    monkeypatch.setattr(freshness, "sha256_file", lambda path: pytest.fail(f"{path} is read again"))
    assert Fingerprints(tmp_path / "cache.json").of(folder) == before


def test_a_file_that_was_just_written_is_not_trusted_by_its_times(fingerprints, tmp_path):
    path = tmp_path / "a"
    path.write_text("one")
    status = path.stat()
    before = fingerprints.of(path)
    path.write_text("two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert fingerprints.of(path) != before and not fingerprints.known


def test_an_old_file_replaced_with_its_old_time_is_read_again(fingerprints, tmp_path, monkeypatch):
    monkeypatch.setattr(freshness, "SETTLED_NS", -1)
    path = tmp_path / "a"
    path.write_text("one")
    make_old(path)
    before = fingerprints.of(path)
    path.write_text("two")
    make_old(path)
    assert fingerprints.of(path) != before


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "null", '"text"'])
def test_a_broken_cache_is_begun_anew(tmp_path, folder, text):
    (tmp_path / "cache.json").write_text(text)
    assert Fingerprints(tmp_path / "cache.json").of(folder) != ABSENT


def test_a_marker_comes_back(tmp_path):
    write_marker(tmp_path / "train.json", MARKER)
    assert read_marker(tmp_path / "train.json") == MARKER


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '{"version": 1}', "null"])
def test_a_marker_that_is_not_whole_is_none(tmp_path, text):
    (tmp_path / "train.json").write_text(text)
    assert read_marker(tmp_path / "train.json") is None


@pytest.mark.parametrize(
    ("marker", "version", "settings", "inputs", "reason"),
    [
        (None, 1, {}, {}, "not done yet"),
        (MARKER, 2, MARKER.settings, MARKER.inputs, "the stage itself has a new version"),
        (MARKER, 1, {"A.B": 2, "A.C": (1, 2)}, MARKER.inputs, "A.B changed (1 -> 2)"),
        (MARKER, 1, {"A.C": (1, 2)}, MARKER.inputs, "A.B changed (1 -> null)"),
        (MARKER, 1, {"A.B": 1, "A.C": (1, 2), "A.D": 0}, MARKER.inputs, "A.D changed (null -> 0)"),
        (MARKER, 1, {"A.B": 1, "A.C": (1, 2)}, {"split.csv": "13"}, "split.csv changed"),
        (MARKER, 1, {"A.B": 1, "A.C": (1, 2)}, {}, "split.csv changed"),
        (MARKER, 1, {"A.B": 1, "A.C": (1, 2)}, {"split.csv": "12"}, None),
    ],
)
def test_the_reason_says_what_changed(marker, version, settings, inputs, reason):
    assert why_stale(marker, version, settings, inputs) == reason


def test_a_long_value_is_cut_in_the_reason():
    reason = why_stale(MARKER, 1, {"A.B": "x" * 100, "A.C": [1, 2]}, MARKER.inputs)
    assert reason is not None and len(reason) < 80 and reason.endswith("...)")


@given(SETTINGS, SETTINGS)
def test_settings_are_fresh_exactly_when_they_are_equal_after_json(before, after):
    marker = Marker(1, json.loads(json.dumps(before)), {}, {}, 0.0)
    same = {key: value for key, value in plain(before).items() if value is not None} == {
        key: value for key, value in plain(after).items() if value is not None
    }
    assert (why_stale(marker, 1, after, {}) is None) == same


@given(SETTINGS, SETTINGS)
def test_a_key_is_a_function_of_what_it_names(one, other):
    are_equal = json.dumps(plain(one), sort_keys=True) == json.dumps(plain(other), sort_keys=True)
    assert (key_of(1, one, {}) == key_of(1, other, {})) == are_equal
    assert key_of(1, one, {"a": "1"}) != key_of(1, one, {"a": "2"}) and key_of(1, one, {}) != key_of(2, one, {})
