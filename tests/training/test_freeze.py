"""What is frozen keeps its weights and its batch-norm statistics; everything else learns."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.errors import UserError
from pipeline.training.learner import freeze


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential()
        self.encoder.add_module("bn1", nn.BatchNorm2d(3))
        self.encoder.add_module("layer1", nn.Sequential(nn.Conv2d(3, 4, 1, bias=False), nn.BatchNorm2d(4)))
        self.decoder = nn.Sequential(nn.Conv2d(4, 2, 1, bias=False), nn.BatchNorm2d(2))

    def forward(self, x):
        return self.decoder(self.encoder(x))


def step(names):
    """Returns which tensors of the network one training step with these frozen parts changed."""
    torch.manual_seed(0)
    network = Net().train()
    freeze(network, names)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    (network(torch.randn(4, 3, 5, 5)) * torch.randn(2, 1, 1)).square().sum().backward()
    optimizer.step()
    return {name for name, value in network.state_dict().items() if not torch.equal(value, before[name])}


def of(*prefixes, without=()):
    every = {name for name in Net().state_dict() if not any(name.startswith(prefix) for prefix in without)}
    return {name for name in every if any(name.startswith(prefix) for prefix in prefixes)}


@pytest.mark.parametrize(
    ("names", "learning"),
    [
        ((), of("encoder", "decoder")),
        (("encoder",), of("decoder")),
        (("encoder.layer1",), of("encoder.bn1", "decoder")),
        (("encoder.bn1", "encoder.layer1"), of("decoder")),
        (("batch_norm",), {"encoder.layer1.0.weight", "decoder.0.weight"}),
    ],
)
def test_exactly_the_other_parts_change_their_statistics_too(names, learning):
    assert step(names) == learning


def test_what_was_frozen_thaws():
    network = Net()
    for names in (("encoder",), ("decoder",), ()):
        network.train()
        freeze(network, names)
    assert all(param.requires_grad for param in network.parameters())
    assert all(module.training for module in network.modules())


def test_an_unknown_part_is_refused_with_those_that_there_are():
    parts = r"batch_norm, encoder, decoder, encoder\.bn1, encoder\.layer1"
    with pytest.raises(UserError, match=rf"the network has no part 'encoder\.layer9'; it has {parts}"):
        freeze(Net(), ["encoder.layer9"])


@pytest.mark.parametrize("names", [("encoder", "decoder"), ("",)])
def test_a_network_with_nothing_left_to_learn_is_refused(names):
    with pytest.raises(UserError, match="leaves nothing to learn"):
        freeze(Net(), names)
