"""Samples made of several images: mosaic, CutMix and ClassMix sample by sample, MixUp batch by batch.

Pieces are hard-edged rectangles or whole classes and bring their own mask, so labels stay as sharp as they were. MixUp
blends two images; its loss is that of both masks, see `MixedMasks`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from pipeline.config.augmentation import CutMix, MixUp, Mosaic
from pipeline.config.competition import IGNORE
from pipeline.data.mixing import blended, other_quarters
from pipeline.data.tiles import Box
from pipeline.segmentation.copy_paste import count_classes
from pipeline.task import Criterion, Loss


class Piece(NamedTuple):
    """A part of another image, as it is augmented: image and mask, and where they belong in what was asked for."""

    image: np.ndarray
    mask: np.ndarray
    frame: Box


Draw = Callable[[tuple[int, int]], Piece | None]  # a size (height, width) to a piece of another image, if there is one


def apply_mosaic(settings: Mosaic, image: np.ndarray, mask: np.ndarray, draw: Draw, rng: np.random.Generator) -> None:
    """Puts pieces of other images into three of four quarters, in place; see `other_quarters`.

    Where a piece is smaller than its quarter, the sample stays as it was.
    """
    for quarter in other_quarters(settings, mask.shape[:2], rng):
        _lay(image, mask, quarter, draw((quarter.height, quarter.width)))


def apply_cut_mix(settings: CutMix, image: np.ndarray, mask: np.ndarray, draw: Draw, rng: np.random.Generator) -> None:
    """Puts a rectangle of another image into a sample, in place. It has the sample's aspect.

    Source: Yun et al. 2019, https://arxiv.org/abs/1905.04899; for segmentation French et al. 2020,
    https://arxiv.org/abs/1906.01916.
    """
    side = math.sqrt(rng.uniform(*settings.area))
    height, width = (max(1, round(own * side)) for own in mask.shape[:2])
    x, y = int(rng.integers(mask.shape[1] - width + 1)), int(rng.integers(mask.shape[0] - height + 1))
    _lay(image, mask, Box(x, y, width, height), draw((height, width)))


def _lay(image: np.ndarray, mask: np.ndarray, box: Box, piece: Piece | None) -> None:
    if piece is not None:
        x, y = box.x + piece.frame.x, box.y + piece.frame.y
        inside = np.s_[y : y + piece.frame.height, x : x + piece.frame.width]
        image[inside], mask[inside] = piece.image, piece.mask


def half_of_classes(mask: np.ndarray, rng: np.random.Generator) -> list[int]:
    """Returns half of the classes that a mask shows, rounded up, drawn at random; of the ignored value never.

    Source: ClassMix, Olsson et al. 2020, https://arxiv.org/abs/2007.07936.
    """
    shown = np.flatnonzero(count_classes(mask)[:IGNORE])
    return rng.permutation(shown)[: -(-len(shown) // 2)].tolist()


class MixedMasks(NamedTuple):
    """The masks of a batch whose images were blended.

    Attributes:
        first: the masks that weigh more: uint8 (B, H, W), or planes (B, H, W, C).
        second: likewise, of the images that were blended in.
        share: the weight of the second, 0 to 0.5, for the whole batch.
    """

    first: Tensor
    second: Tensor
    share: float


Sample = tuple[np.ndarray, np.ndarray, object]  # image, mask, key


class Blended(NamedTuple):
    """In place of a sample's mask: the masks of both images, and the weight of the second."""

    first: np.ndarray
    second: np.ndarray
    share: float


def mix_up(settings: MixUp, samples: Sequence[Sample], rng: np.random.Generator) -> list[Sample]:
    """Returns a batch whose images are blended, each with the one before it, where the draw says so.

    All have the same share, so that every loss can be mixed as it is, those that sum over a batch too. A batch of one,
    or of images of different sizes, stays as it is.

    Source: Zhang et al. 2017, https://arxiv.org/abs/1710.09412, with shares and partners drawn by batch as there. A
    pair's heavier image comes first, which in a loss is the same.
    """
    draws = rng.random(), rng.beta(settings.alpha, settings.alpha)
    is_alike = len({sample[0].shape for sample in samples}) == 1
    if draws[0] >= settings.probability or len(samples) < 2 or not is_alike:
        return list(samples)
    share = min(draws[1], 1 - draws[1])
    pairs = zip(samples, [samples[-1], *samples[:-1]], strict=True)
    return [(blended(one[0], other[0], share), Blended(one[1], other[1], share), one[2]) for one, other in pairs]


def split_masks(masks: Tensor | MixedMasks, num_parts: int) -> list[Tensor] | list[MixedMasks]:
    """Returns the masks of a batch in parts."""
    if not isinstance(masks, MixedMasks):
        return list(masks.tensor_split(num_parts))
    pairs = zip(masks.first.tensor_split(num_parts), masks.second.tensor_split(num_parts), strict=True)
    return [MixedMasks(first, second, masks.share) for first, second in pairs]


def masks_to(masks: Tensor | MixedMasks, device: torch.device) -> Tensor | MixedMasks:
    """Returns the masks of a batch on a device."""
    if not isinstance(masks, MixedMasks):
        return masks.to(device, non_blocking=True)
    first, second = (part.to(device, non_blocking=True) for part in masks[:2])
    return MixedMasks(first, second, masks.share)


def heavier(masks: Tensor | MixedMasks) -> Tensor:
    """Returns the masks by which samples are scored: of blended images those that weigh more."""
    return masks.first if isinstance(masks, MixedMasks) else masks


def mixed_criterion(criterion: Criterion) -> Criterion:
    """Returns a loss that takes `MixedMasks` too: (1 - share) of the loss by the first, share of that by the second.

    For the cross entropy this is the loss by a soft label; it is defined for every other loss as well, so that none is
    refused.
    """

    def loss_of(outputs: Tensor, masks: Tensor | MixedMasks) -> Loss:
        if not isinstance(masks, MixedMasks):
            return criterion(outputs, masks)
        first, second = criterion(outputs, masks.first), criterion(outputs, masks.second)
        terms = {name: torch.lerp(first.terms[name], second.terms[name], masks.share) for name in first.terms}
        return Loss(torch.lerp(first.total, second.total, masks.share), terms)

    return loss_of
