"""A validation: how batches are weighted, and what becomes of images that do not fit into memory together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pytest
import torch
from torch import Tensor, nn

from pipeline.segmentation.learning import bind
from pipeline.task import Batch, Loss
from pipeline.training.step import Means
from pipeline.training.validate import validate
from tests.training.toy import make


class Constant(nn.Module):
    """Gives every pixel the logits that its red value names: red 0 is class 0, red 1 class 1, ..."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.num_outputs = num_outputs

    def forward(self, image_BCHW: Tensor) -> Tensor:
        red_BHW = (image_BCHW[:, 0] * 0.229 + 0.485).mul(255).round().long()
        return nn.functional.one_hot(red_BHW, self.num_outputs).permute(0, 3, 1, 2).float()


def validation_of(
    truths: Sequence[Sequence],
    predictions: Sequence[Sequence],
    loss: Callable[[Tensor, Tensor], Tensor],
    count: Callable[[Tensor], Tensor | None] = lambda mask: None,
) -> Means:
    """Validates two classes on one batch for each pair of masks (lists of rows); predictions come from the images.

    `count` is what a loss of masks is divided by.
    """
    training = make()
    training.learner.network = Constant(2)
    learning = bind(("Road", "Car"), (0, 1), (0, 1), 2, training.config.loss_fn, torch.device("cpu"))
    batches = []
    for truth, predicted in zip(truths, predictions, strict=True):
        images = torch.tensor(predicted, dtype=torch.uint8)[..., None].expand(-1, -1, -1, 3)
        batches.append(Batch(images, torch.tensor(truth, dtype=torch.uint8), []))

    def criterion(logits: Tensor, mask: Tensor) -> Loss:
        value = loss(logits, mask)
        return Loss(2 * value, {"half": value, "tenth": value / 5}, count(mask))

    return validate(training.learner, batches, criterion, learning)


def test_scores_are_those_of_the_tasks_scorer_over_all_batches():
    result = validation_of([[[[0, 1]]], [[[0, 0]]]], [[[[0, 0]]], [[[0, 0]]]], lambda logits, mask: logits.sum() * 0)
    by_name = result.scores.by_name
    assert by_name["dice"].classes == pytest.approx([(2 / 3 + 1) / 2, (0 + 1) / 2])
    assert by_name["miou"].classes == pytest.approx([3 / 4, 0]) and result.scores.has_hit == [True, False]


def test_loss_and_terms_are_means_over_images_not_over_batches():
    truths = [[[[0]], [[0]], [[0]]], [[[1]]]]
    result = validation_of(truths, truths, lambda logits, mask: mask.float().mean())
    assert result.loss == pytest.approx(2 / 4)
    assert result.terms == {"half": pytest.approx(1 / 4), "tenth": pytest.approx(1 / 20)}


def test_the_mean_of_equal_losses_of_windows_is_that_loss_to_the_last_bit(monkeypatch):
    monkeypatch.setattr(Batch, "num_images", property(lambda batch: 1 / 3))  # each batch is a third of an image
    truths = [[[[0]]]] * 3
    result = validation_of(truths, truths, lambda logits, mask: torch.tensor(0.35, dtype=torch.float64))
    assert (result.loss, result.terms["half"]) == (0.7, 0.35)


def test_a_loss_that_is_divided_by_a_count_is_that_of_all_images_whatever_the_batches():
    masks = [[[1, 1]], [[1, 0]], [[0, 0]], [[0, 0]]]

    def count(mask: Tensor) -> Tensor:
        return (mask == 1).sum()

    def loss(logits: Tensor, mask: Tensor) -> Tensor:
        return (1 + mask.float()).sum() / count(mask).clamp(min=1)

    whole, *others = (
        validation_of(own, own, loss, count) for own in ([masks], [masks[:1], masks[1:]], [[one] for one in masks])
    )
    assert whole.loss == pytest.approx(2 * 11 / 3)
    for other in others:
        assert (other.loss, other.terms) == (pytest.approx(whole.loss), pytest.approx(whole.terms))


def test_images_that_do_not_fit_into_a_gpus_memory_together_are_validated_as_one_batch(monkeypatch):
    truths = [[[[0]], [[0]], [[0]], [[1]]]]
    plain, sizes = Constant.forward, []

    def small(self, image_BCHW):
        sizes.append(len(image_BCHW))
        if len(image_BCHW) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, image_BCHW)

    def loss(logits, mask):
        return (logits.sum() + mask.sum()) / len(mask)

    whole = validation_of(truths, truths, loss)
    monkeypatch.setattr(Constant, "forward", small)
    parts = validation_of(truths, truths, loss)
    assert sizes == [4, 2, 2] and parts == whole
