"""When phases end and what is best, on scripted loss curves instead of training."""

from __future__ import annotations

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.plan import Phase
from pipeline.training.state import TrainState, advance, note_validation, phase_over, start_warning

FLAT = Phase("flat", epochs=9, lr="flat", max_lr=1.0, min_lr=0.0, patience=2)
ANNEAL = Phase("anneal", epochs=3, lr="cosine", max_lr=1.0, min_lr=0.0, start_from="best")


def follow(plan, losses, restart_after=(), starts_trained=False):
    """Returns (epoch, phase, is best) of every epoch that a plan has under these validation losses.

    Args:
        losses: of the validation before training, then of each epoch; the last one is repeated when they run out.
        restart_after: epochs after which the state is written, and read again by another process.
        starts_trained: as with EXPERIMENT.LOAD_PREV.
    """
    state = TrainState("key")
    assert note_validation(state, losses[0], [0.5], [True], starts_trained) == starts_trained
    told = []
    while (phase := advance(plan, state)) is not None:
        state.epoch, state.phase_epoch = state.epoch + 1, state.phase_epoch + 1
        is_best = note_validation(state, losses[min(state.epoch, len(losses) - 1)], [0.5], [True], starts_trained)
        told.append((state.epoch, phase.name, is_best))
        if state.epoch in restart_after:
            state = TrainState(**json.loads(json.dumps(asdict(state))))
    return told


def phases(plan, losses, **options):
    return [name for _, name, _ in follow(plan, losses, **options)]


def test_a_phase_ends_after_patience_epochs_without_a_new_lowest_loss():
    assert phases([FLAT], [9, 8, 7, 7.5, 7.2]) == ["flat"] * 4


def test_a_phase_ends_after_its_epochs_when_patience_never_runs_out():
    assert phases([FLAT], [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]) == ["flat"] * 9


def test_an_equal_loss_is_no_new_best_so_a_plateau_uses_patience_up():
    assert phases([FLAT], [9, 8, 8, 8, 8]) == ["flat"] * 3


def test_a_trained_network_that_is_never_beaten_is_given_patience_epochs():
    assert follow([FLAT], [1, 2, 3, 4], starts_trained=True) == [(1, "flat", False), (2, "flat", False)]


def test_the_first_epoch_is_best_even_where_the_untrained_network_had_a_lower_loss():
    assert follow([FLAT], [0.599, 0.609, 0.61, 0.62]) == [(1, "flat", True), (2, "flat", False), (3, "flat", False)]


@pytest.mark.parametrize(("starts_trained", "num_epochs"), [(False, 2), (True, 1)])
def test_patience_of_one_epoch_begins_at_the_first_best(starts_trained, num_epochs):
    hasty = Phase("hasty", epochs=9, lr="flat", max_lr=1.0, min_lr=0.0, patience=1)
    assert len(follow([hasty], [1, 2, 3, 4], starts_trained=starts_trained)) == num_epochs


def test_a_plan_of_one_epoch_keeps_that_epoch():
    single = Phase("single", epochs=1, lr="flat", max_lr=1.0, min_lr=0.0)
    assert follow([single], [0.599, 0.609]) == [(1, "single", True)]


def test_a_phase_without_patience_runs_all_its_epochs_however_bad():
    assert phases([FLAT, ANNEAL], [1, 2, 3, 4]) == ["flat", "flat", "flat", "anneal", "anneal", "anneal"]


def test_the_next_phase_has_its_own_patience_although_the_best_lies_far_back():
    second = Phase("second", epochs=9, lr="flat", max_lr=1.0, min_lr=0.0, patience=2)
    assert phases([FLAT, second], [1, 2, 3, 4]) == ["flat", "flat", "flat", "second", "second"]


def test_best_is_tracked_while_annealing():
    told = follow([FLAT, ANNEAL], [9, 5, 6, 7, 4, 3, 3.5])
    assert [epoch for epoch, _, is_best in told if is_best] == [1, 4, 5]


