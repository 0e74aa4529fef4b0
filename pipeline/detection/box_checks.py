"""Which boxes of an image are valid, and what is wrong with the others.

In: boxes as the annotations have them. Out: boxes in pixels, clipped to their image, and faults by the kinds of
`data/problems.py`. Letters: N boxes of an image.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from pipeline.config.box_form import IGNORED, OTHERS
from pipeline.config.competition import Competition
from pipeline.detection.annotations.table import Annotated
from pipeline.detection.boxes import Boxes, clip_boxes, make_boxes

LEFT_OUT = -1  # in place of a class: names that BOXES.NAMES ignores
ALLOWED_PX = 1.0  # how far a box may reach beyond its image without a notice; rounding often causes this
# What BAD_BOXES: skip leaves out.
SKIPPED = ("box without numbers", "box inside out", "box without area", "box outside its image", "box twice")
UNKNOWN_CLASS = "class of a box unknown"


ORDER_OF = {
    "csv": "correct ORDER or COLUMNS of BOXES",
    "coco": "write left, top, width, height into `bbox`",
    "voc": "exchange xmin and xmax, or ymin and ymax",
    "yolo": "write centre x, centre y, width, height",
    "nuscenes": "write left, top, right, bottom into `bbox_corners`",
}
NOT_TURNED = "check that the image was not resized or rotated"
IN_PIXELS = "check that the numbers are not in pixels: YOLO files have fractions of the image's sides"


class Fault(NamedTuple):
    """What is wrong with a box: a kind of problem, and what was found where."""

    kind: str
    found: str


class Checked(NamedTuple):
    """The boxes of an image after the check.

    Attributes:
        boxes: the valid ones, clipped to the image.
        faults: those of the other boxes.
        num_clipped: boxes that reach beyond the image by more than `ALLOWED_PX`.
        num_before: boxes that begin one pixel before the image.
        num_left_out: boxes whose name is ignored.
    """

    boxes: Boxes
    faults: list[Fault]
    num_clipped: int
    num_before: int
    num_left_out: int


def class_indices(competition: Competition) -> tuple[dict[str, int], int | None]:
    """Returns the class of each name in lower case, and the class of all other names; None: these are unknown.

    `LEFT_OUT` is the class of names that are ignored. Without BOXES.NAMES a box is named as its
    class in CLASSES or CLASS_LABELS, in YOLO files by the class's index. In a csv without a column of classes the name
    is "".
    """
    form = competition.boxes
    if form.names is not None:
        index_of = {name: index for index, name in enumerate(competition.classes)} | {IGNORED: LEFT_OUT}
        listed = {
            name.casefold(): index_of[of] for of, names in form.names.items() if names != OTHERS for name in names
        }
        others = next((index_of[of] for of, names in form.names.items() if names == OTHERS), None)
        return listed, others
    if form.kind == "yolo":
        return {str(index): index for index in range(len(competition.classes))}, None
    indices = {label.casefold(): index for index, label in enumerate(competition.label_texts)}
    indices |= {name.casefold(): index for index, name in enumerate(competition.classes)}
    return indices | ({"": 0} if form.kind == "csv" and form.class_column is None else {}), None


def advice_of(competition: Competition) -> dict[str, str]:
    """Returns what the remedies of `data/problems.py` say of the competition's form of boxes, by their fields."""
    kind, classes = competition.boxes.kind, competition.classes
    is_yolo = kind == "yolo" and competition.boxes.names is None
    last = len(classes) - 1
    each = ", ".join(f"{name}: ['{index}']" for index, name in enumerate(classes[:2]))
    numbers = {"csv": f"{NOT_TURNED}, and correct ORDER and NORMALISED of BOXES", "yolo": f"{IN_PIXELS}; {NOT_TURNED}"}
    return {
        "a_class": f"the index of a class in CLASSES: 0 to {last}" if is_yolo else "the name or label of a class",
        "name_it": f"list the numbers of each class under NAMES of BOXES, as {each}{', ...' * (last > 1)}"
        if kind == "yolo"
        else "correct CLASSES or CLASS_LABELS, or list the names of each class under NAMES of BOXES,",
        "check_order": ORDER_OF[kind],
        "check_numbers": numbers.get(kind, NOT_TURNED),
    }


def check_boxes(
    given: Annotated, indices: Mapping[str, int], others: int | None, size: tuple[int, int], is_normalised: bool = False
) -> Checked:
    """Returns the valid boxes of an image, and what is wrong with the others; each box has one fault at most.

    Args:
        indices: the class of each name in lower case.
        others: the class of all other names; None: they are unknown.
        size: (height, width) of the image.
        is_normalised: whether the numbers are shares of the image's sides.
    """
    height, width = size
    numbers_N4 = given.numbers * np.array([width, height, width, height]) if is_normalised else given.numbers
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinite, which is a fault
        xyxy_N4 = numbers_N4.astype(np.float32)
    kept, classes, faults, seen, num_left_out = [], [], [], {}, 0
    for index, (label, place) in enumerate(zip(given.labels, given.places, strict=True)):
        class_index = indices.get(label.casefold(), others)
        if class_index == LEFT_OUT:
            num_left_out += 1
            continue
        key = (class_index, *xyxy_N4[index].tolist())
        if class_index is None:
            faults.append(Fault(UNKNOWN_CLASS, f"{place}: class {label!r}"))
        elif kind := _fault_of(xyxy_N4[index].tolist(), size):
            faults.append(Fault(kind, f"{place}: {_in_words(numbers_N4[index], size)}"))
        elif key in seen:
            faults.append(Fault("box twice", f"{place}: the same as {seen[key]}, {_in_words(numbers_N4[index], size)}"))
        else:
            seen[key] = place
            kept.append(index)
            classes.append(class_index)
    own_K4 = xyxy_N4[kept].reshape(-1, 4)
    beyond_K4 = np.abs(own_K4 - clip_boxes(own_K4, size))
    boxes = make_boxes(clip_boxes(own_K4, size), classes, given.is_crowd[kept])
    num_before = int((own_K4[:, :2] == -1).any(1).sum())
    return Checked(boxes, faults, int((beyond_K4.max(1, initial=0) > ALLOWED_PX).sum()), num_before, num_left_out)


def _fault_of(numbers: list[float], size: tuple[int, int]) -> str | None:
    """Returns the kind of fault of a single box; None: it is valid."""
    left, top, right, bottom = numbers
    height, width = size
    if not np.isfinite(numbers).all():
        return "box without numbers"
    if right < left or bottom < top:
        return "box inside out"
    if right == left or bottom == top:
        return "box without area"
    is_outside = right <= 0 or bottom <= 0 or left >= width or top >= height
    return "box outside its image" if is_outside else None


def _in_words(numbers_4: np.ndarray, size: tuple[int, int]) -> str:
    """Returns a box as text for a message.

    >>> _in_words(np.array([3.0, 4.5, 3.0, 9.0]), (10, 20))
    'left 3, top 4.5, right 3, bottom 9 in 20x10'
    """
    sides = zip(("left", "top", "right", "bottom"), numbers_4.tolist(), strict=True)
    return ", ".join(f"{side} {value:.6g}" for side, value in sides) + f" in {size[1]}x{size[0]}"
