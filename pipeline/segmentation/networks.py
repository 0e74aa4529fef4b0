"""Networks by MODEL, the sizes that they take, and the cut before the head's final upsampling.

In: MODEL, and the size of training tiles. Out: a `torch.nn.Module` from float images (B, 3, H, W) to logits
(B, C, H, W), with H and W as its `sizes` say.
"""

from __future__ import annotations

import functools
from typing import Any

import segmentation_models_pytorch as smp
import torch
from segmentation_models_pytorch.base import SegmentationModel
from segmentation_models_pytorch.decoders.dpt.decoder import DPTSegmentationHead
from torch import Tensor, nn

from pipeline.config.architectures import library_architectures, own_code
from pipeline.config.load import Loaded
from pipeline.config.schema import Model, Predict
from pipeline.data.padding import ANY_SIZE, Sizes
from pipeline.errors import UserError
from pipeline.segmentation.architectures import make_network
from pipeline.segmentation.input_scale import with_input_scale
from pipeline.segmentation.probe import SHAPES, Build, Make, Refusal, Size, Trial, find_build, other_sizes
from pipeline.segmentation.windows import windowed

_builds: dict[Any, Build] = {}  # what was found in this process


def build_network(
    model: Model, num_outputs: int, num_channels: int = 3, wanted: Size | None = None, is_trusted: bool = False
) -> nn.Module:
    """Returns a network with random weights and `num_outputs` logit channels, on the CPU, in channels_last format.

    Its `sizes` are those of the frames that it takes, its `encoder_arguments` what its encoder was built with.

    Args:
        num_channels: of the images.
        wanted: (height, width) of training samples, None where only the images tell.
        is_trusted: whether a file of the user's own may be run.

    Raises:
        UserError: an unknown encoder or option, or a network that does not run; names sizes or architectures that do.
    """
    build = build_of(model, num_outputs, num_channels, wanted, is_trusted)
    network = make_network(model, num_outputs, num_channels, is_trusted, **build.arguments)
    network.sizes, network.encoder_arguments = build.sizes, build.arguments
    network.is_own_code = own_code(model.name) is not None
    return network.to(memory_format=torch.channels_last)


def network_of(loaded: Loaded) -> nn.Module:
    """Returns the network of a run, with random weights."""
    network, factor = build_network(*_arguments_of(loaded)), loaded.config.datasets.input_scale
    _check_sizes(loaded, network.sizes)
    network = with_input_scale(network, factor, network.sizes)
    network.sizes = network.sizes.before(factor)
    return network


def frame_sizes(loaded: Loaded) -> Sizes:
    """Returns the sizes of frames that the network of a run takes, without building it where that is known."""
    sizes = build_of(*_arguments_of(loaded)).sizes
    _check_sizes(loaded, sizes)
    return sizes.before(loaded.config.datasets.input_scale)


def _arguments_of(loaded: Loaded) -> tuple[Model, int, int, Size | None, bool]:
    config = loaded.config
    tile, size = config.datasets.augmentation.tile, config.model.encoder.image_size
    wanted = size[::-1] if size else (ANY_SIZE.padded(tile.height, tile.width) if tile.enable else None)
    return config.model, num_outputs(loaded), loaded.competition.num_channels, wanted, loaded.trusts_code


def _check_sizes(loaded: Loaded, sizes: Sizes) -> None:
    """Refuses tiles and resized images of a size that the network does not take.

    Raises:
        UserError: the key and a size that fits.
    """
    tile = loaded.config.datasets.augmentation.tile
    if tile.enable and sizes.fixed and sizes.padded(tile.height, tile.width) != sizes.fixed:
        height, width = sizes.fixed
        raise UserError(
            f"DATASETS.AUGMENTATION.TILE: tiles of {tile.width}x{tile.height} do not fit a network of "
            f"{width}x{height}; make them that size, or set MODEL.ENCODER.IMAGE_SIZE"
        )
    if sizes.fixed and loaded.config.datasets.input_scale != 1:
        height, width = sizes.fixed
        raise UserError(
            f"DATASETS.INPUT_SCALE: the network takes images of {width}x{height} only, so they cannot be resized; set 1"
        )


def check_window(predict: Predict, sizes: Sizes) -> None:
    """Refuses windows of a size that the network does not take.

    Raises:
        UserError: the key and a size that fits.
    """
    if predict.mode != "window" or sizes.fixed:
        return
    near = list(sizes.scaled(predict.window, 1))
    if list(predict.window) != near:
        least = f" and at least {sizes.smallest}" if sizes.smallest else ""
        found = f"{list(predict.window)} must be multiples of {sizes.multiple}{least} for this network"
        raise UserError(f"PREDICT.WINDOW: {found}, for example {near}")


def num_outputs(loaded: Loaded) -> int:
    """Returns the network's output channels: the classes, and one more when padding is a class of its own."""
    return loaded.competition.num_classes + (loaded.config.datasets.padding == "class")


def build_of(model: Model, num_outputs: int, num_channels: int, wanted: Size | None, is_trusted: bool) -> Build:
    """Returns how a network is to be built, as `build_network` takes it; found once per process.

    Raises:
        UserError: as `build_network`.
    """
    key = (repr(model), num_outputs, num_channels, wanted, is_trusted)
    if key not in _builds:
        found = _find(model, num_outputs, num_channels, wanted, is_trusted)
        if own_code(model.name):
            return found  # the file may change
        _builds[key] = found
    return _builds[key]


