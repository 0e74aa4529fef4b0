"""Which sizes a network takes, found by running it on the meta device, which computes shapes only.

A network of convolutions takes any multiple of its stride. Transformers are built for one size (`img_size` of timm);
some of them take others, too, when they are told to (`dynamic_img_size`, `strict_img_size`). Nothing of this is listed
here: what runs is found by running it, before any image is read, within a second. Where there is an `img_size`, a table
of positions may be too short for larger images, which the meta device does not see; then the CPU has a look, too.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch
from torch import nn

from pipeline.data.padding import STRIDE, Sizes
from pipeline.errors import UserError

Size = tuple[int, int]  # height, width
Make = Callable[..., nn.Module]
MULTIPLES = (32, 64, 128)  # that are tried, in this order
# In multiples: no side is a multiple of another, so that windows and patches cannot fit by chance.
SHAPES = ((7, 5), (6, 9))
ANY_SIZE_OPTIONS = ({}, {"dynamic_img_size": True}, {"strict_img_size": False})
STEPS = (32, 64, 96, 128, 192, 224, 256, 448, 512)  # sizes that are proposed are multiples of one of these
MOST_TRIED, MOST_PROPOSED = 8, 3
LONGEST_REASON = 160  # characters
USUAL = (224, 224)  # of encoders
# Of an encoder, what it was built with, and a size: what was found in this process.
_real: dict[tuple[str, str, str, Size], str | None] = {}


@dataclass(frozen=True)
class Build:
    """How a network is built so that it runs.

    Attributes:
        arguments: for its encoder.
        sizes: of the frames that it then takes.
    """

    arguments: dict[str, Any]
    sizes: Sizes


@dataclass(frozen=True)
class Refusal:
    """Why a network runs at no size that is wanted."""

    reason: str


def find_build(
    make: Make, shape: Size, wanted: Size | None, is_given: bool, is_own_code: bool = False
) -> Build | Refusal:
    """Returns how a network is to be built, or why it cannot be.

    Args:
        make: (arguments for the encoder) to a network.
        shape: channels of images and of logits.
        wanted: the size of training samples, None where that is known from the images only.
        is_given: whether the network is to see this size and no other.
        is_own_code: runs on the CPU, since the user's code need not know of the meta device, and takes no arguments.
    """
    trial = Trial(make, shape, "cpu" if is_own_code else "meta", is_own_code)
    first = ""
    if not (is_given and wanted):
        for arguments in ANY_SIZE_OPTIONS[:1] if is_own_code else ANY_SIZE_OPTIONS:
            for multiple in MULTIPLES:
                reason = trial.why_not(arguments, [tuple(side * multiple for side in sides) for sides in SHAPES])
                sizes = Sizes(multiple, smallest=0 if reason else trial.smallest(arguments, multiple))
                if reason is None and wanted:
                    reason = trial.why_not(arguments, [sizes.padded(*wanted)])
                if reason is None and not is_own_code:
                    reason = trial.why_not_larger(arguments, multiple)
                if reason is None:
                    return Build(arguments, sizes)
                first = first or reason
                if trial.is_refused(arguments):  # no size will help
                    break
    size = wanted or trial.own_size() or USUAL
    for arguments in ({"img_size": size}, {}) if not is_own_code else ({},):
        reason = trial.why_not(arguments, [size])
        if reason is None and not is_own_code:
            reason = trial.why_not_real(arguments, size)
        if reason is None:
            return Build(arguments, Sizes(STRIDE, fixed=size))
        if not trial.is_refused(arguments):
            first = reason
    return Refusal(first or reason)


def other_sizes(make: Make, shape: Size, wanted: Size | None) -> list[Size]:
    """Returns up to three sizes near a wanted one at which a network runs that was refused, the nearest first."""
    trial = Trial(make, shape, "meta")
    own = trial.own_size()
    if trial.is_refused({}):  # at no size
        return []
    size = wanted or own or USUAL
    near = {tuple(max(step, round(side / step) * step) for side in size) for step in STEPS} - {size}
    squares = {(max(other), max(other)) for other in near}
    found = sorted(near | squares, key=lambda other: (abs(other[0] - size[0]) + abs(other[1] - size[1]), other))
    candidates = dict.fromkeys([*found[:MOST_TRIED], *([own] if own else [])])
    runs = (other for other in candidates if isinstance(find_build(make, shape, other, is_given=True), Build))
    return list(islice(runs, MOST_PROPOSED))


class Trial:
    """Builds networks and runs them, each once for the same arguments."""

    def __init__(self, make: Make, shape: Size, device: str, is_own_code: bool = False) -> None:
        self.make, self.shape, self.device, self.is_own_code = make, shape, device, is_own_code
        self.built: dict[str, nn.Module | str] = {}

    def why_not(self, arguments: dict[str, Any], sizes: Sequence[Size]) -> str | None:
        """Returns why a network does not map images of all these sizes to logits, or None."""
        network = self._network(arguments)
        if isinstance(network, str):
            return network
        device = next((param.device.type for param in network.parameters()), "cpu")
        for height, width in sizes:
            # The user's own may return something else while it trains, as networks with several losses do.
            for is_training in (False, True) if self.is_own_code else (False,):
                try:
                    with torch.device(device), torch.no_grad(), torch.random.fork_rng(devices=[]):
                        found = network.train(is_training)(torch.zeros(2, self.shape[0], height, width))
                except Exception as error:  # whatever a library raises at a size that it does not take
                    if device == "meta" and "meta" in str(error):
                        return Trial(self.make, self.shape, "cpu").why_not(arguments, sizes)
                    return reason_of(error)
                has_aux = isinstance(found, tuple) and not self.is_own_code
                if reason := self._why_no_logits(found[0] if has_aux else found, (height, width)):
                    return f"{reason}, in training mode" if is_training else reason
        return None

    def _why_no_logits(self, found: Any, size: Size) -> str | None:
        """Returns why an output is not the logits of two images of a size, or None."""
        start = f"it maps (2, {self.shape[0]}, {size[0]}, {size[1]}) to"
        expected = (2, self.shape[1], *size)
        if not isinstance(found, torch.Tensor):
            return f"{start} a {type(found).__name__}, not to {expected}"
        if tuple(found.shape) != expected:
            return f"{start} {tuple(found.shape)}, not to {expected}"
        return None if found.is_floating_point() else f"{start} {found.dtype}, expected floating point"

    def why_not_larger(self, arguments: dict[str, Any], multiple: int) -> str | None:
        """Returns why an encoder that is made for one size fails at a larger one, with real numbers, or None."""
        if (own := self.own_size()) is None:
            return None
        height, width = Sizes(multiple).padded(*own)
        return self.why_not_real(arguments, (height + 2 * multiple, width + multiple))

    def why_not_real(self, arguments: dict[str, Any], size: Size) -> str | None:
        """Returns why an encoder that is made for one size fails with real numbers at `size`, or None."""
        own = self.own_size()
        if own is None or isinstance(self._network({"img_size": own}), str):
            return None
        encoder = self._network(arguments).encoder
        key = (type(encoder).__name__, getattr(encoder, "name", ""), repr(arguments), size)
        if key not in _real:
            network = self._build(arguments, "cpu")
            try:
                with torch.no_grad():
                    network.encoder(torch.zeros(1, self.shape[0], *size))
                _real[key] = None
            except Exception as error:  # whatever a library raises
                _real[key] = reason_of(error)
        return _real[key]

    def smallest(self, arguments: dict[str, Any], multiple: int) -> int:
        """Returns the side of the smallest square that a network takes, or 0 if that is a single multiple.

        `SHAPES` are known to run. PAN, for example, halves the last features three times, and of a side below 128
        nothing would be left.
        """
        sides = range(multiple, min(map(min, SHAPES)) * multiple, multiple)
        found = next((side for side in sides if self.why_not(arguments, [(side, side)]) is None), sides.stop)
        return found if found > multiple else 0

    def is_refused(self, arguments: dict[str, Any]) -> bool:
        """Returns whether no network can be built with these arguments, at whatever size."""
        return isinstance(self.built.get(repr(arguments)), str)

    def own_size(self) -> Size | None:
        """Returns the size that the encoder is made for, where it says so."""
        network = self._network({})
        encoder = None if isinstance(network, str) else getattr(getattr(network, "encoder", None), "model", None)
        size = (getattr(encoder, "pretrained_cfg", None) or {}).get("input_size")
        return tuple(size[1:]) if size else None

    def _network(self, arguments: dict[str, Any]) -> nn.Module | str:
        key = repr(arguments)
        if key not in self.built:
            self.built[key] = self._build(arguments, self.device)
        return self.built[key]

    def _build(self, arguments: dict[str, Any], device: str) -> nn.Module | str:
        try:
            with warnings.catch_warnings(), torch.random.fork_rng(devices=[]), torch.device(device):
                warnings.simplefilter("ignore")
                network = self.make(**arguments)
            if not isinstance(network, nn.Module):
                return f"it is {type(network).__name__}, no network"
            if not any(weight.requires_grad for weight in network.parameters()):
                return "it has no weights that can be trained"
            return network.eval().to(device)  # the library makes the first convolution of other channels on the CPU
        except UserError:
            raise
        except Exception as error:  # whatever a library, or the user's code, raises of arguments that do not fit
            if device == "meta" and "meta" in str(error):  # reads a number of a tensor while it is built
                return self._build(arguments, "cpu")
            return reason_of(error)


def reason_of(error: Exception) -> str:
    """Returns the message of an error of a library as one line."""
    text = " ".join(str(error).split()).rstrip(".") or type(error).__name__
    return text if len(text) <= LONGEST_REASON else f"{text[: LONGEST_REASON - 3]}..."
