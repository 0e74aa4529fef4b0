"""Hints that a file of another program was written with another layout than it is read with.

Among many boxes, some are far right in their image, so that their width is below their left. If boxes written as
corners are read as left, top, width, height, every width is above its left, since right is greater than left.
Normalised coordinates that are read as pixels are all within the first pixel.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from pipeline.config.box_convention import XYWH, XYXY
from pipeline.config.competition import Competition
from pipeline.detection.boxes import Detections

MIN_BOXES = 50  # fewer may all be at the left of their images, or at the right
MIN_IMAGES = 10  # with boxes
ALMOST_ALL = 0.99


def hints(images: Iterable[tuple[str, Detections]], competition: Competition) -> list[str]:
    """Returns hints on another order of the numbers, or other units.

    Args:
        images: id and boxes of each image, as read from the file.
        competition: how they were read.
    """
    own = competition.box_convention
    parts = [found.xyxy for _, found in images if len(found.xyxy)]
    if len(parts) < MIN_IMAGES or sum(map(len, parts)) < MIN_BOXES:
        return []
    xyxy_N4 = np.concatenate(parts)
    if np.abs(xyxy_N4).max() <= 1 and not own.normalised:
        return ["all boxes are within the first pixel: they may be normalised (BOX_CONVENTION.NORMALISED: true)"]
    sides_N2 = xyxy_N4[:, 2:] - xyxy_N4[:, :2]
    form = competition.submission.format
    layout = {"coco_results": XYWH, "nuscenes_boxes": XYXY}.get(form, own.layout)
    without_area = float((sides_N2 <= 0).any(1).mean())
    if layout == XYXY and without_area > 1 - ALMOST_ALL:
        return [f"{without_area:.1%} of all boxes have no area: their right and bottom may be width and height"]
    large = float((sides_N2 > xyxy_N4[:, :2]).all(1).mean())
    if layout == XYWH and large >= ALMOST_ALL:
        found = "have a width above left and a height above top"
        return [f"{large:.1%} of all boxes {found}: their width and height may be right and bottom"]
    return []
