"""Plans are data: the learning rate at given steps is the one worked out by hand."""

from __future__ import annotations

import itertools
import math
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.config.load import Loaded, load
from pipeline.config.loss_mix import SETTINGS, parse_mix, term_parts
from pipeline.config.plan import GivenMix, Phase, given_mixes, learning_rate, load_plan
from pipeline.errors import UserError

OF_BOXES = ("yolox", "yolox_frozen")  # plans that change to a loss of boxes


def phases_of(plan: str, *settings: str) -> dict[str, Phase]:
    """The phases of a plan of configs/plans by name."""
    loaded = load("ExpAAB", (f"SOLVER.PLAN={plan}", "SOLVER.MONITOR=valid_dice", *settings))
    return {phase.name: phase for phase in loaded.plan}


def phases_of_boxes(plan: str, *settings: str) -> dict[str, Phase]:
    """The same, of a plan for YOLOX."""
    return {phase.name: phase for phase in load("BccdY", (f"SOLVER.PLAN={plan}", *settings)).plan}


def refusal(configs: Path, text: str, *settings: str) -> str:
    (configs / "plans" / "mine.yaml").write_text(text)
    with pytest.raises(UserError) as caught:
        load("ExpAAB", ("SOLVER.PLAN=mine", *settings))
    return str(caught.value)


# The hand-worked schedules. Steps count from the phase's beginning.


def test_yolox_warms_up_3_epochs_then_cosine_to_epoch_22_then_8_clean_epochs():
    phases = phases_of_boxes("yolox_frozen", "SOLVER.MAX_LR=3e-4", "SOLVER.MIN_LR=1.5e-5")
    cosine, clean = phases["cosine"], phases["clean"]
    assert (cosine.epochs, cosine.augment, cosine.freeze) == (22, True, ("encoder", "neck"))
    assert (clean.epochs, clean.augment, clean.freeze) == (8, False, ("encoder", "neck"))
    assert (cosine.loss, clean.loss) == (None, "5 iou + 1 conf + 1 cls + 1 l1")
    at = {step: learning_rate(cosine, step, 666) for step in (0, 998, 1997, 1998, 5161, 8325, 11489, 14651)}
    assert at[0] == pytest.approx(3e-4 / 1998)  # 3 epochs of 666 steps
    assert at[998] == pytest.approx(1.5e-4)  # half way up
    assert at[1997] == at[1998] == pytest.approx(3e-4)
    # 19 epochs of cosine are 12654 steps; 8325 = 1998 + 6327 is half of them.
    assert at[8325] == pytest.approx((3e-4 + 1.5e-5) / 2)
    # A quarter is 3163.5 steps: the two steps beside it lie either side of the value there.
    quarter = 1.5e-5 + 2.85e-4 * (1 + math.sqrt(0.5)) / 2
    assert at[5161] > quarter > learning_rate(cosine, 5162, 666)
    assert at[11489] == pytest.approx(1.5e-5 + 2.85e-4 * (1 - math.sqrt(0.5)) / 2, rel=1e-3)
    assert at[14651] == pytest.approx(1.5e-5, rel=1e-6)  # the last step of epoch 22
    assert learning_rate(clean, 0, 666) == 1.5e-5
    assert learning_rate(clean, 4 * 666, 666) == pytest.approx(0.75e-5)  # the diary's rate falls here, too
    assert learning_rate(clean, 8 * 666 - 1, 666) == pytest.approx(1.5e-5 / (8 * 666))


def test_yolox_itself_ends_with_clean_epochs_at_its_lowest_rate_and_freezes_nothing():
    settings = ("SOLVER.MAX_LR=2e-3", "SOLVER.MIN_LR=1e-4", "SOLVER.NUM_EPOCHS=25", "SOLVER.ANN_EPOCHS=5")
    cosine, clean = phases_of_boxes("yolox", *settings).values()
    assert (cosine.epochs, cosine.augment, cosine.freeze, cosine.loss) == (25, True, (), None)
    assert (clean.epochs, clean.augment, clean.freeze) == (5, False, ())
    assert clean.loss == "5 iou + 1 conf + 1 cls + 1 l1"
    assert {learning_rate(clean, step, 10) for step in range(50)} == {1e-4}


