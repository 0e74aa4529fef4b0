"""Samples made of several images: mosaic, copies of boxes pasted from another image, and blended images.

Letters: N boxes, C classes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from pipeline.config.augmentation import CopyPaste, Mosaic
from pipeline.data.mixing import blended, other_quarters
from pipeline.detection.boxes import Boxes, areas
from pipeline.detection.geometry import cut, shifted, visible_share


class Piece(NamedTuple):
    """A part of another image, as it is augmented, and the boxes in it."""

    image: np.ndarray
    boxes: Boxes


SOME = 1e-6  # share of a box; less is rounding
Draw = Callable[[tuple[int, int]], Piece | None]  # from a size (height, width) to a piece of another image, or None


def joined(parts: Sequence[Boxes]) -> Boxes:
    """Returns the boxes of several parts, in their order."""
    return Boxes(*map(np.concatenate, zip(*parts, strict=True)))


def apply_mosaic(
    settings: Mosaic, image: np.ndarray, boxes: Boxes, draw: Draw, rng: np.random.Generator, min_visible: float
) -> Boxes:
    """Puts pieces of other images into three quarters of an image, in place; returns the boxes of the result.

    See `other_quarters`. Where a piece is smaller than its quarter, the sample stays as it was.
    """
    size, laid, pasted = image.shape[:2], [], []
    for quarter in other_quarters(settings, size, rng):
        piece = draw((quarter.height, quarter.width))
        if piece is not None:
            rows, columns = piece.image.shape[:2]
            left, top = quarter.x, quarter.y
            image[top : top + rows, left : left + columns] = piece.image
            laid.append((left, top, left + columns, top + rows))
            pasted.append(piece.boxes._replace(xyxy=shifted(piece.boxes.xyxy, left, top)))
    return joined([_uncovered(boxes, laid, size, min_visible), *pasted])


def mix_up(image: np.ndarray, boxes: Boxes, draw: Draw, rng: np.random.Generator) -> Boxes:
    """Blends a piece of another image into an image, half and half, in place; returns the boxes of both.

    A smaller piece is blended in at a random position.

    Source: Zhang et al. 2019, https://arxiv.org/abs/1902.04103, for boxes, with the share 0.5 of YOLOX (Ge et al. 2021,
    https://arxiv.org/abs/2107.08430).
    """
    piece = draw(image.shape[:2])
    if piece is None:
        return boxes
    rows, columns = piece.image.shape[:2]
    top, left = int(rng.integers(image.shape[0] - rows + 1)), int(rng.integers(image.shape[1] - columns + 1))
    part = image[top : top + rows, left : left + columns]
    part[:] = blended(part, piece.image, 0.5)
    return joined([boxes, piece.boxes._replace(xyxy=shifted(piece.boxes.xyxy, left, top))])


def paste(
    settings: CopyPaste,
    image: np.ndarray,
    boxes: Boxes,
    piece: Piece,
    allowed: Sequence[int],
    rng: np.random.Generator,
    min_visible: float,
    scores_C: np.ndarray | None = None,
) -> Boxes:
    """Pastes boxes of some classes of a piece at their own position, in place; returns the boxes of the result.

    Other objects of the piece that are visible in the pasted rectangles get a clipped box, too.

    Args:
        settings: at most MAX_CLASSES classes and MAX_REL_AREA of the image are pasted.
        allowed: indices of the classes that may be pasted.
        scores_C: of each class; a class with a lower one is drawn more often. None: all alike.

    Source: Ghiasi et al. 2021, https://arxiv.org/abs/2012.07177, for masks; whole boxes as in Dwibedi et al. 2017,
    https://arxiv.org/abs/1708.01642.
    """
    shown = [index for index in np.unique(piece.boxes.classes[~piece.boxes.is_crowd]).tolist() if index in allowed]
    if not shown:
        return boxes
    weights = np.ones(len(shown)) if scores_C is None else 1.01 - np.nan_to_num(scores_C)[shown]
    number = min(len(shown), 1 + int(rng.integers(settings.max_classes)))
    chosen = rng.choice(shown, number, replace=False, p=weights / weights.sum())
    is_pasted = np.isin(piece.boxes.classes, chosen) & ~piece.boxes.is_crowd
    most_px = settings.max_rel_area * image.shape[0] * image.shape[1]
    is_pasted[is_pasted] = np.cumsum(areas(piece.boxes.xyxy[is_pasted])) <= most_px
    own = piece.boxes.keep(is_pasted)
    laid = [(int(left), int(top), int(np.ceil(right)), int(np.ceil(bottom))) for left, top, right, bottom in own.xyxy]
    for left, top, right, bottom in laid:
        image[top:bottom, left:right] = piece.image[top:bottom, left:right]
    others = _also_pasted(piece.boxes.keep(~is_pasted), laid, image.shape[:2], min_visible)
    return joined([_uncovered(boxes, laid, image.shape[:2], min_visible), own, others])


def _also_pasted(boxes: Boxes, laid: Sequence[tuple], size: tuple[int, int], min_visible: float) -> Boxes:
    """Returns the boxes whose share in the pasted rectangles is large enough, reduced to their visible part."""
    if not laid or not len(boxes.classes):
        return boxes.keep([])
    laid_M4 = np.array(laid, np.float32)
    least_NM2 = np.maximum(boxes.xyxy[:, None, :2], laid_M4[None, :, :2])
    most_NM2 = np.minimum(boxes.xyxy[:, None, 2:], laid_M4[None, :, 2:])
    is_seen_NM1 = (most_NM2 > least_NM2).all(2, keepdims=True)
    seen_N4 = np.concatenate(
        [np.where(is_seen_NM1, least_NM2, np.inf).min(1), np.where(is_seen_NM1, most_NM2, -np.inf).max(1)], 1
    )
    share_N = 1 - visible_share(boxes.xyxy, laid_M4, size)
    return boxes._replace(xyxy=seen_N4).keep(share_N >= _least_visible(boxes, min_visible))


def _uncovered(boxes: Boxes, laid: Sequence[tuple], size: tuple[int, int], min_visible: float) -> Boxes:
    """Returns the boxes that are still visible enough, without sides that are covered completely."""
    if not laid or not len(boxes.classes):
        return boxes
    over_M4 = np.array(laid, np.float64)
    boxes = boxes.keep(visible_share(boxes.xyxy, over_M4, size) >= _least_visible(boxes, min_visible))
    return cut(boxes._replace(xyxy=_trimmed(boxes.xyxy, over_M4)), size, 0)


def _least_visible(boxes: Boxes, min_visible: float) -> np.ndarray:
    """Returns the share of each box that must be visible for it to be kept, (N,); of a crowd any part is."""
    return np.where(boxes.is_crowd, SOME, max(min_visible, SOME))


def _trimmed(xyxy_N4: np.ndarray, over_M4: np.ndarray) -> np.ndarray:
    """Returns boxes without the sides that one rectangle covers over their whole width or height."""
    trimmed = xyxy_N4.copy()
    for box in trimmed:
        for left, top, right, bottom in over_M4:
            if left <= box[0] and right >= box[2]:  # over the whole width
                if top <= box[1] < bottom < box[3]:
                    box[1] = bottom
                elif box[1] < top < box[3] <= bottom:
                    box[3] = top
            elif top <= box[1] and bottom >= box[3]:
                if left <= box[0] < right < box[2]:
                    box[0] = right
                elif box[0] < left < box[2] <= right:
                    box[2] = left
    return trimmed
