"""Checks that the tensors of a file have the names, shapes, kinds and finite values that a network needs.

torch's `load_state_dict` copies and casts every tensor of the right shape: int8 weights of a quantised network would
silently become large floats. So every file of weights is compared with the network here before it is used.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from pipeline.errors import UserError
from pipeline.paths import shown

WIDENED = (torch.float16, torch.bfloat16)  # each of their values is a float32, too


def read_safetensors(path: Path) -> dict[str, Tensor]:
    """Returns the tensors of a safetensors file, on the CPU.

    Raises:
        UserError: the file is cut, changed, or of another format.
    """
    try:
        return load_file(path)
    except (SafetensorError, OSError) as error:
        raise UserError(f"{shown(path)} is damaged or no safetensors file ({error}); download it again") from None


def read_archive(file: Path | BinaryIO) -> Any:
    """Returns what `torch.save` wrote, on the CPU; nothing but tensors and plain values is read, and no code runs.

    Raises:
        Exception: whatever a damaged or forged file makes the unpickler raise.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # on tensors of kinds that are refused where they are used
        return torch.load(file, map_location="cpu", weights_only=True)


def load_weights(network: nn.Module, state: Mapping[str, Tensor], origin: str, otherwise: str = "") -> None:
    """Fills a network with the weights of another one of the same MODEL.

    Args:
        otherwise: what else to do than to set MODEL, for messages.

    Raises:
        UserError: names the first tensor that does not fit.
    """
    refuse_unfit(state, network.state_dict(), origin, otherwise)
    network.load_state_dict(dict(state))


def refuse_unfit(state: Mapping[str, Tensor], own: Mapping[str, Tensor], origin: str, otherwise: str = "") -> None:
    """Refuses weights whose names, shapes or kinds are not exactly those of a network.

    Args:
        state: the weights that were read.
        own: those of the network.
        origin: of `state`, for messages.
        otherwise: what else to do than to set MODEL, for messages.

    Raises:
        UserError: names the first tensor that does not fit.
    """
    remedy = f"set MODEL as in the run that wrote it{otherwise}"
    for name, tensor in own.items():
        if name not in state:
            raise UserError(f"{origin} does not fit this network: it has no {name}; {remedy}")
        if state[name].shape != tensor.shape:
            raise UserError(
                f"{origin} does not fit this network: {name} is {tuple(state[name].shape)} there and "
                f"{tuple(tensor.shape)} here; set MODEL (and the number of classes) as in that run{otherwise}"
            )
    foreign = next((name for name in state if name not in own), None)
    if foreign is not None:
        raise UserError(f"{origin} does not fit this network, which has no {foreign}; {remedy}")
    refuse_other_kinds(state, own, origin)


def refuse_other_kinds(state: Mapping[str, Tensor], own: Mapping[str, Tensor], origin: str) -> None:
    """Refuses weights whose tensors are not of the same kind as those of a network; shapes may differ.

    Names that only one of the two has are ignored.

    Raises:
        UserError: names the first tensor, what it is and what is expected.
    """
    for name, tensor in own.items():
        if name in state and (why := why_other_kind(state[name], tensor)):
            raise UserError(f"{origin}: {name} {why}")


def why_other_kind(tensor: Tensor, own: Tensor) -> str | None:
    """Returns why the values of a tensor cannot be those of one of a network; None where they can.

    float16 and bfloat16 are accepted, because float32 has each of their values.

    >>> why_other_kind(torch.zeros(2, dtype=torch.int8), torch.zeros(2))
    'is int8, expected float32; use weights that are not quantised or converted'
    >>> why_other_kind(torch.zeros(2, dtype=torch.float16), torch.zeros(2)) is None
    True
    """
    if tensor.is_meta:
        return "has no values (it was saved from the meta device); save the network again, from the CPU"
    if tensor.is_quantized or tensor.layout != torch.strided:
        found = "quantised" if tensor.is_quantized else f"sparse ({str(tensor.layout).removeprefix('torch.')})"
        return f"is {found}, expected a dense tensor of {_dtype(own)}; save it with .dequantize() or .to_dense()"
    if tensor.dtype != own.dtype and not (tensor.dtype in WIDENED and own.dtype == torch.float32):
        return f"is {_dtype(tensor)}, expected {_dtype(own)}; use weights that are not quantised or converted"
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex:
        num_wrong = tensor.numel() - int(torch.isfinite(tensor).sum())
        if num_wrong and bool(torch.isfinite(own).all()):
            return f"has {num_wrong} of {tensor.numel()} values that are NaN or infinite; use an earlier checkpoint"
    return None


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
