"""Rules for the connected components of a decoded class: small ones, holes, the largest one, sure and unsure pixels.

In: predictions of an image, its decoded mask, and rules. Out: the mask with the rules applied. Pixels that touch at a
corner are connected; a hole is what a class encloses without a gap, diagonal ones included.

    hysteresis   a component stays if one of its pixels has a probability of `high` or more; pixels of `low` or more
                 are added to it first. Source: Canny 1986, "A Computational Approach to Edge Detection".
    largest      only the component of most pixels stays
    min_area     components below a share of the image's pixels are dropped
    fill_holes   holes of up to a share of the image's pixels are filled

Where a pixel has one class, a dropped pixel goes to its next best class and an added one is taken from its class. Where
it may have several, other classes are not touched. Probabilities are the mean over the members.

Letters: C classes, H rows, W columns, R rows of a block.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence

import cv2
import numpy as np

from pipeline.config.component_rules import ComponentRule
from pipeline.segmentation.ensemble import Recipe, combine, mean_probs, next_best
from pipeline.segmentation.planes import FULL, is_present
from pipeline.segmentation.predict import Prediction


def with_components(
    predictions: Sequence[Prediction],
    recipe: Recipe,
    mask: np.ndarray,
    rules: Sequence[ComponentRule],
    excluded: Sequence[int] = (),
) -> np.ndarray:
    """Returns a decoded mask, uint8 (H, W) or planes (H, W, C), with rules applied in their order.

    Args:
        mask: decoded by the recipe; it is not changed.
        excluded: classes that may not be chosen.
    """
    if not rules:
        return mask
    changing = Changing(predictions, recipe, mask, excluded, {rule.class_index for rule in rules})
    for rule in rules:
        plane_HW = changing.plane(rule.class_index)
        changing.put(rule.class_index, plane_HW, apply_rule(rule, plane_HW, changing.probs_for([rule])))
    return changing.mask


class Changing:
    """A mask while rules change it.

    Args:
        classes: those that have rules.
    """

    def __init__(
        self,
        predictions: Sequence[Prediction],
        recipe: Recipe,
        mask: np.ndarray,
        excluded: Sequence[int],
        classes: Iterable[int],
    ) -> None:
        self.predictions, self.recipe, self.first, self.mask = predictions, recipe, mask, mask.copy()
        self.excluded, self.classes = tuple(excluded), sorted(classes)
        self.second: np.ndarray | None = None
        self.dropped: dict[int, np.ndarray] = {}
        self.probs: dict[int, np.ndarray] = {}

    def copy(self) -> Changing:
        """Returns the same, whose mask can be changed by itself; what was computed so far is shared."""
        if self.second is None and self.mask.ndim == 2:
            self.second = next_best(self.predictions, self.recipe, self.excluded)
        other = copy.copy(self)
        other.mask, other.dropped = self.mask.copy(), dict(self.dropped)
        return other

    def plane(self, index: int) -> np.ndarray:
        """Returns where a class is now: bool (H, W)."""
        return self.mask == index if self.mask.ndim == 2 else is_present(self.mask[..., index])

    def probs_for(self, rules: Sequence[ComponentRule]) -> np.ndarray | None:
        """Returns the mean probability of the rules' class, float32 (H, W), or None if they do not need it."""
        indices = [rule.class_index for rule in rules if rule.name == "hysteresis"]
        if not indices:
            return None
        if indices[0] not in self.probs:
            probs_HW = np.empty(self.mask.shape[:2], np.float32)
            for top, bottom, probs_CRW in mean_probs(self.predictions):
                probs_HW[top:bottom] = probs_CRW[indices[0]].numpy()
            self.probs = {indices[0]: probs_HW}  # of one class at a time: rules come by class
        return self.probs[indices[0]]

    def put(self, index: int, before_HW: np.ndarray, after_HW: np.ndarray) -> None:
        """Changes where a class is."""
        if self.mask.ndim == 3:
            self.mask[..., index] = np.where(before_HW == after_HW, self.mask[..., index], after_HW * np.uint8(FULL))
            return
        lost_HW = before_HW & ~after_HW
        if lost_HW.any():
            self.mask[lost_HW] = self._others(index, lost_HW)
        self.mask[after_HW & ~before_HW] = index

    def _others(self, index: int, lost_HW: np.ndarray) -> np.ndarray:
        """Returns the class that pixels get which a class loses: uint8 (pixels,)."""
        num_classes = len(self.predictions[0].logits)
        if len(self.excluded) >= num_classes - 1:
            return np.full(np.count_nonzero(lost_HW), index, np.uint8)  # there is no other class
        if self.second is None:
            self.second = next_best(self.predictions, self.recipe, self.excluded)
        first_P = self.first[lost_HW]
        others_P = np.where(first_P == index, self.second[lost_HW], first_P)
        self.dropped[index] = self.dropped.get(index, False) | lost_HW
        is_lost_P = np.zeros(len(others_P), bool)
        for other, dropped_HW in self.dropped.items():
            is_lost_P |= (others_P == other) & dropped_HW[lost_HW]
        if is_lost_P.any():  # lost by their next best class, too: to a class without rules
            excluded = tuple({*self.excluded, *self.classes})
            is_left = len(excluded) < num_classes
            rest = combine(self.predictions, [self.recipe], excluded)[0][lost_HW] if is_left else np.uint8(index)
            others_P = np.where(is_lost_P, rest, others_P)
        return others_P


