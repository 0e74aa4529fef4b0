"""Encoder and feature pyramid: from images to features of five strides, P3 with stride 8 to P7 with stride 128.

Letters: B images, H and W height and width.
"""

from __future__ import annotations

import warnings

import segmentation_models_pytorch as smp
from torch import Tensor, nn
from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelP6P7

from pipeline.config.schema import Model
from pipeline.errors import UserError
from pipeline.training.encoder import FULL_DEPTH
from pipeline.training.encoder_names import name_to_build

STRIDES = (8, 16, 32, 64, 128)  # of P3 to P7
NUM_ENCODED = 3  # levels taken from the encoder: strides 8, 16 and 32


class Pyramid(nn.Module):
    """Features of an encoder's last three stages and of two coarser levels, all with the same number of channels.

    P6 is computed from P5, as in torchvision's RetinaNet; the paper computes it from the encoder's last stage.

    Source: Lin et al. 2017, "Feature Pyramid Networks for Object Detection", https://arxiv.org/abs/1612.03144; P6 and
    P7: Lin et al. 2017, https://arxiv.org/abs/1708.02002.
    """

    def __init__(self, encoder_channels: list[int], channels: int) -> None:
        super().__init__()
        self.fpn = FeaturePyramidNetwork(encoder_channels, channels, LastLevelP6P7(channels, channels))

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        """Returns P3 to P7, from the encoder's features with strides 8, 16 and 32."""
        return list(self.fpn(dict(zip(("p3", "p4", "p5"), features, strict=True))).values())


def make_encoder(model: Model, num_channels: int) -> nn.Module:
    """Returns an encoder with random weights; the last three of its features have strides 8, 16 and 32.

    Raises:
        UserError: an unknown encoder, or one that does not halve its features five times.
    """
    name = model.encoder.name
    built_as = name_to_build(model.encoder)
    try:
        with warnings.catch_warnings():
            # Old names `timm-...` still work.
            warnings.simplefilter("ignore", DeprecationWarning)
            encoder = smp.encoders.get_encoder(built_as, in_channels=num_channels, depth=FULL_DEPTH, weights=None)
    except (ValueError, AssertionError, IndexError) as error:  # one resolution throughout, or too few stages
        why = f"{model.name} cannot use {name!r} ({error})"
        raise UserError(
            f"MODEL.ENCODER.NAME: {why}; write an encoder with strides up to 32, such as resnet50"
        ) from None
    if len(encoder.out_channels) != FULL_DEPTH + 1 or encoder.output_stride != STRIDES[NUM_ENCODED - 1]:
        why = f"{name!r} has features of stride {encoder.output_stride} at most"
        raise UserError(f"MODEL.ENCODER.NAME: {why}; {model.name} needs strides up to 32; write for example resnet50")
    return encoder


def grids_of(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Returns (rows, columns) of P3 to P7 for frames of `size` (height, width).

    >>> grids_of((96, 160))
    [(12, 20), (6, 10), (3, 5), (2, 3), (1, 2)]
    """
    height, width = size
    return [(-(-height // stride), -(-width // stride)) for stride in STRIDES]
