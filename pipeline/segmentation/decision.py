"""The decision rule of one class per pixel: logits to probabilities, to classes, to counts of pixels.

Softmax over the classes, the most probable class, a confusion matrix. Its counterpart for several classes per pixel is
`sigmoid.py`; `activation.py` says which of them is used.

Letters: B images, C classes, H rows, W columns, P pixels. Predictions and masks are uint8 class indices; 255 in a mask
is ignored. No function here makes a GPU wait.
"""

import math

import numpy as np
import torch
from torch import Tensor

from pipeline.config.competition import IGNORE

LEAST_LOG = math.log(torch.finfo(torch.float32).tiny)  # of a probability that underflowed
BLOCK_PIXELS = 2**17  # pixels per block of `choose`: half a megabyte of float32 per class stays in the cache
NUM_LANES = 64  # counters per cell of a matrix on a GPU, so that neighbouring pixels do not wait for each other


def probs(logits: Tensor, class_dim: int = 1) -> Tensor:
    """Returns the probability of each class: the shape and type of the logits."""
    return logits.softmax(class_dim)


def log_probs(logits_BCHW: Tensor) -> Tensor:
    """Returns the logarithm of `probs`, finite where a probability underflows."""
    return logits_BCHW.log_softmax(1)


def logits_gradient(grad_BCHW: Tensor, probs_BCHW: Tensor) -> Tensor:
    """Returns the gradient of logits from that of `probs`; a pixel whose probabilities are all 0 gets none.

    On a CPU the result overwrites `grad_BCHW`, which spares a tensor of the logits' size and its page faults.
    """
    out_BCHW = torch.empty_like(grad_BCHW) if grad_BCHW.is_cuda else grad_BCHW
    torch.ops.aten._softmax_backward_data.out(grad_BCHW, probs_BCHW, 1, probs_BCHW.dtype, grad_input=out_BCHW)
    return out_BCHW


def from_probs(probs: Tensor) -> Tensor:
    """Returns the logarithm of probabilities, in place; finite where one underflowed."""
    return probs.log_().clamp_min_(LEAST_LOG)


def unnormalised_log_probs(logits: Tensor) -> Tensor:
    """Returns log probabilities plus a term that all classes of a pixel share: enough to rank them, and no softmax."""
    return logits


