"""A network that sees its images enlarged: DATASETS.UPSCALE, in training, validation and prediction alike.

Tiles and windows keep their size in pixels of the image; the network gets each of them enlarged. Its logits are brought
back to the size of the tile or image, so loss and scores are at the resolution of the labels, which are never enlarged.
TILE.SETS with a factor above 1 is another thing: it enlarges images and masks first, and a tile shows less of them.
"""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor, nn

from pipeline.config.schema import STRIDE
from pipeline.segmentation.views import resized, scaled_size

Network = TypeVar("Network", bound=nn.Module)


class Upscaling:
    """The two hooks of an enlarged network. It holds the size of the image in between."""

    def __init__(self, factor: float, multiple: int) -> None:
        self.factor, self.multiple, self.size = factor, multiple, (0, 0)

    def enlarge(self, network: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
        """Returns the input (B, C, H, W) enlarged to the nearest multiples of the network's stride."""
        (image_BCHW,) = inputs
        self.size = tuple(image_BCHW.shape[-2:])
        return (resized(scaled_size(self.size, self.factor, self.multiple))(image_BCHW),)

    def reduce(self, network: nn.Module, inputs: tuple[Tensor], outputs: Tensor | tuple) -> Tensor | tuple:
        """Returns the logits at the size that the image had; what an auxiliary head says has no size."""
        if isinstance(outputs, tuple):
            return (resized(self.size)(outputs[0]), *outputs[1:])
        return resized(self.size)(outputs)


def upscaled(network: Network, factor: float, multiple: int = STRIDE) -> Network:
    """Returns the network with hooks that enlarge what it is given by a factor; with 1 there are none.

    Enlarged images have sides that are multiples of `multiple`.

    Its weights keep their names, so that they fit a network without the hooks.
    """
    if factor != 1:
        upscaling = Upscaling(factor, multiple)
        network.register_forward_pre_hook(upscaling.enlarge)
        network.register_forward_hook(upscaling.reduce)
        network.upscale = factor
    return network


def is_upscaled(network: nn.Module) -> bool:
    """Returns whether a network enlarges its images, so that logits before its head's upsampling fit no factor."""
    return hasattr(network, "upscale")
