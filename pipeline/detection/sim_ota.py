"""SimOTA: which positions of an image are trained on which of its boxes.

Each box takes the k positions with the lowest cost, where k is the sum of its ten highest IoUs with the network's
boxes. A position that several boxes take is assigned to the box with the lowest cost there.
Source: Ge et al. 2021, https://arxiv.org/abs/2107.08430, section 2.1, with the number k of OTA,
https://arxiv.org/abs/2103.14259; ten is from the authors' code.
Positions within 1.5 strides of a box's centre are candidates, also outside of the box. The first release of the
authors' code used 2.5 strides and preferred positions inside the box, so a tiny box could have no candidates. Their
change, https://github.com/Megvii-BaseDetection/YOLOX/pull/1589, brought YOLOX-S from 40.1 to 40.6 AP on COCO.
Letters: A positions, K candidates, N boxes, C classes, F positions that were taken.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from pipeline.detection.yolox_boxes import Positions, centred_ious

RADIUS = 1.5  # strides from a box's centre within which a position is a candidate
MOST_IOUS = 10  # whose sum is the number of a box's positions
IOU_WEIGHT = 3.0
OUTSIDE_COST = 1e6  # more than any other cost: taken only where a box has too few candidates of its own
IOU_EPS = 1e-8
LEAST_LOG = -100.0  # as in torch's binary cross-entropy


class Assignment(NamedTuple):
    """The positions of an image that are trained on a box.

    Attributes:
        is_taken: bool (A,).
        boxes: int64 (F,): which box each of them is trained on, in the order of positions.
        ious: float32 (F,): IoU of the network's box with that box.
    """

    is_taken: Tensor
    boxes: Tensor
    ious: Tensor


@torch.no_grad()
def assign(
    predicted_A4: Tensor,
    logits_AC: Tensor,
    objectness_A: Tensor,
    positions: Positions,
    boxes_N4: Tensor,
    classes_N: Tensor,
    radius: float = RADIUS,
) -> Assignment:
    """Returns which positions of an image are trained on which of its boxes.

    Args:
        predicted_A4: the network's boxes, float32, by centre and size in pixels.
        logits_AC: logits of the classes, float32.
        objectness_A: logits, float32.
        boxes_N4: the labelled boxes, by centre and size in pixels.
        classes_N: their classes, int64.
        radius: strides from a box's centre within which a position is a candidate.
    """
    is_near_NA = near_centres(positions, boxes_N4, radius)
    candidates_K = is_near_NA.any(0).nonzero()[:, 0]
    is_taken_A = torch.zeros_like(is_near_NA[:0].any(0))
    if not len(candidates_K):  # no boxes, or all centres are outside the frame
        return Assignment(is_taken_A, classes_N.new_zeros(0), predicted_A4.new_zeros(0))
    ious_NK = centred_ious(boxes_N4[:, None], predicted_A4[candidates_K][None])
    class_cost_NK = class_costs(logits_AC[candidates_K], objectness_A[candidates_K], classes_N)
    cost_NK = class_cost_NK - IOU_WEIGHT * (ious_NK + IOU_EPS).log()
    # In float64, since in float32 a sum with OUTSIDE_COST is rounded to multiples of 1/16.
    cost_NK = cost_NK.double() + OUTSIDE_COST * ~is_near_NA[:, candidates_K]
    owners_K = owners(cost_NK, ious_NK)
    chosen_F = (owners_K >= 0).nonzero()[:, 0]
    boxes_F = owners_K[chosen_F]
    is_taken_A[candidates_K[chosen_F]] = True
    return Assignment(is_taken_A, boxes_F, ious_NK[boxes_F, chosen_F])


def near_centres(positions: Positions, boxes_N4: Tensor, radius: float = RADIUS) -> Tensor:
    """Returns whether each position is within `radius` strides of each box's centre, in x and in y, bool (N, A)."""
    distances_NA = (positions.centres[None] - boxes_N4[:, None, :2]).abs().amax(-1)
    return distances_NA < radius * positions.strides


def class_costs(logits_KC: Tensor, objectness_K: Tensor, classes_N: Tensor) -> Tensor:
    """Returns the binary cross-entropy of each box's class at each position, summed over all classes, (N, K).

    A class's probability here is the square root of (class probability x objectness). The sum is computed once per
    position and corrected for the box's class, so that memory does not grow with N x K x C.

    >>> costs = class_costs(torch.tensor([[0.0, 0.0]]), torch.tensor([0.0]), torch.tensor([1]))  # 2 ln 2
    >>> round(costs.item(), 3)
    1.386
    """
    probs_KC = (logits_KC.sigmoid() * objectness_K.sigmoid()[:, None]).sqrt()
    if_present_KC = -probs_KC.log().clamp(min=LEAST_LOG)
    if_absent_KC = -(-probs_KC).log1p().clamp(min=LEAST_LOG)
    change_KC = if_present_KC - if_absent_KC
    return if_absent_KC.sum(1) + change_KC.T[classes_N]


def owners(cost_NK: Tensor, ious_NK: Tensor) -> Tensor:
    """Returns the box of each candidate, int64 (K,), -1 where none takes it.

    >>> cost = torch.tensor([[0.0, 1.0, 9.0], [5.0, 2.0, 3.0]])
    >>> owners(cost, torch.tensor([[0.9, 0.8, 0.5], [0.3, 0.3, 0.2]])).tolist()  # the first takes 2, the second 1
    [0, 0, -1]
    """
    most = min(MOST_IOUS, cost_NK.shape[1])
    num_taken_N = ious_NK.topk(most).values.sum(1).int().clamp(min=1)
    cheapest = cost_NK.topk(most, largest=False).indices
    is_within = torch.arange(most, device=cost_NK.device) < num_taken_N[:, None]
    takes_NK = torch.zeros_like(cost_NK, dtype=torch.bool).scatter(1, cheapest, is_within)
    num_takers_K = takes_NK.sum(0)
    # If several boxes take a position, it goes to the box with the lowest cost, even one that did not take it.
    owners_K = torch.where(num_takers_K > 1, cost_NK.argmin(0), takes_NK.int().argmax(0))
    return owners_K.masked_fill(num_takers_K == 0, -1)