def test_flat_cosine_stays_then_falls_over_the_anneal_epochs():
    phases = phases_of("flat_cosine", "SOLVER.MIN_LR=0")
    flat, anneal = phases["flat"], phases["anneal"]
    assert (flat.epochs, flat.patience, flat.start_from) == (100, 5, "last")
    assert (anneal.epochs, anneal.patience, anneal.start_from) == (4, None, "best")
    assert {learning_rate(flat, step, 10) for step in range(1000)} == {1e-3}
    falling = [learning_rate(anneal, step, 10) for step in range(40)]
    assert falling[0] == 1e-3
    assert falling[10] == pytest.approx(1e-3 * (1 + math.sqrt(0.5)) / 2)
    assert falling[20] == pytest.approx(5e-4)
    assert falling[39] == pytest.approx(1e-3 * (1 + math.cos(math.pi * 39 / 40)) / 2)


def test_one_cycle_rises_for_30_percent_and_falls_to_the_lowest():
    (cycle,) = phases_of("one_cycle", "SOLVER.NUM_EPOCHS=30").values()
    rates = [learning_rate(cycle, step, 100) for step in range(3000)]
    assert rates[0] == pytest.approx(1e-3 / 25)
    assert rates[450] == pytest.approx(1e-3 * (1 + 1 / 25) / 2)  # half way up
    assert rates[900] == max(rates) == pytest.approx(1e-3)
    assert rates[1950] == pytest.approx(5e-4, rel=1e-4)  # half way down
    assert rates[2999] == pytest.approx(1e-8, rel=0.2)


def test_poly_warms_up_then_decays_with_its_power():
    (poly,) = phases_of("poly_warmup", "SOLVER.WARMUP_EPOCHS=2", "SOLVER.NUM_EPOCHS=12", "SOLVER.MIN_LR=0").values()
    at = {step: learning_rate(poly, step, 50) for step in (0, 99, 100, 350, 599)}
    assert at[0] == pytest.approx(1e-3 / 100)
    assert at[99] == at[100] == pytest.approx(1e-3)
    assert at[350] == pytest.approx(1e-3 * 0.5**0.9)
    assert at[599] == pytest.approx(1e-3 * (1 / 500) ** 0.9)


def test_the_cityscapes_diary_warms_up_for_500_steps_whatever_an_epoch_is():
    (poly,) = phases_of("cityscapes_poly", "SOLVER.MAX_LR=3e-4", "SOLVER.MIN_LR=0", "SOLVER.NUM_EPOCHS=60").values()
    for steps_per_epoch in (100, 371, 1487):
        assert learning_rate(poly, 0, steps_per_epoch) == pytest.approx(3e-4 / 500)
        assert learning_rate(poly, 249, steps_per_epoch) == pytest.approx(1.5e-4)
        assert learning_rate(poly, 499, steps_per_epoch) == pytest.approx(3e-4)
    # 60 epochs of 100 steps without the warm-up are 5500 steps; half of them after step 500 + 2750.
    assert learning_rate(poly, 3250, 100) == pytest.approx(3e-4 * 0.5**0.9)


@pytest.mark.parametrize("power", [0.9, 1.0, 1.2, 2.0])
def test_a_power_raised_at_epoch_40_goes_on_along_the_same_curve(power):
    phases = phases_of("cityscapes_power", f"SOLVER.POWER={power}", "SOLVER.MAX_LR=1e-4", "SOLVER.MIN_LR=0")
    before = [learning_rate(phases["poly"], step, 100) for step in range(4000)]
    after = [learning_rate(phases["steeper"], step, 100) for step in range(2000)]
    assert before[3999] == pytest.approx(1e-4 * (2001 / 5500) ** 0.9)
    assert after[0] == pytest.approx(1e-4 * (2000 / 5500) ** power)
    assert after[1000] == pytest.approx(1e-4 * (1000 / 5500) ** power)
    if power == 0.9:  # nothing changed: one curve, cut in two
        (whole,) = phases_of(
            "cityscapes_poly", "SOLVER.NUM_EPOCHS=60", "SOLVER.MAX_LR=1e-4", "SOLVER.MIN_LR=0"
        ).values()
        assert before + after == [learning_rate(whole, step, 100) for step in range(6000)]


