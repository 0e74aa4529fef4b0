"""Optimizers of timm and torch-optimizer: all are known by name, and offered exactly if they pass the checks below."""

from __future__ import annotations

import copy
import io

import pytest
import timm.optim
import torch
import torch_optimizer
from torch import nn

from pipeline.config.optimizers import OFFERED, OURS, REFUSED, UNEVEN, WITHOUT_DECAY, why_refused
from pipeline.errors import UserError
from pipeline.training.finite import refuse_not_finite
from tests.training.test_optimizer import SmallNetwork, train
from tests.training.toy import optimizer_named

LIBRARIES = {
    "timm": set(timm.optim.list_optimizers()),
    "torch_optimizer": set(torch_optimizer.__all__) - {"get"},
}
NOT_TRIED = {"timm.kron", "timm.kronc", "timm.kronw"}  # minutes of torch.compile before the first step
THAWED, CUTS, STEPS = 3, (2, 5, 9), 12


def network_of(seed: int = 0) -> SmallNetwork:
    torch.manual_seed(seed)
    return SmallNetwork().to(memory_format=torch.channels_last)


def train_and_thaw(network: nn.Module, optimizer: torch.optim.Optimizer, steps: range) -> None:
    """Trains the head, and from step THAWED on the encoder, too. Each step has its seed, as in the trainer."""
    for step in steps:
        network.encoder.requires_grad_(step >= THAWED)
        torch.manual_seed(step)
        train(network, optimizer, range(step, step + 1))


def moved_to(network: nn.Module, rate: float, optimizer: torch.optim.Optimizer, gradient: float, steps: int) -> dict:
    """Returns how far each parameter is moved by steps at one rate, the gradient being noise of this size."""
    start = copy.deepcopy(network.state_dict())
    for step in range(steps):
        for number, param in enumerate(network.parameters()):
            generator = torch.Generator().manual_seed(100 * step + number)
            param.grad = torch.empty_like(param).copy_(gradient * torch.randn(param.shape, generator=generator))
        for group in optimizer.param_groups:
            group["lr"] = rate * group["lr_factor"]
        torch.manual_seed(step)
        optimizer.step()
    return {key: value.detach() - start[key] for key, value in network.named_parameters()}


def rate_faults(name: str) -> list[str]:
    """Returns whether weights move at rate 0, or otherwise than in proportion to the rate of their group."""
    network = network_of()
    still = moved_to(network, 0.0, optimizer_named(network, name), gradient=1.0, steps=6)
    faults = ["moves at rate 0"] if max(float(value.abs().max()) for value in still.values()) > 1e-6 else []
    moved = {}
    for factor in (1.0, 0.1):
        network = network_of()
        moved[factor] = moved_to(network, 1e-3, optimizer_named(network, name, 0.0, factor), gradient=1.0, steps=1)
    for key, factor in (("head.weight", 1.0), ("encoder.0.weight", 0.1)):
        expected = factor * moved[1.0][key]
        if not torch.allclose(moved[0.1][key], expected, rtol=1e-2, atol=1e-7):
            faults.append(f"{key} is not moved in proportion to its rate")
    return faults


def decay_faults(name: str) -> list[str]:
    """Returns whether weight decay does not move weights towards 0, or not in proportion to the rate."""
    start = network_of().head.weight.detach().flatten()
    centred = start - start.mean()
    towards = {}
    for rate in (1e-3, 1e-4):
        moved = []
        for decay in (0.0, 1.0):
            network = network_of()
            moved.append(moved_to(network, rate, optimizer_named(network, name, decay), gradient=1e-3, steps=3))
        by_decay = (moved[1]["head.weight"] - moved[0]["head.weight"]).flatten()
        towards[rate] = -float(by_decay @ centred / (centred @ centred))
        alignment = -float(by_decay @ centred / (by_decay.norm() * centred.norm()).clamp_min(1e-12))
    faults = [] if alignment > 0.1 else [f"decay does not move weights towards 0: alignment {alignment:.3f}"]
    ratio = towards[1e-4] / max(towards[1e-3], 1e-12)
    return faults if abs(ratio - 0.1) < 0.02 else [*faults, f"a tenth of the rate decays {ratio:.3f} as much"]


