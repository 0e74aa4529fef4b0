"""The mean of several networks' weights, with the statistics of batch norms computed anew.

In: weights of networks of one architecture, one after the other. Out: the weights of one network.

A mean of running statistics does not belong to the network of the mean weights. So these are computed anew, as the mean
over batches of training samples. A norm that has the same statistics in all networks was frozen, and keeps them.

Source: Izmailov et al. 2018, "Averaging Weights Leads to Wider Optima and Better Generalization",
https://arxiv.org/abs/1803.05407; of the statistics `torch.optim.swa_utils.update_bn`, which differs in that dropout is
active there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm as BatchNorm

STATISTICS = ("running_mean", "running_var")


@dataclass(frozen=True)
class Mean:
    """The mean of networks.

    Attributes:
        weights: by name, of the types and shapes of the networks.
        differing: names of the tensors in which the networks differ.
        count: how many networks.
    """

    weights: dict[str, Tensor]
    differing: frozenset[str]
    count: int


def mean_weights(networks: Iterable[Mapping[str, Tensor]]) -> Mean:
    """Returns the equal mean of networks' weights, computed in float64, so that their order does not matter.

    Where all networks agree, the mean is their value to the bit. What is not a float (counts of batches) is taken from
    the first.

    Raises:
        ValueError: there is none, or names, shapes or types differ.

    >>> networks = [{"a": torch.tensor([0.1, 1.0])}, {"a": torch.tensor([0.1, 2.0])}]
    >>> mean = mean_weights(networks)
    >>> mean.weights["a"].tolist() == [torch.tensor(0.1).item(), 1.5], sorted(mean.differing)
    (True, ['a'])
    """
    first: dict[str, Tensor] = {}
    sums: dict[str, Tensor] = {}
    differing: set[str] = set()
    count = 0
    for network in networks:
        if not count:
            first = dict(network)
            sums = {name: value.double() for name, value in first.items() if value.is_floating_point()}
        elif _forms(network) != _forms(first):
            raise ValueError("the networks differ in the names, shapes or types of their tensors")
        else:
            differing |= {name for name, value in first.items() if not torch.equal(value, network[name])}
            for name, total in sums.items():
                sums[name] = total + network[name].double()
        count += 1
    if not count:
        raise ValueError("there is no network to be averaged")
    means = {
        name: (sums[name] / count).to(value.dtype) if name in differing & sums.keys() else value
        for name, value in first.items()
    }
    return Mean(means, frozenset(differing), count)


def _forms(network: Mapping[str, Tensor]) -> dict[str, tuple]:
    return {name: (value.shape, value.dtype) for name, value in network.items()}


def moving_norms(network: nn.Module, differing: Iterable[str]) -> list[BatchNorm]:
    """Returns the batch norms whose running statistics are among the tensors named, in the network's order."""
    names = set(differing)
    return [
        module
        for path, module in network.named_modules()
        if isinstance(module, BatchNorm)
        and module.track_running_stats
        and any(f"{path}.{statistic}".lstrip(".") in names for statistic in STATISTICS)
    ]


@torch.no_grad()
def renew_statistics(
    network: nn.Module, norms: Iterable[BatchNorm], batches: Iterable[Tensor], forward: Callable[[Tensor], object]
) -> None:
    """Computes the running statistics of batch norms anew, as the mean over batches; leaves evaluation mode on.

    All else is in evaluation mode, so that nothing is drawn at random: the statistics are those that the network meets
    when it predicts.

    Args:
        norms: some of the network's; none: no batch is read.
        batches: of images, as `forward` takes them.
        forward: a pass through the network.
    """
    norms = list(norms)
    network.eval()
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the mean over all batches, each of the same weight
        norm.train()
    try:
        for batch in batches:
            forward(batch)
    finally:
        network.eval()
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
