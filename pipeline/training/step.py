"""One optimizer step, and the running sums of an epoch kept on the device so that no step waits for the GPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pipeline.model.metrics import dice_iou, picture_confusion, predict_classes
from pipeline.training.learner import Learner
from pipeline.training.validate import scored


class EpochSums:
    """Sums over the samples of an epoch: loss, and Dice and IoU per class, as float64 on the device."""

    def __init__(self, num_classes: int, device: torch.device) -> None:
        self.num_classes = num_classes
        self.values = torch.zeros(2 + 2 * num_classes, dtype=torch.float64, device=device)

    def add(self, loss: Tensor, logits_BCHW: Tensor, mask_BHW: Tensor) -> None:
        """Takes in a batch; nothing is copied to the host."""
        predicted_BHW = predict_classes(logits_BCHW[:, : self.num_classes])
        dice_BC, iou_BC = dice_iou(picture_confusion(predicted_BHW, scored(mask_BHW, self.num_classes), self.num_classes))
        batch_size = len(mask_BHW)
        head = torch.stack([loss.detach().double() * batch_size, loss.new_tensor(batch_size, dtype=torch.float64)])
        self.values += torch.cat([head, dice_BC.sum(0).to(head), iou_BC.sum(0).to(head)])

    def means(self) -> dict[str, Any]:
        """Returns mean loss, and mean Dice and IoU per class."""
        values = self.values.tolist()
        count = max(values[1], 1)
        per_class = [value / count for value in values[2:]]
        return {"loss": values[0] / count, "dice": per_class[: self.num_classes], "iou": per_class[self.num_classes :]}

    def num_samples(self) -> int:
        """Returns how many samples are in the sums."""
        return int(self.values[1])

    def refuse_nan(self) -> None:
        """Raises FloatingPointError when a loss since the epoch's beginning was not finite."""
        if not bool(torch.isfinite(self.values[0])):
            raise FloatingPointError("the training loss is not finite")

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
    learner: Learner, picture_BHWC: Tensor, mask_BHW: Tensor, loss_of: Callable[[Tensor, Tensor], Tensor], sums: EpochSums
) -> None:
    """Does forward, backward and one optimizer step on a batch, cut into SOLVER.ACCUMULATE micro-batches.

    Args:
        picture_BHWC: uint8 RGB. mask_BHW: uint8, 255 where ignored.

    Raises:
        FloatingPointError: the loss is not finite; the weights have not been touched by it.
    """
    solver = learner.config.solver
    learner.optimizer.zero_grad(set_to_none=True)
    picture_BHWC = picture_BHWC.to(learner.device, non_blocking=True)
    mask_BHW = mask_BHW.to(learner.device, non_blocking=True)
    parts = zip(picture_BHWC.chunk(solver.accumulate), mask_BHW.chunk(solver.accumulate), strict=True)
    losses = []
    for picture_part, mask_part in parts:
        logits_BCHW = learner.logits(picture_part)
        loss = loss_of(logits_BCHW, mask_part)
        # The scaler skips a step whose gradients overflow; elsewhere a loss that is not finite must not reach them.
        learner.scaler.scale(loss / solver.accumulate).backward()
        losses.append(loss.detach())
        sums.add(loss, logits_BCHW.detach(), mask_part)
    if not bool(torch.isfinite(torch.stack(losses)).all()):
        raise FloatingPointError("the training loss is not finite")
    learner.scaler.unscale_(learner.optimizer)
    if solver.clip_norm is not None:
        torch.nn.utils.clip_grad_norm_(learner.network.parameters(), solver.clip_norm)
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()
    if learner.ema:
        learner.ema.update(learner.network)
