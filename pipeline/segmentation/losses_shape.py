"""Lovasz and boundary losses: one sorts the errors of a class, the other compares its outlines.

Letters: B images, C classes, H rows, W columns, P = B * H * W pixels. Logits are float32 or float64, masks class
indices with one ignored value, class weights (C,).
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.segmentation import decision

OUTLINE_PX = 3  # window of the outline's max-pooling: the outline lies one pixel inside the border of a class
REACH_PX = 5  # window of the match: a predicted outline up to two pixels off still matches the true one
EPS = 1e-7


def lovasz(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, ignore: int) -> Tensor:
    """Returns Lovasz-Softmax over the whole batch, averaged over the classes that occur in it (0 when none does).

    Source: Berman et al. 2018, https://arxiv.org/abs/1705.08790. Equal to `LovaszLoss` of smp and pytorch-toolbelt,
    which have no class weights, return an empty tensor when every pixel is ignored, and make a GPU wait for each class.
    Ignored pixels get error 0, so they are sorted last and have no effect.
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
    """Returns the slope of the Lovasz extension of the Jaccard loss in each pixel's error, in the pixels' order."""
    order_P = errors_P.argsort(descending=True)
    hits_P = truth_P[order_P].cumsum(0)  # whole numbers: exact, and repeatable on CUDA
    ranks_P = torch.arange(1, len(hits_P) + 1, device=hits_P.device)
    num_true = hits_P[-1]
    jaccard_P = 1 - (num_true - hits_P).to(errors_P.dtype) / (num_true + ranks_P - hits_P)
    slopes_P = jaccard_P.diff(prepend=jaccard_P.new_zeros(1))
    return torch.empty_like(errors_P).scatter_(0, order_P, slopes_P)


def boundary(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, ignore: int) -> Tensor:
    """Returns 1 - F1 of the outlines, averaged over classes; a class without a true outline contributes 0.

    Precision: share of the predicted outline within two pixels of the true one; recall: the other way round. Outlines
    come from max-pooling, so everything stays on the device; distance maps (Kervadec et al. 2019) would be computed
    on the CPU for each batch, and grow without bound away from the border.

    Source: Bokhovkin and Burnaev 2019, https://arxiv.org/abs/1905.07852, windows 3 and 5 as there. It differs in that
    sums are over the batch, as in soft Dice, instead of over each image, and that outlines next to ignored pixels,
    where the border is unknown, are left out. The edge of the image is no outline.
    """
    ignored_B1HW = (mask_BHW == ignore).unsqueeze(1)
    near_ignored_B1HW = _widened(ignored_B1HW.to(logits_BCHW.dtype), OUTLINE_PX)
    classes_1C11 = torch.arange(logits_BCHW.shape[1], device=mask_BHW.device).view(1, -1, 1, 1)
    truth_BCHW = (mask_BHW.unsqueeze(1) == classes_1C11).to(logits_BCHW.dtype)
    channels_last = torch.channels_last  # in which a CPU pools four times as fast
    drawn_BCHW = _outline(decision.probs(logits_BCHW).contiguous(memory_format=channels_last)) * (1 - near_ignored_B1HW)
    true_BCHW = _outline(truth_BCHW.contiguous(memory_format=channels_last)) * (1 - near_ignored_B1HW)
    true_C = true_BCHW.sum((0, 2, 3))
    precision_C = (drawn_BCHW * _widened(true_BCHW, REACH_PX)).sum((0, 2, 3)) / drawn_BCHW.sum((0, 2, 3)).clamp_min(EPS)
    recall_C = (true_BCHW * _widened(drawn_BCHW, REACH_PX)).sum((0, 2, 3)) / true_C.clamp_min(EPS)
    score_C = 2 * precision_C * recall_C / (precision_C + recall_C).clamp_min(EPS)
    present_C = (true_C > 0).to(score_C.dtype)
    return ((1 - score_C) * (present_C if weights_C is None else present_C * weights_C)).mean()


def _outline(area_BCHW: Tensor) -> Tensor:
    """Returns how far each value is above the least of its neighbours: 1 on the inner border of a class, 0 inside."""
    return _widened(1 - area_BCHW, OUTLINE_PX) - (1 - area_BCHW)


def _widened(values_BCHW: Tensor, window_px: int) -> Tensor:
    """Returns the highest value within a window around each pixel."""
    return F.max_pool2d(values_BCHW, window_px, stride=1, padding=window_px // 2)
