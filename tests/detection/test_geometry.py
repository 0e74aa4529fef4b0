"""Boxes go where the pixels of their object go, whatever is done to an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.load import load
from pipeline.data.augment import Geometry, cut_image, part_matrix
from pipeline.data.distort import distortions, drawn_maps, remap_image
from pipeline.data.tiles import Box
from pipeline.detection.boxes import make_boxes
from pipeline.detection.geometry import cut, distorted, moved, scaled, shifted, visible_share

HEIGHT, WIDTH = 90, 120
PLAIN = load("BccdR").config.datasets.augmentation

sides = st.tuples(st.integers(0, WIDTH - 20), st.integers(0, HEIGHT - 20), st.integers(12, 60), st.integers(12, 50))
geometries = st.builds(
    Geometry,
    flip=st.booleans(),
    flip_vertical=st.booleans(),
    quarter_turns=st.integers(0, 3),
    border=st.just("constant"),
    zoom=st.sampled_from([1.0, 0.6, 1.7]),
)
warps = st.builds(
    Geometry,
    flip=st.booleans(),
    flip_vertical=st.booleans(),
    warped=st.just(True),
    angle=st.sampled_from([0.0, 90.0, 180.0, -90.0]),
    scale=st.sampled_from([0.7, 1.0, 1.4]),
    shift_x=st.floats(-0.2, 0.2),
    shift_y=st.floats(-0.2, 0.2),
    quarter_turns=st.integers(0, 3),
    border=st.just("constant"),
    zoom=st.sampled_from([1.0, 0.6, 1.7]),
)
parts = st.builds(Box, st.integers(-30, 60), st.integers(-30, 50), st.integers(20, 140), st.integers(20, 120))


def with_rectangle(left: int, top: int, width: int, height: int) -> tuple[np.ndarray, tuple[int, int, int, int]]:
    """Returns a black image with a white rectangle, and its box."""
    box = (left, top, min(left + width, WIDTH), min(top + height, HEIGHT))
    image = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    image[box[1] : box[3], box[0] : box[2]] = 255
    return image, box


def bright_box(image: np.ndarray) -> np.ndarray | None:
    """Returns the box around the pixels that are more bright than dark; None where there is none."""
    is_bright = image[..., 0] > 127
    columns, rows = np.flatnonzero(is_bright.any(0)), np.flatnonzero(is_bright.any(1))
    return np.array([columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]) if len(columns) else None


@settings(max_examples=100)
@given(sides, st.one_of(geometries, warps), parts)
def test_a_box_is_where_the_pixels_of_its_object_are_after_flips_turns_warps_and_cuts(rectangle, geometry, part):
    image, box = with_rectangle(*rectangle)
    pixels = cut_image(image, geometry, part)
    assert pixels.shape[:2] == (part.height, part.width)
    boxes = make_boxes([box], [0])
    matrix = part_matrix((HEIGHT, WIDTH), geometry, part)
    found = cut(boxes._replace(xyxy=moved(boxes.xyxy, matrix)), (part.height, part.width), 0).xyxy
    seen = bright_box(pixels)
    if seen is None:
        assert not len(found) or (found[0, 2:] - found[0, :2]).min() < 1.5
    else:
        assert len(found) == 1
        np.testing.assert_allclose(found[0], seen, atol=1.01)


@settings(max_examples=100)
@given(sides, st.floats(-45, 45), parts)
def test_a_box_of_a_turned_rectangle_is_the_smallest_upright_one_around_it(rectangle, angle, part):
    image, box = with_rectangle(*rectangle)
    geometry = Geometry(warped=True, angle=angle, border="constant")
    seen = bright_box(cut_image(image, geometry, Box(-60, -60, WIDTH + 120, HEIGHT + 120)))
    whole = moved(np.array([box], np.float32), part_matrix((HEIGHT, WIDTH), geometry, Box(-60, -60, 240, 210)))
    np.testing.assert_allclose(whole[0], seen, atol=1.6)  # a corner has less than half of a pixel's area
    inside = seen - np.tile([part.x + 60, part.y + 60], 2)
    own = moved(np.array([box], np.float32), part_matrix((HEIGHT, WIDTH), geometry, part))
    np.testing.assert_allclose(own[0], inside, atol=1.6)


@settings(max_examples=30)
@given(sides, st.integers(0, 10**6), st.sampled_from(["elastic", "grid_distortion", "optical_distortion"]))
def test_a_box_of_a_distorted_image_is_around_the_pixels_of_its_object(rectangle, seed, name):
    image, box = with_rectangle(*rectangle)
    augmentation = replace(PLAIN, **{name: replace(getattr(PLAIN, name), enable=True, probability=1.0)})
    (maps,) = drawn_maps(distortions(augmentation), (HEIGHT, WIDTH), lambda stream: np.random.default_rng(seed))
    seen = bright_box(remap_image(image, maps, "constant", 0))
    (found,) = distorted(np.array([box], np.float32), *maps)
    if seen is not None:
        np.testing.assert_allclose(found, seen, atol=1.01)


@given(st.lists(st.tuples(*[st.floats(-20, 60, width=32)] * 4), max_size=6), st.floats(0, 1))
def test_what_is_kept_of_boxes_is_inside_and_has_the_share_that_must_be_visible(rows, least):
    xyxy = [[min(a, c), min(b, d), max(a, c), max(b, d)] for a, b, c, d in rows]
    boxes = make_boxes(xyxy, range(len(xyxy)))
    kept = cut(boxes, (30, 40), least)
    assert (kept.xyxy >= 0).all() and (kept.xyxy <= [40, 30, 40, 30]).all()
    assert (kept.xyxy[:, 2:] > kept.xyxy[:, :2]).all()
    for row, index in zip(kept.xyxy, kept.classes, strict=True):
        whole = boxes.xyxy[index]
        assert (row[2] - row[0]) * (row[3] - row[1]) >= least * (whole[2] - whole[0]) * (whole[3] - whole[1]) * 0.999


@given(st.integers(1, 80), st.integers(1, 80), st.integers(1, 80), st.integers(1, 80))
def test_scaling_to_another_size_and_back_changes_nothing(height, width, new_height, new_width):
    boxes = np.array([[0, 0, width, height], [0.25 * width, 0.5 * height, 0.5 * width, height]], np.float32)
    there = scaled(boxes, (height, width), (new_height, new_width))
    np.testing.assert_allclose(there[0], [0, 0, new_width, new_height], rtol=1e-6)
    np.testing.assert_allclose(scaled(there, (new_height, new_width), (height, width)), boxes, rtol=1e-5)


def test_boxes_are_shifted_right_and_down():
    assert shifted(np.array([[1, 2, 3, 4]], np.float32), 10, 20).tolist() == [[11, 22, 13, 24]]


rectangles = st.tuples(st.integers(-3, 20), st.integers(-3, 16), st.integers(1, 14), st.integers(1, 14)).map(
    lambda own: (own[0], own[1], own[0] + own[2], own[1] + own[3])
)


@given(rectangles, st.lists(rectangles, max_size=4))
def test_the_visible_share_of_a_box_is_that_of_its_pixels_inside_that_nothing_covers(box, over):
    height, width = 16, 20
    is_own, is_covered = np.zeros((height, width), bool), np.zeros((height, width), bool)
    is_own[max(box[1], 0) : max(box[3], 0), max(box[0], 0) : max(box[2], 0)] = True
    for left, top, right, bottom in over:
        is_covered[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = True
    if not is_own.any():
        return
    (share,) = visible_share(np.array([box], np.float64), np.array(over, np.float64).reshape(-1, 4), (height, width))
    assert share == pytest.approx((is_own & ~is_covered).sum() / is_own.sum())


def test_a_box_smaller_than_a_pixel_is_covered_by_what_lies_on_it():
    over = np.array([[0.0, 0.0, 8.0, 8.0]])
    shares = visible_share(np.array([[3.1, 3.1, 3.4, 3.4], [7.5, 2.0, 8.5, 3.0]]), over, (16, 16))
    assert shares.tolist() == pytest.approx([0, 0.5])


def test_a_cut_crowd_is_kept_whatever_is_left_of_it():
    boxes = make_boxes([[-9, 0, 1, 4], [-9, 0, 1, 4], [-9, 0, 0, 4]], [0, 1, 2], [False, True, True])
    found = cut(boxes, (8, 8), 0.3)
    assert found.classes.tolist() == [1] and found.xyxy.tolist() == [[0, 0, 1, 4]]
