"""The tile store gives back what the files hold, is shared by content, and is whole or absent."""

from __future__ import annotations

import errno
import json
import multiprocessing
import os
import pickle
import shutil
import signal
import subprocess
import sys

import cv2
import numpy as np
import pytest

from pipeline.data import store as store_module
from pipeline.data.build_store import build_store, resize
from pipeline.data.images import read_image
from pipeline.data.store import open_store
from pipeline.errors import UserError
from pipeline.files import temporary_of
from tests.data.catalogs import IndexMasks, plain_images
from tests.data.small_competition import make_competition

SCALES = ((96, 64), (48, 32))


@pytest.fixture
def competition(tmp_path):
    return tmp_path / "competition", make_competition(tmp_path / "competition")


def read_label(path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


class Planes(IndexMasks):
    """Label planes by a function of a file, with a key."""

    def __init__(self, folder, read=read_label, key=""):
        super().__init__(folder)
        self.of, self.key = read, key

    def read(self, row) -> np.ndarray:
        return self.of(self.folder / row.mask)

    def content(self, row) -> str:
        return self.key + super().content(row)


def build(competition, target_root, scales=SCALES, read=read_label, key=""):
    lines = []
    path = build_store(
        plain_images(competition[0]),
        competition[1],
        scales,
        target_root,
        Planes(competition[0], read, key),
        lines.append,
    )
    return path, lines


def damaged(store) -> list[str]:
    """Returns the ids of images that the store refuses to read, with its own name and theirs."""
    found = set()
    for image_id in json.loads((store.path / "index.json").read_text())["images"]:
        for scale in store.scales or (None,):
            for read in (store.image, store.label):
                try:
                    read(image_id, scale)
                except UserError as error:
                    assert f"image {image_id} " in str(error) and f"Remove the folder {store.path} " in str(error)
                    found.add(image_id)
    return sorted(found)


def test_native_scale_holds_the_very_pixels_of_the_files_whatever_their_sizes(tmp_path):
    folder = tmp_path / "competition"
    catalog = make_competition(folder, sizes=((96, 64), (33, 57), (50, 20)))
    store = open_store(build((folder, catalog), tmp_path / "tiles", scales=None)[0])
    assert store.scales is None
    for row in catalog.itertuples():
        assert (store.image(row.id) == read_image(folder / row.image)).all()
        assert (store.label(row.id) == read_label(folder / row.mask)).all()


def test_each_scale_is_the_resized_image_and_a_label_without_new_values(tmp_path, competition):
    folder, catalog = competition
    store = open_store(build(competition, tmp_path / "tiles")[0])
    for row in catalog.itertuples():
        whole = read_image(folder / row.image), read_label(folder / row.mask)
        image, label = resize(*whole, (48, 32))
        assert (store.image(row.id, (48, 32)) == image).all() and (store.label(row.id, (48, 32)) == label).all()
        assert set(np.unique(label)) <= set(np.unique(whole[1]))


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("size", [(40, 24), (100, 80)])
def test_images_of_many_channels_are_resized_channel_by_channel(dtype, size):
    image = np.random.default_rng(0).integers(0, 255, (48, 64, 5)).astype(dtype)
    scaled, _ = resize(image, np.zeros((48, 64), np.uint8), size)
    assert (scaled.shape, scaled.dtype) == ((size[1], size[0], 5), dtype)
    for channel in range(5):
        one, _ = resize(np.ascontiguousarray(image[..., channel : channel + 1]), np.zeros((48, 64), np.uint8), size)
        np.testing.assert_allclose(scaled[..., channel], one[..., 0], atol=1)


def test_an_image_is_a_read_only_view_without_a_copy(tmp_path, competition):
    store = open_store(build(competition, tmp_path / "tiles")[0])
    image = store.image("002", (96, 64))
    assert np.shares_memory(image, store.image("002", (96, 64))) and not image.flags.writeable
    with pytest.raises(KeyError, match="not native"):
        store.image("002")


def test_labels_are_what_the_given_reader_returns_and_its_key_is_part_of_the_stores(tmp_path, competition):
    path, _ = build(competition, tmp_path / "tiles", read=lambda file: 9 - read_label(file), key="reversed 9")
    store = open_store(path)
    for row in competition[1].itertuples():
        assert (store.label(row.id, (96, 64)) == 9 - read_label(competition[0] / row.mask)).all()
    assert build(competition, tmp_path / "tiles")[0] != path
    assert build(competition, tmp_path / "tiles", key="reversed 8")[0] != path


def test_equal_content_is_built_once_and_anything_else_gets_its_own_store(tmp_path, competition):
    folder, catalog = competition
    path, lines = build(competition, tmp_path / "tiles")
    assert len(lines) == 1 and "6 images at 96x64, 48x32: 184,320 bytes" in lines[0]
    assert build(competition, tmp_path / "tiles") == (path, [])
    others = {
        build(competition, tmp_path / "tiles", scales=SCALES[:1])[0],
        build((folder, catalog[:4]), tmp_path / "tiles")[0],
    }
    image = read_image(folder / "imgs/001.png")
    image[0, 0, 0] ^= 1
    cv2.imwrite(str(folder / "imgs/001.png"), image)
    others.add(build(competition, tmp_path / "tiles")[0])
    assert len(others | {path}) == 4


def test_the_announced_size_is_the_size_on_the_disk(tmp_path, competition):
    path, lines = build(competition, tmp_path / "tiles")
    files = [path / store_module.PIXELS, path / store_module.PLANES]
    assert f"{sum(file.stat().st_size for file in files):,} bytes" in lines[0]
    assert all(file.stat().st_blocks * 512 >= file.stat().st_size for file in files), "holes would be a later SIGBUS"


def test_a_catalog_without_images_is_refused(tmp_path, competition):
    folder, catalog = competition
    with pytest.raises(UserError, match="has no training image; run `prepare`"):
        build((folder, catalog[:0]), tmp_path / "tiles")


def test_a_full_disk_is_refused_before_anything_is_written(tmp_path, competition, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=100_000))
    with pytest.raises(UserError, match="the tile store needs"):
        build(competition, tmp_path / "tiles")
    assert [path.name for path in (tmp_path / "tiles").iterdir()] == ["lock"]


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_behind(tmp_path, competition, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "pwrite", full)
    with pytest.raises(UserError, match="No space left on device"):
        build(competition, tmp_path / "tiles")
    assert [path.name for path in (tmp_path / "tiles").iterdir()] == ["lock"]


