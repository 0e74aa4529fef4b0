"""The anchors of RetinaNet: boxes of fixed shapes around every position of its pyramid, and how well they cover boxes.

Letters: N boxes, A anchors, S shapes of anchors at a position, L levels.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator

from pipeline.config.detector_options import RetinaNetOptions, options_of
from pipeline.config.schema import Model
from pipeline.detection.pyramid import STRIDES, grids_of
from pipeline.errors import UserError


def is_thin(options: RetinaNetOptions) -> bool:
    """Returns whether the width or height of an anchor is rounded to 0, so that no box can be compared with it."""
    return any(shapes_S2.min() == 0 for shapes_S2 in _shapes(options))


def refuse_thin_anchors(options: RetinaNetOptions) -> None:
    """Refuses anchors whose width or height is rounded to 0, since no box can be compared with them.

    Raises:
        UserError: the level and its shapes, and the keys to change.
    """
    for level, shapes_S2 in enumerate(_shapes(options), start=3):
        if shapes_S2.min() == 0:
            shapes = ", ".join(f"{width:.0f}x{height:.0f}" for width, height in shapes_S2)
            raise UserError(
                f"MODEL.OPTIONS.ANCHOR_SIZES: the anchors of P{level} are {shapes} pixels, expected at least 1x1; "
                "raise ANCHOR_SIZES, or set RATIOS closer to 1"
            )


def anchors_of(options: RetinaNetOptions, size: tuple[int, int], device: torch.device) -> Tensor:
    """Returns all anchors of frames of `size` (height, width) on a device, float32 (A, 4): left, top, right, bottom.

    They are in the order of a network's outputs: the finest level first, row by row, at each position ratio by ratio.
    At position (row, column) of a level with stride s they are around pixel (s row, s column). torchvision's
    `AnchorGenerator` does the same where height and width are multiples of 128. For other sizes torchvision
    stretches the grids of P6 and P7 over the frame, so its anchors are displaced from the features; these are not.
    """
    # A tensor made while a network is traced must not be kept.
    make = _make_anchors.__wrapped__ if torch.compiler.is_compiling() else _make_anchors
    return make(options, tuple(size), device)


@functools.lru_cache(maxsize=32)  # frames of validation have many sizes; 1024x2048 takes 6 MB
def _make_anchors(options: RetinaNetOptions, size: tuple[int, int], device: torch.device) -> Tensor:
    with torch.inference_mode(False):  # the first call may come from a prediction, the next from training
        generator = _generator(options)
        generator.set_cell_anchors(torch.float32, device)
        steps = [[stride, stride] for stride in STRIDES]
        return torch.cat(generator.grid_anchors([list(grid) for grid in grids_of(size)], steps))


def _generator(options: RetinaNetOptions) -> AnchorGenerator:
    """Returns torchvision's generator with its rounding: whole sizes, and whole pixels from the centre to a side."""
    factors = [2 ** (index / options.scales) for index in range(options.scales)]
    sizes = tuple(tuple(int(size * factor) for factor in factors) for size in options.anchor_sizes)
    return AnchorGenerator(sizes, (options.ratios,) * len(sizes))


def cells_of(options: RetinaNetOptions) -> list[np.ndarray]:
    """Returns the anchors of each level around pixel (0, 0): float64 (S, 4)."""
    return [cell.double().numpy() for cell in _generator(options).cell_anchors]


def _shapes(options: RetinaNetOptions) -> list[np.ndarray]:
    """Returns width and height of the anchors of each level, float64 (S, 2)."""
    return [cell_S4[:, 2:] - cell_S4[:, :2] for cell_S4 in cells_of(options)]


def anchor_coverage(xyxy_N4: np.ndarray, model: Model, size: tuple[int, int]) -> np.ndarray:
    """Returns the best IoU that any anchor has with each box, float32 (N,).

    For each shape and level, only the anchor nearest to a box's centre is compared: it overlaps the box most, since the
    overlap along each axis falls with the distance.

    Args:
        xyxy_N4: boxes in pixels of their frames: left, top, right, bottom.
        model: of a RetinaNet.
        size: (height, width) of the frames.
    """
    boxes_N4 = np.asarray(xyxy_N4, np.float64).reshape(-1, 4)
    centres_N2 = (boxes_N4[:, :2] + boxes_N4[:, 2:]) / 2
    sides_N2 = boxes_N4[:, 2:] - boxes_N4[:, :2]
    best_N = np.zeros(len(boxes_N4))
    for stride, (rows, columns), shapes_S2 in zip(STRIDES, grids_of(size), _shapes(options_of(model)), strict=True):
        nearest_N2 = np.clip(np.round(centres_N2 / stride), 0, (columns - 1, rows - 1)) * stride
        apart_N2 = np.abs(centres_N2 - nearest_N2)
        reach_NS2 = (sides_N2[:, None] + shapes_S2) / 2 - apart_N2[:, None]
        overlap_NS2 = np.minimum(np.minimum(sides_N2[:, None], shapes_S2), reach_NS2).clip(0)
        shared_NS = overlap_NS2.prod(2)
        union_NS = sides_N2.prod(1)[:, None] + shapes_S2.prod(1) - shared_NS
        best_N = np.maximum(best_N, (shared_NS / union_NS).max(1, initial=0))
    return best_N.astype(np.float32)
