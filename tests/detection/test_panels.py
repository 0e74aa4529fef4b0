"""Boxes drawn on images: what is legible, what is an error, and how panels are laid out."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.detection.boxes import make_boxes, make_detections
from pipeline.detection.panels import (
    FALSE_COLOR,
    MISSED_COLOR,
    draw_boxes,
    draw_errors,
    draw_found,
    draw_panel,
    draw_sheet,
    errors_of,
    plate_of,
    views_of,
    wrong_share,
)

NAMES, COLORS = ("Cell", "Dust"), ((214, 69, 65), (65, 131, 215))
NOTHING = make_detections([], [], [])
GREY = np.full((120, 160, 3), 128, np.uint8)


def has_color(image: np.ndarray, color: tuple[int, int, int]) -> bool:
    return bool((image == np.array(color, np.uint8)).all(-1).any())


def test_a_box_is_an_outline_on_its_own_pixels():
    drawn = draw_boxes(GREY, np.array([[10, 20, 50, 60]], np.float32), [(255, 0, 0)])
    is_red = (drawn == (255, 0, 0)).all(-1)
    rows, columns = np.nonzero(is_red)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (20, 59, 10, 49)
    assert not is_red[40, 30] and (drawn[~is_red] == 128).all() and (GREY == 128).all()


BOXES = st.lists(st.tuples(*[st.floats(0, 100)] * 2, *[st.floats(5, 60)] * 2), min_size=1, max_size=40)


@given(BOXES)
def test_plates_of_texts_are_inside_the_image_and_hide_no_other(sides):
    taken: list[tuple[int, int, int, int]] = []
    for left, top, width, height in sides:
        plate = plate_of((left, top, left + width, top + height), "0.55", (160, 170), taken)
        if plate is not None:
            assert 0 <= plate[0] < plate[2] < 170 and 0 <= plate[1] < plate[3] < 160
            assert all(
                plate[2] < own[0] or own[2] < plate[0] or plate[3] < own[1] or own[3] < plate[1] for own in taken
            )
            taken.append(plate)
    assert taken, "the first box always finds room"


def test_the_surest_box_keeps_its_text_where_two_compete():
    boxes = [[20, 30, 40, 50], [21, 31, 41, 51]] * 20  # more than there are corners
    found = make_detections(boxes, [0.4 + index / 100 for index in range(40)], [0] * 40)
    crowded = draw_found(GREY, found, COLORS)
    alone = draw_found(GREY, found.keep(slice(1)), COLORS)
    plate = plate_of(boxes[39], "0.79", GREY.shape[:2], [])
    part = np.s_[plate[1] : plate[3], plate[0] + 3 : plate[2]]
    assert (crowded[part] == alone[part]).all()


def test_detections_below_the_shown_score_are_left_out():
    found = make_detections([[10, 10, 40, 40]], [0.29], [0])
    assert (draw_found(GREY, found, COLORS) == GREY).all()


def test_errors_are_labels_that_were_not_hit_and_detections_that_hit_none():
    truth = make_boxes([[10, 10, 40, 40], [60, 60, 90, 90], [100, 10, 150, 60]], [0, 0, 1], [0, 0, 1])
    found = make_detections([[10, 10, 40, 40], [10, 60, 40, 90], [110, 10, 140, 40]], [0.9, 0.8, 0.7], [0, 0, 1])
    missed, false = errors_of(truth, found)
    assert missed.tolist() == [[60, 60, 90, 90]] and false.tolist() == [[10, 60, 40, 90]], "what is in a crowd is none"
    assert wrong_share(truth, found) == pytest.approx(2 / 3)
    drawn = draw_errors(GREY, truth, found)
    assert has_color(drawn, MISSED_COLOR) and has_color(drawn, FALSE_COLOR) and drawn[15, 80].max() < 128


def test_an_image_without_boxes_has_no_errors():
    nothing = make_boxes([], [])
    assert wrong_share(nothing, NOTHING) == 0
    views = views_of(GREY, nothing, NOTHING, COLORS, (80, 60))
    assert [view.shape for view in views] == [(60, 80, 3)] * 4


@pytest.mark.parametrize(("num_boxes", "num_rows"), [(3, 1), (30, 2)])
def test_panels_are_at_most_1920_wide_and_have_two_rows_in_a_crowd(num_boxes, num_rows):
    image = np.full((480, 640, 3), 128, np.uint8)
    sides = [[10 * index, 10 * index, 10 * index + 30, 10 * index + 30] for index in range(num_boxes)]
    truth, found = make_boxes(sides, [0] * num_boxes), make_detections(sides, [0.9] * num_boxes, [0] * num_boxes)
    panel = draw_panel(image, truth, found, NAMES, COLORS, "best 1: a", {"Cell": 1.0})
    assert panel.shape[1] <= 1920 and panel.dtype == np.uint8
    most = 400 if num_rows == 1 else 600
    assert len(panel) > most if num_rows == 2 else len(panel) < most + 200
    assert has_color(panel, COLORS[0]) and has_color(panel, MISSED_COLOR), "the legend names the errors"


def test_a_legend_names_crowds_only_where_there_are_some():
    def legend_of(is_crowd: int) -> np.ndarray:
        truth = make_boxes([[10, 10, 60, 60]], [0], [is_crowd])
        return draw_panel(GREY, truth, NOTHING, NAMES, COLORS)

    assert legend_of(1).shape == legend_of(0).shape
    assert (legend_of(1)[-40:] != legend_of(0)[-40:]).any()


def test_a_sheet_has_the_boxes_of_its_samples():
    samples = [(GREY, make_boxes([[10, 10, 60, 60]], [1]))] * 3
    sheet = draw_sheet(samples, ["a", "b", "c"], NAMES, COLORS, "samples")
    assert has_color(sheet, COLORS[1]) and not has_color(sheet, COLORS[0])
