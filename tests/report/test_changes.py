"""The picture of two submissions: what changed is seen, however small and whatever the picture's size."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.report.canvas import BRIGHT
from pipeline.report.changes import WIDTH, Changed, choose_changed, draw_changes
from tests.report.small_run import CLASSES, COLORS, make_picture


def bright(picture: np.ndarray) -> int:
    return int((picture == np.array(BRIGHT)).all(axis=2).sum())


@pytest.mark.parametrize(("width", "height"), [(96, 64), (1280, 720), (64, 640), (900, 100), (2000, 50), (1, 1)])
def test_a_picture_of_any_size_makes_a_block_as_wide_as_a_phone(width, height):
    picture, mask = make_picture(width, height)
    drawn = draw_changes([Changed("a", picture, mask, np.zeros_like(mask))], CLASSES, COLORS, ("one", "two"))
    assert drawn.dtype == np.uint8
    assert drawn.shape[1] == WIDTH
    assert drawn.shape[0] < 1600


def test_a_single_changed_pixel_of_a_large_picture_is_seen():
    picture, mask = make_picture(1280, 720)
    second = mask.copy()
    second[700, 1279] = (second[700, 1279] + 1) % 3
    drawn = draw_changes([Changed("a", picture, mask, second)], CLASSES, COLORS, ("one", "two"))
    assert 9 <= bright(drawn) <= 25
    assert bright(draw_changes([Changed("a", picture, mask, mask)], CLASSES, COLORS, ("one", "two"))) == 0


def test_pixels_without_a_class_show_the_picture():
    picture, mask = make_picture(960, 640)
    nothing = np.full_like(mask, 255)
    drawn = draw_changes([Changed("a", picture, nothing, nothing)], CLASSES, COLORS, ("one", "two"))
    lower = drawn[-300:-40, 40:500]
    assert len(np.unique(lower)) > 60  # of a picture, where a pattern has two greys
    assert (lower[..., 0] == lower[..., 1]).all()


def test_changes_of_a_small_picture_have_no_gaps():
    picture, mask = make_picture(96, 64)
    drawn = draw_changes([Changed("a", picture, mask, (mask + 1) % 3)], CLASSES, COLORS, ("one", "two"))
    assert bright(drawn) >= 519 * 346  # of all its pixels


def test_blocks_lie_below_one_another():
    picture, mask = make_picture()
    one = Changed("a", picture, mask, np.zeros_like(mask))
    heights = [len(draw_changes([one] * number, CLASSES, COLORS, ("one", "two"))) for number in (1, 2, 3)]
    assert heights[2] - heights[1] == heights[1] - heights[0] > 300


def test_pictures_without_a_sequence_are_all_different_scenes():
    assert choose_changed([("a", ""), ("b", ""), ("c", "")], 2) == ["a", "b"]
