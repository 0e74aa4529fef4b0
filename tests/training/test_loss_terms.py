"""Each term of a loss mix is recorded by its name: per epoch in history.csv, every few steps in steps.csv."""

from __future__ import annotations

import csv
from dataclasses import replace

import pytest

from pipeline.config.plan import Phase
from pipeline.errors import Stopped
from pipeline.paths import STEPS as STEPS_TABLE
from pipeline.paths import RunPaths
from pipeline.training import trainer
from tests.training.toy import STEPS, StopAt, history, make, results, run

MIX = "LOSS_FN.MIX=0.7 ce + 0.3 dice"
TERMS = {"ce": 0.7, "dice": 0.3}
BY_SCORE = "SOLVER.MONITOR=valid_dice"


def steps(paths: RunPaths) -> list[dict[str, str]]:
    """Returns the rows of `steps.csv`."""
    with open(paths / STEPS_TABLE) as file:
        return list(csv.DictReader(file))


def lovasz_at_the_end(*changes: str) -> tuple[Phase, ...]:
    """Returns a plan whose second phase has another mix."""
    flat, anneal = make("plan", [MIX, BY_SCORE, *changes]).plan
    return flat, replace(anneal, loss="0.6 ce + 0.4 lovasz")


def test_the_terms_of_an_epoch_add_up_to_its_loss_in_training_and_validation():
    rows = history(run(changes=[MIX]))
    for row in rows[1:]:
        for subset in ("train", "valid"):
            parts = {name: float(row[f"{subset}_loss_{name}"]) for name in TERMS}
            total = sum(weight * parts[name] for name, weight in TERMS.items())
            assert float(row[f"{subset}_loss"]) == pytest.approx(total, rel=1e-6)
            assert parts["ce"] != parts["dice"]
    assert rows[0]["train_loss_ce"] == "" and float(rows[0]["valid_loss_ce"]) > 0


def test_a_term_is_recorded_as_a_training_on_that_term_alone_records_its_loss():
    """Before training and at the first step both have the same weights."""
    mixed, alone = run("mixed", changes=[MIX]), run("alone", changes=["LOSS_FN.MIX=1 ce"])
    assert history(mixed)[0]["valid_loss_ce"] == history(alone)[0]["valid_loss"]
    assert steps(mixed)[0]["ce"] == steps(alone)[0]["loss"]


def test_the_terms_of_every_logged_step_add_up_to_its_loss():
    paths = run(changes=[MIX, "RUNTIME.LOG_STEPS=2"])
    rows = steps(paths)
    num_epochs = len(history(paths)) - 1
    every_step = [(epoch, step) for epoch in range(1, num_epochs + 1) for step in range(1, STEPS + 1)]
    wanted = every_step[1::2]
    assert [(int(row["epoch"]), int(row["step"])) for row in rows] == wanted
    for row in rows:
        total = sum(weight * float(row[name]) for name, weight in TERMS.items())
        assert float(row["loss"]) == pytest.approx(total, rel=1e-6) and float(row["lr"]) > 0


def test_a_mean_of_an_epochs_steps_is_the_epochs_loss():
    paths = run(changes=[MIX])
    first = [row for row in steps(paths) if row["epoch"] == "1"]
    for column, name in (("train_loss", "loss"), ("train_loss_ce", "ce"), ("train_loss_dice", "dice")):
        mean = sum(float(row[name]) for row in first) / len(first)
        assert float(history(paths)[1][column]) == pytest.approx(mean, rel=1e-6)


def test_a_single_term_adds_no_column():
    paths = run()
    assert not [name for name in history(paths)[0] if "_loss_" in name]
    assert list(steps(paths)[0]) == ["epoch", "step", "lr", "loss"]


def test_a_term_that_a_phase_does_not_use_is_empty_there():
    paths = run(changes=[MIX, BY_SCORE], plan=lovasz_at_the_end())
    rows = history(paths)
    for row in rows[1:]:
        used, unused = ("dice", "lovasz") if row["phase"] == "flat" else ("lovasz", "dice")
        assert row[f"train_loss_{unused}"] == "" and float(row[f"train_loss_{used}"]) > 0
        assert float(row["valid_loss_dice"]) > 0 and row["valid_loss_lovasz"] == ""  # by one loss for the whole plan
    assert {row["phase"] for row in rows} == {"flat", "anneal"}
    phase_of = {row["epoch"]: row["phase"] for row in rows}
    for row in steps(paths):
        assert row["lovasz" if phase_of[row["epoch"]] == "flat" else "dice"] == ""
        weights = {"ce": 0.7, "dice": 0.3} if phase_of[row["epoch"]] == "flat" else {"ce": 0.6, "lovasz": 0.4}
        assert float(row["loss"]) == pytest.approx(sum(w * float(row[name]) for name, w in weights.items()), rel=1e-6)


@pytest.mark.parametrize("changes", [(), ("SOLVER.SAVE_MINUTES=0",)], ids=["at a stop", "at every step"])
def test_a_run_that_is_stopped_and_resumed_has_the_same_tables(changes):
    options = {"changes": [MIX, BY_SCORE, *changes], "plan": lovasz_at_the_end(*changes)}
    expected = results(run("whole", **options))
    assert expected[STEPS_TABLE].count(b"\n") > 4 * STEPS
    for _ in range(100):
        try:
            paths = run("stopped", stop=StopAt(2), **options)
            break
        except Stopped:
            continue
    assert results(paths) == expected


@pytest.mark.parametrize("save_minutes", ["0", "60"])
def test_a_run_that_is_killed_at_any_step_and_resumed_has_the_same_tables(monkeypatch, save_minutes):
    """A kill loses the steps since the last save, whose lines are in steps.csv by then."""
    options = {"changes": [MIX, f"SOLVER.SAVE_MINUTES={save_minutes}"]}
    whole = run("whole", **options)
    expected, num_steps = results(whole), len(steps(whole))
    plain = trainer.train_step
    for count in range(0, num_steps, 3):
        left = [count]

        def killed(*arguments, left=left):
            left[0] -= 1
            if left[0] < 0:
                raise KeyboardInterrupt
            return plain(*arguments)

        monkeypatch.setattr(trainer, "train_step", killed)
        with pytest.raises(KeyboardInterrupt):
            run(f"killed {count}", **options)
        monkeypatch.setattr(trainer, "train_step", plain)
        assert results(run(f"killed {count}", **options)) == expected
