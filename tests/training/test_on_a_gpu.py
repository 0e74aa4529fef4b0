"""What only a GPU shows: the numbers of a CPU, no step that waits, loss scaling, the same bits after a stop.

`python -m tests.long.gpu tests` runs these, with `--device cpu` on a machine without one. The suite leaves them out.
"""

from __future__ import annotations

import os

import pytest
import torch

from pipeline.config.optimizers import OFFERED, OURS
from pipeline.errors import UserError
from pipeline.segmentation import decision
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.learning import dice_iou
from pipeline.segmentation.losses import TERMS, mixed_loss
from pipeline.task import Batch
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.device import explained_faults, make_reproducible
from pipeline.training.finite import FiniteWatch, NotFinite
from pipeline.training.optimizer import EmaWeights
from pipeline.training.step import EpochSums, train_step
from pipeline.training.trainer import train
from tests.long.cuts import TIRED, equal, stop_at_every_step
from tests.training.toy import STEPS, Toy, batch, history, make, optimizer_named, results, run, script

if "TEST_DEVICE" not in os.environ:
    pytest.skip("for a GPU: python -m tests.long.gpu", allow_module_level=True)
DEVICE = torch.device(os.environ["TEST_DEVICE"])
is_gpu = pytest.mark.skipif(DEVICE.type == "cpu", reason="only a GPU is waited for, or runs out of its memory")
NUM_CLASSES = 12


@pytest.fixture(autouse=True)
def repeatable():
    """Everything here asks for the same bits twice."""
    make_reproducible(True)
    yield
    make_reproducible(False)


def logits_and_mask() -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    mask_BHW = torch.randint(0, NUM_CLASSES + 1, (2, 12, 20), generator=generator).repeat_interleave(8, 1)
    mask_BHW = mask_BHW.repeat_interleave(8, 2).to(torch.uint8)
    mask_BHW[mask_BHW == NUM_CLASSES] = 255
    return 3 * torch.randn((2, NUM_CLASSES, 96, 160), generator=generator), mask_BHW


