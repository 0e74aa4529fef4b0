"""Gamma, blur, sharpening and dropout: what they do to an image of any number format, and nothing to the label."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from pipeline.config.competition import IGNORE
from pipeline.data.filters import apply_dropout, apply_filters, filters
from tests.data.small_competition import augmentation

LOW, HIGH = 1000.0, 9000.0


def rng_of(seed):
    return partial(lambda first, stream: np.random.default_rng((first, stream)), seed)


def only(text):
    return filters(augmentation(text))


def image_of(dtype, channels=3, low=0.0, high=255.0):
    """Returns an image of smooth stripes and noise between the two values."""
    rng = np.random.default_rng(0)
    waves = 0.5 + 0.3 * np.sin(np.arange(64) / 4)[None, :, None] + rng.uniform(-0.15, 0.15, (48, 64, channels))
    return (low + waves * (high - low)).astype(dtype)


FORMATS = [(np.uint8, 0.0, 255.0), (np.uint16, LOW, HIGH), (np.float32, -2.0, 3.0)]


@pytest.mark.parametrize(("dtype", "low", "high"), FORMATS)
@pytest.mark.parametrize("channels", [1, 3, 7])
def test_gamma_is_a_power_of_what_lies_between_black_and_white(dtype, low, high, channels):
    image = image_of(dtype, channels, low, high)
    changed = apply_filters(
        only("GAMMA={ENABLE: true, PROBABILITY: 1.0, LIMIT: [1.7, 1.7]}"), image, rng_of(1), low, high
    )
    expected = ((image.astype(float) - low) / (high - low)) ** 1.7 * (high - low) + low
    assert (changed.shape, changed.dtype) == (image.shape, image.dtype)
    assert np.abs(changed - expected).max() <= (1.01 if image.dtype.kind == "u" else 1e-5 * (high - low))


def test_gamma_leaves_what_is_darker_than_black_or_brighter_than_white_as_far_beyond_as_it_was():
    image = np.array([[[LOW - 70], [LOW], [HIGH], [HIGH + 300]]], np.uint16)
    changed = apply_filters(only("GAMMA={ENABLE: true, PROBABILITY: 1.0}"), image, rng_of(1), LOW, HIGH)
    assert np.abs(changed.astype(int) - image.astype(int)).max() <= 1


@pytest.mark.parametrize(("dtype", "low", "high"), FORMATS)
def test_blur_smooths_and_sharpening_does_the_opposite_at_the_same_brightness(dtype, low, high):
    image = image_of(dtype, 3, low, high)
    blurred = apply_filters(only("BLUR={ENABLE: true, PROBABILITY: 1.0}"), image, rng_of(1), low, high)
    sharper = apply_filters(only("SHARPEN={ENABLE: true, PROBABILITY: 1.0}"), image, rng_of(1), low, high)
    steps = [np.abs(np.diff(one.astype(float), axis=1)).mean() for one in (blurred, image, sharper)]
    assert steps[0] < 0.8 * steps[1] and steps[2] > 1.2 * steps[1]
    for changed in (blurred, sharper):
        assert changed.dtype == image.dtype
        assert abs(changed.astype(float).mean() - image.astype(float).mean()) < 0.02 * (high - low)


def test_every_filter_comes_as_often_as_its_probability_says():
    image = image_of(np.uint8)
    for name in ("GAMMA", "BLUR", "SHARPEN"):
        options = only(f"{name}={{ENABLE: true, PROBABILITY: 0.3}}")
        came = [apply_filters(options, image, rng_of(seed)) is not image for seed in range(1500)]
        assert abs(np.mean(came) - 0.3) < 0.04
    assert filters(augmentation()) == ()


@pytest.mark.parametrize("label", ["keep", "ignore"])
@pytest.mark.parametrize("shape", [(60, 80), (60, 80, 4)])
def test_dropout_blackens_rectangles_of_its_size(label, shape):
    text = f"COARSE_DROPOUT={{ENABLE: true, PROBABILITY: 1.0, HOLES: [2, 5], SIZE: [0.1, 0.2], LABEL: {label}}}"
    shares = []
    for seed in range(60):
        image, mask = np.full((60, 80, 5), 200, np.uint16), np.ones(shape, np.uint8)
        apply_dropout(augmentation(text).coarse_dropout, image, mask, rng_of(seed), 50)
        is_black = (image == 50).all(-1)
        assert is_black.any() and (image[~is_black] == 200).all()
        expected = np.where(is_black if mask.ndim == 2 else is_black[..., None], IGNORE, 1)
        assert (mask == (expected if label == "ignore" else 1)).all()
        shares.append(is_black.mean())
    assert min(shares) >= 0.01 and max(shares) <= 5 * 0.2 * 0.2
