"""How long an optimizer's steps are relative to its learning rate: formula, and measured on every optimizer."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from pipeline.config.optimizers import OFFERED, UNEVEN
from pipeline.config.plan import Phase
from pipeline.training.lr_sweep import mean_stride, stride
from tests.training.toy import optimizer_named


class OneWeight(nn.Module):
    """A network of a single bias, which no gradient centralization touches."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(1, dtype=torch.float64))


@pytest.mark.parametrize("name", ["Ranger", "RAdam", "AdamW"])
@pytest.mark.parametrize("step", [7, 40, 301])  # none of them one at which Lookahead takes half of it back
def test_a_stride_is_what_the_optimizer_really_moves(name, step):
    network = OneWeight()
    optimizer = optimizer_named(network, name)
    for count in range(1, step + 1):
        optimizer.param_groups[0]["lr"] = 1e-3 if count == step else 0.0
        network.weight.grad = torch.ones(1, dtype=torch.float64)
        optimizer.step()
    assert -network.weight.item() / 1e-3 == pytest.approx(stride(name, step), rel=1e-3)


EARLY, LATE = range(30, 54), range(960, 1008)  # of 24 and 48 steps: Lookahead takes every sixth one half back


@pytest.mark.slow
@pytest.mark.parametrize("name", OFFERED)
def test_no_other_optimizer_has_steps_that_grow_or_shrink_for_long(name):
    network = nn.Conv2d(4, 4, 1, bias=False)
    optimizer = optimizer_named(network, name)
    optimizer.param_groups[0]["lr"] = 1e-5
    nn.init.constant_(network.weight, 1.0)
    generator = torch.Generator().manual_seed(0)
    lengths = []
    for _ in range(LATE.stop):
        before = network.weight.detach().clone()
        network.weight.grad = torch.randn(network.weight.shape, generator=generator)
        optimizer.step()
        lengths.append(float((network.weight.detach() - before).norm()))
    measured, expected = (
        sum(of[step] for step in EARLY) / len(EARLY) / (sum(of[step] for step in LATE) / len(LATE))
        for of in (lengths, [stride(name, step + 1) for step in range(LATE.stop)])
    )
    assert (1 / 2 < measured / expected < 2) == (name not in UNEVEN), (measured, expected)


def test_a_long_training_is_hardly_young_and_a_short_one_is_nothing_else():
    long, short = (Phase("flat", epochs, "flat", 1e-3, 0.0) for epochs in (100, 1))
    assert mean_stride("Ranger", [long], 1000) > 0.95
    assert mean_stride("Ranger", [short], 90) == pytest.approx(0.13, abs=0.02)
    assert mean_stride("SGD", [short, long], 90) == 1.0


def test_what_a_plan_does_at_a_high_rate_counts_more():
    early = [Phase("high", 1, "flat", 1e-2, 0.0), Phase("low", 9, "flat", 1e-5, 0.0)]
    late = [Phase("low", 9, "flat", 1e-5, 0.0), Phase("high", 1, "flat", 1e-2, 0.0)]
    assert mean_stride("Ranger", early, 100) < 0.5 * mean_stride("Ranger", late, 100)
