"""The curve of an LR sweep on made-up losses: smoothing, suggestions, the end after an explosion."""

from __future__ import annotations

import itertools
import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.training.sweep_curve import Point, curves_of, evaluate_curves, has_exploded, smooth, suggest

LRS = [10 ** (-4 + step / 10) for step in range(61)]  # 1e-4 to 1e2, as the original


def curve(fall_at: float, lowest: float, rebound_at: float | None = None) -> list[float]:
    """Returns losses that fall fastest at one rate, are lowest at another, then explode; and fall again if wanted."""
    losses = []
    for lr in LRS:
        position = math.log10(lr)
        loss = 1 - 0.8 / (1 + math.exp(-6 * (position - math.log10(fall_at))))
        loss += 3 / (1 + math.exp(-6 * (position - math.log10(lowest) - 1)))
        if rebound_at is not None:
            loss -= 2.5 / (1 + math.exp(-20 * (position - math.log10(rebound_at))))
        losses.append(loss)
    return losses


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.floats(0.05, 1))
def test_smoothing_stays_within_what_it_smooths_and_begins_with_it(losses, weight):
    smoothed = smooth(losses, weight)
    assert smoothed[0] == pytest.approx(losses[0])
    assert min(losses) - 1e-6 <= min(smoothed) and max(smoothed) <= max(losses) + 1e-6


def test_smoothing_with_weight_one_changes_nothing():
    assert smooth([3.0, 1.0, 2.0], 1.0) == [3.0, 1.0, 2.0]


def test_suggestions_lie_where_the_curve_was_made_to_fall():
    found = suggest(LRS, curve(fall_at=1e-2, lowest=0.3))
    assert found["steep"] == pytest.approx(1e-2, rel=0.3)
    assert found["steep"] < found["trough"] < found["minimum"] < 1 and found["valley"] < found["minimum"]


def test_the_rebound_after_an_explosion_is_not_suggested():
    """The original's steepest point over the whole curve fell into it in two of four measured runs."""
    losses = curve(fall_at=1e-2, lowest=0.1, rebound_at=30)
    steps = [after - before for before, after in itertools.pairwise(losses)]
    assert LRS[steps.index(min(steps))] > 10  # what the original would have said
    assert suggest(LRS, losses)["steep"] == pytest.approx(1e-2, rel=0.3)


def test_a_curve_that_only_rises_suggests_its_first_rate():
    assert set(suggest(LRS, [float(step) for step in range(61)]).values()) == {LRS[0]}


def test_an_explosion_is_several_steps_above_the_start_after_the_minimum():
    assert not has_exploded([1.0, 0.5, 1.2, 1.3])
    assert has_exploded([1.0, 0.5, *[1.2] * 6]) and has_exploded([1.0, float("nan")])
    assert not has_exploded([1.0, 0.5, *[1.2] * 5, 0.9])


@pytest.mark.parametrize("num_steps", [61, 41, 21])
def test_suggestions_do_not_hang_on_the_number_of_steps(num_steps):
    """A moving average looks back; smoothed losses stand at rates that are averaged the same way."""
    growth = 1e6 ** (1 / (num_steps - 1))
    lrs = [1e-4 * growth**step for step in range(num_steps)]
    losses = [min((math.log10(lr) + 1) ** 2, 4.0) for lr in lrs]  # lowest at 0.1
    points = [Point(0, step, lr, loss, loss) for step, (lr, loss) in enumerate(zip(lrs, losses, strict=True))]
    (curve,) = curves_of(points, smoothing=0.3)
    assert suggest(curve.lr_smooth, curve.valid_smooth)["minimum"] == pytest.approx(0.1, rel=0.35)
    assert lrs[int(min(range(num_steps), key=lambda step: curve.valid_smooth[step]))] > 0.14  # drawn at the newest rate


