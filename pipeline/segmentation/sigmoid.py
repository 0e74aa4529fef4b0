"""The decision rule for several classes per pixel: each class has its own probability and is chosen from 0.5 on.

The counterpart of `decision.py`. Masks are planes, see `planes.py`; a network has an output per class.

Letters: B images, C classes, H rows, W columns.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.config.competition import IGNORE
from pipeline.segmentation.planes import FULL, HALF


def probs(logits: Tensor, class_dim: int = 1) -> Tensor:
    """Returns the probability of each class: the shape and type of the logits; `class_dim` does not matter."""
    return logits.sigmoid()


def from_probs(probs_BCHW: Tensor) -> Tensor:
    """Returns the logits of probabilities, finite where one is 0 or 1."""
    return torch.logit(probs_BCHW, eps=torch.finfo(probs_BCHW.dtype).eps)


def choose(logits_BCHW: Tensor) -> Tensor:
    """Returns planes, uint8 (B, H, W, C), of the classes whose logit (or other score) is 0 or more.

    >>> choose(torch.tensor([2.0, 0.0, -1.0]).view(1, 3, 1, 1)).flatten().tolist()
    [240, 240, 0]
    """
    return (logits_BCHW.detach() >= 0).movedim(1, -1).to(torch.uint8).mul_(FULL)


def count(pred_BHWC: Tensor, mask_BHWC: Tensor, num_classes: int) -> Tensor:
    """Returns correct, true and predicted pixels of each class: int64 (B, 3, C), where the mask is not ignored.

    >>> count(torch.tensor([[[[240, 240]]]]), torch.tensor([[[[240, 0]]]]), 2).tolist()
    [[[1, 0], [1, 0], [1, 1]]]
    """
    is_known = mask_BHWC != IGNORE
    is_true, is_predicted = (mask_BHWC >= HALF) & is_known, (pred_BHWC >= HALF) & is_known
    return torch.stack([part.sum((1, 2)) for part in (is_true & is_predicted, is_true, is_predicted)], 1)
