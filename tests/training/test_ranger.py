"""Ranger against torch_optimizer's, step by step, and what a training asks of it: resume, thawing, few calls."""

import copy
import io
import warnings
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from pipeline.training.ranger import Ranger, centralized

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # signatures of 2019
    import torch_optimizer

SHAPES = ((16, 3, 3, 3), (16,), (16, 1, 5, 5), (8, 16, 1, 1), (8,), (8, 16, 3, 3), (5, 8), (5,), ())
NUM_STEPS = 20  # past the five steps without rectification, and three moves of the slow weights


def make_params(shapes: Sequence[tuple[int, ...]] = SHAPES) -> list[nn.Parameter]:
    generator = torch.Generator().manual_seed(0)
    return [nn.Parameter(torch.randn(shape, generator=generator)) for shape in shapes]


def gradients(step: int, params: Sequence[Tensor]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(1000 + step)
    return [torch.randn(param.shape, generator=generator) * 10 ** (step % 3 - 1) for param in params]


def lr_of(step: int) -> float:
    """A schedule with a warm-up, jumps and a step of rate 0."""
    return 1e-2 * min(1, (step + 1) / 4) * (0.0 if step == 11 else 0.3 if step > 13 else 1.0)


def run(optimizer: torch.optim.Optimizer, steps: range, change: Callable = lambda step, grads: grads) -> None:
    params = [param for group in optimizer.param_groups for param in group["params"]]
    for step in steps:
        for param, grad in zip(params, change(step, gradients(step, params)), strict=True):
            param.grad = grad
        for group in optimizer.param_groups:
            group["lr"] = lr_of(step) * group.get("lr_factor", 1.0)
        optimizer.step()


def reference_ranger(params, **settings) -> torch.optim.Optimizer:
    return torch_optimizer.Ranger(params, lr=1e-3, **settings)


def centred_one_by_one(step: int, grads: list[Tensor]) -> list[Tensor]:
    return [grad - grad.mean(tuple(range(1, grad.dim())), keepdim=True) if grad.dim() > 1 else grad for grad in grads]


@pytest.fixture(autouse=True)
def _old_signatures_are_allowed():
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This overload of", category=UserWarning)
        yield


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
def test_every_step_has_the_bits_of_torch_optimizers_ranger(weight_decay: float) -> None:
    ours, theirs = make_params(), make_params()
    optimizer = Ranger(ours, weight_decay=weight_decay, centralize=False, fused=False)
    reference = reference_ranger(theirs, weight_decay=weight_decay)
    for step in range(NUM_STEPS):
        run(optimizer, range(step, step + 1))
        run(reference, range(step, step + 1))
        for our_param, their_param in zip(ours, theirs, strict=True):
            assert torch.equal(our_param, their_param), f"step {step}"


@pytest.mark.parametrize("weight_decay", [0.0, 0.05])
@pytest.mark.parametrize("centralize", [False, True])
@pytest.mark.parametrize("fused", [False, True])
def test_every_step_equals_torch_optimizers_ranger(weight_decay: float, centralize: bool, fused: bool) -> None:
    ours, theirs = make_params(), make_params()
    optimizer = Ranger(ours, weight_decay=weight_decay, centralize=centralize, fused=fused)
    reference = reference_ranger(theirs, weight_decay=weight_decay)
    for step in range(3 * NUM_STEPS):
        run(optimizer, range(step, step + 1))
        run(reference, range(step, step + 1), centred_one_by_one if centralize else lambda _, grads: grads)
        for our_param, their_param in zip(ours, theirs, strict=True):
            torch.testing.assert_close(our_param, their_param, rtol=2e-6, atol=2e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_a_parameter_thawed_late_starts_its_own_warm_up(fused: bool) -> None:
    def frozen_at_first(step: int, grads: list[Tensor]) -> list[Tensor | None]:
        return [None if place % 2 and step < 8 else grad for place, grad in enumerate(grads)]

    ours, theirs = make_params(), make_params()
    start = [param.detach().clone() for param in ours]
    optimizer = Ranger(ours, centralize=False, fused=fused)
    run(optimizer, range(8), frozen_at_first)
    is_unmoved = [torch.equal(*pair) for pair in zip(ours, start, strict=True)]
    assert is_unmoved == [bool(place % 2) for place in range(len(ours))]
    run(optimizer, range(8, 20), frozen_at_first)
    run(reference_ranger(theirs), range(20), frozen_at_first)
    for our_param, their_param in zip(ours, theirs, strict=True):
        torch.testing.assert_close(our_param, their_param, rtol=2e-6, atol=2e-6)


def test_groups_keep_their_own_settings() -> None:
    settings = [{"betas": (0.9, 0.99), "lr_factor": 0.1}, {"weight_decay": 0.1, "k": 2, "alpha": 0.8, "eps": 1e-3}]
    together, apart = make_params(), make_params()
    optimizer = Ranger([{"params": together[:4], **settings[0]}, {"params": together[4:], **settings[1]}])
    run(optimizer, range(NUM_STEPS))
    all_grads = {step: gradients(step, apart) for step in range(NUM_STEPS)}
    for params, setting, cut in zip((apart[:4], apart[4:]), settings, (slice(0, 4), slice(4, None)), strict=True):
        alone = Ranger([{"params": params, **setting}])
        run(alone, range(NUM_STEPS), lambda step, _, cut=cut: all_grads[step][cut])
    for param, expected in zip(together, apart, strict=True):
        torch.testing.assert_close(param, expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("fused", [False, True])
def test_resume_at_every_step_gives_the_same_bits(fused: bool) -> None:
    straight = make_params()
    run(Ranger(straight, fused=fused), range(NUM_STEPS))
    for cut in range(NUM_STEPS):
        params = make_params()
        first = Ranger(params, fused=fused)
        run(first, range(cut))
        file = io.BytesIO()
        torch.save({"params": [param.detach() for param in params], "optimizer": first.state_dict()}, file)
        file.seek(0)
        saved = torch.load(file, weights_only=True)
        resumed = [nn.Parameter(param) for param in saved["params"]]
        optimizer = Ranger(resumed, lr=7.0, fused=fused)
        optimizer.load_state_dict(saved["optimizer"])
        run(optimizer, range(cut, NUM_STEPS))
        for param, expected in zip(resumed, straight, strict=True):
            assert torch.equal(param, expected), f"cut before step {cut}"


def test_a_dictionary_in_memory_serves_for_two_reverts() -> None:
    params = make_params()
    optimizer = Ranger(params)
    run(optimizer, range(8))
    weights, state = [param.detach().clone() for param in params], copy.deepcopy(optimizer.state_dict())
    results = []
    for _ in range(2):
        optimizer.load_state_dict(state)
        with torch.no_grad():
            torch._foreach_copy_(params, weights)
        run(optimizer, range(8, NUM_STEPS))
        results.append([param.detach().clone() for param in params])
    assert all(torch.equal(*pair) for pair in zip(*results, strict=True))


def test_gradients_are_left_as_they_were() -> None:
    params = make_params()
    run(Ranger(params), range(7))
    assert all(torch.equal(param.grad, grad) for param, grad in zip(params, gradients(6, params), strict=True))


def test_centralized_slices_have_mean_zero_and_vectors_and_single_elements_pass() -> None:
    grads = [torch.randn(shape) for shape in (*SHAPES, (7, 1, 1, 1))]
    for grad, centred in zip(grads, centralized(grads), strict=True):
        if grad.dim() > 1 and grad[0].numel() > 1:
            torch.testing.assert_close(centred.flatten(1).mean(1), torch.zeros(len(grad)), rtol=0, atol=1e-6)
            torch.testing.assert_close(centred.diff(dim=-1), grad.diff(dim=-1), rtol=1e-5, atol=1e-6)
        else:
            assert centred is grad


@pytest.mark.parametrize("grad_format", [torch.contiguous_format, torch.channels_last])
@pytest.mark.parametrize("param_format", [torch.contiguous_format, torch.channels_last])
def test_memory_layout_does_not_matter(param_format: torch.memory_format, grad_format: torch.memory_format) -> None:
    def laid_out(tensor: Tensor, memory_format: torch.memory_format) -> Tensor:
        return tensor.contiguous(memory_format=memory_format) if tensor.dim() == 4 else tensor

    expected = make_params()
    run(Ranger(expected), range(NUM_STEPS))
    params = [nn.Parameter(laid_out(param.detach(), param_format)) for param in make_params()]
    optimizer = Ranger(params)
    run(optimizer, range(NUM_STEPS), lambda _, grads: [laid_out(grad, grad_format) for grad in grads])
    for param, wanted in zip(params, expected, strict=True):
        torch.testing.assert_close(param, wanted, rtol=2e-6, atol=2e-6)


def test_a_step_that_overflowed_is_skipped_by_the_scaler() -> None:
    params = make_params()
    optimizer = Ranger(params)
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    plain = make_params()
    run(Ranger(plain), range(9))
    for step in range(9):
        for attempt in ("overflow", "fine"):
            for param, grad in zip(params, gradients(step, params), strict=True):
                param.grad = grad * scaler.get_scale()
            if attempt == "overflow":
                params[0].grad[0, 0, 0, 0] = torch.inf
            optimizer.param_groups[0]["lr"] = lr_of(step)
            scaler.scale(torch.ones(()))  # makes the scaler's tensors
            scaler.unscale_(optimizer)
            scaler.step(optimizer)
            scaler.update(2.0**10)
    assert optimizer.state[params[0]]["step"] == 9
    assert all(torch.equal(*pair) for pair in zip(params, plain, strict=True))


class CountedCalls(TorchDispatchMode):
    """Counts the operations that reach the dispatcher."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += 1
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("num_groups", [1, 4])
def test_a_step_of_the_default_network_takes_at_most_200_calls(num_groups: int, fused: bool) -> None:
    import segmentation_models_pytorch as smp

    network = smp.FPN("efficientnet-b3", encoder_weights=None, classes=12)
    params = list(network.parameters())
    assert len(params) == 369
    groups = [{"params": params[start::num_groups]} for start in range(num_groups)]
    optimizer = Ranger(groups, weight_decay=0.01, fused=fused)
    for step in range(12):
        for param in params:
            param.grad = torch.full_like(param, 1e-3)
        with CountedCalls() as calls:
            optimizer.step()
        assert step == 0 or calls.count <= 200, f"step {step}: {calls.count} calls"  # the first makes the state
