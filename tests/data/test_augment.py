"""Augmentation does what the original's did in 2021, from the seed alone, and never invents a label."""

from __future__ import annotations

import math
import random
from dataclasses import replace

import albumentations as A
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.competition import IGNORE
from pipeline.data.augment import (
    UNCHANGED,
    Geometry,
    affine_matrix,
    apply_color,
    apply_noise,
    color_chain,
    cut_image,
    cut_label,
    draw_crop,
    draw_geometry,
    part_matrix,
)
from pipeline.data.tiles import Box
from tests.data.small_competition import GREYS, augmentation, misplaced

TILE = Box(37, 21, 64, 48)
EVERY_WAY = ("VERTICAL_FLIP.ENABLE=true", "QUARTER_TURN.ENABLE=true")
WARPS = st.builds(
    Geometry,
    flip=st.booleans(),
    warped=st.just(True),
    angle=st.floats(-180, 180),
    scale=st.floats(0.3, 2),
    shift_x=st.floats(-1, 1),
    shift_y=st.floats(-1, 1),
)
WARPED = {
    "angle": st.floats(-40, 40),
    "scale": st.floats(0.7, 1.5),
    "shift_x": st.floats(-0.2, 0.2),
    "shift_y": st.floats(-0.2, 0.2),
}
EXACT = {
    "flip": st.booleans(),
    "flip_vertical": st.booleans(),
    "quarter_turns": st.integers(0, 3),
    "border": st.sampled_from(["reflect_101", "constant"]),
}
ZOOMS = st.sampled_from([1.0, 0.6, 1.7])
GEOMETRIES = st.builds(Geometry, zoom=ZOOMS, **EXACT) | st.builds(
    Geometry, zoom=ZOOMS, warped=st.just(True), **EXACT, **WARPED
)
SIDES = st.integers(25, 90)
BOXES = st.builds(Box, x=st.integers(-20, 80), y=st.integers(-20, 60), width=SIDES, height=SIDES)


