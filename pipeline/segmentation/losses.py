"""The losses, each a function of logits, mask and class weights, and any mix of them.

    overlap   dice, jaccard, tversky: how much the predicted and the true area of each class overlap
    pixels    cross entropy, focal and bi-tempered loss: weighted means over pixels; bce: over pixels and classes
    shape     lovasz sorts the errors of a class, boundary compares its outlines

Letters: B images, C classes, H rows, W columns, P = B * H * W pixels. Logits are float32 or float64, masks class
indices and `IGNORE`, class weights (C,) of mean 1 or None. Ignored pixels enter no sum and get a zero gradient.

Overlap: sums are over the whole batch; a class that the batch lacks contributes 0. The formulas and constants are those
of pytorch-toolbelt 0.8 (`losses.functional.soft_dice_score`, `DiceLoss`, `JaccardLoss`), which build a one-hot target;
here the sums are taken straight from the index mask, in double precision where a class is summed up pixel by pixel, and
the gradient is written out.

Where several ranks train together, the batch is that of all of them, see `training/ranks/group.py`.

Pixels: all are computed from logits, never from the logarithm of a probability, so 0 is never met. torch's own mean is
not used: it is 0/0 on a batch whose pixels are all ignored, and its sum is not repeatable on CUDA.
"""

import functools
import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.config.competition import IGNORE
from pipeline.config.loss_mix import CIFAR_T1, CIFAR_T2, FOCAL_GAMMA
from pipeline.segmentation import decision
from pipeline.segmentation.loss_parts import (
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
from pipeline.segmentation.losses_by_class import one_hot_binary_cross_entropy
from pipeline.task import Loss
from pipeline.training.ranks.group import summed

FIXED_POINT_STEPS = 10  # the sum of a pixel's probabilities is then 1 up to 1e-8; the paper's 5 leave 4e-5


class _OverlapSums(torch.autograd.Function):
    """Per class: sum of its probability over its true pixels, and over all pixels that are not ignored."""

    @staticmethod
    def forward(ctx: Any, logits_BCHW: Tensor, mask_BHW: Tensor) -> tuple[Tensor, Tensor]:
        probs_BCHW = decision.probs(logits_BCHW)
        ignored_BHW = mask_BHW == IGNORE
        if probs_BCHW.is_cuda or ignored_BHW.any():  # asking would make a GPU wait
            probs_BCHW.mul_(~ignored_BHW.unsqueeze(1))
        true_B1HW = mask_BHW.long().masked_fill(ignored_BHW, 0).unsqueeze(1)
        own_C = _sums_by_class(probs_BCHW, true_B1HW)
        ctx.save_for_backward(probs_BCHW, true_B1HW)
        return own_C, probs_BCHW.sum((0, 2, 3))

    @staticmethod
    def backward(ctx: Any, grad_own_C: Tensor, grad_all_C: Tensor) -> tuple[Tensor, None]:
        probs_BCHW, true_B1HW = ctx.saved_tensors
        grad_BCHW = torch.empty_like(probs_BCHW).copy_(grad_all_C.view(1, -1, 1, 1))
        grad_BCHW.scatter_(1, true_B1HW, (grad_own_C + grad_all_C).take(true_B1HW))
        return decision.logits_gradient(grad_BCHW, probs_BCHW), None  # 0 where ignored: probabilities are 0 there


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


def _areas(logits_BCHW: Tensor, mask_BHW: Tensor) -> Areas:
    """Returns soft overlap, predicted area and true area of each class in pixels: three (C,)."""
    overlap_C, predicted_C = _OverlapSums.apply(logits_BCHW, mask_BHW)
    return overlap_C, predicted_C, class_pixels(mask_BHW, logits_BCHW.shape[1], logits_BCHW.dtype)


def cross_entropy(
    logits_BCHW: Tensor,
    mask_BHW: Tensor,
    weights_C: Tensor | None,
    stride: int = 1,
    top: float = 1.0,
    below: float = 0.0,
    smooth: float = 0.0,
) -> Tensor:
    """Returns the mean cross entropy over the pixels that are not ignored, weighted by class (0 when all are).

    Args:
        stride: see `on_grid`.
        top: the share of the pixels whose mean it is, those of the highest weighted loss; see `hardest`.
        below: beyond these, pixels whose true class has a probability below this: with both it is the online hard
            example mining of mmsegmentation's `OHEMPixelSampler`, whose `min_kept` is a number.
        smooth: share of each label that is spread evenly over all classes, as in `torch.nn.CrossEntropyLoss`.
            Source: Szegedy et al. 2016, https://arxiv.org/abs/1512.00567.
    """
    mask_BHW, log_probs_BCHW = on_grid(mask_BHW, stride), decision.log_probs(on_grid(logits_BCHW, stride))
    nll_BHW = F.nll_loss(log_probs_BCHW, mask_BHW.long(), ignore_index=IGNORE, reduction="none")
    weight_BHW = _weight(mask_BHW, weights_C, nll_BHW.dtype)
    is_used_BHW = mask_BHW != IGNORE
    if top < 1:
        is_used_BHW = _hardest(nll_BHW, weight_BHW, top, below)
        weight_BHW = weight_BHW * is_used_BHW
    total = summed(weight_BHW.sum()).clamp_min(torch.finfo(nll_BHW.dtype).tiny)
    loss = (nll_BHW * (weight_BHW / total)).sum()
    if not smooth:
        return summed(loss)
    spread_BCHW = -log_probs_BCHW if weights_C is None else -log_probs_BCHW * weights_C.view(1, -1, 1, 1)
    return summed((1 - smooth) * loss + smooth * (spread_BCHW.mean(1) * (is_used_BHW / total)).sum())


def focal(
    logits_BCHW: Tensor,
    mask_BHW: Tensor,
    weights_C: Tensor | None,
    gamma: float = FOCAL_GAMMA,
    stride: int = 1,
    top: float = 1.0,
) -> Tensor:
    """Returns the mean of each pixel's cross entropy times `(1 - p) ** gamma`, p the probability of its true class.

    Args:
        gamma: how fast pixels that are right already fade out; 0 gives the cross entropy.
        stride, top: as of `cross_entropy`.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, in its softmax form; smp's `FocalLoss` is the
    one-against-all form and NaN on a batch of ignored pixels.
    """
    mask_BHW = on_grid(mask_BHW, stride)
    nll_BHW = _nll(on_grid(logits_BCHW, stride), mask_BHW)
    doubt_BHW = -torch.expm1(-nll_BHW)  # 1 - p, with all its digits when p is nearly 1
    loss_BHW = focus(doubt_BHW, gamma) * nll_BHW
    return summed((loss_BHW * _share(mask_BHW, weights_C, loss_BHW, top)).sum())


def bitempered(
    logits_BCHW: Tensor,
    mask_BHW: Tensor,
    weights_C: Tensor | None,
    t1: float = CIFAR_T1,
    t2: float = CIFAR_T2,
    stride: int = 1,
    top: float = 1.0,
) -> Tensor:
    """Returns the mean bi-tempered logistic loss, for masks with wrong labels and careless borders.

    No pixel costs more than `1 / (1 - t1)`, 5 by default, however certain the network is against its
    label, and the softmax has heavy tails, so that the network need not bend its border around a wrong label.

    Args:
        t1: temperature of the logarithm, below 1 for a bounded loss; near 1 for both it is the cross entropy.
        t2: temperature of the softmax, above 1 for heavy tails.
        stride, top: as of `cross_entropy`.

    Source: Amid et al. 2019, https://arxiv.org/abs/1906.03361, as computed by pytorch-toolbelt. On a CPU it takes 20
    times as long as the cross entropy.
    """
    mask_BHW = on_grid(mask_BHW, stride)
    true_P = mask_BHW.long().masked_fill(mask_BHW == IGNORE, 0).flatten()
    logits_PC = on_grid(logits_BCHW, stride).movedim(1, -1).flatten(0, 2)
    loss_P = _toolbelt_loss()(logits_PC, true_P, t1, t2, num_iters=FIXED_POINT_STEPS, reduction="none")
    return summed((loss_P * _share(mask_BHW, weights_C, loss_P.view(mask_BHW.shape), top).flatten()).sum())


@functools.cache
def _toolbelt_loss() -> Callable[..., Tensor]:
    """Returns the bi-tempered loss of pytorch-toolbelt, imported at its first use, which takes seconds."""
    with warnings.catch_warnings():
        # By other losses of the package when they are imported.
        warnings.filterwarnings("ignore", message=".torch.cuda.amp.autocast", category=FutureWarning)
        from pytorch_toolbelt.losses.bitempered_loss import bi_tempered_logistic_loss
    return bi_tempered_logistic_loss


def _nll(logits_BCHW: Tensor, mask_BHW: Tensor) -> Tensor:
    """Returns the negative log likelihood of each pixel's true class: (B, H, W)."""
    return F.nll_loss(decision.log_probs(logits_BCHW), mask_BHW.long(), ignore_index=IGNORE, reduction="none")


def _share(mask_BHW: Tensor, weights_C: Tensor | None, loss_BHW: Tensor, top: float = 1.0) -> Tensor:
    """Returns each pixel's share of the mean: (B, H, W), ignored pixels 0, the sum 1 (or 0)."""
    weight_BHW = _weight(mask_BHW, weights_C, loss_BHW.dtype)
    if top < 1:
        weight_BHW = weight_BHW * _hardest(loss_BHW, weight_BHW, top)
    return weight_BHW / summed(weight_BHW.sum()).clamp_min(torch.finfo(loss_BHW.dtype).tiny)


def _weight(mask_BHW: Tensor, weights_C: Tensor | None, dtype: torch.dtype) -> Tensor:
    """Returns the weight of each pixel's class: (B, H, W), 0 where ignored."""
    true_BHW = mask_BHW.long()
    counts_BHW = true_BHW != IGNORE
    weight_BHW = counts_BHW.to(dtype)
    return weight_BHW if weights_C is None else weight_BHW * weights_C.take(true_BHW.masked_fill(~counts_BHW, 0))


def _hardest(loss_BHW: Tensor, weight_BHW: Tensor, top: float, below: float = 0.0) -> Tensor:
    """Returns which pixels have the highest weighted loss, or a label of a probability below `below`: bool."""
    counts_BHW = weight_BHW > 0
    is_hard_BHW = hardest(loss_BHW * weight_BHW, counts_BHW, top)
    return is_hard_BHW if not below else is_hard_BHW | (counts_BHW & (loss_BHW > -math.log(below)))


def lovasz(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None) -> Tensor:
    """Returns Lovasz-Softmax over the whole batch, averaged over the classes that occur in it (0 when none does).

    Source: Berman et al. 2018, https://arxiv.org/abs/1705.08790. Equal to `LovaszLoss` of smp and pytorch-toolbelt,
    which have no class weights, return an empty tensor when every pixel is ignored, and make a GPU wait for each class.
    Ignored pixels get error 0, so they are sorted last and have no effect.
    """
    num_classes = logits_BCHW.shape[1]
    probs_CP = decision.probs(logits_BCHW).transpose(0, 1).reshape(num_classes, -1)
    mask_P = mask_BHW.flatten()
    truth_CP = mask_P == torch.arange(num_classes, device=mask_P.device).unsqueeze(1)
    errors_CP = (truth_CP.to(probs_CP.dtype) - probs_CP).abs() * (mask_P != IGNORE)
    return lovasz_sum(errors_CP, truth_CP, weights_C)


def boundary(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None) -> Tensor:
    """Returns 1 - F1 of the outlines, averaged over classes; a class without a true outline contributes 0.

    Precision: share of the predicted outline within two pixels of the true one; recall: the other way round. Outlines
    come from max-pooling, so everything stays on the device; distance maps (Kervadec et al. 2019) would be computed
    on the CPU for each batch, and grow without bound away from the border.

    Source: Bokhovkin and Burnaev 2019, https://arxiv.org/abs/1905.07852, windows 3 and 5 as there. It differs in that
    sums are over the batch, as in soft Dice, instead of over each image, and that outlines next to ignored pixels,
    where the border is unknown, are left out. The edge of the image is no outline.
    """
    truth_BCHW = (mask_BHW.unsqueeze(1) == _class_indices(logits_BCHW)).to(logits_BCHW.dtype)
    ignored_B1HW = (mask_BHW == IGNORE).unsqueeze(1).to(logits_BCHW.dtype)
    score_C, true_C = outline_scores(decision.probs(logits_BCHW), truth_BCHW, ignored_B1HW)
    return mean_of_present(1 - score_C, true_C, weights_C)


OVERLAP = overlap_terms(_areas)
TERMS: dict[str, Callable[..., Tensor]] = {
    "dice": OVERLAP["dice"],
    "jaccard": OVERLAP["jaccard"],
    "ce": cross_entropy,
    "focal": focal,
    "bitempered": bitempered,
    "lovasz": lovasz,
    "tversky": OVERLAP["tversky"],
    "boundary": boundary,
    "bce": one_hot_binary_cross_entropy,
}


def mixed_loss(
    mix: Sequence[tuple[str, float]], logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None = None
) -> Loss:
    """Returns the loss of a batch: float32 (float64 for float64 logits), 0 with a zero gradient when all is ignored.

    Args:
        mix: name and weight of each term, as `parse_mix` returns them; the weights need not sum to 1.
        logits_BCHW: network output; half precision is converted to float32, under autocast too.
        mask_BHW: true classes 0 to C - 1 or `IGNORE`, uint8 or int64.
        weights_C: of mean 1; None weighs all classes alike.

    Raises:
        ValueError: the shapes of logits and mask do not fit.
        IndexError: a mask value is not a class.

    >>> mixed_loss([("ce", 0.7), ("dice", 0.3)], torch.zeros(1, 2, 1, 2), torch.tensor([[[0, 1]]])).total
    tensor(0.6352)
    """
    if logits_BCHW[:, 0].shape != mask_BHW.shape:
        raise ValueError(f"logits {tuple(logits_BCHW.shape)} and mask {tuple(mask_BHW.shape)} do not fit")
    return mix_terms(TERMS, mix, logits_BCHW, lambda dtype: mask_BHW, weights_C)
