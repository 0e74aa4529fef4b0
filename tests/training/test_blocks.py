"""Blocks of encoders: their layers are timm's, and computing them twice changes memory but no bit."""

from __future__ import annotations

import copy
import itertools
import warnings

import pytest
import segmentation_models_pytorch as smp
import timm
import torch
from timm.models import group_parameters
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from pipeline.config.load import load
from pipeline.errors import UserError
from pipeline.training.blocks import checkpoint_blocks, layers_of
from pipeline.training.learner import build_learner, freeze

ENCODERS = ("resnet18", "tu-lcnet_035", "timm-efficientnet-b0", "tu-convnext_atto", "timm-regnetx_002", "mit_b0")


def network_of(encoder: str, seed: int = 0) -> nn.Module:
    torch.manual_seed(seed)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return smp.FPN(encoder, encoder_weights=None, classes=3)


@pytest.mark.parametrize("name", ["resnet18", "convnext_atto", "regnetx_002", "lcnet_035"])
def test_layers_are_those_of_timms_own_groups(name):
    """timm's features have no groups of their own, so those of the whole network are compared, one layer per block."""
    model = timm.create_model(name)
    expected = group_parameters(model, model.group_matcher(coarse=False), reverse=True)
    features = smp.encoders.get_encoder(f"tu-{name}", weights=None)
    found = {key.removeprefix("model."): layer for key, layer in layers_of(features).items()}
    pairs = {}
    for key, layer in found.items():
        whole = key if key in expected else key.replace("_", ".", 1)
        pairs.setdefault(layer, set()).add(expected[whole])
    numbers = [pairs[layer] for layer in sorted(pairs)]
    assert sorted(pairs) == list(range(len(pairs))) and len(pairs) > 4
    # Ours may divide further, e.g. a layer that leads from one stage to the next, but never turns the order round.
    assert all(max(one) <= min(other) for one, other in itertools.pairwise(numbers))


@pytest.mark.parametrize("encoder", [*ENCODERS, "dpn68", "vgg11_bn", "mobilenet_v2", "densenet121", "xception"])
def test_every_parameter_has_a_layer_and_layers_follow_the_encoder(encoder):
    network = network_of(encoder).encoder
    layers = layers_of(network)
    assert list(layers) == [name for name, _ in network.named_parameters()]
    assert set(layers.values()) == set(range(max(layers.values()) + 1)) and max(layers.values()) >= 5
    numbers = list(layers.values())
    assert numbers[0] == 0 and sum(a > b for a, b in itertools.pairwise(numbers)) <= 1 + len(numbers) // 10


def trained(encoder: str, is_checkpointed: bool, frozen: tuple[str, ...] = ()) -> tuple[dict, int]:
    """Returns weights and statistics after three steps, and the bytes that one keeps for its backward pass."""
    network = network_of(encoder)
    if is_checkpointed:
        checkpoint_blocks(network)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9)
    kept = 0

    def count(tensor):
        nonlocal kept
        kept += tensor.numel() * tensor.element_size()
        return tensor

    for step in range(3):
        network.train()
        freeze(network, frozen)
        torch.manual_seed(step)
        images = torch.randn(2, 3, 64, 64)
        kept = 0
        with saved_tensors_hooks(count, lambda tensor: tensor):
            loss = network(images).square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    return copy.deepcopy(network.state_dict()), kept


@pytest.mark.parametrize("encoder", ENCODERS)
def test_computing_blocks_twice_changes_no_bit_and_keeps_less(encoder):
    (plain, kept), (twice, kept_less) = trained(encoder, False), trained(encoder, True)
    assert all(torch.equal(value, twice[name]) for name, value in plain.items())
    assert kept_less < (0.9 if encoder == "tu-lcnet_035" else 0.7) * kept  # most of it is the decoder's there


def test_frozen_norms_stay_frozen_when_blocks_are_computed_twice():
    plain, twice = (trained("resnet18", is_on, ("batch_norm",))[0] for is_on in (False, True))
    assert all(torch.equal(value, twice[name]) for name, value in plain.items())
    assert float(plain["encoder.layer1.0.bn1.num_batches_tracked"]) == 0


def test_timms_own_way_would_count_each_batch_twice():
    network = network_of("tu-lcnet_035")
    network.encoder.model.set_grad_checkpointing(True)
    network.train()
    network(torch.randn(2, 3, 64, 64)).mean().backward()
    counts = {int(value) for name, value in network.state_dict().items() if name.endswith("num_batches_tracked")}
    assert counts == {1, 2}


def test_an_encoder_without_blocks_is_refused_with_what_to_do():
    network = smp.FPN("vgg11_bn", encoder_weights=None)
    config = load("demo", ("SOLVER.CHECKPOINT_ENCODER=true", "RUNTIME.DEVICE=cpu")).config
    with pytest.raises(UserError, match=r"SOLVER.CHECKPOINT_ENCODER: VGGEncoder is not made of blocks"):
        build_learner(config, network)