def resume_faults(name: str, weight_decay: float = 0.01) -> list[str]:
    """Returns after which steps a resume or a return to a checkpoint ends with other bits, part of it thawed late."""
    settings = {"weight_decay": weight_decay, "encoder_lr_factor": 0.3, "decay_norm_and_bias": False}
    settings["encoder_lr_decay"] = 0.5
    straight = network_of()
    optimizer = optimizer_named(straight, name, **settings)
    files = {}
    for step in range(STEPS):
        if step in CUTS:
            content = {"network": straight.state_dict(), "optimizer": optimizer.state_dict()}
            refuse_not_finite(content)
            torch.save(content, file := io.BytesIO())
            files[step] = file
        train_and_thaw(straight, optimizer, range(step, step + 1))
    wanted, fresh = copy.deepcopy(straight.state_dict()), network_of(1)
    is_moved = not torch.equal(wanted["encoder.0.weight"], network_of().encoder[0].weight)
    faults = [] if is_moved else ["a thawed part stays where it was"]
    for cut, file in files.items():
        for kind, network, used in (
            ("resume", fresh, optimizer_named(fresh, name, **settings)),
            ("return", straight, optimizer),
        ):
            file.seek(0)
            saved = torch.load(file, weights_only=True)
            network.load_state_dict(saved["network"])
            used.load_state_dict(saved["optimizer"])
            train_and_thaw(network, used, range(cut, STEPS))
            if not all(torch.equal(value, wanted[key]) for key, value in network.state_dict().items()):
                faults.append(f"{kind} at step {cut} ends with other bits")
    return faults


def test_every_optimizer_of_the_libraries_is_offered_or_refused_with_a_reason() -> None:
    listed = [*OFFERED, *REFUSED]
    assert len(listed) == len(set(listed))
    assert set(listed) == {*OURS, *(f"{library}.{name}" for library, names in LIBRARIES.items() for name in names)}
    assert {*UNEVEN, *WITHOUT_DECAY} < set(OFFERED)


@pytest.mark.parametrize("name", OFFERED)
def test_an_offered_optimizer_resumes_with_the_same_bits_and_follows_its_rate(name: str) -> None:
    decays = name not in WITHOUT_DECAY
    assert resume_faults(name, 0.01 if decays else 0.0) == []
    assert rate_faults(name) == []
    if decays:
        assert decay_faults(name) == []


@pytest.mark.parametrize("name", sorted({*REFUSED, *WITHOUT_DECAY} - NOT_TRIED))
@pytest.mark.filterwarnings("ignore")
def test_a_refused_optimizer_fails_one_of_the_checks(name: str) -> None:
    try:
        faults = [*resume_faults(name), *rate_faults(name), *decay_faults(name)]
    except Exception as error:  # whatever the library raises
        faults = [str(error)]
    assert faults


def test_momentum_is_handed_on_to_those_that_have_it() -> None:
    network = network_of()
    for name in ("timm.sgdw", "timm.rmsproptf", "torch_optimizer.LARS", "torch_optimizer.QHM"):
        assert optimizer_named(network, name, momentum=0.7).param_groups[0]["momentum"] == 0.7
    assert "momentum" not in optimizer_named(network, "torch_optimizer.DiffGrad", momentum=0.7).param_groups[0]


def test_an_optimizer_that_the_installed_timm_lacks_is_refused_with_its_version(monkeypatch) -> None:
    monkeypatch.setattr(timm.optim, "list_optimizers", lambda: ["adamw"])
    with pytest.raises(UserError, match=rf"timm {timm.__version__} has no muon; a newer one has"):
        optimizer_named(network_of(), "timm.muon")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("ranger", "did you mean Ranger or torch_optimizer.Ranger?"),
        ("Lamb", "did you mean timm.lamb or torch_optimizer.Lamb?"),
        ("timm.AdamW", "did you mean AdamW or timm.adamw?"),
        ("diff_grad", "did you mean torch_optimizer.DiffGrad?"),
        ("timm.lam", "did you mean timm.lamb or timm.lamb"),
        ("Q", "expected Ranger, RAdam, AdamW, Adam, SGD, or e.g. timm.lamb"),
        ("adam", "did you mean Adam or timm.adam?"),
        ("SAM", "SAM needs two forward and backward passes for each step"),
        ("torch_optimizer.sam", "needs two forward and backward passes for each step"),
        ("timm.adamc", "timm.adamc takes the plan's highest learning rate for its weight decay from its construction"),
    ],
)
def test_a_name_that_cannot_be_used_is_refused_with_what_to_write(name: str, words: str) -> None:
    assert words in why_refused(name, 0.0)


def test_where_weight_decay_is_broken_a_decay_of_0_is_not_refused() -> None:
    assert why_refused("torch_optimizer.SGDW", 0.0) is None
    assert "timm.sgdw is right; or set SOLVER.OPTIMIZER.WEIGHT_DECAY: 0" in why_refused("torch_optimizer.SGDW", 0.01)
