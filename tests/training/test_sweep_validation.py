"""Judging inside a sweep: batch norms go by the batch, and nothing that is judged leaves a trace."""

from __future__ import annotations

from types import SimpleNamespace

import torch
from torch import nn

from pipeline.training.freeze import freeze
from pipeline.training.learner import Learner
from pipeline.training.sweep_validation import as_it_is


def learner_of(network: nn.Module) -> Learner:
    return Learner(SimpleNamespace(), network, network, None, None, None, torch.device("cpu"), torch.float32)


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()


def test_judging_changes_neither_statistics_nor_modes():
    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items() if "num_batches" not in name}
    with as_it_is(learner_of(network)) as judged:
        judged(torch.rand(2, 3, 8, 8))
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert all(module.training for module in network.modules()) and network[1].momentum == 0.1


def test_a_batch_norm_goes_by_the_batch_and_dropout_does_nothing():
    network, images = small_network(), 5 + 3 * torch.rand(4, 3, 8, 8)
    with as_it_is(learner_of(network)) as judged:
        values = judged(images)
        assert torch.equal(values, judged(images))
        alone = judged(images[:1])
    assert values.mean().abs() < 1e-5 and abs(values.std() - 1) < 0.01
    assert alone.mean().abs() < 1e-5 and abs(alone.std() - 1) < 0.01  # one image has statistics, too


def test_a_batch_norm_behind_a_global_pooling_of_one_image_keeps_its_averages():
    torch.manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)).train()
    image = torch.rand(1, 3, 8, 8)
    with as_it_is(learner_of(network)) as judged:
        assert torch.allclose(judged(image), image.mean((2, 3), keepdim=True), atol=1e-4)
    assert network[1].training and network[1].momentum == 0.1


def test_a_frozen_batch_norm_keeps_its_statistics_in_judging_too():
    network, images = small_network(), 5 + 3 * torch.rand(4, 3, 8, 8)
    freeze(network, ["batch_norm"])
    with as_it_is(learner_of(network)) as judged:
        values = judged(images)
    network.eval()
    assert torch.equal(values, network(images).detach())
