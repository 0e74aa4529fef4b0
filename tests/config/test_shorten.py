"""A plan that is cut on the way fits into what is left, and leaves what was carried out as it was."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest

from pipeline.config.load import Loaded, load
from pipeline.config.plan import Phase, learning_rate, load_plan
from pipeline.config.shorten import epochs_left, plan_text, shortened
from pipeline.paths import CONFIGS
from pipeline.training.carried_out import Course, under
from pipeline.training.state import TrainState

STEPS = 7
PLANS = sorted(path.stem for path in (CONFIGS / "plans").glob("*.yaml"))
LONG = ("SOLVER.NUM_EPOCHS=67", "SOLVER.MONITOR=valid_dice", "LOSS_FN.MIX=1 ce")


def loaded_with(name: str) -> Loaded:
    """Returns a config with a plan; those of YOLOX change its loss of boxes."""
    if name.startswith("yolox"):
        return load("BccdY", (f"SOLVER.PLAN={name}", LONG[0]))
    return load("demo", (f"SOLVER.PLAN={name}", *LONG))


def plan_named(name: str) -> tuple[Phase, ...]:
    return loaded_with(name).plan


def state_at(plan: tuple[Phase, ...], phase_index: int, phase_epoch: int) -> TrainState:
    """Returns the state of a training that has carried out a plan up to a place, each epoch better than the last."""
    epoch = sum(phase.epochs for phase in plan[:phase_index]) + phase_epoch
    rows = [{"epoch": number, "epochs_since_best": 0, "valid_loss": 1.0, "phase": ""} for number in range(epoch + 1)]
    return TrainState("", epoch, phase_index, phase_epoch, history=rows)


def rates(plan: tuple[Phase, ...]) -> list[float]:
    return [learning_rate(phase, step, STEPS) for phase in plan for step in range(phase.epochs * STEPS)]


@pytest.mark.parametrize("name", PLANS)
def test_any_plan_can_be_cut_anywhere_and_loads_from_its_text(name, tmp_path):
    plan, rng = plan_named(name), np.random.default_rng(5)
    loaded = loaded_with(name)
    for number in range(60):
        phase_index = int(rng.integers(len(plan)))
        phase_epoch = int(rng.integers(plan[phase_index].epochs))
        room = int(rng.integers(0, epochs_left(plan, phase_index, phase_epoch) + 2))
        if number % 2:
            room = min(room, 5)
        cut = shortened(plan, phase_index, phase_epoch, room, STEPS)
        state = state_at(plan, phase_index, phase_epoch)
        if cut == plan and plan[phase_index].lr == "flat" and epochs_left(plan, phase_index, phase_epoch) > room:
            assert room > 0  # the last moment has not come
            continue
        assert epochs_left(cut, 0, 0) <= state.epoch + room
        if not state.epoch and not room:
            continue
        before, after = (Course(one, "valid_loss", "1 ce", STEPS) for one in (plan, cut))
        assert isinstance(under(after, state, before), TrainState), (phase_index, phase_epoch, room)
        (tmp_path / "plan.yaml").write_text(plan_text(cut, "Cut."))
        again = load_plan(tmp_path / "plan.yaml", "plan.yaml", loaded.config.solver, 0.011, loaded.origins)
        assert rates(again) == rates(cut) and again == tuple(replace(one) for one in cut)


@pytest.mark.parametrize("name", ["one_cycle", "poly_warmup", "warmup_cosine_clean_tail"])
def test_a_curve_that_is_cut_on_the_way_falls_from_its_rate_to_its_end(name):
    plan = plan_named(name)
    cut = shortened(plan, 0, 12, 9, STEPS)
    found = rates(cut)
    assert found[: 12 * STEPS] == rates(plan)[: 12 * STEPS]
    rest = found[12 * STEPS :]
    assert rest[0] == pytest.approx(rates(plan)[12 * STEPS]) and all(a >= b for a, b in pairwise(rest))
    assert min(rest) < 0.1 * rest[0]


def test_a_curve_that_has_not_begun_is_drawn_anew():
    (plan,) = plan_named("one_cycle")
    (cut,) = shortened((plan,), 0, 0, 10, STEPS)
    assert cut == replace(plan, epochs=10)
    poly, *_ = shortened(plan_named("poly_warmup"), 0, 0, 1, STEPS)
    assert (poly.epochs, poly.warmup) == (1, 0.5)  # half of it at most


def test_changes_within_a_curve_stay_in_proportion():
    cut = shortened(plan_named("cityscapes_decided"), 0, 0, 33, STEPS)
    assert [phase.epochs for phase in cut] == [13, 9, 1, 10]
    assert [phase.curve_start for phase in cut] == [0, 13, 22, 23] and {phase.curve_epochs for phase in cut} == {33}
    assert [phase.power for phase in cut] == [0.9, 1.2, 2, 1.2] and cut[2].freeze


def test_the_first_phase_has_an_epoch_where_a_later_one_starts_from_its_best():
    flat, anneal = plan_named("flat_cosine")
    assert [one.epochs for one in shortened((replace(flat, epochs=2), anneal), 0, 0, 1, STEPS)] == [1]


def test_the_text_of_a_plan_keeps_losses_with_commas():
    phase = Phase("a", 2, "poly", 0.1, 1e-8, loss="0.7 ce + 0.3 tversky(alpha=0.3, beta=0.7)", freeze=("encoder.bn1",))
    assert 'LOSS: "0.7 ce + 0.3 tversky(alpha=0.3, beta=0.7)"' in plan_text([phase], "x")