def _find(model: Model, num_outputs: int, num_channels: int, wanted: Size | None, is_trusted: bool) -> Build:
    is_own, is_given = bool(own_code(model.name)), model.encoder.image_size is not None
    if is_own and model.aux_weight:
        raise UserError(f"MODEL.AUX_WEIGHT: {model.name} has no auxiliary head that the pipeline knows; set it to 0")
    make = functools.partial(make_network, model, num_outputs, num_channels, is_trusted)
    found = find_build(make, (num_channels, num_outputs), wanted, is_given, is_own)
    if isinstance(found, Build) and model.options and not is_own:
        found = _tried_with_numbers(make, (num_channels, num_outputs), found)
    if isinstance(found, Build):
        return found
    who = model.name if is_own else f"{model.name} with encoder {model.encoder.name}"
    at = f" at {wanted[1]}x{wanted[0]}" if wanted else ""
    of_own = "correct the file or MODEL.OPTIONS" if model.options else "correct the file"
    remedy = of_own if is_own else _remedy(model, make, (num_channels, num_outputs), wanted)
    raise UserError(f"MODEL: {who} does not run{at}: {found.reason}; {remedy}")


def _tried_with_numbers(make: Make, shape: tuple[int, int], found: Build) -> Build | Refusal:
    """Returns what was found, or why the network fails with real numbers: some options have no effect on shapes."""
    sizes = found.sizes
    reason = Trial(make, shape, "cpu").why_not(
        found.arguments, [sizes.fixed or tuple(side * sizes.multiple for side in SHAPES[0])]
    )
    return found if reason is None else Refusal(reason)


def _remedy(model: Model, make: Make, shape: tuple[int, int], wanted: Size | None) -> str:
    """Returns what to set so that a refused network runs; `shape`: channels of images and of logits."""
    if model.options and _runs_with(model.name, model, shape):
        return "change MODEL.OPTIONS: it runs without them"
    if sizes := other_sizes(make, shape, wanted):
        words = " or ".join(f"[{width}, {height}]" for height, width in sizes)
        return f"it runs at {words}: set MODEL.ENCODER.IMAGE_SIZE and the size of tiles"
    others = [name for name in library_architectures() if name != model.name and _runs_with(name, model, shape)]
    if others:
        return f"with {model.encoder.name} these run: {', '.join(others)}"
    return f"no architecture runs with {model.encoder.name}; choose another MODEL.ENCODER.NAME"


def _runs_with(name: str, model: Model, shape: tuple[int, int]) -> bool:
    """Returns whether an architecture, with its own options, runs with the encoder of a model."""
    make = functools.partial(make_network, Model(name, "", model.encoder), shape[1], shape[0], False)
    return isinstance(find_build(make, shape, None, False), Build)


def sizes_of(network: nn.Module) -> Sizes:
    """Returns the sizes of frames that a network takes; a network that was not built here takes any."""
    return getattr(network, "sizes", ANY_SIZE)


def main_logits(outputs: Tensor | tuple[Tensor, Tensor]) -> Tensor:
    """Returns the logits (B, C, H, W) of a network's outputs, without those of an auxiliary head."""
    return outputs[0] if isinstance(outputs, tuple) else outputs


def whole_logits(network: nn.Module, image_BCHW: Tensor) -> Tensor:
    """Returns the logits of whole frames (B, C, H, W); a network of one size sees larger ones through windows."""
    fixed = sizes_of(network).fixed
    if fixed is None or image_BCHW.shape[-2:] == fixed:
        return main_logits(network(image_BCHW))
    return windowed(lambda window_NCHW: main_logits(network(window_NCHW)), image_BCHW, fixed, is_fixed=True)


def low_logits(network: nn.Module, image_BCHW: Tensor) -> Tensor:
    """Returns the logits before the head's final bilinear upsampling, or at full size where the head has none.

    `upsample(network, low_logits(network, x))` equals `network(x)` to the bit.
    """
    head = _cut_head(network)
    if head is None:
        return main_logits(network(image_BCHW))
    features = network.encoder(image_BCHW)
    # DPT's encoder returns features and tokens, which its decoder takes apart.
    decoded = network.decoder(*features) if isinstance(head, DPTSegmentationHead) else network.decoder(features)
    return head.head(decoded) if isinstance(head, DPTSegmentationHead) else head[0](decoded)


def upsample_factor(network: nn.Module) -> int:
    """Returns how many times larger the logits leave the head than its convolution makes them (1: no upsampling)."""
    head = _cut_head(network)
    if head is None:
        return 1
    if isinstance(head, DPTSegmentationHead):
        return int(head.upsampling_factor)
    return 1 if isinstance(head[1], nn.Identity) else int(head[1].scale_factor)


def align_corners(network: nn.Module) -> bool:
    """Returns how the head's upsampling places its grid."""
    head = _cut_head(network)
    if isinstance(head, DPTSegmentationHead):
        return True  # written into its forward
    return head is not None and bool(getattr(head[1], "align_corners", False))


def _cut_head(network: nn.Module) -> nn.Module | None:
    """Returns the head, of convolution and upsampling, of what is built as the library's networks are, else None.

    The user's own network may do anything in its `forward`, unless that is the library's.
    """
    is_librarys = type(network).forward in (SegmentationModel.forward, smp.DPT.forward)
    return None if getattr(network, "is_own_code", False) and not is_librarys else network.segmentation_head
