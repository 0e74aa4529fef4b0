"""Scores of a validation, by hand: what is ignored, what is padding, how batches are weighed."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from pipeline.training.validate import ignore_beyond, validate
from tests.training.toy import Batch, make


class Constant(nn.Module):
    """Gives every pixel the logits that its red value names: red 0 is class 0, red 1 class 1, ..."""

    def __init__(self, num_outputs: int) -> None:
        super().__init__()
        self.num_outputs = num_outputs

    def forward(self, image_BCHW):
        red_BHW = (image_BCHW[:, 0] * 0.229 + 0.485).mul(255).round().long()
        return nn.functional.one_hot(red_BHW, self.num_outputs).permute(0, 3, 1, 2).float()


def judge(truths, predictions, num_classes, num_outputs=None, loss=lambda logits, mask: logits.sum() * 0):
    """Validates on one batch for each pair of masks (lists of rows); predictions come from the images."""
    learner = make().learner
    learner.network = Constant(num_outputs or num_classes)
    batches = []
    for truth, predicted in zip(truths, predictions, strict=True):
        red_BHW = torch.tensor(predicted, dtype=torch.uint8)
        batches.append(Batch(red_BHW[..., None].expand(-1, -1, -1, 3), torch.tensor(truth, dtype=torch.uint8)))
    return validate(learner, batches, loss, num_classes)


def test_dice_is_the_mean_over_images_and_one_where_both_lack_the_class():
    result = judge([[[[0, 1]], [[0, 0]]]], [[[[0, 0]], [[0, 0]]]], num_classes=2)
    assert result.dice == pytest.approx([(2 / 3 + 1) / 2, (0 + 1) / 2])
    assert result.iou == pytest.approx([(1 / 2 + 1) / 2, (0 + 1) / 2])
    assert result.dataset_iou == pytest.approx([3 / 4, 0])
    assert result.has_hit == [True, False]


def test_a_class_that_nobody_saw_is_no_missed_one():
    result = judge([[[[0, 0]]]], [[[[0, 0]]]], num_classes=2)
    assert result.has_hit == [True, True] and result.dice == [1.0, 1.0] and math.isnan(result.dataset_iou[1])


def test_ignored_and_padded_pixels_count_nowhere():
    result = judge([[[[0, 255, 2]]]], [[[[0, 1, 1]]]], num_classes=2, num_outputs=3)
    assert result.dice == [1.0, 1.0]


def test_a_pixel_that_the_network_calls_padding_is_given_to_the_best_real_class():
    result = judge([[[[0, 0]]]], [[[[2, 0]]]], num_classes=2, num_outputs=3)
    assert result.dice == [1.0, 1.0]


def test_the_loss_is_the_mean_over_images_not_over_batches():
    truths = [[[[0]], [[0]], [[0]]], [[[1]]]]
    result = judge(truths, truths, num_classes=2, loss=lambda logits, mask: mask.float().mean())
    assert result.loss == pytest.approx(1 / 4)


def test_images_that_do_not_fit_into_a_gpus_memory_together_are_judged_as_one_batch(monkeypatch):
    truths = [[[[0]], [[0]], [[0]], [[1]]]]
    plain, sizes = Constant.forward, []

    def small(self, image_BCHW):
        sizes.append(len(image_BCHW))
        if len(image_BCHW) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return plain(self, image_BCHW)

    whole = judge(truths, truths, num_classes=2, loss=lambda logits, mask: (logits.sum() + mask.sum()) / len(mask))
    monkeypatch.setattr(Constant, "forward", small)
    parts = judge(truths, truths, num_classes=2, loss=lambda logits, mask: (logits.sum() + mask.sum()) / len(mask))
    assert sizes == [4, 2, 2] and parts == whole


def test_masks_beyond_the_scored_classes_are_ignored():
    assert ignore_beyond(torch.tensor([0, 11, 12, 255], dtype=torch.uint8), 12).tolist() == [0, 11, 255, 255]
