"""Outputs and training targets of one-stage detectors.

A network has outputs at A fixed positions of an image, over all levels of its pyramid, finest level first, row by row.
Letters: B images, A positions, C classes, N boxes of an image.
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
    """

    boxes: list[Tensor]
    classes: list[Tensor]
    size: tuple[int, int]


@dataclass(frozen=True)
class Detector:
    """An architecture as a record of functions.

    Attributes:
        build: (model, number of classes, image channels) to the network with random weights, from float images
            (B, channels, H, W) to `Dense`; it has `encoder`, whose weights may be loaded.
        terms: the losses that it can be trained by.
        losses: (model, number of classes, outputs, targets, terms with their settings) to each term's loss, a scalar.
        decode: (model, outputs, size (height, width) of the frames) to boxes (B, A, 4) in pixels, and probabilities
            (B, A, C).
    """

    build: Callable[[Model, int, int], nn.Module]
    terms: tuple[str, ...]
    losses: Callable[[Model, int, Dense, BoxTargets, Mapping[str, Mapping[str, float]]], dict[str, Tensor]]
    decode: Callable[[Model, Dense, tuple[int, int]], tuple[Tensor, Tensor]]


def join_outputs(parts: Sequence[Dense]) -> Dense:
    """Returns the outputs of a batch, joined from the outputs of its parts."""
    return Dense(*(torch.cat(tensors) for tensors in zip(*parts, strict=True)))


def split_targets(targets: BoxTargets, num_parts: int) -> list[BoxTargets]:
    """Returns `num_parts` parts of a batch, as `Tensor.tensor_split` cuts its images."""
    return [
        BoxTargets(*(part[own] for part in targets[:2]), targets.size) for own in cuts(len(targets.boxes), num_parts)
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

    def move(parts: list[Any]) -> list[Tensor]:
        return [part.to(device, non_blocking=True) for part in parts]

    return BoxTargets(move(targets.boxes), move(targets.classes), targets.size)
