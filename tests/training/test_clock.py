"""Training on a clock of the test's own: nothing ends too late, and what the clock decided can be repeated."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from pipeline.config.load import load
from pipeline.config.plan import Phase, load_plan
from pipeline.errors import Stopped, UserError
from pipeline.paths import BEST, CLOCK, HISTORY, PLAN_CHANGES, PLAN_FILE
from pipeline.report.read import read_columns
from pipeline.training import clock as clock_module
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.clock import Clock, open_clock, used_before, write_used
from pipeline.training.trainer import train
from tests.training.simulated_clock import STEP_S, VALIDATION_S, Simulated, simulate
from tests.training.toy import STEPS, make

FINISH_S = 60.0
EPOCH_S = STEPS * STEP_S + VALIDATION_S
FLAT_COSINE = (
    Phase("flat", 24, "flat", 0.05, 0.0, patience=50),
    Phase("anneal", 4, "cosine", 0.05, 0.0, start_from="best"),
)
ONE_CYCLE = (Phase("cycle", 24, "one_cycle", 0.05, 0.0),)
POLY_CUT = (
    Phase("poly", 8, "poly", 0.05, 0.0, curve_epochs=24, warmup_steps=3),
    Phase("frozen", 16, "poly", 0.05, 0.0, curve_epochs=24, warmup_steps=3, curve_start=8.0, freeze=("encoder",)),
)
THAW = (Phase("head", 3, "flat", 0.05, 0.0, freeze=("encoder",)), Phase("thawed", 24, "cosine", 0.05, 0.0, warmup=1.0))
TAIL = (Phase("cosine", 24, "cosine", 0.05, 0.0, warmup=1.0), Phase("clean", 4, "flat", 1e-4, 0.0, augment=False))
PLANS = {"flat_cosine": FLAT_COSINE, "one_cycle": ONE_CYCLE, "poly": POLY_CUT, "thaw": THAW, "tail": TAIL}


def in_time(monkeypatch, plan, deadline_s: float, name: str = "toy", stop: Simulated | None = None, log=None):
    """Trains a toy against the clock; returns the training."""
    stop = stop or Simulated()
    with monkeypatch.context() as patch:
        simulate(patch, stop)
        training = make(name, plan=plan, stop=stop, log=log or (lambda line: None))
        training.clock = Clock(training.run, deadline_s, lambda training: FINISH_S)
        train(training)
    return training


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_no_deadline_is_missed_whatever_the_plan(monkeypatch, plan):
    for number, epochs in enumerate(np.geomspace(3, 40, 3)):
        deadline_s = FINISH_S + VALIDATION_S + 6 * STEP_S * len({phase.freeze for phase in plan}) + epochs * EPOCH_S
        stop = Simulated(seed=number)
        training = in_time(monkeypatch, plan, deadline_s, f"toy{number}", stop)
        assert stop.time_s + FINISH_S <= deadline_s
        used = training.state.epoch * EPOCH_S
        unused = deadline_s - FINISH_S - stop.time_s
        whole = sum(phase.epochs for phase in plan)
        assert training.state.epoch == whole or unused <= 0.25 * used + 2.5 * EPOCH_S, (epochs, unused, used)


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_a_machine_that_gets_half_as_fast_on_the_way_is_still_in_time(monkeypatch, plan):
    for number, moment in enumerate((0.4, 0.9)):
        deadline_s = FINISH_S + 12 * EPOCH_S
        stop = Simulated(seed=number, slower_after=moment * 12 * EPOCH_S)
        training = in_time(monkeypatch, plan, deadline_s, f"toy{number}", stop)
        assert stop.time_s + FINISH_S <= deadline_s
        assert (training.run.paths / BEST).is_file()
        assert len(read_columns(training.run.paths / HISTORY)["epoch"]) == training.state.epoch + 1


@pytest.mark.parametrize("plan", PLANS.values(), ids=PLANS)
def test_the_plan_that_was_carried_out_gives_the_same_weights_without_a_clock(monkeypatch, plan):
    # The second one is slower from the middle on, so that a curve that has begun is cut.
    for name, slower_after in (("steady", float("inf")), ("slower", 4 * EPOCH_S)):
        stop = Simulated(seed=1, slower_after=slower_after)
        training = in_time(monkeypatch, plan, FINISH_S + 8 * EPOCH_S, name, stop)
        assert training.state.changes
        paths = training.run.paths
        final = load_plan(paths / PLAN_FILE, PLAN_FILE, training.config.solver, 0.05, training.run.loaded.origins)
        again = make(f"{name}-again", plan=final)
        train(again)
        first, second = (load_checkpoint(one / BEST) for one in (paths, again.run.paths))
        assert all(torch.equal(first["network"][key], second["network"][key]) for key in first["network"])
        assert (paths / HISTORY).read_bytes() == (again.run.paths / HISTORY).read_bytes()
        assert not again.state.changes


def test_the_annealing_begins_at_the_last_moment(monkeypatch):
    lines: list[str] = []
    stop = Simulated(noise=0.0)
    training = in_time(monkeypatch, FLAT_COSINE, FINISH_S + 16 * EPOCH_S, stop=stop, log=lines.append)
    flat, anneal = training.plan
    assert anneal.epochs == 4 and training.state.epoch == flat.epochs + 4
    # One more epoch at the constant rate would not have left 4 epochs with their margin.
    began_s = stop.time_s - 4 * EPOCH_S
    left = (16 * EPOCH_S - began_s) / (clock_module.MARGIN * EPOCH_S)
    assert 4 <= left < 5
    assert any("phase flat: EPOCHS 24 -> " in line and "4 more epochs" in line for line in lines)
    (what,) = read_columns(training.run.paths / PLAN_CHANGES)["what"]
    assert what == f"SOLVER.FINISH_WITHIN_HOURS: phase flat: EPOCHS 24 -> {flat.epochs}"


def test_with_time_enough_nothing_is_changed(monkeypatch):
    training = in_time(monkeypatch, FLAT_COSINE, 1000 * EPOCH_S, "in-time")
    plain = make("plain", plan=FLAT_COSINE)
    train(plain)
    assert not training.state.changes and not training.state.asked
    first, second = (load_checkpoint(one.run.paths / BEST) for one in (training, plain))
    for part in ("network", "state"):
        assert str(first[part]) == str(second[part])


def test_without_time_for_one_epoch_it_is_refused_before_training(monkeypatch):
    with pytest.raises(UserError, match=r"SOLVER.FINISH_WITHIN_HOURS: .* are left, but one epoch and the stages"):
        in_time(monkeypatch, ONE_CYCLE, FINISH_S + EPOCH_S)


def test_a_run_that_was_killed_goes_on_with_the_plan_as_it_was_cut(monkeypatch):
    stop = Simulated()
    deadline_s = FINISH_S + 12 * EPOCH_S
    with monkeypatch.context() as patch:
        simulate(patch, stop)
        training = make(plan=ONE_CYCLE, stop=stop)
        training.clock = Clock(training.run, deadline_s, lambda training: FINISH_S)
        patch.setattr(stop, "reason_after", lambda history: "killed" if len(history) == 5 else None)
        with pytest.raises(Stopped):
            train(training)
    cut = training.plan
    assert sum(phase.epochs for phase in cut) < 12
    again = in_time(monkeypatch, ONE_CYCLE, deadline_s, stop=stop)
    assert again.state.epoch == sum(phase.epochs for phase in again.plan) and again.plan[0] == cut[0]
    assert stop.time_s + FINISH_S <= deadline_s


def test_the_time_of_earlier_sessions_counts():
    hours = f"SOLVER.FINISH_WITHIN_HOURS={1000 / 3600}"
    stop = Simulated()
    run = replace(make(changes=[hours], stop=stop).run, began_s=0.0)
    stop.time_s = 300.0
    clock = open_clock(run, lambda training: 0.0)
    assert clock.deadline_s == pytest.approx(1000)
    write_used(clock)
    write_used(clock)  # as after each epoch
    assert used_before(run) == 300.0
    assert open_clock(run, lambda training: 0.0).deadline_s == pytest.approx(700)
    (run.paths / CLOCK).write_text("{")  # a file cut by a full disk counts as none
    assert used_before(run) == 0.0
    write_used(clock)
    assert list(json.loads((run.paths / CLOCK).read_text())["sessions"].values()) == [300.0]


def test_the_end_of_a_session_needs_a_session_that_ends():
    training = make(changes=["SOLVER.FINISH_WITHIN_HOURS=session", "RUNTIME.TIME_BUDGET_HOURS=null"])
    with pytest.raises(UserError, match=r"this session has no time limit; set RUNTIME.TIME_BUDGET_HOURS"):
        open_clock(training.run, lambda training: 0.0)
    training.run.stop.set_budget(100.0)
    assert open_clock(training.run, lambda training: 0.0).deadline_s == training.run.stop.deadline


def test_the_config_takes_hours_and_the_word_session():
    for text, value in (("null", None), ("session", "session"), ("11.5", 11.5)):
        assert load("demo", (f"SOLVER.FINISH_WITHIN_HOURS={text}",)).config.solver.finish_within_hours == value
    with pytest.raises(UserError, match="FINISH_WITHIN_HOURS"):
        load("demo", ("SOLVER.FINISH_WITHIN_HOURS=0",))
    assert Path(PLAN_FILE).suffix == ".yaml"
