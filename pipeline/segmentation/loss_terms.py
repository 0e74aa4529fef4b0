"""The formulas of the losses, each a function of logits, mask, class weights and the ignored value.

    overlap   dice, jaccard, tversky: how much the predicted and the true area of each class overlap
    pixels    cross entropy and focal loss: weighted means over pixels
    shape     lovasz orders the errors of a class, boundary compares its outline

Letters: B images, C classes, H rows, W columns, P = B * H * W pixels. Logits are float32 or float64, masks class
indices with one ignored value, class weights (C,) of mean 1. Ignored pixels count nowhere and get a zero gradient.

Overlap: sums run over batch and pixels, so a class needs to occur in the batch only once; a class that the batch lacks
contributes 0. The formulas and constants are those of pytorch-toolbelt 0.8 (`losses.functional.soft_dice_score`,
`DiceLoss`, `JaccardLoss`), which build a one-hot target; here the sums are taken straight from the index mask, in
double precision where a class is summed up pixel by pixel, and the gradient is written out.

Pixels: both are computed from logits, never from the logarithm of a probability, so 0 is never met. torch's own mean is
not used: it is 0/0 on a batch whose pixels are all ignored, and its sum is not repeatable on CUDA.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.segmentation import decision

EPS = 1e-7  # least denominator, as in pytorch-toolbelt
OUTLINE_PX = 3  # window of the outline's max-pooling: one pixel inside the border of a class
REACH_PX = 5  # window within which a predicted outline still meets the true one: two pixels off
SALEHI_ALPHA, SALEHI_BETA = 0.3, 0.7  # weights of false positives and false negatives that the Tversky paper found best


class _OverlapSums(torch.autograd.Function):
    """Per class: sum of its probability over its own true pixels, and over all pixels that count."""

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
    """Sum of each class's probability over the pixels whose true class it is: (C,), without waiting for a GPU."""
    num_classes = probs_BCHW.shape[1]
    if probs_BCHW.is_cuda:  # atomic additions would make two runs differ, and bincount would wait
        return torch.where(true_B1HW == _class_indices(probs_BCHW), probs_BCHW, 0).sum((0, 2, 3))
    own = probs_BCHW.gather(1, true_B1HW).flatten().double()  # one running sum per class: float32 would lose digits
    return torch.bincount(true_B1HW.flatten(), weights=own, minlength=num_classes).to(probs_BCHW.dtype)


def _class_indices(logits_BCHW: Tensor) -> Tensor:
    return torch.arange(logits_BCHW.shape[1], device=logits_BCHW.device).view(1, -1, 1, 1)


def class_pixels(mask_BHW: Tensor, num_classes: int, dtype: torch.dtype) -> Tensor:
    """Number of true pixels of each class: (C,), ignored ones left out, without waiting for a GPU.

    >>> class_pixels(torch.tensor([[[0, 0, 2, 255]]], dtype=torch.uint8), 3, torch.float32)
    tensor([2., 0., 1.])
    """
    if mask_BHW.is_cuda:
        classes_C111 = torch.arange(num_classes, device=mask_BHW.device).view(-1, 1, 1, 1)
        return (mask_BHW == classes_C111).sum((1, 2, 3)).to(dtype)
    return torch.bincount(mask_BHW.flatten(), minlength=num_classes)[:num_classes].to(dtype)


def soft_dice(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, ignore: int) -> Tensor:
    """1 - soft Dice, `2 overlap / (predicted + true)`, weighted mean over all classes. Source: as in the original."""
    overlap_C, predicted_C, true_C = _areas(logits_BCHW, mask_BHW, ignore)
    score_C = 2 * overlap_C / (predicted_C + true_C).clamp_min(EPS)
    return _mean_of_present(1 - score_C, true_C, weights_C)


