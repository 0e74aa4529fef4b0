"""Kills real runs of the chain, starts them again by the same command, and compares with an uninterrupted run.

    python -m tests.long.kill --points 200              SIGKILL at random times, evenly over the stages
    python -m tests.long.kill --points 50 --way stop    SIGTERM and SIGINT: must end with exit code 3, within 30 s
    python -m tests.long.kill --way disk --stride 20    SIGKILL right before every 20th file operation of the chain
    python -m tests.long.kill --way full                no file may grow beyond a size: a clear error, exit code 2
    python -m tests.long.kill --task boxes              the same, of each way, with networks that find boxes

Every process does what `python -m pipeline demo KEY=VALUE ...` does. A run is interrupted again and again on its way
through the chain, twice in each stage, and compared once, at its end: each interruption is a point. Exit code 1 when a
run could not be finished, one bit differs, or more than one checkpoint interval was lost. Leave the sources alone
meanwhile: changed settings are another result.
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
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pipeline.stages import STAGE_NAMES
from tests.long.kill_variants import DEVICES, SUBJECTS, Subject
from tests.long.processes import (
    Dying,
    Resumed,
    is_beyond,
    limit_files,
    load_packages,
    note_steps,
    results,
    run_to_end,
    stage_at,
    stage_seconds,
    start,
    wait,
)

FILE_SIZES = (0, 300, 3_000, 30_000, 300_000, 2_000_000)  # bytes; a checkpoint has 3,400,000
STOP_S = 30
TIMES_A_STAGE = 2  # the second time what is left of a stage is interrupted, before or after it saved anything new
DEATHS = 5  # of one run before file operations: the first where it was chosen, the others soon after a new start
SOON = 120  # file operations; a training of these sizes has 350, any other stage up to 50


@dataclass(frozen=True)
class Point:
    """One interruption: in which stage, after which share of the time that the stage takes, by which signal."""

    stage: str
    share: float
    number: signal.Signals

    def __str__(self) -> str:
        return f"{self.number.name} in {self.stage} at {self.share:.3f}"


@dataclass
class Counts:
    """What came of all points."""

    landed: Counter = field(default_factory=Counter)  # interruptions by stage
    runs: Counter = field(default_factory=Counter)
    failed: list[str] = field(default_factory=list)
    slowest_stop_s: float = 0.0
    most_steps_lost: int = 0

    def show(self) -> None:
        """Prints everything."""
        for name in (*STAGE_NAMES, "between stages"):
            if self.landed[name]:
                print(f"interrupted in {name:<24} {self.landed[name]}")
        print(f"{'interrupted':<39} {sum(self.landed.values())}")
        for name, count in sorted(self.runs.items()):
            print(f"runs {name:<34} {count}")
        print(f"most finished steps lost: {self.most_steps_lost}")
        if self.slowest_stop_s:
            print(f"slowest orderly stop: {self.slowest_stop_s:.2f} s")
        for failure in self.failed:
            print(f"FAILED {failure}", file=sys.stderr)
        print(f"{len(self.failed)} failures")


def reached(point: Point, seconds: dict[str, float]) -> Callable[[str], bool]:
    """Returns a function of a run's output: whether the point has come."""
    begun_at: list[float] = []

    def is_time(output: str) -> bool:
        stage = stage_at(output)
        if not begun_at and stage == point.stage:
            begun_at.append(time.monotonic())
        if not begun_at:
            return is_beyond(output, point.stage)  # ended by the start before
        # A stage may be over sooner than in the uninterrupted run: the point is then what comes next.
        return stage != point.stage or time.monotonic() - begun_at[0] >= point.share * seconds[point.stage]

    return is_time


