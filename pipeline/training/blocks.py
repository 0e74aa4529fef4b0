"""The blocks of an encoder, from its input on: which learn at rates of their own, and which can be computed twice.

Encoders of segmentation_models_pytorch and timm repeat blocks in lists, alone or inside stages. timm's own way to
compute blocks twice is not used: it counts each batch twice in the statistics of batch norm, so that results change.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

from torch import is_grad_enabled, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm
from torch.utils.checkpoint import checkpoint

from pipeline.errors import UserError

PLAIN_LISTS = (nn.Sequential, nn.ModuleList)  # themselves: a subclass is a block


def parts_of(encoder: nn.Module) -> list[tuple[str, nn.Module]]:
    """Returns the blocks of an encoder, and the modules between them, with their names, in the order of its modules.

    An element of a list is a block, unless it is a plain list again; of a stage that has a list of blocks, or nothing
    but blocks of one type, each block is one.
    """
    inner = encoder.model if isinstance(getattr(encoder, "model", None), nn.Module) else encoder
    prefix = "model." if inner is not encoder else ""
    return [
        part
        for name, child in inner.named_children()
        for part in (_of_list(child, prefix + name) if _is_list(child) else _of_stage(child, prefix + name))
    ]


def _is_list(module: nn.Module) -> bool:
    return type(module) in PLAIN_LISTS


def _is_composite(module: nn.Module) -> bool:
    return any(True for _ in module.children())


def _of_list(module: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    parts: list[tuple[str, nn.Module]] = []
    for key, child in module.named_children():
        parts += _of_list(child, f"{name}.{key}") if _is_list(child) else [(f"{name}.{key}", child)]
    return parts


def _of_stage(module: nn.Module, name: str) -> list[tuple[str, nn.Module]]:
    children = list(module.named_children())
    has_blocks = any(_is_list(child) and any(map(_is_composite, child.children())) for _, child in children)
    types = {type(child) for _, child in children}
    is_repeated = len(types) == 1 and not types & {*PLAIN_LISTS} and all(_is_composite(child) for _, child in children)
    if not (has_blocks or is_repeated):
        return [(name, module)]
    named = ((f"{name}.{key}", child) for key, child in children)
    return [part for key, child in named for part in (_of_list(child, key) if _is_list(child) else [(key, child)])]


def layers_of(encoder: nn.Module) -> dict[str, int]:
    """Returns the number of the layer of each parameter of an encoder, by name: 0 is next to the input.

    Parts with nothing but norms belong to the layer before them, and so does what is in no part.
    """
    layers: dict[str, int] = {}
    layer = -1
    for name, part in parts_of(encoder):
        own = dict(part.named_parameters(prefix=name))
        layer += any(param.dim() > 1 for param in own.values())
        layers |= dict.fromkeys(own, max(layer, 0))
    return {name: layers.get(name, max(layer, 0)) for name, _ in encoder.named_parameters()}


def checkpoint_blocks(network: nn.Module) -> None:
    """Makes a network forget what is inside its encoder's blocks, and compute it anew in the backward pass.

    Weights, gradients and the statistics of batch norm end with the same bits; only memory and time differ.

    Raises:
        UserError: the encoder has no blocks.

    Source: Chen et al. 2016, "Training Deep Nets with Sublinear Memory Cost", https://arxiv.org/abs/1604.06174.
    """
    encoder = getattr(network, "encoder", network)
    blocks = [part for _, part in parts_of(encoder) if _is_composite(part)]
    if len(blocks) < 2:
        raise UserError(
            f"SOLVER.CHECKPOINT_ENCODER: {type(encoder).__name__} is not made of blocks that could be computed twice; "
            "set it to false, and a smaller DATALOADERS.TRAIN.BATCH_SIZE or a larger SOLVER.ACCUMULATE"
        )
    for block in blocks:
        norms = [module for module in block.modules() if isinstance(module, BatchNorm)]
        block.forward = partial(_twice, block, block.forward, norms)


def _twice(block: nn.Module, forward: Any, norms: Sequence[BatchNorm], *args: Any, **kwargs: Any) -> Any:
    if not (block.training and is_grad_enabled()):
        return forward(*args, **kwargs)

    def contexts() -> tuple[Any, Any]:
        return contextlib.nullcontext(), _counted_already(norms)

    return checkpoint(forward, *args, use_reentrant=False, context_fn=contexts, **kwargs)


@contextlib.contextmanager
def _counted_already(norms: Sequence[BatchNorm]) -> Iterator[None]:
    """Within the block batch norms use the batch's statistics as before, but do not add them to their own again."""
    before = [(norm, norm.momentum, norm.num_batches_tracked) for norm in norms if norm.training]
    for norm, _, _ in before:
        norm.momentum, norm.num_batches_tracked = 0.0, None
    try:
        yield
    finally:
        for norm, momentum, count in before:
            norm.momentum, norm.num_batches_tracked = momentum, count
