"""One optimizer step: micro-batches, clipping, sums."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from pipeline.segmentation.learning import bind
from pipeline.task import Batch, Learning, Loss
from pipeline.training.finite import FiniteWatch
from pipeline.training.memory import MicroBatches
from pipeline.training.step import EpochSums, train_step
from tests.training.toy import OVERFLOWING, batch, make

CPU = torch.device("cpu")
WITHOUT_NORM = ("SOLVER.OPTIMIZER.NAME=SGD", "SOLVER.OPTIMIZER.MOMENTUM=0")


def two_classes() -> Learning:
    """Returns the learning of two classes and a padding class."""
    return bind(("Road", "Car"), (0, 1), (0, 1), 3, make().config.loss_fn, CPU)


def weights_after(*changes: str, samples: int = 4) -> list[torch.Tensor]:
    """Returns the toy's weights after one step without batch norm and dropout, which see micro-batches differently."""
    training = make(changes=[*WITHOUT_NORM, *changes])
    learner = training.learner
    learner.network.eval()
    learner.optimizer.param_groups[0]["lr"] = 0.5
    images, labels, _ = batch(1)
    criterion = training.learning.criterion("1 ce", 0, ())
    part = Batch(images[:samples], labels[:samples], [])
    train_step(learner, part, criterion, training.sums, FiniteWatch(lags=False))
    return list(learner.network.parameters())


@pytest.mark.parametrize(("accumulate", "samples"), [(2, 4), (4, 4), (2, 3)])
def test_micro_batches_take_the_step_of_the_whole_batch(accumulate, samples):
    whole = weights_after(samples=samples)
    parts = weights_after(f"SOLVER.ACCUMULATE={accumulate}", samples=samples)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(whole, parts, strict=True))


def step_by_count(*changes: str, first: float = 1.0) -> tuple[Loss, EpochSums, list[Tensor]]:
    """Returns what a step does whose loss is a sum over the brighter pixels, divided by their number."""
    training = make(changes=[*WITHOUT_NORM, *changes])
    training.learner.network.eval()
    training.learner.optimizer.param_groups[0]["lr"] = 0.5
    images, labels, keys = batch(1)
    images = (images.float() * torch.tensor([first, 1.0, 0.1, 0.0]).view(4, 1, 1, 1)).to(images.dtype)

    def criterion(outputs: Tensor, labels_BHW: Tensor) -> Loss:
        is_chosen = outputs.detach()[:, 0] > 0.3
        count = is_chosen.sum()
        total = outputs.square().sum(1)[is_chosen].sum() / count.clamp(min=1)
        return Loss(total, {"ce": total.detach()}, count)

    step = train_step(training.learner, Batch(images, labels, keys), criterion, training.sums, FiniteWatch(lags=False))
    return step, training.sums, list(training.learner.network.parameters())


@pytest.mark.parametrize("first", [1.0, 0.0])
@pytest.mark.parametrize("accumulate", [2, 4])
def test_micro_batches_of_a_loss_that_is_divided_by_a_count_take_the_step_of_the_whole_batch(accumulate, first):
    whole, parts = step_by_count(first=first), step_by_count(f"SOLVER.ACCUMULATE={accumulate}", first=first)
    assert float(parts[0].total) == pytest.approx(float(whole[0].total), rel=1e-6)
    assert parts[1].means().loss == pytest.approx(whole[1].means().loss, rel=1e-6)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(whole[2], parts[2], strict=True))


