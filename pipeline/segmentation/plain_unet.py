"""The U-Net of its paper, without a pretrained encoder: two 3x3 convolutions per level, with batch norm or without.

Source: Ronneberger et al. 2015, https://arxiv.org/abs/1505.04597. Convolutions are padded here, so that logits are of
the image's size, and batch norm, which the paper does not have, can be switched on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from segmentation_models_pytorch.base import ClassificationHead, SegmentationModel
from torch import Tensor, nn


def double_convolution(num_inputs: int, num_outputs: int, use_norm: bool) -> nn.Sequential:
    """Returns two 3x3 convolutions with ReLU, each followed by batch norm where `use_norm` is true."""
    layers: list[nn.Module] = []
    for inputs in (num_inputs, num_outputs):
        convolution = nn.Conv2d(inputs, num_outputs, 3, padding=1, bias=not use_norm)
        nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")  # the paper: std sqrt(2 / inputs)
        norm = [nn.BatchNorm2d(num_outputs)] if use_norm else []
        layers += [convolution, *norm, nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class PlainEncoder(nn.Module):
    """Images to a list of features, one more than there are halvings; the first is of the image's size."""

    def __init__(self, in_channels: int, channels: Sequence[int], use_norm: bool) -> None:
        super().__init__()
        pairs = zip((in_channels, *channels), channels, strict=False)
        self.levels = nn.ModuleList(double_convolution(*pair, use_norm) for pair in pairs)
        self.pool = nn.MaxPool2d(2)
        self.out_channels, self.output_stride = list(channels), 2 ** (len(channels) - 1)

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        features = [self.levels[0](image_BCHW)]
        for level in self.levels[1:]:
            features.append(level(self.pool(features[-1])))
        return features


class PlainDecoder(nn.Module):
    """An encoder's features to one of the image's size: up-convolutions, each joined with the encoder's own level."""

    def __init__(self, channels: Sequence[int], use_norm: bool) -> None:
        super().__init__()
        pairs = list(zip(channels[:0:-1], channels[-2::-1], strict=True))
        self.rises = nn.ModuleList(nn.ConvTranspose2d(deep, wide, 2, stride=2) for deep, wide in pairs)
        self.levels = nn.ModuleList(double_convolution(2 * wide, wide, use_norm) for _, wide in pairs)

    def forward(self, features: Sequence[Tensor]) -> Tensor:
        x = features[-1]
        for rise, level, skip in zip(self.rises, self.levels, features[-2::-1], strict=True):
            x = level(torch.cat([skip, rise(x)], 1))
        return x


class PlainUnet(SegmentationModel):
    """Images (B, 3, H, W) to logits (B, C, H, W), H and W multiples of 2 ** encoder_depth.

    Args:
        encoder_depth: halvings of the image.
        first_channels: kernels at the image's own size; twice as many with each halving.
        use_norm: batch norm behind every convolution of encoder and decoder.
        aux_params: of the library's classification head, or None.
    """

    def __init__(
        self,
        encoder_depth: int = 4,
        first_channels: int = 64,
        use_norm: bool = True,
        in_channels: int = 3,
        classes: int = 1,
        aux_params: dict[str, Any] | None = None,
    ) -> None:
        super().__init__()
        channels = [first_channels * 2**level for level in range(encoder_depth + 1)]
        self.encoder = PlainEncoder(in_channels, channels, use_norm)
        self.decoder = PlainDecoder(channels, use_norm)
        self.segmentation_head = nn.Sequential(nn.Conv2d(first_channels, classes, 1), nn.Identity(), nn.Identity())
        self.classification_head = ClassificationHead(channels[-1], **aux_params) if aux_params else None
        self.name = "plain-unet"
