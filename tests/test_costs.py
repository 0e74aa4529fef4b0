"""What `tests/long/costs.py` adds up: operations of convolutions, epochs of plans, and the work of an experiment."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from pipeline.config.load import load
from tests.long.costs import COUNTED, Kind, Work, epochs_of, work_of


def counted(layer: nn.Module, needs_input_gradient: bool) -> int:
    """Returns the operations of a layer, forward and backward, for two inputs of 8 x 10 x 12."""
    inputs = torch.empty(2, 8, 10, 12, device="meta", requires_grad=needs_input_gradient)
    with FlopCounterMode(display=False, custom_mapping=COUNTED) as counter:
        layer.to("meta")(inputs).sum().backward()
    return counter.get_total_flops()


@pytest.mark.parametrize(
    ("layer", "forward"),
    [
        (nn.Conv2d(8, 16, 3, padding=1), 2 * 2 * 10 * 12 * 16 * 8 * 9),
        (nn.Conv2d(8, 8, 3, padding=1, groups=8), 2 * 2 * 10 * 12 * 8 * 9),  # torch's own count is eight times as much
        (nn.Conv2d(8, 16, 3, padding=1, stride=2, groups=2), 2 * 2 * 5 * 6 * 16 * 4 * 9),
        (nn.ConvTranspose2d(8, 4, 2, stride=2), 2 * 2 * 10 * 12 * 8 * 4 * 4),
    ],
)
def test_a_convolution_costs_once_more_for_each_gradient(layer, forward):
    assert counted(layer, needs_input_gradient=True) == 3 * forward
    assert counted(layer, needs_input_gradient=False) == 2 * forward


def test_only_a_phase_with_patience_ends_early():
    loaded = load("ExpBAA")
    assert (epochs_of(loaded.plan), epochs_of(loaded.plan, 30), epochs_of(loaded.plan, 200)) == (104, 34, 104)
    assert epochs_of(load("ExpAAA").plan, 10) == 30


def test_the_work_of_an_experiment_is_that_of_its_tiles_batches_and_validations():
    work = work_of(load("ExpBAA"), 30)
    assert work.trained == Kind("FPN", "efficientnet-b3", 352, 640) and work.whole == work.trained._replace(
        height=736, width=1280
    )
    assert (work.per_epoch, work.validated) == (2097 * 13 // 10 * 10, 524)  # 3 x 3 and 2 x 2 tiles, batches of 10
    assert work.sweep == (41 * 3 * 10, 41 * 3 * 8)


def test_the_sum_has_every_sample_and_image_once():
    kind = Kind("A", "b", 1, 1)
    work = Work("E", kind, kind, batch=2, per_epoch=100, validated=10, epochs=9, assumed=3, sweep=(7, 5))
    assert work.total(lambda kind: 1.0, lambda kind: 0.0, work.assumed) == 307
    assert work.total(lambda kind: 0.0, lambda kind: 1.0, work.assumed) == 5 * 10 + 5 + 648
