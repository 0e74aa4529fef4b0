"""Hints on boxes of other programs: given where many boxes agree, never on boxes that are read as they were written."""

import numpy as np
import pytest

from pipeline.detection.boxes import make_detections
from pipeline.submission.file import find_hints, origin_path
from tests.detection.submission.scenes import make_competition, write

SIZE = (100, 200)


def many_boxes(num_images: int = 12, num_boxes: int = 8, farthest: float = 0.8) -> dict:
    rng, found = np.random.default_rng(0), {}
    for number in range(num_images):
        corner = rng.uniform(0, farthest, (num_boxes, 2)) * [200, 100]
        sides = rng.uniform(0.05, 0.19, (num_boxes, 2)) * [200, 100]
        boxes = np.concatenate([corner, corner + sides], 1)
        found[f"i{number}"] = make_detections(boxes, rng.uniform(0, 1, num_boxes), rng.integers(0, 3, num_boxes))
    return found


def hints_of(tmp_path, found, written: dict, seen: dict) -> list[str]:
    """Writes boxes in one way, and returns the hints when they are read in another."""
    own, other = (make_competition(**one) for one in (written, seen))
    sizes = dict.fromkeys(found, SIZE)
    path = write(tmp_path / ("a.json" if written == {"form": "COCO"} else "a.csv"), found, own, sizes)
    assert find_hints(path, other, sizes) == []  # nothing is asked of our own files
    origin_path(path).unlink()
    return find_hints(path, other, sizes)


CORNERS, SIDES, SHARES = (
    {"box_convention": make_competition(form).box_convention.__class__(fields=fields, normalised=shares)}
    for form, fields, shares in (
        ("corners", ("class", "score", "left", "top", "right", "bottom"), False),
        ("corners", ("class", "score", "left", "top", "width", "height"), False),
        ("corners", ("class", "score", "left", "top", "right", "bottom"), True),
    )
)


@pytest.mark.parametrize("one", [CORNERS, SIDES, SHARES, {"form": "COCO"}])
def test_boxes_that_are_read_as_they_were_written_have_no_hint(tmp_path, one):
    assert hints_of(tmp_path, many_boxes(), one, one) == []


def test_boxes_of_which_most_but_not_all_are_at_the_left_have_no_hint(tmp_path):
    found = many_boxes(farthest=0.08)
    larger = [(xyxy[:, 2:] > 2 * xyxy[:, :2]).all(1).mean() for xyxy, *_ in found.values()]
    assert 0.5 < np.mean(larger) < 0.95
    assert hints_of(tmp_path, found, SIDES, SIDES) == []


@pytest.mark.parametrize(
    ("written", "seen", "message"),
    [
        (SIDES, CORNERS, "of all boxes have no area: their right and bottom may be width and height"),
        (
            CORNERS,
            SIDES,
            "100.0% of all boxes have a width above left and a height above top: their width and height may be",
        ),
        (SHARES, CORNERS, "all boxes are within the first pixel: they may be normalised"),
    ],
)
def test_boxes_that_were_written_in_another_way_have_one(tmp_path, written, seen, message):
    (hint,) = hints_of(tmp_path, many_boxes(), written, seen)
    assert hint.startswith("warning: ") and message in hint
    assert hints_of(tmp_path, many_boxes(num_images=3), written, seen) == []  # too few to tell