def test_the_cityscapes_diary_freezes_at_epoch_44_and_changes_its_loss_at_46():
    poly, frozen, lovasz = phases_of("cityscapes_freeze").values()
    assert [phase.epochs for phase in (poly, frozen, lovasz)] == [44, 2, 14]
    assert [phase.curve_start for phase in (poly, frozen, lovasz)] == [0, 44, 46]
    assert poly.freeze == ()
    assert frozen.freeze == lovasz.freeze == ("encoder.bn1", *(f"encoder.layer{number}" for number in (1, 2, 3, 4)))
    assert [phase.loss for phase in (poly, frozen, lovasz)] == [None, None, "0.5 ce + 0.5 lovasz"]


def test_run_5_of_the_cityscapes_diary_is_a_plan_with_each_decision_where_it_was_taken():
    plan = phases_of("cityscapes_decided", "SOLVER.NUM_EPOCHS=60", "SOLVER.MAX_LR=2e-4", "SOLVER.MIN_LR=0")
    assert {name: (phase.epochs, phase.curve_start, phase.power) for name, phase in plan.items()} == {
        "poly": (28, 0, 0.9),
        "steeper": (18, 28, 1.2),
        "frozen": (1, 46, 2.0),
        "gentler": (13, 47, 1.2),
    }
    assert [phase.loss for phase in plan.values()] == [None, None, *["0.5 ce(stride=8) + 0.5 lovasz"] * 2]
    layers = ("encoder.bn1", *(f"encoder.layer{number}" for number in (1, 2, 3, 4)))
    assert [phase.freeze for phase in plan.values()] == [(), (), layers, layers]
    # 60 epochs of 100 steps less the warm-up are 5500 steps; epoch 47 begins at step 4600, 4100 of them later.
    assert learning_rate(plan["frozen"], 0, 100) == pytest.approx(2e-4 * (1400 / 5500) ** 2)
    assert learning_rate(plan["gentler"], 0, 100) == pytest.approx(2e-4 * (1300 / 5500) ** 1.2)


@pytest.fixture(scope="module")
def loaded() -> Loaded:
    return load("ExpAAB")


@given(st.data())
def test_a_phase_that_only_goes_on_after_an_epoch_changes_no_rate(loaded, data):
    epochs = data.draw(st.integers(2, 12))
    afters = sorted(data.draw(st.sets(st.integers(1, epochs - 1), min_size=1, max_size=4)))
    kind = data.draw(st.sampled_from(["flat", "cosine", "one_cycle", "poly", "linear"]))
    warmup = data.draw(st.integers(0, 2 * 5)) if kind != "one_cycle" else 0
    whole = f"- {{NAME: whole, EPOCHS: {epochs}, LR: {kind}, WARMUP_STEPS: {warmup}, POWER: 1.3}}\n"
    later = "".join(f"- {{NAME: after {after}, AFTER: {after}}}\n" for after in afters)

    def rates(text: str) -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "mine.yaml"
            path.write_text(text)
            plan = load_plan(path, "mine.yaml", loaded.config.solver, 1e-3, loaded.origins)
        return [learning_rate(phase, step, 5) for phase in plan for step in range(phase.epochs * 5)]

    assert rates(whole + later) == rates(whole)


@pytest.mark.parametrize(
    ("mix", "losses"),
    [
        ("ce", {"ce": 1}),
        ("0.5 ce + 0.5 lovasz", {"ce": 0.5, "lovasz": 0.5}),
        ("0.7 ce + 0.3 lovasz", {"ce": 0.7, "lovasz": 0.3}),
        ("0.7 ce + 0.3 tversky", {"ce": 0.7, "tversky": 0.3}),
        ("0.7 ce + 0.3 dice", {"ce": 0.7, "dice": 0.3}),
        ("ce + focal", {"ce": 1, "focal": 1}),
        ("0.5 ce + 0.25 lovasz + 0.25 dice", {"ce": 0.5, "lovasz": 0.25, "dice": 0.25}),
        ("0.6 ce + 0.2 focal + 0.2 lovasz", {"ce": 0.6, "focal": 0.2, "lovasz": 0.2}),
    ],
)
def test_the_eight_mixes_of_the_cityscapes_diary_are_read_and_stand_in_its_plan(mix, losses, project):
    assert dict(parse_mix(mix)) == losses
    assert dict(parse_mix(load("ExpAAB", (f"LOSS_FN.MIX={mix}",)).config.loss_fn.mix)) == losses
    assert mix in (project / "configs/plans/cityscapes_poly.yaml").read_text()


