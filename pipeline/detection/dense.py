"""Outputs and training targets of one-stage detectors.

A network has outputs at A fixed positions of an image, over all levels of its pyramid, finest level first, row by row.
Letters: B images, A positions, C classes, N boxes of an image, M crowds of an image.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from pipeline.config.schema import Model

CROWD_SHARE = 0.5  # of a position's area; with at least so much of it inside, it is in a crowd


class Dense(NamedTuple):
    """The outputs of a network for images of one size.

    Attributes:
        classes: logits (B, A, C).
        boxes: (B, A, 4), in the architecture's own encoding.
        objectness: logits (B, A, 1), or (B, A, 0) of architectures that have none.
    """

    classes: Tensor
    boxes: Tensor
    objectness: Tensor


class BoxTargets(NamedTuple):
    """What a batch is trained on.

    Attributes:
        boxes: float32 (N, 4) of each image: left, top, right, bottom in pixels of the batch's frames.
        classes: int64 (N,) of each image.
        size: (height, width) of the frames.
        crowds: float32 (M, 4) of each image, regions that are no background; empty: no image has any.
    """

    boxes: list[Tensor]
    classes: list[Tensor]
    size: tuple[int, int]
    crowds: Sequence[Tensor] = ()


class Terms(NamedTuple):
    """The losses of a batch.

    Attributes:
        values: by the name of the term, scalars.
        count: see `Loss`.
    """

    values: dict[str, Tensor]
    count: Tensor | None = None


@dataclass(frozen=True)
class Detector:
    """An architecture as a record of functions.

    Attributes:
        build: (model, number of classes, image channels) to the network with random weights, from float images
            (B, channels, H, W) to `Dense`; it has `encoder`, whose weights may be loaded.
        terms: the losses that it can be trained by.
        losses: (model, number of classes, outputs, targets, terms with their settings) to the loss of each term.
        decode: (model, outputs, size (height, width) of the frames) to boxes (B, A, 4) in pixels, and probabilities
            (B, A, C).
    """

    build: Callable[[Model, int, int], nn.Module]
    terms: tuple[str, ...]
    losses: Callable[[Model, int, Dense, BoxTargets, Mapping[str, Mapping[str, float]]], Terms]
    decode: Callable[[Model, Dense, tuple[int, int]], tuple[Tensor, Tensor]]


def join_outputs(parts: Sequence[Dense]) -> Dense:
    """Returns the outputs of a batch, joined from the outputs of its parts."""
    return Dense(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def split_targets(targets: BoxTargets, num_parts: int) -> list[BoxTargets]:
    """Returns `num_parts` parts of a batch, as `Tensor.tensor_split` cuts its images."""
    return [
        BoxTargets(targets.boxes[own], targets.classes[own], targets.size, targets.crowds[own])
        for own in cuts(len(targets.boxes), num_parts)
    ]


def cuts(length: int, num_parts: int) -> list[slice]:
    """Returns where `Tensor.tensor_split` cuts a length: the first parts are one longer if it is not divisible.

    >>> cuts(7, 3)
    [slice(0, 3, None), slice(3, 5, None), slice(5, 7, None)]
    """
    whole, rest = divmod(length, num_parts)
    ends = [whole * number + min(number, rest) for number in range(num_parts + 1)]
    return [slice(first, last) for first, last in pairwise(ends)]


def targets_to(targets: BoxTargets, device: torch.device) -> BoxTargets:
    """Returns targets on a device."""

    def move(parts: Sequence[Any]) -> list[Tensor]:
        return [part.to(device, non_blocking=True) for part in parts]

    return BoxTargets(move(targets.boxes), move(targets.classes), targets.size, move(targets.crowds))


def in_crowds(xyxy_A4: Tensor, targets: BoxTargets) -> Tensor:
    """Returns which positions of each image lie in one of its crowds, bool (B, A).

    A position is in a crowd if at least half of its box is. The losses ignore it, unless it has an object of its own: a
    detection there may be right, because the objects of a crowd have no boxes.

    Args:
        xyxy_A4: the box of each position, in pixels of the frames: an anchor, or the cell of a grid.

    Source: the measure is that of Detectron (TRAIN.CROWD_FILTER_THRESH), https://github.com/facebookresearch/Detectron,
    and of the `iof` of MMDetection's assigners; a half is the share from which on COCO's AP50 ignores a detection.

    >>> crowd = torch.tensor([[0.0, 0, 8, 8]])
    >>> targets = BoxTargets([], [], (8, 8), [crowd, crowd[:0]])
    >>> in_crowds(torch.tensor([[4.0, 0, 12, 8], [5, 0, 13, 8]]), targets).tolist()
    [[True, False], [False, False]]
    """
    is_inside = torch.zeros(len(targets.crowds), len(xyxy_A4), dtype=torch.bool, device=xyxy_A4.device)
    sides_A2 = xyxy_A4[:, 2:] - xyxy_A4[:, :2]
    for inside_A, crowds_M4 in zip(is_inside, targets.crowds, strict=True):
        for crowd_4 in crowds_M4:
            shared_A2 = torch.minimum(xyxy_A4[:, 2:], crowd_4[2:]) - torch.maximum(xyxy_A4[:, :2], crowd_4[:2])
            inside_A |= shared_A2.clamp(min=0).prod(1) >= CROWD_SHARE * sides_A2.prod(1)
    return is_inside