@pytest.mark.parametrize("samples", range(1, 18))
@pytest.mark.parametrize(("batch_size", "accumulate"), [(8, 1), (8, 2), (8, 4), (16, 4)])
def test_no_micro_batch_is_left_with_one_sample(samples, batch_size, accumulate):
    num_parts = MicroBatches(accumulate, batch_size).num_parts(samples)
    sizes = [len(part) for part in torch.arange(samples).tensor_split(num_parts)]
    assert sum(sizes) == samples and (min(sizes) > 1 or samples == 1)
    if samples == batch_size:
        assert sizes == [batch_size // accumulate] * accumulate


def test_clipping_limits_the_step():
    before = list(make().learner.network.parameters())

    def length(after):
        return torch.stack([(one - other).norm() for one, other in zip(before, after, strict=True)]).norm()

    assert length(weights_after()) > 0.05
    assert length(weights_after("SOLVER.CLIP_NORM=0.1")) <= 0.5 * 0.1 * 1.001


def test_frozen_weights_have_no_part_in_the_step():
    training = make()
    training.learner.network.encoder.requires_grad_(False)
    before = [param.clone() for param in training.learner.network.encoder.parameters()]
    criterion = training.learning.criterion("1 ce", 0, ())
    training.learner.optimizer.param_groups[0]["lr"] = 0.5
    train_step(training.learner, batch(1), criterion, training.sums, FiniteWatch(lags=False))
    assert all(map(torch.equal, training.learner.network.encoder.parameters(), before))


def loss(total: float, **terms: float) -> Loss:
    return Loss(torch.tensor(total), {name: torch.tensor(value) for name, value in terms.items()})


def test_sums_are_means_over_samples_and_ignore_what_is_not_scored():
    sums = EpochSums(two_classes(), ("ce",), CPU)
    logits = torch.zeros(2, 3, 1, 2)
    logits[:, 1] = 1.0  # everything is predicted as class 1; output 2 is the padding class
    labels = torch.tensor([[[1, 1]], [[0, 255]]], dtype=torch.uint8)
    sums.add(loss(3.0, ce=6.0), sums.learning.sample_sums(logits, labels), 2)
    other = torch.tensor([[[1, 2]]], dtype=torch.uint8)
    sums.add(loss(0.0, ce=0.0), sums.learning.sample_sums(logits[:1], other), 1)
    means = sums.means()
    assert sums.num_samples() == 3 and means.loss == pytest.approx(2.0) and means.terms == {"ce": pytest.approx(4.0)}
    by_name = means.scores.by_name
    assert by_name["dice"].classes == pytest.approx([2 / 3, 2 / 3])
    assert by_name["iou"].classes == pytest.approx([2 / 3, 2 / 3])


def test_a_term_is_the_mean_over_the_samples_that_it_was_computed_for():
    sums, logits = EpochSums(two_classes(), ("ce", "dice", "focal"), CPU), torch.zeros(2, 3, 1, 1)
    labels = torch.zeros(2, 1, 1, dtype=torch.uint8)
    sums.add(loss(3.0, ce=2.0, dice=4.0), sums.learning.sample_sums(logits, labels), 2)
    sums.add(loss(0.0, ce=8.0), sums.learning.sample_sums(logits[:1], labels[:1]), 1)
    assert sums.means().terms == {"ce": pytest.approx(4.0), "dice": pytest.approx(4.0), "focal": None}
    sums.reset()
    assert sums.num_samples() == 0 and sums.means().terms == {"ce": None, "dice": None, "focal": None}


def test_a_step_returns_the_loss_of_its_whole_batch_and_each_term():
    """Cross-entropy is a mean over pixels, so that of a batch is the mean of its equal parts."""

    def found(*changes: str) -> Loss:
        training = make(changes=[*WITHOUT_NORM, "LOSS_FN.MIX=0.5 ce + 2 focal", *changes])
        training.learner.network.eval()
        criterion = training.learning.criterion(training.config.loss_fn.mix, 0, ())
        return train_step(training.learner, batch(1), criterion, training.sums, FiniteWatch(lags=False))

    whole, parts = found(), found("SOLVER.ACCUMULATE=2")
    for one in (whole, parts):
        assert float(one.total) == pytest.approx(0.5 * float(one.terms["ce"]) + 2 * float(one.terms["focal"]))
        assert not one.total.requires_grad
    assert float(parts.total) == pytest.approx(float(whole.total))
    assert {name: float(value) for name, value in parts.terms.items()} == pytest.approx(
        {name: float(value) for name, value in whole.terms.items()}
    )


def test_sums_keep_no_graph_whatever_a_network_returns():
    class Pair(torch.nn.Module):
        def __init__(self, network: torch.nn.Module) -> None:
            super().__init__()
            self.network = network

        def forward(self, image_BCHW: Tensor) -> dict[str, Tensor]:
            return {"logits": self.network(image_BCHW)}

    training = make()
    training.learner.forward = Pair(training.learner.network)
    plain = training.learning

    def sample_sums(outputs: dict[str, Tensor], labels: Tensor) -> Tensor:
        return outputs["logits"].double().sum().expand(plain.num_sums)

    training.sums.learning = replace(plain, sample_sums=sample_sums)
    criterion = plain.criterion("1 ce", 0, ())
    step = (training.learner, batch(1), lambda outputs, labels: criterion(outputs["logits"], labels))
    train_step(*step, training.sums, FiniteWatch(lags=False))
    assert not training.sums.values.requires_grad


def test_sums_go_on_where_a_checkpoint_left_them():
    learning = make().learning
    whole, first, second = (EpochSums(learning, ("ce",), CPU) for _ in range(3))
    for index in (1, 2):
        part, value = batch(index), loss(0.1 * index, ce=0.3 * index)
        logits = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(index))
        sampled = learning.sample_sums(logits, part.labels)
        whole.add(value, sampled, 4)
        if index == 2:
            second.load_state_dict(first.state_dict())
        (first if index == 1 else second).add(value, sampled, 4)
    assert whole.means() == second.means()


def test_a_loss_scale_that_overflows_leaves_the_step_out_and_is_halved():
    training = make(has_scaler=True)
    learner, watch = training.learner, FiniteWatch(lags=False)
    before = [param.clone() for param in learner.network.parameters()]
    learner.optimizer.param_groups[0]["lr"] = 0.5
    train_step(learner, batch(1), training.learning.criterion("1 ce", 0, ()), training.sums, watch)
    assert all(map(torch.equal, learner.network.parameters(), before))
    assert learner.scaler.get_scale() == OVERFLOWING / 2
