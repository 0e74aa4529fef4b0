"""Parts of a network that do not learn for a while: the encoder, named stages, or every batch norm.

A frozen batch norm also keeps its statistics, as the DeepLab recipes have it (Chen et al., arXiv:1706.05587).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from pipeline.errors import UserError


def freeze(network: nn.Module, names: Sequence[str]) -> None:
    """Freezes exactly the named parts of a network in training mode; everything else learns.

    Args:
        names: `encoder`, a module's path such as `encoder.layer1`, or `batch_norm` for all of them.

    Raises:
        UserError: the network has no such part (names what it has), or nothing would be left to learn.
    """
    network.requires_grad_(True)
    for name in names:
        for module in _parts(network, name):
            module.requires_grad_(False)
            for inner in module.modules():
                if isinstance(inner, nn.modules.batchnorm._BatchNorm):
                    inner.eval()
    if not any(param.requires_grad for param in network.parameters()):
        raise UserError(f"FREEZE: {', '.join(names)} leaves nothing to learn; freeze less")


def _parts(network: nn.Module, name: str) -> list[nn.Module]:
    if name == "batch_norm":
        return [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    try:
        return [network.get_submodule(name)]
    except AttributeError:
        stages = (f"encoder.{child}" for child, _ in network.encoder.named_children())
        parts = ["batch_norm", "encoder", "decoder", *stages]
        raise UserError(f"FREEZE: the network has no part {name!r}; it has {', '.join(parts)}") from None
