"""One optimizer step, and the running sums of an epoch kept on the device so that no step waits for the GPU."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from pipeline.model import decision
from pipeline.model.metrics import dice_iou
from pipeline.training.criterion import Criterion
from pipeline.training.finite import FiniteWatch
from pipeline.training.learner import Learner
from pipeline.training.validate import ignore_beyond


class EpochSums:
    """Sums over the samples of an epoch: loss, and Dice and IoU per class, as float64 on the device."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.num_classes = num_classes
        self.values = torch.zeros(2 + 2 * num_classes, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, logits_BCHW: Tensor, mask_BHW: Tensor) -> None:
        """Takes in a batch; nothing is copied between host and device."""
        predicted_BHW = decision.choose(logits_BCHW[:, : self.num_classes])
        truth_BHW = ignore_beyond(mask_BHW, self.num_classes)
        dice_BC, iou_BC = dice_iou(decision.count(predicted_BHW, truth_BHW, self.num_classes))
        loss_sum = loss.detach().double() * len(mask_BHW)
        count = torch.full_like(loss_sum, len(mask_BHW))
        self.values += torch.cat([torch.stack([loss_sum, count]), dice_BC.sum(0), iou_BC.sum(0)])

    def means(self) -> dict[str, Any]:
        """Returns mean loss, and mean Dice and IoU per class."""
        values = self.values.tolist()
        count = max(values[1], 1)
        per_class = [value / count for value in values[2:]]
        return {
            "loss": values[0] / count,
            "dice": per_class[: self.num_classes],
            "iou": per_class[self.num_classes :],
        }

    def num_samples(self) -> int:
        """Returns how many samples are in the sums."""
        return int(self.values[1])

    def reset(self) -> None:
        """Begins a new epoch."""
        self.values.zero_()

    def state_dict(self) -> Tensor:
        """Returns the sums for a checkpoint."""
        return self.values.cpu()

    def load_state_dict(self, values: Tensor) -> None:
        """Continues sums from a checkpoint."""
        self.values.copy_(values)


def train_step(
    learner: Learner,
    image_BHWC: Tensor,
    mask_BHW: Tensor,
    loss_of: Criterion,
    sums: EpochSums,
    watch: FiniteWatch,
    place: Any = None,
) -> None:
    """Does forward, backward and one optimizer step on a batch, cut into SOLVER.ACCUMULATE micro-batches.

    Args:
        image_BHWC: uint8 RGB. mask_BHW: uint8, 255 where ignored.
        place: tells `watch` where this is.

    Raises:
        NotFinite: loss or gradient are not finite, now or (see `FiniteWatch`) one step ago. The weights are untouched
            where the answer does not lag.
    """
    solver = learner.config.solver
    learner.optimizer.zero_grad(set_to_none=True)
    image_BHWC = image_BHWC.to(learner.device, non_blocking=True)
    mask_BHW = mask_BHW.to(learner.device, non_blocking=True)
    num_parts = num_micro_batches(len(mask_BHW), learner.config.dataloaders.train.batch_size, solver.accumulate)
    losses = []
    pairs = zip(image_BHWC.tensor_split(num_parts), mask_BHW.tensor_split(num_parts), strict=True)
    for image_part, mask_part in pairs:
        logits_BCHW = learner.logits(image_part)
        loss = loss_of(logits_BCHW, mask_part)
        learner.scaler.scale(loss * (len(mask_part) / len(mask_BHW))).backward()
        losses.append(loss.detach())
        sums.add(loss, logits_BCHW.detach(), mask_part)
    learner.scaler.unscale_(learner.optimizer)
    is_finite = torch.isfinite(torch.stack(losses)).all()
    norm = _clip(learner, solver.clip_norm)
    # The scaler leaves out a step whose gradients overflow and goes on with a smaller scale.
    if not learner.scaler.is_enabled():
        is_finite &= torch.isfinite(norm)
    watch.look(is_finite, "the training loss or its gradient is not finite", place)
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    if learner.ema:
        learner.ema.update(learner.network)


def num_micro_batches(num_samples: int, batch_size: int, accumulate: int) -> int:
    """Returns into how many parts to cut a batch; a last, smaller one into fewer, so that none is left with one sample.

    >>> num_micro_batches(8, 8, accumulate=4), num_micro_batches(5, 8, accumulate=4), num_micro_batches(1, 8, 4)
    (4, 2, 1)
    """
    return max(1, num_samples * accumulate // batch_size)


def _clip(learner: Learner, clip_norm: float | None) -> Tensor:
    """Limits the gradient's norm to `clip_norm`, if one is given; returns what it was."""
    params = [param for param in learner.network.parameters() if param.grad is not None]
    if clip_norm is not None:
        return torch.nn.utils.clip_grad_norm_(params, clip_norm)
    return torch.nn.utils.get_total_norm([param.grad for param in params])
