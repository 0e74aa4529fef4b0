"""Hours of sessions that end by their time budget and go on, in one process: its memory must stay flat.

    python -m tests.long.stops [--hours 12] [--minutes 5]

On a simulated clock on which a training step takes a minute: after `--minutes` the run stops in order, and the same
command goes on, as a program that uses the API would do. Prints the resident memory at each hour; exit code 1 when it
grew by more than MOST_MB from a quarter of the time to the end.
"""

from __future__ import annotations

import argparse
import gc
import os
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.engine import api
from pipeline.errors import Stopped
from pipeline.paths import Folders
from tests.tiny import draw_nothing, overrides, write_competition
from tests.training import simulated_clock

STEP_S = 60.0
MOST_MB = 20.0
SETTINGS = (
    *("SWEEP.ENABLE=false", "SOLVER.PLAN=constant", "SOLVER.NUM_EPOCHS=10000", "SOLVER.PATIENCE=10000"),
    *("SOLVER.OPTIMIZER.NAME=AdamW", "RUNTIME.LOG_STEPS=1"),
)


def resident_mb() -> float:
    """Returns the memory of this process, without garbage."""
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def main() -> int:
    """Runs the sessions; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--hours", type=float, default=12)
    options.add_argument("--minutes", type=float, default=5, help="of a session")
    chosen = options.parse_args()
    stop, memory, num_stops = simulated_clock.Simulated(), [], 0
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        folders = Folders(folder / "runs", folder / "submissions", folder / "scratch", (), ())
        given = overrides(write_competition(folder / "data"), *SETTINGS)
        draw_nothing(patch)
        patch.setattr(simulated_clock, "STEP_S", STEP_S)
        simulated_clock.simulate(patch, stop)
        while stop.time_s < chosen.hours * 3600:
            stop.reason = None
            stop.set_budget(chosen.minutes * 60)
            try:
                api.run("demo", given, "train", folders=folders, log=lambda line: None, stop=stop)
            except Stopped:
                num_stops += 1
            if stop.time_s >= 3600 * len(memory):
                memory.append(resident_mb())
                print(f"{stop.time_s / 3600:5.2f} h, {num_stops:4} stops: {memory[-1]:7.1f} MB", flush=True)
    growth = memory[-1] - memory[len(memory) // 4]
    print(f"{num_stops} stops; {growth:+.1f} MB from a quarter of the time to the end")
    return int(growth > MOST_MB)


if __name__ == "__main__":
    sys.exit(main())