def try_points(
    run_folder: Path,
    arguments: Sequence[str],
    points: Sequence[Point],
    seconds: dict[str, float],
    resumed: Resumed,
    counts: Counts,
) -> None:
    """Interrupts a run at one point after the other."""
    for point in points:
        child, reader = start(run_folder, arguments, partial(note_steps, resumed.path))
        code, output, took_s = wait(child, reader, reached(point, seconds), point.number)
        expected = -signal.SIGKILL if point.number == signal.SIGKILL else 3
        if code not in (0, expected) or "Traceback" in output:
            counts.failed.append(f"{point}: exit code {code}, expected {expected}\n{output}")
        if code == expected:
            counts.landed[stage_at(output)] += 1
        if code == 3:
            counts.slowest_stop_s = max(counts.slowest_stop_s, took_s)
        note_loss(resumed, output, str(point), counts)


def note_loss(resumed: Resumed, output: str, name: str, counts: Counts) -> None:
    """Notes how many finished steps the start with this output had to do again."""
    lost = resumed.steps_lost(output)
    counts.most_steps_lost = max(counts.most_steps_lost, lost)
    if lost > resumed.may_lose:
        counts.failed.append(f"before {name}: {lost} finished steps were lost\n{output}")


def finish_and_compare(
    run_folder: Path,
    arguments: Sequence[str],
    expected: dict,
    name: str,
    counts: Counts,
    resumed: Resumed | None = None,
) -> None:
    """Starts the same command again and compares its results with those of the uninterrupted run."""
    code, output = run_to_end(run_folder, arguments)
    if resumed:
        note_loss(resumed, output, "the end", counts)
    if code != 0:
        counts.failed.append(f"{name}: started again, it ended with {code}\n{output}")
        return
    found = results(run_folder)
    differing = sorted(path for path in expected.keys() | found.keys() if expected.get(path) != found.get(path))
    if differing:
        counts.failed.append(f"{name}: {', '.join(differing)} differ\n{output}")
    verdict = "different" if differing else "identical"
    counts.runs[verdict] += 1
    shutil.rmtree(run_folder)
    print(f"{name}: {verdict}", flush=True)


def choose_points(way: str, seed: int, stages: Sequence[str]) -> Iterator[list[Point]]:
    """Yields the points of run after run: TIMES_A_STAGE in each stage, in the chain's order."""
    rng = random.Random(seed)
    signals = [signal.SIGKILL] if way == "kill" else [signal.SIGTERM, signal.SIGINT]
    while True:
        yield [Point(stage, rng.random(), rng.choice(signals)) for stage in stages for _ in range(TIMES_A_STAGE)]


def run_baseline(
    folder: Path, arguments: Sequence[str], before: Callable[[], None] = lambda: None
) -> tuple[dict[str, bytes], dict[str, float]]:
    """Runs the command once without interruption; returns its results and the seconds of its stages."""
    code, output = run_to_end(folder, arguments, before)
    if code != 0:
        raise SystemExit(f"the uninterrupted run ended with {code}:\n{output}")
    return results(folder), stage_seconds(output)


def try_signals(
    folder: Path,
    data: Path,
    subject: Subject,
    runs: Iterator[list[Point]],
    num_points: int,
    device: Sequence[str],
    counts: Counts,
) -> None:
    """Interrupts runs of all variants by signals until there were `num_points` interruptions."""
    variants = [subject.overrides(data, *variant.changes, *device) for variant in subject.variants]
    baselines: dict[int, tuple[dict[str, bytes], dict[str, float]]] = {}
    for number, points in enumerate(runs):
        left = num_points - sum(counts.landed.values())
        if left <= 0:
            return
        index = number % len(variants)
        variant = subject.variants[index]
        base = index if variant.same_as is None else variant.same_as
        if base not in baselines:
            baselines[base] = run_baseline(folder / f"baseline-{base}", variants[base])
        expected, seconds = baselines[base]
        # A variant without a sweep is interrupted in its training once more.
        points = [point if point.stage in seconds else Point("train", point.share, point.number) for point in points]
        run_folder = folder / f"run-{number}"
        resumed = Resumed(run_folder / "steps", variant.may_lose)
        try_points(run_folder, variants[index], points[:left], seconds, resumed, counts)
        finish_and_compare(run_folder, variants[index], expected, f"run {number + 1}, variant {index}", counts, resumed)


