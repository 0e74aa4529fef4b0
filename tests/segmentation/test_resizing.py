"""Masks at another size: each pixel has what most of its area had."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.competition import IGNORE
from pipeline.segmentation.planes import FULL
from pipeline.segmentation.resizing import resize_mask


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5), st.integers(1, 4), st.integers(1, 4))
def test_a_mask_made_larger_by_whole_pixels_is_itself_when_shrunk_again(seed, height, width, down, across):
    mask = np.random.default_rng(seed).choice(np.uint8([0, 1, 7, IGNORE]), (height, width))
    large = mask.repeat(down, 0).repeat(across, 1)
    assert np.array_equal(resize_mask(large, (height, width)), mask)
    planes = np.stack([(mask == 1) * FULL, (mask == 7) * FULL], -1).astype(np.uint8)
    planes[mask == IGNORE] = IGNORE
    assert np.array_equal(resize_mask(planes.repeat(down, 0).repeat(across, 1), (height, width)), planes)
    objects = mask.astype(np.int32) * 256
    assert np.array_equal(resize_mask(objects.repeat(down, 0).repeat(across, 1), (height, width)), objects)


@given(st.integers(0, 2**32 - 1), st.integers(2, 4))
def test_a_pixel_has_the_value_of_most_of_its_area_and_the_smallest_of_several(seed, factor):
    mask = np.random.default_rng(seed).integers(0, 3, (3 * factor, 4 * factor), np.uint8)
    small = resize_mask(mask, (3, 4))
    for y, x in np.ndindex(3, 4):
        own = mask[y * factor : (y + 1) * factor, x * factor : (x + 1) * factor]
        assert small[y, x] == np.bincount(own.ravel()).argmax()  # the first of several


def test_half_of_a_pixel_is_enough_for_a_class_of_planes_and_more_than_half_is_ignored():
    plane = np.array([[FULL, 0, FULL, 0, IGNORE, IGNORE], [0, FULL, 0, 0, IGNORE, 0]], np.uint8)
    assert resize_mask(plane[..., None], (1, 3))[..., 0].tolist() == [[FULL, 0, IGNORE]]


@pytest.mark.parametrize("size", [(9, 5), (14, 4), (3, 20)])
def test_every_form_keeps_its_type_and_values_at_any_size(size):
    rng = np.random.default_rng(3)
    for mask in (rng.choice(np.uint8([2, IGNORE]), (7, 10)), rng.choice(np.int32([0, 257, 513]), (7, 10))):
        resized = resize_mask(mask, size)
        assert resized.shape == size and resized.dtype == mask.dtype and set(resized.flat) <= set(mask.flat)
    planes = rng.choice(np.uint8([0, FULL]), (7, 10, 2))
    assert resize_mask(planes, size).shape == (*size, 2)
