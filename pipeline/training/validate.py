"""One pass over the validation images: loss, and the competition's Dice and IoU per class.

Shapes: B images, C scored classes, H and W padded to the network's stride; padded pixels are ignored ones.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.model import decision
from pipeline.model.build import normalise
from pipeline.model.metrics import dataset_iou, dice_iou
from pipeline.training.criterion import Criterion
from pipeline.training.device import in_parts
from pipeline.training.learner import Learner, autocast


@dataclass(frozen=True)
class Validation:
    """Scores of one validation.

    Attributes:
        loss: mean over images of the loss.
        dice: per class, mean over images; 1 where prediction and truth both lack the class.
        iou: likewise.
        dataset_iou: per class, from the summed confusion matrix; NaN for a class never seen and never predicted.
        has_hit: per class, whether any pixel of it was found, or none was there to find.
    """

    loss: float
    dice: list[float]
    iou: list[float]
    dataset_iou: list[float]
    has_hit: list[bool]


def validate(learner: Learner, batches: Iterable, loss_of: Criterion, num_classes: int) -> Validation:
    """Returns the scores of the network (averaged weights where the run keeps them) on validation batches.

    Args:
        batches: yields objects with `image_BHWC` and `mask_BHW` (uint8, padded pixels 255).
        loss_of: logits (B, C', H, W) and mask to a scalar.
        num_classes: C; a padding class of the network beyond it is left out of the scores.
    """
    encoder = learner.config.model.encoder
    losses, counts, confusions = [], [], []
    with learner.judged() as network:
        for batch in batches:
            image_BHWC = batch.image_BHWC.to(learner.device, non_blocking=True)
            mask_BHW = batch.mask_BHW.to(learner.device, non_blocking=True)
            with autocast(learner.device, learner.precision):
                logits_BCHW = in_parts(lambda part: network(normalise(part, encoder)), image_BHWC)
            losses.append(loss_of(logits_BCHW, mask_BHW).double())
            counts.append(len(mask_BHW))
            predicted_BHW = decision.choose(logits_BCHW[:, :num_classes])
            confusions.append(decision.count(predicted_BHW, ignore_beyond(mask_BHW, num_classes), num_classes))
    confusion_PCC = torch.cat(confusions)
    return _scores(torch.stack(losses), torch.tensor(counts), confusion_PCC)


def ignore_beyond(mask_BHW: Tensor, num_classes: int) -> Tensor:
    """Returns a mask in which everything beyond the scored classes (a padding class) is ignored."""
    return mask_BHW.masked_fill(mask_BHW >= num_classes, 255)


def _scores(losses: Tensor, counts: Tensor, confusion_PCC: Tensor) -> Validation:
    dice_PC, iou_PC = dice_iou(confusion_PCC)
    summed_CC = confusion_PCC.sum(0)
    hits_C = summed_CC.diagonal()
    weights = counts.to(losses)
    return Validation(
        loss=float((losses * weights).sum() / weights.sum()),
        dice=dice_PC.mean(0).tolist(),
        iou=iou_PC.mean(0).tolist(),
        dataset_iou=dataset_iou(summed_CC).tolist(),
        has_hit=((hits_C > 0) | (summed_CC.sum(1) == 0)).tolist(),
    )