def test_noise_moves_the_trough_less_than_a_flat_minimum():
    rng = random.Random(0)
    # As on CamVid: flat between 0.01 and 1, with a hump in it.
    clean = [max(loss, 0.45) + (0.05 if 0.02 < lr < 0.06 else 0) for lr, loss in zip(LRS, curve(3e-3, 1), strict=True)]
    noisy = [suggest(LRS, [loss + rng.gauss(0, 0.02) for loss in clean]) for _ in range(50)]
    spread = {mark: max(one[mark] for one in noisy) / min(one[mark] for one in noisy) for mark in noisy[0]}
    assert spread["trough"] < 1.5 and spread["minimum"] > 10


def test_what_lies_low_beyond_a_cliff_is_no_part_of_the_trough():
    losses = curve(fall_at=1e-2, lowest=0.3)
    wanted = suggest(LRS, losses)["trough"]
    low = [min(loss, 0.55) if lr > 50 else loss for lr, loss in zip(LRS, losses, strict=True)]
    assert suggest(LRS, low)["trough"] == wanted


def test_the_trough_of_a_curve_that_ends_in_it_reaches_to_its_end():
    losses = curve(fall_at=1e-2, lowest=0.3)
    cut = sum(lr < 0.3 for lr in LRS)
    found, whole = suggest(LRS[:cut], losses[:cut])["trough"], suggest(LRS, losses)["trough"]
    assert 1e-2 < found < whole


def test_a_loss_that_still_falls_at_the_last_rate_is_warned_of():
    def warnings_of(*losses, end_lr=LRS[-1]):
        points = [
            Point(repeat, step, LRS[step], loss, loss)
            for repeat, row in enumerate(losses)
            for step, loss in enumerate(row)
        ]
        return evaluate_curves(curves_of(points, smoothing=1.0), "auto", end_lr=end_lr)["warnings"]

    falling, turning = [1 - step / 100 for step in range(61)], [abs(1 - step / 30) for step in range(61)]
    told = ["the loss still falls at SWEEP.END_LR 100; raise it"]
    assert warnings_of(falling) == warnings_of(falling, falling, turning) == told
    assert warnings_of(turning) == warnings_of(falling, turning, turning) == []
    assert warnings_of([1.0] * 61) == []
    assert warnings_of(falling[:40]) == []  # it broke off: a higher END_LR would show nothing more


@pytest.mark.parametrize(
    ("losses", "fix"),
    [
        ([5e8, 6e8, 9e8, 1e9], "lower SWEEP.START_LR (now 0.0001)"),  # beyond every rate that trains
        ([7.0], "lower SWEEP.START_LR (now 0.0001)"),  # it broke off after the first step
        ([1.002 - step / 1e5 for step in range(61)], "raise SWEEP.END_LR"),  # below every rate that trains
    ],
)
def test_where_no_rate_trains_the_suggestions_are_said_to_mean_nothing(losses, fix: str):
    points = [Point(repeat, step, LRS[step], loss, loss) for repeat in (0, 1) for step, loss in enumerate(losses)]
    (warning,) = evaluate_curves(curves_of(points, smoothing=0.3), 3e-3, end_lr=LRS[-1], untrained=1.0)["warnings"]
    assert warning.startswith("no learning rate lowers the validation loss (1 before training, ")
    assert warning.endswith(f" at best), so do not use the suggestions; {fix}")
    good = [Point(0, step, LRS[step], loss, loss) for step, loss in enumerate(curve(1e-2, 0.3))]
    assert evaluate_curves(curves_of(good, smoothing=0.3), 3e-2, untrained=1.0)["warnings"] == []


def test_a_flat_curve_suggests_something_within_it():
    assert set(suggest(LRS, [1.0, 1.0, 1.0, *[1.0] * 58]).values()) == {LRS[0]}
    found = suggest(LRS[:4], [1.0, 1.0, 1.0, 1.0 - 1e-12])
    assert all(LRS[0] <= rate <= LRS[3] * 1.0001 for rate in found.values())
