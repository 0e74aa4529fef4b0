"""Boxes are rounded to the digits that a file has, and stay inside their image."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.box_convention import LAYOUTS, BoxConvention
from pipeline.detection.boxes import make_detections
from pipeline.detection.submission.grid import corners_of, on_grid, rounded, texts_of, units
from tests.detection.submission.scenes import FORMS, assert_same, detections, make_competition

every_form = pytest.mark.parametrize("form", FORMS)


def test_boxes_are_cut_at_the_borders_and_sorted_by_score():
    found = make_detections([[-0.4, 1, 200.3, 99.994], [5, 5, 6, 6]], [0.5, 0.75], [0, 1])
    grid = on_grid(found, (100, 200), make_competition())
    assert grid.corners.tolist() == [[500, 500, 600, 600], [0, 100, 20000, 9999]]
    assert grid.scores.tolist() == [750000, 500000]


def test_a_box_that_has_no_area_in_the_digits_written_is_left_out_and_so_are_classes_that_are_not_submitted():
    found = make_detections([[1, 1, 1.004, 9], [1, 1, 1.006, 9], [1, 1, 3, 3]], [0.9, 0.8, 0.7], [0, 0, 1])
    assert on_grid(found, (100, 200), make_competition()).corners.tolist() == [
        [100, 100, 101, 900],
        [100, 100, 300, 300],
    ]
    only = make_competition(submitted=("bus", "bicycle"))
    assert on_grid(found, (100, 200), only).classes.tolist() == [1]


def test_scores_that_differ_only_behind_their_last_digit_keep_their_order():
    found = make_detections([[0, 0, 1, 1], [0, 0, 2, 2]], [0.50000004, 0.5000002], [0, 0])
    assert rounded(found, (9, 9), make_competition()).xyxy[:, 2].tolist() == [2, 1]


@every_form
@settings(max_examples=60)
@given(st.data())
def test_what_is_rounded_once_stays_as_it_is(form, data):
    """However fine the digits are: below the precision of float32 and above."""
    decimals = data.draw(st.sampled_from([None, 0, 3, 8]))
    size = data.draw(st.tuples(st.integers(1, 70), st.sampled_from([1, 7, 1024, 65535])))
    convention = BoxConvention(**{**vars(FORMS[form][1]), "decimals": decimals})
    competition = make_competition(form, box_convention=convention)
    once = rounded(data.draw(detections(size)), size, competition)
    assert_same(once, rounded(once, size, competition))


@pytest.mark.parametrize("layout", LAYOUTS)
@settings(max_examples=60)
@given(st.data())
def test_the_texts_of_every_layout_are_boxes_inside_the_image_as_near_as_their_digits(layout, data):
    size = data.draw(st.tuples(st.integers(1, 900), st.integers(1, 900)))
    normalised, decimals = data.draw(st.booleans()), data.draw(st.integers(0, 6))
    competition = make_competition(box_convention=BoxConvention(normalised=normalised, decimals=decimals))
    found = data.draw(detections(size))
    grid = on_grid(found, size, competition)
    texts = texts_of(grid, layout, competition.label_texts, decimals)
    values = np.array(texts, np.float64).reshape(-1, 4).T
    xyxy_N4 = corners_of(dict(zip(layout, values, strict=True)), layout) * units(size, competition)
    most = np.array([size[1], size[0], size[1], size[0]])
    assert (xyxy_N4 >= -1e-9 * most).all() and (xyxy_N4 <= most * (1 + 1e-9)).all()
    assert (xyxy_N4[:, :2] < xyxy_N4[:, 2:]).all()
    step = 10.0**-decimals * units(size, competition)
    for xyxy in xyxy_N4:  # each is one of those that were found
        assert (np.abs(found.xyxy - xyxy) <= 0.5 * step * (1 + 1e-6) + 1e-9).all(1).any()


def test_a_number_has_no_more_digits_than_it_needs():
    found = make_detections([[0.5, 10, 100, 20.25]], [1], [0])
    texts = texts_of(on_grid(found, (100, 200), make_competition()), ("score", "left", "top", "right", "bottom"), (), 2)
    assert texts == [["1", "0.5", "10", "100", "20.25"]]