def test_a_fresh_head_warms_up_on_a_frozen_encoder_and_then_everything_learns():
    head, thawed = phases_of("freeze_then_thaw", "SOLVER.WARMUP_EPOCHS=1").values()
    assert (head.epochs, head.freeze, thawed.freeze) == (3, ("encoder",), ())
    assert [learning_rate(head, step, 4) for step in range(5)] == pytest.approx([2.5e-4, 5e-4, 7.5e-4, 1e-3, 1e-3])
    assert learning_rate(thawed, 0, 4) == pytest.approx(2.5e-4)


def test_a_clean_tail_trains_without_augmentation_at_the_lowest_rate():
    cosine, clean = phases_of("warmup_cosine_clean_tail", "SOLVER.MIN_LR=1e-5", "SOLVER.WARMUP_EPOCHS=3").values()
    assert (cosine.warmup, cosine.augment) == (3, True)
    assert (clean.epochs, clean.augment, clean.max_lr) == (4, False, 1e-5)


def test_every_plan_of_the_project_can_be_loaded(project):
    plans = [path.stem for path in (project / "configs" / "plans").glob("*.yaml")]
    assert len(plans) >= 10
    for plan in plans:
        assert (phases_of_boxes if plan in OF_BOXES else phases_of)(plan), plan


# What holds for every phase.

RATES = st.floats(1e-6, 1.0)


@st.composite
def phases(draw: st.DrawFn) -> Phase:
    curve_epochs = draw(st.integers(1, 12))
    start = draw(st.integers(0, curve_epochs - 1))
    high, share = draw(RATES), draw(st.floats(0, 1))
    curve = draw(st.sampled_from(["flat", "cosine", "one_cycle", "poly", "linear"]))
    return Phase(
        name="any",
        epochs=draw(st.integers(1, curve_epochs - start)),
        lr=curve,
        max_lr=high,
        min_lr=high * share,
        warmup=0 if curve == "one_cycle" else draw(st.sampled_from([0, 0, 0.5, 1, curve_epochs])),
        power=draw(st.floats(0.7, 3)),
        curve_epochs=curve_epochs,
        curve_start=start,
    )


@given(phases(), st.integers(1, 40))
def test_the_rate_lies_between_0_and_the_highest(phase, steps_per_epoch):
    rates = [learning_rate(phase, step, steps_per_epoch) for step in range(phase.epochs * steps_per_epoch)]
    assert all(0 < rate <= phase.max_lr * (1 + 1e-12) or rate == phase.min_lr for rate in rates)
    is_past_warmup = phase.curve_start >= phase.warmup
    if is_past_warmup and phase.lr != "one_cycle":
        assert all(rate >= phase.min_lr * (1 - 1e-12) for rate in rates)


@given(phases(), st.integers(8, 40))
def test_the_rate_has_no_jumps_inside_a_phase(phase, steps_per_epoch):
    rates = [learning_rate(phase, step, steps_per_epoch) for step in range(phase.epochs * steps_per_epoch)]
    warmup_steps = phase.warmup * steps_per_epoch
    curve_steps = max(1, phase.curve_epochs * steps_per_epoch - warmup_steps)
    # Steepest: the rise of one cycle, pi / 2 over 30 % of the steps; a power of 3; the first step of a power of 0.7.
    steepest = phase.max_lr * max(6 / curve_steps, (1 / curve_steps) ** 0.7, 1 / max(1, warmup_steps))
    assert all(abs(after - before) <= steepest * 1.01 for before, after in itertools.pairwise(rates))


@given(phases(), st.integers(1, 40))
def test_a_warm_up_begins_above_0_and_ends_at_the_highest(phase, steps_per_epoch):
    first = learning_rate(phase, 0, steps_per_epoch)
    assert first > 0 or phase.min_lr == 0
    if phase.warmup and phase.curve_start == 0:
        last = math.ceil(phase.warmup * steps_per_epoch) - 1
        assert first == pytest.approx(phase.max_lr * min(1, 1 / (phase.warmup * steps_per_epoch)))
        assert learning_rate(phase, last, steps_per_epoch) == pytest.approx(phase.max_lr)


