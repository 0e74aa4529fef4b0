"""YOLOX: an anchor-free detector with a backbone of its own, and its record of functions.

Images are RGB, as for all networks, with values 0 to 255 that are not normalised by mean and standard deviation (see
`YoloxNetwork.scaling`), as the published weights expect. These weights were trained on BGR, so the network swaps red
and blue itself.
Source: Ge et al., "YOLOX: Exceeding YOLO Series in 2021", https://arxiv.org/abs/2107.08430.
Letters: B images, A positions, C classes, F features, h and w rows and columns of a level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from pipeline.config.detector_options import options_of
from pipeline.config.schema import Model
from pipeline.detection.dense import Dense, Detector
from pipeline.detection.yolox_blocks import SIZES, ConvNorm, CspDarknet, Pafpn, Shape, conv3x3
from pipeline.detection.yolox_boxes import STRIDES, decode_boxes, positions_of, to_corners
from pipeline.detection.yolox_losses import TERMS, losses
from pipeline.detection.yolox_weights import load_yolox
from pipeline.training.encoder import Scaling


class YoloxHead(nn.Module):
    """Features of three levels to logits and boxes at each of their positions; classes and boxes have own branches."""

    def __init__(self, shape: Shape, num_classes: int, prior: float) -> None:
        super().__init__()
        width = shape.channels[0]

        def branches() -> nn.ModuleList:
            return nn.ModuleList(
                nn.Sequential(conv3x3(shape, width, width), conv3x3(shape, width, width)) for _ in STRIDES
            )

        def answers(num_outputs: int) -> nn.ModuleList:
            return nn.ModuleList(nn.Conv2d(width, num_outputs, 1) for _ in STRIDES)

        self.stems = nn.ModuleList(ConvNorm(shape, channels, width) for channels in shape.channels)
        self.class_branches, self.box_branches = branches(), branches()
        self.classes, self.boxes, self.objectness = answers(num_classes), answers(4), answers(1)
        for convolution in (*self.classes, *self.objectness):
            nn.init.constant_(convolution.bias, -math.log((1 - prior) / prior))

    def forward(self, features: list[Tensor]) -> Dense:
        classes, boxes, objectness = [], [], []
        for level, feature in enumerate(features):
            shared = self.stems[level](feature)
            of_boxes = self.box_branches[level](shared)
            classes.append(self.classes[level](self.class_branches[level](shared)))
            boxes.append(self.boxes[level](of_boxes))
            objectness.append(self.objectness[level](of_boxes))
        return Dense(_joined(classes), _joined(boxes), _joined(objectness))


def _joined(levels: list[Tensor]) -> Tensor:
    """Returns the outputs (B, F, h, w) of all levels as one (B, A, F)."""
    return torch.cat([level.flatten(2).transpose(1, 2) for level in levels], 1)


class YoloxNetwork(nn.Module):
    """RGB images (B, channels, H, W) with values 0 to 255 to `Dense`; H and W are multiples of 32.

    Three channels are taken for red, green and blue, and are given to the backbone as blue, green and red.
    """

    strides = STRIDES

    def __init__(self, shape: Shape, num_classes: int, num_channels: int, prior: float) -> None:
        super().__init__()
        self.encoder = CspDarknet(shape, num_channels)
        self.neck = Pafpn(shape)
        self.head = YoloxHead(shape, num_classes, prior)
        self.is_colour = num_channels == 3
        # Values from 0 to 255 stay as they are; those of other number formats are scaled to this range.
        self.scaling = Scaling(mean=(0.0,) * num_channels, std=(1 / 255,) * num_channels)

    def load_published(self, path: Path, log: Callable[[str], None]) -> None:
        """Fills the network with the weights of a file; see `load_yolox`."""
        load_yolox(self, path, log)

    def forward(self, images: Tensor) -> Dense:
        return self.head(self.neck(self.encoder(images.flip(1) if self.is_colour else images)))


def build(model: Model, num_classes: int, num_channels: int) -> YoloxNetwork:
    """Returns a YOLOX with random weights.

    Args:
        num_channels: of the images.

    Raises:
        UserError: an unknown option, or a wrong value of an option.
    """
    options = options_of(model)
    shape = SIZES[model.encoder.name]._replace(activation=options.activation)
    return YoloxNetwork(shape, num_classes, num_channels, options.prior)


def decode(model: Model, outputs: Dense, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns boxes (B, A, 4), left, top, right, bottom in pixels, and probabilities (B, A, C), float32.

    A probability is objectness times the probability of the class. Boxes may reach beyond the frame.

    Args:
        model: not used; all sizes answer alike.
        size: (height, width) of the frames.
    """
    boxes = decode_boxes(outputs.boxes.float(), positions_of(size, outputs.boxes.device))
    return to_corners(boxes), outputs.classes.float().sigmoid() * outputs.objectness.float().sigmoid()


YOLOX = Detector(build=build, terms=TERMS, losses=losses, decode=decode)