def value_and_gradient(name: str, logits: torch.Tensor, mask: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits = logits.detach().clone().requires_grad_()
    value = mixed_loss([(name, 1.0)], logits, mask).total
    value.backward()
    return value.detach().cpu(), logits.grad.cpu()


@pytest.mark.parametrize("name", TERMS)
def test_a_loss_and_its_gradient_are_those_of_the_cpu(name):
    logits, mask = logits_and_mask()
    wanted, wanted_grad = value_and_gradient(name, logits, mask)
    for layout in (torch.contiguous_format, torch.channels_last):
        found, grad = value_and_gradient(name, logits.to(DEVICE).contiguous(memory_format=layout), mask.to(DEVICE))
        assert torch.allclose(found, wanted, rtol=1e-4)
        assert (grad - wanted_grad).abs().max() <= 1e-3 * wanted_grad.abs().max()


@pytest.mark.parametrize("name", TERMS)
def test_a_loss_of_half_precision_logits_far_apart_is_finite(name):
    logits, mask = logits_and_mask()
    found, grad = value_and_gradient(name, (logits * 3000).half().to(DEVICE), mask.to(DEVICE))
    assert found.isfinite() and grad.isfinite().all()


def test_classes_and_confusion_are_those_of_the_cpu():
    logits, mask = logits_and_mask()
    predicted, found = decision.choose(logits), decision.choose(logits.to(DEVICE))
    assert torch.equal(found.cpu(), predicted)
    wanted = decision.count(predicted, mask, NUM_CLASSES)
    confusion = decision.count(found, mask.to(DEVICE), NUM_CLASSES)
    assert torch.equal(confusion.cpu(), wanted)
    for ours, theirs in zip(*(dice_iou(*SOFTMAX.split_counts(one)) for one in (confusion, wanted)), strict=True):
        assert torch.allclose(ours.cpu(), theirs)


@pytest.mark.parametrize("name", OFFERED)
def test_an_optimizer_steps_as_on_the_cpu(name):
    def stepped(device: torch.device) -> list[torch.Tensor]:
        torch.manual_seed(0)
        network = Toy().to(device, memory_format=torch.channels_last)
        optimizer, average = optimizer_named(network, name, weight_decay=0.01), EmaWeights(network, 0.9)
        for step in range(20):
            for number, param in enumerate(network.parameters()):
                generator = torch.Generator().manual_seed(100 * step + number)
                param.grad = torch.empty_like(param).copy_(torch.randn(param.shape, generator=generator))
            for group in optimizer.param_groups:
                group["lr"] = 0.01
            optimizer.step()
            average.update(network)
        return [value.detach().cpu() for value in (*network.parameters(), *average.weights.values())]

    for found, wanted in zip(stepped(DEVICE), stepped(torch.device("cpu")), strict=True):
        assert torch.allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize("has_scaler", [False, True])
def test_a_training_stopped_at_every_step_ends_with_the_same_bits(monkeypatch, name, has_scaler):
    changes = [f"SOLVER.OPTIMIZER.NAME={name}", "SOLVER.EMA_DECAY=0.9"]
    cuts, faults = stop_at_every_step(monkeypatch, changes, has_scaler, DEVICE.type)
    assert cuts >= 16 and faults == []


def test_two_trainings_are_identical(monkeypatch):
    both = []
    for name in ("one", "two"):
        script(monkeypatch, TIRED)
        both.append(results(run(name, device=DEVICE, lags=DEVICE.type != "cpu")))
    assert both[0] == both[1]


@pytest.mark.parametrize(("here", "there"), [(DEVICE.type, "cpu"), ("cpu", DEVICE.type)])
def test_a_checkpoint_goes_from_one_device_to_the_other(here, there):
    paths = run("moved", device=here)
    saved = load_checkpoint(paths / "last.ckpt")
    learner = make("moved", device=there).learner
    assert equal(learner.state_dict(), {name: saved[name] for name in learner.state_dict()})
    assert next(learner.network.parameters()).device.type == there


LEARNS = ("SOLVER.OPTIMIZER.NAME=AdamW", "SOLVER.NUM_EPOCHS=8", "SOLVER.PATIENCE=8")


@pytest.mark.parametrize("precision", [torch.float16, torch.bfloat16])
def test_lower_precision_learns_the_toy(precision):
    paths = run(changes=LEARNS, device=DEVICE, precision=precision, lags=DEVICE.type != "cpu")
    losses = [float(row["valid_loss"]) for row in history(paths)]
    assert losses[-1] < 0.7 * losses[0]


def test_a_scale_that_overflows_leaves_steps_out_and_trains_on():
    paths = run(changes=LEARNS, device=DEVICE, has_scaler=True, lags=DEVICE.type != "cpu")
    losses = [float(row["valid_loss"]) for row in history(paths)]
    assert losses[-1] < 0.7 * losses[0]
    taken = load_checkpoint(paths / "last.ckpt")["optimizer"]["state"][0]["step"]
    assert 0 < taken < STEPS * (len(losses) - 1)


def test_a_loss_that_is_not_finite_ends_training_and_names_its_batch():
    def batches(epoch: int, start_step: int, *others):
        for step in range(start_step, 4):
            yield batch(epoch, step, keys=[f"epoch {epoch} sample {step}"])

    training = make(device=DEVICE, lags=DEVICE.type != "cpu", batches=batches)
    training.learner.network.segmentation_head.weight.register_hook(lambda grad: grad * float("nan"))
    with pytest.raises(UserError, match="not finite at epoch 0, step 0"):
        train(training)


@is_gpu
@pytest.mark.parametrize("changes", [(), ("SOLVER.CLIP_NORM=1", "SOLVER.ACCUMULATE=2", "SOLVER.EMA_DECAY=0.9")])
def test_no_step_waits_for_the_gpu(changes):
    training = make(changes=changes, device=DEVICE, lags=True)
    learner, learning, watch = training.learner, training.learning, FiniteWatch(lags=True)
    sums = EpochSums(learning, tuple(TERMS), DEVICE)
    criterion = learning.criterion(" + ".join(f"0.1 {name}" for name in TERMS), 0, ())
    images, labels, _ = batch(1)
    pinned = Batch(images.pin_memory(), labels.pin_memory(), [])
    try:
        for step in range(12):  # the first ones fill caches
            torch.cuda.set_sync_debug_mode("error" if step > 6 else "default")
            train_step(learner, pinned, criterion, sums, watch)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    watch.settle()


@is_gpu
def test_what_is_not_finite_is_noticed_one_check_later():
    watch = FiniteWatch(lags=True)
    watch.check(torch.zeros((), device=DEVICE).isfinite(), "loss", 1)
    watch.check(torch.full((), float("nan"), device=DEVICE).isfinite(), "loss", 2)
    with pytest.raises(NotFinite) as noticed:
        watch.check(torch.zeros((), device=DEVICE).isfinite(), "loss", 3)
    assert noticed.value.position == 2


@is_gpu
def test_a_memory_that_is_too_small_is_told_in_numbers():
    with (
        pytest.raises(UserError, match=r"GPU's memory is too small \([\d.]+ \w+ more were wanted"),
        explained_faults("smaller"),
    ):
        torch.empty(2**50, dtype=torch.uint8, device=DEVICE)
