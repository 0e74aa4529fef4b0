"""The one reader: RGB, class indices, never rotated; and the strict look at headers before it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.config.competition import IGNORE, MaskCode
from pipeline.data.image_header import BadFile, read_header
from pipeline.data.inspection import count_values
from pipeline.data.pictures import read_grey, read_mask, read_picture
from pipeline.errors import UserError
from tests.data.broken import HEIGHT, MASK, PICTURE, WIDTH, encoded, jpeg, png

# Larger than the folder's pictures, so that most cuts fall into pixels and not into the header.
_LARGE = np.random.default_rng(5).integers(0, 256, (96, 128, 3), dtype=np.uint8)
_LARGE_JPEG = jpeg(_LARGE)
_WITH_THUMBNAIL = _LARGE_JPEG[:20] + b"\xff\xe1\x00\x0cthumb\xff\xd8\xff\xd9\x00" + _LARGE_JPEG[20:]
_LARGE_PNG = encoded(Image.fromarray(_LARGE), "PNG")


def test_a_picture_is_read_as_rgb(tmp_path: Path):
    Image.fromarray(PICTURE).save(tmp_path / "a.png")
    read = read_picture(tmp_path / "a.png")
    assert read.dtype == np.uint8
    assert read.flags["C_CONTIGUOUS"]
    np.testing.assert_array_equal(read, PICTURE)


@pytest.mark.parametrize("format", ["JPEG", "PNG"])
def test_a_rotation_tag_does_not_turn_the_pixels(format: str, tmp_path: Path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "a").write_bytes(encoded(Image.fromarray(PICTURE), format, exif=exif))
    assert read_picture(tmp_path / "a").shape == (HEIGHT, WIDTH, 3)
    assert read_grey(tmp_path / "a").shape == (HEIGHT, WIDTH)
    with pytest.raises(AssertionError):  # the tag is there: who honours it, turns
        assert np.asarray(Image.open(tmp_path / "a").transpose(Image.Transpose.ROTATE_90)).shape == (HEIGHT, WIDTH, 3)


def test_a_mask_keeps_its_indices_and_the_ignored_one_becomes_255(tmp_path: Path):
    (tmp_path / "m.png").write_bytes(png(MASK))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png"), MASK)
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", MaskCode(2)), np.where(MASK == 2, IGNORE, MASK))
    np.testing.assert_array_equal(read_mask(tmp_path / "m.png", MaskCode(IGNORE)), MASK)


@pytest.mark.parametrize("pixels", [PICTURE, MASK.astype(np.uint16)], ids=["colours", "16 bits"])
def test_what_is_no_index_mask_is_refused(pixels: np.ndarray, tmp_path: Path):
    (tmp_path / "m.png").write_bytes(png(pixels))
    with pytest.raises(UserError, match=r"m\.png does not decode to an 8-bit single-channel PNG[\s\S]*prepare"):
        read_mask(tmp_path / "m.png")


@pytest.mark.parametrize("read", [read_picture, read_mask, read_grey])
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