@given(phases(), st.integers(1, 40))
def test_a_curve_cut_into_phases_is_the_same_curve(phase, steps_per_epoch):
    whole = Phase(**{**vars(phase), "epochs": phase.curve_epochs, "curve_start": 0})
    offset = round(phase.curve_start * steps_per_epoch)
    for step in range(phase.epochs * steps_per_epoch):
        assert learning_rate(phase, step, steps_per_epoch) == learning_rate(whole, offset + step, steps_per_epoch)


# What a plan file may say.


def test_a_number_may_be_the_name_of_a_solver_key(configs):
    (configs / "plans" / "mine.yaml").write_text(
        "- {NAME: a, EPOCHS: ANN_EPOCHS, LR: poly, POWER: POWER, PATIENCE: PATIENCE, MAX_LR: MIN_LR, MIN_LR: 0}\n"
    )
    (phase,) = load("ExpAAB", ("SOLVER.PLAN=mine",)).plan
    assert phase == Phase("a", 4, "poly", max_lr=1e-8, min_lr=0.0, patience=5, power=0.9)


def test_so_may_the_numbers_of_a_warm_up_and_of_a_curve(configs):
    (configs / "plans" / "mine.yaml").write_text(
        "- {NAME: a, EPOCHS: NUM_EPOCHS, LR: linear, WARMUP: WARMUP_EPOCHS}\n"
        "- {NAME: b, EPOCHS: ANN_EPOCHS, LR: linear, WARMUP_STEPS: PATIENCE, CURVE_EPOCHS: NUM_EPOCHS, "
        "CURVE_START: WARMUP_EPOCHS}\n- {NAME: c, AFTER: PATIENCE}\n"
    )
    numbers = {"NUM_EPOCHS": 9, "WARMUP_EPOCHS": 2, "ANN_EPOCHS": 4, "PATIENCE": 11, "MAX_LR": 1, "MIN_LR": 0}
    loaded = load("ExpAAB", ("SOLVER.PLAN=mine", *(f"SOLVER.{key}={value}" for key, value in numbers.items())))
    alike = {"lr": "linear", "max_lr": 1, "min_lr": 0}
    assert loaded.plan == (
        Phase("a", 9, warmup=2, **alike),
        Phase("b", 2, warmup_steps=11, curve_epochs=9, curve_start=2, **alike),
        Phase("c", 2, warmup_steps=11, curve_epochs=9, curve_start=4, **alike),
    )


def test_a_phase_without_rates_takes_the_solvers(configs):
    (configs / "plans" / "mine.yaml").write_text("- NAME: a\n  EPOCHS: 2\n  LR: linear\n")
    (phase,) = load("ExpAAB", ("SOLVER.PLAN=mine", "SOLVER.MAX_LR=0.5")).plan
    assert (phase.max_lr, phase.min_lr) == (0.5, 1e-8)


A = "- {NAME: a, EPOCHS: 2, LR: flat}\n"


def test_a_phase_that_goes_on_takes_all_from_the_one_before_but_its_name_and_its_start(configs):
    (configs / "plans" / "mine.yaml").write_text(
        A + "- {NAME: b, EPOCHS: 4, LR: poly, POWER: 2, START_FROM: best, FREEZE: [encoder], AUGMENT: false, "
        "CURVE_EPOCHS: 9, CURVE_START: 3}\n- {NAME: c, AFTER: 3, FREEZE: []}\n- {NAME: d, AFTER: 5, POWER: 3}\n"
    )
    _, b, c, d = load("ExpAAB", ("SOLVER.PLAN=mine", "SOLVER.MAX_LR=1", "SOLVER.MIN_LR=0")).plan
    alike = {"lr": "poly", "max_lr": 1, "min_lr": 0, "curve_epochs": 9, "augment": False}
    assert b == Phase("b", 1, power=2, start_from="best", curve_start=3, freeze=("encoder",), **alike)
    assert c == Phase("c", 2, power=2, start_from="last", curve_start=4, **alike)
    assert d == Phase("d", 1, power=3, start_from="last", curve_start=6, **alike)


