"""Boxes of an image: labelled boxes, detections, and functions of their geometry.

A box is `left, top, right, bottom` in pixels of its image, right and bottom exclusive: the box of a whole image of
640x480 is 0, 0, 640, 480. Letters: N boxes, M other boxes.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np


class Boxes(NamedTuple):
    """The labelled boxes of an image.

    Attributes:
        xyxy: float32 (N, 4).
        classes: int64 (N,), indices of the competition's classes.
        is_crowd: bool (N,): a region with many objects; detections in it are not errors, and it is not trained on.
    """

    xyxy: np.ndarray
    classes: np.ndarray
    is_crowd: np.ndarray

    def keep(self, chosen: np.ndarray) -> Boxes:
        """Returns some of the boxes; `chosen` is a mask or indices."""
        return Boxes(self.xyxy[chosen], self.classes[chosen], self.is_crowd[chosen])


class Detections(NamedTuple):
    """The boxes found in an image, by falling score.

    Attributes:
        xyxy: float32 (N, 4).
        scores: float32 (N,), 0 to 1.
        classes: int64 (N,).
    """

    xyxy: np.ndarray
    scores: np.ndarray
    classes: np.ndarray

    def keep(self, chosen: np.ndarray) -> Detections:
        """Returns some of the detections; `chosen` is a mask or indices."""
        return Detections(self.xyxy[chosen], self.scores[chosen], self.classes[chosen])


def make_boxes(xyxy: object, classes: object, is_crowd: object = None) -> Boxes:
    """Returns boxes from lists or arrays of any number format.

    >>> make_boxes([[0, 0, 4, 2]], [1]).is_crowd.tolist(), make_boxes([], []).xyxy.shape
    ([False], (0, 4))
    """
    classes_N = np.asarray(classes, np.int64).reshape(-1)
    crowd_N = np.zeros(len(classes_N), bool) if is_crowd is None else np.asarray(is_crowd, bool).reshape(-1)
    return Boxes(np.asarray(xyxy, np.float32).reshape(-1, 4), classes_N, crowd_N)


def make_detections(xyxy: object, scores: object, classes: object) -> Detections:
    """Returns detections from lists or arrays, sorted by falling score; equal scores keep their order.

    >>> make_detections([[0, 0, 1, 1], [0, 0, 2, 2]], [0.2, 0.9], [0, 1]).classes.tolist()
    [1, 0]
    """
    scores_N = np.asarray(scores, np.float32).reshape(-1)
    found = Detections(np.asarray(xyxy, np.float32).reshape(-1, 4), scores_N, np.asarray(classes, np.int64).reshape(-1))
    return found.keep(np.argsort(-scores_N, kind="stable"))


def no_detections(competition: object, size: tuple[int, int]) -> Detections:
    """Returns no detections, for an image that was not predicted.

    >>> len(no_detections(None, (480, 640)).scores)
    0
    """
    return make_detections([], [], [])


def areas(xyxy_N4: np.ndarray) -> np.ndarray:
    """Returns the areas of boxes in square pixels, (N,); 0 where a box is empty or inside out.

    >>> areas(np.array([[0, 0, 4, 2], [3, 0, 1, 1]])).tolist()
    [8, 0]
    """
    sides_N2 = np.clip(xyxy_N4[:, 2:] - xyxy_N4[:, :2], 0, None)
    return sides_N2[:, 0] * sides_N2[:, 1]


def clip_boxes(xyxy_N4: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns boxes cut at the borders of an image of `size` (height, width).

    >>> clip_boxes(np.array([[-2, 1, 9, 3]]), (4, 6)).tolist()
    [[0, 1, 6, 3]]
    """
    height, width = size
    return np.clip(xyxy_N4, 0, np.array([width, height, width, height], xyxy_N4.dtype))


def ious(xyxy_N4: np.ndarray, others_M4: np.ndarray) -> np.ndarray:
    """Returns intersection over union of each pair, (N, M); 0 where both boxes are empty.

    >>> ious(np.array([[0.0, 0, 2, 2]]), np.array([[1.0, 0, 3, 2], [5, 5, 6, 6]])).round(3).tolist()
    [[0.333, 0.0]]
    """
    shared_NM = intersections(xyxy_N4, others_M4)
    union_NM = areas(xyxy_N4)[:, None] + areas(others_M4)[None] - shared_NM
    return np.divide(shared_NM, union_NM, out=np.zeros(shared_NM.shape, np.float64), where=union_NM > 0)


def intersections(xyxy_N4: np.ndarray, others_M4: np.ndarray) -> np.ndarray:
    """Returns the shared area of each pair in square pixels, (N, M)."""
    least = np.maximum(xyxy_N4[:, None, :2], others_M4[None, :, :2])
    most = np.minimum(xyxy_N4[:, None, 2:], others_M4[None, :, 2:])
    sides = np.clip(most - least, 0, None)
    return sides[..., 0] * sides[..., 1]
