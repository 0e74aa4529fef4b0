"""Selects the detections of an image from a network's outputs at all positions.

Letters: B images, A positions, C classes, K candidates, N detections.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pipeline.config.schema import Detections as Settings
from pipeline.detection.boxes import Detections, clip_boxes, make_detections
from pipeline.detection.suppression import nms, soft_nms

MOST_CANDIDATES = 2000  # before suppression; lower-ranked boxes would not be among the first MOST afterwards


def suppress(found: Detections, settings: Settings) -> Detections:
    """Returns detections after suppression: overlapping ones of a class are dropped or get lower scores."""
    if settings.suppress == "nms":
        return nms(found, settings.overlap)
    return soft_nms(found, "linear", settings.overlap, floor=settings.score)


def candidates(boxes_A4: Tensor, probs_AC: Tensor, least: float) -> tuple[Tensor, Tensor, Tensor]:
    """Returns boxes (K, 4), scores (K,) and classes (K,) of the highest scores above a threshold, on the CPU."""
    scores_P = probs_AC.flatten()
    chosen_P = torch.nonzero(scores_P > least).squeeze(1)
    if len(chosen_P) > MOST_CANDIDATES:
        order = torch.sort(scores_P[chosen_P], descending=True, stable=True).indices[:MOST_CANDIDATES]
        chosen_P = chosen_P[order]
    num_classes = probs_AC.shape[1]
    positions_K, classes_K = torch.div(chosen_P, num_classes, rounding_mode="floor"), chosen_P % num_classes
    return boxes_A4[positions_K].float().cpu(), scores_P[chosen_P].float().cpu(), classes_K.cpu()


def select(
    boxes_A4: Tensor, probs_AC: Tensor, settings: Settings, offset: tuple[int, int], size: tuple[int, int]
) -> Detections:
    """Returns the detections of one image, in its own pixels and cut at its borders.

    Args:
        boxes_A4: in pixels of the frame.
        settings: PREDICT.DETECTIONS.
        offset: (top, left) of the image in the frame.
        size: (height, width) of the image.
    """
    found = make_detections(*(part.numpy() for part in candidates(boxes_A4, probs_AC, settings.score)))
    top, left = offset
    found = found._replace(xyxy=clip_boxes(found.xyxy - [left, top, left, top], size).astype("float32"))
    is_inside = (found.xyxy[:, 2] > found.xyxy[:, 0]) & (found.xyxy[:, 3] > found.xyxy[:, 1])
    found = suppress(found.keep(is_inside), settings)
    return found.keep(found.scores > settings.score).keep(slice(settings.most))
