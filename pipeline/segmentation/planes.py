"""Masks with any number of classes per pixel, as planes: how much of each class a pixel has.

A plane is uint8: 0 where the class is not, `FULL` where it is, a share of `FULL` where annotators disagree, `IGNORE`
where it is not known. `FULL` is 240, which 2, 3, 4, 5, 6, 8, 10 and 12 divide: with as many annotators, shares are
exact. A pixel has the class if its value is half of `FULL` or more.

Letters: H height, W width, C classes, A annotators.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import cv2
import numpy as np

from pipeline.config.competition import IGNORE

FULL, HALF = 240, 120
NO_CLASS = 254  # in `striped`: a pixel without a class
STRIPE_PX = 8  # width of a stripe where classes overlap


def is_present(planes: np.ndarray) -> np.ndarray:
    """Returns where classes are: bool, of the shape of the planes.

    >>> is_present(np.array([0, 119, 120, 240, 255], np.uint8)).tolist()
    [False, False, True, True, False]
    """
    return (planes >= HALF) & (planes != IGNORE)


def from_bool(is_class: np.ndarray) -> np.ndarray:
    """Returns planes of pixels that are a class or not: uint8 of the same shape."""
    return is_class.astype(np.uint8) * np.uint8(FULL)


def from_masks(masks: Mapping[int, np.ndarray], size: tuple[int, int], num_classes: int) -> np.ndarray:
    """Returns planes (H, W, C) from pixels, bool (H, W), by class index; those of `IGNORE` are set in all planes."""
    planes = np.zeros((*size, num_classes), np.uint8)
    for index, is_class in masks.items():
        if index != IGNORE:
            planes[is_class, index] = FULL
    if IGNORE in masks:
        planes[masks[IGNORE]] = IGNORE
    return planes


def count_planes(planes_HWC: np.ndarray, inside_HW: np.ndarray | None = None) -> np.ndarray:
    """Returns the pixels of each class, int64 [256]; at `IGNORE` those that are ignored in all planes.

    Args:
        inside_HW: only pixels where it is not 0 are counted; None: all.

    >>> planes = np.array([[[240, 240], [0, 240], [255, 255]]], np.uint8)
    >>> count_planes(planes)[[0, 1, 255]].tolist()
    [1, 2, 1]
    """
    chosen = planes_HWC if inside_HW is None else planes_HWC[inside_HW > 0]
    counts, num_classes = np.zeros(256, np.int64), planes_HWC.shape[-1]
    counts[:num_classes] = is_present(chosen).reshape(-1, num_classes).sum(0)
    counts[IGNORE] = (chosen == IGNORE).all(-1).sum()
    return counts


def count_matches(truth_HWC: np.ndarray, predicted_HWC: np.ndarray) -> np.ndarray:
    """Returns correct, true and predicted pixels of each class, int64 (3, C), where the truth is not ignored.

    >>> count_matches(np.array([[[240, 0]]], np.uint8), np.array([[[240, 240]]], np.uint8)).tolist()
    [[1, 0], [1, 0], [1, 1]]
    """
    is_true, is_predicted = is_present(truth_HWC), is_present(predicted_HWC) & (truth_HWC != IGNORE)
    return np.stack([part.sum((0, 1)) for part in (is_true & is_predicted, is_true, is_predicted)])


def from_index(mask_HW: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns an index mask as planes: all of a pixel is of its class; what is ignored is so in all planes.

    >>> from_index(np.array([[1, 255]], np.uint8), 2).tolist()
    [[[0, 240], [255, 255]]]
    """
    rows = np.zeros((256, num_classes), np.uint8)
    rows[np.arange(num_classes), np.arange(num_classes)] = FULL
    rows[IGNORE] = IGNORE
    return rows[mask_HW]


