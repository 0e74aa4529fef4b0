"""Changes whatever the pipeline reads, in structure and by bytes, and looks how commands and readers end.

    python -m tests.long.fuzz --minutes 10                        every target
    python -m tests.long.fuzz --minutes 2 --only archives,lists   some
    python -m tests.long.fuzz --replay FILE.zip                   a case that was saved, again

A case may end with success, or with exit code 2 and a message that names the file or the key. Everything else is a
fault, a hang and an explosion of memory too: the case is saved as a zip whose path is printed with the command that
runs it again. Most commands run in a process that is kept, a sample as processes of their own. The same seed gives the
same cases. Ends with a table; exit code 1 when there are faults.
"""

from __future__ import annotations

import argparse
import random
import shutil
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.long import fuzz_commands as commands
from tests.long import fuzz_functions as functions
from tests.long.fuzz_case import FAULT, HUNG, REFUSED, SUCCEEDED, Case, Ending, apply, judge, read, restore, save
from tests.long.fuzz_worker import FORK, Function, Worker, settle

Build = Callable[[Path], None]
PROCESS_EVERY = 40  # cases of a target, of which one runs as processes
FIRST_PROCESS = 7  # so that each target has one soon
SAVED_OF_A_KIND = 2
REPORT_S = 20.0  # between two lines of progress
LIMIT_S = 90.0  # of a case; the slowest takes 6 s on a quiet core
WITH_PROJECT, WITH_DATA = (
    (commands.build_project,),
    (commands.build_project, commands.build_masks, commands.build_boxes),
)
WITH_RUNS = (*WITH_DATA, commands.build_runs)


@dataclass(frozen=True)
class Target:
    """A kind of thing that is changed.

    Attributes:
        draw: (whole folder, work folder, generator) to a case's changes, commands and words.
        builds: write the whole files, in this order.
        function: reads them, where no command does.
        share: of the time, in comparison with the others.
        is_drawing: whether plots are drawn.
    """

    draw: Callable[[Path, Path, random.Random], commands.Drawn]
    builds: tuple[Build, ...]
    function: Function | None = None
    share: float = 1.0
    is_drawing: bool = False


TARGETS = {
    "configs": Target(commands.draw_configs, WITH_PROJECT),
    "overrides": Target(commands.draw_overrides, WITH_DATA, share=1.5),
    "lists": Target(commands.draw_lists, WITH_DATA),
    "images": Target(commands.draw_images, WITH_DATA),
    "names": Target(commands.draw_names, WITH_DATA, is_drawing=True, share=1.5),
    "copies": Target(commands.draw_copies, WITH_DATA, share=0.7),
    "boxes": Target(functions.draw_forms, (commands.build_project, functions.build_forms), functions.read_forms, 0.5),
    "archives": Target(
        functions.draw_archives, (*WITH_PROJECT, functions.build_archives), functions.read_archives, 0.3
    ),
    "checkpoints": Target(functions.draw_weights, WITH_RUNS, functions.read_weights, 0.7),
    "neighbours": Target(commands.draw_neighbours, WITH_RUNS, share=1.5),
    "artefacts": Target(commands.draw_own, WITH_RUNS, share=1.5),
    "submissions": Target(commands.draw_submissions, WITH_RUNS, share=0.5),
}


@dataclass
class Tally:
    """What a target's cases came to."""

    seconds: float = 0.0
    counts: Counter = field(default_factory=Counter)
    kinds: dict[str, tuple[int, int]] = field(default_factory=dict)  # of faults: cases until the first, and how many

    @property
    def cases(self) -> int:
        return self.counts.total()


def function_of(target: str) -> Function | None:
    return TARGETS[target].function


def draw_case(name: str, seed: int, number: int, base: Path, work: Path) -> tuple[Case, tuple[str, ...]]:
    """Returns a case, which depends on the arguments only, and the files and folders to put back after it."""
    rng = random.Random(f"{seed}/{name}/{number}")
    drawn = TARGETS[name].draw(base, work, rng)
    is_process = bool(drawn.commands) and number % PROCESS_EVERY == FIRST_PROCESS
    words = tuple(tuple(one) for one in drawn.commands)
    case = Case(name, seed, number, tuple(drawn.changes), words, tuple(drawn.words), is_process, drawn.is_right)
    return case, (*(change.path for change in drawn.changes), *drawn.rewritten)


