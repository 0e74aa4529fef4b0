"""Kills real runs of the chain, starts them again by the same command, and compares with a run that was left in peace.

    python -m tests.long.kill --points 50               SIGKILL at random times, evenly over the stages
    python -m tests.long.kill --points 20 --way stop    SIGTERM and SIGINT: must end with exit code 3, within 30 s
    python -m tests.long.kill --way disk --stride 20    SIGKILL right before every 20th file operation of the chain
    python -m tests.long.kill --way full                no file may grow beyond a size: a clear error, exit code 2

Every run is a process of its own that does what `python -m pipeline demo KEY=VALUE ...` does. Exit code 1 when a run
could not be finished or one bit differs. Leave the sources alone meanwhile: changed settings are another result.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipeline.__main__ import STAGE_NAMES
from tests.long.processes import Dying, in_peace, limit_files, load_packages, results, stage_seconds, start, wait
from tests.tiny import overrides, write_competition

FILE_SIZES = (0, 300, 3_000, 30_000, 300_000, 2_000_000)  # bytes; a checkpoint has 3,400,000
STOP_S = 30

COMMON = ("SOLVER.NUM_EPOCHS=4", "SOLVER.PATIENCE=2", "SOLVER.MAX_LR=0.03", "SWEEP.STEPS=8")
VARIANTS = (
    # Early stop, revert to the best epoch, annealing; a checkpoint at every step.
    (*COMMON, "SOLVER.OPTIMIZER.NAME=AdamW", "SOLVER.SAVE_MINUTES=0"),
    # Slow weights, averaged weights, dropout, micro-batches, adaptive class weights; a checkpoint at every epoch.
    (
        *("MODEL.NAME=FPN", "SOLVER.NUM_EPOCHS=2", "SOLVER.MAX_LR=0.1", "SOLVER.EMA_DECAY=0.9", "SOLVER.ACCUMULATE=2"),
        *("LOSS_FN.ADAPTIVE.ENABLE=true", "DATALOADERS.TRAIN.BATCH_SIZE=4", "SWEEP.ENABLE=false"),
    ),
    # As the first, but loaded by two workers: what was begun in one process must come out the same.
    (*COMMON, "SOLVER.OPTIMIZER.NAME=AdamW", "SOLVER.SAVE_MINUTES=0", "DATALOADERS.TRAIN.NUM_WORKERS=2"),
)


@dataclass
class Point:
    """One kill: in which stage, after which share of the time that the stage takes, by which signal."""

    stage: str
    share: float
    number: signal.Signals


@dataclass
class Counts:
    """What came of all points."""

    done: Counter = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    slowest_stop_s: float = 0.0


def reached(point: Point, seconds: dict[str, float]) -> Callable[[str], bool]:
    """Returns a function of a run's output that says when the point has come."""
    begun_at: list[float] = []

    def is_time(output: str) -> bool:
        if not begun_at and any(line.startswith(f"{point.stage} ") and "(" in line for line in output.splitlines()):
            begun_at.append(time.monotonic())
        return bool(begun_at) and time.monotonic() - begun_at[0] >= point.share * seconds[point.stage]

    return is_time


def try_point(folder: Path, arguments: Sequence[str], point: Point, seconds: dict[str, float], counts: Counts) -> None:
    """Interrupts a run at a point, once or twice, then lets it finish."""
    name = f"{point.number.name} in {point.stage} at {point.share:.3f}"
    for _ in range(2):  # the second time it may already be beyond the point
        code, output, took_s = wait(*start(folder, arguments), reached(point, seconds), point.number)
        wanted = (0, -signal.SIGKILL) if point.number == signal.SIGKILL else (0, 3)
        if code not in wanted:
            counts.failed.append(f"{name}: exit code {code}, wanted one of {wanted}\n{output}")
        if code == 3:
            counts.slowest_stop_s = max(counts.slowest_stop_s, took_s)
        counts.done[f"{point.stage}: {'ended before' if code == 0 else 'interrupted'}"] += 1
        if code == 0:
            break


def finish_and_compare(folder: Path, arguments: Sequence[str], wanted: dict, name: str, counts: Counts) -> None:
    """Starts the same command again and holds what it left against the run in peace."""
    code, output = in_peace(folder, arguments)
    if code != 0:
        counts.failed.append(f"{name}: started again, it ended with {code}\n{output}")
        return
    found = results(folder)
    differing = sorted(path for path in wanted.keys() | found.keys() if wanted.get(path) != found.get(path))
    if differing:
        counts.failed.append(f"{name}: {', '.join(differing)} differ\n{output}")
    counts.done["identical" if not differing else "different"] += 1
    shutil.rmtree(folder)
    print(f"{name}: {'identical' if not differing else 'different'}", flush=True)


