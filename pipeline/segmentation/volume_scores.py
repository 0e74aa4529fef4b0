"""Scores of volumes: the images of a sequence, in the order of their ids, are the slices of one volume.

In: predicted and true masks, index masks (H, W), object maps, or planes (H, W, C), 255 in the truth where ignored, one
image at a time. Out: a value per class over all volumes, by the names in `pipeline/scores.py`. Needs no torch.

Letters: C classes, S slices, H rows, W columns.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy.ndimage import distance_transform_edt

from pipeline.config.competition import IGNORE
from pipeline.errors import UserError
from pipeline.scores import Chosen
from pipeline.segmentation.mask_scores import DICE_SHARE, score_masks
from pipeline.segmentation.objects import class_of
from pipeline.segmentation.planes import is_present

LEVEL = 1  # masks shrink fortyfold at once
Shape = tuple[int, ...]


@dataclass
class Volumes:
    """Masks of many volumes, kept compressed until all slices are added.

    Attributes:
        names: of the scores, of `per: volume`.
        scored: indices of the classes that have a value; others are NaN, as a distance in a volume takes seconds.
    """

    names: Sequence[str]
    num_classes: int
    scored: Sequence[int]
    _slices: dict[str, dict[str, tuple[Shape, bytes]]] = field(default_factory=dict)

    def add(self, sequence: str, image_id: str, predicted: np.ndarray, truth: np.ndarray) -> None:
        """Adds a slice of a volume."""
        truth = class_of(truth)
        pair = np.stack([np.where(truth == IGNORE, np.uint8(IGNORE), class_of(predicted)), truth])
        self._slices.setdefault(sequence, {})[image_id] = (pair.shape, zlib.compress(pair.tobytes(), LEVEL))

    def scores(self) -> dict[str, np.ndarray]:
        """Returns each score of each class, float64 (C,), NaN where no volume has the class.

        Raises:
            UserError: the images of a sequence have more than one size.
        """
        return {name: SCORES[name](self) for name in self.names}

    def __iter__(self):
        """Yields the predicted and the true volume of each sequence, uint8 (S, H, W), or planes (S, H, W, C)."""
        for sequence, slices in self._slices.items():
            shapes = {shape for shape, _ in slices.values()}
            if len(shapes) > 1:
                sizes = ", ".join(f"{width}x{height}" for _, height, width, *_ in sorted(shapes))
                why = f"sequence {sequence} has images of {sizes} pixels, but the slices of a volume need one size"
                raise UserError(f"{why}; set another SCORE or SEQUENCE_PATTERN")
            pairs = (slices[image_id] for image_id in sorted(slices))
            stacked = [np.frombuffer(zlib.decompress(data), np.uint8).reshape(shape) for shape, data in pairs]
            yield np.stack([pair[0] for pair in stacked]), np.stack([pair[1] for pair in stacked])


def uw_madison(volumes: Volumes) -> np.ndarray:
    """Returns 0.4 Dice + 0.6 (1 - Hausdorff distance) of each class, float64 (C,).

    Dice is averaged over slices, the distance over volumes; a slice or volume where neither mask has the class is left
    out. The distance is `hausdorff`, and 1 where only one mask has the class.

    Source: the rules of UW-Madison GI Tract: slices are 1 apart, pixel positions are divided by the image's size.
    The organisers' code is not public. OpenAI's MLE-bench reads the rules as is done here, but joins the classes of a
    slice into one mask before it measures the distance.
    """
    dices: list[list[float]] = [[] for _ in range(volumes.num_classes)]
    distances: list[list[float]] = [[] for _ in range(volumes.num_classes)]
    for pair in volumes:
        for index in volumes.scored:
            predicted, true = (_pixels_of(volume, index) for volume in pair)
            hits_S, areas_S = (predicted & true).sum((1, 2)), predicted.sum((1, 2)) + true.sum((1, 2))
            has_any_S = areas_S > 0
            dices[index] += (2 * hits_S[has_any_S] / areas_S[has_any_S]).tolist()
            if has_any_S.any():
                distances[index].append(hausdorff(predicted, true))
    pairs = zip(dices, distances, strict=True)
    return np.array(
        [
            DICE_SHARE * np.mean(dice) + (1 - DICE_SHARE) * (1 - np.mean(distance)) if dice else np.nan
            for dice, distance in pairs
        ]
    )


def _pixels_of(volume: np.ndarray, index: int) -> np.ndarray:
    """Returns the pixels of a class in a volume, bool (S, H, W)."""
    return volume == index if volume.ndim == 3 else is_present(volume[..., index])


def hausdorff(predicted: np.ndarray, true: np.ndarray) -> float:
    """Returns the Hausdorff distance of two sets of pixels of a volume, bool (S, H, W), as a share of its diagonal.

    Positions are divided by the volume's sides, so each side has length 1 and the diagonal is the root of 3. It is 0
    where both are empty, 1 where one is. All pixels of a mask count, those inside too, as in SciPy's
    `directed_hausdorff`; MONAI's takes outlines, which is farther where one mask has a hole that the other fills.

    >>> predicted, true = np.zeros((2, 1, 10, 10), bool)
    >>> predicted[0, 2, 2], true[0, 2, 7] = True, True
    >>> round(hausdorff(predicted, true), 6) == round(0.5 / 3**0.5, 6)
    True
    """
    if not (predicted.any() and true.any()):
        return float(predicted.any() or true.any())
    steps = [1 / side for side in predicted.shape]
    box = _box_of(predicted | true)  # no distance outside matters
    pairs = ((predicted[box], true[box]), (true[box], predicted[box]))
    farthest = max(distance_transform_edt(~target, sampling=steps)[source].max() for source, target in pairs)
    return float(farthest / np.sqrt(predicted.ndim))


def _box_of(mask: np.ndarray) -> tuple[slice, ...]:
    """Returns the smallest box with all pixels of a mask, which has at least one."""
    axes = range(mask.ndim)
    ends = (np.flatnonzero(mask.any(tuple(set(axes) - {axis})))[[0, -1]] for axis in axes)
    return tuple(slice(int(first), int(last) + 1) for first, last in ends)


class MaskScores:
    """The scores of a set of images that need masks: scores per image and scores per volume.

    Args:
        chosen: all scores of a run; those that need no masks are skipped.
        scored: of volumes, indices of the classes that have a value.
    """

    def __init__(self, chosen: Chosen, num_classes: int, scored: Sequence[int]) -> None:
        self.chosen, self.num_classes = chosen, num_classes
        self.of_images: list[dict[str, np.ndarray]] = []
        self.volumes = Volumes(chosen.of_volumes, num_classes, scored)

    def add(self, sequence: str, image_id: str, predicted_HW: np.ndarray, truth_HW: np.ndarray) -> None:
        """Adds an image."""
        chosen = self.chosen
        if chosen.of_masks:
            scores = score_masks(chosen.of_masks, predicted_HW, truth_HW, self.num_classes, chosen.options)
            self.of_images.append(scores)
        if chosen.of_volumes:
            self.volumes.add(sequence, image_id, predicted_HW, truth_HW)

    def by_name(self) -> dict[str, np.ndarray]:
        """Returns each score by name: float64 (I, C) per image, (C,) per volume."""
        stacked = {name: np.stack([own[name] for own in self.of_images]) for name in self.chosen.of_masks}
        return stacked | self.volumes.scores()


# By name: from volumes to the score of each class.
SCORES: dict[str, Callable[[Volumes], np.ndarray]] = {"uw_madison": uw_madison}
