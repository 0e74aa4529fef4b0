"""The auxiliary head: which classes an image shows, learnt beside the masks from the same features.

The head is the library's `ClassificationHead` on the encoder's last feature. It is used in training only; validation,
scores and predictions are of the masks.

Letters: B images, C classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.competition import IGNORE
from pipeline.segmentation.planes import HALF
from pipeline.task import Criterion, Loss
from pipeline.training.ranks import group

AUX = "aux"  # its name among the terms of a loss
NUM_VALUES = 256  # of a mask


def class_presence(mask: Tensor, num_classes: int) -> Tensor:
    """Returns which classes each image shows: float32 (B, C).

    Args:
        mask: uint8 (B, H, W) of class indices, or (B, H, W, C) of planes; what is ignored (255) shows nothing.

    >>> class_presence(torch.tensor([[[0, 2, 255]]], dtype=torch.uint8), 3)
    tensor([[1., 0., 1.]])
    """
    if mask.ndim == 4:
        planes = mask[..., :num_classes]
        return ((planes >= HALF) & (planes != IGNORE)).flatten(1, 2).any(1).float()
    shown = torch.zeros((len(mask), NUM_VALUES), device=mask.device)
    return shown.scatter_(1, mask.flatten(1).long(), 1.0)[:, :num_classes]  # the same number wherever two meet


def presence_loss(labels_BC: Tensor, mask: Tensor, in_loss: Sequence[int]) -> Tensor:
    """Returns the mean binary cross entropy of the head's logits (B, C) over images and the classes of the loss."""
    wanted_BC = class_presence(mask, labels_BC.shape[1])
    chosen = list(in_loss)
    return group.mean(F.binary_cross_entropy_with_logits(labels_BC.float()[:, chosen], wanted_BC[:, chosen]))


def with_presence(main: Criterion, weight: float, in_loss: Sequence[int]) -> Criterion:
    """Returns a criterion that adds `weight` times the head's loss where outputs have it, as they do in training."""

    def criterion(outputs: Tensor | tuple[Tensor, Tensor], mask: Tensor) -> Loss:
        if not isinstance(outputs, tuple):
            return main(outputs, mask)
        logits_BCHW, labels_BC = outputs
        loss, own = main(logits_BCHW, mask), presence_loss(labels_BC, mask, in_loss)
        return Loss(loss.total + weight * own, {**loss.terms, AUX: own.detach()})

    return criterion
