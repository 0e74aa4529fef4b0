"""Panels and contact sheets: what is shown, for images of any size; which images are chosen."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.report.canvas import (
    MARGIN,
    draw_tile_grid,
    fit,
    font,
    grid_note,
    hatched,
    legend_rows,
    shorten,
    window_color,
)
from pipeline.report.canvas import Chip as LegendChip
from pipeline.report.examples import choose_images
from pipeline.segmentation.panels import BRIGHT, IMAGE_SHARE, WIDTH, draw_panel, draw_sheet, paint_mask
from tests.report.small_run import CLASSES, COLORS, make_image


def count(image: np.ndarray, color: tuple[int, int, int], tolerance: int = 0) -> int:
    return int((np.abs(image.astype(int) - np.array(color)).max(axis=2) <= tolerance).sum())


@pytest.mark.parametrize(
    ("width", "height"), [(96, 64), (1280, 720), (64, 640), (900, 100), (2000, 50), (7, 5), (1, 1)]
)
def test_a_image_of_any_size_makes_a_panel_of_reasonable_size(width, height):
    image, mask = make_image(width, height)
    panel = draw_panel(image, mask, np.zeros_like(mask), CLASSES, COLORS, "title", dict.fromkeys(CLASSES, 0.5))
    assert panel.dtype == np.uint8
    assert 300 < panel.shape[1] <= WIDTH + 2 * MARGIN
    assert panel.shape[0] < 4000
    assert panel.std() > 5


def test_a_perfect_prediction_has_no_errors():
    image, mask = make_image()
    perfect = draw_panel(image, mask, np.where(mask == 255, 0, mask), CLASSES, COLORS)
    assert count(perfect, BRIGHT) == 0


def test_wrong_pixels_are_bright_and_ignored_ones_never_wrong():
    image, mask = make_image()
    prediction = np.where(mask == 255, 1, mask).astype(np.uint8)
    assert count(draw_panel(image, mask, prediction, CLASSES, COLORS), BRIGHT) == 0
    prediction[mask == 3] = 2
    share = count(draw_panel(image, mask, prediction, CLASSES, COLORS), BRIGHT) / (464 * 309)
    assert share == pytest.approx((mask == 3).mean(), abs=0.02)


def test_objects_have_outlines_and_those_without_a_counterpart_are_errors():
    image, index = make_image()[0], np.zeros((64, 96), np.uint8)
    index[10:50, 10:40], index[10:50, 40:70] = 1, 1
    halves = index + 256 * (index * (1 + (np.arange(96) >= 40))).astype(np.int32)
    whole = index + 256 * index.astype(np.int32)
    white, area = (255, 255, 255), (464 / 96) ** 2
    plain, same, merged = (
        draw_panel(image, *pair, CLASSES, COLORS) for pair in ((index, index), (halves, halves), (halves, whole))
    )
    assert count(same, white) - count(plain, white) > 2 * 2 * 4 * 35 * 464 / 96 / 2
    assert count(same, white) > count(merged, white)  # no line between the halves
    assert count(plain, BRIGHT) == count(same, BRIGHT) == 0
    assert count(merged, BRIGHT) / area == pytest.approx(
        40 * 60, rel=0.1
    )  # no half has an IoU above 0.5 with the whole


def test_only_classes_that_are_present_stand_in_the_legend():
    image, mask = make_image()
    sky = np.full_like(mask, 3)
    road_only = draw_panel(image, sky, sky, CLASSES, COLORS)
    with_title = draw_panel(image, mask, sky, CLASSES, COLORS)
    legend = slice(-40, None)
    assert count(road_only[legend], COLORS[3]) > 100
    assert count(road_only[legend], COLORS[2]) == 0
    assert count(with_title[legend], COLORS[2]) > 100


def test_masks_keep_their_colours_and_let_the_image_through():
    image, mask = make_image()
    assert tuple(paint_mask(mask, COLORS)[-1, -1]) == COLORS[2]
    shining = paint_mask(mask, COLORS, np.full_like(image, 255))
    assert tuple(shining[-1, -1]) == tuple(round(value * (1 - IMAGE_SHARE) + IMAGE_SHARE * 255) for value in COLORS[2])


def test_ignored_pixels_are_hatched():
    _, mask = make_image()
    painted = paint_mask(mask, COLORS)
    assert (painted[mask == 255] == hatched(*mask.shape)[mask == 255]).all()


@given(st.integers(1, 5000), st.integers(1, 5000), st.integers(1, 2000), st.integers(1, 2000))
def test_fitting_stays_in_the_box_and_touches_it(width, height, most_width, most_height):
    fitted = fit(width, height, most_width, most_height)
    assert 1 <= fitted[0] <= most_width
    assert 1 <= fitted[1] <= most_height
    assert fitted[0] == most_width or fitted[1] == most_height


@given(st.lists(st.text(max_size=30), max_size=12), st.integers(60, 900))
def test_legends_keep_every_entry_and_their_order(texts, width):
    rows = legend_rows([LegendChip((1, 2, 3), text) for text in texts], width, 20)
    assert [chip.text for row in rows for _, chip in row] == texts
    assert all(row[0][0] == 0 for row in rows)


@given(st.text(alphabet="abc mW", max_size=40), st.integers(30, 400))
def test_shortened_texts_fit(text, width):
    assert font(20).getlength(shorten(text, font(20), width)) <= width


def test_best_median_and_worst_are_what_they_say():
    ids = [f"p{index}" for index in range(9)]
    per_image = {"id": ids, "dice": [str(0.1 * index) for index in range(9)]}
    assert choose_images(per_image, "dice", 2) == {"best": ["p8", "p7"], "median": ["p4", "p3"], "worst": ["p0", "p1"]}


def test_neighbouring_frames_do_not_fill_a_group():
    ids = [f"p{index}" for index in range(12)]
    sequences = ["a", "a", "b", "b"] * 3
    per_image = {"id": ids, "sequence": sequences, "dice": [index / 12 for index in range(12)]}
    chosen = choose_images(per_image, "dice", 2)
    assert chosen["worst"] == ["p0", "p2"]
    assert chosen["best"] == ["p11", "p9"]


def test_what_was_chosen_for_its_sequence_stands_in_the_order_of_its_dice():
    sequences = ["a", "a", "b", "a", "a", "a"] * 2
    per_image = {"id": [f"p{index}" for index in range(12)], "sequence": sequences, "dice": range(12)}
    chosen = choose_images(per_image, "dice", 3)
    assert chosen["worst"] == ["p0", "p1", "p2"]  # p2 was taken second, being of another sequence
    for group, ids in chosen.items():
        assert ids == sorted(ids, key=lambda one: int(one[1:]), reverse=group != "worst")


@given(st.lists(st.tuples(st.floats(0, 1), st.sampled_from("abc")), max_size=30), st.integers(1, 5))
def test_no_image_is_chosen_twice_and_few_are_shared_out(rows, k):
    ids = [f"p{index}" for index in range(len(rows))]
    per_image = {"id": ids, "dice": [dice for dice, _ in rows], "sequence": [sequence for _, sequence in rows]}
    chosen = choose_images(per_image, "dice", k)
    every = [image_id for group in chosen.values() for image_id in group]
    assert len(every) == len(set(every))
    assert set(every) <= set(ids)
    assert all(len(group) <= k for group in chosen.values())
    if rows:
        assert chosen["worst"]
        dice_of = dict(zip(ids, per_image["dice"], strict=True))
        if chosen["best"]:
            assert dice_of[chosen["worst"][0]] <= dice_of[chosen["best"][0]]


def test_a_contact_sheet_shows_every_sample():
    samples = [make_image(width, height) for width, height in [(96, 64), (64, 96), (640, 352), (30, 30), (96, 64)]]
    sheet = draw_sheet(samples, [f"sample {index}" for index in range(5)], CLASSES, COLORS, "Samples", num_columns=3)
    assert sheet.shape[1] == 1920
    assert sheet.std() > 10
    assert draw_sheet(samples[:1], ["one"], CLASSES, COLORS).shape[0] < sheet.shape[0]


def test_an_empty_contact_sheet_is_a_image_too():
    assert draw_sheet([], [], CLASSES, COLORS, "none").ndim == 3


@pytest.mark.parametrize("tile_set", [(1280, 720, 3, 3), (1280, 720, 1, 1), (700, 400, 1, 4), (640, 352, 1, 1)])
def test_tile_grids_show_outlines_overlaps_and_what_is_left_out(tile_set):
    image = np.full((100, 180, 3), 200, np.uint8)
    grid = draw_tile_grid(image, tile_set, 640, 352)
    assert grid.shape[1] == 1200
    inside = grid[80:-20, 20:-20]
    overlaps = tile_set[2] > 1 or tile_set[3] > 1
    leaves_out = tile_set[:2] != (640, 352) and tile_set[2:] == (1, 1)
    assert (count(inside, (50, 50, 50)) > 1000) == leaves_out or tile_set[0] == 700
    assert (count(inside, (200, 200, 200)) < inside[..., 0].size * 0.9) == (overlaps or leaves_out)


@given(st.integers(1, 7), st.integers(1, 5), st.integers(5, 12), st.integers(5, 12))
def test_tiles_that_overlap_or_touch_differ_in_colour(num_columns, num_rows, width, height):
    places = [(100 * column // 2, 100 * row // 2) for row in range(num_rows) for column in range(num_columns)]
    boxes = [(x, y, x + 10 * min(width, 9), y + 10 * min(height, 9)) for x, y in places]
    colors = [window_color(index, num_columns) for index in range(len(boxes))]  # up to half of a side is shared
    for first, (x0, y0, x1, y1) in enumerate(boxes):
        for second, (left, top, right, bottom) in enumerate(boxes[:first]):
            if left <= x1 + 1 and x0 <= right + 1 and top <= y1 + 1 and y0 <= bottom + 1:
                assert colors[first] != colors[second]


def test_gaps_between_tiles_are_told():
    assert grid_note((1280, 720, 2, 1), 320, 720) == "640 px across missed, one tile down covers all"


def test_panels_of_real_images_are_drawn(shared_data):
    folder = shared_data("camvid")
    image_path = sorted((folder / "imgs/imgs").glob("0016E5*.jpg"))[0]
    with Image.open(image_path) as image, Image.open(folder / f"masks/masks/{image_path.stem}.png") as mask:
        truth = np.asarray(mask)
        names, colors = [f"class {index}" for index in range(11)], [(20 * index, 99, 9) for index in range(11)]
        scored = np.where(truth == 11, 255, truth).astype(np.uint8)
        panel = draw_panel(np.asarray(image.convert("RGB")), scored, np.minimum(truth, 10), names, colors)
    assert panel.shape[1] > 1800
    assert panel.std() > 20


def test_images_without_a_score_have_no_panel():
    chosen = choose_images({"id": ["a", "b", "c"], "dice": ["", "0.9", "nan"]}, "dice", 1)
    assert [image_id for group in chosen.values() for image_id in group] == ["b"]


def test_a_grid_of_very_many_tiles_is_drawn_without_numbers():
    image = np.full((400, 500, 3), 90, np.uint8)
    assert draw_tile_grid(image, (20_000, 16_000, 70, 60), 256, 256).shape[2] == 3
