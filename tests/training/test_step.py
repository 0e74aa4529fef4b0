"""One optimizer step: micro-batches, clipping, sums."""

from __future__ import annotations

import pytest
import torch
from pipeline.segmentation.criterion import criterion

from pipeline.training.finite import FiniteWatch
from pipeline.training.step import EpochSums, num_micro_batches, train_step
from tests.training.toy import CLASSES, OVERFLOWING, batch, make

WITHOUT_NORM = ("SOLVER.OPTIMIZER.NAME=SGD", "SOLVER.OPTIMIZER.MOMENTUM=0")


def weights_after(*changes: str, samples: int = 4) -> list[torch.Tensor]:
    """Returns the toy's weights after one step without batch norm and dropout, which see micro-batches differently."""
    training = make(changes=[*WITHOUT_NORM, *changes])
    learner = training.learner
    learner.network.eval()
    learner.optimizer.param_groups[0]["lr"] = 0.5
    image, mask = (part[:samples] for part in batch(1))
    loss_of = criterion("1 ce", None, len(CLASSES))
    train_step(learner, image, mask, loss_of, training.sums, FiniteWatch(lags=False))
    return list(learner.network.parameters())


@pytest.mark.parametrize(("accumulate", "samples"), [(2, 4), (4, 4), (2, 3)])
def test_micro_batches_take_the_step_of_the_whole_batch(accumulate, samples):
    whole = weights_after(samples=samples)
    parts = weights_after(f"SOLVER.ACCUMULATE={accumulate}", samples=samples)
    assert all(torch.allclose(one, other, atol=1e-6) for one, other in zip(whole, parts, strict=True))


@pytest.mark.parametrize("samples", range(1, 18))
@pytest.mark.parametrize(("batch_size", "accumulate"), [(8, 1), (8, 2), (8, 4), (16, 4)])
def test_no_micro_batch_is_left_with_one_sample(samples, batch_size, accumulate):
    sizes = [
        len(part) for part in torch.arange(samples).tensor_split(num_micro_batches(samples, batch_size, accumulate))
    ]
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
    loss_of = criterion("1 ce", None, len(CLASSES))
    training.learner.optimizer.param_groups[0]["lr"] = 0.5
    train_step(training.learner, *batch(1), loss_of, training.sums, FiniteWatch(lags=False))
    assert all(map(torch.equal, training.learner.network.encoder.parameters(), before))


def test_sums_are_means_over_samples_and_ignore_what_is_not_scored():
    sums = EpochSums(2, torch.device("cpu"))
    logits = torch.zeros(2, 3, 1, 2)
    logits[:, 1] = 1.0  # everything is predicted as class 1; output 2 is the padding class
    masks = torch.tensor([[[1, 1]], [[0, 255]]], dtype=torch.uint8)
    sums.add(torch.tensor(3.0), logits, masks)
    sums.add(torch.tensor(0.0), logits[:1], torch.tensor([[[1, 2]]], dtype=torch.uint8))
    means = sums.means()
    assert sums.num_samples() == 3 and means["loss"] == pytest.approx(2.0)
    assert means["dice"] == pytest.approx([2 / 3, 2 / 3]) and means["iou"] == pytest.approx([2 / 3, 2 / 3])


def test_sums_go_on_where_a_checkpoint_left_them():
    whole, first, second = (EpochSums(3, torch.device("cpu")) for _ in range(3))
    for index in (1, 2):
        part = batch(index)
        logits = torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(index))
        whole.add(torch.tensor(0.1 * index), logits, part.mask_BHW)
        if index == 2:
            second.load_state_dict(first.state_dict())
        (first if index == 1 else second).add(torch.tensor(0.1 * index), logits, part.mask_BHW)
    assert whole.means() == second.means()


def test_a_loss_scale_that_overflows_leaves_the_step_out_and_is_halved():
    training = make(has_scaler=True)
    learner, watch = training.learner, FiniteWatch(lags=False)
    before = [param.clone() for param in learner.network.parameters()]
    learner.optimizer.param_groups[0]["lr"] = 0.5
    train_step(learner, *batch(1), criterion("1 ce", None, len(CLASSES)), training.sums, watch)
    assert all(map(torch.equal, learner.network.parameters(), before))
    assert learner.scaler.get_scale() == OVERFLOWING / 2