def test_a_stop_that_falls_on_the_epoch_on_which_patience_runs_out_changes_nothing():
    losses = [9, 8, 8.5, 8.5, 7, 6, 5]
    expected = follow([FLAT, ANNEAL], losses)
    assert [name for _, name, _ in expected] == ["flat"] * 3 + ["anneal"] * 3
    assert follow([FLAT, ANNEAL], losses, restart_after=(3,)) == expected


@given(
    losses=st.lists(st.integers(0, 9), min_size=1, max_size=12),
    patiences=st.lists(st.none() | st.integers(1, 4), min_size=1, max_size=3),
    restarts=st.sets(st.integers(1, 20)),
)
def test_a_plan_takes_the_same_course_however_often_it_was_restarted(losses, patiences, restarts):
    plan = [Phase(str(place), 4, "flat", 1.0, 0.0, patience) for place, patience in enumerate(patiences)]
    assert follow(plan, losses, restarts) == follow(plan, losses)


@given(losses=st.lists(st.integers(0, 9), min_size=2, max_size=12), starts_trained=st.booleans())
def test_best_is_the_first_epoch_of_the_lowest_loss(losses, starts_trained):
    state = TrainState("key")
    for epoch, loss in enumerate(losses):
        state.epoch = epoch
        note_validation(state, loss, [0.5], [True], starts_trained)
    first = 0 if starts_trained else 1
    best_epoch = losses.index(min(losses[first:]), first)
    assert (state.best, state.best_epoch) == (losses[best_epoch], best_epoch)
    assert state.epochs_since_best == len(losses) - 1 - best_epoch


def test_before_the_first_epoch_an_untrained_network_has_no_best():
    state = TrainState("key")
    assert not note_validation(state, 0.599, [0.0], [False])
    assert (state.best, state.best_epoch, state.epochs_since_best) == (None, 0, 0)


@pytest.mark.parametrize(
    ("monitored", "best_epoch", "monitor", "load_prev", "words"),
    [
        ([0.5, 0.6], 0, "valid_loss", "ExpBAA", "No epoch improved on the network of EXPERIMENT.LOAD_PREV ExpBAA"),
        ([0.5, 0.4], 1, "valid_loss", "ExpBAA", None),
        ([0.5, 0.6], 1, "valid_loss", None, "No epoch reached the validation loss of the untrained network (0.5000)"),
        ([0.5, 0.4], 1, "valid_loss", None, None),
        ([0.0, 0.0], 1, "valid_dice", None, "No epoch reached the validation Dice of the untrained network (0.0000)"),
        ([0.0, 0.46], 1, "valid_dice", None, None),
        ([None, 0.1], 1, "valid_miou", None, None),
        ([0.1, None], 1, "valid_miou", None, "No epoch reached the validation mIoU of the untrained network (0.1000)"),
    ],
)
def test_a_training_that_never_beat_its_start_is_warned_of(monitored, best_epoch, monitor, load_prev, words):
    warning = start_warning(monitored, best_epoch, monitor, load_prev)
    assert warning is None if words is None else warning.startswith(words)


def test_a_phase_is_not_over_in_the_middle_of_an_epoch():
    assert not phase_over(FLAT, TrainState("key", phase_epoch=3, epochs_since_best=5, step=1))
    assert phase_over(FLAT, TrainState("key", phase_epoch=3, epochs_since_best=5))


def test_validations_in_which_a_class_is_not_found_are_counted_until_it_is():
    state = TrainState("key")
    for has_hit in ([True, False], [False, False], [True, False]):
        note_validation(state, 1.0, [0.9, 0.5], has_hit)
    assert state.epochs_without_hit == [0, 3]
    note_validation(state, 1.0, [0.9, 0.6], [True, True])
    assert state.epochs_without_hit == [0, 0] and state.class_scores == [0.9, 0.6]


@pytest.mark.parametrize("phase_index", [0, 1])
def test_a_finished_plan_stays_finished(phase_index):
    state = TrainState("key", phase_index=phase_index, phase_epoch=9, epoch=9)
    plan = [FLAT] * (phase_index + 1)
    assert advance(plan, state) is None and advance(plan, state) is None
