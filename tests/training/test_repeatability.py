"""What a training step would ask of CUDA, recorded without a GPU: nothing that torch cannot repeat or must wait for.

torch's fake tensors have a device and shapes but no numbers. Operations are recorded as they are dispatched, the
backward pass by the nodes of the graph; what would have to wait for the GPU has no answer here and ends in an error.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest
import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.config.load import load
from pipeline.config.loss_mix import parse_mix
from pipeline.segmentation.learning import bind
from pipeline.segmentation.losses import TERMS, mixed_loss
from pipeline.segmentation.networks import build_network, upsample_factor
from pipeline.task import Batch
from pipeline.training import encoder
from pipeline.training.device import make_reproducible
from pipeline.training.learner import Learner, build_learner, build_scaler
from pipeline.training.optimizer import EmaWeights
from pipeline.training.step import EpochSums, train_step
from tests.training.toy import optimizer_named

CUDA, NUM_CLASSES = torch.device("cuda"), 12
# Of torch.use_deterministic_algorithms' list of operations that have no repeatable way on CUDA, as nodes of a graph.
REFUSED = {
    *("AdaptiveAvgPool2DBackward0", "AdaptiveMaxPool2DBackward0", "UpsampleBilinear2DBackward0", "PutBackward0"),
    *("UpsampleBicubic2DBackward0", "ReflectionPad2DBackward0", "GridSampler2DBackward0", "ScatterReduceBackward0"),
    *("MaxUnpool2DBackward0", "FractionalMaxPool2DBackward0", "MedianBackward1", "EmbeddingBagBackward0"),
}
NO_REDUCTION = 0  # of torch's losses: a value for each pixel


class Calls(TorchDispatchMode):
    """Notes each operation: its name, the device of its first tensor, its arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, tuple]] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.seen.append((func.overloadpacket.__name__, args))
        return func(*args, **(kwargs or {}))

    def arguments(self, name: str) -> list[tuple]:
        return [args for seen, args in self.seen if seen == name]


@contextmanager
def fake_gpu(*changes: str) -> Iterator[Learner]:
    """Yields a learner on a GPU that is not there."""
    settings = {"MODEL.ENCODER.NAME": "resnet18", "MODEL.ENCODER.WEIGHTS": "null", "SOLVER.PRECISION": "float32"}
    settings |= dict(change.split("=", 1) for change in changes)
    config = load("demo", tuple(f"{key}={value}" for key, value in settings.items())).config
    real = build_learner(config, build_network(config.model, NUM_CLASSES))
    encoder._scale_shift.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True), pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr("torch.cuda.amp.common.amp_definitely_not_available", lambda: False)
        monkeypatch.setattr("torch.amp.autocast_mode.torch.cuda.is_bf16_supported", lambda: True)
        for module in real.network.modules():
            for name, value in module.named_parameters(recurse=False):
                setattr(module, name, torch.nn.Parameter(torch.empty(value.shape, device=CUDA)))
            for name, value in module.named_buffers(recurse=False):
                setattr(module, name, torch.empty(value.shape, dtype=value.dtype, device=CUDA))
        optimizer = optimizer_named(real.network, real.config.solver.optimizer.name)
        ema = EmaWeights(real.network, 0.9)
        yield replace(real, device=CUDA, optimizer=optimizer, ema=ema, scaler=build_scaler(CUDA, real.precision))
    encoder._scale_shift.cache_clear()  # what it kept has no numbers


class Unwatched:
    """Takes each step's answer and does not check it: how that is done without waiting is tested on a real GPU."""

    def check(self, *answer) -> None:
        pass


def step(learner: Learner, mix: str, num_steps: int = 1) -> tuple[Calls, set[str]]:
    """Returns what training steps dispatch except for their backward pass, and the nodes of that."""
    images = torch.zeros((2, 128, 128, 3), dtype=torch.uint8, device=CUDA)
    labels = torch.zeros((2, 128, 128), dtype=torch.uint8, device=CUDA)
    every, names = range(NUM_CLASSES), [str(index) for index in range(NUM_CLASSES)]
    learning = bind(names, every, every, NUM_CLASSES, learner.config.loss_fn, CUDA)
    criterion = partial(mixed_loss, parse_mix(mix), weights_C=torch.ones(NUM_CLASSES, device=CUDA))
    learner.network.train()
    sums, losses = EpochSums(learning, [name for name, _ in parse_mix(mix)], CUDA), []

    def backward(loss: torch.Tensor) -> None:  # the engine wants a device
        losses.append(loss)
        for param in learner.network.parameters():
            param.grad = torch.empty_like(param)

    with Calls() as calls, pytest.MonkeyPatch.context() as monkeypatch:
        monkeypatch.setattr(torch.Tensor, "backward", backward)
        for _ in range(num_steps):
            train_step(learner, Batch(images, labels, []), criterion, sums, Unwatched())
    nodes, left = set(), [losses[-1].grad_fn]
    while left:
        node = left.pop()
        if node is not None and node not in nodes:
            nodes.add(node)
            left += [following for following, _ in node.next_functions]
    return calls, {node.name() for node in nodes}