def _build(work: Path, builds: Sequence[Build]) -> None:
    settle(work, is_drawing=False)
    for build in builds:
        build(work)


def build_base(folder: Path, names: Sequence[str]) -> tuple[Path, Path]:
    """Returns the folder with the whole files of some targets, and a copy of it for the cases.

    Raises:
        SystemExit: what is to be changed could not be made.
    """
    base, work = folder / "base", folder / "work"
    work.mkdir(parents=True)
    builds = tuple(dict.fromkeys(build for name in names for build in TARGETS[name].builds))
    order = [*WITH_RUNS, functions.build_forms, functions.build_archives]
    process = FORK.Process(target=_build, args=(work, sorted(builds, key=order.index)))
    process.start()
    while process.is_alive():
        print("making the files that are to be changed", flush=True)
        process.join(REPORT_S)
    if process.exitcode:
        raise SystemExit("the files that are to be changed could not be made; see above")
    for name in ("runs", "submissions", "weights"):
        (work / name).mkdir(exist_ok=True)
    shutil.copytree(work, base, symlinks=True)
    return base, work


@dataclass
class Fuzzer:
    """Runs cases and keeps count.

    Attributes:
        saved: the folder of the cases that ended in a fault.
        until: when the time is over, as `time.monotonic` counts; a case that runs then is cut off and not counted.
    """

    base: Path
    work: Path
    saved: Path
    seed: int
    limit_s: float
    tallies: dict[str, Tally]
    until: float
    is_verbose: bool = False
    workers: dict[bool, Worker] = field(default_factory=dict)
    reported: float = field(default_factory=time.monotonic)

    def step(self, name: str) -> None:
        """Runs the next case of a target."""
        tally, is_drawing = self.tallies[name], TARGETS[name].is_drawing
        start = time.monotonic()
        case, rewritten = draw_case(name, self.seed, tally.cases, self.base, self.work)
        if is_drawing not in self.workers:
            self.workers[is_drawing] = Worker(self.work, function_of, self.limit_s, is_drawing)
        apply(case.changes, self.work)
        try:
            ending = self.workers[is_drawing].run(case, self.until, self.report)
        finally:
            restore(rewritten, self.base, self.work)
        self.report()
        if ending.code == HUNG and ending.seconds < self.limit_s:
            return
        if self.is_verbose:
            words = " / ".join(" ".join(one)[:70] for one in case.commands) or ",".join(c.path for c in case.changes)
            why = f"\n      {ending.errors.strip()[:150]!r}" if ending.code == 2 else ""
            print(f"{name} {case.number}: exit code {ending.code} in {ending.seconds:.1f} s: {words}{why}", flush=True)
        self.note(case, ending)
        tally.seconds += time.monotonic() - start

    def report(self) -> None:
        """Prints how far it is, if the last time is long enough ago."""
        now = time.monotonic()
        if now - self.reported >= REPORT_S:
            self.reported = now
            counts = ", ".join(f"{name} {tally.cases}" for name, tally in self.tallies.items())
            faults = sum(tally.counts[FAULT] for tally in self.tallies.values())
            print(f"{max(0.0, self.until - now):.0f} s left: cases: {counts}; {faults} faults", flush=True)

    def note(self, case: Case, ending: Ending) -> None:
        """Counts a case; saves and prints a fault of a kind that is new."""
        tally = self.tallies[case.target]
        outcome, kind = judge(case, ending)
        tally.counts[outcome] += 1
        if outcome != FAULT:
            return
        first, count = tally.kinds.get(kind, (tally.cases, 0))
        tally.kinds[kind] = (first, count + 1)
        if count < SAVED_OF_A_KIND:
            path = self.saved / f"{case.target}-{case.seed}-{case.number}.zip"
            save(path, case, kind, ending)
            print(
                f"FAULT {case.target} {case.number}: {kind}\n      python -m tests.long.fuzz --replay {path}",
                flush=True,
            )

    def close(self) -> None:
        """Ends the processes."""
        for worker in self.workers.values():
            worker.close()

    def table(self) -> str:
        """Returns the counts by target, and the kinds of faults with the case that showed each first."""
        lines = [
            f"{'target':<12} {'cases':>7} {'succeeded':>10} {'refused':>8} {'faults':>7} {'kinds':>6} {'seconds':>8}"
        ]
        for name, tally in self.tallies.items():
            counts = [tally.counts[outcome] for outcome in (SUCCEEDED, REFUSED, FAULT)]
            cells = f"{counts[0]:>10} {counts[1]:>8} {counts[2]:>7} {len(tally.kinds):>6} {tally.seconds:>8.0f}"
            lines.append(f"{name:<12} {tally.cases:>7} {cells}")
        for name, tally in self.tallies.items():
            lines += [f"{name}, case {first}, {count} times: {kind}" for kind, (first, count) in tally.kinds.items()]
        return "\n".join(lines)


