"""Cross entropy and focal loss: weighted means over pixels.

Letters: B images, C classes, H rows, W columns. Logits are float32 or float64, masks class indices with one ignored
value. Both are computed from logits, never from the logarithm of a probability, so 0 is never met. torch's own mean is
not used: it is 0/0 on a batch whose pixels are all ignored, and its sum is not repeatable on CUDA.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from pipeline.model import decision


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
