"""Every box of a sample made of several images is around pixels of its class; what has none is hidden enough."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.load import load
from pipeline.detection.boxes import Boxes, make_boxes
from pipeline.detection.composites import Piece, apply_mosaic, joined, mix_up, paste

PLAIN = load("BccdR").config.datasets.augmentation
MOSAIC = replace(PLAIN.mosaic, enable=True)
PASTE = replace(PLAIN.copy_paste, enable=True, max_rel_area=1.0)
CLASSES, SIZE = 3, (48, 64)
GREY = 10


def drawn(rng: np.random.Generator, size: tuple[int, int], number: int, overlap: bool = False) -> Piece:
    """Returns an image with rectangles in one grey level per class, and their boxes."""
    image, rows, classes = np.full((*size, 3), GREY, np.uint8), [], []
    for _ in range(number):
        height, width = rng.integers(4, 1 + np.minimum(size, 20))
        top, left = (int(rng.integers(0, side - own + 1)) for side, own in zip(size, (height, width), strict=True))
        if not overlap and (image[top : top + height, left : left + width] != GREY).any():
            continue
        index = int(rng.integers(CLASSES))
        image[top : top + height, left : left + width] = level(index)
        rows.append([left, top, left + width, top + height])
        classes.append(index)
    return Piece(image, make_boxes(rows, classes))


def level(index: int) -> int:
    return 80 * (index + 1)


def unlabelled(image: np.ndarray, boxes: Boxes) -> np.ndarray:
    """Returns the pixels of objects that are in no box of their class: bool (H, W)."""
    left_over = image[..., 0] != GREY
    for (left, top, right, bottom), index in zip(np.rint(boxes.xyxy).astype(int), boxes.classes, strict=True):
        own = np.zeros_like(left_over)
        own[top:bottom, left:right] = True
        left_over &= ~(own & (image[..., 0] == level(index)))
    return left_over


def check_boxes(image: np.ndarray, boxes: Boxes) -> None:
    height, width = image.shape[:2]
    assert (boxes.xyxy >= 0).all() and (boxes.xyxy <= [width, height, width, height]).all()
    for (left, top, right, bottom), index in zip(np.rint(boxes.xyxy).astype(int), boxes.classes, strict=True):
        assert (image[top:bottom, left:right, 0] == level(index)).any()


@settings(max_examples=80)
@given(st.integers(0, 10**6))
def test_each_box_of_a_mosaic_is_around_pixels_of_its_class_and_all_objects_have_one(seed):
    rng = np.random.default_rng(seed)
    image, boxes = drawn(rng, SIZE, 5)
    found = apply_mosaic(MOSAIC, image, boxes, lambda size: drawn(rng, size, 2), rng, 0.0)
    check_boxes(image, found)
    assert not unlabelled(image, found).any()


@settings(max_examples=80)
@given(st.integers(0, 10**6), st.sampled_from([0.3, 0.6, 1.0]))
def test_what_a_mosaic_hides_more_than_allowed_has_no_box_and_only_that(seed, least):
    rng = np.random.default_rng(seed)
    image, boxes = drawn(rng, SIZE, 5)
    before = image.copy()
    found = apply_mosaic(
        MOSAIC, image, boxes, lambda size: Piece(np.full((*size, 3), GREY, np.uint8), NONE), rng, least
    )
    kept = 0
    for (left, top, right, bottom), index in zip(boxes.xyxy.astype(int), boxes.classes, strict=True):
        own = before[top:bottom, left:right, 0] == image[top:bottom, left:right, 0]
        share = (own & (before[top:bottom, left:right, 0] == level(index))).mean()
        kept += share >= max(least, 1e-6)
    assert len(found.classes) == kept
    check_boxes(image, found)


NONE = make_boxes([], [])


def test_where_there_is_no_other_image_a_mosaic_changes_nothing():
    image, boxes = drawn(np.random.default_rng(1), SIZE, 4)
    before = image.copy()
    found = apply_mosaic(MOSAIC, image, boxes, lambda size: None, np.random.default_rng(2), 0.3)
    assert (image == before).all() and found.xyxy.tolist() == boxes.xyxy.tolist()


@settings(max_examples=120)
@given(st.integers(0, 10**6), st.booleans())
def test_each_box_after_a_paste_is_around_pixels_of_its_class_and_all_objects_have_one(seed, is_of_one_class):
    rng = np.random.default_rng(seed)
    image, boxes = drawn(rng, SIZE, 5)
    piece = drawn(rng, SIZE, 5)
    rules = replace(PASTE, max_classes=1) if is_of_one_class else PASTE
    found = paste(rules, image, boxes, piece, [0, 1], rng, 0.0)
    check_boxes(image, found)
    assert not unlabelled(image, found).any()


@settings(max_examples=80)
@given(st.integers(0, 10**6))
def test_what_lies_in_a_pasted_box_has_its_own_box_even_if_its_class_is_not_pasted(seed):
    rng = np.random.default_rng(seed)
    image = np.full((*SIZE, 3), GREY, np.uint8)
    piece = drawn(rng, SIZE, 6, overlap=True)
    visible = [(piece.image[int(b) : int(d), int(a) : int(c), 0] == level(i)).any() for (a, b, c, d), i in rows(piece)]
    piece = piece._replace(boxes=piece.boxes.keep(np.array(visible, bool)))
    found = paste(replace(PASTE, max_classes=1), image, NONE, piece, [0], rng, 0.0)
    assert found.xyxy.dtype == np.float32
    assert not unlabelled(image, found).any()
    assert len(found.classes) or (image == GREY).all()


def rows(piece: Piece) -> list:
    return list(zip(piece.boxes.xyxy.tolist(), piece.boxes.classes.tolist(), strict=True))


def test_a_crowd_is_kept_where_a_part_of_it_is_left_or_comes_with_a_pasted_box():
    image, crowd = np.zeros((*SIZE, 3), np.uint8), make_boxes([[0, 0, 20, 20]], [0], [True])
    pasted = make_boxes([[0, 0, 20, 18]], [1])
    rng = np.random.default_rng(0)
    kept = paste(PASTE, image, crowd, Piece(image.copy(), pasted), [1], rng, 0.5)
    assert kept.is_crowd.tolist() == [True, False] and kept.xyxy[0].tolist() == [0, 18, 20, 20]
    both = joined([make_boxes([[0, 0, 8, 8]], [1]), crowd])
    come = paste(PASTE, image, make_boxes([], []), Piece(image.copy(), both), [0, 1], rng, 0.5)
    assert come.is_crowd.tolist() == [False, True] and come.xyxy[1].tolist() == [0, 0, 8, 8]


@settings(max_examples=60)
@given(st.integers(0, 10**6), st.tuples(st.integers(24, 48), st.integers(24, 64)))
def test_a_blended_image_is_the_mean_of_both_and_has_the_boxes_of_both(seed, size):
    rng = np.random.default_rng(seed)
    (image, boxes), piece = drawn(rng, SIZE, 3), drawn(rng, size, 2)
    before, num_own = image.copy(), len(boxes.classes)
    found = mix_up(image, boxes, lambda wanted: piece if wanted == SIZE else None, rng)
    assert rows(Piece(image, found))[:num_own] == rows(Piece(image, boxes))
    assert found.classes[num_own:].tolist() == piece.boxes.classes.tolist()
    for one, own in zip(found.xyxy[num_own:].astype(int), piece.boxes.xyxy.astype(int), strict=True):
        assert ((one - own) == [*(one - own)[:2]] * 2).all()
        (left, top, right, bottom), part = one, piece.image[own[1] : own[3], own[0] : own[2]]
        mean = (before[top:bottom, left:right].astype(int) + part) / 2
        assert np.abs(image[top:bottom, left:right] - mean).max() <= 0.5
    assert (image != before).any(-1).sum() <= size[0] * size[1]


def test_where_there_is_no_other_image_nothing_is_blended():
    image, boxes = drawn(np.random.default_rng(1), SIZE, 3)
    before = image.copy()
    assert mix_up(image, boxes, lambda size: None, np.random.default_rng(2)) is boxes and (image == before).all()


def test_pasted_are_allowed_classes_within_the_area_and_no_crowds():
    boxes = make_boxes([[0, 0, 10, 10], [20, 0, 30, 10], [40, 0, 50, 10], [0, 20, 30, 40]], [0, 0, 1, 2], [0, 1, 0, 0])
    image = np.full((*SIZE, 3), GREY, np.uint8)
    piece = Piece(np.full((*SIZE, 3), 200, np.uint8), boxes)
    found = paste(replace(PASTE, max_classes=3), image, NONE, piece, [0, 1], np.random.default_rng(0), 0.3)
    assert sorted(found.classes.tolist()) in ([0], [1], [0, 1]) and not found.is_crowd.any()
    assert (image == 200).all(-1).sum() == 100 * len(found.classes)
    small = replace(PASTE, max_rel_area=99 / (SIZE[0] * SIZE[1]))
    image[:] = GREY
    assert not len(paste(small, image, NONE, piece, [0, 1], np.random.default_rng(0), 0.3).classes)
    assert (image == GREY).all()
    assert paste(PASTE, image, NONE, piece, [], np.random.default_rng(0), 0.3) is NONE


def test_classes_with_a_lower_score_are_pasted_more_often():
    boxes = make_boxes([[0, 0, 4, 4], [10, 0, 14, 4]], [0, 1])
    piece, rules = Piece(np.zeros((*SIZE, 3), np.uint8), boxes), replace(PASTE, max_classes=1)
    rng, scores = np.random.default_rng(0), np.array([0.91, 0.01, np.nan])
    chosen = [
        int(paste(rules, np.zeros((*SIZE, 3), np.uint8), NONE, piece, [0, 1], rng, 0.3, scores).classes[0])
        for _ in range(500)
    ]
    assert np.mean(chosen) == pytest.approx(1 / 1.1, abs=0.04)  # 1.01 - 0.01 to 1.01 - 0.91
