"""A network that sees its images larger or smaller: DATASETS.INPUT_SCALE, in training, validation and prediction alike.

Tiles and windows keep their size in pixels of the image; the network gets each of them resized. Its logits are brought
back to the size of the tile or image, so loss and scores are at the resolution of the labels, which are never resized.
TILE.SETS with another factor is another thing: it resizes images and masks first, and a tile shows less or more of
them.
"""

from __future__ import annotations

from typing import TypeVar

import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.data.padding import ANY_SIZE, Sizes
from pipeline.segmentation.views import resized

Network = TypeVar("Network", bound=nn.Module)


class InputScale:
    """The two hooks of a network that sees resized images. It holds the size of the image in between."""

    def __init__(self, factor: float, sizes: Sizes) -> None:
        self.factor, self.sizes, self.size = factor, sizes, (0, 0)

    def resize_input(self, network: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """Returns the input (B, C, H, W), resized to the nearest sides that the network takes."""
        (image_BCHW,) = inputs
        self.size = tuple(image_BCHW.shape[-2:])
        size = self.sizes.scaled(self.size, self.factor)
        # Antialiasing: without it, a quarter of the size would show every fourth pixel instead of their mean.
        return (F.interpolate(image_BCHW, size=size, mode="bilinear", antialias=self.factor < 1),)

    def restore_size(self, network: nn.Module, inputs: tuple[Tensor], outputs: Tensor | tuple) -> Tensor | tuple:
        """Returns the logits at the size that the image had; what an auxiliary head says has no size."""
        if isinstance(outputs, tuple):
            return (resized(self.size)(outputs[0]), *outputs[1:])
        return resized(self.size)(outputs)


def with_input_scale(network: Network, factor: float, sizes: Sizes = ANY_SIZE) -> Network:
    """Returns the network with hooks that resize what it is given by a factor; with 1 there are none.

    Its weights keep their names, so that they fit a network without the hooks.
    """
    if factor != 1:
        hooks = InputScale(factor, sizes)
        network.register_forward_pre_hook(hooks.resize_input)
        network.register_forward_hook(hooks.restore_size)
        network.input_scale = factor
    return network


def has_input_scale(network: nn.Module) -> bool:
    """Returns whether a network resizes its images, so that logits before its head's upsampling fit no factor."""
    return hasattr(network, "input_scale")