def test_the_limits_of_a_phase_are_allowed_themselves(configs):
    (configs / "plans" / "mine.yaml").write_text(
        "- {NAME: a, EPOCHS: 2, LR: poly, MAX_LR: 1, MIN_LR: 1, WARMUP: 2}\n"
        "- {NAME: b, EPOCHS: 2, LR: poly, CURVE_START: 1, CURVE_EPOCHS: 3}\n"
    )
    a, b = load("ExpAAB", ("SOLVER.PLAN=mine",)).plan
    assert (a.max_lr, a.min_lr, a.warmup) == (1, 1, 2) and (b.curve_start, b.curve_epochs) == (1, 3)


def test_a_warm_up_of_one_and_a_half_steps_ends_between_two():
    phase = Phase("any", epochs=1, lr="linear", max_lr=1.0, min_lr=0.0, warmup=0.5)
    # Of 3 steps 1.5 are warm-up: 1 / 1.5, then 2 / 1.5, which is cut at 1; step 2 is a third of the way down.
    assert [learning_rate(phase, step, 3) for step in range(3)] == pytest.approx([2 / 3, 1, 2 / 3])


def test_behind_its_end_a_curve_keeps_its_last_rate():
    whole = Phase("any", epochs=1, lr="linear", max_lr=1.0, min_lr=0.25)
    assert [learning_rate(whole, step, 2) for step in (1, 2, 3)] == [0.625, 0.25, 0.25]
    only_warmup = Phase("any", epochs=1, lr="linear", max_lr=1.0, min_lr=0.25, warmup=1)
    assert [learning_rate(only_warmup, step, 2) for step in (0, 1, 2)] == [0.5, 1, 1]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", ": expected a list of phases, one per line: - {NAME: flat, EPOCHS: 3, LR: flat}"),
        ("[]\n", ": expected a list of phases"),
        ("NAME: a\n", ": expected a list of phases"),
        ("- flat\n", ":1: found 'flat', expected a phase such as {NAME: flat, EPOCHS: 3, LR: flat}"),
        (A + "- {NAME: b, LR: flat}\n", ":2: EPOCHS is missing; add it"),
        (A + "- {NAME: b, EPOCH: 2, LR: flat}\n", ":2: unknown key EPOCH; did you mean EPOCHS?"),
        (A + "- {NAME: b, EPOCHS: 2, EPOCHS: 3, LR: flat}\n", ":2: EPOCHS is given twice; keep one"),
        (
            A + "- {NAME: b, EPOCHS: 2, LR: FLAT}\n",
            ":2: LR: found 'FLAT', expected one of flat, cosine, one_cycle, poly, ",
        ),
        (A + "- {NAME: b, EPOCHS: 0, LR: flat}\n", ":2: EPOCHS: 0 is outside the allowed range (at least 1)"),
        (A + "- {NAME: b, EPOCHS: [2], LR: flat}\n", ":2: EPOCHS: found a list, expected an integer (at least 1)"),
        (
            A + "- {NAME: b, EPOCHS: 2, LR: flat, FREEZE: encoder}\n",
            ":2: FREEZE: found 'encoder', expected a list in brackets",
        ),
        (
            A + "- {NAME: b, EPOCHS: NUM_EPOCH, LR: flat}\n",
            ":2: EPOCHS: found NUM_EPOCH, expected a number or a SOLVER key; did you mean NUM_EPOCHS?",
        ),
        (A + "- {NAME: b, EPOCHS: POWER, LR: flat}\n", ":2 (SOLVER.POWER of configs/base.yaml:"),
        (
            A + "- {NAME: b, EPOCHS: COMPILE, LR: flat}\n",
            ":2: EPOCHS: found COMPILE, expected a number or a SOLVER key; the numbers are",
        ),
        (A + "- {NAME: a, EPOCHS: 2, LR: flat}\n", ":2: phase a: the name is used twice"),
        (
            "- {NAME: a, EPOCHS: 2, LR: flat, START_FROM: best}\n",
            ":1: phase a: START_FROM: best is not possible in the first phase",
        ),
        (A + "- {NAME: b, EPOCHS: 2, LR: flat, MIN_LR: 1}\n", ":2: phase b: MIN_LR 1 is above MAX_LR 0.001"),
        (
            A + "- {NAME: b, EPOCHS: 2, LR: poly, WARMUP: 3}\n",
            ":2: phase b: WARMUP of 3 epochs is longer than the 2 EPOCHS",
        ),
        (
            A + "- {NAME: b, EPOCHS: 2, LR: poly, WARMUP: 1, WARMUP_STEPS: 9}\n",
            ":2: phase b: WARMUP (epochs) and WARMUP_STEPS exclude",
        ),
        (A + "- {NAME: b, EPOCHS: 2, LR: one_cycle, WARMUP: 1}\n", ":2: phase b: one_cycle has a warm-up of its own"),
        (
            A + "- {NAME: b, EPOCHS: 2, LR: one_cycle, WARMUP_STEPS: 1}\n",
            ":2: phase b: one_cycle has a warm-up of its own",
        ),
        (A + "- {NAME: b, EPOCHS: 2, LR: poly, CURVE_START: 1}\n", ":2: phase b: CURVE_START needs CURVE_EPOCHS"),
        (
            A + "- {NAME: b, EPOCHS: 2, LR: poly, CURVE_START: 1, CURVE_EPOCHS: 2}\n",
            ":2: phase b: CURVE_START 1 + EPOCHS 2 is more than CURVE_EPOCHS 2",
        ),
        (
            A + "- {NAME: b, EPOCHS: 2, LR: flat, FREEZE: [encoder, encoder]}\n",
            ":2: phase b: FREEZE has a part twice",
        ),
        (
            A + "- {NAME: b, EPOCHS: 2, LR: flat, LOSS: 0.5 dicee}\n",
            ":2: phase b: LOSS: cannot read '0.5 dicee' in the loss",
        ),
        *(
            (A + f"- {{NAME: b, AFTER: 1, {key}: 2}}\n", f":2: AFTER takes the rest of the phase before; remove {key}")
            for key in ("EPOCHS", "PATIENCE", "CURVE_EPOCHS", "CURVE_START")
        ),
        ("- {NAME: a, AFTER: 1}\n", ":1: AFTER needs a phase before it, which ends there; give EPOCHS"),
        (
            "- {NAME: a, EPOCHS: 4, LR: flat, PATIENCE: 2}\n- {NAME: b, AFTER: 3}\n",
            ":2: AFTER 3: phase a may end earlier by PATIENCE, so nobody knows which epoch that is",
        ),
        (
            A + "- {NAME: b, EPOCHS: 3, LR: flat}\n- {NAME: c, AFTER: 9}\n",
            ":3: AFTER 9: the phase before, b, lasts from after epoch ",
        ),
        *(
            (
                A + f"- {{NAME: b, EPOCHS: 3, LR: flat}}\n- {{NAME: c, AFTER: {after}}}\n",
                f":3: AFTER {after}: the phase before, b, lasts from after epoch 2 to epoch 5; expected 3 to 4",
            )
            for after in (1, 2, 5, 6)  # 2 and 5 would leave b or c without an epoch
        ),
        (A + "- {NAME: b, AFTER: soon}\n", ":2: AFTER: found soon, expected a number or a SOLVER key"),
    ],
)
def test_an_impossible_plan_is_refused_with_file_and_line(text, message, configs):
    assert refusal(configs, text).startswith(f"configs/plans/mine.yaml{message}")


