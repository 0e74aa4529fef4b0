"""The image of two submissions: what changed is seen, however small and whatever the image's size."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.commands.submissions import choose_changed
from pipeline.report.canvas import MARGIN
from pipeline.segmentation.panels import BRIGHT, DIFF_WIDTH, Changed, draw_changes
from tests.report.small_run import CLASSES, COLORS, make_image


def bright(image: np.ndarray) -> int:
    return int((image == np.array(BRIGHT)).all(axis=2).sum())


@pytest.mark.parametrize(("width", "height"), [(96, 64), (1280, 720), (64, 640), (900, 100), (2000, 50), (1, 1)])
def test_a_image_of_any_size_makes_a_block_as_wide_as_a_phone(width, height):
    image, mask = make_image(width, height)
    drawn = draw_changes([Changed("a", image, mask, np.zeros_like(mask))], CLASSES, COLORS, ("one", "two"))
    assert drawn.dtype == np.uint8
    assert drawn.shape[1] == DIFF_WIDTH + 2 * MARGIN
    assert drawn.shape[0] < 1600


def test_a_single_changed_pixel_of_a_large_image_is_seen():
    image, mask = make_image(1280, 720)
    second = mask.copy()
    second[700, 1279] = (second[700, 1279] + 1) % 3
    drawn = draw_changes([Changed("a", image, mask, second)], CLASSES, COLORS, ("one", "two"))
    assert 9 <= bright(drawn) <= 25
    assert bright(draw_changes([Changed("a", image, mask, mask)], CLASSES, COLORS, ("one", "two"))) == 0


def test_pixels_without_a_class_show_the_image():
    image, mask = make_image(960, 640)
    nothing = np.full_like(mask, 255)
    drawn = draw_changes([Changed("a", image, nothing, nothing)], CLASSES, COLORS, ("one", "two"))
    lower = drawn[-300:-40, 40:500]
    assert len(np.unique(lower)) > 60  # of an image, where a pattern has two greys
    assert (lower[..., 0] == lower[..., 1]).all()


def test_changes_of_a_small_image_have_no_gaps():
    image, mask = make_image(96, 64)
    drawn = draw_changes([Changed("a", image, mask, (mask + 1) % 3)], CLASSES, COLORS, ("one", "two"))
    assert bright(drawn) >= 519 * 346  # of all its pixels


def test_blocks_lie_below_one_another():
    image, mask = make_image()
    one = Changed("a", image, mask, np.zeros_like(mask))
    heights = [len(draw_changes([one] * number, CLASSES, COLORS, ("one", "two"))) for number in (1, 2, 3)]
    assert heights[2] - heights[1] == heights[1] - heights[0] > 300


def test_images_without_a_sequence_are_all_different_scenes():
    assert choose_changed([("a", ""), ("b", ""), ("c", "")], 2) == ["a", "b"]
