"""Encoders of segmentation_models_pytorch and timm: their input, and their pretrained weights.

In: images (B, H, W, C). Out: what an encoder expects, float32 (B, C, H, W).
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import segmentation_models_pytorch as smp
import timm
import torch
from segmentation_models_pytorch.encoders import TimmViTEncoder
from timm.layers import resample_abs_pos_embed, resize_rel_pos_bias_table
from torch import Tensor, nn

from pipeline.config.schema import Encoder
from pipeline.errors import UserError
from pipeline.paths import shown
from pipeline.training.encoder_names import download_name, is_plain_transformer, name_to_build, published_weights
from pipeline.training.hub import encoder_of_hub, is_of_hub, mean_std_of_hub, use_cache_without_network
from pipeline.training.inputs import find_encoder_weights
from pipeline.training.weights import read_safetensors, refuse_other_kinds

Triple = tuple[float, float, float]
FULL_DEPTH = 5  # halvings of the library's encoders
# Kept here because the library asks the network for them. Source: the `pretrained_settings` of
# segmentation_models_pytorch.
IMAGENET_MEAN_STD = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF_MEAN_STD = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
HALF_ENCODERS = ("inceptionresnetv2", "inceptionv4", "xception")
HALF_TAGS = ("advprop",)
DPN_MEAN_STD = ((124 / 255, 117 / 255, 104 / 255), (1 / (0.0167 * 255),) * 3)


class Scaling(NamedTuple):
    """What becomes of pixel values: `low` and `high` are scaled to 0 and 1, then `mean` and `std` of each channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    low: float = 0.0
    high: float = 255.0


def scaling_of(network: nn.Module, encoder: Encoder) -> Scaling:
    """Returns the scaling that was set for a network's images, or that of ordinary images for its encoder."""
    return getattr(network, "scaling", None) or Scaling(*mean_std(encoder.name, encoder.weights))


def measured_scaling(facts: Mapping[str, Any], encoder: Encoder) -> Scaling:
    """Returns the scaling of a competition's images, by what `prepare` measured (images.json)."""
    own = (facts["mean"], facts["std"]) if facts["mean"] else mean_std(encoder.name, encoder.weights)
    return Scaling(*map(tuple, own), facts["low"], facts["high"])


def normalise(image_BHWC: Tensor, scaling: Scaling) -> Tensor:
    """Returns the float32 network input (B, C, H, W), channels_last, of images, on their device."""
    scale, shift = _scale_shift(scaling, image_BHWC.device)
    # A permuted NHWC tensor is channels_last already: no copy.
    return torch.addcmul(shift, image_BHWC.float(), scale).permute(0, 3, 1, 2)


def mean_std(name: str, weights: str | None) -> tuple[Triple, Triple]:
    """Returns mean and standard deviation of RGB in [0, 1] with which an encoder's weights were trained.

    >>> mean_std("inceptionv4", "imagenet")
    ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    """
    if name in HALF_ENCODERS or weights in HALF_TAGS or name.startswith("timm-tf_efficientnet_lite"):
        return HALF_MEAN_STD
    if name.startswith("dpn"):
        return DPN_MEAN_STD
    if is_of_hub(name):
        return mean_std_of_hub(name) or IMAGENET_MEAN_STD
    if name.startswith("tu-"):  # timm lists them for each of its models; no network is built
        settings = timm.get_pretrained_cfg(name.removeprefix("tu-"), allow_unregistered=True)
        return (settings.mean, settings.std) if settings else IMAGENET_MEAN_STD
    return IMAGENET_MEAN_STD


