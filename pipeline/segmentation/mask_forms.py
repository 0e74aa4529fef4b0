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
from pipeline.config.mask_code import MaskCode, mask_code
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
    return MaskForm(  # of functions that can be pickled, as where data-loading workers are not forked
        code=repr(code) if competition.annotators is None else repr((code, competition.annotators)),
        blank=_blank,
        of_runs=_painted,
        read=partial(_read, code=code),
        inspect=partial(_inspect, competition=competition, code=code),
        join=join_files,
        combine=planes.majority_index,
        counts=count_values,
    )


def _plane_form(competition: Competition) -> MaskForm:
    num_classes, values = competition.num_classes, competition.mask_values
    order = competition.class_names if isinstance(values, dict) else num_classes  # values are given by name
    return MaskForm(
        code=repr((order, values, competition.annotators)),
        blank=partial(_blank_planes, num_classes=num_classes),
        of_runs=partial(planes.from_masks, num_classes=num_classes),
        read=partial(_read_planes, competition=competition),
        inspect=partial(_inspect_planes, competition=competition),
        join=planes.join,
        combine=planes.mean_share if competition.annotators == "mean" else planes.majority,
        counts=planes.count_planes,
    )


def _blank(size: Size) -> np.ndarray:
    return np.full(size, BACKGROUND, np.uint8)


def _blank_planes(size: Size, num_classes: int) -> np.ndarray:
    return np.zeros((*size, num_classes), np.uint8)


def _read(path: Path, class_index: int | None, code: MaskCode) -> np.ndarray:
    return of_class(read_mask(path, code if class_index is None else ONE_CLASS), class_index)


def _read_planes(path: Path, class_index: int | None, competition: Competition) -> np.ndarray:
    return read_planes(path, competition, class_index)


def _inspect(
    path: Path, file: str, class_index: int | None, competition: Competition, code: MaskCode
) -> tuple[Inspection, np.ndarray | None]:
    seen, mask = inspect_mask(path, file, competition, code, class_index is not None)
    return seen, mask if mask is None else of_class(mask, class_index)


def _inspect_planes(
    path: Path, file: str, class_index: int | None, competition: Competition
) -> tuple[Inspection, np.ndarray | None]:
    return inspect_planes(path, file, competition, class_index)


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
