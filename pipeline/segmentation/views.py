"""Test-time augmentation: an image mirrored, turned or scaled, and its logits put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.schema import Predict
from pipeline.data.padding import ANY_SIZE, Sizes

TURNS = {"flip": (0,), "d2": (0, 2), "d4": (0, 1, 2, 3)}
Change = Callable[[Tensor], Tensor]


class View(NamedTuple):
    """A copy of an image: what is done to the image, what undoes it on the logits, and its weight in the mean."""

    apply: Change
    undo: Change
    weight: float


def views(predict: Predict, size: tuple[int, int], sizes: Sizes = ANY_SIZE) -> Iterator[View]:
    """Yields the copies of an image of (height, width): every mirroring and turn of PREDICT.TTA at every scale.

    Args:
        size: (height, width) of the images.
        sizes: that the network takes.

    d2 and d4 are the groups of `pytorch_toolbelt.inference.tta`, in another order. Its functions put all views into one
    batch, 4 or 8 times the memory, and its d4 refuses images that are not square.
    """
    weights = predict.scale_weights or (1.0,) * len(predict.sizes)
    for scale, weight in zip(predict.sizes, weights, strict=True):
        enlarge, reduce = resized(sizes.scaled(size, scale)), resized(size)
        if predict.tta in ("none", "scales"):  # a turn by 0 would copy, in another memory layout
            yield View(enlarge, reduce, weight)
            continue
        for turn in TURNS[predict.tta]:
            for is_flipped in (False, True):
                turned, turned_back = _turned(turn, is_flipped), _turned_back(turn, is_flipped)
                yield View(_both(enlarge, turned), _both(turned_back, reduce), weight)


def resized(size: tuple[int, int]) -> Change:
    """Returns a function that resizes (B, C, H, W) bilinearly; at that size already, it is left as it is."""
    return lambda x: x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _both(first: Change, second: Change) -> Change:
    return lambda x: second(first(x))


def _turned(turn: int, is_flipped: bool) -> Change:
    return lambda x: torch.rot90(x.flip(-1) if is_flipped else x, turn, (-2, -1))


def _turned_back(turn: int, is_flipped: bool) -> Change:
    def undo(x: Tensor) -> Tensor:
        x = torch.rot90(x, -turn, (-2, -1))
        return x.flip(-1) if is_flipped else x

    return undo
