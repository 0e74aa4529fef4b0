"""Large images are read by region: any window has the pixels that the whole file has."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.config.competition import ImageForm
from pipeline.data.build_store import build_store
from pipeline.data.decode import decode
from pipeline.data.image_facts import measure
from pipeline.data.image_source import ImageSource
from pipeline.data.images import BadFile
from pipeline.data.large_image import LargeImage
from pipeline.data.regions import Regions, stored_size
from pipeline.data.store import open_store
from pipeline.data.tiles import Box
from pipeline.errors import UserError
from pipeline.paths import PROJECT
from tests.data.broken import COMPETITION
from tests.data.catalogs import IndexMasks
from tests.data.small_competition import make_competition

HEIGHT, WIDTH = 150, 230
WITHOUT_CODECS = """
import sys
from pathlib import Path
sys.modules["imagecodecs"] = None  # as where it is not installed
from pipeline.config.competition import ImageForm
from pipeline.data.regions import Regions
Regions(Path(sys.argv[1]), ImageForm())
"""
RNG = np.random.default_rng(5)
RGB = RNG.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
PLANES = np.moveaxis(RGB, -1, 0)
GREY16 = RNG.integers(0, 65536, (HEIGHT, WIDTH), dtype=np.uint16)
FLOATS = RNG.normal(0, 1, (HEIGHT, WIDTH, 5)).astype(np.float32)
TILED = {"tile": (64, 48), "compression": "zlib"}
# Of each: how tifffile writes it.
TIFFS = {
    "tiles": (RGB, {"photometric": "rgb", **TILED}),
    "tiles, predicted": (RGB, {"photometric": "rgb", "predictor": 2, **TILED}),
    "tiles, not compressed": (RGB, {"photometric": "rgb", "tile": (64, 64)}),
    "planes of tiles": (PLANES, {"photometric": "rgb", "planarconfig": "separate", **TILED}),
    "planes": (PLANES, {"photometric": "rgb", "planarconfig": "separate"}),
    "one strip": (RGB, {"photometric": "rgb"}),
    "strips": (RGB, {"photometric": "rgb", "compression": "zlib", "rowsperstrip": 7}),
    "BigTIFF": (RGB, {"photometric": "rgb", "bigtiff": True, **TILED}),
    "five axes": (PLANES[None, None], {"photometric": "rgb"}),
    "five axes of tiles": (PLANES[None, None], {"photometric": "rgb", **TILED}),
    "16 bits": (GREY16, TILED),
    "16 bits, big-endian": (GREY16, {"byteorder": ">"}),
    "16 bits, big-endian tiles": (GREY16, {"byteorder": ">", **TILED}),
    "floats": (FLOATS, {"photometric": "minisblack", "planarconfig": "contig", **TILED}),
}
BOXES = st.builds(
    lambda left, top, width, height: Box(left, top, min(width, WIDTH - left), min(height, HEIGHT - top)),
    *(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(1, WIDTH), st.integers(1, HEIGHT)),
)
SMALL_LIMIT = ImageForm(whole_px=1000)


def cut(pixels: np.ndarray, box: Box) -> np.ndarray:
    return pixels[box.y : box.y + box.height, box.x : box.x + box.width]


def source(folder: Path, form: ImageForm = SMALL_LIMIT) -> ImageSource:
    return ImageSource(replace(COMPETITION, image=form), folder)


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("tiffs")
    paths = {name: folder / f"{number}.tif" for number, name in enumerate(TIFFS)}
    for name, path in paths.items():
        pixels, options = TIFFS[name]
        tifffile.imwrite(path, pixels, **options)
    return paths


@pytest.mark.parametrize("name", TIFFS)
@given(box=BOXES)
def test_a_window_of_a_tiff_has_the_pixels_that_the_whole_file_has(files, name, box):
    path = files[name]
    whole, regions = decode(path.read_bytes(), path.suffix, ImageForm()), Regions(path, ImageForm(), kept_bytes=9000)
    assert stored_size(path) == regions.size == (HEIGHT, WIDTH)
    window = regions.read(box)
    assert window.dtype == whole.dtype == regions.dtype and regions.channels == whole.shape[2]
    np.testing.assert_array_equal(window, cut(whole, box))


@pytest.mark.parametrize("bands", [None, (4, 0)])
def test_a_window_of_an_npy_file_has_the_pixels_of_the_whole_array(tmp_path, bands):
    path, form, box = tmp_path / "a.npy", ImageForm(bands=bands), Box(30, 20, 50, 40)
    np.save(path, FLOATS)
    np.testing.assert_array_equal(Regions(path, form).read(box), cut(decode(path.read_bytes(), ".npy", form), box))


def test_a_frame_of_an_array_is_chosen_as_in_the_whole_file(tmp_path):
    path, form, box = tmp_path / "a.npy", ImageForm(frame=2), Box(30, 20, 50, 40)
    np.save(path, np.moveaxis(FLOATS, -1, 0))
    np.testing.assert_array_equal(Regions(path, form).read(box), cut(decode(path.read_bytes(), ".npy", form), box))


def test_a_compression_that_needs_another_package_is_named_with_the_package(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.tif", compression="tiff_lzw")
    command = [sys.executable, "-c", WITHOUT_CODECS, str(tmp_path / "a.tif")]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False)
    words = r"UserError: .*a\.tif: 230x150, a TIFF compressed with LZW, .*pip install imagecodecs"
    assert re.search(words, result.stderr), result.stderr


def test_a_tiff_that_is_compressed_in_one_large_piece_is_too_large(tmp_path):
    side = 12_000
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((side, side), np.uint8), compression="zlib", rowsperstrip=side)
    (problem,) = source(tmp_path).inspect("a.tif").problems
    assert (problem.kind, problem.found) == ("image too large", "12000x12000, compressed in pieces of 12000x12000")


def test_a_large_file_that_ends_early_is_damaged(tmp_path, files):
    data = files["strips"].read_bytes()
    (tmp_path / "a.tif").write_bytes(data[: len(data) // 2])
    (problem,) = source(tmp_path).inspect("a.tif").problems
    assert problem.kind == "file damaged"


def test_other_formats_are_refused_above_the_limit_with_a_command_that_makes_them_readable(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), RGB[..., ::-1])
    (problem,) = source(tmp_path).inspect("a.png").problems
    assert (problem.kind, problem.found) == ("image too large", "230x150")
    assert problem.expected == "at most 1,000 pixels, or a TIFF of tiles or an npy file, which are read by region"
    command = shlex.split(problem.fix.partition(": ")[2].partition("; or raise WHOLE_PX")[0])
    subprocess.run([sys.executable, *command[1:]], cwd=tmp_path, check=True)
    assert source(tmp_path).inspect("NEW.tif").problems == ()
    np.testing.assert_array_equal(source(tmp_path).window("NEW.tif", Box(3, 5, 200, 100)), RGB[5:105, 3:203])
    assert source(tmp_path, ImageForm()).inspect("a.png").problems == ()


def test_of_a_large_image_the_same_is_found_as_of_one_that_is_decoded(tmp_path):
    np.save(tmp_path / "a.npy", FLOATS)
    form = ImageForm(channels=5)
    large, whole = (source(tmp_path, replace(form, whole_px=limit)) for limit in (1000, 2**26))
    assert large.inspect("a.npy") == whole.inspect("a.npy")
    facts = [measure(one.competition, tmp_path, ["a.npy"]) for one in (large, whole)]
    np.testing.assert_allclose(facts[0]["mean"], facts[1]["mean"], atol=0.02)
    np.save(tmp_path / "b.npy", np.where(FLOATS > 2, np.nan, FLOATS))
    assert (
        large.inspect("b.npy").problems[0].kind == whole.inspect("b.npy").problems[0].kind == "pixels without a value"
    )


def test_channels_of_several_large_files_are_stacked(tmp_path, files):
    for name in ("a.tif", "b.tif"):
        tifffile.imwrite(tmp_path / name, RGB[..., 0 if name == "a.tif" else 1], **TILED)
    images = source(tmp_path, ImageForm(channels=2, whole_px=1000))
    np.testing.assert_array_equal(images.window("a.tif|b.tif", Box(9, 8, 70, 60)), RGB[8:68, 9:79, :2])


def test_files_of_different_sizes_do_not_make_a_large_image(tmp_path):
    for name, pixels in (("a.npy", FLOATS), ("b.npy", FLOATS[:-1])):
        np.save(tmp_path / name, pixels)
    with pytest.raises(BadFile, match="230x149 and 230x150"):
        LargeImage([Regions(tmp_path / name, ImageForm()) for name in ("a.npy", "b.npy")], 10)


@pytest.mark.parametrize("size", [(115, 75), (100, 61), (7, 149), (230, 150)])
def test_rows_that_are_resized_some_at_a_time_are_those_of_the_whole(tmp_path, size, monkeypatch):
    monkeypatch.setattr("pipeline.data.large_image.BAND_BYTES", 30_000)
    np.save(tmp_path / "a.npy", RGB)
    found = list(LargeImage([Regions(tmp_path / "a.npy", ImageForm())], 3).resized(size))
    assert len(found) > 1
    rows = np.concatenate([rows for _, rows in found])
    wanted = cv2.resize(RGB, size, interpolation=cv2.INTER_AREA)
    assert np.abs(rows.astype(int) - wanted).max() <= 1


def test_a_thumbnail_is_the_image_made_smaller(tmp_path):
    smooth = cv2.resize(RNG.integers(0, 256, (4, 5, 3), dtype=np.uint8), (5000, 300), interpolation=cv2.INTER_LINEAR)
    tifffile.imwrite(tmp_path / "a.tif", smooth, photometric="rgb", **TILED)
    shown = source(tmp_path).shown("a.tif")
    assert shown.shape == (123, 2048, 3)
    assert np.abs(shown.astype(int) - cv2.resize(smooth, (2048, 123), interpolation=cv2.INTER_AREA)).max() <= 1
    assert source(tmp_path).grey("a.tif").shape == (123, 2048)


def test_the_store_of_large_images_has_the_same_tiles_bit_for_bit(tmp_path):
    catalog = make_competition(tmp_path / "data", num_images=3, sizes=((96, 64), (70, 90)))
    for row in catalog.itertuples():
        pixels = cv2.cvtColor(cv2.imread(str(tmp_path / "data" / row.image)), cv2.COLOR_BGR2RGB)
        tifffile.imwrite(tmp_path / "data" / f"imgs/{row.id}.tif", pixels, photometric="rgb", tile=(32, 32))
    catalog["image"] = [f"imgs/{image_id}.tif" for image_id in catalog["id"]]
    stores = []
    for limit in (1000, 2**26):
        images = source(tmp_path / "data", ImageForm(whole_px=limit))
        path = build_store(
            images, catalog, (1.0, 0.5), tmp_path / f"{limit}", IndexMasks(tmp_path / "data"), lambda line: None
        )
        stores.append(open_store(path))
    large, whole = stores
    for row in catalog.itertuples():
        assert large.size(row.id) == (row.width, row.height)
        assert large.entry(row.id, 1.0) == whole.entry(row.id, 1.0)
        np.testing.assert_array_equal(large.image(row.id, 1.0), whole.image(row.id, 1.0))
        for scale in (1.0, 0.5):
            np.testing.assert_array_equal(large.label(row.id, scale), whole.label(row.id, scale))
        half, wanted = (store.image(row.id, 0.5).astype(int) for store in stores)
        assert half.shape == wanted.shape == (row.height // 2, row.width // 2, 3)
        assert np.abs(half - wanted).max() <= 1


def test_a_large_image_is_not_enlarged(tmp_path):
    np.save(tmp_path / "a.npy", RGB)
    with pytest.raises(UserError, match=r"TILE\.SETS enlarges an image of 230x150 to 460x300"):
        list(source(tmp_path).large("a.npy").resized((460, 300)))