@pytest.fixture(params=[False, True], ids=["fast", "reproducible"])
def reproducible(request) -> Iterator[bool]:
    make_reproducible(request.param)
    yield request.param
    make_reproducible(False)


def test_no_loss_or_metric_asks_for_what_cuda_cannot_repeat_or_must_be_waited_for(reproducible):
    mix = " + ".join(f"0.1 {name}" for name in TERMS)
    with fake_gpu("MODEL.NAME=Linknet") as learner:
        calls, nodes = step(learner, mix)
    assert not nodes & REFUSED
    assert not calls.arguments("bincount") and not calls.arguments("histc") and not calls.arguments("put_")
    assert {args[3] for args in calls.arguments("nll_loss2d_forward")} == {NO_REDUCTION}
    assert not any(args[0].is_floating_point() for args in calls.arguments("cumsum"))  # whole numbers are exact
    assert not any(args[0].is_floating_point() for args in calls.arguments("scatter_add_"))
    assert not calls.arguments("_local_scalar_dense") and not calls.arguments("nonzero")


@pytest.mark.parametrize(
    ("name", "wanted"),
    [
        ("FPN", set()),
        ("Unet", set()),
        ("DeepLabV3Plus", set()),
        ("Segformer", set()),
        ("PSPNet", {"AdaptiveAvgPool2DBackward0"}),
        ("UPerNet", {"AdaptiveAvgPool2DBackward0"}),
    ],
)
def test_networks_repeat_themselves_except_those_that_the_docs_name(name, wanted):
    try:
        make_reproducible(True)
        with fake_gpu(f"MODEL.NAME={name}") as learner:
            assert step(learner, "1 dice")[1] & REFUSED == wanted
    finally:
        make_reproducible(False)


def test_without_reproducible_upsampling_is_the_operation_that_varies():
    with fake_gpu("MODEL.NAME=FPN") as learner:
        assert step(learner, "1 dice")[1] & REFUSED == {"UpsampleBilinear2DBackward0"}


@pytest.mark.parametrize("changes", [(), ("SOLVER.CLIP_NORM=1", "SOLVER.ACCUMULATE=2")], ids=["plain", "clipped"])
@pytest.mark.parametrize(
    ("optimizer", "precision"),
    [("Ranger", "float32"), ("Ranger", "bfloat16"), ("AdamW", "float16")],
)
def test_no_step_makes_a_gpu_wait(optimizer, precision, changes):
    settings = (f"SOLVER.OPTIMIZER.NAME={optimizer}", f"SOLVER.PRECISION={precision}", *changes)
    with fake_gpu("MODEL.NAME=Linknet", *settings) as learner:
        calls, _ = step(learner, "1 ce", num_steps=7)  # Ranger's sixth is the first with the fused kernel
        assert not calls.arguments("_local_scalar_dense") and not calls.arguments("nonzero")
        assert calls.arguments("_fused_adamw_")


def test_in_float16_only_an_optimizer_that_knows_of_the_loss_scaler_does_without_waiting():
    with (
        fake_gpu("MODEL.NAME=Linknet", "SOLVER.PRECISION=float16") as learner,
        pytest.raises(DataDependentOutputException, match="_local_scalar_dense"),
    ):
        step(learner, "1 ce")


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
@pytest.mark.parametrize("name", ["FPN", "Unet", "DeepLabV3Plus", "Segformer"])
def test_upsampling_is_in_float32_with_and_without_reproducible(reproducible, name, precision):
    with fake_gpu(f"MODEL.NAME={name}", f"SOLVER.PRECISION={precision}", "SOLVER.OPTIMIZER.NAME=AdamW") as learner:
        image_BHWC = torch.zeros((2, 128, 128, 3), dtype=torch.uint8, device=CUDA)
        logits_BCHW = learner.outputs(image_BHWC)
    is_upsampled = upsample_factor(learner.network) > 1
    assert logits_BCHW.dtype == (torch.float32 if is_upsampled else learner.precision)
