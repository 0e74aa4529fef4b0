"""The mean of networks: exact where they agree, in any order, and with statistics of batch norms of its own."""

from __future__ import annotations

import itertools

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn
from torch.optim.swa_utils import update_bn

from pipeline.training.averaging import mean_weights, moving_norms, renew_statistics
from tests.training.toy import Toy

DTYPES = (torch.float32, torch.float16, torch.bfloat16, torch.float64)


def network_of(seed: int) -> nn.Module:
    """Returns a toy with weights and statistics of its own."""
    torch.manual_seed(seed)
    network = Toy()
    network.train()
    with torch.no_grad():
        network(torch.randn(4, 3, 8, 8) * (1 + seed) + seed)
    return network.eval()


def state_of(seed: int, dtype: torch.dtype = torch.float32) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {
        "weight": torch.randn(3, 5, generator=generator).to(dtype),
        "statistic": torch.rand(7, generator=generator).to(dtype),
        "count": torch.tensor(seed),
    }


@given(seed=st.integers(0, 10_000), count=st.integers(1, 9), dtype=st.sampled_from(DTYPES))
def test_the_mean_of_equal_networks_is_each_of_them_to_the_bit(seed, count, dtype):
    one = state_of(seed, dtype)
    mean = mean_weights([{name: value.clone() for name, value in one.items()} for _ in range(count)])
    assert mean.count == count and not mean.differing
    assert all(
        torch.equal(mean.weights[name], one[name]) and mean.weights[name].dtype == one[name].dtype for name in one
    )


@given(seeds=st.lists(st.integers(0, 10_000), min_size=2, max_size=5, unique=True))
def test_the_order_of_the_networks_does_not_matter(seeds):
    states = [state_of(seed) for seed in seeds]
    forth, back = mean_weights(states), mean_weights(states[::-1])
    assert torch.equal(forth.weights["weight"], back.weights["weight"])  # sums in float64 lose no bit of a float32
    assert int(forth.weights["count"]) == seeds[0], "a count is no number to be averaged"


def test_a_mean_is_that_of_float64_rounded_once():
    states = [state_of(seed) for seed in (1, 2, 3)]
    wanted = torch.stack([state["weight"].double() for state in states]).mean(0).float()
    mean = mean_weights(states)
    assert torch.equal(mean.weights["weight"], wanted) and mean.differing == {"weight", "statistic", "count"}
    halves = mean_weights([state_of(seed, torch.bfloat16) for seed in (1, 2)])
    assert halves.weights["weight"].dtype == torch.bfloat16


@pytest.mark.parametrize("change", ["weight", "another"])
def test_networks_of_other_tensors_are_refused(change):
    other = state_of(2) | ({"weight": torch.zeros(2)} if change == "weight" else {"another": torch.zeros(2)})
    with pytest.raises(ValueError, match="differ in the names, shapes or types of their tensors"):
        mean_weights([state_of(1), other])
    with pytest.raises(ValueError, match="no network"):
        mean_weights([])


def averaged() -> tuple[nn.Module, frozenset[str]]:
    mean = mean_weights([network_of(seed).state_dict() for seed in (1, 2, 3)])
    network = Toy()
    network.load_state_dict(mean.weights)
    return network, mean.differing


def test_statistics_are_those_of_one_pass_over_the_same_samples():
    batches = [torch.randn(4, 3, 8, 8) * 3 + 1 for _ in range(5)]
    ours, differing = averaged()
    theirs, _ = averaged()
    norms = moving_norms(ours, differing)
    assert len(norms) == 1
    renew_statistics(ours, norms, batches, ours)
    update_bn(batches, theirs)  # dropout comes behind the only norm, so that torch's own way sees the same
    for name, value in theirs.state_dict().items():
        assert torch.equal(ours.state_dict()[name], value), name
    convolved = [ours.encoder[0](batch).detach() for batch in batches]
    means = torch.stack([batch.mean((0, 2, 3)) for batch in convolved]).mean(0)
    assert torch.allclose(norms[0].running_mean, means, atol=1e-6)
    assert not ours.training and norms[0].momentum == 0.1 and int(norms[0].num_batches_tracked) == 5


def test_nothing_is_drawn_at_random_while_statistics_are_computed():
    network = nn.Sequential(nn.Dropout(0.9), nn.BatchNorm2d(3))
    batches = [torch.randn(4, 3, 8, 8) for _ in range(2)]
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        renew_statistics(network, [network[1]], batches, network)
        found.append(network[1].running_var.clone())
    assert torch.equal(*found) and torch.allclose(found[0], torch.ones(3), atol=0.2), "dropout makes it far larger"


def test_a_frozen_norm_keeps_its_statistics_and_a_network_without_norms_reads_no_sample():
    frozen = network_of(1).state_dict()
    others = [frozen | {"segmentation_head.bias": torch.full((3,), float(number))} for number in range(3)]
    network, mean = Toy(), mean_weights(others)
    network.load_state_dict(mean.weights)
    assert moving_norms(network, mean.differing) == []

    def never():
        raise AssertionError("a sample was read")
        yield

    renew_statistics(network, [], never(), network)
    assert all(torch.equal(frozen[name], network.state_dict()[name]) for name in frozen if "encoder" in name)


def test_a_norm_without_running_statistics_is_left_alone():
    network = nn.Sequential(nn.BatchNorm2d(3, track_running_stats=False), nn.GroupNorm(1, 3))
    assert moving_norms(network, itertools.chain(network.state_dict(), ["0.running_mean"])) == []
