"""Losses for several classes per pixel: each class against all else, with soft labels.

The binary cross entropy is here for one class per pixel, too.

    overlap   dice, jaccard, tversky: how much the predicted and the true area of each class overlap
    pixels    ce or bce, two names of the binary cross entropy, and focal: weighted means over pixels and classes
    shape     lovasz sorts the errors of a class, boundary compares its outlines; both round soft labels

The overlap of a probability p and a label s is `min(p, s)`, not `p * s`: for labels of 0 and 1 both are equal; for soft
labels only the minimum makes the loss least at p = s. Source: Wang et al. 2023, "Dice Semimetric Losses: Optimizing the
Dice Score with Soft Labels", https://arxiv.org/abs/2303.16296.

Letters: B images, C classes, H rows, W columns, P = B * H * W pixels. Masks are planes, uint8 (B, H, W, C), see
`planes.py`; ignored pixels of a plane enter no sum and get a zero gradient. Class weights are (C,) of mean 1 or None.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.competition import IGNORE
from pipeline.config.loss_mix import FOCAL_GAMMA
from pipeline.segmentation import sigmoid
from pipeline.segmentation.loss_parts import (
    EPS,
    Areas,
    focus,
    hardest,
    lovasz_sum,
    mean_of_present,
    mix_terms,
    on_grid,
    outline_scores,
    overlap_terms,
)
from pipeline.segmentation.planes import FULL
from pipeline.task import Loss
from pipeline.training.ranks.group import summed


class Target(NamedTuple):
    """What a batch is trained on: `share` (B, C, H, W) in 0..1, and `known`, 1 where it is not ignored, else 0."""

    share: Tensor
    known: Tensor


def target_of(mask_BHWC: Tensor, dtype: torch.dtype) -> Target:
    """Returns the target of planes; a share is 0 where it is ignored."""
    mask_BCHW = mask_BHWC.movedim(-1, 1)
    known = (mask_BCHW != IGNORE).to(dtype)
    return Target(mask_BCHW.to(dtype).mul_(1 / FULL).mul_(known), known)


def binary_cross_entropy(
    logits_BCHW: Tensor,
    target: Target,
    weights_C: Tensor | None,
    stride: int = 1,
    top: float = 1.0,
    below: float = 0.0,
    smooth: float = 0.0,
    positive: float = 1.0,
) -> Tensor:
    """Returns the mean binary cross entropy over all known pixels of all classes (0 when all are ignored).

    Args:
        stride: see `on_grid`.
        top, below: as of `losses.cross_entropy`, of all pixels of all classes together; the probability that is held
            against `below` is `1 - |s - p|`.
        smooth: labels 1 become `1 - smooth` and labels 0 `smooth`, as in smp's `SoftBCEWithLogitsLoss`.
        positive: weight of the part of labels that is 1, as `pos_weight` of torch's `BCEWithLogitsLoss`.
    """
    logits_BCHW, target = _on_grid(logits_BCHW, target, stride)
    share_BCHW = target.share + smooth * (1 - 2 * target.share) if smooth else target.share
    factor = None if positive == 1 else logits_BCHW.new_tensor(positive)
    loss_BCHW = F.binary_cross_entropy_with_logits(logits_BCHW, share_BCHW, reduction="none", pos_weight=factor)
    is_unsure_BCHW = None
    if below:
        is_unsure_BCHW = 1 - (target.share - sigmoid.probs(logits_BCHW)).abs() < below
    return summed((loss_BCHW * _weight_share(target, weights_C, loss_BCHW, top, is_unsure_BCHW)).sum())


def one_hot_binary_cross_entropy(
    logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, stride: int = 1, **settings: float
) -> Tensor:
    """Returns the mean binary cross entropy of one class per pixel: each class against the one-hot label.

    Args:
        mask_BHW: class indices 0 to C - 1 or `IGNORE`; an ignored pixel is left out for every class.
        stride: see `on_grid`.
        settings: the others of `binary_cross_entropy`.

    Raises:
        IndexError: a mask value is not a class.
    """
    logits_BCHW, mask_BHW = on_grid(logits_BCHW, stride), on_grid(mask_BHW, stride)
    is_known_BHW = mask_BHW != IGNORE
    rows_CC = torch.eye(logits_BCHW.shape[1], dtype=logits_BCHW.dtype, device=logits_BCHW.device)
    share_BCHW = rows_CC[mask_BHW.long().masked_fill(~is_known_BHW, 0)].movedim(-1, 1)
    known_BCHW = is_known_BHW.unsqueeze(1).to(logits_BCHW.dtype).expand_as(logits_BCHW)
    return binary_cross_entropy(logits_BCHW, Target(share_BCHW * known_BCHW, known_BCHW), weights_C, **settings)


def focal(
    logits_BCHW: Tensor,
    target: Target,
    weights_C: Tensor | None,
    gamma: float = FOCAL_GAMMA,
    stride: int = 1,
    top: float = 1.0,
) -> Tensor:
    """Returns the mean of each binary cross entropy times `|s - p| ** gamma`.

    Args:
        stride, top: as of `binary_cross_entropy`.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002; for soft labels Li et al. 2020,
    https://arxiv.org/abs/2006.04388.
    """
    logits_BCHW, target = _on_grid(logits_BCHW, target, stride)
    loss_BCHW = F.binary_cross_entropy_with_logits(logits_BCHW, target.share, reduction="none")
    distance_BCHW = (target.share - sigmoid.probs(logits_BCHW)).abs()
    loss_BCHW = focus(distance_BCHW, gamma) * loss_BCHW
    return summed((loss_BCHW * _weight_share(target, weights_C, loss_BCHW, top)).sum())


def _on_grid(logits_BCHW: Tensor, target: Target, stride: int) -> tuple[Tensor, Target]:
    return on_grid(logits_BCHW, stride), Target(*(on_grid(part, stride) for part in target))


def _weight_share(
    target: Target, weights_C: Tensor | None, loss_BCHW: Tensor, top: float = 1.0, is_kept_BCHW: Tensor | None = None
) -> Tensor:
    """Returns the weight of each pixel of each class in a mean: (B, C, H, W) of sum 1 (or 0).

    Args:
        top: the share of those of the highest weighted loss that is in the mean.
        is_kept_BCHW: others that are in it, too.
    """
    weight_BCHW = target.known if weights_C is None else target.known * weights_C.view(1, -1, 1, 1)
    if top < 1:
        is_used_BCHW = hardest(loss_BCHW * weight_BCHW, weight_BCHW > 0, top)
        weight_BCHW = weight_BCHW * (is_used_BCHW if is_kept_BCHW is None else is_used_BCHW | is_kept_BCHW)
    return weight_BCHW / summed(weight_BCHW.sum()).clamp_min(EPS)


def _areas(logits_BCHW: Tensor, target: Target) -> Areas:
    probs_BCHW = sigmoid.probs(logits_BCHW) * target.known
    pairs = (torch.minimum(probs_BCHW, target.share), probs_BCHW, target.share)
    overlap_C, predicted_C, true_C = (part.sum((0, 2, 3)) for part in pairs)
    return overlap_C, predicted_C, true_C


def lovasz(logits_BCHW: Tensor, target: Target, weights_C: Tensor | None) -> Tensor:
    """Returns the Lovasz extension of the Jaccard loss of each class over the batch, averaged over those that occur.

    Source: Berman et al. 2018, https://arxiv.org/abs/1705.08790, on probabilities, as in the softmax form.
    """
    truth_CP, known_CP = (part.transpose(0, 1).flatten(1) for part in (target.share >= 0.5, target.known))
    probs_CP = sigmoid.probs(logits_BCHW).transpose(0, 1).flatten(1)
    errors_CP = (truth_CP.to(probs_CP.dtype) - probs_CP).abs() * known_CP
    return lovasz_sum(errors_CP, truth_CP, weights_C)


def boundary(logits_BCHW: Tensor, target: Target, weights_C: Tensor | None) -> Tensor:
    """Returns 1 - F1 of the outlines, averaged over classes, see `losses.boundary`."""
    truth_BCHW = (target.share >= 0.5).to(logits_BCHW.dtype)
    score_C, true_C = outline_scores(sigmoid.probs(logits_BCHW), truth_BCHW, 1 - target.known)
    return mean_of_present(1 - score_C, true_C, weights_C)


OVERLAP = overlap_terms(_areas)
TERMS: dict[str, Callable[..., Tensor]] = {
    "dice": OVERLAP["dice"],
    "jaccard": OVERLAP["jaccard"],
    "ce": binary_cross_entropy,
    "bce": binary_cross_entropy,
    "focal": focal,
    "lovasz": lovasz,
    "tversky": OVERLAP["tversky"],
    "boundary": boundary,
}


def mixed_loss(
    mix: Sequence[tuple[str, float]], logits_BCHW: Tensor, mask_BHWC: Tensor, weights_C: Tensor | None = None
) -> Loss:
    """Returns the loss of a batch: float32 (float64 for float64 logits), 0 with a zero gradient when all is ignored.

    Args:
        mix: name and weight of each term, as `parse_mix` returns them; the weights need not sum to 1.
        logits_BCHW: network output; half precision is converted to float32, under autocast too.
        mask_BHWC: planes.
        weights_C: of mean 1; None weighs all classes alike.

    Raises:
        ValueError: the shapes of logits and mask differ.

    >>> mixed_loss([("bce", 1.0)], torch.zeros(1, 2, 1, 1), torch.tensor([[[[240, 0]]]], dtype=torch.uint8)).total
    tensor(0.6931)
    """
    if logits_BCHW.movedim(1, -1).shape != mask_BHWC.shape:
        raise ValueError(f"logits {tuple(logits_BCHW.shape)} and planes {tuple(mask_BHWC.shape)} do not fit")
    return mix_terms(TERMS, mix, logits_BCHW, lambda dtype: target_of(mask_BHWC, dtype), weights_C)
