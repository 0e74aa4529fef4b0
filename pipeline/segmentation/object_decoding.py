"""The objects of a decoded image, as OBJECTS says: connected components, or grown from cores by probability.

In: predictions of an image and its index mask. Out: its object map, see `objects.py`.

Letters: C classes, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from pipeline.config.competition import Competition, Objects
from pipeline.segmentation.ensemble import Recipe, combine, mean_probs
from pipeline.segmentation.objects import components, object_map, watershed, without_small
from pipeline.segmentation.predict import Prediction


class Decoded(NamedTuple):
    """What objects are found in.

    Attributes:
        mask: uint8 (H, W), the class chosen for each pixel.
        filled: the same with the next best class where the class of borders was chosen.
        probs: float32 (C, H, W), the probability of the scored classes; None for connected components.
    """

    mask: np.ndarray
    filled: np.ndarray
    probs: np.ndarray | None


def with_objects(
    predictions: Sequence[Prediction], mask_HW: np.ndarray, competition: Competition, settings: Objects | None = None
) -> np.ndarray:
    """Returns the object map of an image, int32 (H, W); without OBJECTS, its index mask.

    Args:
        mask_HW: uint8, the class chosen for each pixel.
        settings: used instead of the competition's own.
    """
    if not competition.has_objects:
        return mask_HW
    decoded = decoded_for_objects(predictions, mask_HW, competition)
    return objects_in(decoded, competition, settings or competition.objects)


def decoded_for_objects(predictions: Sequence[Prediction], mask_HW: np.ndarray, competition: Competition) -> Decoded:
    """Returns what the objects of an image are found in, whatever SEED and MIN_SIZE are."""
    border = competition.border_index
    if competition.objects.method == "components":
        return Decoded(mask_HW, mask_HW, None)
    probs_CHW, filled_HW = _mean_probs(predictions, competition.scored_indices), mask_HW
    if border is not None and (mask_HW == border).any():
        filled_HW = np.where(mask_HW == border, combine(predictions, [Recipe("AP")], (border,))[0], mask_HW)
    return Decoded(mask_HW, filled_HW, probs_CHW)


def objects_in(decoded: Decoded, competition: Competition, settings: Objects) -> np.ndarray:
    """Returns the object map of a decoded image, int32 (H, W).

    In a watershed, the core of an object is where its class was chosen and has a probability of SEED or more. Objects
    grow into pixels of the class, and into border pixels whose next best class it is. One that stays smaller than
    MIN_SIZE is given to the objects that it touches, or dropped if it touches none.
    """
    numbers = {}
    for position, index in enumerate(competition.scored_indices):
        plane_HW, chosen_HW = decoded.filled == index, decoded.mask == index
        if decoded.probs is None:
            numbers_HW = components(plane_HW)
        else:
            probs_HW = decoded.probs[position]
            core_HW = chosen_HW & (probs_HW >= settings.seed)
            numbers_HW = watershed(plane_HW, core_HW, probs_HW)
            is_small_HW = (numbers_HW > 0) & (without_small(numbers_HW, settings.min_size) == 0)
            if (core_HW & is_small_HW).any():
                numbers_HW = watershed(plane_HW, core_HW & ~is_small_HW, probs_HW)
            is_chosen = np.bincount(numbers_HW[chosen_HW], minlength=numbers_HW.max(initial=0) + 1) > 0
            numbers_HW = np.where(is_chosen[numbers_HW], numbers_HW, 0)  # border pixels alone are no object
        numbers[index] = without_small(numbers_HW, settings.min_size)
    return object_map(decoded.filled, numbers)


def _mean_probs(predictions: Sequence[Prediction], classes: Sequence[int]) -> np.ndarray:
    """Returns the mean probability of some classes, float32 (C, H, W)."""
    probs_CHW = np.empty((len(classes), *predictions[0].size), np.float32)
    for top, bottom, probs_CRW in mean_probs(predictions):
        probs_CHW[:, top:bottom] = probs_CRW[list(classes)].numpy()
    return probs_CHW
