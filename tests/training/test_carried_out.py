"""What was carried out of a plan: cutting and naming phases changes nothing, touching the past names epoch and key."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.plan import Phase
from pipeline.training.carried_out import Course, Difference, is_over, places, under
from pipeline.training.state import TrainState, advance, note_validation

STEPS = 5
POLY = Phase("poly", epochs=8, lr="poly", max_lr=0.1, min_lr=0.0, warmup_steps=3)
FLAT = Phase("flat", epochs=6, lr="flat", max_lr=0.1, min_lr=0.0, patience=2)
ANNEAL = Phase("anneal", epochs=3, lr="cosine", max_lr=0.1, min_lr=0.0, start_from="best")


def course(*plan: Phase, monitor: str = "valid_loss") -> Course:
    return Course(plan, monitor, "1 ce", STEPS)


def trained(plan: Course, num_epochs: int, step: int = 0, losses=(), dice=()) -> TrainState:
    """Returns the state after so many epochs and steps of a plan; losses fall where none are given."""
    state = TrainState("key")

    def finish(phase: Phase) -> None:
        loss = losses[state.epoch] if losses else 9.0 - state.epoch
        score = dice[state.epoch] if dice else 0.5
        is_best = note_validation(state, loss if plan.monitor == "valid_loss" else 1 - score, [0.5], [True])
        row = {"epoch": state.epoch, "phase": phase.name, "valid_loss": loss, "valid_dice": score}
        state.history.append(row | {"is_best": int(is_best), "epochs_since_best": state.epochs_since_best})

    finish(plan.plan[0])
    for _ in range(num_epochs):
        phase = advance(plan.plan, state)
        state.epoch, state.phase_epoch = state.epoch + 1, state.phase_epoch + 1
        finish(phase)
    if step:
        advance(plan.plan, state)
        state.step = step
    return state


def cut(phase: Phase, after: int, **changes) -> tuple[Phase, Phase]:
    """Returns a phase in two, the second with changes, as AFTER in a plan's file does it."""
    length = phase.curve_epochs or phase.epochs
    rest = replace(phase, name="rest", epochs=phase.epochs - after, curve_epochs=length, curve_start=float(after))
    return replace(phase, epochs=after, curve_epochs=length), replace(rest, **changes)


CHANGES = ({"power": 2.0}, {"freeze": ("encoder",)}, {"loss": "1 dice"}, {"augment": False}, {"max_lr": 0.2})


@given(st.integers(1, 7), st.integers(0, 7), st.integers(0, STEPS - 1), st.sampled_from(CHANGES))
def test_a_change_is_taken_up_exactly_where_it_begins_after_what_was_trained(after, num_epochs, step, change):
    before, later = course(POLY), course(*cut(POLY, after, **change))
    state = trained(before, num_epochs, step)
    found = under(later, state, before)
    if num_epochs + (step > 0) > after:
        assert isinstance(found, Difference) and found.epoch == after + 1
        assert next(iter(change)).upper() in found.what
    else:
        assert isinstance(found, TrainState)
        fresh = trained(later, num_epochs, step)
        assert (found.phase_index, found.phase_epoch) == (fresh.phase_index, fresh.phase_epoch)
        assert found.history == fresh.history
        assert found.changes == (
            [{"epoch": num_epochs, "step": step, "what": found.changes[0]["what"]}] if num_epochs + step else []
        )


@given(st.integers(1, 7), st.integers(0, 8), st.integers(0, STEPS - 1))
def test_cutting_a_phase_without_a_change_is_always_taken_up(after, num_epochs, step):
    before, later = course(POLY), course(*cut(POLY, after))
    step = step if num_epochs < POLY.epochs else 0
    found = under(later, trained(before, num_epochs, step), before)
    assert isinstance(found, TrainState)
    assert found.history == trained(later, num_epochs, step).history


TIRED = (9, 8, 8.5, 8.5, 7, 6, 5, 4)  # patience 2 ends the flat phase after epoch 3


def test_patience_that_was_not_used_may_change_and_such_that_was_may_not():
    before = course(FLAT, ANNEAL)
    for patience, epochs in ((3, 3), (2, 4), (3, 4), (1, 1)):
        state, later = trained(before, epochs, losses=TIRED), course(replace(FLAT, patience=patience), ANNEAL)
        found = under(later, state, before)
        if (patience, epochs) == (3, 4):
            assert found == Difference(4, "phase flat: START_FROM (best -> last)")
        else:
            assert isinstance(found, TrainState) and found.phase_index == (1 if epochs == 4 else 0)


def test_a_shorter_plan_may_end_where_training_stands_but_not_before():
    before = course(POLY, replace(POLY, name="more"))
    shorter = course(POLY)
    assert isinstance(under(shorter, trained(before, 8), before), TrainState)
    assert is_over(shorter, under(shorter, trained(before, 8), before))
    assert under(shorter, trained(before, 8, 1), before) == Difference(9, "the plan ends after epoch 8")


def test_a_longer_poly_would_have_had_other_rates_from_the_first_step_after_the_warm_up():
    before, later = course(POLY), course(replace(POLY, epochs=9))
    found = under(later, trained(before, 2), before)
    assert found.epoch == 1 and found.what == "phase poly: EPOCHS 8 -> 9, LR 0.0976 -> 0.0979 in step 5"


def test_a_first_epoch_of_which_only_the_warm_up_was_done_may_get_another_power():
    before, later = course(POLY), course(replace(POLY, power=3.0))
    assert isinstance(under(later, trained(before, 0, 3), before), TrainState)  # 3 steps of warm-up, the same for both
    assert under(later, trained(before, 1), before).epoch == 1


def test_another_monitor_counts_as_if_it_had_been_watched_from_the_beginning():
    dice = (0.1, 0.3, 0.5, 0.4, 0.4, 0.4)
    before, later = course(FLAT, ANNEAL), course(FLAT, ANNEAL, monitor="valid_dice")
    found = under(later, trained(before, 3, dice=dice), before)
    fresh = trained(later, 3, dice=dice)
    assert (found.best, found.best_epoch, found.epochs_since_best) == (0.5, 2, 1)
    assert found.history == fresh.history and found.changes[0]["what"] == ["SOLVER.MONITOR valid_loss -> valid_dice"]
    # Five epochs: with Dice patience would have ended the flat phase after the fourth, and gone back to the second.
    assert under(later, trained(before, 5, dice=dice), before).epoch == 5
    lost = course(FLAT, ANNEAL, monitor="valid_iou")
    assert "which was not measured" in under(lost, trained(before, 3, dice=dice), before).what


def test_places_follow_patience_and_stop_where_the_plan_does():
    assert places((FLAT, ANNEAL), [0, 0, 1, 2, 3, 4, 5]) == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 1), (1, 2)]
    assert places((FLAT,), [0, 0, 1, 2, 3]) == [(0, 0), (0, 1), (0, 2)]


def test_a_course_survives_a_checkpoint():
    whole = course(replace(POLY, freeze=("encoder.layer1", "batch_norm")), ANNEAL)
    assert Course.from_state(whole.state_dict()) == whole


@pytest.mark.parametrize("num_epochs", [0, 3])
def test_the_same_plan_changes_nothing(num_epochs):
    plan = course(FLAT, ANNEAL)
    state = trained(plan, num_epochs)
    assert under(course(FLAT, ANNEAL), state, plan) == state
