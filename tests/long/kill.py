"""Kills real runs of the chain, starts them again by the same command, and compares with a run that was left in peace.

    python -m tests.long.kill --points 50               SIGKILL at random times, evenly over the stages
    python -m tests.long.kill --points 20 --way stop    SIGTERM and SIGINT: must end with exit code 3, within 30 s
    python -m tests.long.kill --way disk --stride 20    SIGKILL right before every 20th file operation of the chain
    python -m tests.long.kill --way full                no file may grow beyond a size: a clear error, exit code 2

Every run is a process of its own that does what `python -m pipeline demo KEY=VALUE ...` does. It is forked from this
one, which has loaded the packages and nothing else, so that a start costs no 10 seconds. Exit code 1 when a run could
not be finished or one bit differs.
"""

from __future__ import annotations

import argparse
import builtins
import importlib
import os
import random
import resource
import select
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

from pipeline.__main__ import STAGE_NAMES, main
from tests.tiny import overrides, write_competition

# What times and dates are in, and what only remembers them.
VOLATILE = ("timings.csv", "report.html", ".stages", "events", "config.yaml")
FILE_SIZES = (0, 300, 3_000, 30_000, 300_000, 2_000_000)  # bytes; a checkpoint has 3,400,000
FILE_OPERATIONS = ("replace", "rename", "unlink", "fsync", "link", "mkdir", "rmdir")
PACKAGES = (
    *("matplotlib.backends.backend_agg", "torch.utils.tensorboard", "sklearn.model_selection"),
    *("pipeline.stages", "pipeline.data.catalog", "pipeline.data.leakage", "pipeline.data.split"),
    *("pipeline.training.lr_sweep", "pipeline.training.trainer", "pipeline.inference.evaluate"),
    *("pipeline.submission.write", "pipeline.report.page", "pipeline.report.plots"),
)
GIVE_UP_S = 300
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


def load_packages() -> None:
    """Imports what stages import, so that forked children need not, and runs nothing: threads do not survive a fork."""
    for name in PACKAGES:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)


def start(folder: Path, arguments: Sequence[str], before: Callable[[], None] = lambda: None) -> tuple[int, int]:
    """Starts the command in a process of its own with folders below `folder`; returns its number and its output."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    os.setpgid(0, 0)
    for name, place in (("RUNS_DIR", "runs"), ("SUBMISSIONS_DIR", "submissions"), ("SCRATCH_DIR", "scratch")):
        os.environ[name] = str(folder / place)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    code = 1
    try:
        before()
        code = main(["demo", *arguments])
    finally:
        sys.stdout.flush()
        os._exit(code)


def wait(child: int, reader: int, is_time: Callable[[str], bool], number: int) -> tuple[int, str, float]:
    """Waits for a child, and sends it a signal as soon as `is_time(output so far)`.

    Returns:
        Its exit code (negative: the signal that ended it), its output, and the seconds that it took to end when asked.
    """
    output, sent_at, begun = "", None, time.monotonic()
    while True:
        ready, _, _ = select.select([reader], [], [], 0.002)
        part = os.read(reader, 65536).decode(errors="replace") if ready else None
        if part == "":
            break
        output += part or ""
        if sent_at is None and is_time(output):
            sent_at = time.monotonic()
            if number == signal.SIGKILL:  # its workers live on for a while and hold the other end of the pipe open
                os.kill(child, number)
                break
            os.killpg(child, number)  # as the terminal and Slurm do: the workers get it, too
        if time.monotonic() - begun > GIVE_UP_S:
            os.kill(child, signal.SIGKILL)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    took_s = time.monotonic() - sent_at if sent_at else 0.0
    return os.waitstatus_to_exitcode(status), output, took_s


def in_peace(folder: Path, arguments: Sequence[str], before: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """Runs the command to its end; returns exit code and output."""
    code, output, _ = wait(*start(folder, arguments, before), lambda output: False, 0)
    return code, output


def results(folder: Path) -> dict[str, bytes]:
    """Returns every file that must not depend on whether a run was interrupted."""
    kept = {}
    for path in sorted((folder / "runs").rglob("*")) + sorted((folder / "submissions").glob("*.csv")):
        parts = path.relative_to(folder).parts
        is_previous = path.name.startswith("previous-")  # the step or the epoch before, as it happens
        if path.is_file() and not set(parts) & set(VOLATILE) and parts[1] != "shared" and not is_previous:
            kept["/".join(parts)] = path.read_bytes()
    return kept


def stage_seconds(output: str) -> dict[str, float]:
    """Returns how long each stage took, from what a run in peace said."""
    done = [line.split() for line in output.splitlines() if " done in " in line and line.split()[0] in STAGE_NAMES]
    return {words[0]: float(words[3]) for words in done}


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


class Dying:
    """Ends the process right before its `last`-th file operation; without one it only counts."""

    def __init__(self, last: int | None, count_path: Path) -> None:
        self.last, self.count, self.count_path = last, 0, count_path

    def install(self) -> None:
        for name in FILE_OPERATIONS:
            setattr(os, name, self._counted(getattr(os, name)))
        plain_open = builtins.open

        def counted_open(file, mode="r", *arguments, **options):
            if set(mode) & set("wax+"):
                self._note()
            return plain_open(file, mode, *arguments, **options)

        builtins.open = counted_open
        # Path.write_bytes and Path.open take theirs from io.
        import io

        io.open = counted_open

    def _counted(self, function: Callable) -> Callable:
        def counted(*arguments, **options):
            self._note()
            return function(*arguments, **options)

        return counted

    def _note(self) -> None:
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.last is None:
            descriptor = os.open(self.count_path, os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, str(self.count).encode())
            os.close(descriptor)


def limit_files(num_bytes: int) -> None:
    """Makes every write beyond a file size fail, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))