@pytest.mark.parametrize(
    "text",
    ["", "ce +", "+", "2", "ce ce", "ce + ce", "0 ce", "-1 ce", "nan ce", "1e999 ce", "1_0 ce", "CE", "1 ce lovasz"],
)
def test_a_mix_that_cannot_be_read_is_refused(text):
    with pytest.raises(UserError, match=r"^cannot read .* in the loss mix "):
        parse_mix(text)


@pytest.mark.parametrize(
    ("text", "mix"),
    [
        ("0.7 ce + 0.3 tversky(alpha=0.3, beta=0.7)", {"ce": 0.7, "tversky": 0.3}),
        ("0.7 ce+0.3 tversky(beta=1,alpha=5e-1)", {"ce": 0.7, "tversky(alpha=0.5 beta=1)": 0.3}),
        ("focal(gamma=2)", {"focal": 1}),
        ("2 focal ( gamma = 0.50 )", {"focal(gamma=0.5)": 2}),
        ("0.5 ce + 0.5 ce(top=0.1)", {"ce": 0.5, "ce(top=0.1)": 0.5}),
        ("ce()", {"ce": 1}),
        ("bce(smooth=0.1, stride=8)", {"bce(stride=8 smooth=0.1)": 1}),
    ],
)
def test_a_terms_name_has_the_settings_that_are_not_by_default(text, mix):
    assert dict(parse_mix(text)) == mix
    assert all("," not in name for name in mix)  # which would need quotes in a table


