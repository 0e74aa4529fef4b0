"""Distortions bend image and label alike, whatever their number format, and never invent a label."""

from __future__ import annotations

from functools import partial

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.competition import IGNORE
from pipeline.data.distort import apply_distortions, distortions
from tests.data.small_competition import GREYS, augmentation, misplaced

KINDS = ("ELASTIC", "GRID_DISTORTION", "OPTICAL_DISTORTION")
ALWAYS = "{ENABLE: true, PROBABILITY: 1.0}"


def chosen(*kinds, **limits):
    return distortions(augmentation(*(f"{kind}={ALWAYS}" for kind in kinds), *limits.values()))


def coarse_mask(height=120, width=160, seed=0):
    small = np.random.default_rng(seed).integers(0, 5, (height // 20, width // 20), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def distort(options, image, label, seed=0, border="reflect_101", beyond=(0, IGNORE)):
    rng_of = partial(lambda first, stream: np.random.default_rng((first, stream)), seed)
    return apply_distortions(options, image, label, rng_of, border, beyond)


@pytest.mark.parametrize("kind", KINDS)
@settings(max_examples=12, deadline=None)
@given(seed=st.integers(0, 10**6), channels=st.sampled_from([1, 3, 7]), dtype=st.sampled_from(["u1", "u2", "f4"]))
def test_an_image_drawn_from_its_mask_stays_equal_to_it(kind, seed, channels, dtype):
    label = coarse_mask(seed=seed)
    image = np.stack([GREYS[label]] * channels, -1).astype(dtype)
    changed, mask = distort(chosen(kind), image, label, seed)
    assert (changed.shape, changed.dtype) == (image.shape, image.dtype)
    assert (mask != label).mean() > 0.002, "something has moved"
    # Where elastic squeezes points together, a border of classes may be narrower than a pixel.
    assert misplaced(changed, mask) <= (6 if kind == "ELASTIC" else 0)
    assert set(np.unique(mask)) <= set(np.unique(label))


@pytest.mark.parametrize("kind", KINDS)
def test_each_plane_is_bent_like_an_index_mask(kind):
    planes, image = np.stack([coarse_mask(seed=seed) for seed in range(6)], -1), np.zeros((120, 160, 3), np.uint8)
    changed = distort(chosen(kind), image, planes, 3)[1]
    for index in range(6):
        plane = np.ascontiguousarray(planes[..., index])
        assert (changed[..., index] == distort(chosen(kind), image, plane, 3)[1]).all()


def test_what_comes_from_beyond_a_constant_border_is_black_and_ignored():
    image, label = np.full((120, 160, 3), 200, np.uint8), np.full((120, 160), 3, np.uint8)
    seen = 0
    for seed in range(20):
        changed, mask = distort(chosen("ELASTIC"), image, label, seed, "constant", (50, IGNORE))
        seen += (mask == IGNORE).sum()
        assert (np.abs(changed[misfit(mask)].astype(int) - 50) <= 1).all()
        mirrored = distort(chosen("ELASTIC"), image, label, seed)
        assert (mirrored[0] == 200).all() and (mirrored[1] == 3).all()
    assert seen > 100


def misfit(mask):
    """Returns the pixels that are ignored and have no other neighbour."""
    return cv2.erode((mask == IGNORE).astype(np.uint8), np.ones((5, 5), np.uint8)) > 0


@pytest.mark.parametrize(("shift", "sigma"), [(3.0, 3.0), (6.0, 15.0), (2.0, 30.0)])
def test_elastic_moves_points_by_its_shift(shift, sigma):
    options = distortions(augmentation(f"ELASTIC={{ENABLE: true, PROBABILITY: 1.0, SHIFT: {shift}, SIGMA: {sigma}}}"))
    height, width = 300, 400
    grid = np.stack(np.meshgrid(np.arange(width), np.arange(height)), -1).astype(np.float32)
    moved, rows = [], []
    for seed in range(12):
        maps = options[0].draw((height, width), np.random.default_rng(seed))
        moved.append(np.stack(maps, -1) - grid)
        rows.append(np.corrcoef(moved[-1][:, :-1, 0].ravel(), moved[-1][:, 1:, 0].ravel())[0, 1])
    assert abs(np.std(moved) / shift - 1) < 0.15
    assert abs(np.mean(moved)) < 0.5 * shift, "on average nothing moves"
    assert min(rows) > 0.9, "neighbours move alike"


@pytest.mark.parametrize("kind", KINDS)
def test_a_distortion_comes_as_often_as_its_probability_says_and_depends_on_its_stream_alone(kind):
    options = distortions(augmentation(f"{kind}={{ENABLE: true, PROBABILITY: 0.3}}"))
    image, label = np.zeros((32, 32, 3), np.uint8), coarse_mask(40, 40)[:32, :32]
    came = [distort(options, image, label, seed)[0] is not image for seed in range(1500)]
    assert abs(np.mean(came) - 0.3) < 0.04
    alone, first = chosen(kind), coarse_mask()
    picture = np.stack([GREYS[first]] * 3, -1)
    again = [distort(alone, picture, first, 5)[0] for _ in range(2)]
    distort(alone, picture, first, 6)
    assert (again[0] == again[1]).all() and (distort(alone, picture, first, 5)[0] == again[0]).all()


def test_off_is_off():
    assert distortions(augmentation()) == ()