def smooth_image(height=120, width=160, seed=0):
    noise = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def blocks(height=120, width=160, seed=0):
    small = np.random.default_rng(seed).choice(np.array([0, 3, 7, 255], np.uint8), (height // 10, width // 10))
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


def whole(image):
    return Box(0, 0, image.shape[1], image.shape[0])


def cut(array, box):
    return array[box.y : box.y + box.height, box.x : box.x + box.width]


@settings(max_examples=60, deadline=None)
@given(WARPS)
def test_warping_into_the_tile_equals_warping_the_whole_image_and_cutting(geometry):
    image, label = smooth_image(), blocks()
    expected = cut(cut_image(image, geometry, whole(image)), TILE)
    difference = np.abs(cut_image(image, geometry, TILE).astype(int) - expected)
    assert difference.max() <= 1, "one grey level: coordinates are rounded to 1/32 pixel from another origin"
    expected_label = cut(cut_label(label, geometry, whole(label), IGNORE), TILE)
    assert (cut_label(label, geometry, TILE, IGNORE) != expected_label).mean() < 0.002, (
        "ties between two nearest pixels"
    )


@pytest.mark.parametrize("flip", [False, True])
def test_without_a_warp_the_tile_is_exactly_the_flipped_images_slice(flip):
    image, label, geometry = smooth_image(), blocks(), Geometry(flip=flip)
    step = -1 if flip else 1
    assert (cut_image(image, geometry, TILE) == cut(image[:, ::step], TILE)).all()
    assert (cut_label(label, geometry, TILE, IGNORE) == cut(label[:, ::step], TILE)).all()
    assert not np.shares_memory(cut_image(image, geometry, TILE), image)


def test_a_warp_that_only_flips_equals_the_flip():
    image, geometry = smooth_image(), Geometry(flip=True, warped=True)
    assert (cut_image(image, geometry, TILE) == cut(image[:, ::-1], TILE)).all()


def test_the_warp_is_opencvs_rotation_about_the_centre_then_the_shift_as_in_the_original():
    geometry = Geometry(warped=True, angle=7.0, scale=1.08, shift_x=0.05, shift_y=-0.03)
    expected = cv2.getRotationMatrix2D((79.5, 59.5), 7.0, 1.08)
    expected[:, 2] += (0.05 * 160, -0.03 * 120)
    assert np.allclose(affine_matrix(geometry, 160, 120), expected, atol=1e-4)


def test_flip_comes_before_the_rotation():
    geometry = Geometry(flip=True, warped=True, angle=7.0, scale=1.08)
    image = smooth_image()
    mirrored = np.ascontiguousarray(image[:, ::-1])
    expected = cut_image(mirrored, Geometry(warped=True, angle=7.0, scale=1.08), TILE)
    assert np.abs(cut_image(image, geometry, TILE).astype(int) - expected).max() <= 1


@settings(max_examples=60, deadline=None)
@given(WARPS)
def test_a_warped_label_has_only_values_that_were_there(geometry):
    label = blocks()
    label[label == 255] = 9
    assert set(np.unique(cut_label(label, geometry, whole(label), IGNORE))) <= set(np.unique(label))


def test_the_border_is_mirrored_or_black_and_ignored():
    image, label = np.full((40, 40, 3), 200, np.uint8), np.full((40, 40), 3, np.uint8)
    moved = {"warped": True, "shift_x": 0.5}
    mirrored = Geometry(**moved)
    assert (cut_image(image, mirrored, whole(image)) == 200).all()
    assert (cut_label(label, mirrored, whole(label), IGNORE) == 3).all()
    constant = Geometry(**moved, border="constant")
    assert (cut_image(image, constant, whole(image))[:, :19] == 0).all()
    for other in (image, image[..., :1].astype(np.float32), np.concatenate([image] * 2, 2).astype(np.uint16)):
        assert (cut_image(other, constant, whole(other), 50)[:, :19] == 50).all()
        assert (cut_image(other, constant, whole(other), 50)[:, 21:] == 200).all()
    assert (cut_label(label, constant, whole(label), IGNORE)[:, :19] == 255).all()
    assert (cut_label(label, constant, whole(label), IGNORE)[:, 21:] == 3).all()


def classes_only(height=120, width=160, seed=0):
    """Returns a mask of coarse blocks of classes, none of them ignored."""
    small = np.random.default_rng(seed).integers(0, 5, (height // 20, width // 20), dtype=np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_NEAREST)


@settings(max_examples=60, deadline=None)
@given(GEOMETRIES, BOXES)
def test_an_image_drawn_from_its_mask_stays_equal_to_it(geometry, box):
    label = classes_only()
    mask = cut_label(label, geometry, box, IGNORE)
    for image in (
        GREYS[label][..., None],
        np.stack([GREYS[label]] * 3, -1),
        GREYS[label][..., None].astype(np.float32),
    ):
        changed = cut_image(image, geometry, box)
        assert changed.shape == (box.height, box.width, image.shape[2]) and changed.dtype == image.dtype
        assert misplaced(changed, mask) == 0
        if not geometry.warped and geometry.zoom == 1:
            assert (changed == GREYS[mask][..., None]).all(), "without a warp nothing is interpolated"


@settings(max_examples=60, deadline=None)
@given(GEOMETRIES, BOXES)
def test_each_plane_is_cut_like_an_index_mask_of_its_own(geometry, box):
    planes = np.stack([classes_only(seed=seed) for seed in range(3)], -1)
    changed = cut_label(planes, geometry, box, IGNORE)
    for index in range(3):
        expected = cut_label(np.ascontiguousarray(planes[..., index]), geometry, box, IGNORE)
        assert (changed[..., index] == expected).all()


@pytest.mark.parametrize("border", ["constant", "reflect_101"])
@pytest.mark.parametrize("flips", [(False, False), (True, False), (True, True)])
@pytest.mark.parametrize("box", [Box(40, 3, 6, 5), Box(-25, -8, 12, 7), Box(2, 16, 5, 30), Box(-90, 70, 3, 4)])
def test_a_part_wholly_beyond_the_image_is_black_or_mirrored_as_a_warp_has_it(border, flips, box):
    image = np.random.default_rng(3).integers(1, 255, (16, 21, 3)).astype(np.uint8)
    geometry = Geometry(flip=flips[0], flip_vertical=flips[1], border=border)
    found = cut_image(image, geometry, box, 7)
    assert found.shape == (box.height, box.width, 3)
    np.testing.assert_array_equal(found, cut_image(image, replace(geometry, warped=True), box, 7))
    assert border == "reflect_101" or (found == 7).all()


whole_turns = st.builds(
    Geometry,
    flip=st.booleans(),
    flip_vertical=st.booleans(),
    quarter_turns=st.integers(0, 3),
    warped=st.booleans(),
    angle=st.sampled_from([0.0, 17.0, 180.0]),
    zoom=st.sampled_from([1.0, 0.5, 2.0]),
    border=st.just("constant"),
)


@settings(max_examples=60)
@given(whole_turns, st.integers(3, 36), st.integers(3, 26), st.integers(-15, 30), st.integers(-15, 30))
def test_a_point_of_the_image_is_where_part_matrix_says_in_the_part_that_is_cut(geometry, column, row, x, y):
    image, box = np.zeros((30, 40, 3), np.uint8), Box(x, y, 37, 26)
    image[row - 2 : row + 2, column - 2 : column + 2] = 255  # around the corner of four pixels
    geometry = geometry if geometry.warped else replace(geometry, angle=0.0)
    part = cut_image(image, geometry, box)[..., 0].astype(float)
    matrix = part_matrix((30, 40), geometry, box)
    found_x, found_y = matrix @ (column, row, 1)
    if not (4 < found_x < 37 - 4 and 4 < found_y < 26 - 4):
        return
    y_mean, x_mean = ((np.indices(part.shape) + 0.5) * part).sum((1, 2)) / part.sum()
    assert (x_mean, y_mean) == pytest.approx((found_x, found_y), abs=0.35)


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_a_square_tile_is_turned_about_its_own_centre(turns):
    image, tile = smooth_image(), Box(37, 21, 64, 64)
    assert (cut_image(image, Geometry(quarter_turns=turns), tile) == np.rot90(cut(image, tile), turns)).all()


def test_a_tile_that_is_not_square_is_turned_from_another_part_inside_the_image():
    image = smooth_image()
    for tile in (Box(0, 0, 90, 40), Box(70, 80, 90, 40), Box(30, 30, 91, 40)):
        turned = np.rot90(cut_image(image, Geometry(quarter_turns=1), tile), -1)
        assert turned.shape == (90 if tile.width == 90 else 91, 40, 3)
        found = cv2.matchTemplate(image, np.ascontiguousarray(turned), cv2.TM_SQDIFF)
        assert found.min() < 1, "nothing of it is mirrored or from beyond the image"


def test_a_whole_image_is_turned_about_its_centre_and_mirrored_beyond_or_ignored():
    image, label = smooth_image(40, 100), blocks(40, 100)
    label[label == 255] = 9
    whole_box = Box(0, 0, 100, 40)
    for border, is_known in (("reflect_101", True), ("constant", False)):
        geometry = Geometry(quarter_turns=1, border=border)
        turned, mask = cut_image(image, geometry, whole_box), cut_label(label, geometry, whole_box, IGNORE)
        assert (turned[:, 30:70] == np.rot90(image[:, 30:70])).all()
        assert (mask != IGNORE).all() == is_known and (mask[:, 30:70] != IGNORE).all()


def test_enlarging_is_as_opencv_resizes():
    image = smooth_image()
    changed = cut_image(image, Geometry(zoom=2.0), Box(0, 0, 320, 240))
    expected = cv2.resize(image, (320, 240), interpolation=cv2.INTER_LINEAR)
    assert np.abs(changed[2:-2, 2:-2].astype(int) - expected[2:-2, 2:-2]).max() <= 1


def test_the_four_orientations_and_both_flips_are_equally_likely():
    rules = augmentation(*EVERY_WAY)
    drawn = [draw_geometry(rules, np.random.default_rng((1, index))) for index in range(4000)]
    turns = np.bincount([geometry.quarter_turns for geometry in drawn], minlength=4) / 4000
    assert np.abs(turns - 0.25).max() < 0.03
    assert abs(np.mean([geometry.flip_vertical for geometry in drawn]) - 0.5) < 0.03


def test_vertical_flips_and_turns_leave_every_other_draw_as_it_was():
    plain, more = augmentation(), augmentation(*EVERY_WAY)
    for index in range(30):
        one, other = np.random.default_rng(index), np.random.default_rng(index)
        before, after = draw_geometry(plain, one), draw_geometry(more, other)
        names = ("flip", "warped", "angle", "scale", "shift_x", "shift_y")
        assert [getattr(before, name) for name in names] == [getattr(after, name) for name in names]
        assert one.random() == other.random(), "and what is drawn next"


def test_a_random_crop_is_inside_the_image_at_every_scale_and_anywhere_in_it():
    crop = augmentation("RANDOM_CROP={ENABLE: true, WIDTH: 40, HEIGHT: 30, SCALE: [0.5, 2.0]}").random_crop
    drawn = [draw_crop(crop, (160, 120), np.random.default_rng(index)) for index in range(3000)]
    zooms = np.array([zoom for zoom, _ in drawn])
    assert 0.5 <= zooms.min() < 0.51 and 1.95 < zooms.max() <= 2
    assert abs((zooms < 1).mean() - 0.5) < 0.03, "a factor and its inverse are equally likely"
    places = []
    for zoom, box in drawn:
        room_x, room_y = round(160 * zoom) - 40, round(120 * zoom) - 30
        assert (box.width, box.height) == (40, 30) and 0 <= box.x <= room_x and 0 <= box.y <= room_y
        places.append((box.x / room_x, box.y / room_y))
    assert np.abs(np.mean(places, 0) - 0.5).max() < 0.02 and np.min(places) == 0 and np.max(places) == 1


def test_an_image_smaller_than_the_crop_lies_anywhere_in_it():
    crop = augmentation("RANDOM_CROP={ENABLE: true, WIDTH: 40, HEIGHT: 30, SCALE: [1.0, 1.0]}").random_crop
    image, label, lefts = smooth_image(20, 24), np.full((20, 24), 3, np.uint8), []
    for index in range(200):
        zoom, box = draw_crop(crop, (24, 20), np.random.default_rng(index))
        mask = cut_label(label, Geometry(zoom=zoom, border="constant"), box, IGNORE)
        inside = np.argwhere(mask == 3)
        (top, left), (bottom, right) = inside.min(0), inside.max(0)
        assert (bottom - top, right - left) == (19, 23) and (mask == 3).sum() == 480
        changed = cut_image(image, Geometry(zoom=zoom, border="constant"), box, 7)
        assert (changed[mask == 3].reshape(image.shape) == image).all() and (changed[mask != 3] == 7).all()
        lefts.append(left)
    assert set(lefts) == set(range(17))


def test_without_augmentation_a_crop_has_the_images_own_scale():
    crop = augmentation("RANDOM_CROP={ENABLE: true, WIDTH: 40, HEIGHT: 30}").random_crop
    assert {draw_crop(crop, (160, 120), np.random.default_rng(i), is_scaled=False)[0] for i in range(20)} == {1.0}


def test_draws_keep_their_limits_and_probabilities():
    settings_ = augmentation("SHIFT_SCALE_ROTATE.PROBABILITY=0.25")
    drawn = [draw_geometry(settings_, np.random.default_rng((1, index))) for index in range(4000)]
    warped = [geometry for geometry in drawn if geometry.warped]
    assert abs(np.mean([geometry.flip for geometry in drawn]) - 0.5) < 0.03
    assert abs(len(warped) / len(drawn) - 0.25) < 0.03
    for name, center, limit in [("angle", 0, 10), ("scale", 1, 0.1), ("shift_x", 0, 0.0625), ("shift_y", 0, 0.0625)]:
        values = np.array([getattr(geometry, name) for geometry in warped]) - center
        assert np.abs(values).max() <= limit
        assert abs(values.mean()) < 0.1 * limit and abs(values.std() - limit / math.sqrt(3)) < 0.05 * limit


def test_everything_off_changes_nothing():
    off = augmentation(name="ExpAAB")
    assert draw_geometry(off, np.random.default_rng(1)) == UNCHANGED
    assert color_chain(off.color) is None
    image = smooth_image()
    assert apply_noise(off.gaussian_noise, image, np.random.default_rng(1)) is image


def test_switching_the_flip_off_leaves_the_rotations_as_they_were():
    flipped, straight = augmentation(), augmentation("HORIZONTAL_FLIP.ENABLE=false")
    for index in range(20):
        one, other = (draw_geometry(which, np.random.default_rng(index)) for which in (flipped, straight))
        assert (one.warped, one.angle, one.scale) == (other.warped, other.angle, other.scale)


def only(kind: str):
    """Returns colour settings with one transform, always applied."""
    kinds = ("CLAHE", "BRIGHTNESS_CONTRAST", "HUE_SATURATION_VALUE")
    switches = [f"COLOR.{other}.ENABLE={'true' if other == kind else 'false'}" for other in kinds]
    return augmentation(*switches, "COLOR.PROBABILITY=1.0").color


def test_brightness_and_contrast_are_the_formula_of_2021():
    levels = np.arange(70, 160)  # nothing is clipped here
    image = np.broadcast_to(levels[:, None, None], (90, 8, 3)).astype(np.uint8)
    fits, chain = [], color_chain(only("BRIGHTNESS_CONTRAST"))
    for index in range(300):
        changed = apply_color(chain, image, np.random.default_rng(index))
        fits.append(np.polyfit(levels, changed[:, 0, 0].astype(float), 1))
    factors, offsets = np.array(fits).T
    # image * alpha + beta * 255 with alpha in 1 +- 0.2 and beta in +- 0.2
    assert 0.79 < factors.min() < 0.83 and 1.17 < factors.max() < 1.21
    assert -52.5 < offsets.min() < -45 and 45 < offsets.max() < 52.5
    assert abs(np.corrcoef(factors, offsets)[0, 1]) < 0.15


def test_clahe_works_on_lightness_with_clip_limits_from_one_to_four():
    image, chain = smooth_image(), color_chain(only("CLAHE"))
    changed = apply_color(chain, image, np.random.default_rng(3))
    lab = cv2.cvtColor(image, cv2.COLOR_RGB2LAB)
    candidates = []
    for clip_limit in np.linspace(1, 4, 301):
        equalised = lab.copy()
        equalised[..., 0] = cv2.createCLAHE(clip_limit, (8, 8)).apply(lab[..., 0])
        candidates.append(np.abs(cv2.cvtColor(equalised, cv2.COLOR_LAB2RGB).astype(int) - changed).max())
    assert min(candidates) <= 3


def test_hue_saturation_value_move_at_most_by_their_limits():
    image, chain = np.full((32, 32, 3), (150, 90, 60), np.uint8), color_chain(only("HUE_SATURATION_VALUE"))
    before = cv2.cvtColor(image, cv2.COLOR_RGB2HSV)[0, 0].astype(int)
    moved = []
    for index in range(300):
        changed = apply_color(chain, image, np.random.default_rng(index))
        moved.append(cv2.cvtColor(changed, cv2.COLOR_RGB2HSV)[0, 0].astype(int) - before)
    hue, saturation, value = np.abs(moved).T
    hue = np.minimum(hue, 180 - hue)  # a circle of 180 steps
    assert 17 <= hue.max() <= 21 and 26 <= saturation.max() <= 32 and 17 <= value.max() <= 21


def noisy(*overrides):
    """Returns the noise that grey images got with ExpAAC's settings, always applied: float64, per draw HxWx3."""
    settings_ = augmentation("GAUSSIAN_NOISE.PROBABILITY=1.0", *overrides).gaussian_noise
    image = np.full((200, 200, 3), 128, np.uint8)
    draws = [apply_noise(settings_, image, np.random.default_rng(index)) for index in range(200)]
    return [draw.astype(float) - 128 for draw in draws]


def test_noise_has_a_variance_drawn_evenly_from_its_limits_in_grey_levels_squared():
    draws = noisy()
    variances = np.array([noise.var() for noise in draws]) - 1 / 12  # of rounding to whole grey levels
    assert 9.8 < variances.min() < 11 and 49 < variances.max() < 50.6
    assert np.abs(np.quantile(variances, [0.25, 0.5, 0.75]) - [20, 30, 40]).max() < 4
    assert max(abs(noise.mean()) for noise in draws) < 0.1


def test_noise_is_gaussian_and_of_its_own_in_every_pixel_and_channel():
    noise = noisy("GAUSSIAN_NOISE.VAR_LIMIT=[36.0, 36.0]")[0]
    for level, share in [(6.5, 0.7214), (12.5, 0.9628), (3.5, 0.4403)]:  # P(|x| <= level) at deviation 6
        assert abs((np.abs(noise) < level).mean() - share) < 0.006
    for one, other in [(noise[..., 0], noise[..., 1]), (noise[1:], noise[:-1]), (noise[:, 1:], noise[:, :-1])]:
        assert abs(np.corrcoef(one.ravel(), other.ravel())[0, 1]) < 0.02


def test_noise_moves_by_its_mean_and_saturates_instead_of_wrapping():
    assert abs(noisy("GAUSSIAN_NOISE.MEAN=4.0")[0].mean() - 4) < 0.1
    white = np.full((50, 50, 3), 254, np.uint8)
    settings_ = augmentation("GAUSSIAN_NOISE.PROBABILITY=1.0").gaussian_noise
    assert apply_noise(settings_, white, np.random.default_rng(1)).min() > 200


def test_noise_comes_as_often_as_its_probability_says():
    settings_, image = augmentation().gaussian_noise, smooth_image(16, 16)
    came = [apply_noise(settings_, image, np.random.default_rng(index)) is not image for index in range(3000)]
    assert abs(np.mean(came) - 0.2) < 0.025


def test_one_of_three_colours_is_chosen_evenly_and_independently_of_how_strong_it_is():
    """With `set_random_seed` every transform would begin with the same number, and strength would follow choice."""
    chain, image = color_chain(augmentation().color), smooth_image(32, 32)
    chain = A.Compose(chain.transforms, strict=True, save_applied_params=True)
    names, strengths = [], []
    for index in range(3000):
        rng = np.random.default_rng((5, index))
        chain.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        applied = chain(image=image)["applied_transforms"]
        names.append(applied[0][0] if applied else None)
        if names[-1] == "RandomBrightnessContrast":
            strengths.append(applied[0][1]["alpha"])
    for name in ("CLAHE", "RandomBrightnessContrast", "HueSaturationValue"):
        assert abs(names.count(name) / 3000 - 0.3) < 0.03
    assert abs(names.count(None) / 3000 - 0.1) < 0.02
    assert np.abs(np.quantile(strengths, [0.1, 0.5, 0.9]) - [0.84, 1.0, 1.16]).max() < 0.02


def test_the_same_seed_gives_the_same_colours_whatever_came_before():
    image = smooth_image()
    fresh, used = color_chain(augmentation().color), color_chain(augmentation().color)
    for index in range(7):
        apply_color(used, image, np.random.default_rng(index))
    for index in range(30):
        one, other = (apply_color(chain, image, np.random.default_rng(index)) for chain in (fresh, used))
        assert (one == other).all()


def test_zero_probability_or_no_option_makes_no_colour_transform():
    none = [f"COLOR.{kind}.ENABLE=false" for kind in ("CLAHE", "BRIGHTNESS_CONTRAST")]
    assert color_chain(augmentation(*none, "COLOR.HUE_SATURATION_VALUE.PROBABILITY=0.0").color) is None
