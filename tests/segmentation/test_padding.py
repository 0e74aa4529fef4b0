"""Padding is centred, means what its policy says, and cropping undoes it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import UserError
from pipeline.segmentation.padding import pad, pad_to, padded_size
from tests.segmentation.masks import crop

POLICIES = ("reflect", "background", "ignore", "class")


def image_and_mask(height, width, seed=0):
    rng = np.random.default_rng(seed)
    image = rng.integers(1, 256, (height, width, 3), dtype=np.uint8)
    return image, rng.integers(0, 5, (height, width), dtype=np.uint8)


def test_720_rows_get_eight_above_and_eight_below():
    image, mask = image_and_mask(720, 1280)
    padded, padded_mask, offset = pad(image, mask, "ignore")
    assert (padded.shape, padded_mask.shape, offset) == ((736, 1280, 3), (736, 1280), (8, 0))
    assert (padded_mask[:8] == 255).all() and (padded_mask[-8:] == 255).all() and (padded[:8] == 0).all()


@given(st.integers(1, 70), st.integers(1, 70), st.sampled_from([1, 8, 32]), st.sampled_from(POLICIES))
def test_cropping_undoes_padding_whatever_the_policy(height, width, multiple, policy):
    image, mask = image_and_mask(height, width)
    padded, padded_mask, offset = pad(image, mask, policy, multiple, pad_class=5)
    assert padded.shape[:2] == padded_mask.shape == padded_size(height, width, multiple)
    assert padded.shape[0] % multiple == padded.shape[1] % multiple == 0
    assert (crop(padded, offset, (height, width)) == image).all()
    assert (crop(padded_mask, offset, (height, width)) == mask).all()


@pytest.mark.parametrize(("policy", "value"), [("background", 0), ("ignore", 255), ("class", 5)])
def test_padded_pixels_are_black_and_of_the_policys_class(policy, value):
    image, mask = image_and_mask(30, 30)
    padded, padded_mask, offset = pad(image, mask, policy, pad_class=5)
    outside = np.ones((32, 32), bool)
    crop(outside, offset, (30, 30))[:] = False
    assert (padded_mask[outside] == value).all() and (padded[outside] == 0).all()


def test_reflect_mirrors_image_and_mask_alike():
    image, mask = image_and_mask(30, 32)
    padded, padded_mask, _ = pad(image, mask, "reflect")
    assert (padded[0] == image[1]).all() and (padded_mask[0] == mask[1]).all()


def test_what_needs_no_padding_is_returned_as_it_is():
    image, mask = image_and_mask(64, 32)
    assert pad(image, mask, "reflect")[0] is image and pad(image, mask, "ignore")[1] is mask


def test_a_image_without_a_mask_is_padded_alone():
    image, _ = image_and_mask(5, 7)
    padded, mask, offset = pad_to(image, None, (9, 8), "reflect")
    assert (padded.shape, mask, offset) == ((9, 8, 3), None, (2, 0))


def test_policy_class_without_its_index_and_unknown_policies_are_refused():
    image, mask = image_and_mask(30, 30)
    with pytest.raises(UserError, match="index of the padding class"):
        pad(image, mask, "class")
    with pytest.raises(UserError, match="'mirror' is none of reflect, background, ignore, class"):
        pad(image, mask, "mirror")