def choose_points(num: int, way: str, seed: int, stages: Sequence[str]) -> list[Point]:
    """Returns points spread evenly over the stages, in any order."""
    rng = random.Random(seed)
    signals = [signal.SIGKILL] if way == "kill" else [signal.SIGTERM, signal.SIGINT]
    points = []
    for index in range(num):
        turn, stage = divmod(index, len(stages))
        points.append(Point(stages[stage], rng.random(), signals[turn % len(signals)]))
    return rng.sample(points, num)


def measure(folder: Path, data: Path, points: Sequence[Point], way: str, stride: int, seed: int) -> Counts:
    """Tries all points; returns the counts."""
    counts, baselines = Counts(), {}
    tries: list = list(points)
    for index, variant in enumerate(VARIANTS):
        place, arguments = folder / f"peace-{index}", overrides(data, *variant)
        dying = Dying(None, place.with_suffix(".count"))
        code, output = in_peace(place, arguments, dying.install if way == "disk" else lambda: None)
        if code != 0:
            raise SystemExit(f"the run in peace ended with {code}:\n{output}")
        baselines[index] = (results(place), stage_seconds(output))
        if way == "disk" and index == 0:
            num_operations = int(dying.count_path.read_text())
            print(f"{num_operations} file operations, killed before every {stride}th", flush=True)
            tries = list(range(1 + seed % stride, num_operations, stride))
    if baselines[2][0] != baselines[0][0]:
        counts.failed.append("two workers give another result than none")
    if way == "full":
        tries = list(FILE_SIZES)
    for number, point in enumerate(tries):
        index = 0 if way in ("disk", "full") else number % len(VARIANTS)
        place, arguments = folder / f"point-{number}", overrides(data, *VARIANTS[index])
        wanted, seconds = baselines[index]
        if way == "disk":
            code, _ = in_peace(place, arguments, Dying(point, place).install)
            counts.done["interrupted" if code == -signal.SIGKILL else f"exit code {code}"] += 1
            name = f"killed before file operation {point}"
        elif way == "full":
            name = f"files up to {point} bytes"
            code, output = in_peace(place, arguments, partial(limit_files, point))
            counts.done[f"exit code {code}"] += 1
            if code != 2 or "Traceback" in output:
                counts.failed.append(f"{name}: exit code {code}, wanted 2 and a clear message\n{output}")
        else:
            if point.stage not in seconds:  # a variant without a sweep
                point = Point("train", point.share, point.number)
            try_point(place, arguments, point, seconds, counts)
            name = f"{point.number.name} in {point.stage} at {point.share:.3f}, variant {index}"
        finish_and_compare(place, arguments, wanted, name, counts)
        shutil.rmtree(place, ignore_errors=True)
        print(f"{number + 1}/{len(tries)} {name}: {len(counts.failed)} failed", flush=True)
    return counts


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
    with tempfile.TemporaryDirectory() as folder:
        data = write_competition(Path(folder) / "data")
        stages = (chosen.stage,) if chosen.stage else STAGE_NAMES
        points = choose_points(chosen.points, chosen.way, chosen.seed, stages)
        counts = measure(Path(folder), data, points, chosen.way, chosen.stride, chosen.seed)
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
