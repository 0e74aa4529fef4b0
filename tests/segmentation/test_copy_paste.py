"""Copy-paste pastes whole classes within its limits, softens only the image, and `occurrence` shifts no shares."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.data.tiles import Box
from pipeline.segmentation.copy_paste import (
    choose_classes,
    dice_weights,
    keep_occurrence,
    overlap,
    paste,
    pasted_pixels,
)
from pipeline.segmentation.labels import count_values
from tests.data.small_competition import CLASSES, make_mask

ALL = range(len(CLASSES))


def sample(seed, height=60, width=90):
    rng = np.random.default_rng(seed)
    return rng.integers(0, 256, (height, width, 3), dtype=np.uint8), make_mask(rng, height, width)


def paste_in_float64(image, mask, source, source_mask, classes):
    """The original's way: a Gaussian over the whole frame in float64."""
    hard = np.isin(source_mask, classes)
    alpha = cv2.GaussianBlur(hard.astype(np.float64), (0, 0), 1.0)[..., None]
    return np.rint(source * alpha + image * (1 - alpha)), np.where(hard, source_mask, mask)


def pasted(target_seed, source_seed, classes):
    (image, mask), (source, source_mask) = sample(target_seed), sample(source_seed)
    expected = paste_in_float64(image, mask, source, source_mask, classes)
    paste(image, mask, source_mask, classes, lambda box: source[box.y : box.y + box.height, box.x : box.x + box.width])
    return (image, mask), expected


@settings(max_examples=80, deadline=None)
@given(st.integers(0, 999), st.integers(0, 999), st.lists(st.sampled_from(list(ALL)), min_size=1, max_size=3))
def test_mask_equals_the_float64_way_and_image_lies_within_one_grey_level(target_seed, source_seed, classes):
    (image, mask), (expected, expected_mask) = pasted(target_seed, source_seed, classes)
    assert (mask == expected_mask).all()
    assert np.abs(image - expected).max() <= 1


def test_a_single_pixel_in_the_corner_is_blended_like_any_other():
    (image, mask), (source, _) = sample(1), sample(2)
    source_mask = np.full_like(mask, 255)
    source_mask[0, 0] = 3
    expected, _ = paste_in_float64(image, mask, source, source_mask, [3])
    paste(image, mask, source_mask, [3], lambda box: source[box.y : box.y + box.height, box.x : box.x + box.width])
    assert np.abs(image - expected).max() <= 1 and mask[0, 0] == 3


def test_pasting_nothing_or_an_absent_class_changes_nothing():
    for classes in ([], [200]):
        (image, mask), _ = pasted(1, 2, classes)
        assert (image == sample(1)[0]).all() and (mask == sample(1)[1]).all()


def test_only_the_box_around_the_pasted_pixels_is_read():
    image, mask = sample(1)
    source_mask = np.full_like(mask, 255)
    source_mask[20:30, 40:50] = 2
    boxes = []

    def read(box):
        boxes.append(box)
        return np.zeros((box.height, box.width, 3), np.uint8)

    paste(image, mask, source_mask, [2], read)
    assert boxes == [Box(36, 16, 18, 18)]


@given(st.integers(0, 10_000), st.integers(1, 5), st.floats(0, 1))
def test_chosen_classes_are_present_allowed_few_and_small_enough(seed, max_classes, share):
    rng = np.random.default_rng(seed)
    mask = make_mask(rng, 40, 60)
    mask[:10] = 255
    areas = count_values(mask)
    chosen = choose_classes(areas, [0, 2, 4, 255], max_classes, share * mask.size, rng)
    assert len(set(chosen)) == len(chosen) <= max_classes
    assert set(chosen) <= {0, 2, 4} & set(np.unique(mask).tolist())
    assert areas[chosen].sum() <= share * mask.size
    small = [index for index in (0, 2, 4) if 0 < areas[index] <= share * mask.size]
    assert bool(chosen) == bool(small), "something is pasted whenever one class fits"


