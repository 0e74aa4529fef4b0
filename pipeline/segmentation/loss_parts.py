"""Parts shared by the losses for one class and for several classes per pixel: areas, sorted errors, outlines.

Where several ranks train together, all that is over a batch is over the batches of all of them, see `ranks/group.py`.

Letters: B images, C classes, H rows, W columns, P pixels. Class weights are (C,) of mean 1 or None.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.loss_mix import SALEHI_ALPHA, SALEHI_BETA, term_parts
from pipeline.task import Loss
from pipeline.training.ranks import group

EPS = 1e-7  # least denominator, as in pytorch-toolbelt
OUTLINE_PX = 3  # window of the outline's max-pooling: the outline lies one pixel inside the border of a class
REACH_PX = 5  # window of the match: a predicted outline up to two pixels off still matches the true one

Areas = tuple[Tensor, Tensor, Tensor]  # soft overlap, predicted area and true area of each class, (C,) each


def overlap_terms(areas_of: Callable[[Tensor, Any], Areas]) -> dict[str, Callable[..., Tensor]]:
    """Returns the losses by overlapping areas, each a function of logits, target and class weights.

    dice      1 - 2 overlap / (predicted + true). Source: as in the original
    jaccard   1 - overlap / union
    tversky   1 - overlap / (overlap + alpha * false positives + beta * false negatives); 0.5 for both gives dice, 1 for
              both jaccard. Source: Salehi et al. 2017, https://arxiv.org/abs/1706.05721

    Each is averaged over classes; one without a true pixel in the batch contributes 0.

    Args:
        areas_of: (logits, target) to the areas, in which the kinds of labels differ.
    """

    def joint_areas(logits_BCHW: Tensor, target: Any) -> Areas:
        areas = areas_of(logits_BCHW, target)
        return group.summed(torch.stack(areas)).unbind() if group.is_joint() else areas

    def dice(logits_BCHW: Tensor, target: Any, weights_C: Tensor | None) -> Tensor:
        overlap_C, predicted_C, true_C = joint_areas(logits_BCHW, target)
        score_C = 2 * overlap_C / (predicted_C + true_C).clamp_min(EPS)
        return mean_of_present(1 - score_C, true_C, weights_C)

    def jaccard(logits_BCHW: Tensor, target: Any, weights_C: Tensor | None) -> Tensor:
        overlap_C, predicted_C, true_C = joint_areas(logits_BCHW, target)
        score_C = overlap_C / (predicted_C + true_C - overlap_C).clamp_min(EPS)
        return mean_of_present(1 - score_C, true_C, weights_C)

    def tversky(
        logits_BCHW: Tensor,
        target: Any,
        weights_C: Tensor | None,
        alpha: float = SALEHI_ALPHA,
        beta: float = SALEHI_BETA,
    ) -> Tensor:
        overlap_C, predicted_C, true_C = joint_areas(logits_BCHW, target)
        errors_C = alpha * (predicted_C - overlap_C) + beta * (true_C - overlap_C)
        score_C = overlap_C / (overlap_C + errors_C).clamp_min(EPS)
        return mean_of_present(1 - score_C, true_C, weights_C)

    return {"dice": dice, "jaccard": jaccard, "tversky": tversky}


def mean_of_present(loss_C: Tensor, true_C: Tensor, weights_C: Tensor | None) -> Tensor:
    """Returns the weighted mean over all classes, 0 for those without a true pixel (as in pytorch-toolbelt)."""
    present_C = (true_C > 0).to(loss_C.dtype)
    return (loss_C * (present_C if weights_C is None else present_C * weights_C)).mean()


def focus(distance: Tensor, gamma: float) -> Tensor:
    """Returns `distance ** gamma` of values in 0..1, with a finite gradient where the distance is 0."""
    return (distance.clamp_min(EPS) if 0 < gamma < 1 else distance).pow(gamma)


def on_grid(values: Tensor, stride: int) -> Tensor:
    """Returns every so manieth row and column of the last two axes, as far from one edge as from the other.

    Labels of 321 x 321 at a stride of 8 are those of rows and columns 0, 8, ..., 320: the places of the logits of
    DeepLabV2, whose PASCAL recipe compares labels and logits there, before the upsampling (Chen et al. 2017,
    https://arxiv.org/abs/1606.00915). Here full-size logits are taken at the same places, as not every network has
    logits of a stride of 8; where an upsampling aligns the corners, both are the same.

    >>> on_grid(torch.arange(10.0).expand(1, 10), 4)
    tensor([[0., 4., 8.]])
    >>> on_grid(torch.arange(12.0).expand(1, 12), 4)
    tensor([[1., 5., 9.]])
    """
    if stride == 1:
        return values
    top, left = ((length - 1) % stride // 2 for length in values.shape[-2:])
    return values[..., top::stride, left::stride]


def hardest(cost: Tensor, counts: Tensor, top: float) -> Tensor:
    """Returns where the share `top` of the values that count is, those of the highest cost, and equal ones: bool.

    No GPU waits for the number of values that count.

    Source: Wu et al. 2016, "Bridging Category-level and Instance-level Semantic Image Segmentation",
    https://arxiv.org/abs/1605.06885, of the whole batch instead of each image.

    >>> hardest(torch.tensor([3.0, 1.0, 2.0, 9.0]), torch.tensor([True, True, True, False]), 0.5)
    tensor([ True, False,  True, False])
    """
    ranked = group.gathered(cost.detach().masked_fill(~counts, -1).flatten())
    num_counted = group.summed(counts.sum()).double()
    number = (num_counted * top - 1e-6).ceil().long().clamp_min(1)  # 0.1 of 30 is 3.0000000000000004
    if cost.is_cuda:
        least = ranked.sort(descending=True).values.take(number - 1)
    else:  # an eighth of the time
        least = ranked.kthvalue(ranked.numel() + 1 - int(number)).values
    return counts & (cost.detach() >= least)


def lovasz_slopes(errors_P: Tensor, truth_P: Tensor) -> Tensor:
    """Returns the slope of the Lovasz extension of the Jaccard loss in each pixel's error, in the pixels' order."""
    order_P = errors_P.argsort(descending=True)
    hits_P = truth_P[order_P].cumsum(0)  # whole numbers: exact, and repeatable on CUDA
    ranks_P = torch.arange(1, len(hits_P) + 1, device=hits_P.device)
    num_true = hits_P[-1]
    jaccard_P = 1 - (num_true - hits_P).to(errors_P.dtype) / (num_true + ranks_P - hits_P)
    slopes_P = jaccard_P.diff(prepend=jaccard_P.new_zeros(1))
    return torch.empty_like(errors_P).scatter_(0, order_P, slopes_P)


def lovasz_sum(errors_CP: Tensor, truth_CP: Tensor, weights_C: Tensor | None) -> Tensor:
    """Returns the mean of the Lovasz extension over the classes that occur in the batch; 0 when none does.

    The errors of all ranks are sorted together. They are sent to all, 4 bytes per pixel and class.
    """
    with torch.no_grad():
        rows = zip(group.gathered(errors_CP), group.gathered(truth_CP), strict=True)
        slopes_CP = group.own_part(torch.stack([lovasz_slopes(*row) for row in rows]))
        share_C = (group.summed(truth_CP.sum(1)) > 0).to(errors_CP.dtype)
        share_C = share_C if weights_C is None else share_C * weights_C
        share_C = share_C / share_C.sum().clamp_min(EPS)
    return group.summed(((errors_CP * slopes_CP).sum(1) * share_C).sum())


def outline_scores(probs_BCHW: Tensor, truth_BCHW: Tensor, ignored_BCHW: Tensor) -> tuple[Tensor, Tensor]:
    """Returns the F1 of each class's outlines over a batch, and the pixels of its true outline: two (C,).

    Args:
        truth_BCHW: 1 where the class is, else 0.
        ignored_BCHW: 1 where ignored, else 0; one channel for all classes, or one each.
    """
    channels_last = torch.channels_last  # a CPU pools four times as fast in it
    is_counted = 1 - _widened(ignored_BCHW, OUTLINE_PX)
    drawn_BCHW = _outline(probs_BCHW.contiguous(memory_format=channels_last)) * is_counted
    true_BCHW = _outline(truth_BCHW.contiguous(memory_format=channels_last)) * is_counted
    near_BCHW, found_BCHW = drawn_BCHW * _widened(true_BCHW, REACH_PX), true_BCHW * _widened(drawn_BCHW, REACH_PX)
    sums = torch.stack([part.sum((0, 2, 3)) for part in (near_BCHW, drawn_BCHW, found_BCHW, true_BCHW)])
    near_C, drawn_C, found_C, true_C = group.summed(sums)
    precision_C, recall_C = near_C / drawn_C.clamp_min(EPS), found_C / true_C.clamp_min(EPS)
    return 2 * precision_C * recall_C / (precision_C + recall_C).clamp_min(EPS), true_C


def _outline(area_BCHW: Tensor) -> Tensor:
    """Returns how far each value is above the least of its neighbours: 1 on the inner border of a class, 0 inside."""
    return _widened(1 - area_BCHW, OUTLINE_PX) - (1 - area_BCHW)


def _widened(values_BCHW: Tensor, window_px: int) -> Tensor:
    """Returns the highest value within a window around each pixel."""
    return F.max_pool2d(values_BCHW, window_px, stride=1, padding=window_px // 2)


def mix_terms(
    terms: Mapping[str, Callable[..., Tensor]],
    mix: Sequence[tuple[str, float]],
    logits_BCHW: Tensor,
    target_of: Callable[[torch.dtype], Any],
    weights_C: Tensor | None,
) -> Loss:
    """Returns what `mixed_loss` does; terms take logits, `target_of(dtype of the logits)`, weights and settings."""
    with torch.autocast(logits_BCHW.device.type, enabled=False):
        logits_BCHW = logits_BCHW if logits_BCHW.dtype == torch.float64 else logits_BCHW.float()
        if weights_C is not None:
            weights_C = weights_C.to(logits_BCHW.device, logits_BCHW.dtype)
        target = target_of(logits_BCHW.dtype)
        parts = {name: term_parts(name) for name, _ in mix}
        values = {
            name: terms[loss](logits_BCHW, target, weights_C, **settings) for name, (loss, settings) in parts.items()
        }
        total = torch.stack([weight * values[name] for name, weight in mix]).sum()
    return Loss(total, {name: value.detach() for name, value in values.items()})
