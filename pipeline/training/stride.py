"""How long an optimizer's steps are relative to its learning rate: rectified ones make short steps at first.

The rectification of Ranger and RAdam (Liu et al. 2020, arXiv:1908.03265) makes the first five steps nearly 0, the 40th
an eighth of what the same rate gives later, the 240th a third, the 2,000th five sixths. An LR sweep consists of such
early steps, a long training hardly: the same rate means other steps in the two, and the sweep has to correct for that.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from pipeline.config.plan import Phase, learning_rate
from pipeline.training.ranger import rectified_step

# Decay of the means of gradient and square. The steps of the other optimizers of `config/optimizers.py` do not grow or
# shrink for long, except those listed there as UNEVEN: `tests/training/test_stride.py` measures it.
RECTIFIED = {
    **dict.fromkeys(("Ranger", "torch_optimizer.Ranger"), (0.95, 0.999)),
    **dict.fromkeys(("RAdam", "timm.radam", "timm.radamw", "timm.radamlegacy", "timm.radabelief"), (0.9, 0.999)),
}
SAMPLES = 500  # steps of a plan that enter its mean


def stride(optimizer: str, step: int) -> float:
    """Returns the length of step number `step` (1, 2, ...) over that of a late one at the same learning rate.

    >>> [round(stride("Ranger", step), 2) for step in (1, 6, 40, 240, 2000)]
    [0.0, 0.03, 0.13, 0.34, 0.83]
    >>> stride("AdamW", 1)
    1.0
    """
    if optimizer not in RECTIFIED:
        return 1.0
    beta1, beta2 = RECTIFIED[optimizer]
    size, is_rectified = rectified_step(step, beta1, beta2)
    # The size also holds Adam's correction of means that began at 0, which makes no step longer or shorter.
    return size * (1 - beta1**step) / math.sqrt(1 - beta2**step) if is_rectified else 0.0


def mean_stride(optimizer: str, plan: Sequence[Phase], steps_per_epoch: int) -> float:
    """Returns the mean stride of a plan's steps, weighted with their learning rates, as if no patience ran out."""
    num_steps = sum(phase.epochs for phase in plan) * steps_per_epoch
    total = weighted = 0.0
    begun = 0
    for phase in plan:
        length = phase.epochs * steps_per_epoch
        count = min(length, max(1, round(SAMPLES * length / max(num_steps, 1))))
        for sample in range(count):
            step = int((sample + 0.5) * length / count)
            rate = learning_rate(phase, step, steps_per_epoch) * length / count
            total += rate
            weighted += rate * stride(optimizer, begun + step + 1)
        begun += length
    return weighted / total