def choose(scores_BCHW: Tensor) -> Tensor:
    """Returns the class of the highest score of each pixel, the first one on a tie: (B, H, W) uint8.

    Logits, probabilities and weighted sums of them all serve; up to 255 classes. On a CPU it is a running maximum over
    the classes in blocks of rows; `argmax(1)` jumps from plane to plane for each pixel and takes some fifteen times as
    long.

    >>> choose(torch.tensor([[[[0.1, 0.9]], [[0.3, 0.2]], [[0.3, 0.4]]]]))
    tensor([[[1, 0]]], dtype=torch.uint8)
    """
    scores_BCHW = scores_BCHW.detach()
    if scores_BCHW.device.type != "cpu" or scores_BCHW.stride(-1) != 1:  # channels_last is in argmax's favour
        return scores_BCHW.argmax(1).to(torch.uint8)
    num_images, _, num_rows, num_columns = scores_BCHW.shape
    classes_BHW = torch.zeros((num_images, num_rows, num_columns), dtype=torch.uint8)
    block_rows = max(1, BLOCK_PIXELS // max(1, num_columns))
    for scores_CHW, classes_HW in zip(scores_BCHW, classes_BHW, strict=True):
        for top in range(0, num_rows, block_rows):
            first, *others = scores_CHW[:, top : top + block_rows].unbind(0)
            highest, winners = first.clone(), classes_HW[top : top + block_rows]
            for class_index, values in enumerate(others, start=1):
                is_higher = (values > highest).view(torch.uint8)
                torch.maximum(highest, values, out=highest)
                torch.maximum(winners, is_higher.mul_(class_index), out=winners)  # a later class has a higher index
    return classes_BHW


def choose_pixels(scores_CP: np.ndarray) -> np.ndarray:
    """Returns what `choose` does, uint8 (P,), of a NumPy array; for some thousand pixels this is faster."""
    return scores_CP.argmax(0).astype(np.uint8)


def vote(scores_CHW: Tensor) -> Tensor:
    """Returns 1 at the class that `choose` returns, else 0: uint8 (C, H, W)."""
    is_chosen_CHW = scores_CHW == scores_CHW.amax(0)
    if int(is_chosen_CHW.count_nonzero()) > is_chosen_CHW[0].numel():  # there are ties
        is_chosen_CHW &= is_chosen_CHW.cumsum(0) == 1
    return is_chosen_CHW.view(torch.uint8)


def count(pred_BHW: Tensor, mask_BHW: Tensor, num_classes: int) -> Tensor:
    """Returns the confusion matrix of each image in pixels: (B, C, C) int64 on the same device.

    Rows are true classes, columns predicted ones.

    Raises:
        ValueError: shapes differ; or, on a CPU, a value outside the classes (a GPU is not made to wait for that).

    >>> mask = torch.tensor([[[0, 1, 1, 255]]], dtype=torch.uint8)
    >>> pred = torch.tensor([[[0, 0, 1, 1]]], dtype=torch.uint8)
    >>> count(pred, mask, num_classes=2)
    tensor([[[1, 0],
             [1, 1]]])
    """
    if pred_BHW.shape != mask_BHW.shape:
        raise ValueError(f"prediction {tuple(pred_BHW.shape)} and mask {tuple(mask_BHW.shape)} differ in shape")
    num_cells = num_classes * num_classes
    if mask_BHW.device.type == "cpu":
        codes = [_codes_on_cpu(*pair, num_classes).flatten() for pair in zip(pred_BHW, mask_BHW, strict=True)]
        counts = [torch.bincount(codes_P, minlength=num_cells)[:num_cells] for codes_P in codes]
        return torch.stack(counts).view(-1, num_classes, num_classes)
    codes_BP = (mask_BHW.long() * num_classes + pred_BHW).flatten(1).clamp_(max=num_cells)
    codes_BP.mul_(NUM_LANES).add_(torch.arange(codes_BP.shape[1], device=codes_BP.device).remainder_(NUM_LANES))
    counters = torch.zeros((len(codes_BP), (num_cells + 1) * NUM_LANES), dtype=torch.int64, device=codes_BP.device)
    counters.scatter_add_(1, codes_BP, torch.ones_like(codes_BP))  # bincount would make the GPU wait for the maximum
    return counters.view(len(codes_BP), -1, NUM_LANES).sum(2)[:, :num_cells].view(-1, num_classes, num_classes)


def _codes_on_cpu(pred_HW: Tensor, mask_HW: Tensor, num_classes: int) -> Tensor:
    """Returns `truth * C + prediction` of each pixel; an ignored one gets C * C or more, as its value is no class.

    With up to 15 classes everything is done in bytes: 255 * C + prediction wraps round to 256 - C + prediction, which
    no scored pixel reaches.
    """
    if not mask_HW.numel():
        return mask_HW.int()
    is_bytes = pred_HW.dtype == mask_HW.dtype == torch.uint8
    scored_HW = mask_HW + 1 if is_bytes else (mask_HW + 1).masked_fill_(mask_HW == IGNORE, 0)  # byte 255 + 1 is 0
    for what, highest in (("prediction", int(pred_HW.max())), ("mask", int(scored_HW.max()) - 1)):
        if highest >= num_classes:
            raise ValueError(f"class {highest} in a {what}, expected 0 to {num_classes - 1} (or {IGNORE} in a mask)")
    if is_bytes and num_classes * num_classes <= 256 - num_classes:
        return (mask_HW * num_classes).add_(pred_HW)
    return mask_HW.int().mul_(num_classes).add_(pred_HW)