def areas_of(**pixels):
    areas = np.zeros(256, np.int64)
    for name, count in pixels.items():
        areas[int(name[1:])] = count
    return areas


def test_the_number_of_classes_is_drawn_evenly_from_one_to_the_most():
    areas = areas_of(c0=1, c1=1, c2=1, c3=1)
    rng = np.random.default_rng(1)
    counts = np.bincount([len(choose_classes(areas, ALL, 3, 10, rng)) for _ in range(6000)])
    assert np.abs(counts[1:] / 6000 - 1 / 3).max() < 0.02 and len(counts) == 4


def test_weights_are_the_chance_to_be_drawn():
    areas, rng = areas_of(c0=1, c1=1, c2=1, c3=1), np.random.default_rng(2)
    weights = np.array([0.5, 0.3, 0.2, 0.0, 0.0])
    first = [choose_classes(areas, ALL, 1, 10, rng, weights)[0] for _ in range(6000)]
    assert np.abs(np.bincount(first, minlength=5) / 6000 - weights).max() < 0.02
    assert choose_classes(areas_of(c3=1), ALL, 1, 10, rng, weights) == []


def test_dice_weighs_once_the_delay_has_passed():
    dice = np.array([0.9, 0.25, np.nan])
    assert dice_weights(dice, epoch=5, delay=5) is None
    assert dice_weights(dice, epoch=6, delay=5) == pytest.approx([0.1, 0.75, 1.0])
    assert dice_weights(np.full(3, np.nan), epoch=9, delay=0) is None


def presence(mask):
    return set(np.unique(mask).tolist()) - {255}


@settings(max_examples=100, deadline=None)
@given(st.integers(0, 10_000))
def test_occurrence_matched_pasting_leaves_every_masks_set_of_classes_as_it_was(seed):
    rng = np.random.default_rng(seed)
    mask, source_mask = make_mask(rng, 40, 60), make_mask(rng, 40, 60)
    before, areas = presence(mask), count_values(mask)
    chosen = choose_classes(count_values(source_mask), sorted(before), 3, 0.7 * mask.size, rng)
    kept = keep_occurrence(chosen, mask, source_mask, areas)
    assert kept == chosen[: len(kept)]
    image = np.zeros((40, 60, 3), np.uint8)
    paste(image, mask, source_mask, kept, lambda box: np.zeros((box.height, box.width, 3), np.uint8))
    assert presence(mask) == before


def test_a_class_that_would_vanish_below_the_paste_stops_it():
    mask = np.zeros((10, 10), np.uint8)
    mask[4, 4] = 1
    source_mask = np.full_like(mask, 255)
    source_mask[3:6, 3:6] = 0
    assert keep_occurrence([0], mask, source_mask, count_values(mask)) == []
    source_mask[4, 4] = 255
    assert keep_occurrence([0], mask, source_mask, count_values(mask)) == [0]
    mask[mask == 1] = 255  # ignored pixels may be covered: they belong to no class
    source_mask[4, 4] = 0
    assert keep_occurrence([0], mask, source_mask, count_values(mask)) == [0]


def test_areas_count_every_value_also_inside_a_part():
    _, mask = sample(3)
    assert (count_values(mask) == np.bincount(mask.ravel(), minlength=256)).all()
    inside = pasted_pixels(mask, [1])
    assert count_values(mask, inside)[1] == (mask == 1).sum() == count_values(mask, inside).sum()


@given(st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), st.integers(1, 50), st.integers(0, 99))
def test_a_source_of_another_size_lies_inside_the_frame(width, height, frame_width, frame_height, seed):
    source = Box(3, 4, width, height)
    part, place = overlap(source, (frame_height, frame_width), np.random.default_rng(seed))
    assert (
        (part.width, part.height) == (place.width, place.height) == (min(width, frame_width), min(height, frame_height))
    )
    assert 0 <= place.x <= frame_width - place.width and 0 <= place.y <= frame_height - place.height
    assert 3 <= part.x <= 3 + width - part.width and 4 <= part.y <= 4 + height - part.height
