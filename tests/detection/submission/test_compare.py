"""The table of what changed between two submissions of boxes, and its drawing."""

import numpy as np
import pytest
from hypothesis import given, settings

from pipeline.detection.boxes import make_detections
from pipeline.detection.submission.compare import COLUMNS, compare_files, pairs_of
from pipeline.detection.submission.draw_changes import draw_boxes, draw_changes
from pipeline.errors import UserError
from tests.detection.submission.scenes import FOUND, FOUND_BY_ID, SIZE, detections, make_competition, sizes_of, write

NONE = make_detections([], [], [])


def test_the_most_changed_image_comes_first_and_each_class_has_its_boxes(tmp_path):
    first = {"a": FOUND, "b": FOUND, "c": NONE, "d": FOUND}
    moved = make_detections([[10.25, 20, 60.5, 35], [0, 0, 200, 100]], [0.9, 0.5], [0, 2])
    second = {"a": FOUND, "b": moved, "c": make_detections([[0, 0, 9, 9]], [0.5], [1]), "d": FOUND.keep([0])}
    competition = make_competition()
    paths = [write(tmp_path / f"{n}.csv", own, competition) for n, own in enumerate((first, second))]
    table = compare_files(*paths, competition, sizes_of("abcd"))
    assert list(table.columns) == COLUMNS
    known = table.drop(columns=["mean_iou", "score_change"]).values.tolist()
    assert known == [
        ["c", 1.0, "bus", 0, 1, 0],
        ["d", pytest.approx(1 / 3), "bicycle", 1, 0, 0],
        ["b", 0.0, "car", 1, 1, 1],
        ["b", 0.0, "bicycle", 1, 1, 1],
    ]
    assert table["mean_iou"].tolist() == pytest.approx([np.nan, np.nan, 0.5, 1.0], nan_ok=True)
    assert table["score_change"].tolist() == pytest.approx([np.nan, np.nan, 0.0, 0.25], nan_ok=True)


def test_the_same_boxes_in_another_format_do_not_differ(tmp_path):
    by_rows, by_list = make_competition(), make_competition("COCO")
    one, other = write(tmp_path / "1.csv", FOUND_BY_ID, by_rows), write(tmp_path / "2.json", FOUND_BY_ID, by_list)
    for competition in (by_rows, by_list):
        assert compare_files(one, other, competition, sizes_of("abc")).empty


def test_submissions_of_other_images_are_refused(tmp_path):
    competition = make_competition()
    one, other = write(tmp_path / "1.csv", {"a": FOUND, "b": FOUND}, competition), tmp_path / "2.csv"
    write(other, {"b": FOUND}, competition)
    for paths in ((one, other), (other, one)):
        with pytest.raises(UserError, match="are not of the same images: only one of them has"):
            compare_files(*paths, competition, sizes_of("ab"))


def test_of_two_boxes_on_the_same_object_the_nearer_one_is_in_the_pair():
    both, one = np.array([[0.0, 0, 10, 8], [0, 0, 10, 9]]), np.array([[0.0, 0, 10, 10]])
    assert pairs_of(both, one) == [(1, 0, pytest.approx(0.9))]
    assert pairs_of(one, both) == [(0, 1, pytest.approx(0.9))]


@settings(max_examples=100)
@given(detections(SIZE), detections(SIZE))
def test_each_box_is_in_one_pair_at_most_and_boxes_pair_with_themselves(one, other):
    pairs = pairs_of(one.xyxy, other.xyxy)
    for side in (0, 1):
        assert len({pair[side] for pair in pairs}) == len(pairs)
    assert [iou for *_, iou in pairs] == sorted((iou for *_, iou in pairs), reverse=True)
    assert all(iou >= 0.5 for *_, iou in pairs)
    with_area = one.keep((one.xyxy[:, :2] < one.xyxy[:, 2:]).all(1))
    assert len(pairs_of(with_area.xyxy, with_area.xyxy)) == len(with_area.scores)


def test_the_drawing_shows_the_boxes_of_both_files(tmp_path):
    competition = make_competition(colors=((255, 0, 0), (0, 255, 0), (0, 0, 255)))
    paths = tuple(
        write(tmp_path / f"{n}.csv", own, competition) for n, own in enumerate(({"a": FOUND}, {"a": FOUND.keep([0])}))
    )
    image = np.full((100, 200, 3), 90, np.uint8)
    drawn = draw_changes([("a", image)], sizes_of("a"), paths, competition)
    assert drawn.shape[1] == 1080 and drawn.dtype == np.uint8
    left, right = drawn[170:, :540], drawn[170:, 540:]  # below title and legend
    assert (left == (255, 0, 0)).all(-1).any() and (right == (255, 0, 0)).all(-1).any()
    assert (left == (0, 0, 255)).all(-1).any() and not (right == (0, 0, 255)).all(-1).any()


def test_a_box_is_drawn_on_its_outermost_pixels_and_one_of_a_low_score_is_not():
    image, colors = np.zeros((20, 30, 3), np.uint8), ((9, 8, 7),)
    drawn = draw_boxes(image, make_detections([[2, 3, 12, 9], [0, 0, 30, 20]], [0.3, 0.04], [0, 0]), colors)
    rows, columns = np.nonzero(drawn.any(-1))
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (3, 8, 2, 11)