def try_operations(folder: Path, data: Path, subject: Subject, stride: int, seed: int, counts: Counts) -> None:
    """Kills runs before file operations, evenly over the chain, and again soon after the next starts."""
    variant = subject.variants[0]
    arguments, counter = subject.overrides(data, *variant.changes), Dying(None, folder / "count")
    expected, _ = run_baseline(folder / "baseline", arguments, counter.install)
    num_operations, rng = int(counter.count_path.read_text()), random.Random(seed)
    print(f"{num_operations} file operations, killed before every {stride}th", flush=True)
    for operation in range(1 + seed % stride, num_operations, stride):
        run_folder, deaths = folder / f"operation-{operation}", [operation]
        deaths += [rng.randrange(1, SOON) for _ in range(DEATHS - 1)]
        resumed = Resumed(run_folder / "steps", variant.may_lose)
        for death in deaths:
            code, output = run_to_end(run_folder, arguments, partial(die, Dying(death, run_folder), resumed.path))
            if code == -signal.SIGKILL:
                counts.landed[stage_at(output)] += 1
            elif code != 0:
                counts.failed.append(f"to be killed before operation {death}, it ended with {code}\n{output}")
            note_loss(resumed, output, f"file operation {death}", counts)
        name = f"killed before file operations {', '.join(map(str, deaths))}"
        finish_and_compare(run_folder, arguments, expected, name, counts, resumed)


def die(dying: Dying, steps_path: Path) -> None:
    """Prepares a process to be killed before a file operation."""
    dying.install()
    note_steps(steps_path)


def try_full_disks(folder: Path, data: Path, subject: Subject, counts: Counts) -> None:
    """Runs into files that may not grow any more."""
    arguments = subject.overrides(data, *subject.variants[0].changes)
    expected, _ = run_baseline(folder / "baseline", arguments)
    for num_bytes in FILE_SIZES:
        run_folder, name = folder / f"full-{num_bytes}", f"files up to {num_bytes} bytes"
        code, output = run_to_end(run_folder, arguments, partial(limit_files, num_bytes))
        counts.landed[stage_at(output)] += 1
        if code != 2 or "Traceback" in output:
            counts.failed.append(f"{name}: exit code {code}, expected 2 and a clear message\n{output}")
        finish_and_compare(run_folder, arguments, expected, name, counts)


def run(arguments: Sequence[str] | None = None) -> int:
    """Reads the arguments, tries the points, prints the counts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=200)
    parser.add_argument("--way", choices=("kill", "stop", "disk", "full"), default="kill")
    parser.add_argument("--stride", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="for signals")
    parser.add_argument("--task", choices=SUBJECTS, default="segmentation")
    parser.add_argument("--stage", choices=STAGE_NAMES, help="interrupt only this one")
    chosen = parser.parse_args(arguments)
    load_packages()
    counts, subject = Counts(), SUBJECTS[chosen.task]
    with tempfile.TemporaryDirectory() as folder:
        data = subject.write(Path(folder) / "data")
        if chosen.way == "disk":
            try_operations(Path(folder), data, subject, chosen.stride, chosen.seed, counts)
        elif chosen.way == "full":
            try_full_disks(Path(folder), data, subject, counts)
        else:
            stages = (chosen.stage,) if chosen.stage else STAGE_NAMES
            runs = choose_points(chosen.way, chosen.seed, stages)
            try_signals(Path(folder), data, subject, runs, chosen.points, DEVICES[chosen.device], counts)
    if counts.slowest_stop_s > STOP_S:
        counts.failed.append(f"a stop took {counts.slowest_stop_s:.1f} s")
    counts.show()
    return 1 if counts.failed else 0


if __name__ == "__main__":
    sys.exit(run())