@given(st.sampled_from(sorted(SETTINGS)), st.data())
def test_a_terms_name_says_its_settings_to_the_last_digit(loss, data):
    known = {word: one for word, one in SETTINGS[loss].items() if word != "below"}
    drawn = {
        word: data.draw(
            st.integers(1, 64) if one.is_whole else st.floats(max(one.allowed.least, 0.01), one.allowed.most)
        )
        for word, one in known.items()
    }
    inside = ", ".join(f"{word}={value!r}" for word, value in data.draw(st.permutations(sorted(drawn.items()))))
    ((name, _),) = parse_mix(f"{loss}({inside})")
    found, own = term_parts(name)
    assert (found, {word: one.default for word, one in known.items()} | own) == (loss, drawn)
    assert parse_mix(name.replace(" ", ", ")) == ((name, 1),)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("tversky(alfa=0.3)", "tversky has no 'alfa'; did you mean alpha?"),
        ("tversky(gamma=2)", "tversky has no 'gamma'; tversky takes alpha, beta"),
        ("ce(depth=2)", "ce has no 'depth'; ce takes stride, top, below, smooth"),
        ("dice(smooth=1)", "dice has no 'smooth'; dice takes no settings"),
        ("focal(2)", "focal: found '2', expected word=number; focal takes gamma, stride, top"),
        ("focal(gamma=two)", "focal: gamma: found 'two', expected a number (at least 0, at most 10)"),
        ("focal(gamma=-1)", "focal: gamma: found '-1', expected a number (at least 0, at most 10)"),
        ("ce(stride=2.5)", "ce: stride: found '2.5', expected a whole number (at least 1, at most 64)"),
        ("ce(top=0)", "ce: top: found '0', expected a number (above 0, at most 1)"),
        ("ce(top=0.1, top=0.2)", "ce: top is given twice; keep one"),
        ("ce(below=0.7)", "below adds pixels to the share of top; give both, such as ce(top=0.1, below=0.7)"),
        ("tversky(alpha=0, beta=0)", "tversky: alpha and beta are both 0, and no error would cost anything; raise one"),
        ("focal + focal(gamma=2)", "focal is given twice; add up their weights"),
        ("focl(gamma=2)", "did you mean focal?"),
        ("ce(top=0.1", "expected one pair of parentheses at the end, as in focal(gamma=2)"),
        ("ce(top=0.1) 0.5", "expected one pair of parentheses at the end, as in focal(gamma=2)"),
    ],
)
def test_settings_that_a_loss_does_not_have_are_refused_with_the_remedy(text, why):
    with pytest.raises(UserError) as caught:
        parse_mix(text)
    assert why in str(caught.value)


def test_settings_are_read_in_a_config_and_in_a_phase_and_refused_with_their_key(configs):
    mix = "0.7 ce + 0.3 tversky(alpha=0.3, beta=0.7)"
    assert load("ExpAAB", (f"LOSS_FN.MIX={mix}",)).config.loss_fn.mix == mix
    with pytest.raises(UserError, match=r"^command line: LOSS_FN.MIX: cannot read 'focal\(gama=2\)' in the loss mix"):
        load("ExpAAB", ("LOSS_FN.MIX=focal(gama=2)",))
    text = A + "- {NAME: b, EPOCHS: 2, LR: flat, LOSS: 'ce(topp=0.1)'}\n"
    assert ":2: phase b: LOSS: cannot read 'ce(topp=0.1)' in the loss mix" in refusal(configs, text)


def test_the_mixes_of_a_config_are_its_own_and_those_of_phases():
    config = load("DemoAAA", ["LOSS_FN.MIX=1 ce"]).config
    plan = (Phase("a", 1, "flat", 0.1, 0.0), Phase("b", 1, "flat", 0.1, 0.0, loss="1 dice"))
    of_phase = GivenMix("SOLVER.PLAN", "1 dice", f"{config.solver.plan}, phase b: ", "LOSS: ")
    assert [*given_mixes(config, plan)] == [GivenMix("LOSS_FN.MIX", "1 ce", "", ""), of_phase]
