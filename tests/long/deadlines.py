"""Runs the tests' tiny competition against 20 deadlines and prints a table: none may be missed.

    python -m tests.long.deadlines FOLDER    about an hour; what an earlier call left in FOLDER is not repeated

Each run is a command of its own, from images to the report. Its time is that of the whole process. Half of them have a
plan that ends at the last moment, half one of a fixed length; images and network are small: an epoch takes less than
a second. A run without a deadline has the same plan with the epochs that its author would give it. Exit code 1 when a
deadline is missed, or a run has no checked submission.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.tiny import overrides, write_competition

PROJECT = Path(__file__).resolve().parent.parent.parent
SETTINGS = ("SWEEP.ENABLE=false", "SOLVER.MAX_LR=0.005", "SOLVER.PATIENCE=40", "SOLVER.ANN_EPOCHS=4")
REFUSED = 2  # exit code of a mistake in settings: too little time for one epoch
# Epochs of the run without a deadline. The flat plan may take far more where there is time, as its author meant.
PLANS = {"flat_cosine": 300, "one_cycle": 300}
DEADLINES_S = (80, 90, 100, 110, 120, 135, 150, 165, 180, 200)


@dataclass(frozen=True)
class Result:
    """How one run ended.

    Attributes:
        took_s: seconds of the process.
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
        if self.fault == f"exit code {REFUSED}":
            return "refused"
        return self.fault or ("in time" if self.deadline_s is None or self.took_s <= self.deadline_s else "MISSED")


def run(folder: Path, plan: str, deadline_s: float | None) -> Result:
    """Runs one command; a run that is finished already is read."""
    names = {"RUNS_DIR": "runs", "SUBMISSIONS_DIR": "submissions", "SCRATCH_DIR": "scratch"}
    name = f"{plan}-{deadline_s or 'unhurried'}"
    note = folder / f"{name}.json"
    if note.is_file():
        return Result(**json.loads(note.read_text()))
    given = [*SETTINGS, f"SOLVER.PLAN={plan}", f"SOLVER.NUM_EPOCHS={PLANS[plan]}", f"EXPERIMENT.SUFFIX={name}"]
    if deadline_s is not None:
        given.append(f"SOLVER.FINISH_WITHIN_HOURS={deadline_s / 3600:.6f}")
    environment = os.environ | {variable: str(folder / below) for variable, below in names.items()}
    before = set((folder / "runs").glob("demo-*"))
    began = time.monotonic()
    command = [sys.executable, "-m", "pipeline", "demo", *overrides(folder / "data", *given)]
    with open(folder / f"{name}.log", "w") as log:
        code = subprocess.run(command, cwd=PROJECT, env=environment, stdout=log, stderr=log).returncode
    took_s = time.monotonic() - began
    (own,) = set((folder / "runs").glob("demo-*")) - before
    fault = "" if code == 0 else f"exit code {code}"
    rows, score = [], float("nan")
    if not fault:
        with open(own / "history.csv") as file:
            rows = list(csv.DictReader(file))
        score = json.loads((own / "metrics.json").read_text())["scores"]["dice"]["mean"]
        fault = "" if json.loads((own / "submission.json").read_text())["checked"] else "submission not checked"
    annealed = sum(row["phase"] == rows[-1]["phase"] for row in rows)
    result = Result(plan, deadline_s, round(took_s, 1), len(rows) - 1, annealed, score, fault)
    note.write_text(json.dumps(vars(result)))
    return result


def main(folder: Path) -> int:
    """Runs all deadlines; returns the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "runs").mkdir(exist_ok=True)
    if not (folder / "data").is_dir():
        write_competition(folder / "data")
    print("| plan | deadline | finished after | epochs | of these in the last phase | Dice | unhurried |")
    print("|---|---|---|---|---|---|---|")
    is_good = True
    for plan in PLANS:
        unhurried = run(folder, plan, None)
        for deadline_s in DEADLINES_S:
            result = run(folder, plan, deadline_s)
            is_good &= result.end in ("in time", "refused")
            cells = [plan, f"{deadline_s} s", f"{result.took_s:.0f} s, {result.end}", result.epochs, result.annealed]
            cells.append(f"{result.score:.4f}")
            reference = f"{unhurried.score:.4f} ({unhurried.epochs} epochs, {unhurried.took_s:.0f} s)"
            print(f"| {' | '.join(map(str, [*cells, reference]))} |", flush=True)
    return 0 if is_good else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