def choose_points(num: int, way: str, seed: int, stages: Sequence[str]) -> list[Point]:
    """Returns points spread evenly over the stages, in any order."""
    rng = random.Random(seed)
    signals = [signal.SIGKILL] if way == "kill" else [signal.SIGTERM, signal.SIGINT]
    points = []
    for index in range(num):
        turn, stage = divmod(index, len(stages))
        points.append(Point(stages[stage], rng.random(), signals[turn % len(signals)]))
    return rng.sample(points, num)


def peace(
    folder: Path, arguments: Sequence[str], before: Callable[[], None] = lambda: None
) -> tuple[dict[str, bytes], dict[str, float]]:
    """Runs the command once without interruption; returns its results and the seconds of its stages."""
    code, output = in_peace(folder, arguments, before)
    if code != 0:
        raise SystemExit(f"the run in peace ended with {code}:\n{output}")
    return results(folder), stage_seconds(output)


def try_signals(folder: Path, data: Path, points: Sequence[Point], counts: Counts) -> None:
    """Interrupts runs of all variants by signals."""
    variants = [overrides(data, *variant) for variant in VARIANTS]
    baselines = [peace(folder / f"peace-{index}", variants[index]) for index in range(min(2, len(points)))]
    for number, point in enumerate(points):
        index = number % len(VARIANTS)
        wanted, seconds = baselines[index % 2]  # the third must come out as the first, which has no workers
        if point.stage not in seconds:  # a variant without a sweep
            point = Point("train", point.share, point.number)
        place = folder / f"point-{number}"
        try_point(place, variants[index], point, seconds, counts)
        name = f"{number + 1}/{len(points)} {point.number.name} in {point.stage} at {point.share:.3f}, variant {index}"
        finish_and_compare(place, variants[index], wanted, name, counts)


def try_operations(folder: Path, data: Path, stride: int, seed: int, counts: Counts) -> None:
    """Kills runs before file operations, evenly over the chain."""
    arguments, counter = overrides(data, *VARIANTS[0]), Dying(None, folder / "count")
    wanted, _ = peace(folder / "peace", arguments, counter.install)
    num_operations = int(counter.count_path.read_text())
    print(f"{num_operations} file operations, killed before every {stride}th", flush=True)
    for operation in range(1 + seed % stride, num_operations, stride):
        place = folder / f"operation-{operation}"
        code, _ = in_peace(place, arguments, Dying(operation, place).install)
        counts.done["interrupted" if code == -signal.SIGKILL else f"exit code {code}"] += 1
        finish_and_compare(place, arguments, wanted, f"killed before file operation {operation}", counts)


def try_full_disks(folder: Path, data: Path, counts: Counts) -> None:
    """Runs into files that may not grow any more."""
    arguments = overrides(data, *VARIANTS[0])
    wanted, _ = peace(folder / "peace", arguments)
    for num_bytes in FILE_SIZES:
        place, name = folder / f"full-{num_bytes}", f"files up to {num_bytes} bytes"
        code, output = in_peace(place, arguments, partial(limit_files, num_bytes))
        counts.done[f"exit code {code}"] += 1
        if code != 2 or "Traceback" in output:
            counts.failed.append(f"{name}: exit code {code}, wanted 2 and a clear message\n{output}")
        finish_and_compare(place, arguments, wanted, name, counts)


def run(arguments: Sequence[str] | None = None) -> int:
    """Reads the arguments, tries the points, prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=50)
    parser.add_argument("--way", choices=("kill", "stop", "disk", "full"), default="kill")
    parser.add_argument("--stride", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--stage", choices=STAGE_NAMES, help="interrupt only this one")
    chosen = parser.parse_args(arguments)
    load_packages()
    counts = Counts()
    with tempfile.TemporaryDirectory() as folder:
        data = write_competition(Path(folder) / "data")
        if chosen.way == "disk":
            try_operations(Path(folder), data, chosen.stride, chosen.seed, counts)
        elif chosen.way == "full":
            try_full_disks(Path(folder), data, counts)
        else:
            stages = (chosen.stage,) if chosen.stage else STAGE_NAMES
            points = choose_points(chosen.points, chosen.way, chosen.seed, stages)
            try_signals(Path(folder), data, points, counts)
    for name, count in sorted(counts.done.items()):
        print(f"{name:<28} {count}")
    if chosen.way == "stop":
        print(f"slowest orderly stop: {counts.slowest_stop_s:.2f} s")
        if counts.slowest_stop_s > STOP_S:
            counts.failed.append(f"a stop took {counts.slowest_stop_s:.1f} s")
    for failure in counts.failed:
        print(f"FAILED {failure}", file=sys.stderr)
    print(f"{len(counts.failed)} failures")
    return 1 if counts.failed else 0


if __name__ == "__main__":
    sys.exit(run())
