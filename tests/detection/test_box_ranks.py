"""Two ranks with half a batch of boxes each have the loss and the gradient of one process with the whole batch."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from pipeline.config.load import load
from pipeline.config.loss_mix import parse_mix
from pipeline.detection.boxes import make_boxes
from pipeline.detection.dense import Dense
from pipeline.detection.learning import mixed_loss
from pipeline.detection.networks import network_of
from pipeline.detection.samples import BoxLabels, labels_of, split_labels
from pipeline.training.ranks import group
from tests.ranks import in_ranks

SIZE = (64, 96)
MIXES = {
    "BccdR": ("1 sigmoid_focal + 1 smooth_l1", "1 sigmoid_focal(gamma=1) + 0.5 smooth_l1(beta=0)"),
    "BccdY": ("5 iou + 1 conf + 1 cls + 1 l1", "1 conf"),
}


def labels() -> BoxLabels:
    """Four images: of many boxes, of one, of none, and of some; parts of the batch have very different numbers."""
    many = [[8 * column, 8 * row, 8 * column + 14, 8 * row + 12] for column in range(5) for row in range(4)]
    own = [make_boxes(many, [0, 1, 2, 1] * 5), make_boxes([[5, 5, 60, 50]], [1]), make_boxes([], [])]
    return labels_of([*own, make_boxes([[0, 0, 20, 20], [30, 10, 90, 60]], [2, 0])], SIZE)


def loss_and_gradient(name: str, mix: str) -> tuple[float, dict[str, float], list[torch.Tensor]]:
    """Returns the loss of the whole batch, its terms, and the gradient for the outputs of this process's images."""
    loaded = load(name, ("DATASETS.INPUT_SCALE=1", "MODEL.ENCODER.WEIGHTS=null"))
    torch.manual_seed(4)
    with torch.no_grad():
        outputs = network_of(loaded).eval()(torch.rand(4, 3, *SIZE))
    own = Dense(*(one.tensor_split(group.count())[group.rank()].clone().requires_grad_() for one in outputs))
    part = split_labels(labels(), group.count())[group.rank()]
    with group.joint_batches():
        loss = mixed_loss(loaded, parse_mix(mix), own, part)
        loss.total.backward()
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad / group.count() for one in own]
    return float(loss.total.detach()), {term: float(value) for term, value in loss.terms.items()}, gradients


def everything() -> dict[tuple[str, str], Any]:
    return {(name, mix): loss_and_gradient(name, mix) for name, mixes in MIXES.items() for mix in mixes}


@pytest.fixture(scope="module")
def ranks() -> list[dict[tuple[str, str], Any]]:
    return in_ranks(everything)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mix"), [(name, mix) for name, mixes in MIXES.items() for mix in mixes])
def test_a_loss_of_boxes_over_two_ranks_and_its_gradient_are_those_of_the_whole_batch(ranks, name, mix):
    total, terms, gradients = loss_and_gradient(name, mix)
    assert total > 0
    for found in ranks:
        assert found[name, mix][0] == pytest.approx(total, rel=1e-5)
        assert found[name, mix][1] == pytest.approx(terms, rel=1e-5)
    for index, gradient in enumerate(gradients):
        joined = torch.cat([found[name, mix][2][index] for found in ranks])
        torch.testing.assert_close(joined, gradient, rtol=1e-4, atol=1e-8)


@pytest.mark.parametrize("mix", MIXES["BccdY"])
def test_without_sums_over_ranks_the_losses_of_yolox_would_be_others(mix):
    loaded = load("BccdY", ("DATASETS.INPUT_SCALE=1",))
    torch.manual_seed(4)
    with torch.no_grad():
        outputs = network_of(loaded).eval()(torch.rand(4, 3, *SIZE))
    whole = mixed_loss(loaded, parse_mix(mix), outputs, labels()).total
    halves = [
        mixed_loss(loaded, parse_mix(mix), Dense(*parts), own).total
        for *parts, own in zip(*(one.split(2) for one in outputs), split_labels(labels(), 2), strict=True)
    ]
    assert abs(float(sum(halves) / 2 - whole)) > 0.01 * float(whole)
