"""Class weights of an epoch: fixed, adaptive, without the classes that do not count, 1 for a padding class."""

from __future__ import annotations

import pytest
import torch

from pipeline.config.load import load
from pipeline.segmentation.criterion import criterion, epoch_weights, fixed_weights


def loss_fn(*changes: str):
    return load("demo", tuple(f"LOSS_FN.{change}" for change in changes)).config.loss_fn


def test_equal_weights_of_all_classes_are_none():
    assert fixed_weights(None, scored=(0, 1), num_classes=2, num_outputs=2) is None


def test_given_weights_sum_to_the_number_of_classes():
    assert fixed_weights((3.0, 1.0), (0, 1), 2, 2).tolist() == [1.5, 0.5]


def test_classes_that_do_not_count_weigh_nothing_and_a_padding_class_one():
    assert fixed_weights((3.0, 1.0, 1.0), (0, 2), 3, 4).tolist() == [2.25, 0.0, 0.75, 1.0]


def test_adaptive_weights_begin_after_the_first_epoch():
    adaptive = loss_fn("ADAPTIVE.ENABLE=true", "ADAPTIVE.MAX_WEIGHT=3")
    assert epoch_weights(adaptive, 0, [1.0, 0.0], (0, 1), 2) is None
    assert epoch_weights(adaptive, 1, [1.0, 0.0], (0, 1), 2).tolist() == [0.5, 1.5]


def test_adaptive_weights_leave_out_classes_that_do_not_count():
    adaptive = loss_fn("ADAPTIVE.ENABLE=true", "ADAPTIVE.MAX_WEIGHT=3")
    assert epoch_weights(adaptive, 5, [1.0, 0.0, 0.0], (0, 1), 4).tolist() == [0.75, 2.25, 0.0, 1.0]


def test_without_adaptation_every_epoch_has_the_fixed_weights():
    assert epoch_weights(loss_fn(), 5, [1.0, 0.0], (0, 1), 2) is None


def test_a_criterion_weighs_its_mix():
    logits = torch.randn(2, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    mask = torch.randint(0, 3, (2, 4, 4), generator=torch.Generator().manual_seed(1), dtype=torch.uint8)
    ce, dice, mix = (criterion(text, None, 3)(logits, mask) for text in ("ce", "dice", "0.7 ce + 0.3 dice"))
    assert float(mix) == pytest.approx(0.7 * float(ce) + 0.3 * float(dice))


def test_a_class_of_weight_zero_has_no_gradient_through_its_pixels():
    logits = torch.zeros(1, 3, 1, 2, requires_grad=True)
    mask = torch.tensor([[[0, 2]]], dtype=torch.uint8)
    weights = fixed_weights(None, (0, 1), 3, 3)
    criterion("1 ce", weights, 3)(logits, mask).backward()
    assert logits.grad[..., 1].abs().max() == 0 and logits.grad[..., 0].abs().max() > 0