@functools.cache
def _scale_shift(scaling: Scaling, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the scaling as one multiply and one add; kept, since a GPU waits for each copy to it."""
    with torch.inference_mode(False):  # the first call may come from a prediction, the next from training
        mean, std = (torch.tensor(values, device=device) for values in scaling[:2])
        scale = 1 / ((scaling.high - scaling.low) * std)
        return scale, -mean / std - scaling.low * scale


def load_encoder(
    network: nn.Module, encoder: Encoder, folders: Sequence[Path], log: Callable[[str], None] = print
) -> None:
    """Fills a network's encoder with its pretrained weights; MODEL.ENCODER.WEIGHTS null leaves it as it is.

    A network that was published as a whole reads the file itself, with its own `load_published`.

    Args:
        folders: where `<encoder>-<tag>.safetensors` is looked for before the library's hub is asked.

    Raises:
        UserError: the weights are not available here, or do not fit.
    """
    if encoder.weights is None:
        return
    path = find_encoder_weights(encoder, folders)
    if (load_published := getattr(network, "load_published", None)) is not None:
        load_published(_require(path, encoder, folders), log)
        return
    own = network.encoder.state_dict()
    if path is None:
        state = load_pretrained(encoder, folders, network).state_dict()
        refuse_other_kinds(state, own, f"{encoder.weights} weights for {encoder.name} from the library's hub")
        network.encoder.load_state_dict(with_channels(state, own), strict=True)
        return
    state = read_safetensors(path)
    refuse_other_kinds(state, own, shown(path))
    state = with_sizes(with_channels(state, own), network.encoder)
    if getattr(network.encoder, "_depth", FULL_DEPTH) < FULL_DEPTH:  # has no use for the deepest stages
        state = {name: tensor for name, tensor in state.items() if name in own}
    wrong = sorted(name for name in own.keys() | state.keys() if name not in own or name not in state)
    wrong += sorted(name for name in own.keys() & state.keys() if own[name].shape != state[name].shape)
    if wrong:
        there, here = (tuple(of[wrong[0]].shape) if wrong[0] in of else "absent" for of in (state, own))
        differ = f"the first of {len(wrong)} tensors that differ" if len(wrong) > 1 else "the only tensor that differs"
        found = f"{wrong[0]} is {there} in the file and {here} in the network ({differ})"
        raise UserError(f"{shown(path)} does not fit encoder {encoder.name}: {found}")
    network.encoder.load_state_dict(state, strict=True)


def _require(path: Path | None, encoder: Encoder, folders: Sequence[Path]) -> Path:
    """Returns the path of a file of weights; raises UserError if it is None."""
    if path is None:
        name = f"{encoder.name}-{encoder.weights}.pth"
        raise UserError(
            f"no {encoder.weights} weights for {encoder.name}: there is no {name} in "
            f"{', '.join(shown(folder) for folder in folders)}. Download the file that its authors publish, put it "
            f"there under this name, or set MODEL.ENCODER.WEIGHTS to its path, or to null for random weights"
        )
    return path


def with_channels(state: Mapping[str, Tensor], own: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Returns an encoder's weights with its first convolution made for as many channels as the network has.

    One channel gets the sum over red, green and blue; others repeat them in turn, scaled so that the sum stays.
    Source: `patch_first_conv` of segmentation_models_pytorch.
    """
    adapted = dict(state)
    for name, tensor in state.items():
        shape = own[name].shape if name in own else tensor.shape
        if tensor.ndim == 4 and tensor.shape[1] == 3 and shape[1] != 3 and shape[::2] == tensor.shape[::2]:
            channels = shape[1]
            repeated = tensor[:, [index % 3 for index in range(channels)]] * (3 / channels)
            adapted[name] = tensor.sum(1, keepdim=True) if channels == 1 else repeated
    return adapted


def with_sizes(state: Mapping[str, Tensor], encoder: nn.Module) -> dict[str, Tensor]:
    """Returns an encoder's weights with what belongs to positions in the image resampled to the size it is built for.

    These are the absolute positions of a ViT and the tables of relative ones; timm resamples likewise what it loads
    itself. Whatever else does not fit is left as it is.
    """
    own, resampled = encoder.state_dict(), dict(state)
    num_prefix = getattr(getattr(encoder, "model", None), "num_prefix_tokens", 0)
    for name in own.keys() & state.keys():
        old, new = state[name], own[name]
        if old.shape == new.shape:
            continue
        if name.endswith("pos_embed") and old.ndim == new.ndim == 3 and old.shape[2] == new.shape[2]:
            grid = getattr(encoder.model.patch_embed, "grid_size", None)
            resampled[name] = resample_abs_pos_embed(old, list(grid), num_prefix_tokens=num_prefix) if grid else old
        elif name.endswith("relative_position_bias_table"):
            window = encoder.get_submodule(name.rpartition(".")[0]).window_size
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # torch's, of how timm indexes
                resampled[name] = resize_rel_pos_bias_table(old, window, tuple(new.shape))
    return resampled


def load_pretrained(encoder: Encoder, folders: Sequence[Path], network: nn.Module | None = None) -> nn.Module:
    """Returns an encoder filled through the library's own loader (Hugging Face's hub or its cache).

    Args:
        network: whose encoder is to be filled, with what it was built with (`build_network`); None: as it comes.

    Raises:
        UserError: the library knows no such weights, or they cannot be had from here.
    """
    known = published_weights(encoder.name)
    if known and encoder.weights not in known:
        raise UserError(f"MODEL.ENCODER.WEIGHTS: {encoder.name} has no {encoder.weights!r}; known: {', '.join(known)}")
    is_remote = is_of_hub(encoder.name)
    name = encoder_of_hub(encoder, has_weights=True).name if is_remote else name_to_build(encoder)
    use_cache_without_network()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            own = getattr(network, "encoder", None)
            arguments = getattr(network, "encoder_arguments", {})
            if isinstance(own, TimmViTEncoder) or (own is None and is_plain_transformer(name)):
                shape = {"depth": len(own.out_channels)} if own is not None else {}
                return TimmViTEncoder(name.removeprefix("tu-"), True, **shape, **arguments)
            depth = getattr(own, "_depth", FULL_DEPTH)
            return smp.encoders.get_encoder(name, depth=depth, weights=encoder.weights, **arguments)
    except Exception as error:
        # The hub's client raises its own, requests' and the system's errors alike when there is no way out.
        file_name = f"{encoder.name}-{encoder.weights}.safetensors"
        raise UserError(
            f"no {encoder.weights} weights for encoder {encoder.name}: there is no {file_name} in "
            f"{', '.join(shown(folder) for folder in folders)}, and the library's hub did not answer "
            f"({type(error).__name__}).\n"
            f"Put {file_name} into a folder and set WEIGHTS_DIR to it, or set MODEL.ENCODER.WEIGHTS=null to start from "
            f"random weights. With internet: ./run.sh download {download_name(encoder)} writes that file."
        ) from None
