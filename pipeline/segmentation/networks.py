"""Networks of segmentation_models_pytorch, and the cut before the head's final upsampling.

In: MODEL. Out: a `torch.nn.Module` from float images (B, 3, H, W) to logits (B, C, H, W), with H and W
multiples of `STRIDE`.
"""

from __future__ import annotations

import warnings

import segmentation_models_pytorch as smp
import torch
from torch import Tensor, nn

from pipeline.config.load import Loaded
from pipeline.config.schema import Model
from pipeline.errors import UserError
from pipeline.segmentation.upscaling import upscaled
from pipeline.wording import did_you_mean


def build_network(model: Model, num_outputs: int, num_channels: int = 3) -> nn.Module:
    """Returns a network with random weights and `num_outputs` logit channels, on the CPU, in channels_last format.

    Args:
        num_channels: of the images.

    Raises:
        UserError: an unknown encoder.
    """
    encoder, known = model.encoder.name, sorted(smp.encoders.encoders)
    # `tu-` names are timm's, of which there are too many to list; some old `timm-` names are aliases of those.
    is_listed = not encoder.startswith("tu-") and not smp.encoders.is_equivalent_to_timm_universal(encoder)
    if is_listed and encoder not in known:
        hint = did_you_mean(encoder, known, f"known: {', '.join(known)}", most=3)
        raise UserError(f"MODEL.ENCODER.NAME: the library has no {encoder!r}; {hint}")
    # The old names `timm-...` of the original's configs still work; the library's remark would only alarm.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        network = getattr(smp, model.name)(
            encoder_name=encoder, encoder_weights=None, in_channels=num_channels, classes=num_outputs
        )
    return network.to(memory_format=torch.channels_last)


def network_of(loaded: Loaded) -> nn.Module:
    """Returns the network of a run, with random weights."""
    network = build_network(loaded.config.model, num_outputs(loaded), loaded.competition.num_channels)
    return upscaled(network, loaded.config.datasets.upscale)


def num_outputs(loaded: Loaded) -> int:
    """Returns the network's output channels: the classes, and one more when padding is a class of its own."""
    return loaded.competition.num_classes + (loaded.config.datasets.padding == "class")


def low_logits(network: nn.Module, image_BCHW: Tensor) -> Tensor:
    """Returns the logits before the head's final bilinear upsampling, or at full size where the head has none.

    `upsample(network, low_logits(network, x))` equals `network(x)` to the bit.
    """
    return network.segmentation_head[0](network.decoder(network.encoder(image_BCHW)))


def upsample_factor(network: nn.Module) -> int:
    """Returns how many times larger the logits leave the head than its convolution makes them (1: no upsampling)."""
    upsampling = network.segmentation_head[1]
    return 1 if isinstance(upsampling, nn.Identity) else int(upsampling.scale_factor)


def align_corners(network: nn.Module) -> bool:
    """Returns how the head's upsampling places its grid."""
    return bool(getattr(network.segmentation_head[1], "align_corners", False))
