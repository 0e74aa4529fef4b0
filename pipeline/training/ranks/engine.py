"""What makes a network one of several copies that learn together: reduced gradients, and shared batch norms.

Gradients are reduced by torch's DistributedDataParallel, which sends them while the backward pass is still running.
Batch norms, with RUNTIME.SYNC_BATCH_NORM, go by the statistics of the whole batch: on a GPU by torch's SyncBatchNorm
(through timm, whose norms have an activation of their own), which has no CPU form; on a CPU by the same formulas in
sums over all ranks. Without it each rank goes by its own part of the batch, and the running statistics are the means
over ranks.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.nn.parallel import DistributedDataParallel
from torch.overrides import TorchFunctionMode

from pipeline.training.ranks import group

STATISTICS = ("running_mean", "running_var")


def reduce_gradients(network: nn.Module) -> DistributedDataParallel:
    """Returns the network as one that reduces its gradients over the ranks; all ranks call it together.

    It knows only parameters that learn now: to be called again after others were frozen.
    """
    device = next(network.parameters()).device
    devices = [torch.cuda.current_device()] if device.type == "cuda" else None
    # Encoders have parts that some decoders leave unused, which alone would be no error either. Statistics of batch
    # norms are shared below.
    names = inspect.signature(DistributedDataParallel).parameters
    of_buffers = (
        "forward_sync_buffers" if "forward_sync_buffers" in names else "broadcast_buffers"
    )  # from torch 2.15 on
    return DistributedDataParallel(network, devices, find_unused_parameters=True, **{of_buffers: False})


def share_batch_norms(network: nn.Module, device: torch.device) -> nn.Module:
    """Returns the network with batch norms that go by the statistics of the whole batch of all ranks."""
    if device.type == "cuda":
        from timm.layers import convert_sync_batchnorm

        return convert_sync_batchnorm(network)
    for norm in _norms(network):
        norm.forward = partial(_over_ranks, norm, norm.forward)
    return network


@torch.no_grad()
def average_statistics(network: nn.Module) -> None:
    """Makes running statistics of batch norms the means over ranks, as after a step with statistics of their own."""
    own = [getattr(norm, name) for norm in _norms(network) for name in STATISTICS if norm.training]
    own = [values for values in own if values is not None]
    if not own:
        return
    flat = group.reduced(torch.cat(own)) / group.count()
    for values, mean in zip(own, flat.split([len(values) for values in own]), strict=True):
        values.copy_(mean)


def _norms(network: nn.Module) -> list[BatchNorm]:
    return [module for module in network.modules() if isinstance(module, BatchNorm)]


def _over_ranks(norm: BatchNorm, forward: Callable[[Tensor], Tensor], values: Tensor) -> Tensor:
    if not norm.training:
        return forward(values)
    with _BatchNormOverRanks():
        return forward(values)


class _BatchNormOverRanks(TorchFunctionMode):
    """Within the block, batch norms in training go by the statistics of all ranks, whose batches have one shape."""

    def __torch_function__(self, func: Callable, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        if func is not F.batch_norm:
            return func(*args, **(kwargs or {}))
        bound = inspect.signature(F.batch_norm).bind(*args, **(kwargs or {}))
        bound.apply_defaults()
        return batch_norm_over_ranks(*bound.args)


def batch_norm_over_ranks(
    values_BC: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Returns what `torch.nn.functional.batch_norm` returns for the batches (B, C, ...) of all ranks in one.

    Source: Ioffe and Szegedy 2015, https://arxiv.org/abs/1502.03167; statistics over processes as in torch's
    `SyncBatchNorm`.
    """
    if not training:
        return F.batch_norm(values_BC, running_mean, running_var, weight, bias, False, momentum, eps)
    axes = [axis for axis in range(values_BC.dim()) if axis != 1]
    shape = [1, -1, *[1] * (values_BC.dim() - 2)]
    number = values_BC.numel() // values_BC.shape[1] * group.count()
    values = values_BC.float() if values_BC.dtype in (torch.float16, torch.bfloat16) else values_BC
    mean_C = group.reduced(values.sum(axes)) / number
    centred = values - mean_C.view(shape)
    var_C = group.reduced(centred.square().sum(axes)) / number
    with torch.no_grad():
        for running, current_C in ((running_mean, mean_C), (running_var, var_C * (number / max(number - 1, 1)))):
            if running is not None:
                running.lerp_(current_C.to(running.dtype), momentum)
    scale_C = (var_C + eps).rsqrt()
    scale_C = scale_C if weight is None else scale_C * weight
    result = centred * scale_C.view(shape)
    return (result if bias is None else result + bias.view(shape)).to(values_BC.dtype)
