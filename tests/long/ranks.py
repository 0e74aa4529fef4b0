"""Kills ranks of trainings on two ranks, starts the same command again, and compares with an undisturbed training.

    python -m tests.long.ranks --kills 20               SIGKILL to a random rank at a random time
    python -m tests.long.ranks --kills 5 --way starter  SIGKILL to the process that started the ranks: they end, too
    python -m tests.long.ranks --kills 5 --way stop     SIGTERM to all processes: must end with exit code 3

After each kill all processes must be gone within 60 s; of a killed rank with exit code 3. Exit code 1 when they were
not, when a run could not be finished, or when one bit of its results differs. The ranks are on the CPU (gloo).
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from pipeline.training.ranks import launch
from tests.long.processes import load_packages, results, run_to_end, start, wait
from tests.tiny import overrides, write_competition

END_S = 60
BEGIN, FIRST_EPOCH, END = "train     carry out", "phase flat", "train     done"
IN_TRAINING = 0.75  # of the kills; the others are while processes start
COMMON = (
    *("RUNTIME.RANKS=2", "DATALOADERS.TRAIN.BATCH_SIZE=4", "SWEEP.ENABLE=false", "RUNTIME.LOG_STEPS=1"),
    *("SOLVER.NUM_EPOCHS=20", "SOLVER.ANN_EPOCHS=3", "SOLVER.PATIENCE=8", "SOLVER.MAX_LR=0.01"),
)
VARIANTS = (
    # A checkpoint at every step.
    (*COMMON, "SOLVER.SAVE_MINUTES=0"),
    # A checkpoint at every epoch; micro-batches, slow weights, averaged weights, batch norms of each rank by itself.
    (
        *(*COMMON, "SOLVER.ACCUMULATE=2", "SOLVER.EMA_DECAY=0.9", "RUNTIME.SYNC_BATCH_NORM=false"),
        *("LOSS_FN.MIX=0.5 lovasz + 0.5 tversky", "SOLVER.CLIP_NORM=1", "DATASETS.AUGMENTATION.MIX_UP.ENABLE=true"),
    ),
)


def ranks_of(starter: int) -> list[int]:
    """Returns the processes of the ranks, in their order."""
    try:
        children = Path(f"/proc/{starter}/task/{starter}/children").read_text().split()
        is_rank = {child: b"resource_tracker" not in Path(f"/proc/{child}/cmdline").read_bytes() for child in children}
        return [int(child) for child in children if is_rank[child]]
    except OSError:
        return []


def are_gone(processes: Sequence[int], within_s: float) -> bool:
    """Returns whether processes have ended, or end soon."""
    until = time.monotonic() + within_s
    while any(Path(f"/proc/{process}").exists() for process in processes):
        if time.monotonic() > until:
            return False
        time.sleep(0.05)
    return True


@dataclass(frozen=True)
class Moment:
    """When a training is interrupted: some seconds after its output has a text."""

    text: str
    seconds: float

    def __str__(self) -> str:
        return f"{self.seconds:.1f} s after {self.text!r}"


def interrupt(
    folder: Path, arguments: Sequence[str], way: str, moment: Moment, victim: int, before: Callable[[], None]
) -> str:
    """Starts a training and interrupts it; returns what went wrong, "" where nothing did.

    Args:
        victim: which rank.
        before: prepares the process that starts the ranks.
    """
    child, reader = start(folder, ["train", *arguments], before)
    begun_at, killed = [0.0], [False]
    found: list[int] = []

    def is_time(output: str) -> bool:
        if not begun_at[0]:
            begun_at[0] = time.monotonic() if moment.text in output else 0.0
            return False
        found[:] = ranks_of(child) or found
        if time.monotonic() - begun_at[0] < moment.seconds or len(ranks_of(child)) < 2:
            return False
        if way != "rank":
            return True
        if not killed[0]:
            killed[0] = True
            os.kill(found[victim], signal.SIGKILL)
            begun_at[0] = time.monotonic()
        return False

    number = signal.SIGKILL if way == "starter" else signal.SIGTERM
    code, output, took_s = wait(child, reader, is_time, number)
    took_s = time.monotonic() - begun_at[0] if killed[0] else took_s
    expected = -signal.SIGKILL if way == "starter" else 3
    print(f"  ended with {code} after {took_s:.1f} s at: {output.strip().splitlines()[-1]}", flush=True)
    if code not in (0, expected) or took_s > END_S or "Traceback" in output:
        return f"exit code {code}, expected {expected}, after {took_s:.1f} s\n{output}"
    if not are_gone(found, END_S - took_s):
        return "ranks live on"
    return ""


def run_whole(folder: Path, arguments: Sequence[str], before: Callable[[], None]) -> dict[str, float]:
    """Trains undisturbed; returns for each text of `Moment`s the seconds from there to the next one, or to the end."""
    seen: dict[str, float] = {}

    def note(output: str) -> bool:
        for text in (BEGIN, FIRST_EPOCH, END):
            if text in output:
                seen.setdefault(text, time.monotonic())
        return False

    code, output, _ = wait(*start(folder, arguments, before), note, 0)
    if code:
        raise SystemExit(f"the undisturbed training ended with {code}:\n{output}")
    seen.setdefault(END, time.monotonic())
    return {BEGIN: seen[FIRST_EPOCH] - seen[BEGIN], FIRST_EPOCH: seen[END] - seen[FIRST_EPOCH]}


def main(arguments: Sequence[str]) -> int:
    options = argparse.ArgumentParser(prog="python -m tests.long.ranks", description=__doc__.split("\n")[0])
    options.add_argument("--kills", type=int, default=20)
    options.add_argument("--way", choices=("rank", "starter", "stop"), default="rank")
    meaning = "spawn: as users have it; fork: the same in a tenth of the time, as nothing is imported again"
    options.add_argument("--start", choices=("spawn", "fork"), default="spawn", help=meaning)
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args(arguments)
    if chosen.start == "fork" and chosen.way == "starter":
        options.error("forked ranks hold each other's connections to the starter open; give --start spawn")
    load_packages()
    before = partial(setattr, launch, "START_METHOD", chosen.start)
    rng, failed = random.Random(chosen.seed), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_competition(folder / "data")
        expected, seconds = {}, {}
        for index, variant in enumerate(VARIANTS):
            code, output = run_to_end(folder / f"prepared-{index}", ["tile", *overrides(data, *variant)])
            shutil.copytree(folder / f"prepared-{index}", folder / f"whole-{index}")
            seconds[index] = run_whole(folder / f"whole-{index}", ["train", *overrides(data, *variant)], before)
            expected[index] = results(folder / f"whole-{index}")
            print(f"variant {index}: {seconds[index]}", flush=True)
        for kill in range(chosen.kills):
            index, victim = kill % len(VARIANTS), rng.randrange(2)
            text = FIRST_EPOCH if rng.random() < IN_TRAINING else BEGIN
            moment = Moment(text, rng.random() * seconds[index][text])
            run_folder, words = folder / f"run-{kill}", overrides(data, *VARIANTS[index])
            shutil.copytree(folder / f"prepared-{index}", run_folder)
            what = f"{kill + 1}: variant {index}, {chosen.way} {victim if chosen.way == 'rank' else ''} at {moment}"
            wrong = interrupt(run_folder, words, chosen.way, moment, victim, before)
            code, output = run_to_end(run_folder, ["train", *words], before)
            differing = sorted(key for key, value in results(run_folder).items() if expected[index].get(key) != value)
            if code or differing or results(run_folder).keys() != expected[index].keys():
                wrong += f"started again it ended with {code}; {', '.join(differing)} differ\n{output}"
            print(f"{what}: {'FAILED' if wrong else 'identical'}", flush=True)
            failed += [f"{what}: {wrong}"] if wrong else []
            shutil.rmtree(run_folder)
    for failure in failed:
        print(f"FAILED {failure}", file=sys.stderr)
    print(f"{chosen.kills - len(failed)} of {chosen.kills} identical")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
