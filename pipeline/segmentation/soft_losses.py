"""Losses of one class per pixel for soft labels: how much of each class a pixel has, such as a teacher's probabilities.

Labels are index masks, uint8 (B, H, W), which go to `losses.py`, or planes, uint8 (B, H, W, C), see `planes.py`. For
planes of 0 and FULL each loss here is the one of `losses.py` on the same labels.

    ce         cross entropy: sum over classes of `-s * log p`; its gradient is that of the Kullback-Leibler divergence
    bce        binary cross entropy of each class against its share
    overlap    dice, jaccard, tversky with the overlap `min(p, s)`, as in `losses_by_class.py` and for the same reason

Letters: B images, C classes, H rows, W columns; p probabilities, s shares. Class weights are (C,) of mean 1 or None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipeline.config.competition import IGNORE
from pipeline.segmentation import decision, losses
from pipeline.segmentation.loss_parts import Areas, mix_terms, on_grid, overlap_terms
from pipeline.segmentation.losses_by_class import Target, binary_cross_entropy, target_of
from pipeline.task import Loss
from pipeline.training.ranks.group import summed


def soft_cross_entropy(
    logits_BCHW: Tensor, target: Target, weights_C: Tensor | None, stride: int = 1, smooth: float = 0.0
) -> Tensor:
    """Returns the mean cross entropy by soft labels over the known pixels, weighted by class (0 when none is known).

    Args:
        stride: see `on_grid`.
        smooth: share of each label that is spread evenly over all classes.
    """
    share_BCHW, known_BCHW = (on_grid(part, stride) for part in target)
    log_probs_BCHW = decision.log_probs(on_grid(logits_BCHW, stride))
    weights = 1.0 if weights_C is None else weights_C.view(1, -1, 1, 1)
    total = summed((share_BCHW * weights).sum()).clamp_min(torch.finfo(log_probs_BCHW.dtype).tiny)
    if smooth:
        share_BCHW = ((1 - smooth) * share_BCHW + smooth / share_BCHW.shape[1]) * known_BCHW
    return -summed((share_BCHW * weights / total * log_probs_BCHW).sum())


def _areas(logits_BCHW: Tensor, target: Target) -> Areas:
    """Returns soft overlap, predicted area and true area of each class in pixels: three (C,)."""
    probs_BCHW = decision.probs(logits_BCHW) * target.known
    parts = (torch.minimum(probs_BCHW, target.share), probs_BCHW, target.share)
    overlap_C, predicted_C, true_C = (part.sum((0, 2, 3)) for part in parts)
    return overlap_C, predicted_C, true_C


OVERLAP = overlap_terms(_areas)
# `SOFT_LOSSES` of `config/check_pseudo.py` has their names.
TERMS: dict[str, Callable[..., Tensor]] = {
    "ce": soft_cross_entropy,
    "bce": binary_cross_entropy,
    "dice": OVERLAP["dice"],
    "jaccard": OVERLAP["jaccard"],
    "tversky": OVERLAP["tversky"],
}


def mixed_loss(
    mix: Sequence[tuple[str, float]], logits_BCHW: Tensor, masks: Tensor, weights_C: Tensor | None = None
) -> Loss:
    """Returns the loss of a batch by index masks or by planes, as `losses.mixed_loss` does.

    Raises:
        ValueError: the shapes of logits and labels do not fit.
        KeyError: planes, and a loss that takes no soft labels; `config/check_pseudo.py` has refused it.

    >>> half = torch.tensor([[[[120, 120]]]], dtype=torch.uint8)
    >>> mixed_loss([("ce", 1.0)], torch.zeros(1, 2, 1, 1), half).total
    tensor(0.6931)
    """
    if masks.ndim == 3:
        return losses.mixed_loss(mix, logits_BCHW, masks, weights_C)
    if logits_BCHW.movedim(1, -1).shape != masks.shape:
        raise ValueError(f"logits {tuple(logits_BCHW.shape)} and planes {tuple(masks.shape)} do not fit")
    return mix_terms(TERMS, mix, logits_BCHW, lambda dtype: target_of(masks, dtype), weights_C)


def as_index(masks: Tensor) -> Tensor:
    """Returns index masks, uint8 (B, H, W), of labels of either form: of planes the class with the largest share.

    >>> as_index(torch.tensor([[[[100, 140], [255, 255]]]], dtype=torch.uint8))
    tensor([[[  1, 255]]], dtype=torch.uint8)
    """
    if masks.ndim == 3:
        return masks
    return masks.argmax(-1).to(torch.uint8).masked_fill((masks == IGNORE).all(-1), IGNORE)