def alike(masks: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Returns the masks of a batch; if some of them are planes, all as planes."""
    num_classes = {mask.shape[2] for mask in masks if mask.ndim == 3}
    if not num_classes or all(mask.ndim == 3 for mask in masks):
        return masks
    return [mask if mask.ndim == 3 else from_index(mask, *num_classes) for mask in masks]


def most_of(planes_HWC: np.ndarray) -> np.ndarray:
    """Returns the class that has most of each pixel, the first on a tie: uint8 (H, W), `IGNORE` where all are ignored.

    >>> most_of(np.array([[[100, 140], [255, 255]]], np.uint8)).tolist()
    [[1, 255]]
    """
    return np.where((planes_HWC == IGNORE).all(-1), np.uint8(IGNORE), planes_HWC.argmax(-1).astype(np.uint8))


def as_index(planes_HWC: np.ndarray) -> np.ndarray:
    """Returns 0 where any class is, else `IGNORE`: uint8 (H, W)."""
    return np.where(is_present(planes_HWC).any(-1), np.uint8(0), np.uint8(IGNORE))


def join(parts: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the planes of several files as one: a class is where any file has it; ignored stays ignored."""
    first, *others = parts
    for planes in others:
        first = np.maximum(first, planes)
    return first


def mean_share(parts_AHWC: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the mean of several annotators' planes over those who did not ignore the pixel.

    >>> mean_share([np.uint8([240, 255, 255]), np.uint8([0, 240, 255]), np.uint8([0, 0, 255])]).tolist()
    [80, 120, 255]
    """
    total, known = np.zeros(parts_AHWC[0].shape, np.uint16), np.zeros(parts_AHWC[0].shape, np.uint8)
    for planes in parts_AHWC:
        is_known = planes != IGNORE
        total += np.where(is_known, planes, 0)
        known += is_known
    share = (total + known // 2) // np.maximum(known, 1)
    return np.where(known > 0, share, IGNORE).astype(np.uint8)


def majority(parts_AHWC: Sequence[np.ndarray]) -> np.ndarray:
    """Returns planes of what half or more of the annotators mark, counting those who did not ignore the pixel."""
    share = mean_share(parts_AHWC)
    return np.where(share == IGNORE, share, from_bool(is_present(share)))


def majority_index(masks_AHW: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the index mask, uint8 (H, W), of the class that most annotators choose; a tie goes to the first of them.

    >>> majority_index([np.uint8([1, 2, 255]), np.uint8([0, 2, 255]), np.uint8([0, 1, 3])]).tolist()
    [0, 2, 3]
    """
    best, most = masks_AHW[0].copy(), np.zeros(masks_AHW[0].shape, np.uint8)
    for mask in masks_AHW:
        votes = sum((other == mask).astype(np.uint8) for other in masks_AHW) * (mask != IGNORE)
        is_better = votes > most
        best[is_better], most[is_better] = mask[is_better], votes[is_better]
    return best


def classes_in(planes_HWC: np.ndarray) -> list[int]:
    """Returns the classes in planes, and `IGNORE` if some pixel is ignored in all of them."""
    counts = count_planes(planes_HWC)
    return np.flatnonzero(counts).tolist()


def striped(planes_HWC: np.ndarray) -> np.ndarray:
    """Returns an index mask to be drawn: classes that overlap alternate in diagonal stripes.

    uint8 (H, W): `NO_CLASS` where there is no class, `IGNORE` where all planes are ignored.
    """
    height, width, num_classes = planes_HWC.shape
    present = is_present(planes_HWC)
    number = present.sum(-1, dtype=np.uint8)
    stripe = (np.add.outer(np.arange(height), np.arange(width)) // STRIPE_PX).astype(np.uint16)
    wanted = stripe % np.maximum(number, 1)  # which of the pixel's classes is shown
    rank = present.cumsum(-1, dtype=np.uint8) - 1
    drawn = np.full((height, width), NO_CLASS, np.uint8)
    for index in range(num_classes):
        drawn[present[..., index] & (rank[..., index] == wanted)] = index
    drawn[(planes_HWC == IGNORE).all(-1)] = IGNORE
    return drawn


def resize_planes(planes_HWC: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns planes at (width, height), by nearest pixel."""
    parts = [cv2.resize(plane, size, interpolation=cv2.INTER_NEAREST_EXACT) for plane in np.moveaxis(planes_HWC, -1, 0)]
    return np.stack(parts, -1)
