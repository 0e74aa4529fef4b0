"""A plan changed while it trains: the run goes on, remembers it, and is the same as by its final plan from nothing."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from pipeline.config import load as load_module
from pipeline.config.plan import Phase
from pipeline.engine import api
from pipeline.engine.stopping import Stop
from pipeline.errors import Stopped, UserError
from pipeline.paths import BEST, HISTORY, LAST, PLAN_CHANGES, PROJECT, REPORT, RunPaths
from pipeline.report.read import read_columns
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.trainer import train
from tests.tiny import draw_nothing, overrides, run_stages, tiny, write_competition
from tests.training.toy import make, run, script

POLY = Phase("poly", epochs=6, lr="poly", max_lr=0.05, min_lr=0.0, warmup_steps=3, power=0.9)


def cut(*changes: tuple[int, dict]) -> list[Phase]:
    """Returns POLY with changes after these epochs, each on top of those before, as AFTER in a plan's file."""
    plan, phase = [], POLY
    for after, change in (*changes, (POLY.epochs, {})):
        plan.append(replace(phase, epochs=after - int(phase.curve_start), curve_epochs=POLY.epochs))
        phase = replace(phase, name=f"after {after}", curve_start=float(after), **change)
    return plan


DECIDED = (
    (2, {"power": 1.2}),
    (4, {"freeze": ("encoder",), "loss": "0.5 ce + 0.5 dice", "power": 2.0}),
    (5, {"power": 1.2}),
)
WATCHED = ["SOLVER.MONITOR=valid_dice"]


def weights(path: Path) -> dict[str, torch.Tensor]:
    return load_checkpoint(path)["network"]


def assert_same_weights(paths: RunPaths, others: RunPaths) -> None:
    for name in (LAST, BEST):
        first, second = weights(paths / name), weights(others / name)
        assert first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)
        ours, theirs = (load_checkpoint(folder / name)["optimizer"]["state"] for folder in (paths, others))
        assert all(torch.equal(ours[index]["exp_avg"], theirs[index]["exp_avg"]) for index in ours)


class StopWhen(Stop):
    """A stop that is requested once so many epochs, and steps of the next one, are done."""

    def __init__(self, epoch: int, step: int) -> None:
        super().__init__()
        self.wanted, self.state = (epoch, step), None

    @property
    def requested(self) -> bool:
        if self.state is not None and (self.state.epoch, self.state.step) >= self.wanted:
            self.reason = "the test says so"
        return self.reason is not None


def train_until(name: str, epoch: int, step: int, **options) -> None:
    stop = StopWhen(epoch, step)
    training = make(name, stop=stop, **options)
    stop.state = training.state
    with pytest.raises(Stopped):
        train(training)
    assert (training.state.epoch, training.state.step) == (epoch, step)


@pytest.mark.parametrize("step", [0, 3])
def test_a_run_decided_on_the_way_ends_as_its_final_plan_from_nothing(step):
    """Run C05 of the Cityscapes diary in small: power, frozen backbone and losses changed while it trains."""
    whole = run("whole", plan=cut(*DECIDED), changes=WATCHED)
    lines: list[str] = []
    for number, (after, _) in enumerate(DECIDED):  # each decision is taken just before it is to be
        stopped = (after, 0) if step == 0 else (after - 1, step)
        train_until("decided", *stopped, plan=cut(*DECIDED[:number]), changes=WATCHED, log=lines.append)
    paths = run("decided", plan=cut(*DECIDED), changes=WATCHED, log=lines.append)
    assert_same_weights(paths, whole)
    assert (paths / HISTORY).read_bytes() == (whole / HISTORY).read_bytes()
    told = read_columns(paths / PLAN_CHANGES)
    assert told["epoch"] == [str(after - (step > 0)) for after, _ in DECIDED] and set(told["step"]) == {str(step)}
    assert told["what"][0] == "phase poly: EPOCHS 6 -> 2; phase after 2 added"
    assert len([line for line in lines if line.startswith("plan changed ")]) == len(DECIDED)
    assert not (whole / PLAN_CHANGES).exists()


def test_a_finished_training_goes_on_where_its_plan_becomes_longer():
    flat = Phase("flat", epochs=2, lr="flat", max_lr=0.05, min_lr=0.0)
    whole, paths = run("whole", plan=[replace(flat, epochs=5)]), run("longer", plan=[flat])
    lines: list[str] = []
    assert run("longer", plan=[replace(flat, epochs=5)], log=lines.append) == paths
    assert lines[0] == "plan changed after epoch 2: phase flat: EPOCHS 2 -> 5"
    assert_same_weights(paths, whole)


def test_a_monitor_may_change_where_the_weights_that_it_would_have_kept_are_there(monkeypatch):
    flat = [Phase("flat", epochs=4, lr="flat", max_lr=0.05, min_lr=0.0)]
    scores = {"dice": [0.1, 0.5, 0.3, 0.2, 0.1]}
    for losses, is_kept in (([9, 8, 9, 9, 9], True), ([9, 8, 7, 6, 5], False)):
        script(monkeypatch, losses, **scores)
        name = f"kept {is_kept}"
        train_until(name, 3, 0, plan=flat)
        if is_kept:
            training = make(name, plan=flat, changes=WATCHED)
            assert (training.state.best_epoch, training.state.best) == (1, 0.5)
            assert load_checkpoint(training.run.paths / BEST)["state"]["epoch"] == 1
        else:
            with pytest.raises(UserError, match=r"^SOLVER\.MONITOR: epoch 1 would be the best, whose weights are not"):
                make(name, plan=flat, changes=WATCHED)