def replay(path: Path, folder: Path) -> int:
    """Runs a saved case again, with its output; returns 1 where it is still a fault."""
    saved = read(path)
    base, work = build_base(folder, [saved.target])
    case, _ = draw_case(saved.target, saved.seed, saved.number, base, work)
    case = saved._replace(commands=case.commands)  # which name this work folder
    apply(case.changes, work)
    worker = Worker(work, function_of, LIMIT_S, TARGETS[case.target].is_drawing)
    ending = worker.run(case)
    worker.close()
    print(ending.output, ending.errors, sep="\n")
    outcome, kind = judge(case, ending)
    print(f"{case.target} {case.number}: {' / '.join(map(' '.join, case.commands))}")
    print(f"changed: {', '.join(f'{change.path} ({change.kind})' for change in case.changes)}")
    print(f"{outcome}: {kind or f'exit code {ending.code}'}")
    return int(outcome == FAULT)


def fuzz(
    folder: Path,
    names: Sequence[str],
    seed: int,
    minutes: float,
    cases: int | None,
    saved: Path,
    is_verbose: bool = False,
) -> Fuzzer:
    """Runs cases of targets in turn until the time is over, or each had its number of cases."""
    base, work = build_base(folder, names)
    until = time.monotonic() + minutes * 60
    fuzzer = Fuzzer(base, work, saved, seed, LIMIT_S, {name: Tally() for name in names}, until, is_verbose)
    try:
        while time.monotonic() < until:
            waiting = [name for name in names if cases is None or fuzzer.tallies[name].cases < cases]
            if not waiting:
                break
            fuzzer.step(min(waiting, key=lambda name: fuzzer.tallies[name].seconds / TARGETS[name].share))
    finally:
        fuzzer.close()
    return fuzzer


def main(arguments: list[str] | None = None) -> int:
    """Fuzzes, or runs a saved case again; prints the table and returns the exit code."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(TARGETS), help="targets, separated by commas; default: %(default)s")
    parser.add_argument("--cases", type=int, help="at most so many of each target")
    parser.add_argument("--verbose", action="store_true", help="print every case, as it ended")
    parser.add_argument(
        "--saved", type=Path, default=Path(tempfile.gettempdir(), "fuzz"), help="where faults are saved"
    )
    parser.add_argument("--replay", type=Path, metavar="FILE", help="run a saved case again, and nothing else")
    chosen = parser.parse_args(arguments)
    names = chosen.only.split(",")
    if unknown := set(names) - set(TARGETS):
        parser.error(f"there is no target {', '.join(sorted(unknown))}; there are {', '.join(TARGETS)}")
    with tempfile.TemporaryDirectory() as folder:
        if chosen.replay is not None:
            return replay(chosen.replay, Path(folder))
        fuzzer = fuzz(
            Path(folder), names, chosen.seed, chosen.minutes, chosen.cases, chosen.saved.absolute(), chosen.verbose
        )
    print(fuzzer.table())
    return int(any(tally.counts[FAULT] for tally in fuzzer.tallies.values()))


if __name__ == "__main__":
    sys.exit(main())