def soft_jaccard(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, ignore: int) -> Tensor:
    """1 - soft intersection over union, weighted mean over all classes."""
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
    """1 - Tversky index, weighted mean over all classes: soft Dice with its own price for each kind of error.

    Args:
        alpha: price of false positives; 0.5 for both gives soft Dice, 1 for both soft Jaccard.
        beta: price of false negatives.

    Source: Salehi et al. 2017, https://arxiv.org/abs/1706.05721.
    """
    overlap_C, predicted_C, true_C = _areas(logits_BCHW, mask_BHW, ignore)
    errors_C = alpha * (predicted_C - overlap_C) + beta * (true_C - overlap_C)
    score_C = overlap_C / (overlap_C + errors_C).clamp_min(EPS)
    return _mean_of_present(1 - score_C, true_C, weights_C)


def _areas(logits_BCHW: Tensor, mask_BHW: Tensor, ignore: int) -> tuple[Tensor, Tensor, Tensor]:
    """Soft overlap, predicted and true area of each class in pixels: three (C,)."""
    overlap_C, predicted_C = _OverlapSums.apply(logits_BCHW, mask_BHW, ignore)
    return overlap_C, predicted_C, class_pixels(mask_BHW, logits_BCHW.shape[1], logits_BCHW.dtype)


def _mean_of_present(loss_C: Tensor, true_C: Tensor, weights_C: Tensor | None) -> Tensor:
    """Mean over all classes, those without a true pixel counting as 0 (as in pytorch-toolbelt)."""
    present_C = (true_C > 0).to(loss_C.dtype)
    return (loss_C * (present_C if weights_C is None else present_C * weights_C)).mean()


def cross_entropy(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, ignore: int) -> Tensor:
    """Mean cross entropy over the pixels that count, each with its class's weight (0 when none counts)."""
    nll_BHW, share_BHW = _nll_and_share(logits_BCHW, mask_BHW, weights_C, ignore)
    return (nll_BHW * share_BHW).sum()


def focal(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, ignore: int, gamma: float = 2.0) -> Tensor:
    """Cross entropy of each pixel times `(1 - p) ** gamma`, p the probability of its true class.

    Args:
        gamma: how fast pixels that are right already fade out; 0 gives the cross entropy.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, in its softmax form; smp's `FocalLoss` is the
    one-against-all form and NaN on a batch of ignored pixels.
    """
    nll_BHW, share_BHW = _nll_and_share(logits_BCHW, mask_BHW, weights_C, ignore)
    doubt_BHW = -torch.expm1(-nll_BHW)  # 1 - p, with all its digits when p is nearly 1
    return (doubt_BHW.pow(gamma) * nll_BHW * share_BHW).sum()


def _nll_and_share(
    logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, ignore: int
) -> tuple[Tensor, Tensor]:
    """Negative log likelihood of each pixel, and its share of the mean: ignored pixels 0, the sum 1 (or 0)."""
    true_BHW = mask_BHW.long()
    nll_BHW = F.nll_loss(decision.log_probs(logits_BCHW), true_BHW, ignore_index=ignore, reduction="none")
    counts_BHW = true_BHW != ignore
    weight_BHW = counts_BHW.to(nll_BHW.dtype)
    if weights_C is not None:
        weight_BHW = weight_BHW * weights_C.take(true_BHW.masked_fill(~counts_BHW, 0))
    return nll_BHW, weight_BHW / weight_BHW.sum().clamp_min(torch.finfo(weight_BHW.dtype).tiny)


