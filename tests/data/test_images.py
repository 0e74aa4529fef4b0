"""The one reader of images: RGB, never rotated; and the strict check of headers before it."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pipeline.data.images import BadFile, read_grey, read_header, read_image
from pipeline.errors import UserError
from tests.data.broken import HEIGHT, IMAGE, WIDTH, encoded, jpeg

# Larger than the folder's images, so that most cuts fall into pixels and not into the header.
_LARGE = np.random.default_rng(5).integers(0, 256, (96, 128, 3), dtype=np.uint8)
_LARGE_JPEG = jpeg(_LARGE)
_WITH_THUMBNAIL = _LARGE_JPEG[:20] + b"\xff\xe1\x00\x0cthumb\xff\xd8\xff\xd9\x00" + _LARGE_JPEG[20:]
_LARGE_PNG = encoded(Image.fromarray(_LARGE), "PNG")


def test_an_image_is_read_as_rgb(tmp_path: Path):
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


@pytest.mark.parametrize("read", [read_image, read_grey])
def test_an_absent_file_is_named(read, tmp_path: Path):
    with pytest.raises(UserError, match=r"gone\.png does not exist"):
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


@pytest.mark.parametrize("read", [read_image, read_grey])
def test_a_pipe_in_the_place_of_an_image_is_refused_instead_of_waited_for(tmp_path, read):
    os.mkfifo(tmp_path / "a.jpg")
    with pytest.raises(UserError, match=r"a\.jpg does not exist; expected an[\s\S]*prepare --force"):
        read(tmp_path / "a.jpg")
