"""Backbone and neck of YOLOX: CSPDarknet and the path aggregation pyramid PAFPN.

In: float images (B, channels, H, W), H and W multiples of 32. Out: features of strides 8, 16 and 32, finest first.
Source: Ge et al., "YOLOX: Exceeding YOLO Series in 2021", https://arxiv.org/abs/2107.08430, with the structure of the
published weights (https://github.com/Megvii-BaseDetection/YOLOX, Apache-2.0).
"""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipeline.config.detector_options import Activation

ACTIVATIONS = {"silu": nn.SiLU, "relu": nn.ReLU, "lrelu": functools.partial(nn.LeakyReLU, 0.1)}
NORM_EPS, NORM_MOMENTUM = 1e-3, 0.03  # of every batch norm; PyTorch's own are 1e-5 and 0.1
POOLS = (5, 9, 13)  # kernels of spatial pyramid pooling


class Shape(NamedTuple):
    """The differences between the sizes of YOLOX.

    Attributes:
        depth: factor on the number of blocks, 1 for YOLOX-L.
        width: factor on the number of channels, 1 for YOLOX-L.
        is_depthwise: whether 3x3 convolutions are depthwise ones followed by 1x1.
        activation: the key of `ACTIVATIONS`.
    """

    depth: float
    width: float
    is_depthwise: bool = False
    activation: Activation = "silu"

    @property
    def num_blocks(self) -> int:
        """The blocks of the shortest stage."""
        return max(round(self.depth * 3), 1)

    @property
    def channels(self) -> tuple[int, int, int]:
        """The channels of strides 8, 16 and 32, in the backbone as in the neck."""
        return int(256 * self.width), int(512 * self.width), int(1024 * self.width)


# By the name of the published file: how deep and wide the network is; the first has depthwise convolutions.
SIZES = {
    "yolox_nano": Shape(0.33, 0.25, is_depthwise=True),
    "yolox_tiny": Shape(0.33, 0.375),
    "yolox_s": Shape(0.33, 0.5),
    "yolox_m": Shape(0.67, 0.75),
    "yolox_l": Shape(1.0, 1.0),
    "yolox_x": Shape(1.33, 1.25),
}


