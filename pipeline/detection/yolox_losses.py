"""The losses of YOLOX: IoU of boxes, objectness, classes, and the L1 distance of encoded boxes.

Each is a sum over the batch of all ranks, divided by the number of positions that are trained on a box. YOLOX weights
them 5, 1, 1 and 1, and uses the last one only in the last epochs. Weights are part of LOSS_FN.MIX, not applied here.
Source: Ge et al. 2021, https://arxiv.org/abs/2107.08430. Letters: B images, A positions, C classes, F positions in all
images that are trained on a box.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import binary_cross_entropy_with_logits, l1_loss, one_hot

from pipeline.config.schema import Model
from pipeline.detection.dense import BoxTargets, Dense, Terms, in_crowds
from pipeline.detection.sim_ota import assign
from pipeline.detection.yolox_boxes import (
    Positions,
    centred_ious,
    decode_boxes,
    encode_boxes,
    positions_of,
    to_centres,
)
from pipeline.training.ranks import group

TERMS = ("iou", "conf", "cls", "l1")


class Assigned(NamedTuple):
    """What the positions of a batch are trained on.

    Attributes:
        is_taken: bool (B, A).
        boxes: float32 (F, 4), by centre and size in pixels, in the order of images and positions.
        classes: int64 (F,).
        ious: float32 (F,): IoU of the network's box with it.
    """

    is_taken: Tensor
    boxes: Tensor
    classes: Tensor
    ious: Tensor


def losses(
    model: Model, num_classes: int, outputs: Dense, targets: BoxTargets, terms: Mapping[str, Mapping[str, float]]
) -> Terms:
    """Returns the losses of a batch that `terms` names, float32 scalars, and the number of positions with a box.

    The target of a class is the IoU of the network's box, so that the probability also measures the quality of the box.

    Args:
        model: not used; all sizes are trained alike.
        outputs: of the network, in any number format.
        terms: some of `TERMS`; they have no settings.
    """
    outputs = Dense(*(tensor.float() for tensor in outputs))
    positions = positions_of(targets.size, outputs.boxes.device)
    predicted_BA4 = decode_boxes(outputs.boxes, positions)
    assigned = assign_batch(outputs, predicted_BA4, positions, targets)
    is_taken_BA = assigned.is_taken
    found: dict[str, Tensor] = {}
    if "iou" in terms:
        found["iou"] = (1 - centred_ious(predicted_BA4[is_taken_BA], assigned.boxes).square()).sum()
    if "conf" in terms:
        found["conf"] = objectness_loss(outputs.objectness[..., 0], is_taken_BA, positions, targets)
    if "cls" in terms:
        soft_FC = one_hot(assigned.classes, num_classes) * assigned.ious[:, None]
        found["cls"] = binary_cross_entropy_with_logits(outputs.classes[is_taken_BA], soft_FC, reduction="sum")
    if "l1" in terms:
        places = is_taken_BA.nonzero()[:, 1]
        code_F4 = encode_boxes(assigned.boxes, Positions(positions.cells[places], positions.strides[places]))
        found["l1"] = l1_loss(outputs.boxes[is_taken_BA], code_F4, reduction="sum")
    num_taken = group.summed(is_taken_BA.sum())
    return Terms({name: group.summed(found[name]) / num_taken.clamp(min=1) for name in terms}, num_taken)


def objectness_loss(logits_BA: Tensor, is_taken_BA: Tensor, positions: Positions, targets: BoxTargets) -> Tensor:
    """Returns the sum of the binary cross-entropies of objectness, a scalar.

    A position whose cell of the grid lies in a crowd, see `in_crowds`, is in the sum only if it is trained on a box.
    """
    losses_BA = binary_cross_entropy_with_logits(logits_BA, is_taken_BA.float(), reduction="none")
    if any(map(len, targets.crowds)):
        half_A1 = positions.strides[:, None] / 2
        cells_A4 = torch.cat([positions.centres - half_A1, positions.centres + half_A1], 1)
        losses_BA = losses_BA.masked_fill(in_crowds(cells_A4, targets) & ~is_taken_BA, 0)
    return losses_BA.sum()


def assign_batch(outputs: Dense, predicted_BA4: Tensor, positions: Positions, targets: BoxTargets) -> Assigned:
    """Returns what each position of a batch is trained on; without gradients.

    Args:
        outputs: float32.
        predicted_BA4: the network's boxes, by centre and size in pixels.
    """
    is_taken, boxes, classes, ious = [], [], [], []
    for index, (boxes_N4, classes_N) in enumerate(zip(targets.boxes, targets.classes, strict=True)):
        centred_N4 = to_centres(boxes_N4.float())
        answers = predicted_BA4[index], outputs.classes[index], outputs.objectness[index, :, 0]
        one = assign(*answers, positions, centred_N4, classes_N)
        is_taken.append(one.is_taken)
        boxes.append(centred_N4[one.boxes])
        classes.append(classes_N[one.boxes])
        ious.append(one.ious)
    return Assigned(torch.stack(is_taken), torch.cat(boxes), torch.cat(classes), torch.cat(ious))