def lovasz(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, ignore: int) -> Tensor:
    """Lovasz-Softmax over the whole batch, weighted mean over the classes that occur in it (0 when none does).

    Source: Berman et al. 2018, https://arxiv.org/abs/1705.08790. Equal to `LovaszLoss` of smp and pytorch-toolbelt on
    their ground, except where those fail: they return an empty tensor when every pixel is ignored, know no class
    weights, and make a GPU wait for each class. Ignored pixels get error 0, which puts them last, where they weigh
    nothing.
    """
    num_classes = logits_BCHW.shape[1]
    probs_CP = decision.probs(logits_BCHW).transpose(0, 1).reshape(num_classes, -1)
    mask_P = mask_BHW.flatten()
    truth_CP = mask_P == torch.arange(num_classes, device=mask_P.device).unsqueeze(1)
    errors_CP = (truth_CP.to(probs_CP.dtype) - probs_CP).abs() * (mask_P != ignore)
    with torch.no_grad():
        slopes_CP = torch.stack([_lovasz_slopes(*rows) for rows in zip(errors_CP, truth_CP, strict=True)])
        share_C = truth_CP.any(1).to(probs_CP.dtype)
        share_C = share_C if weights_C is None else share_C * weights_C
        share_C = share_C / share_C.sum().clamp_min(EPS)
    return ((errors_CP * slopes_CP).sum(1) * share_C).sum()


def _lovasz_slopes(errors_P: Tensor, truth_P: Tensor) -> Tensor:
    """Slope of the Lovasz extension of the Jaccard loss in each pixel's error, in the order of the pixels."""
    order_P = errors_P.argsort(descending=True)
    hits_P = truth_P[order_P].cumsum(0)  # whole numbers: exact, and repeatable on CUDA
    ranks_P = torch.arange(1, len(hits_P) + 1, device=hits_P.device)
    num_true = hits_P[-1]
    jaccard_P = 1 - (num_true - hits_P).to(errors_P.dtype) / (num_true + ranks_P - hits_P)
    slopes_P = jaccard_P.diff(prepend=jaccard_P.new_zeros(1))
    return torch.empty_like(errors_P).scatter_(0, order_P, slopes_P)


def boundary(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, ignore: int) -> Tensor:
    """1 - F1 of the outlines, weighted mean over all classes; a class without a true outline contributes 0.

    Precision: share of the predicted outline within two pixels of the true one; recall: the other way round. Outlines
    come from max-pooling, so everything stays on the device; distance maps (Kervadec et al. 2019) would be computed
    on the CPU for each batch, and grow without bound away from the border.

    Source: Bokhovkin and Burnaev 2019, https://arxiv.org/abs/1905.07852, windows 3 and 5 as there. It differs in that
    sums run over the batch as in soft Dice instead of over each image, and that outlines next to ignored pixels,
    where the border is not known, count nowhere. The edge of the image is no outline.
    """
    ignored_B1HW = (mask_BHW == ignore).unsqueeze(1)
    near_ignored_B1HW = _widened(ignored_B1HW.to(logits_BCHW.dtype), OUTLINE_PX)
    truth_BCHW = (mask_BHW.unsqueeze(1) == _class_indices(logits_BCHW)).to(logits_BCHW.dtype)
    channels_last = torch.channels_last  # in which a CPU pools four times as fast
    drawn_BCHW = _outline(decision.probs(logits_BCHW).contiguous(memory_format=channels_last)) * (1 - near_ignored_B1HW)
    true_BCHW = _outline(truth_BCHW.contiguous(memory_format=channels_last)) * (1 - near_ignored_B1HW)
    true_C = true_BCHW.sum((0, 2, 3))
    precision_C = (drawn_BCHW * _widened(true_BCHW, REACH_PX)).sum((0, 2, 3)) / drawn_BCHW.sum((0, 2, 3)).clamp_min(EPS)
    recall_C = (true_BCHW * _widened(drawn_BCHW, REACH_PX)).sum((0, 2, 3)) / true_C.clamp_min(EPS)
    score_C = 2 * precision_C * recall_C / (precision_C + recall_C).clamp_min(EPS)
    return _mean_of_present(1 - score_C, true_C, weights_C)


def _outline(area_BCHW: Tensor) -> Tensor:
    """How far each value lies above the least of its neighbours: 1 on the inner border of a hard area, 0 within it."""
    return _widened(1 - area_BCHW, OUTLINE_PX) - (1 - area_BCHW)


def _widened(values_BCHW: Tensor, window_px: int) -> Tensor:
    return F.max_pool2d(values_BCHW, window_px, stride=1, padding=window_px // 2)