class ConvNorm(nn.Module):
    """A convolution that keeps the size at stride 1, batch norm and an activation."""

    def __init__(
        self, shape: Shape, num_inputs: int, num_outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(num_inputs, num_outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.norm = nn.BatchNorm2d(num_outputs, eps=NORM_EPS, momentum=NORM_MOMENTUM)
        self.activation = ACTIVATIONS[shape.activation](inplace=True)

    def forward(self, x: Tensor) -> Tensor:
        return self.activation(self.norm(self.conv(x)))


class DepthwiseConv(nn.Module):
    """A 3x3 convolution of each channel by itself, then a 1x1 convolution."""

    def __init__(self, shape: Shape, num_inputs: int, num_outputs: int, stride: int = 1) -> None:
        super().__init__()
        self.depthwise = ConvNorm(shape, num_inputs, num_inputs, 3, stride, groups=num_inputs)
        self.pointwise = ConvNorm(shape, num_inputs, num_outputs)

    def forward(self, x: Tensor) -> Tensor:
        return self.pointwise(self.depthwise(x))


def conv3x3(shape: Shape, num_inputs: int, num_outputs: int, stride: int = 1) -> nn.Module:
    """Returns a 3x3 convolution with batch norm and activation, depthwise where the shape says so."""
    if shape.is_depthwise:
        return DepthwiseConv(shape, num_inputs, num_outputs, stride)
    return ConvNorm(shape, num_inputs, num_outputs, 3, stride)


class Bottleneck(nn.Module):
    """A 1x1 and a 3x3 convolution, added to their input where `has_shortcut` is true."""

    def __init__(self, shape: Shape, num_channels: int, has_shortcut: bool) -> None:
        super().__init__()
        self.conv1 = ConvNorm(shape, num_channels, num_channels)
        self.conv2 = conv3x3(shape, num_channels, num_channels)
        self.has_shortcut = has_shortcut

    def forward(self, x: Tensor) -> Tensor:
        y = self.conv2(self.conv1(x))
        return x + y if self.has_shortcut else y


class CspLayer(nn.Module):
    """Bottlenecks on one half of the channels, joined with the other half (cross stage partial network)."""

    def __init__(
        self, shape: Shape, num_inputs: int, num_outputs: int, num_blocks: int, has_shortcut: bool = True
    ) -> None:
        super().__init__()
        half = num_outputs // 2
        self.conv1 = ConvNorm(shape, num_inputs, half)
        self.conv2 = ConvNorm(shape, num_inputs, half)
        self.conv3 = ConvNorm(shape, 2 * half, num_outputs)
        self.blocks = nn.Sequential(*(Bottleneck(shape, half, has_shortcut) for _ in range(num_blocks)))

    def forward(self, x: Tensor) -> Tensor:
        return self.conv3(torch.cat([self.blocks(self.conv1(x)), self.conv2(x)], 1))


class Focus(nn.Module):
    """Halves the image by stacking the pixels of each 2x2 square as channels, then convolves."""

    def __init__(self, shape: Shape, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        self.conv = ConvNorm(shape, 4 * num_inputs, num_outputs, 3)

    def forward(self, image: Tensor) -> Tensor:
        # Column by column, as the published weights expect it; `pixel_unshuffle` has another order of channels.
        squares = [image[..., top::2, left::2] for left in (0, 1) for top in (0, 1)]
        return self.conv(torch.cat(squares, 1))


class PyramidPooling(nn.Module):
    """Joins features with their maxima over windows of several sizes."""

    def __init__(self, shape: Shape, num_channels: int) -> None:
        super().__init__()
        half = num_channels // 2
        self.conv1 = ConvNorm(shape, num_channels, half)
        self.pools = nn.ModuleList(nn.MaxPool2d(kernel, 1, kernel // 2) for kernel in POOLS)
        self.conv2 = ConvNorm(shape, half * (1 + len(POOLS)), num_channels)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv1(x)
        return self.conv2(torch.cat([x, *(pool(x) for pool in self.pools)], 1))


class CspDarknet(nn.Module):
    """Images to features of strides 8, 16 and 32; `out_channels` are theirs."""

    def __init__(self, shape: Shape, in_channels: int) -> None:
        super().__init__()
        num_blocks, first = shape.num_blocks, int(64 * shape.width)
        self.out_channels = shape.channels
        self.stem = Focus(shape, in_channels, first)
        self.dark2 = self._stage(shape, first, num_blocks)
        self.dark3 = self._stage(shape, 2 * first, 3 * num_blocks)
        self.dark4 = self._stage(shape, 4 * first, 3 * num_blocks)
        deepest = 16 * first
        self.dark5 = nn.Sequential(
            conv3x3(shape, 8 * first, deepest, stride=2),
            PyramidPooling(shape, deepest),
            CspLayer(shape, deepest, deepest, num_blocks, has_shortcut=False),
        )

    @staticmethod
    def _stage(shape: Shape, num_inputs: int, num_blocks: int) -> nn.Sequential:
        num_outputs = 2 * num_inputs
        down = conv3x3(shape, num_inputs, num_outputs, stride=2)
        return nn.Sequential(down, CspLayer(shape, num_outputs, num_outputs, num_blocks))

    def forward(self, image: Tensor) -> list[Tensor]:
        features3 = self.dark3(self.dark2(self.stem(image)))
        features4 = self.dark4(features3)
        return [features3, features4, self.dark5(features4)]


class Pafpn(nn.Module):
    """Features of three strides to as many of the same shapes, mixed from coarse to fine, then from fine to coarse.

    A level has the number of its halvings: 3, 4 and 5 for strides 8, 16 and 32.
    """

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        fine, middle, coarse = shape.channels

        def mix(num_inputs: int, num_outputs: int) -> CspLayer:
            return CspLayer(shape, num_inputs, num_outputs, shape.num_blocks, has_shortcut=False)

        self.narrow5 = ConvNorm(shape, coarse, middle)
        self.top_down4 = mix(2 * middle, middle)
        self.narrow4 = ConvNorm(shape, middle, fine)
        self.top_down3 = mix(2 * fine, fine)
        self.shrink3 = conv3x3(shape, fine, fine, stride=2)
        self.bottom_up4 = mix(2 * fine, middle)
        self.shrink4 = conv3x3(shape, middle, middle, stride=2)
        self.bottom_up5 = mix(2 * middle, coarse)

    def forward(self, features: list[Tensor]) -> list[Tensor]:
        features3, features4, features5 = features
        narrow5 = self.narrow5(features5)
        mixed4 = self.top_down4(torch.cat([_doubled(narrow5), features4], 1))
        narrow4 = self.narrow4(mixed4)
        out3 = self.top_down3(torch.cat([_doubled(narrow4), features3], 1))
        out4 = self.bottom_up4(torch.cat([self.shrink3(out3), narrow4], 1))
        out5 = self.bottom_up5(torch.cat([self.shrink4(out4), narrow5], 1))
        return [out3, out4, out5]


def _doubled(x: Tensor) -> Tensor:
    return interpolate(x, scale_factor=2.0, mode="nearest")
