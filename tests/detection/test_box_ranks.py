"""Ranks and micro-batches with parts of a batch of boxes have the loss and the gradient of the whole batch."""

from __future__ import annotations

import contextlib
from functools import partial
from types import SimpleNamespace
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
from pipeline.training.memory import MicroBatches
from pipeline.training.ranks import group
from pipeline.training.step import accumulated, own_parts
from tests.ranks import in_ranks

SIZE = (64, 96)
MIXES = {
    "BccdR": ("1 sigmoid_focal + 1 smooth_l1", "1 sigmoid_focal(gamma=1) + 0.5 smooth_l1(beta=0)"),
    "BccdY": ("5 iou + 1 conf + 1 cls + 1 l1", "1 conf"),
}


ALL = [(name, mix) for name, mixes in MIXES.items() for mix in mixes]


def labels() -> BoxLabels:
    """Four images: of many boxes, of one, of none, and of some; parts of the batch have very different numbers."""
    many = [[8 * column, 8 * row, 8 * column + 14, 8 * row + 12] for column in range(5) for row in range(4)]
    own = [make_boxes(many, [0, 1, 2, 1] * 5), make_boxes([[5, 5, 60, 50]], [1]), make_boxes([], [])]
    return labels_of([*own, make_boxes([[0, 0, 20, 20], [30, 10, 90, 60]], [2, 0])], SIZE)


def loss_and_gradient(name: str, mix: str, accumulate: int = 1) -> tuple[float, dict[str, float], list[torch.Tensor]]:
    """Returns the loss of the whole batch, its terms, and this process's share of the gradient for all outputs.

    The step of the training is done with outputs instead of weights, and with the numbers of images instead of images.
    """
    loaded = load(name, ("DATASETS.INPUT_SCALE=1", "MODEL.ENCODER.WEIGHTS=null"))
    torch.manual_seed(4)
    with torch.no_grad():
        outputs = network_of(loaded).eval()(torch.rand(4, 3, *SIZE))
    weights = torch.nn.ParameterList(outputs)
    learner = SimpleNamespace(
        network=weights,
        optimizer=torch.optim.SGD(weights.parameters()),
        scaler=SimpleNamespace(scale=lambda total: total),
        reducing=lambda is_last: contextlib.nullcontext(),
        outputs=lambda numbers: Dense(*(one[numbers] for one in weights)),
    )
    added = []
    learning = SimpleNamespace(split_labels=split_labels, sample_sums=lambda outputs, labels: torch.zeros(0))
    sums = SimpleNamespace(learning=learning, add=lambda loss, sampled, num_samples: added.append(loss))
    criterion, parts = partial(mixed_loss, loaded, parse_mix(mix)), own_parts(4, MicroBatches(accumulate, 4))
    accumulated(learner, criterion, sums, (torch.arange(4), labels()), *parts)
    (loss,) = added
    gradients = [torch.zeros_like(one) if one.grad is None else one.grad / group.count() for one in weights]
    return float(loss.total), {term: float(value) for term, value in loss.terms.items()}, gradients


def everything() -> dict[tuple[str, str, int], Any]:
    return {(*one, accumulate): loss_and_gradient(*one, accumulate) for one in ALL for accumulate in (1, 2)}


@pytest.fixture(scope="module")
def ranks() -> list[dict[tuple[str, str, int], Any]]:
    return in_ranks(everything)


def assert_alike(found: tuple, wanted: tuple) -> None:
    assert found[0] == pytest.approx(wanted[0], rel=1e-5) and wanted[0] > 0
    assert found[1] == pytest.approx(wanted[1], rel=1e-5)
    for one, other in zip(found[2], wanted[2], strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-8)


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize(("name", "mix"), ALL)
def test_a_loss_of_boxes_over_two_ranks_and_its_gradient_are_those_of_the_whole_batch(ranks, name, mix, accumulate):
    found = [own[name, mix, accumulate] for own in ranks]
    gradient = [sum(parts) for parts in zip(*(own[2] for own in found), strict=True)]
    for total, terms, _ in found:
        assert_alike((total, terms, gradient), loss_and_gradient(name, mix))


@pytest.mark.parametrize("accumulate", [2, 4])
@pytest.mark.parametrize(("name", "mix"), ALL)
def test_a_loss_of_boxes_in_micro_batches_and_its_gradient_are_those_of_the_whole_batch(name, mix, accumulate):
    assert_alike(loss_and_gradient(name, mix, accumulate), loss_and_gradient(name, mix))


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
