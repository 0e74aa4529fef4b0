"""Network, optimizer, scaler and averaged weights as one; previous runs."""

from __future__ import annotations

import pytest
import torch

from pipeline.config.load import load
from pipeline.errors import UserError
from pipeline.segmentation.networks import build_network
from pipeline.training.learner import Learner, build_learner, build_scaler, validated_weights
from pipeline.training.weights import load_weights
from tests.training.toy import batch, make, run

TINY = ("MODEL.NAME=Linknet", "MODEL.ENCODER.NAME=tu-lcnet_035", "MODEL.ENCODER.WEIGHTS=null")
CPU = torch.device("cpu")


def config(*changes: str):
    settings = dict(change.split("=", 1) for change in (*TINY, *changes))
    return load("demo", tuple(f"{key}={value}" for key, value in settings.items())).config


def learner_of(*changes: str, num_outputs: int = 12, previous: dict | None = None) -> Learner:
    settings = config(*changes)
    network = build_network(settings.model, num_outputs)
    if previous is not None:
        load_weights(network, validated_weights(previous), "EXPERIMENT.LOAD_PREV ExpAAB")
    return build_learner(settings, network)


def test_validating_leaves_every_part_in_the_mode_it_was_in():
    learner = make(changes=["SOLVER.EMA_DECAY=0.9"]).learner
    learner.network.encoder[1].eval()
    modes = {name: module.training for name, module in learner.network.named_modules()}
    with pytest.raises(KeyboardInterrupt), learner.validated() as network:
        assert not any(module.training for module in network.modules())
        raise KeyboardInterrupt
    assert {name: module.training for name, module in learner.network.named_modules()} == modes


def test_validating_uses_the_averaged_weights_and_puts_the_own_ones_back():
    learner = make(changes=["SOLVER.EMA_DECAY=0.9"]).learner
    own = learner.network.segmentation_head.weight.clone()
    learner.ema.weights["segmentation_head.weight"].fill_(7.0)
    with learner.validated() as network:
        assert (network.segmentation_head.weight == 7.0).all()
    assert torch.equal(learner.network.segmentation_head.weight, own)


def test_the_weights_handed_on_are_the_averaged_ones():
    paths = run(changes=["SOLVER.EMA_DECAY=0.9"])
    content = torch.load(paths / "best.ckpt", weights_only=True)
    assert torch.equal(validated_weights(content)["encoder.0.weight"], content["ema"]["weights"]["encoder.0.weight"])
    del content["ema"]["weights"]["encoder.0.weight"]
    assert torch.equal(validated_weights(content)["encoder.0.weight"], content["network"]["encoder.0.weight"])


def test_a_state_without_scaler_loads_into_a_learner_with_one():
    """Begun on a CPU, continued on a card that needs the scaler."""
    learner = make().learner
    content = learner.state_dict()
    learner.scaler = torch.amp.GradScaler("cpu", enabled=True)
    learner.load_state_dict(content)
    assert learner.scaler.get_scale() == 65536.0


def test_a_revert_may_be_done_twice_from_the_disk(tmp_path):
    first = make().learner
    torch.save(first.state_dict(), tmp_path / "state")
    start = first.network.segmentation_head.weight.clone()
    for _ in range(2):
        loss = first.outputs(batch(1).images).square().mean()
        loss.backward()
        first.optimizer.param_groups[0]["lr"] = 0.1
        first.optimizer.step()
        assert not torch.equal(first.network.segmentation_head.weight, start)
        first.load_state_dict(torch.load(tmp_path / "state", weights_only=True))
        assert torch.equal(first.network.segmentation_head.weight, start)
        assert not first.optimizer.state


def test_a_previous_run_gives_all_its_weights():
    first = learner_of("EXPERIMENT.SEED=1")
    previous = {"network": first.network.state_dict(), "ema": None}
    second = learner_of(previous=previous)
    assert all(map(torch.equal, first.network.state_dict().values(), second.network.state_dict().values()))


@pytest.mark.parametrize(
    ("changes", "num_outputs", "wanted"),
    [
        (("MODEL.NAME=FPN",), 12, r"it has no decoder\.p5\.weight; set MODEL as in the run that wrote it"),
        (
            ("MODEL.ENCODER.NAME=tu-lcnet_075",),
            12,
            r"encoder\.model\.conv_stem\.weight is \(8, 3, 3, 3\) there and \(16,",
        ),
        ((), 13, r"segmentation_head\.0\.weight is \(12, 32, 1, 1\) there and \(13, 32, 1, 1\) here"),
    ],
)
def test_a_previous_run_of_another_network_is_refused_by_the_first_mismatch(changes, num_outputs, wanted):
    first = learner_of()
    previous = {"network": first.network.state_dict(), "ema": None}
    with pytest.raises(UserError, match=f"^EXPERIMENT.LOAD_PREV ExpAAB does not fit this network: {wanted}"):
        learner_of(*changes, num_outputs=num_outputs, previous=previous)


def test_only_float16_has_a_scaler():
    assert build_scaler(CPU, torch.float16).is_enabled()
    assert not build_scaler(CPU, torch.bfloat16).is_enabled() and not build_scaler(CPU, torch.float32).is_enabled()
