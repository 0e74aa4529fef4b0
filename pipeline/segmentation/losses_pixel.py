"""Cross entropy, focal loss and bi-tempered logistic loss: weighted means over pixels.

Letters: B images, C classes, H rows, W columns, P = B * H * W pixels. Logits are float32 or float64, masks class
indices with one ignored value. Cross entropy and focal loss are computed from logits, never from the logarithm of a
probability, which may be 0. torch's own mean is not used: it is 0/0 on a batch whose pixels are all ignored, and its
sum is not repeatable on CUDA.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.segmentation import decision

CIFAR_T1, CIFAR_T2 = 0.8, 1.2  # temperatures of loss and softmax that the bi-tempered paper used on CIFAR-100
FIXED_POINT_STEPS = 10  # the sum of a pixel's probabilities is then 1 up to 1e-8; the paper's 5 leave 4e-5


def cross_entropy(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, ignore: int) -> Tensor:
    """Returns the mean cross entropy over the pixels that are not ignored, weighted by class (0 when all are)."""
    nll_BHW = _nll(logits_BCHW, mask_BHW, ignore)
    return (nll_BHW * _share(mask_BHW, weights_C, ignore, nll_BHW.dtype)).sum()


def focal(logits_BCHW: Tensor, mask_BHW: Tensor, weights_C: Tensor | None, ignore: int, gamma: float = 2.0) -> Tensor:
    """Returns the mean of each pixel's cross entropy times `(1 - p) ** gamma`, p the probability of its true class.

    Args:
        gamma: how fast pixels that are right already fade out; 0 gives the cross entropy.

    Source: Lin et al. 2017, https://arxiv.org/abs/1708.02002, in its softmax form; smp's `FocalLoss` is the
    one-against-all form and NaN on a batch of ignored pixels.
    """
    nll_BHW = _nll(logits_BCHW, mask_BHW, ignore)
    doubt_BHW = -torch.expm1(-nll_BHW)  # 1 - p, with all its digits when p is nearly 1
    return (doubt_BHW.pow(gamma) * nll_BHW * _share(mask_BHW, weights_C, ignore, nll_BHW.dtype)).sum()


def bitempered(
    logits_BCHW: Tensor,
    mask_BHW: Tensor,
    weights_C: Tensor | None,
    ignore: int,
    t1: float = CIFAR_T1,
    t2: float = CIFAR_T2,
) -> Tensor:
    """Returns the mean bi-tempered logistic loss, for masks with wrong labels and careless borders.

    No pixel costs more than `1 / (1 - t1)`, 5 by default, however certain the network is against its
    label, and the softmax has heavy tails, so that the network need not bend its border around a wrong label.

    Args:
        t1: temperature of the logarithm, below 1 for a bounded loss; 1 for both gives the cross entropy.
        t2: temperature of the softmax, above 1 for heavy tails.

    Source: Amid et al. 2019, https://arxiv.org/abs/1906.03361, as computed by pytorch-toolbelt. On a CPU it takes 20
    times as long as the cross entropy.
    """
    from pytorch_toolbelt.losses.bitempered_loss import bi_tempered_logistic_loss  # takes seconds to import

    true_P = mask_BHW.long().masked_fill(mask_BHW == ignore, 0).flatten()
    logits_PC = logits_BCHW.movedim(1, -1).flatten(0, 2)
    loss_P = bi_tempered_logistic_loss(logits_PC, true_P, t1, t2, num_iters=FIXED_POINT_STEPS, reduction="none")
    return (loss_P * _share(mask_BHW, weights_C, ignore, loss_P.dtype).flatten()).sum()


def _nll(logits_BCHW: Tensor, mask_BHW: Tensor, ignore: int) -> Tensor:
    """Returns the negative log likelihood of each pixel's true class: (B, H, W)."""
    return F.nll_loss(decision.log_probs(logits_BCHW), mask_BHW.long(), ignore_index=ignore, reduction="none")


def _share(mask_BHW: Tensor, weights_C: Tensor | None, ignore: int, dtype: torch.dtype) -> Tensor:
    """Returns each pixel's share of the mean: (B, H, W), ignored pixels 0, the sum 1 (or 0)."""
    true_BHW = mask_BHW.long()
    counts_BHW = true_BHW != ignore
    weight_BHW = counts_BHW.to(dtype)
    if weights_C is not None:
        weight_BHW = weight_BHW * weights_C.take(true_BHW.masked_fill(~counts_BHW, 0))
    return weight_BHW / weight_BHW.sum().clamp_min(torch.finfo(dtype).tiny)
