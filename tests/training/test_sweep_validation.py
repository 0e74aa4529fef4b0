"""Validation inside a sweep: of images with every class, batch norms go by the batch, and nothing leaves a trace."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from pipeline.training.learner import Learner, freeze
from pipeline.training.memory import MicroBatches
from pipeline.training.validate import at_this_step, choose_images, validation_loss
from tests.training.toy import batch, make


def learner_of(network: nn.Module) -> Learner:
    none = (None, None, None)
    return Learner(
        SimpleNamespace(), network, network, *none, torch.device("cpu"), torch.float32, micro=MicroBatches(1, 1)
    )


def small_network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).train()


def test_the_chosen_images_hold_every_class_that_there_is():
    ids, present = [f"p{index}" for index in range(20)], np.zeros((20, 3), bool)
    present[:, 0] = present[13, 1] = present[[4, 6], 2] = True
    chosen = choose_images(ids, present, 3)
    assert len(chosen) == 3 and "p13" in chosen and {"p4", "p6"} & set(chosen)
    assert choose_images(ids, present, 99) == ids


@given(st.integers(0, 10_000))
def test_the_chosen_images_lack_no_class_that_another_image_could_add(seed):
    rng = np.random.default_rng(seed)
    ids, present = [f"p{index:02d}" for index in range(30)], rng.random((30, 12)) < rng.random(12)
    for count in range(1, 12):
        chosen = present[np.isin(ids, choose_images(ids, present, count))]
        before = present[np.isin(ids, choose_images(ids, present, count - 1))]
        gained = chosen.any(0).sum() - before.any(0).sum()
        assert gained > 0 or not (present & ~before.any(0)).any()


def test_the_loss_is_the_mean_over_images_of_all_batches():
    training = make()
    learner, criterion = training.learner, training.learning.criterion("1 ce", 0, ())
    first, second = batch(1), batch(2)
    second = second._replace(images=second.images[:2], labels=second.labels[:2])
    losses = [validation_loss(learner, [one], criterion, training.learning) for one in (first, second)]
    found = validation_loss(learner, [first, second], criterion, training.learning)
    assert found == pytest.approx((4 * losses[0] + 2 * losses[1]) / 6) and losses[0] != losses[1]


def test_validating_changes_neither_statistics_nor_modes():
    network = small_network()
    before = {name: value.clone() for name, value in network.state_dict().items() if "num_batches" not in name}
    with at_this_step(learner_of(network)) as validated:
        validated(torch.rand(2, 3, 8, 8))
    assert all(torch.equal(network.state_dict()[name], value) for name, value in before.items())
    assert all(module.training for module in network.modules()) and network[1].momentum == 0.1


def test_a_batch_norm_goes_by_the_batch_and_dropout_does_nothing():
    network, images = small_network(), 5 + 3 * torch.rand(4, 3, 8, 8)
    with at_this_step(learner_of(network)) as validated:
        values = validated(images)
        assert torch.equal(values, validated(images))
        alone = validated(images[:1])
    assert values.mean().abs() < 1e-5 and abs(values.std() - 1) < 0.01
    assert alone.mean().abs() < 1e-5 and abs(alone.std() - 1) < 0.01  # one image has statistics, too


def test_a_batch_norm_behind_a_global_pooling_of_one_image_keeps_its_averages():
    torch.manual_seed(0)
    network = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(3)).train()
    image = torch.rand(1, 3, 8, 8)
    with at_this_step(learner_of(network)) as validated:
        assert torch.allclose(validated(image), image.mean((2, 3), keepdim=True), atol=1e-4)
    assert network[1].training and network[1].momentum == 0.1


def test_a_frozen_batch_norm_keeps_its_statistics_in_validation_too():
    network, images = small_network(), 5 + 3 * torch.rand(4, 3, 8, 8)
    freeze(network, ["batch_norm"])
    with at_this_step(learner_of(network)) as validated:
        values = validated(images)
    network.eval()
    assert torch.equal(values, network(images).detach())