def test_a_change_to_what_was_carried_out_is_refused_and_leaves_the_training_as_it_was():
    train_until("begun", 3, 2, plan=[POLY])
    before = {path.name: path.read_bytes() for path in make("begun", plan=[POLY]).run.paths.folder.glob("*.ckpt")}
    with pytest.raises(UserError) as caught:
        make("begun", plan=cut((3, {"power": 2.0})))
    first, *rest = str(caught.value).splitlines()
    assert "POWER 0.9 -> 2.0, LR" in first and "which would change epoch 4, but" in first and "3 epochs" in first
    assert "AFTER: 4 or later" in rest[0] and "train --force" in rest[1]
    paths = make("begun", plan=cut((4, {"power": 2.0}))).run.paths
    assert {path.name: path.read_bytes() for path in paths.folder.glob("*.ckpt")} == before


def test_a_finished_training_whose_past_changes_begins_anew():
    run("done", plan=[replace(POLY, epochs=2)])
    lines: list[str] = []
    assert make("done", plan=[replace(POLY, epochs=2, power=2.0)], log=lines.append).state.epoch == 0
    assert "which changes epoch 2; training begins anew" in lines[0]  # the first is warm-up and the top of the curve


# The whole chain, with the files that people edit.

PLAN = "- {NAME: poly, EPOCHS: 4, LR: poly, WARMUP_STEPS: 3, POWER: 0.9}\n"
LATER = PLAN + "- {NAME: decided, AFTER: 2, POWER: 2, LOSS: 1 ce, FREEZE: [encoder]}\n"
CHAIN = ("SOLVER.PLAN=mine", "SOLVER.MONITOR=valid_dice", "SWEEP.ENABLE=false", "SOLVER.MAX_LR=0.03")
KILLED = """
import sys
from pathlib import Path
from pipeline.config import load
load.CONFIGS = Path(sys.argv[1])
from pipeline.engine.api import run
run("demo", sys.argv[2:], "train", log=lambda line: print(line, flush=True))
"""


def test_a_run_that_is_killed_and_decided_anew_ends_as_its_final_files_from_nothing(tmp_path, configs, monkeypatch):
    draw_nothing(monkeypatch)
    data, plan = write_competition(tmp_path / "data"), configs / "plans" / "mine.yaml"
    plan.write_text(PLAN)
    command = [sys.executable, "-W", "ignore", "-c", KILLED, str(configs), *overrides(data, *CHAIN)]
    with subprocess.Popen(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True) as process:
        assert any(line.startswith("epoch   2") for line in process.stdout)
        process.kill()
    plan.write_text(PLAN.replace("0.9", "1.1"))
    loaded = tiny(data, *CHAIN)
    with pytest.raises(
        UserError, match=r"^SOLVER\.PLAN mine: phase poly: POWER 0\.9 -> 1\.1, LR .* would change epoch"
    ):
        run_stages(loaded, "train")
    plan.write_text(LATER)
    loaded = tiny(data, *CHAIN)
    paths, lines = run_stages(loaded)
    assert "plan changed after epoch 2: phase poly: EPOCHS 4 -> 2" in "\n".join(lines)
    assert "After epoch 2: phase poly: EPOCHS 4 -&gt; 2" in (paths / REPORT).read_text()
    decided = {name: (weights(paths / name), (paths / HISTORY).read_bytes()) for name in (LAST, BEST)}
    run_stages(loaded, "train", force=("train",))
    for name, (ours, rows) in decided.items():
        theirs = weights(paths / name)
        assert all(torch.equal(ours[key], theirs[key]) for key in theirs) and rows == (paths / HISTORY).read_bytes()
    assert not (paths / PLAN_CHANGES).exists()


def test_another_setting_of_a_begun_training_is_refused_by_its_key_and_force_begins_anew(
    tmp_path, configs, monkeypatch
):
    draw_nothing(monkeypatch)
    data, plan = write_competition(tmp_path / "data"), configs / "plans" / "mine.yaml"
    plan.write_text(PLAN)
    changes = overrides(data, *CHAIN)
    tree = load_module.nested(dict(change.split("=", 1) for change in changes))
    write_config(configs / "Mine.yaml", tree)
    stop = Stop()

    def stop_after_an_epoch(line: str) -> None:
        if line.startswith("epoch   1"):
            stop.reason = "the test says so"

    with pytest.raises(Stopped):
        api.run("Mine", last_stage="train", log=stop_after_an_epoch, stop=stop)
    tree["DATALOADERS"]["TRAIN"]["BATCH_SIZE"] = "1"
    write_config(configs / "Mine.yaml", tree)
    with pytest.raises(
        UserError, match=r"^DATALOADERS\.TRAIN\.BATCH_SIZE changed \(2 -> 1\), which would change epoch 1"
    ):
        api.run("Mine", last_stage="train", log=lambda line: None)
    finished = api.run("Mine", last_stage="train", log=lambda line: None, force=["train"])
    assert load_checkpoint(finished.paths / LAST)["state"]["epoch"] == 4


def write_config(path: Path, tree: dict) -> None:
    def lines(values: dict, indent: str) -> list[str]:
        found = []
        for key, value in values.items():
            found += (
                [f"{indent}{key}:", *lines(value, f"{indent}  ")]
                if isinstance(value, dict)
                else [f"{indent}{key}: {value}"]
            )
        return found

    path.write_text("\n".join(["BASE: demo", *lines(tree, "")]) + "\n")
