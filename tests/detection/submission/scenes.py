"""Competitions and boxes that the tests of this folder share."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from hypothesis import strategies as st

from pipeline.config.box_convention import CXCYWH, XYWH, BoxConvention
from pipeline.config.box_form import BoxForm
from pipeline.config.competition import Competition, Submission
from pipeline.detection.boxes import Detections, make_detections
from pipeline.submission.file import write_submission
from pipeline.submission.formats import format_of_file

CLASSES = ("car", "bus", "bicycle")
SIZE = (100, 200)
FOUND = make_detections([[10.25, 20, 60.5, 50], [0, 0, 200, 100]], [0.9, 0.25], [0, 2])
FOUND_BY_ID = {"a": FOUND, "b": make_detections([], [], []), "c": FOUND.keep([1])}

# What a competition may want, by a name for messages.
FORMS = {
    "corners": ("prediction_string", BoxConvention()),
    "size, no row where there is no box": (
        "prediction_string",
        BoxConvention(fields=("score", *XYWH, "class"), empty=None, id_suffix=".jpg"),
    ),
    "centres in shares": (
        "prediction_string",
        BoxConvention(fields=("class", *CXCYWH, "score"), normalised=True, empty="none", decimals=5),
    ),
    "whole pixels, top before left": (
        "prediction_string",
        BoxConvention(fields=("class", "score", "top", "left", "bottom", "right"), decimals=0, empty="no box"),
    ),
    "COCO": ("coco_results", BoxConvention()),
    "COCO, numbers": ("coco_results", BoxConvention(image_id="number", decimals=3)),
    "nuScenes": (
        "nuscenes_boxes",
        BoxConvention(token_key="sample_token", score_key="detection_score", meta={"use_camera": True}),
    ),
}
COMPETITION = Competition(
    name="test", title="Made for a test", classes=CLASSES, images="images/{id}.jpg", task="boxes",
    boxes=BoxForm(coco="train.json"), id_column="ImageID",
)  # fmt: skip


def make_competition(form: str = "corners", **changes) -> Competition:
    """Returns a competition of `CLASSES` with one of `FORMS`."""
    name, convention = FORMS[form]
    return replace(COMPETITION, **{"submission": Submission(name), "box_convention": convention, **changes})


def sizes_of(ids, size: tuple[int, int] = SIZE) -> dict[str, tuple[int, int]]:
    return dict.fromkeys(ids, size)


def write(path: Path, found: dict[str, Detections], competition: Competition, sizes=None) -> Path:
    """Writes a submission; returns its path."""
    write_submission(path, found.items(), list(found), competition, {}, sizes or sizes_of(found))
    return path


def read(path: Path, competition: Competition, sizes) -> dict[str, Detections]:
    return dict(format_of_file(path, competition).read(path, competition, sizes))


def check_submission(path: Path, competition: Competition, sizes, sample: Path | None = None) -> list[str]:
    """Returns what is wrong with a submission, warnings included."""
    return format_of_file(path, competition).check(path, competition, sizes, sample)


@st.composite
def detections(draw, size: tuple[int, int]) -> Detections:
    """Boxes of any kind inside an image of (height, width), very small ones and those at its borders included."""
    height, width = size

    def side(most: int) -> list[float]:
        ends = st.one_of(st.integers(0, most), st.floats(0, most, width=32))
        return sorted((draw(ends), draw(ends)))

    boxes = []
    for _ in range(draw(st.integers(0, 4))):
        (left, right), (top, bottom) = side(width), side(height)
        boxes.append((left, top, right, bottom))
    scores = [draw(st.floats(0, 1, width=32)) for _ in boxes]
    return make_detections(boxes, scores, [draw(st.integers(0, len(CLASSES) - 1)) for _ in boxes])


def assert_same(one: Detections, other: Detections) -> None:
    assert all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
