"""Tiles lie where the original put them, and cover their image."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.data.tiles import distortion, scaled_size, scales_of, tile_starts, tile_windows

T1 = [(1280, 720, 3, 3), (854, 480, 2, 2)]
T2 = [(1280, 720, 6, 4), (854, 480, 4, 3), (640, 360, 3, 2)]


def places(sets, width, height):
    return [(scale, box.x, box.y) for scale, box in tile_windows(sets, width, height)]


def test_t1_has_the_thirteen_tiles_of_the_original():
    large = [((1280, 720), x, y) for y in (0, 184, 368) for x in (0, 320, 640)]
    small = [((854, 480), x, y) for y in (0, 128) for x in (0, 214)]
    assert places(T1, 640, 352) == large + small


def test_t2_starts_are_rounded_down_as_in_the_original():
    windows = places(T2, 320, 320)
    assert len(windows) == 6 * 4 + 4 * 3 + 3 * 2
    assert sorted({x for scale, x, _ in windows if scale == (1280, 720)}) == [0, 192, 384, 576, 768, 960]
    assert sorted({y for scale, _, y in windows if scale == (1280, 720)}) == [0, 133, 266, 400]
    assert sorted({x for scale, x, _ in windows if scale == (854, 480)}) == [0, 178, 356, 534]


def test_small_and_portrait_images_are_told_of():
    sizes = [(480, 360)] * 3 + [(360, 480)] * 2 + [(1280, 720)]
    assert distortion(sizes, T1) == (
        "[1280, 720] enlarges 5 of 6 images and changes the aspect of 5; "
        "[854, 480] enlarges 3 of 6 images and changes the aspect of 5"
    )
    assert distortion([(1280, 720)] * 4, T1) == ""


@given(st.integers(1000, 4000), st.integers(1000, 4000), st.floats(0.1, 1.05))
def test_images_that_only_shrink_in_proportion_are_not_told_of(width, height, factor):
    assert distortion([(width, height)], [(round(width * factor), round(height * factor), 1, 1)]) == ""


def test_a_single_column_or_row_is_centred():
    assert places([(100, 80, 1, 1)], 40, 40) == [((100, 80), 30, 20)]
    assert places([(100, 80, 1, 2)], 40, 40) == [((100, 80), 30, 0), ((100, 80), 30, 40)]


@given(st.integers(1, 400), st.integers(0, 400), st.integers(1, 9))
def test_every_tile_lies_inside_and_the_outermost_touch_the_edges(tile_length, room, num_tiles):
    starts = tile_starts(tile_length + room, tile_length, num_tiles)
    assert len(starts) == num_tiles and starts == sorted(starts)
    assert min(starts) >= 0 and max(starts) <= room
    if num_tiles > 1:
        assert (starts[0], starts[-1]) == (0, room)


def test_t1_covers_every_pixel_of_both_scales():
    for width, height in scales_of(T1):
        covered = np.zeros((height, width), bool)
        for scale, box in tile_windows(T1, 640, 352):
            if scale == (width, height):
                covered[box.y : box.y + 352, box.x : box.x + 640] = True
        assert covered.all()


@pytest.mark.parametrize("size", [(3000, 2000), (700, 1100), (100, 90)])
@pytest.mark.parametrize("factor", [1.0, 0.3])
def test_tiles_of_a_factor_cover_an_image_of_any_size_with_at_least_the_overlap(size, factor):
    covered = np.zeros(scaled_size(factor, size)[::-1], int)
    windows = tile_windows([(factor, 0.25)], 256, 200, size)
    for scale, box in windows:
        assert scale == factor and box.width == min(256, covered.shape[1]) and box.height == min(200, covered.shape[0])
        assert box.x + box.width <= covered.shape[1] and box.y + box.height <= covered.shape[0]
        covered[box.y : box.y + box.height, box.x : box.x + box.width] += 1
    assert covered.min() == 1
    lefts = sorted({box.x for _, box in windows})
    assert all(after - before <= 192 for before, after in pairwise(lefts))  # 256 less a quarter


def test_a_factor_distorts_no_image():
    assert distortion([(640, 360), (360, 640)], [(1.0, 0.25), (2.0, 0.25)]) == ""
