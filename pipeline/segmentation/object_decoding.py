"""The objects of a decoded image, as OBJECTS says: connected components, or grown from cores by their probability.

In: predictions of an image and its index mask. Out: its object map, see `objects.py`.

Letters: C classes, H height, W width.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from pipeline.config.competition import Competition, Objects
from pipeline.segmentation.ensemble import Recipe, combine, mean_probs
from pipeline.segmentation.objects import components, object_map, watershed, without_small
from pipeline.segmentation.predict import Prediction


def with_objects(
    predictions: Sequence[Prediction], mask_HW: np.ndarray, competition: Competition, settings: Objects | None = None
) -> np.ndarray:
    """Returns the object map of an image, int32 (H, W); where OBJECTS is not given, its index mask.

    In a watershed, the core of an object is where its class was chosen and has a probability of SEED or more. Objects
    grow into pixels of the class, and into those of the class of borders whose next best class it is. One that stays
    smaller than MIN_SIZE is given to the objects that it touches.

    Args:
        mask_HW: uint8, the class chosen for each pixel.
        settings: instead of the competition's own.
    """
    if not competition.has_objects:
        return mask_HW
    settings, border, numbers = settings or competition.objects, competition.border_index, {}
    filled_HW, probs_CHW = mask_HW, None
    if settings.method == "watershed":
        probs_CHW = _mean_probs(predictions, competition.scored_indices)
        if border is not None and (mask_HW == border).any():
            filled_HW = np.where(mask_HW == border, combine(predictions, [Recipe("AP")], (border,))[0], mask_HW)
    for position, index in enumerate(competition.scored_indices):
        plane_HW, chosen_HW = filled_HW == index, mask_HW == index
        if probs_CHW is None:
            numbers_HW = components(plane_HW)
        else:
            probs_HW = probs_CHW[position]
            core_HW = chosen_HW & (probs_HW >= settings.seed)
            numbers_HW = watershed(plane_HW, core_HW, probs_HW)
            is_small_HW = (numbers_HW > 0) & (without_small(numbers_HW, settings.min_size) == 0)
            if (core_HW & is_small_HW).any():
                numbers_HW = watershed(plane_HW, core_HW & ~is_small_HW, probs_HW)
            is_chosen = np.bincount(numbers_HW[chosen_HW], minlength=numbers_HW.max(initial=0) + 1) > 0
            numbers_HW = np.where(is_chosen[numbers_HW], numbers_HW, 0)  # pixels of borders alone are no object
        numbers[index] = without_small(numbers_HW, settings.min_size)
    return object_map(filled_HW, numbers)


def _mean_probs(predictions: Sequence[Prediction], classes: Sequence[int]) -> np.ndarray:
    """Returns the mean probability of some classes, float32 (C, H, W)."""
    probs_CHW = np.empty((len(classes), *predictions[0].size), np.float32)
    for top, bottom, probs_CRW in mean_probs(predictions):
        probs_CHW[:, top:bottom] = probs_CRW[list(classes)].numpy()
    return probs_CHW