def test_builders_on_a_disk_without_locks_leave_each_other_s_work_and_keep_the_first_store(
    tmp_path, competition, monkeypatch
):
    def refuse(*_):
        raise OSError(errno.ENOLCK, "No locks available")

    root, rename, num_built = tmp_path / "tiles", os.rename, []

    def outrun(source, target):  # meanwhile another machine has finished the same store
        if os.path.dirname(target) == str(root) and not num_built:
            num_built.append(1)
            shutil.copytree(source, target)
            open(os.path.join(target, "first"), "wb").close()
        rename(source, target)

    other = temporary_of(root / "another")
    other.mkdir(parents=True)
    monkeypatch.setattr("fcntl.flock", refuse)
    monkeypatch.setattr(os, "rename", outrun)
    path, _ = build(competition, root)
    assert num_built and (path / "first").exists() and damaged(open_store(path)) == []
    assert {one.name for one in root.iterdir()} == {"lock", other.name, path.name}


def test_a_file_that_changed_its_size_since_the_catalog_is_named(tmp_path, competition):
    folder, _ = competition
    cv2.imwrite(str(folder / "imgs/004.png"), np.zeros((10, 20, 3), np.uint8))
    with pytest.raises(UserError, match=r"imgs/004.png is 20x10 .* catalog says 96x64"):
        build(competition, tmp_path / "tiles")


KILLED_BUILD = """
import sys
import cv2
import pandas as pd
from pipeline.data import build_store
catalog = pd.read_csv(sys.argv[1] + "/catalog.csv", dtype={"id": str})
write = build_store._write_all
def slow(*arguments):
    write(*arguments)
    print("writing", flush=True)
    import time
    time.sleep(0.2)
build_store._write_all = slow
from pathlib import Path
from tests.data.catalogs import IndexMasks, plain_images
images, labels = plain_images(sys.argv[1]), IndexMasks(Path(sys.argv[1]))
build_store.build_store(images, catalog, ((96, 64), (48, 32)), sys.argv[2], labels)
"""


