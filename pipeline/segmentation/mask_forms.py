"""How masks are held in memory, as records of functions: one class per pixel, or planes for any number of them.

`MaskSource` finds what belongs to an image; a form turns files and run lengths into a mask.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from pipeline.config.competition import Competition
from pipeline.config.mask_code import mask_code
from pipeline.data.images import Inspection
from pipeline.segmentation import planes
from pipeline.segmentation.inspect_mask import inspect_mask
from pipeline.segmentation.labels import ONE_CLASS, count_values, read_mask
from pipeline.segmentation.objects import join_files
from pipeline.segmentation.plane_files import inspect_planes, read_planes

BACKGROUND = 0

Size = tuple[int, int]  # (height, width)


@dataclass(frozen=True)
class MaskForm:
    """What differs between forms of masks.

    Attributes:
        code: what the values in files mean, as text for a hash.
        blank: (size) to a mask without any class.
        of_runs: ({class index: bool (H, W)}, size) to a mask; the arrays are used up.
        read: (path, class index) to the mask of a file of that class; None: a file of all classes.
        inspect: (path, name for messages, class index or None) to an `Inspection`, and the mask or None if bad.
        join: (masks of several files of an image) to one mask.
        combine: (masks of several annotators) to one mask, as ANNOTATORS says.
        counts: (mask) to the pixels of each class, int64 [256].
    """

    code: str
    blank: Callable[[Size], np.ndarray]
    of_runs: Callable[[Mapping[int, np.ndarray], Size], np.ndarray]
    read: Callable[[Path, int | None], np.ndarray]
    inspect: Callable[[Path, str, int | None], tuple[Inspection, np.ndarray | None]]
    join: Callable[[Sequence[np.ndarray]], np.ndarray]
    combine: Callable[[Sequence[np.ndarray]], np.ndarray]
    counts: Callable[[np.ndarray], np.ndarray]


def mask_form(competition: Competition) -> MaskForm:
    """Returns the form of a competition's masks: LABELS says which."""
    if competition.is_multilabel:
        return _plane_form(competition)
    code = mask_code(competition)

    def read(path: Path, class_index: int | None) -> np.ndarray:
        mask = read_mask(path, code if class_index is None else ONE_CLASS)
        return of_class(mask, class_index)

    def inspect(path: Path, file: str, class_index: int | None) -> tuple[Inspection, np.ndarray | None]:
        seen, mask = inspect_mask(path, file, competition, code, class_index is not None)
        return seen, mask if mask is None else of_class(mask, class_index)

    return MaskForm(
        code=repr(code) if competition.annotators is None else repr((code, competition.annotators)),
        blank=lambda size: np.full(size, BACKGROUND, np.uint8),
        of_runs=_painted,
        read=read,
        inspect=inspect,
        join=join_files,
        combine=planes.majority_index,
        counts=count_values,
    )


def _plane_form(competition: Competition) -> MaskForm:
    num_classes, values = competition.num_classes, competition.mask_values
    order = competition.class_names if isinstance(values, dict) else num_classes  # values are given by name
    return MaskForm(
        code=repr((order, values, competition.annotators)),
        blank=lambda size: np.zeros((*size, num_classes), np.uint8),
        of_runs=partial(planes.from_masks, num_classes=num_classes),
        read=lambda path, class_index: read_planes(path, competition, class_index),
        inspect=lambda path, file, class_index: inspect_planes(path, file, competition, class_index),
        join=planes.join,
        combine=planes.mean_share if competition.annotators == "mean" else planes.majority,
        counts=planes.count_planes,
    )


def of_class(mask: np.ndarray, class_index: int | None) -> np.ndarray:
    """Returns the mask of a file of one class; with None, the mask as it is."""
    return mask if class_index is None else np.where(mask == BACKGROUND, BACKGROUND, class_index).astype(np.uint8)


def _painted(masks: Mapping[int, np.ndarray], size: Size) -> np.ndarray:
    """Returns an index mask of the pixels of each class; where classes overlap, the last one stays.

    The mask is painted into the pixels of the first class: of a large image another array would not fit.
    """
    if not masks:
        return np.full(size, BACKGROUND, np.uint8)
    first, *others = sorted(masks)
    mask = masks[first].view(np.uint8)
    np.multiply(mask, first, out=mask, casting="unsafe")
    for index in others:
        mask[masks[index]] = index
    return mask
