"""Non-maximum suppression, hard and soft: among overlapping detections the one with the highest score is kept.

In and out: the detections of an image. Letters: N detections.

Source: `nms`: torchvision's. `soft_nms`: Bodla et al. 2017, "Soft-NMS: Improving Object Detection With One Line of
Code", https://arxiv.org/abs/1704.04503
"""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torchvision.ops import batched_nms

from pipeline.detection.boxes import Detections, ious

Decay = Literal["gaussian", "linear"]


def nms(found: Detections, iou: float = 0.5, top: int | None = None, class_agnostic: bool = False) -> Detections:
    """Returns the detections that no kept one of the same class with a higher score overlaps by more than `iou`.

    Args:
        top: how many are returned at most; None: all.
        class_agnostic: whether a detection also removes detections of other classes.

    >>> from pipeline.detection.boxes import make_detections
    >>> found = make_detections([[0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 8]], [0.9, 0.8, 0.7], [0, 0, 1])
    >>> nms(found).classes.tolist(), nms(found, class_agnostic=True).classes.tolist()
    ([0, 1], [0])
    """
    if not len(found.scores):
        return found
    # batched_nms shifts each class by the largest coordinate. With coordinates below 0, boxes of two classes could
    # overlap; in float32, the precision of an IoU would depend on the number of classes.
    boxes = torch.from_numpy(found.xyxy.astype(np.float64))
    classes = torch.from_numpy(np.zeros_like(found.classes) if class_agnostic else found.classes)
    kept = batched_nms(boxes - boxes.min(), torch.from_numpy(found.scores.astype(np.float64)), classes, iou)
    return found.keep(kept.numpy()[:top])


def soft_nms(
    found: Detections,
    decay: Decay = "gaussian",
    iou: float = 0.5,
    sigma: float = 0.5,
    floor: float = 0.001,
    top: int | None = None,
    class_agnostic: bool = False,
) -> Detections:
    """Returns detections with scores reduced by their overlap with higher-scoring ones of the same class.

    Args:
        decay: `gaussian` multiplies a score by exp(-IoU² / sigma) for each detection with a higher score; `linear`
            multiplies it by 1 - IoU where the IoU is above `iou`.
        iou: of `linear` only.
        sigma: of `gaussian` only; larger ones lower scores less.
        floor: detections are kept whose new score is above it.
        top: how many are returned at most; None: all.
        class_agnostic: whether detections of other classes count too.

    Raises:
        ValueError: `decay` is neither gaussian nor linear.

    >>> from pipeline.detection.boxes import make_detections
    >>> found = make_detections([[0, 0, 10, 10], [0, 0, 10, 8], [20, 0, 30, 9]], [0.9, 0.8, 0.5], [0, 0, 0])
    >>> soft_nms(found, "linear").scores.round(2).tolist()
    [0.8999999761581421, 0.5, 0.1599999964237213]
    """
    if decay not in ("gaussian", "linear"):
        raise ValueError(f"decay is {decay!r}; expected gaussian or linear")
    xyxy_N4, scores_N = found.xyxy.astype(np.float64), found.scores.astype(np.float64)
    order: list[int] = []
    waiting_N = np.arange(len(scores_N))
    while len(waiting_N) and len(order) != top:
        place = scores_N[waiting_N].argmax()
        best = int(waiting_N[place])
        if scores_N[best] <= floor:
            break
        order.append(best)
        waiting_N = np.delete(waiting_N, place)
        rivals = waiting_N if class_agnostic else waiting_N[found.classes[waiting_N] == found.classes[best]]
        ious_N = ious(xyxy_N4[best : best + 1], xyxy_N4[rivals])[0]
        scores_N[rivals] *= np.exp(-(ious_N**2) / sigma) if decay == "gaussian" else 1 - ious_N * (ious_N > iou)
    kept = found.keep(np.array(order, np.int64))
    return kept._replace(scores=scores_N[order].astype(np.float32))