def apply_rule(rule: ComponentRule, plane_HW: np.ndarray, probs_HW: np.ndarray | None = None) -> np.ndarray:
    """Returns where a class is under a rule: bool (H, W).

    Args:
        plane_HW: bool, where the class was.
        probs_HW: its probability; for `hysteresis` only.

    >>> plane = np.array([[1, 0, 1, 1], [0, 0, 1, 1]], bool)
    >>> apply_rule(ComponentRule("largest", 1), plane).astype(int).tolist()
    [[0, 0, 1, 1], [0, 0, 1, 1]]
    """
    if rule.name == "hysteresis":
        plane_HW = plane_HW | (probs_HW >= rule["low"]) if rule["low"] < 1 else plane_HW
    rows, columns = (np.flatnonzero(plane_HW.any(axis)) for axis in (1, 0))
    if not rows.size:
        return plane_HW
    box = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    changed_HW = plane_HW.copy()
    if rule.name == "fill_holes":
        changed_HW[box] |= _holes(plane_HW[box], rule["share"] * plane_HW.size)
        return changed_HW
    number, numbers_hw, stats, _ = cv2.connectedComponentsWithStats(plane_HW[box].astype(np.uint8), connectivity=8)
    areas = stats[:, cv2.CC_STAT_AREA]
    if rule.name == "hysteresis":
        stays = np.bincount(numbers_hw[probs_HW[box] >= rule["high"]], minlength=number) > 0
    elif rule.name == "largest":
        stays = np.arange(number) == 1 + areas[1:].argmax()
    else:
        stays = areas >= rule["share"] * plane_HW.size
    stays[0] = False  # what is around the components
    changed_HW[box] = stays[numbers_hw]
    return changed_HW


def _holes(plane_hw: np.ndarray, most_px: float) -> np.ndarray:
    """Returns the holes of a plane of up to so many pixels, bool; the plane touches all four edges of its box."""
    _, numbers_hw, stats, _ = cv2.connectedComponentsWithStats((~plane_hw).astype(np.uint8), connectivity=4)
    is_hole = stats[:, cv2.CC_STAT_AREA] <= most_px
    edges = (numbers_hw[0], numbers_hw[-1], numbers_hw[:, 0], numbers_hw[:, -1])
    is_hole[np.concatenate(edges)] = False
    is_hole[0] = False
    return is_hole[numbers_hw]
