"""The objects of a mask: numbered, separated where they touch, matched, and turned into borders.

In: the pixels of a class, bool (H, W), or files and rows of one object each. Out: numbers of objects, int32 (H, W), 0
for no object; and object maps, int32 (H, W), which hold object and class of each pixel: `number * 256 + class`. With
number 0 everywhere a map equals the index mask; functions such as `class_of` take either. Needs no torch.

Letters: H height, W width, K pairs of objects, T thresholds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import cv2
import numpy as np

from pipeline.config.competition import IGNORE, Competition, as_templates

NUMBER = 256  # factor on an object's number in an object map
SAME_IOU = 0.5  # objects of two maps with a higher IoU are the same; an object can have only one such partner
LEVELS = 32  # steps of probability in which a watershed grows
SQUARE = np.ones((3, 3), np.uint8)  # a pixel's eight neighbours


class Matches(NamedTuple):
    """Pairs of overlapping objects, (K,) each, and how many objects there are on both sides."""

    first: np.ndarray
    second: np.ndarray
    iou: np.ndarray
    num_first: int
    num_second: int


def class_of(map_HW: np.ndarray) -> np.ndarray:
    """Returns the index mask, uint8 (H, W), of an object map; an index mask is returned as it is.

    >>> class_of(np.array([[0, 257, 513, 255]], np.int32)).tolist()
    [[0, 1, 1, 255]]
    """
    return map_HW if map_HW.dtype == np.uint8 else (map_HW % NUMBER).astype(np.uint8)


def numbers_of(map_HW: np.ndarray, plane_HW: np.ndarray) -> np.ndarray:
    """Returns the numbers of the objects of a class; if the map has none, those of its connected components.

    Args:
        map_HW: an object map or index mask.
        plane_HW: bool, the pixels of the class.
    """
    if map_HW.dtype != np.uint8:
        numbers_HW = np.where(plane_HW, map_HW // NUMBER, 0)
        if numbers_HW.any():
            return numbers_HW
    return components(plane_HW)


def components(plane_HW: np.ndarray) -> np.ndarray:
    """Returns the connected components of a plane, int32 from 1 on; pixels that touch at a corner are connected."""
    return cv2.connectedComponents(plane_HW.astype(np.uint8), connectivity=8)[1]


def watershed(plane_HW: np.ndarray, core_HW: np.ndarray, probs_HW: np.ndarray) -> np.ndarray:
    """Returns objects grown from their cores, int32 from 1 on: each connected component of the cores is a seed.

    Seeds grow into the plane from high to low probability, in steps of 1 / `LEVELS`; within a step, all at the same
    speed. A component without a seed is an object of its own.

    Source: Vincent & Soille 1991, flooding level by level. scikit-image's `watershed(-probs, seeds, mask=plane)` floods
    pixel by pixel, so lines between objects may differ by a pixel.

    Args:
        plane_HW: bool, the pixels of the class.
        core_HW: bool; pixels outside the plane do not count.
        probs_HW: float32, the probability of the class.
    """
    whole_HW, seeds_HW = components(plane_HW), components(core_HW & plane_HW)
    pairs = np.unique(whole_HW[seeds_HW > 0].astype(np.int64) * (seeds_HW.max() + 1) + seeds_HW[seeds_HW > 0])
    num_seeds = np.bincount(pairs // (seeds_HW.max() + 1), minlength=whole_HW.max() + 1)
    num_seeds[0] = 0
    has_several_HW = num_seeds[whole_HW] > 1
    numbers_HW = np.where(has_several_HW, seeds_HW, whole_HW + (whole_HW > 0) * seeds_HW.max()).astype(np.int32)
    if has_several_HW.any():
        rows, columns = (np.flatnonzero(has_several_HW.any(axis)) for axis in (1, 0))
        box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        numbers_HW[box] = np.where(
            has_several_HW[box], _grown(seeds_HW[box], has_several_HW[box], probs_HW[box]), numbers_HW[box]
        )
    return numbers_HW


def _grown(seeds_HW: np.ndarray, plane_HW: np.ndarray, probs_HW: np.ndarray) -> np.ndarray:
    """Returns seeds grown over a whole plane; each of its components has one seed or more.

    A pixel is visited once a neighbour is reached; those of lower levels are in `waiting` until their turn.
    A pixel that several objects reach at once belongs to the one of the highest number.
    """
    grown_HW = np.pad(np.where(plane_HW, seeds_HW, 0), 1)  # a frame, so that every pixel has eight neighbours
    grown_N, width = grown_HW.ravel(), grown_HW.shape[1]
    beside_8 = np.array([-width - 1, -width, -width + 1, -1, 1, width - 1, width, width + 1])
    levels_N = np.pad((np.clip(probs_HW, 0, 1) * (LEVELS - 1)).astype(np.int64), 1).ravel()
    is_free_N, marks_N = np.pad(plane_HW, 1).ravel() & (grown_N == 0), np.zeros(grown_N.size, np.int64)
    waiting: list[list[np.ndarray]] = [[] for _ in range(LEVELS)]

    def next_to(places: np.ndarray, level: int) -> np.ndarray:
        """Returns free neighbours of this level or a higher one; those of lower levels wait."""
        found = (places[:, None] + beside_8).ravel()
        found = found[is_free_N[found]]
        marks_N[found] = np.arange(found.size)
        found = found[marks_N[found] == np.arange(found.size)]  # each once
        is_free_N[found] = False
        own = levels_N[found]
        for lower in np.unique(own[own < level]).tolist():
            waiting[lower].append(found[own == lower])
        return found[own >= level]

    next_to(np.flatnonzero(grown_N), LEVELS)
    for level in reversed(range(LEVELS)):
        reached = np.concatenate([*waiting[level], np.empty(0, np.int64)])
        while reached.size:
            grown_N[reached] = grown_N[reached[:, None] + beside_8].max(1)
            reached = next_to(reached, level)
    return grown_HW[1:-1, 1:-1].astype(np.int32)


def without_small(numbers_HW: np.ndarray, min_size: int) -> np.ndarray:
    """Returns numbers of objects; objects of fewer pixels than `min_size` become 0.

    >>> without_small(np.array([[1, 1, 0, 2]], np.int32), 2).tolist()
    [[1, 1, 0, 0]]
    """
    sizes = np.bincount(numbers_HW.ravel())
    return np.where(sizes[numbers_HW] >= min_size, numbers_HW, 0).astype(np.int32)


def object_map(mask_HW: np.ndarray, numbers_by_class: Mapping[int, np.ndarray]) -> np.ndarray:
    """Returns the object map of an index mask and the numbers of the objects of some of its classes.

    A pixel of such a class that is in no object becomes class 0. Objects get new numbers, see `renumbered`.
    """
    map_HW, first = mask_HW.astype(np.int32), 0
    map_HW[np.isin(mask_HW, list(numbers_by_class))] = 0
    for index, numbers_HW in numbers_by_class.items():
        is_object_HW = numbers_HW > 0
        map_HW[is_object_HW] = (numbers_HW[is_object_HW] + first) * NUMBER + index
        first += int(numbers_HW.max(initial=0))
    return renumbered(map_HW)


def paint_objects(size: tuple[int, int], objects: Iterable[tuple[int, np.ndarray]]) -> np.ndarray:
    """Returns the object map of (class, pixels) of each object; a later one covers those before it.

    Args:
        size: (height, width).
        objects: the pixels are bool (H, W); those of class `IGNORE` are of no object.

    >>> one, two = np.array([[True, True, False]]), np.array([[False, True, True]])
    >>> paint_objects((1, 3), [(1, one), (1, two)]).tolist()
    [[257, 513, 513]]
    """
    map_HW = np.zeros(size, np.int32)
    for number, (index, plane_HW) in enumerate(objects, start=1):
        map_HW[plane_HW] = index if index == IGNORE else number * NUMBER + index
    return map_HW


def numbered_map(mask_HW: np.ndarray, stored_HW: np.ndarray) -> np.ndarray:
    """Returns the object map of an index mask whose file stores a number for each object.

    Args:
        mask_HW: uint8; class 0 and `IGNORE` are of no object.
        stored_HW: integers of any kind; equal ones are one object.
    """
    is_object_HW, map_HW = (mask_HW > 0) & (mask_HW != IGNORE), mask_HW.astype(np.int32)
    numbers = np.unique(stored_HW[is_object_HW], return_inverse=True)[1].reshape(-1) + 1
    map_HW[is_object_HW] += (numbers * NUMBER).astype(np.int32)
    return map_HW


def objects_in_files(files: Iterable[tuple[np.ndarray, np.ndarray]], competition: Competition) -> np.ndarray:
    """Returns the object map of an image's mask files.

    With MASK_VALUES: objects each stored value is an object. Otherwise each file is an object if a template of
    MASKS has a `*` in the file's name, or else each connected component of a class.

    Args:
        files: of each, the stored values and the class indices, uint8 (H, W).
    """
    templates = as_templates(competition.masks)
    if competition.mask_values == "objects":
        joined_HW = None
        for stored_HW, mask_HW in files:
            map_HW = numbered_map(mask_HW, stored_HW)
            joined_HW = map_HW if joined_HW is None else _with_more(joined_HW, map_HW)
        return joined_HW
    masks = [mask_HW for _, mask_HW in files]
    if any("*" in template.rpartition("/")[2] for template in templates):
        parts = ((int(index), mask == index) for mask in masks for index in np.unique(mask) if index > 0)
        return paint_objects(masks[0].shape, parts)
    mask_HW = join_files(masks)
    return object_map(mask_HW, {index: components(mask_HW == index) for index in competition.scored_indices})


def join_files(masks: Sequence[np.ndarray]) -> np.ndarray:
    """Returns the index masks of several files as one: pixels of a later file cover earlier ones unless of class 0."""
    first, *others = masks
    for mask in others:
        first = np.where(mask == 0, first, mask)
    return first


def _with_more(map_HW: np.ndarray, other_HW: np.ndarray) -> np.ndarray:
    """Returns an object map covered by the objects of another one, which get new numbers."""
    highest = int(map_HW.max(initial=0)) // NUMBER * NUMBER
    return np.where(other_HW == 0, map_HW, other_HW + (other_HW >= NUMBER) * highest).astype(np.int32)


def renumbered(map_HW: np.ndarray) -> np.ndarray:
    """Returns an object map whose objects are numbered from 1 on by their top row, then by its left pixel.

    >>> renumbered(np.array([[0, 1793, 257], [0, 0, 257]], np.int32)).tolist()
    [[0, 257, 513], [0, 0, 513]]
    """
    codes, firsts, places = np.unique(map_HW, return_index=True, return_inverse=True)
    is_object = codes >= NUMBER
    ranks = np.zeros(len(codes), np.int32)
    ranks[np.flatnonzero(is_object)[np.argsort(firsts[is_object])]] = np.arange(1, is_object.sum() + 1)
    return (ranks * NUMBER + codes % NUMBER).astype(np.int32)[places].reshape(map_HW.shape)


def digest_objects(map_HW: np.ndarray, classes: Sequence[int]) -> bytes:
    """Returns a hash of the objects of some classes that does not depend on their numbers."""
    is_object_HW = (map_HW >= NUMBER) & np.isin(map_HW % NUMBER, list(classes))
    return hashlib.sha256(renumbered(np.where(is_object_HW, map_HW, 0)).tobytes()).digest()


def borders(map_HW: np.ndarray, width: int) -> np.ndarray:
    """Returns the pixels with two objects within `width` pixels (a square window): bool (H, W).

    Source: the winners of Data Science Bowl 2018 (topcoders, `create_masks.py`) trained such pixels as a channel of
    their own, wider between larger objects; here one width is given.

    >>> borders(np.array([[257, 257, 513, 513, 0, 0]], np.int32), 1)[0].astype(int).tolist()
    [0, 1, 1, 0, 0, 0]
    """
    numbers_HW = (map_HW // NUMBER).astype(np.float32)  # OpenCV dilates no int32
    window = np.ones((2 * width + 1, 2 * width + 1), np.uint8)
    beyond = numbers_HW.max(initial=0) + 1
    highest = cv2.dilate(numbers_HW, window)
    lowest = cv2.erode(np.where(numbers_HW > 0, numbers_HW, beyond), window)
    return (highest > 0) & (lowest < highest)


def outlines(map_HW: np.ndarray) -> np.ndarray:
    """Returns the object pixels beside another object, beside no object or at the image's edge: bool (H, W)."""
    numbers_HW = np.pad((map_HW // NUMBER).astype(np.float32), 1)
    is_edge_HW = cv2.erode(numbers_HW, SQUARE) != cv2.dilate(numbers_HW, SQUARE)
    return (is_edge_HW & (numbers_HW > 0))[1:-1, 1:-1]


def parted(map_HW: np.ndarray) -> np.ndarray:
    """Returns the index mask of an object map, uint8 (H, W), with a line of `IGNORE` between touching objects."""
    if map_HW.dtype == np.uint8:
        return map_HW
    return np.where(borders(map_HW, 1), np.uint8(IGNORE), class_of(map_HW))


def match_objects(first_HW: np.ndarray, second_HW: np.ndarray) -> Matches:
    """Returns the IoU of each pair of objects that overlap.

    >>> one, two = np.array([[1, 1, 1, 0, 4]], np.int32), np.array([[0, 2, 2, 2, 0]], np.int32)
    >>> match_objects(one, two).iou.tolist(), match_objects(one, two)[3:]
    ([0.5], (2, 1))
    """
    base = int(second_HW.max(initial=0)) + 1
    is_both_HW = (first_HW > 0) & (second_HW > 0)
    codes, shared = np.unique(first_HW[is_both_HW].astype(np.int64) * base + second_HW[is_both_HW], return_counts=True)
    sizes = [np.bincount(numbers.ravel()) for numbers in (first_HW, second_HW)]
    both = (codes // base, codes % base)
    totals = sum(own[indices] for own, indices in zip(sizes, both, strict=True))
    return Matches(*both, shared / (totals - shared), *(int((own[1:] > 0).sum()) for own in sizes))


def like_first(first_HW: np.ndarray, second_HW: np.ndarray) -> np.ndarray:
    """Returns the second object map; objects that are the same in both maps get their number in the first.

    Where the result differs from the first map, the pixel has another class or object.
    """
    firsts, seconds, iou, *_ = match_objects(first_HW // NUMBER, second_HW // NUMBER)
    numbers = np.arange(second_HW.max(initial=0) // NUMBER + 1) + first_HW.max(initial=0) // NUMBER + 1
    numbers[0] = 0
    numbers[seconds[iou > SAME_IOU]] = firsts[iou > SAME_IOU]
    return (numbers[second_HW // NUMBER] * NUMBER + second_HW % NUMBER).astype(np.int32)
