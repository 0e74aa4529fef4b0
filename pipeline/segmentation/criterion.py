"""Which loss an epoch is trained and judged by: the mix, and the weight of each class in it.

Letters: C scored classes; a network whose padding is a class of its own has one output more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from pipeline.config.plan import parse_mix
from pipeline.config.schema import LossFn
from pipeline.segmentation.losses import adaptive_class_weights, build_loss, normalise_class_weights

Criterion = Callable[[Tensor, Tensor], Tensor]


def criterion(mix: str, weights: Tensor | None, num_outputs: int) -> Criterion:
    """Returns a function of logits (B, num_outputs, H, W) and mask (B, H, W) to the loss, a scalar.

    Args:
        mix: such as `0.7 ce + 0.3 dice`.
        weights: per output, or None for all alike.
    """
    loss = build_loss(parse_mix(mix), num_outputs)
    return lambda logits_BCHW, mask_BHW: loss(logits_BCHW, mask_BHW, weights)


def fixed_weights(
    given: Sequence[float] | None, scored: Sequence[int], num_classes: int, num_outputs: int
) -> Tensor | None:
    """Returns LOSS_FN.WEIGHTS per output, 0 for classes outside DATASETS.CLASSES; None when all are alike.

    >>> fixed_weights(None, scored=(0, 2), num_classes=3, num_outputs=4)
    tensor([1.5000, 0.0000, 1.5000, 1.0000])
    """
    if given is None and len(scored) == num_classes:
        return None
    return _only_counted(torch.tensor(given or [1.0] * num_classes), scored, num_outputs)


def epoch_weights(
    loss_fn: LossFn, epoch: int, class_dice: Sequence[float], scored: Sequence[int], num_outputs: int
) -> Tensor | None:
    """Returns the class weights of the epoch after `epoch` finished ones: the fixed ones, or the adaptive.

    The original adapts after the first epoch; the validation before training does not count.
    """
    if not loss_fn.adaptive.enable or epoch == 0:
        return fixed_weights(loss_fn.weights, scored, len(class_dice), num_outputs)
    return _only_counted(adaptive_class_weights(class_dice, loss_fn.adaptive.max_weight), scored, num_outputs)


def _only_counted(weights_C: Tensor, scored: Sequence[int], num_outputs: int) -> Tensor:
    """Returns the weights without the classes that do not count, of mean 1, and 1 for a padding class."""
    keep_C = torch.zeros(len(weights_C))
    keep_C[list(scored)] = 1.0
    weights_C = normalise_class_weights(weights_C * keep_C)
    return torch.cat([weights_C, torch.ones(num_outputs - len(weights_C))])
