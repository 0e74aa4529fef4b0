"""The one reader: RGB, class indices, never rotated; and the strict look at headers before it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.config.competition import IGNORE, MaskCode
from pipeline.data.image_header import BadFile, read_header
from pipeline.segmentation.labels import count_values
from pipeline.data.images import read_grey, read_image
from pipeline.segmentation.labels import class_indices, read_mask
from pipeline.errors import UserError
from tests.data.broken import HEIGHT, MASK, IMAGE, WIDTH, encoded, jpeg, png

# Larger than the folder's images, so that most cuts fall into pixels and not into the header.
_LARGE = np.random.default_rng(5).integers(0, 256, (96, 128, 3), dtype=np.uint8)
_LARGE_JPEG = jpeg(_LARGE)
_WITH_THUMBNAIL = _LARGE_JPEG[:20] + b"\xff\xe1\x00\x0cthumb\xff\xd8\xff\xd9\x00" + _LARGE_JPEG[20:]
_LARGE_PNG = encoded(Image.fromarray(_LARGE), "PNG")


def test_a_image_is_read_as_rgb(tmp_path: Path):
    Image.fromarray(IMAGE).save(tmp_path / "a.png")
    read = read_image(tmp_path / "a.png")
    assert read.dtype == np.uint8
    assert read.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(read, IMAGE)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_rotation_tag_does_not_turn_the_pixels(format: str, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a").write_bytes(encoded(Image.fromarray(IMAGE), format, exif=exif))
    assert read_image(tmp_path / "a").shape == (HEIGHT, WIDTH, 3)
    assert read_grey(tmp_path / "a").shape == (HEIGHT, WIDTH)
    with pytest.raises(AssertionError):  # the tag is there: who honours it, turns
        assert np.asarray(Image.open(tmp_path / "a").transpose(Image.Transpose.ROTATE_90)).shape == (HEIGHT, WIDTH, 3)


def test_a_mask_keeps_its_indices_and_the_ignored_one_becomes_255(tmp_path: Path):
    (tmp_path / "m.png").write_bytes(png(MASK))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), MASK)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", MaskCode(2)), np.where(MASK == 2, IGNORE, MASK))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", MaskCode(IGNORE)), MASK)


@pytest.mark.parametrize("pixels", [IMAGE, MASK.astype(np.uint16)], ids=["colours", "16 bits"])
def test_what_is_no_index_mask_is_refused(pixels: np.ndarray, tmp_path: Path):
    (tmp_path / "m.png").write_bytes(png(pixels))
    with pytest.raises(UserError, match=r"m\.png does not decode to an 8-bit single-channel PNG[\s\S]*prepare"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize("read", [read_image, read_mask, read_grey])
def test_an_absent_file_is_named(read, tmp_path: Path):
    with pytest.raises(UserError, match=r"gone\.png is not there"):
        read(tmp_path / "gone.png")


@pytest.mark.parametrize("reduction", [1, 2, 4, 8])
def test_reduced_grey_is_the_mean_of_what_it_replaces(reduction: int, tmp_path: Path):
    smooth = np.add.outer(np.arange(96), np.arange(128)).astype(np.uint8)[..., None].repeat(3, axis=2)
    (tmp_path / "a.jpg").write_bytes(jpeg(smooth, quality=95))
    grey = read_grey(tmp_path / "a.jpg", reduction)
    assert grey.shape == (96 // reduction, 128 // reduction)
    means = smooth[..., 0].reshape(96 // reduction, reduction, 128 // reduction, reduction).mean(axis=(1, 3))
    assert np.abs(grey - means).max() <= 3


@pytest.mark.parametrize("data", [_LARGE_JPEG, _WITH_THUMBNAIL, _LARGE_PNG], ids=["JPEG", "JPEG with thumbnail", "PNG"])
def test_a_whole_file_has_a_header_and_no_cut_of_it_has(data: bytes):
    assert (read_header(data).width, read_header(data).height) == (128, 96)
    for end in range(0, len(data), max(1, len(data) // 300)):
        with pytest.raises(BadFile):
            read_header(data[:end])
    for lost in range(1, 20):
        with pytest.raises(BadFile):
            read_header(data[:-lost])


@settings(max_examples=150, deadline=None)
@given(bit=st.integers(0, 8 * len(_LARGE_PNG) - 1))
def test_no_flipped_bit_of_a_png_passes(bit: int):
    changed = bytearray(_LARGE_PNG)
    changed[bit // 8] ^= 1 << bit % 8
    with pytest.raises(BadFile):
        read_header(bytes(changed))


@settings(max_examples=300, deadline=None)
@given(data=st.one_of(st.binary(max_size=200), st.tuples(st.integers(0, 700), st.binary(min_size=1, max_size=40))))
def test_no_bytes_raise_anything_but_bad_file(data):
    if isinstance(data, tuple):  # garbage written into a good file
        start, garbage = data
        data = _LARGE_JPEG[:start] + garbage + _LARGE_JPEG[start + len(garbage) :]
    try:
        read_header(data)
    except BadFile as error:
        assert error.found


@settings(max_examples=50, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40), seed=st.integers(0, 99))
def test_values_are_counted_as_numpy_counts_them(height: int, width: int, seed: int):
    mask = np.random.default_rng(seed).integers(0, 256, (height, width), dtype=np.uint8)
    np.testing.assert_array_equal(count_values(mask), np.bincount(mask.ravel(), minlength=256))


def test_values_are_counted_exactly_beyond_the_range_of_float32():
    mask = np.zeros((5000, 5000), np.uint8)
    mask[0, 0] = 7
    counts = count_values(mask)
    assert counts[0] == 24_999_999
    assert counts[7] == 1


COLORS = ((0, 0, 0), (255, 0, 0), (0, 0, 255), (9, 9, 9))  # RGB, one per value of MASK and one more
IN_COLORS = np.array(COLORS, np.uint8)[MASK]
STORES = {
    "grey values": (png(MASK * 100), MaskCode(values=(0, 100, 200))),
    "RGB": (encoded(Image.fromarray(IN_COLORS), "PNG"), MaskCode(colors=COLORS)),
    "RGBA": (encoded(Image.fromarray(IN_COLORS), "PNG", "RGBA"), MaskCode(colors=COLORS)),
    "palette": (encoded(Image.fromarray(IN_COLORS).quantize(4), "PNG"), MaskCode(colors=COLORS)),
    "grey as colours": (png(MASK * 100), MaskCode(colors=((0, 0, 0), (100, 100, 100), (200, 200, 200)))),
}  # fmt: skip


@pytest.mark.parametrize("name", STORES)
def test_a_mask_is_read_by_what_it_stores(name: str, tmp_path: Path):
    data, code = STORES[name]
    (tmp_path / "m.png").write_bytes(data)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", code), MASK)
    ignoring = replace(code, ignore_index=2)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", ignoring), np.where(MASK == 2, IGNORE, MASK))


def test_a_mask_of_one_bit_is_read_as_0_and_255(tmp_path: Path):
    (tmp_path / "m.png").write_bytes(encoded(Image.fromarray((MASK > 0).astype(np.uint8) * 255), "PNG", "1"))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", MaskCode(values=(0, 255))), MASK > 0)


def test_a_stored_value_beyond_the_classes_counts_nowhere(tmp_path: Path):
    (tmp_path / "m.png").write_bytes(png(MASK * 100))
    read = read_mask(tmp_path / "m.png", MaskCode(ignore_index=200, values=(0, 100)))
    np.testing.assert_array_equal(read, np.where(MASK == 2, IGNORE, MASK))


@pytest.mark.parametrize("code", [MaskCode(values=(0, 100)), MaskCode(colors=COLORS[:2])], ids=["values", "colours"])
def test_a_value_of_no_class_is_refused_by_the_reader_too(code: MaskCode, tmp_path: Path):
    (tmp_path / "m.png").write_bytes(png(MASK * 100))
    with pytest.raises(UserError, match=r"m\.png does not decode to .* alone"):
        read_mask(tmp_path / "m.png", code)


@settings(max_examples=60, deadline=None)
@given(data=st.data(), seed=st.integers(0, 99))
def test_any_values_and_colours_are_read_back_as_their_classes(data, seed: int):
    rng, num_classes = np.random.default_rng(seed), data.draw(st.integers(2, 254))
    indices = rng.integers(0, num_classes, (5, 7), dtype=np.uint8)
    values = tuple(rng.permutation(256)[:num_classes].tolist())
    assert (class_indices(np.array(values, np.uint8)[indices], MaskCode(values=values)) == indices).all()
    codes = rng.choice(2**24, num_classes, replace=False)
    colors = tuple((int(code) >> 16, int(code) >> 8 & 255, int(code) & 255) for code in codes)
    stored = np.array(colors, np.uint8)[:, ::-1][indices]
    assert (class_indices(np.ascontiguousarray(stored), MaskCode(colors=colors)) == indices).all()
