"""Boxes as a file stores them: clipped to their image, and rounded to the decimals that are written.

Coordinates are whole numbers of steps. 10**decimals steps are a pixel or, with BOX_CONVENTION.NORMALISED, the width or
height of the image. Right minus left is then a whole number, too, so left + width never exceeds the image.
Letters: N boxes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.config.competition import Competition
from pipeline.detection.boxes import Detections, clip_boxes, make_detections

SCORE_DECIMALS = 6  # with fewer, different scores could become equal, but their order matters
Size = tuple[int, int]  # height, width


class Grid(NamedTuple):
    """Boxes in steps.

    Attributes:
        corners: int64 (N, 4): left, top, right, bottom.
        scores: int64 (N,), in steps of 10**-SCORE_DECIMALS.
        classes: int64 (N,).
    """

    corners: np.ndarray
    scores: np.ndarray
    classes: np.ndarray


def on_grid(found: Detections, size: Size, competition: Competition) -> Grid:
    """Returns the boxes of submitted classes in steps, by falling score, without boxes that have no area in steps."""
    found = found.keep(np.isin(found.classes, competition.submitted_indices))
    found = found.keep(np.argsort(-found.scores, kind="stable"))
    xyxy_N4 = clip_boxes(found.xyxy.astype(np.float64), size) / units(size, competition)
    corners_N4 = np.rint(xyxy_N4 * 10**competition.box_convention.most_decimals).astype(np.int64)
    has_area = (corners_N4[:, :2] < corners_N4[:, 2:]).all(1)
    scores_N = np.rint(found.scores.astype(np.float64) * 10**SCORE_DECIMALS).astype(np.int64)
    return Grid(corners_N4[has_area], scores_N[has_area], found.classes[has_area])


def rounded(found: Detections, size: Size, competition: Competition) -> Detections:
    """Returns the boxes that a file can hold of detections, see `on_grid`."""
    grid = on_grid(found, size, competition)
    shares_N4 = grid.corners / 10**competition.box_convention.most_decimals
    return make_detections(shares_N4 * units(size, competition), grid.scores / 10**SCORE_DECIMALS, grid.classes)


def digest(found: Detections, competition: Competition) -> bytes:
    """Returns a hash of rounded detections."""
    parts = (found.xyxy.astype("<f4"), found.scores.astype("<f4"), found.classes.astype("<i8"))
    return hashlib.sha256(b"".join(part.tobytes() for part in parts)).digest()


def resize_boxes(found: Detections, size: Size, image_size: Size) -> Detections:
    """Returns the detections of an image of `image_size` (height, width) in pixels of one of `size`.

    >>> found = make_detections([[1, 2, 3, 4]], [0.5], [0])
    >>> resize_boxes(found, (20, 10), (10, 20)).xyxy.tolist()
    [[0.5, 4.0, 1.5, 8.0]]
    """
    (height, width), (image_height, image_width) = size, image_size
    y, x = height / image_height, width / image_width
    return found._replace(xyxy=(found.xyxy * np.array([x, y, x, y])).astype(np.float32))


def units(size: Size, competition: Competition) -> np.ndarray:
    """Returns how many pixels one is in a coordinate of each kind, (4,): 1, or the width and height of the image."""
    height, width = size if competition.box_convention.normalised else (1, 1)
    return np.array([width, height, width, height], np.float64)


def texts_of(grid: Grid, fields: Sequence[str], labels: Sequence[str], decimals: int) -> list[list[str]]:
    """Returns the values of each box as texts, in the order of `fields`.

    Args:
        fields: see `BoxConvention`.
        labels: of the classes.
        decimals: the digits of a step.

    >>> grid = Grid(np.array([[0, 150, 1001, 250]]), np.array([500000]), np.array([0]))
    >>> texts_of(grid, ("class", "score", "left", "top", "width", "height"), ("car",), 2)
    [['car', '0.5', '0', '1.5', '10.01', '1']]
    """
    left_N, top_N, right_N, bottom_N = grid.corners.T.tolist() if len(grid.corners) else ((), (), (), ())
    spans = {"x": list(zip(left_N, right_N, strict=True)), "y": list(zip(top_N, bottom_N, strict=True))}

    def column(field: str) -> list[str]:
        if field == "class":
            return [labels[index] for index in grid.classes.tolist()]
        if field == "score":
            return [decimal_text(score, SCORE_DECIMALS) for score in grid.scores.tolist()]
        span = spans["x" if field in ("left", "right", "width", "center_x") else "y"]
        if field in ("left", "top"):
            return [decimal_text(least, decimals) for least, _ in span]
        if field in ("right", "bottom"):
            return [decimal_text(most, decimals) for _, most in span]
        if field in ("width", "height"):
            return [decimal_text(most - least, decimals) for least, most in span]
        return [decimal_text(5 * (least + most), decimals + 1) for least, most in span]  # the middle, in tenths

    return [list(values) for values in zip(*map(column, fields), strict=True)]


def decimal_text(steps: int, decimals: int) -> str:
    """Returns a number of steps of 10**-decimals, 0 or more, without zeros at its end.

    >>> decimal_text(1050, 2), decimal_text(7, 3), decimal_text(200, 2), decimal_text(20, 0)
    ('10.5', '0.007', '2', '20')
    """
    whole, part = divmod(steps, 10**decimals)
    return f"{whole}.{part:0{decimals}d}".rstrip("0").rstrip(".") if part else str(whole)


def corners_of(values: dict[str, np.ndarray], layout: Sequence[str]) -> np.ndarray:
    """Returns left, top, right, bottom, float64 (N, 4), of numbers by field.

    Args:
        values: float64 (N,) of each of the fields of `layout`.
        layout: one of `LAYOUTS`.

    >>> corners_of(dict(center_x=np.array([4.0]), center_y=np.array([3.0]), width=np.array([2.0]),
    ...     height=np.array([6.0])), ("center_x", "center_y", "width", "height")).tolist()
    [[3.0, 0.0, 5.0, 6.0]]
    """
    if "right" in layout:
        return np.stack([values[name] for name in ("left", "top", "right", "bottom")], 1)
    width_N, height_N = values["width"], values["height"]
    if "left" in layout:
        left_N, top_N = values["left"], values["top"]
    else:
        left_N, top_N = values["center_x"] - width_N / 2, values["center_y"] - height_N / 2
    return np.stack([left_N, top_N, left_N + width_N, top_N + height_N], 1)
