"""Boxes as labels: counted by class and size, and described in the catalog and in classes.csv.

Letters: N boxes, C classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.config.competition import Competition
from pipeline.data.images import Inspection
from pipeline.detection.boxes import Boxes, areas

# Areas in square pixels from which on a box is medium, and large, as in COCO's evaluation.
MEDIUM, LARGE = 32**2, 96**2
SIZES = ("small", "medium", "large")
MOST_DETECTIONS = 100  # of an image, as many as COCO's evaluation takes
BYTES_PER_DETECTION = 4 * (4 + 1 + 1)  # four sides, score, class


class BoxCounts(NamedTuple):
    """How many boxes an image has.

    Attributes:
        by_size: int64 (C, 3): small, medium and large boxes, without crowds.
        crowds: regions that are labelled as many objects.
    """

    by_size: np.ndarray
    crowds: int


def count_boxes(boxes: Boxes, num_classes: int) -> BoxCounts:
    """Returns how many boxes of each class and size there are.

    >>> from pipeline.detection.boxes import make_boxes
    >>> count_boxes(make_boxes([[0, 0, 9, 9], [0, 0, 40, 40], [0, 0, 5, 5]], [1, 1, 0], [0, 0, 1]), 2).by_size.tolist()
    [[0, 0, 0], [1, 1, 0]]
    """
    own = boxes.keep(~boxes.is_crowd)
    sizes_N = np.digitize(areas(own.xyxy), (MEDIUM, LARGE))
    by_size = np.zeros((num_classes, len(SIZES)), np.int64)
    np.add.at(by_size, (own.classes, sizes_N), 1)
    return BoxCounts(by_size, int(boxes.is_crowd.sum()))


def size_words(sides_N: np.ndarray) -> str:
    """Returns how large boxes are, in words, from the roots of their areas in pixels.

    >>> size_words(np.array([10.0, 20.0, 50.0, 100.0]))
    'boxes by size: 50 % small (below 32x32 px), 25 % medium, 25 % large (96x96 px or more); median side 35 px'
    """
    counts = np.bincount(np.digitize(sides_N**2, (MEDIUM, LARGE)), minlength=len(SIZES))
    small, medium, large = (f"{share:.0f} %" for share in 100 * counts / len(sides_N))
    sizes = f"{small} small (below 32x32 px), {medium} medium, {large} large (96x96 px or more)"
    return f"boxes by size: {sizes}; median side {np.median(sides_N):.3g} px"


def find_box_facts(competition: Competition, folder: Path) -> dict[str, Any]:
    """Returns nothing: BOXES describes completely how boxes are stored."""
    return {}


def describe_box_facts(competition: Competition, facts: Mapping[str, Any]) -> list[str]:
    """Returns nothing: `find_box_facts` finds nothing."""
    return []


def box_columns(competition: Competition) -> list[str]:
    """Returns the catalog's columns of boxes: of each class all, the small and the medium ones; then the crowds."""
    classes = range(competition.num_classes)
    return [*(f"{of}_{index}" for of in ("boxes", "small", "medium") for index in classes), "crowds"]


def box_counts(competition: Competition, inspection: Inspection) -> list[int]:
    """Returns the values of `box_columns`."""
    counts: BoxCounts | None = inspection.counts
    if counts is None:
        return [0] * len(box_columns(competition))
    small_C, medium_C, _ = counts.by_size.T
    return [*map(int, (*counts.by_size.sum(1), *small_C, *medium_C)), counts.crowds]


def box_notices(competition: Competition, catalog: pd.DataFrame) -> list[str]:
    """Returns what is unusual but not wrong: classes without a box, images without boxes."""
    boxes, notices = _counts(catalog, "boxes"), []
    unseen = [name for name, count in zip(competition.class_names, boxes.sum(0), strict=True) if count == 0]
    if unseen:
        notices.append(f"no image has a box of {', '.join(unseen)}; the network cannot learn these classes")
    blank = catalog["id"][(boxes.sum(1) == 0) & (catalog["crowds"] == 0)]
    if len(blank):
        notices.append(f"images without a box: {len(blank):,} (first: {blank.iloc[0]}); they are trained as background")
    return notices


def class_presence(catalog: pd.DataFrame) -> np.ndarray:
    """Returns which classes each image has a box of: bool, images x classes."""
    return _counts(catalog, "boxes") > 0


def class_table(catalog: pd.DataFrame, split: pd.DataFrame, competition: Competition) -> pd.DataFrame:
    """Returns a row per class, in index order.

    Columns: index, name, red, green, blue; over all images those with a box of the class, its boxes, and their share
    of all boxes (0..1); small, medium, large: its boxes of these sizes; train_images and valid_images: the images with
    a box of it on each side of the split.
    """
    names = competition.class_names
    boxes_NC, small_NC, medium_NC = (_counts(catalog, of) for of in ("boxes", "small", "medium"))
    num_boxes_C = boxes_NC.sum(0)
    table = pd.DataFrame({"index": range(len(names)), "name": names})
    table[["red", "green", "blue"]] = [list(color) for color in competition.colors[: len(names)]]
    table["images"] = (boxes_NC > 0).sum(0)
    table["boxes"] = num_boxes_C
    table["box_share"] = num_boxes_C / max(1, int(num_boxes_C.sum()))
    table["small"], table["medium"] = small_NC.sum(0), medium_NC.sum(0)
    table["large"] = num_boxes_C - table["small"] - table["medium"]
    for side in ("train", "valid"):
        is_side = catalog["id"].isin(split["id"][split["subset"] == side]).to_numpy()
        table[f"{side}_images"] = (boxes_NC[is_side] > 0).sum(0)
    return table


def _counts(catalog: pd.DataFrame, of: str) -> np.ndarray:
    """Returns the catalog's counts of boxes, all, small or medium ones: int64, images x classes."""
    return catalog.filter(regex=rf"^{of}_\d+$").to_numpy(np.int64)


def float32_bytes(competition: Competition, sizes: Iterable[tuple[int, int]]) -> int:
    """Returns the maximum size in bytes of the uncompressed detections of images of these sizes (height, width)."""
    return sum(MOST_DETECTIONS * BYTES_PER_DETECTION for _ in sizes)
