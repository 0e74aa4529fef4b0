"""A store that lies elsewhere gives the very pixels of a local one, whatever network, processes and disk do."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
import subprocess
import sys
import time
import zlib
from pathlib import Path

import fsspec
import numpy as np
import pytest
from fsspec.implementations.memory import MemoryFileSystem

from pipeline.data import cached_file, remote, remote_store
from pipeline.data.build_store import build_store
from pipeline.data.cached_file import CachedFile, can_punch
from pipeline.data.remote_store import Remote, attach, upload
from pipeline.data.store import PIXELS, Store, open_store
from pipeline.errors import UserError
from pipeline.wording import GIB
from tests.data.catalogs import IndexMasks, plain_images
from tests.data.range_server import RangeServer, serving
from tests.data.small_competition import make_competition

CHUNK = 8192  # a 96 x 64 image has two and a bit, its label less than one
SCALES = ((96, 64), (48, 32))
IDS = [f"{number:03d}" for number in range(12)]
processes = multiprocessing.get_context("fork")


@pytest.fixture(scope="module")
def local(tmp_path_factory) -> Path:
    """The folder of a store that was built on this machine."""
    folder = tmp_path_factory.mktemp("local")
    catalog = make_competition(folder / "data", len(IDS))
    masks = IndexMasks(folder / "data")
    return build_store(plain_images(folder / "data"), catalog, SCALES, folder / "tiles", masks, lambda _: None)


@pytest.fixture(scope="module")
def uploaded(local, tmp_path_factory) -> Path:
    """A folder to which it was uploaded."""
    folder = tmp_path_factory.mktemp("remote") / "stores"
    with pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(remote_store, "CHUNK_BYTES", CHUNK)
        assert upload(local, Remote(str(folder)), lambda _: None)
    return folder


@pytest.fixture
def impatient(monkeypatch):
    monkeypatch.setattr(remote, "GIVE_UP_S", 1.0)
    monkeypatch.setattr(remote, "FIRST_PAUSE_S", 0.02)
    monkeypatch.setattr(remote_store, "START_WITHIN_S", 1.0)


def cache_of(local: Path, folder: Path, address: str | Path, gib: float | None = None) -> Store:
    assert attach(folder / local.name, Remote(str(address), gib), lambda _: None)
    return open_store(folder / local.name)


def all_equal(store: Store, expected: Store, ids=IDS) -> bool:
    return all(
        np.array_equal(store.image(image_id, scale), expected.image(image_id, scale))
        and np.array_equal(store.label(image_id, scale), expected.label(image_id, scale))
        for image_id in ids
        for scale in SCALES
    )


def chunks_there(store: Store) -> int:
    return store._images.num_there()


def disk_bytes(path: Path) -> int:
    return path.stat().st_blocks * 512


@pytest.mark.parametrize("scheme", ["", "file://", "memory://"])
def test_every_address_that_fsspec_knows_gives_the_pixels_of_the_local_store(local, tmp_path, monkeypatch, scheme):
    monkeypatch.setattr(remote_store, "CHUNK_BYTES", CHUNK)
    address = f"{scheme}{tmp_path}/stores"
    assert upload(local, Remote(address), lambda _: None)
    store = cache_of(local, tmp_path / "tiles", address)
    assert store.is_remote and chunks_there(store) == 0
    assert all_equal(store, open_store(local))
    if scheme == "memory://":
        fsspec.filesystem("memory").rm(f"{tmp_path}/stores", recursive=True)


class Versioned(MemoryFileSystem):
    """Has the arguments of s3fs, which begin otherwise than those of others."""

    protocol = "versioned"

    def cat_file(self, path, version_id=None, start=None, end=None, **settings):
        assert version_id is None
        return super().cat_file(path, start, end, **settings)


def test_parts_are_asked_for_as_every_client_understands_it(local, tmp_path, monkeypatch):
    fsspec.register_implementation("versioned", Versioned, clobber=True)
    monkeypatch.setattr(remote_store, "CHUNK_BYTES", CHUNK)
    assert upload(local, Remote(f"versioned://{tmp_path}"), lambda _: None)
    assert all_equal(cache_of(local, tmp_path, f"versioned://{tmp_path}"), open_store(local), IDS[:2])


def test_only_the_parts_that_are_read_are_fetched(local, uploaded, tmp_path):
    store = cache_of(local, tmp_path, uploaded)
    pixels = tmp_path / local.name / PIXELS
    assert disk_bytes(pixels) == 0 and pixels.stat().st_size == (local / PIXELS).stat().st_size
    assert not store.image("003", SCALES[0]).flags.writeable
    assert 0 < chunks_there(store) <= 4 and disk_bytes(pixels) <= 4 * CHUNK
    shutil.rmtree(tmp_path / local.name / "locks")  # which only fetching needs
    assert store.image("003", SCALES[0]).any()


def test_a_cache_with_everything_is_a_store_like_any_other(local, uploaded, tmp_path):
    store = cache_of(local, tmp_path, uploaded)
    assert all_equal(store, open_store(local))
    again = open_store(store.path)
    assert not again.is_remote and type(again._images) is np.ndarray
    assert (store.path / PIXELS).read_bytes() == (local / PIXELS).read_bytes()


def test_what_was_fetched_is_not_fetched_again_by_the_next_process(local, uploaded, tmp_path):
    with serving(uploaded) as server:
        assert all_equal(cache_of(local, tmp_path, server.address), open_store(local), IDS[:6])
        server.asked.clear()
        assert all_equal(open_store(tmp_path / local.name), open_store(local), IDS[:6])
        assert server.asked == []


MOODS = [[503], [429, 500], ["drop"], ["cut"], ["damage"], ["damage", "cut", 503, "drop"], ["whole"]]


@pytest.mark.parametrize("moods", MOODS, ids=str)
def test_faults_of_the_network_that_pass_are_waited_out(local, uploaded, tmp_path, impatient, moods):
    with serving(uploaded) as server:
        store = cache_of(local, tmp_path, server.address)
        server.moods += moods
        assert all_equal(store, open_store(local), IDS[:3])
        assert server.moods == []


def test_a_lost_network_is_an_error_after_a_while_and_the_next_start_continues(local, uploaded, tmp_path, impatient):
    with serving(uploaded) as server:
        store = cache_of(local, tmp_path, server.address)
        store.image("000", SCALES[0])
        server.moods += [503] * 10_000
        began = time.monotonic()
        with pytest.raises(UserError, match=r"could not be reached for 0\.0 minutes: .*503(.|\n)*it continues"):
            store.image("009", SCALES[0])
        assert time.monotonic() - began < 3
        assert (store.image("000", SCALES[0]) == open_store(local).image("000", SCALES[0])).all()
        server.moods.clear()
        assert all_equal(open_store(store.path), open_store(local))


def test_a_server_that_is_not_there_is_an_error_too(local, tmp_path, impatient):
    with serving(tmp_path) as server:
        address = server.address
    with pytest.raises(UserError, match="could not be reached"):
        attach(tmp_path / local.name, Remote(address), lambda _: None)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("mood", "expected"), [(403, "403(.|\n)*credentials"), (404, "is missing; upload")])
def test_a_refusal_that_would_not_pass_is_an_error_at_once(local, uploaded, tmp_path, mood, expected):
    with serving(uploaded) as server:
        store = cache_of(local, tmp_path, server.address)
        server.moods += [mood]
        began = time.monotonic()
        with pytest.raises(UserError, match=expected):
            store.image("000", SCALES[0])
        assert time.monotonic() - began < 1


def test_an_unknown_scheme_is_refused_by_name(local, tmp_path):
    with pytest.raises(UserError, match=r"s4://.*Protocol not known(.|\n)*Check STORES_URL"):
        upload(local, Remote("s4://bucket"), lambda _: None)


def test_a_web_server_that_lacks_the_store_takes_no_upload_and_says_so(local, tmp_path):
    lines = []
    with serving(tmp_path) as server:
        assert not upload(local, Remote(server.address), lines.append)
    assert "not uploaded, because a web server can only be read" in lines[0]


def test_bytes_that_are_damaged_at_their_origin_are_refused_and_never_marked(local, uploaded, tmp_path):
    damaged = tmp_path / "stores"
    shutil.copytree(uploaded, damaged)
    content = bytearray((damaged / local.name / PIXELS).read_bytes())
    content[5] ^= 4
    (damaged / local.name / PIXELS).write_bytes(content)
    store = cache_of(local, tmp_path / "tiles", damaged)
    with pytest.raises(UserError, match="does not match its checksums"):
        store.image("000", SCALES[0])
    assert chunks_there(store) == 0
    assert all_equal(store, open_store(local), IDS[2:])


def test_the_index_is_uploaded_last_so_that_half_an_upload_is_no_store(local, tmp_path, monkeypatch):
    monkeypatch.setattr(remote_store, "write_last", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        upload(local, Remote(str(tmp_path / "stores")), lambda _: None)
    assert not attach(tmp_path / "tiles" / local.name, Remote(str(tmp_path / "stores")), lambda _: None)
    monkeypatch.undo()
    assert upload(local, Remote(str(tmp_path / "stores")), lambda _: None)
    assert not upload(local, Remote(str(tmp_path / "stores")), lambda _: None), "it is there"
    assert sorted(path.name for path in (tmp_path / "stores" / local.name).iterdir()) == [
        *("chunks.json", "images.bin", "index.json", "labels.u8")
    ]


def test_a_store_that_another_machine_has_built_is_not_built_again(local, uploaded, tmp_path):
    folder, lines = tmp_path / "data", []
    catalog = make_competition(folder, len(IDS))
    place = (plain_images(folder), catalog, SCALES, tmp_path / "tiles", IndexMasks(folder), lines.append)
    path = build_store(*place, Remote(str(uploaded)))
    assert path.name == local.name and open_store(path).is_remote
    assert len(lines) == 1 and "are read from" in lines[0]


def test_names_that_lead_out_of_the_folder_are_refused(local, uploaded, tmp_path):
    shutil.copytree(uploaded, tmp_path / "stores")
    chunks = tmp_path / "stores" / local.name / "chunks.json"
    content = json.loads(chunks.read_text())
    content["files"]["../outside"] = content["files"].pop(PIXELS)
    chunks.write_text(json.dumps(content))
    with pytest.raises(UserError, match="not a usable tile store"):
        attach(tmp_path / "tiles" / local.name, Remote(str(tmp_path / "stores")), lambda _: None)
    assert not (tmp_path / "tiles" / "outside").exists()


def _read_all(path: Path, expected: Path, seed: int, rounds: int) -> None:
    store, local = open_store(path), open_store(expected)
    rng = np.random.default_rng(seed)
    for _ in range(rounds):
        assert all_equal(store, local, rng.permutation(IDS).tolist())


def in_processes(function, arguments: list[tuple]) -> None:
    started = [processes.Process(target=function, args=own) for own in arguments]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
    assert [process.exitcode for process in started] == [0] * len(started)


def test_processes_that_read_the_same_store_fetch_each_part_once(local, uploaded, tmp_path):
    with serving(uploaded, wait_s=0.005) as server:
        store = cache_of(local, tmp_path, server.address)
        store.image("000", SCALES[0])  # fsspec has connections, which processes that are forked must not share
        in_processes(_read_all, [(store.path, local, seed, 1) for seed in range(4)])
        asked = [one for one in server.asked if one[1] is not None]
    assert len(asked) == len(set(asked)) and len({one for one in asked if one[0] == PIXELS}) > 10


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes a part of a file back")
def test_a_limit_keeps_the_disk_small_while_processes_read_all_of_it_again_and_again(local, uploaded, tmp_path):
    assert can_punch(tmp_path)
    total = sum((local / name).stat().st_size for name in ("images.bin", "labels.u8"))
    store = cache_of(local, tmp_path, uploaded, gib=total / 3 / GIB)
    assert isinstance(store._images, CachedFile) and store._images.origin.most_chunks * CHUNK <= total / 3
    in_processes(_read_all, [(store.path, local, seed, 3) for seed in range(3)])
    slack = 3 * 4 * CHUNK  # each process may be fetching an image
    assert disk_bytes(store.path / PIXELS) <= store._images.origin.most_chunks * CHUNK + slack
    assert 0 < chunks_there(store) <= store._images.origin.most_chunks + 12


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux takes a part of a file back")
def test_of_a_limited_cache_the_parts_that_were_used_last_stay(local, uploaded, tmp_path):
    total = sum((local / name).stat().st_size for name in ("images.bin", "labels.u8"))
    with serving(uploaded) as server:
        store = cache_of(local, tmp_path, server.address, gib=total / 2 / GIB)
        first = store.image(IDS[0], SCALES[0])
        for image_id in IDS:
            store.image(image_id, SCALES[0])
            store.image("001", SCALES[0])  # which everything else comes and goes beside
        assert (first == open_store(local).image(IDS[0], SCALES[0])).all(), "what was given out stays"
        server.asked.clear()
        store.image("001", SCALES[0])
        assert server.asked == []
        store.image("000", SCALES[0])
        assert server.asked != []


def test_where_no_part_of_a_file_can_be_removed_a_limit_is_said_to_have_no_effect(
    local, uploaded, tmp_path, monkeypatch
):
    monkeypatch.setattr(cached_file, "punch", lambda *_: False)
    lines = []
    assert attach(tmp_path / local.name, Remote(str(uploaded), 1e-6), lines.append)
    assert "STORES_CACHE_GIB has no effect" in lines[0]
    assert all_equal(open_store(tmp_path / local.name), open_store(local))


def test_a_disk_too_small_is_announced_and_a_full_one_named(local, uploaded, tmp_path, monkeypatch):
    usage, lines = shutil.disk_usage(tmp_path), []
    with monkeypatch.context() as small:
        small.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
        assert attach(tmp_path / local.name, Remote(str(uploaded)), lines.append)
    assert "STORES_CACHE_GIB sets a limit" in lines[0]

    def full(*_):
        raise OSError(28, "No space left on device")

    store = open_store(tmp_path / local.name)
    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UserError, match=r"No space left on device(.|\n)*STORES_CACHE_GIB"):
        store.image("000", SCALES[0])
    monkeypatch.undo()
    assert all_equal(store, open_store(local))


def test_after_a_power_cut_every_part_is_compared_with_its_checksum_once(local, uploaded, tmp_path, monkeypatch):
    with serving(uploaded) as server:
        store = cache_of(local, tmp_path, server.address)
        store.image("000", SCALES[0]), store.image("005", SCALES[0])
        with open(store.path / PIXELS, "r+b") as file:  # the disk has kept the marks, but not all that they say
            file.write(bytes(CHUNK))
        boot = tmp_path / "boot_id"
        boot.write_text("another one")
        monkeypatch.setattr(cached_file, "BOOT_ID", boot)
        again, expected = open_store(store.path), open_store(local)
        server.asked.clear()
        assert all((again.image(one, SCALES[0]) == expected.image(one, SCALES[0])).all() for one in ("000", "005"))
        assert server.asked == [(PIXELS, 0)]
        assert not (open_store(store.path)._images._marks == cached_file.UNSURE).any()
        boot.unlink()  # a system that does not say
        server.asked.clear()
        assert all_equal(open_store(store.path), expected, ["005"])
        assert (PIXELS, 0) not in server.asked


KILLED = """
import os, sys
from pipeline.data import cached_file
from pipeline.data.store import open_store
mark, number = cached_file.CachedFile._write, [0]
def write(self, *arguments):
    number[0] += 1
    if number[0] == int(sys.argv[2]):
        if sys.argv[3] == "half":
            os.pwrite(arguments[0], arguments[1][: len(arguments[1]) // 2], arguments[2])
        else:
            mark(self, *arguments)
        os.kill(os.getpid(), 9)
    mark(self, *arguments)
cached_file.CachedFile._write = write
store = open_store(sys.argv[1])
for image_id in store._rows:
    store.image(image_id, (96, 64))
    store.label(image_id, (96, 64))
"""


@pytest.mark.parametrize("how", ["half", "whole"])
@pytest.mark.parametrize("number", [1, 4])
def test_a_kill_in_the_middle_of_a_part_leaves_it_to_the_next_start(local, uploaded, tmp_path, number, how):
    store = cache_of(local, tmp_path, uploaded)
    command = [sys.executable, "-c", KILLED, str(store.path), str(number), how]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    content, expected = (store.path / PIXELS).read_bytes(), (local / PIXELS).read_bytes()
    for chunk in np.flatnonzero(store._images._marks).tolist():
        part = slice(chunk * CHUNK, (chunk + 1) * CHUNK)
        assert zlib.crc32(content[part]) == zlib.crc32(expected[part])
    assert all_equal(open_store(store.path), open_store(local))


def test_requests_wait_no_longer_than_they_should_for_a_server_that_says_nothing(
    local, uploaded, tmp_path, impatient, monkeypatch
):
    monkeypatch.setattr(remote, "CHUNK_S", 0.1)
    with serving(uploaded) as server:
        store = cache_of(local, tmp_path, server.address)
        server.wait_s = 30
        with pytest.raises(UserError, match="could not be reached for"):
            store.image("000", SCALES[0])
        assert isinstance(server, RangeServer) and len(server.asked) > 3
