"""Dice, Jaccard and Tversky losses: functions of how much the predicted and the true area of each class overlap.

Letters: B images, C classes, H rows, W columns. Logits are float32 or float64, masks class indices with one ignored
value, class weights (C,) of mean 1. Sums are over the whole batch; a class that the batch lacks contributes 0. Ignored
pixels enter no sum and get a zero gradient.

The formulas and constants are those of pytorch-toolbelt 0.8 (`losses.functional.soft_dice_score`, `DiceLoss`,
`JaccardLoss`), which build a one-hot target; here the sums are taken straight from the index mask, in double
precision where a class is summed up pixel by pixel, and the gradient is written out.
"""

from typing import Any

import torch
from torch import Tensor

from pipeline.segmentation import decision

EPS = 1e-7  # least denominator, as in pytorch-toolbelt
SALEHI_ALPHA, SALEHI_BETA = 0.3, 0.7  # weights of false positives and false negatives that the Tversky paper found best


class _OverlapSums(torch.autograd.Function):
    """Per class: sum of its probability over its true pixels, and over all pixels that are not ignored."""

    @staticmethod
    def forward(ctx: Any, logits_BCHW: Tensor, mask_BHW: Tensor, ignore: int) -> tuple[Tensor, Tensor]:
        probs_BCHW = decision.probs(logits_BCHW)
        ignored_BHW = mask_BHW == ignore
        if probs_BCHW.is_cuda or ignored_BHW.any():  # asking would make a GPU wait
            probs_BCHW.mul_(~ignored_BHW.unsqueeze(1))
        true_B1HW = mask_BHW.long().masked_fill(ignored_BHW, 0).unsqueeze(1)
        own_C = _sums_by_class(probs_BCHW, true_B1HW)
        ctx.save_for_backward(probs_BCHW, true_B1HW)
        return own_C, probs_BCHW.sum((0, 2, 3))

    @staticmethod
    def backward(ctx: Any, grad_own_C: Tensor, grad_all_C: Tensor) -> tuple[Tensor, None, None]:
        probs_BCHW, true_B1HW = ctx.saved_tensors
        grad_BCHW = torch.empty_like(probs_BCHW).copy_(grad_all_C.view(1, -1, 1, 1))
        grad_BCHW.scatter_(1, true_B1HW, (grad_own_C + grad_all_C).take(true_B1HW))
        return decision.logits_gradient(grad_BCHW, probs_BCHW), None, None  # 0 where ignored: probabilities are 0 there


def _sums_by_class(probs_BCHW: Tensor, true_B1HW: Tensor) -> Tensor:
    """Returns the sum of each class's probability over its true pixels: (C,), without waiting for a GPU."""
    num_classes = probs_BCHW.shape[1]
    if probs_BCHW.is_cuda:  # atomic additions would make two runs differ, and bincount would wait
        return torch.where(true_B1HW == _class_indices(probs_BCHW), probs_BCHW, 0).sum((0, 2, 3))
    own = probs_BCHW.gather(1, true_B1HW).flatten().double()  # one running sum per class: float32 would lose digits
    return torch.bincount(true_B1HW.flatten(), weights=own, minlength=num_classes).to(probs_BCHW.dtype)


def _class_indices(logits_BCHW: Tensor) -> Tensor:
    return torch.arange(logits_BCHW.shape[1], device=logits_BCHW.device).view(1, -1, 1, 1)


def class_pixels(mask_BHW: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Returns the number of true pixels of each class without ignored ones: (C,), without waiting for a GPU.

    >>> class_pixels(torch.tensor([[[0, 0, 2, 255]]], dtype=torch.uint8), 3, torch.float32)
    tensor([2., 0., 1.])
    """
    if mask_BHW.is_cuda:
        classes_C111 = torch.arange(num_classes, device=mask_BHW.device).view(-1, 1, 1, 1)
        return (mask_BHW == classes_C111).sum((1, 2, 3)).to(dtype)
    return torch.bincount(mask_BHW.flatten(), minlength=num_classes)[:num_classes].to(dtype)


def soft_dice(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, ignore: int) -> Tensor:
    """Returns 1 - soft Dice, `2 overlap / (predicted + true)`, averaged over classes. Source: as in the original."""
    overlap_C, predicted_C, true_C = _areas(logits_BCHW, mask_BHW, ignore)
    score_C = 2 * overlap_C / (predicted_C + true_C).clamp_min(EPS)
    return _mean_of_present(1 - score_C, true_C, weights_C)


def soft_jaccard(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, ignore: int) -> Tensor:
    """Returns 1 - soft intersection over union, averaged over classes."""
    overlap_C, predicted_C, true_C = _areas(logits_BCHW, mask_BHW, ignore)
    score_C = overlap_C / (predicted_C + true_C - overlap_C).clamp_min(EPS)
    return _mean_of_present(1 - score_C, true_C, weights_C)


def soft_tversky(
    logits_BCHW: Tensor,
    mask_BHW: Tensor,
    weights_C: Tensor | None,
    ignore: int,
    alpha: float = SALEHI_ALPHA,
    beta: float = SALEHI_BETA,
) -> Tensor:
    """Returns 1 - Tversky index, averaged over classes: soft Dice with a weight for each kind of error.

    Args:
        alpha: weight of false positives; 0.5 for both gives soft Dice, 1 for both soft Jaccard.
        beta: weight of false negatives.

    Source: Salehi et al. 2017, https://arxiv.org/abs/1706.05721.
    """
    overlap_C, predicted_C, true_C = _areas(logits_BCHW, mask_BHW, ignore)
    errors_C = alpha * (predicted_C - overlap_C) + beta * (true_C - overlap_C)
    score_C = overlap_C / (overlap_C + errors_C).clamp_min(EPS)
    return _mean_of_present(1 - score_C, true_C, weights_C)


def _areas(logits_BCHW: Tensor, mask_BHW: Tensor, ignore: int) -> tuple[Tensor, Tensor, Tensor]:
    """Returns soft overlap, predicted area and true area of each class in pixels: three (C,)."""
    overlap_C, predicted_C = _OverlapSums.apply(logits_BCHW, mask_BHW, ignore)
    return overlap_C, predicted_C, class_pixels(mask_BHW, logits_BCHW.shape[1], logits_BCHW.dtype)


def _mean_of_present(loss_C: Tensor, true_C: Tensor, weights_C: Tensor | None) -> Tensor:
    """Returns the weighted mean over all classes, 0 for those without a true pixel (as in pytorch-toolbelt)."""
    present_C = (true_C > 0).to(loss_C.dtype)
    return (loss_C * (present_C if weights_C is None else present_C * weights_C)).mean()
