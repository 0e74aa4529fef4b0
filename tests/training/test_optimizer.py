"""Parameter groups, the optimizers by name, their resume, and the running average of weights."""

import copy
import io

import pytest
import torch
from torch import Tensor, nn

from pipeline.config.optimizers import OURS
from pipeline.errors import UserError
from pipeline.training.optimizer import EmaWeights, parameter_groups
from pipeline.training.ranger import Ranger
from tests.training.toy import optimizer_named


class SmallNetwork(nn.Module):
    """An encoder and a head, with batch norm and biases."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Conv2d(8, 4, 1)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.head(self.encoder(image_BCHW))


def small_network() -> SmallNetwork:
    torch.manual_seed(0)
    return SmallNetwork()


def train(network: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    for step in steps:
        generator = torch.Generator().manual_seed(step)
        image_BCHW = torch.randn((2, 3, 8, 8), generator=generator)
        optimizer.zero_grad(set_to_none=True)
        network(image_BCHW).square().mean().backward()
        for group in optimizer.param_groups:
            group["lr"] = 1e-2 * group["lr_factor"] / (1 + step)
        optimizer.step()


def names_of(network: nn.Module, group: dict) -> set[str]:
    return {name for name, param in network.named_parameters() if any(param is other for other in group["params"])}


def test_groups_part_encoder_from_head_and_norms_and_biases_from_kernels() -> None:
    network = small_network()
    groups = parameter_groups(network, weight_decay=0.1, encoder_lr_factor=0.2, decay_norm_and_bias=False)
    found = [(names_of(network, group), group["lr_factor"], group["weight_decay"]) for group in groups]
    assert found == [
        ({"head.weight"}, 1.0, 0.1),
        ({"head.bias"}, 1.0, 0.0),
        ({"encoder.0.weight"}, 0.2, 0.1),
        ({"encoder.0.bias", "encoder.1.weight", "encoder.1.bias"}, 0.2, 0.0),
    ]


@pytest.mark.parametrize(
    ("weight_decay", "encoder_lr_factor", "decay_norm_and_bias", "num_groups"),
    [(0.0, 1.0, False, 1), (0.1, 1.0, True, 1), (0.1, 1.0, False, 2), (0.0, 0.5, False, 2), (0.1, 0.5, True, 2)],
)
def test_no_group_is_made_that_changes_nothing(
    weight_decay: float, encoder_lr_factor: float, decay_norm_and_bias: bool, num_groups: int
) -> None:
    network = small_network()
    groups = parameter_groups(network, weight_decay, encoder_lr_factor, decay_norm_and_bias)
    assert len(groups) == num_groups
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


class Stages(nn.Module):
    """Three layers of an encoder in two stages, the last one with a norm of its own, and a head."""

    def __init__(self) -> None:
        super().__init__()
        block = lambda: nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))  # noqa: E731
        self.encoder = nn.Module()
        self.encoder.stem = nn.Conv2d(3, 3, 1)
        self.encoder.stage = nn.ModuleList([block(), block()])
        self.head = nn.Conv2d(3, 4, 1)


def test_each_layer_of_the_encoder_learns_at_a_share_of_the_rate_of_the_next_one() -> None:
    network = Stages()
    groups = parameter_groups(network, 0.1, encoder_lr_factor=0.4, decay_norm_and_bias=False, encoder_lr_decay=0.5)
    factors = {}
    for group in groups:
        for name in names_of(network, group):
            factors[name] = group["lr_factor"]
            assert group["weight_decay"] == (0.1 if dict(network.named_parameters())[name].dim() > 1 else 0.0)
    assert {name for name, factor in factors.items() if factor == 1} == {"head.weight", "head.bias"}
    layers = {1: "encoder.stem.", 2: "encoder.stage.0.", 3: "encoder.stage.1."}
    for layer, prefix in layers.items():
        own = {factor for name, factor in factors.items() if name.startswith(prefix)}
        assert own == {0.4 * 0.5 ** (3 - layer)}
    assert sum(len(group["params"]) for group in groups) == len(list(network.parameters()))


def test_frozen_parameters_are_in_the_groups_so_that_they_can_be_thawed() -> None:
    network = small_network()
    network.encoder.requires_grad_(False)
    optimizer = optimizer_named(network, "Ranger")
    before = copy.deepcopy(network.state_dict())
    train(network, optimizer, range(2))
    assert torch.equal(network.encoder[0].weight, before["encoder.0.weight"])
    network.encoder.requires_grad_(True)
    train(network, optimizer, range(2, 4))
    assert not torch.equal(network.encoder[0].weight, before["encoder.0.weight"])


@pytest.mark.parametrize("name", OURS)
def test_nothing_moves_until_the_trainer_assigns_a_learning_rate(name: str) -> None:
    network = small_network()
    optimizer = optimizer_named(network, name, weight_decay=0.1)
    before = [param.detach().clone() for param in network.parameters()]
    network(torch.randn(2, 3, 8, 8)).mean().backward()
    optimizer.step()
    assert all(torch.equal(*pair) for pair in zip(network.parameters(), before, strict=True))


@pytest.mark.parametrize("name", OURS)
def test_the_encoder_moves_by_its_factor(name: str) -> None:
    moved = {}
    for factor in (1.0, 0.1):
        network = small_network()
        before = copy.deepcopy(network.state_dict())
        train(network, optimizer_named(network, name, encoder_lr_factor=factor), range(1))
        moved[factor] = {key: value - before[key] for key, value in network.named_parameters()}
    torch.testing.assert_close(moved[0.1]["head.weight"], moved[1.0]["head.weight"])
    torch.testing.assert_close(
        moved[0.1]["encoder.0.weight"], 0.1 * moved[1.0]["encoder.0.weight"], rtol=1e-3, atol=1e-6
    )


@pytest.mark.parametrize("name", ["Ranger", "RAdam", "AdamW"])
def test_weight_decay_takes_its_share_whatever_the_gradient(name: str) -> None:
    results = []
    for weight_decay in (0.0, 0.5):
        network = small_network()
        start = network.head.weight.detach().clone()
        train(network, optimizer_named(network, name, weight_decay=weight_decay), range(1))
        results.append(network.head.weight.detach())
    torch.testing.assert_close(results[0] - results[1], 1e-2 * 0.5 * start, rtol=1e-3, atol=1e-6)


def test_sgd_is_the_ordinary_one_with_momentum() -> None:
    ours, plain = small_network(), small_network()
    train(ours, optimizer_named(ours, "SGD", weight_decay=0.1, momentum=0.8), range(5))
    reference = torch.optim.SGD(plain.parameters(), lr=1.0, momentum=0.8, weight_decay=0.1)
    reference.param_groups[0]["lr_factor"] = 1.0
    train(plain, reference, range(5))
    for param, expected in zip(ours.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(param, expected)


@pytest.mark.parametrize("name", OURS)
def test_resume_from_a_file_at_every_step_gives_the_same_bits(name: str) -> None:
    settings = {"weight_decay": 0.01, "encoder_lr_factor": 0.3, "decay_norm_and_bias": False}
    straight = small_network()
    train(straight, optimizer_named(straight, name, **settings), range(14))
    for cut in range(14):
        network = small_network()
        optimizer = optimizer_named(network, name, **settings)
        train(network, optimizer, range(cut))
        file = io.BytesIO()
        torch.save({"network": network.state_dict(), "optimizer": optimizer.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        resumed = SmallNetwork()
        resumed.load_state_dict(saved["network"])
        optimizer = optimizer_named(resumed, name, **settings)
        optimizer.load_state_dict(saved["optimizer"])
        train(resumed, optimizer, range(cut, 14))
        for key, value in resumed.state_dict().items():
            assert torch.equal(value, straight.state_dict()[key]), f"{key}, cut before step {cut}"


@pytest.mark.parametrize("name", OURS)
def test_a_part_that_was_frozen_begins_to_move_when_it_is_thawed(name: str) -> None:
    network = small_network()
    kernel, optimizer = network.encoder[0].weight, optimizer_named(network, name)
    start = kernel.clone()
    network.encoder.requires_grad_(False)
    train(network, optimizer, range(2))
    assert torch.equal(kernel, start)
    network.encoder.requires_grad_(True)
    train(network, optimizer, range(2, 4))
    assert not torch.equal(kernel, start)


def test_sgd_thaws_as_the_ordinary_one_does() -> None:
    ours, plain = small_network(), small_network()
    ordinary = torch.optim.SGD(parameter_groups(plain, 0.0, 1.0, True), momentum=0.9, fused=False, foreach=False)
    for network, optimizer in ((ours, optimizer_named(ours, "SGD")), (plain, ordinary)):
        network.encoder.requires_grad_(False)
        train(network, optimizer, range(2))
        network.encoder.requires_grad_(True)
        train(network, optimizer, range(2, 5))
    assert all(torch.allclose(*pair, rtol=1e-6) for pair in zip(ours.parameters(), plain.parameters(), strict=True))


def test_ranger_is_the_originals() -> None:
    optimizer = optimizer_named(small_network(), "Ranger")
    assert isinstance(optimizer, Ranger)
    group = optimizer.param_groups[0]
    settings = {key: group[key] for key in ("betas", "eps", "weight_decay", "k", "alpha", "centralize")}
    expected = {"betas": (0.95, 0.999), "eps": 1e-5, "weight_decay": 0.0, "k": 6, "alpha": 0.5, "centralize": True}
    assert settings == expected


def test_an_encoder_factor_needs_an_encoder() -> None:
    with pytest.raises(UserError, match="Conv2d has no encoder: set it to 1"):
        optimizer_named(nn.Conv2d(3, 4, 1), "SGD", encoder_lr_factor=0.1)


def test_average_follows_its_formula() -> None:
    network = nn.Linear(1, 1, bias=False)
    nn.init.constant_(network.weight, 0.0)
    average = EmaWeights(network, decay=0.5)
    expected = 0.0
    for update, weight in enumerate([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0], start=1):
        nn.init.constant_(network.weight, weight)
        average.update(network)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay) * weight
    assert float(average.weights["weight"]) == pytest.approx(expected, rel=1e-6)


def test_average_takes_batch_norm_statistics_in_and_copies_counts() -> None:
    network = small_network()
    average = EmaWeights(network, decay=0.9)
    train(network, optimizer_named(network, "SGD"), range(3))
    average.update(network)
    mean = network.encoder[1].running_mean
    torch.testing.assert_close(average.weights["encoder.1.running_mean"], mean * (1 - 2 / 11))
    assert int(average.weights["encoder.1.num_batches_tracked"]) == 3


def test_average_stands_in_the_network_within_the_block_only() -> None:
    network = small_network()
    average = EmaWeights(network, decay=0.9)
    train(network, optimizer_named(network, "SGD"), range(3))
    average.update(network)
    own = copy.deepcopy(network.state_dict())
    with pytest.raises(KeyboardInterrupt), average.placed_in(network):
        assert all(torch.equal(value, average.weights[key]) for key, value in network.state_dict().items())
        raise KeyboardInterrupt
    assert all(torch.equal(value, own[key]) for key, value in network.state_dict().items())


def test_average_resumes_with_the_same_bits_and_shares_no_memory_with_what_it_saved() -> None:
    network = small_network()
    optimizer = optimizer_named(network, "SGD")
    average = EmaWeights(network, decay=0.9)
    train(network, optimizer, range(2))
    average.update(network)
    saved = average.state_dict()
    frozen = copy.deepcopy(saved)
    results = []
    for _ in range(2):
        resumed = EmaWeights(network, decay=0.9)
        resumed.load_state_dict(saved)
        resumed.update(network)
        results.append(resumed.state_dict())
    average.update(network)
    for key, value in average.weights.items():
        assert torch.equal(results[0]["weights"][key], value)
        assert torch.equal(results[1]["weights"][key], value)
        assert torch.equal(saved["weights"][key], frozen["weights"][key])
    assert results[0]["num_updates"] == 2
