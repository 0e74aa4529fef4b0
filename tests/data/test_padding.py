"""Padding is centred, means what its policy says, and cropping undoes it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.schema import STRIDE
from pipeline.data.padding import offset_in, pad, padded_size, padding_values
from tests.segmentation.masks import crop

POLICIES = ("reflect", "background", "ignore", "class")


def image_and_mask(height, width, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.integers(0, 5, (height, width), dtype=np.uint8)


def padded_pair(image, mask, policy):
    """Image and mask padded by a policy of 5 classes, and where in them they begin."""
    frame = padded_size(*mask.shape)
    image_value, mask_value = padding_values(policy, 5)
    return pad(image, frame, image_value), pad(mask, frame, mask_value), offset_in(frame, mask.shape)


def test_720_rows_get_eight_above_and_eight_below():
    padded, padded_mask, offset = padded_pair(*image_and_mask(720, 1280), "ignore")
    assert (padded.shape, padded_mask.shape, offset) == ((736, 1280, 3), (736, 1280), (8, 0))
    assert (padded_mask[:8] == 255).all() and (padded_mask[-8:] == 255).all() and (padded[:8] == 0).all()


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from(POLICIES))
def test_cropping_undoes_padding_whatever_the_policy(height, width, policy):
    image, mask = image_and_mask(height, width)
    padded, padded_mask, offset = padded_pair(image, mask, policy)
    assert padded.shape[:2] == padded_mask.shape == padded_size(height, width)
    assert padded.shape[0] % STRIDE == padded.shape[1] % STRIDE == 0
    assert (crop(padded, offset, (height, width)) == image).all()
    assert (crop(padded_mask, offset, (height, width)) == mask).all()


@pytest.mark.parametrize(("policy", "value"), [("background", 0), ("ignore", 255), ("class", 5)])
def test_padded_pixels_are_black_and_of_the_policys_class(policy, value):
    padded, padded_mask, offset = padded_pair(*image_and_mask(30, 30), policy)
    outside = np.ones((32, 32), bool)
    crop(outside, offset, (30, 30))[:] = False
    assert (padded_mask[outside] == value).all() and (padded[outside] == 0).all()


def test_reflect_mirrors_image_and_mask_alike():
    image, mask = image_and_mask(30, 32)
    padded, padded_mask, _ = padded_pair(image, mask, "reflect")
    assert (padded[0] == image[1]).all() and (padded_mask[0] == mask[1]).all()


def test_what_needs_no_padding_is_returned_as_it_is():
    image, mask = image_and_mask(64, 32)
    assert padded_pair(image, mask, "reflect")[0] is image and padded_pair(image, mask, "ignore")[1] is mask


def test_an_image_is_padded_to_any_frame():
    image, _ = image_and_mask(5, 7)
    assert pad(image, (9, 8), None).shape == (9, 8, 3)
    assert offset_in((9, 8), (5, 7)) == (2, 0)


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_all_channels_are_padded_with_the_black_of_their_images(channels, dtype):
    image_value, mask_value = padding_values("ignore", 5, black=20.0)
    padded = pad(np.full((30, 32, channels), 200, dtype), (32, 32), image_value)
    assert padded.dtype == dtype and padded.shape == (32, 32, channels)
    assert (padded[[0, 31]] == 20).all() and (padded[1:31] == 200).all() and mask_value == 255
