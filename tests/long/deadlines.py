"""Runs the tests' tiny competition against 20 deadlines and prints a table: none may be missed.

    python -m tests.long.deadlines                 20 deadlines on a simulated clock, in a quarter of an hour
    python -m tests.long.deadlines --real FOLDER   the same by the clock on the wall; on a machine that is idle
    python -m tests.long.deadlines --real FOLDER --seconds 120 180 --plans flat_cosine      only some of them

Each run is a whole chain, from images to the report. On the simulated clock each step, validation, prediction and
scoring takes its time, with a noise of a tenth either way; every other deadline meets a machine that becomes a third
slower on the way. Scores are real. A run without a deadline has the same plan. Exit code 1 when a deadline is missed,
or a run has no checked submission. By the real clock, each run is a process, and its time that of the process; what an
earlier call left in FOLDER is not repeated.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from pipeline.engine import api
from pipeline.errors import UserError
from pipeline.paths import HISTORY, METRICS, SUBMISSION, Folders, RunPaths
from pipeline.report.read import read_columns, read_json
from tests.tiny import draw_nothing, overrides, write_competition
from tests.training.simulated_clock import STEP_S, VALIDATION_S, Simulated, simulate, simulate_finishing

PROJECT = Path(__file__).resolve().parent.parent.parent
SETTINGS = ("SWEEP.ENABLE=false", "SOLVER.MAX_LR=0.005", "SOLVER.PATIENCE=60", "SOLVER.ANN_EPOCHS=4")
REFUSED = 2  # exit code of a mistake in settings: too little time for one epoch
NUM_EPOCHS = 100  # of a run without a deadline
PLANS = ("flat_cosine", "one_cycle")
EPOCHS_OF_TIME = (8, 12, 16, 20, 26, 32, 40, 50, 70, 100)  # simulated deadlines, in epochs of 65 s
REAL_DEADLINES_S = (80, 90, 100, 110, 120, 135, 150, 165, 180, 200)
SLOWDOWN = 4 / 3


@dataclass(frozen=True)
class Result:
    """How one run ended.

    Attributes:
        took_s: seconds, of the process or on the simulated clock.
        annealed: epochs of the last phase.
        score: Dice of the validation images.
    """

    plan: str
    deadline_s: float | None
    took_s: float
    epochs: int
    annealed: int
    score: float
    fault: str

    @property
    def end(self) -> str:
        """How it ended: in time, refused before training as there was no time for an epoch, MISSED, or at fault."""
        return self.fault or ("in time" if self.deadline_s is None or self.took_s <= self.deadline_s else "MISSED")


def settings_of(plan: str, name: str, deadline_s: float | None) -> list[str]:
    """Returns the overrides of a run."""
    given = [*SETTINGS, f"SOLVER.PLAN={plan}", f"SOLVER.NUM_EPOCHS={NUM_EPOCHS}", f"EXPERIMENT.SUFFIX={name}"]
    return given + ([] if deadline_s is None else [f"SOLVER.FINISH_WITHIN_HOURS={deadline_s / 3600:.6f}"])


def result_of(paths: RunPaths, plan: str, deadline_s: float | None, took_s: float) -> Result:
    """Returns how a run ended that has come to its end."""
    phases = read_columns(paths / HISTORY)["phase"][1:]  # without the row before training
    score = read_json(paths / METRICS)["scores"]["dice"]["mean"]
    fault = "" if read_json(paths / SUBMISSION)["checked"] else "submission not checked"
    return Result(plan, deadline_s, round(took_s, 1), len(phases), phases.count(phases[-1]), score, fault)


def run_simulated(folder: Path, plan: str, deadline_s: float | None, number: int) -> Result:
    """Runs a chain in this process on a simulated clock; every other one on a machine that becomes slower."""
    slower_after = (deadline_s or 0) / 2 if number % 2 else float("inf")
    stop = Simulated(seed=number, slower_after=slower_after, slowdown=SLOWDOWN)
    folders = Folders(folder / "runs", folder / "submissions", folder / "scratch", (), ())
    given = overrides(folder / "data", *settings_of(plan, f"{plan}-{number}", deadline_s))
    with pytest.MonkeyPatch.context() as patch:
        draw_nothing(patch)
        simulate(patch, stop)
        simulate_finishing(patch, stop)
        try:
            paths = api.run("demo", given, folders=folders, log=lambda line: None, stop=stop).paths
        except UserError as error:
            return Result(plan, deadline_s, stop.time_s, 0, 0, float("nan"), f"refused: {error}")
    return result_of(paths, plan, deadline_s, stop.time_s)


def run_real(folder: Path, plan: str, deadline_s: float | None, number: int) -> Result:
    """Runs a chain in a process of its own; a run that is finished already is read."""
    name = f"{plan}-unhurried" if deadline_s is None else f"{plan}-{deadline_s:.0f}-s"
    note = folder / f"{name}.json"
    if note.is_file():
        return Result(**json.loads(note.read_text()))
    variables = {"RUNS_DIR": "runs", "SUBMISSIONS_DIR": "submissions", "SCRATCH_DIR": "scratch"}
    environment = os.environ | {variable: str(folder / below) for variable, below in variables.items()}
    before = set((folder / "runs").glob("demo-*"))
    began = time.monotonic()
    given = overrides(folder / "data", *settings_of(plan, name, deadline_s))
    with open(folder / f"{name}.log", "w") as log:
        command = [sys.executable, "-m", "pipeline", "demo", *given]
        code = subprocess.run(command, cwd=PROJECT, env=environment, stdout=log, stderr=log).returncode
    took_s = time.monotonic() - began
    (own,) = set((folder / "runs").glob("demo-*")) - before
    if code:
        fault = "refused" if code == REFUSED else f"exit code {code}"
        result = Result(plan, deadline_s, round(took_s, 1), 0, 0, float("nan"), fault)
    else:
        result = result_of(RunPaths(own, folder / "submissions"), plan, deadline_s, took_s)
    note.write_text(json.dumps(vars(result)))
    return result


def main(folder: Path, is_real: bool, seconds: Sequence[float], plans: Sequence[str]) -> int:
    """Runs all deadlines; returns the exit code."""
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    if not (folder / "data").is_dir():
        write_competition(folder / "data")
    epoch_s = 4 * STEP_S + VALIDATION_S
    deadlines_s = seconds or (REAL_DEADLINES_S if is_real else [count * epoch_s for count in EPOCHS_OF_TIME])
    run = run_real if is_real else run_simulated
    print("| plan | deadline | finished after | epochs | of these in the last phase | Dice | without a deadline |")
    print("|---|---|---|---|---|---|---|")
    ends = []
    for plan in plans:
        unhurried = run(folder, plan, None, 0)
        for number, deadline_s in enumerate(deadlines_s, start=1):
            result = run(folder, plan, deadline_s, number)
            ends.append(result.end)
            cells = [
                plan,
                f"{deadline_s:.0f} s",
                f"{result.took_s:.0f} s, {result.end}",
                result.epochs,
                result.annealed,
            ]
            cells += [f"{result.score:.4f}", f"{unhurried.score:.4f}, {unhurried.epochs} epochs"]
            print(f"| {' | '.join(map(str, cells))} |", flush=True)
    print(f"{ends.count('in time')} of {len(ends)} in time, {ends.count('MISSED')} missed")
    return 0 if ends.count("in time") == len(ends) else 1


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="20 deadlines")
    parser.add_argument("--real", type=Path, metavar="FOLDER")
    parser.add_argument("--seconds", type=float, nargs="+", default=(), help="these deadlines instead of all ten")
    parser.add_argument("--plans", nargs="+", choices=PLANS, default=PLANS)
    chosen = parser.parse_args()
    if chosen.real:
        sys.exit(main(chosen.real.resolve(), True, chosen.seconds, chosen.plans))
    with tempfile.TemporaryDirectory() as temporary:
        sys.exit(main(Path(temporary), False, chosen.seconds, chosen.plans))
