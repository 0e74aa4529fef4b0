"""The LR sweep: curve and suggestions on made-up losses, and that nothing of training is touched by it."""

from __future__ import annotations

import itertools
import json
import math

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.load import load
from pipeline.errors import Stopped, UserError
from pipeline.paths import RunPaths
from pipeline.training.lr_sweep import (
    Point,
    choose_pictures,
    has_exploded,
    rates,
    smooth,
    suggest,
    sweep_learning_rates,
    write_sweep,
)
from tests.tiny import draw_nothing, make_workshop, run_stages
from tests.training.toy import StopAt

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


@pytest.fixture(scope="module")
def workshop(tmp_path_factory):
    return make_workshop(tmp_path_factory.mktemp("workshop"))


@pytest.fixture(autouse=True)
def without_drawing(monkeypatch):
    draw_nothing(monkeypatch)


def points_of(losses, repeat=0):
    return [Point(repeat, step, lr, loss, loss) for step, (lr, loss) in enumerate(zip(LRS, losses, strict=False))]


def test_rates_grow_by_the_same_factor_from_start_to_end():
    settings = load("demo", ("SWEEP.START_LR=1e-4", "SWEEP.END_LR=100", "SWEEP.STEPS=61")).config.sweep
    found = rates(settings)
    assert found == pytest.approx(LRS) and found[0] == 1e-4


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
    assert found["steep"] < found["valley"] < found["minimum"] < 1


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


def test_the_pictures_looked_at_hold_every_class_that_there_is():
    rows = pd.DataFrame(
        {"id": [f"p{i}" for i in range(20)], "pixels_0": 9, "pixels_1": 0, "pixels_2": 0, "pixels_ignored": 1}
    )
    rows.loc[13, "pixels_1"] = 5
    rows.loc[[4, 6], "pixels_2"] = 5
    chosen = choose_pictures(rows, 3)
    assert len(chosen) == 3 and "p13" in chosen and {"p4", "p6"} & set(chosen)
    assert choose_pictures(rows, 99) == rows["id"].tolist()


def test_the_files_hold_both_curves_and_the_band_over_repeats(tmp_path):
    paths = RunPaths("sweep")
    points = (
        points_of(curve(1e-2, 0.3)) + points_of(curve(1e-3, 0.03), repeat=1) + points_of(curve(1e-2, 0.3), repeat=2)
    )
    said: list[str] = []
    write_sweep(paths, points, smoothing=1.0, max_lr=1e-2, say=said.append)
    table = pd.read_csv(paths / "lr_sweep.csv")
    assert len(table) == 3 * 61 and table["repeat"].unique().tolist() == [0, 1, 2]
    facts = json.loads((paths / "lr_sweep.json").read_text())
    low, high = facts["band"]["steep"]
    assert low < facts["suggestions"]["steep"] == pytest.approx(high) and facts["max_lr"] == 1e-2
    assert facts["warnings"] == [] and len(said) == 1


@pytest.mark.parametrize(("max_lr", "side"), [(10.0, "above"), (1e-4, "below")])
def test_a_rate_far_off_is_warned_of(max_lr, side):
    said: list[str] = []
    write_sweep(RunPaths("sweep"), points_of(curve(1e-2, 0.3)), 1.0, max_lr, said.append)
    assert f"lies far {side} the sweep's suggestion" in said[1]


def test_auto_takes_the_steepest(tmp_path):
    write_sweep(RunPaths("sweep"), points_of(curve(1e-2, 0.3)), 1.0, "auto", lambda line: None)
    facts = json.loads((RunPaths("sweep") / "lr_sweep.json").read_text())
    assert facts["max_lr"] == facts["suggestions"]["steep"] and facts["is_auto"]


def test_training_is_the_same_to_the_bit_with_and_without_a_sweep_before(workshop):
    with_sweep, _ = run_stages(workshop.tiny(), "train")
    without, _ = run_stages(workshop.tiny("SWEEP.ENABLE=false"), "train")
    assert (with_sweep / "lr_sweep.csv").exists() and not (without / "lr_sweep.csv").exists()
    for name in ("last.ckpt", "best.ckpt", "history.csv"):
        assert (with_sweep / name).read_bytes() == (without / name).read_bytes()


def sweep_of(workshop, *changes, stop=None):
    loaded = workshop.tiny(*changes)
    paths, _ = run_stages(loaded, "tile")
    sweep_learning_rates(loaded, paths, stop or StopAt(10**6), lambda name: None, lambda line: None)
    return pd.read_csv(paths / "lr_sweep.csv")


def test_a_sweep_repeats_itself_and_its_repeats_differ(workshop):
    first = sweep_of(workshop, "SWEEP.REPEATS=2")
    assert first.equals(sweep_of(workshop, "SWEEP.REPEATS=2"))
    zero, one = (first.loc[first["repeat"] == repeat, "valid_loss"].tolist() for repeat in (0, 1))
    assert zero != one


def test_a_sweep_is_done_with_the_experiments_own_optimizer_loss_and_frozen_parts(workshop):
    losses = {
        changes: sweep_of(workshop, *changes)["valid_loss"].tolist()
        for changes in (
            (),
            ("SWEEP.OPTIMIZER=SGD",),
            ("LOSS_FN.WEIGHTS=[1,1,1,9,1,1,1,1,1,9,1,1]",),
            ("SOLVER.PLAN=freeze_then_thaw",),
            ("SOLVER.EMA_DECAY=0.9",),
        )
    }
    assert losses[("SOLVER.EMA_DECAY=0.9",)] == losses[()]  # an average would hide what the rate does
    assert len({tuple(values) for values in losses.values()}) == 4


def test_an_explosion_ends_a_sweep_early(workshop):
    table = sweep_of(workshop, "SWEEP.START_LR=1", "SWEEP.END_LR=1e30", "SWEEP.STEPS=30", "SWEEP.OPTIMIZER=SGD")
    assert 0 < len(table) < 30 and table["valid_loss"].notna().all()


def test_a_sweep_that_begins_too_high_is_refused(workshop):
    with pytest.raises(UserError, match=r"not finite even at SWEEP\.START_LR 1e\+37"):
        sweep_of(workshop, "SWEEP.START_LR=1e37", "SWEEP.END_LR=1e38", "SWEEP.OPTIMIZER=SGD")


def test_a_stop_ends_a_sweep_between_two_steps(workshop):
    with pytest.raises(Stopped, match="the LR sweep begins anew"):
        sweep_of(workshop, stop=StopAt(3))