@pytest.mark.slow
def test_a_killed_build_looks_unfinished_and_the_next_one_clears_it_away(tmp_path, competition):
    folder, catalog = competition
    catalog.to_csv(folder / "catalog.csv", index=False)
    command = [sys.executable, "-c", KILLED_BUILD, str(folder), str(tmp_path / "tiles")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    for line in process.stdout:
        if line.startswith("writing"):
            break
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    left_over = [path for path in (tmp_path / "tiles").iterdir() if path.is_dir()]
    assert len(left_over) == 1 and ".tmp-" in left_over[0].name
    with pytest.raises(UserError, match="not a usable tile store"):
        open_store(left_over[0])
    path, _ = build(competition, tmp_path / "tiles")
    assert sorted(entry.name for entry in (tmp_path / "tiles").iterdir()) == sorted([path.name, "lock"])
    assert damaged(open_store(path)) == []


@pytest.mark.slow
def test_a_second_builder_waits_for_the_first_and_shares_its_store(tmp_path, competition):
    folder, catalog = competition
    context = multiprocessing.get_context("spawn")
    with context.Pool(2) as pool:
        arguments = (plain_images(folder), catalog, SCALES, tmp_path / "tiles", IndexMasks(folder))
        results = [pool.apply_async(build_store, arguments) for _ in range(2)]
        paths = {result.get(timeout=120) for result in results}
    assert len(paths) == 1
    assert damaged(open_store(paths.pop())) == []


@pytest.mark.parametrize("file", ["images.bin", "labels.u8", "index.json"])
def test_a_truncated_file_is_refused(tmp_path, competition, file):
    path, _ = build(competition, tmp_path / "tiles")
    content = (path / file).read_bytes()
    (path / file).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="Remove that folder"):
        open_store(path)


@pytest.mark.parametrize("file", ["images.bin", "labels.u8"])
def test_a_zeroed_page_or_a_flipped_bit_is_refused_where_its_image_is_read(tmp_path, competition, file):
    path, _ = build(competition, tmp_path / "tiles")
    assert damaged(open_store(path)) == []
    content, rng = (path / file).read_bytes(), np.random.default_rng(0)
    for number in range(40):
        changed = bytearray(content)
        if number % 2:
            changed[rng.integers(len(content))] ^= 1 << rng.integers(8)
        else:
            at = rng.integers(len(content) // 4096) * 4096
            changed[at : at + 4096] = bytes(4096)
        (path / file).write_bytes(changed)
        assert bool(damaged(open_store(path))) == (changed != content)
    assert content.strip(b"\0")  # or zeroing would change nothing


def test_of_an_image_too_large_to_be_read_whole_for_a_tile_no_byte_is_compared(tmp_path, competition, monkeypatch):
    path, _ = build(competition, tmp_path / "tiles")
    (path / "images.bin").write_bytes(bytes((path / "images.bin").stat().st_size))
    monkeypatch.setattr(store_module, "MOST_MAPPED_PX", 0)
    assert damaged(open_store(path)) == []


def test_another_format_is_refused(tmp_path, competition):
    path, _ = build(competition, tmp_path / "tiles")
    index = json.loads((path / "index.json").read_text())
    (path / "index.json").write_text(json.dumps({**index, "format": 0}))
    with pytest.raises(UserError, match="its format is 0, expected"):
        open_store(path)


def test_a_store_travels_to_another_process_as_its_path(tmp_path, competition):
    store = open_store(build(competition, tmp_path / "tiles")[0])
    text = pickle.dumps(store)
    assert len(text) < 1000
    assert (pickle.loads(text).image("001", (48, 32)) == store.image("001", (48, 32))).all()  # noqa: S301


def test_t1_takes_at_most_six_megabytes_an_image(tmp_path):
    catalog = make_competition(tmp_path / "competition", num_images=2, sizes=((1280, 720),))
    path, _ = build((tmp_path / "competition", catalog), tmp_path / "tiles", scales=((1280, 720), (854, 480)))
    assert sum(file.stat().st_size for file in path.iterdir()) / 2 < 6e6
