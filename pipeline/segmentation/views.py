"""Test-time augmentation: an image mirrored, turned or scaled, and its logits put back."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.schema import STRIDE

SCALES = (0.75, 1.0, 1.25)  # of TTA `scales`; a wider range costs more than it gives on street and drone images

View = tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]


def views(tta: str, size: tuple[int, int], multiple: int = STRIDE) -> Iterator[View]:
    """Yields pairs (what is done to the image, what undoes it on the logits).

    Args:
        size: (height, width) of the images.
        multiple: of which the sides of scaled images are multiples.

    d2 and d4 are the groups of `pytorch_toolbelt.inference.tta`, in another order. Its functions put all views into one
    batch, 4 or 8 times the memory, and its d4 refuses images that are not square.
    """
    if tta == "scales":
        for scale in SCALES:
            scaled = tuple(max(multiple, round(side * scale / multiple) * multiple) for side in size)
            yield _resized(scaled), _resized(size)
        return
    turns = {"none": (0,), "flip": (0,), "d2": (0, 2), "d4": (0, 1, 2, 3)}[tta]
    for turn in turns:
        for is_flipped in (False,) if tta == "none" else (False, True):
            yield _turned(turn, is_flipped), _turned_back(turn, is_flipped)


def _resized(size: tuple[int, int]) -> Callable[[Tensor], Tensor]:
    return lambda x: x if x.shape[-2:] == size else F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def _turned(turn: int, is_flipped: bool) -> Callable[[Tensor], Tensor]:
    return lambda x: torch.rot90(x.flip(-1) if is_flipped else x, turn, (-2, -1))


def _turned_back(turn: int, is_flipped: bool) -> Callable[[Tensor], Tensor]:
    def undo(x: Tensor) -> Tensor:
        x = torch.rot90(x, -turn, (-2, -1))
        return x.flip(-1) if is_flipped else x

    return undo
