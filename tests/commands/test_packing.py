"""Which run of a study begins in a session: the order of the study, and what can still end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.commands.packing import MARGIN, NO_TIME, Packer, Planned, taken_s
from pipeline.config.study import Training
from pipeline.engine.api import NOT_BEGUN, Outcome, Request
from pipeline.engine.stopping import Stop

EPOCHS = 10
OVERRIDES = ("SOLVER.PLAN=flat_cosine", "SOLVER.NUM_EPOCHS=6", "SOLVER.ANN_EPOCHS=4")


def planned(setting: str, seed: int = 0) -> Planned:
    training = Training(setting, 0, seed, "DemoAAA", OVERRIDES, f"{setting}-{seed}")
    return Planned(training, Request("DemoAAA", (f"EXPERIMENT.SEED={seed}", setting), f"{setting} {seed}"))


def packer(runs: Path, names: list[tuple[str, int]], left_s: float | None, lines: list[str] | None = None) -> Packer:
    """Returns what packs runs into a session of so many seconds; None: without an end."""
    log = (lambda line: None) if lines is None else lines.append
    return Packer([planned(*name) for name in names], runs, Stop(left_s), log, "evaluate")


def finish(runs: Path, name: str, train_s: float, evaluate_s: float = 0.0, timings: str = "") -> None:
    """Writes what a finished run leaves."""
    folder = runs / name
    (folder / ".stages").mkdir(parents=True)
    for stage, seconds in (("train", train_s), ("evaluate", evaluate_s)):
        (folder / ".stages" / f"{stage}.json").write_text(json.dumps({"seconds": seconds}))
    (folder / "metrics.json").write_text("{}")
    if timings:
        (folder / "timings.csv").write_text(timings)


def begin(runs: Path, name: str, epochs: int) -> None:
    """Writes what a run leaves that was stopped after so many epochs."""
    (runs / name).mkdir(parents=True)
    rows = "".join(f"{epoch},flat,0.1,1.0\n" for epoch in range(epochs + 1))
    (runs / name / "history.csv").write_text(f"epoch,phase,lr,valid_loss\n{rows}")


def begun(packer: Packer) -> list[str]:
    """Returns the labels of all runs that the packer proposes, each of which takes no time."""
    labels = []
    while (request := packer.propose()) is not None:
        labels.append(request.label)
        packer.note(Outcome(request, request.name, "done"))
    return labels


def test_without_an_end_of_the_session_runs_begin_in_their_order(tmp_path):
    finish(tmp_path, "b-1", 500)
    found = packer(tmp_path, [("a", 0), ("b", 0), ("a", 1), ("b", 1)], left_s=None)
    assert begun(found) == ["a 0", "b 0", "a 1", "b 1"]
    assert {outcome.state for outcome in found.finish()} == {"done"}


def test_a_run_that_cannot_end_is_not_begun_and_the_longest_that_can_is_first(tmp_path):
    for setting, seconds in (("a", 100), ("b", 400), ("c", 300), ("d", 900)):
        finish(tmp_path, f"{setting}-9", seconds)
    names = [(setting, 0) for setting in "abcd"] + [(setting, 9) for setting in "abcd"]
    lines: list[str] = []
    found = packer(tmp_path, names, left_s=1000, lines=lines)
    found.stop.set_budget(950)
    assert found.propose().label == "b 0"  # d would take 990 of 950 seconds
    found.stop.set_budget(350)
    assert found.propose().label == "c 0"
    found.stop.set_budget(200)
    assert found.propose().label == "a 0"
    assert found.propose() is None
    assert lines[0] == "b 0: starts (takes about 7 min 20 s, 15 min 49 s left)"
    outcomes = found.finish()
    assert [(one.request.label, one.state, one.message) for one in outcomes][:1] == [("d 0", "stopped", NO_TIME)]
    assert lines[-1] == "5 runs left for the next session (the next takes about 16 min 30 s)"


def test_the_next_seed_waits_until_all_settings_of_the_one_before_have_begun(tmp_path):
    finish(tmp_path, "short-7", 10)
    finish(tmp_path, "long-7", 500)
    found = packer(tmp_path, [("short", 0), ("long", 0), ("short", 1), ("long", 1), ("short", 7), ("long", 7)], 1000)
    found.stop.set_budget(400)
    assert begun(found) == ["short 0"]  # no short run of seed 1 before the long one of seed 0


def test_finished_runs_come_first_and_cost_nothing(tmp_path):
    finish(tmp_path, "b-0", 500)
    found = packer(tmp_path, [("a", 0), ("b", 0)], left_s=1000)
    found.stop.set_budget(100)
    assert begun(found) == ["b 0"]


def test_a_run_without_any_to_compare_begins(tmp_path):
    assert begun(packer(tmp_path, [("a", 0), ("b", 0)], left_s=1)) == ["a 0", "b 0"]


def test_of_an_interrupted_run_only_the_rest_must_fit(tmp_path):
    finish(tmp_path, "a-1", 1000)
    begin(tmp_path, "a-0", epochs=8)
    found = packer(tmp_path, [("a", 0), ("b", 0), ("a", 1)], left_s=300)
    assert found.expected_s(planned("a", 0).training) == pytest.approx(MARGIN * 1000 * (1 - 8 / EPOCHS))
    assert found.expected_s(planned("b", 0).training) == pytest.approx(MARGIN * 1000)
    assert found.propose().label == "a 0"


def test_a_run_longer_than_a_session_begins_in_one_of_its_own(tmp_path):
    finish(tmp_path, "a-1", 5000)
    assert begun(packer(tmp_path, [("a", 0), ("a", 1)], left_s=1000)) == ["a 0", "a 1"]


def test_what_a_run_took_counts_the_processes_that_were_stopped(tmp_path):
    timings = "epoch,seconds,samples_per_s\n1,300.0,1\n2,200.0,1\n2,100.0,1\n"
    finish(tmp_path, "a-0", train_s=250, evaluate_s=30, timings=timings)
    assert taken_s(tmp_path / "a-0") == 630
    finish(tmp_path, "a-1", train_s=700, evaluate_s=30, timings=timings)
    assert taken_s(tmp_path / "a-1") == 730


def test_a_stop_leaves_the_rest_without_a_word_of_time(tmp_path):
    found = packer(tmp_path, [("a", 0), ("b", 0)], left_s=None)
    found.note(Outcome(found.propose(), "a-0", "stopped", "Ctrl-C"))
    found.stop.reason = "Ctrl-C"
    assert found.propose() is None
    assert [(one.state, one.message) for one in found.finish()] == [("stopped", "Ctrl-C"), ("stopped", NOT_BEGUN)]
