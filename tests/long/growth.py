"""How the time and the memory of each stage grow with the number of images.

    python -m tests.long.growth [--images 1250 2500 5000 10000] [--folds 5] [--folder FOLDER]

Competitions of N different images of 40x32 pixels, so that it is about their number and not about their content. A
fifth of them are test images, and one of `--folds` folds of the others validates. Each stage runs in a process of its
own, on one thread. Prints its CPU seconds with those of its workers, its peak of memory (the line "packages" has that
of a process which has only imported them), and by which power of N the seconds grow: over all sizes, and from the last
but one to the last. `again` is a start that finds everything done. Exit code 1 where a stage fails or grows by a power
above MOST.
"""

from __future__ import annotations

import argparse
import os
import resource
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

from tests.long.processes import load_packages, start
from tests.tiny import BACKGROUND, CAR, ROAD, VEGETATION, overrides, write_lists

WIDTH, HEIGHT = 40, 32
PER_SEQUENCE = 10
MOST = 1.1
NOISE_S = 0.5  # a stage that is faster than this at its largest size has no exponent
STAGES = ("prepare", "testset", "tile", "sweep", "train", "evaluate", "fit", "predict", "submit", "report")
AGAIN = "again"
SETTINGS = (
    *("SOLVER.NUM_EPOCHS=1", "SOLVER.PLAN=one_cycle", "SOLVER.OPTIMIZER.NAME=AdamW", "DATALOADERS.TRAIN.BATCH_SIZE=16"),
    *("DATALOADERS.VALID.BATCH_SIZE=64", "DECODE.OFFSETS=fitted", "DATASETS.SPLIT.BY=sequence"),
)


class Cost(NamedTuple):
    """CPU seconds and peak memory in MB of a stage."""

    cpu_s: float
    peak_mb: float


def write_images(folder: Path, count: int) -> Path:
    """Writes a competition of so many different images, a fifth of them for testing; returns `folder`."""
    rng = np.random.default_rng(count)
    for name in ("imgs/imgs", "masks/masks"):
        (folder / name).mkdir(parents=True)
    classes = np.array([BACKGROUND, CAR, VEGETATION, ROAD], np.uint8)
    ids: dict[str, list[str]] = {"train": [], "test": []}
    for number in range(count):
        image_id = f"{number // PER_SEQUENCE + 1:06d}_{number % PER_SEQUENCE + 1:03d}"
        subset = "test" if number // PER_SEQUENCE % 5 == 4 else "train"
        ids[subset].append(image_id)
        image = cv2.resize(rng.integers(0, 256, (8, 10, 3), np.uint8), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
        cv2.imwrite(str(folder / f"imgs/imgs/{image_id}.jpg"), image)
        if subset == "train":
            mask = cv2.resize(classes[rng.integers(0, 4, (4, 5))], (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)
            cv2.imwrite(str(folder / f"masks/masks/{image_id}.png"), mask)
    write_lists(folder, ids)
    return folder


def cost_of(folder: Path, arguments: Sequence[str]) -> Cost:
    """Runs a command of the chain in a process of its own; returns what it took.

    Raises:
        SystemExit: it failed.
    """
    child, reader = start(folder, arguments)
    with os.fdopen(reader, "rb") as pipe:
        output = pipe.read().decode(errors="replace")
    _, status, usage = os.wait4(child, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)} ended with {os.waitstatus_to_exitcode(status)}:\n{output}")
    return Cost(usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


def exponent(counts: Sequence[int], seconds: Sequence[float]) -> float:
    """Returns by which power of the counts the seconds grow, by least squares of the logarithms.

    >>> round(exponent([1, 2, 4], [3, 12, 48]), 2)
    2.0
    """
    return float(np.polyfit(np.log(counts), np.log(np.maximum(seconds, 1e-3)), 1)[0])


def main(arguments: Sequence[str] | None = None) -> int:
    """Measures and prints all; returns the exit code."""
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--images", type=int, nargs="+", default=[1250, 2500, 5000, 10000])
    options.add_argument("--folds", type=int, default=5)
    options.add_argument("--folder", type=Path, help="where it is written; default: a temporary folder")
    options.add_argument("--stages", nargs="+", choices=STAGES, default=STAGES, help="measure only these")
    chosen = options.parse_args(arguments)
    load_packages()
    print(f"        packages  {'':10} {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:8,.0f} MB", flush=True)
    costs: dict[str, list[Cost]] = {name: [] for name in (*chosen.stages, AGAIN)}
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        for count in chosen.images:
            folder = Path(name) / str(count)
            data = write_images(folder / "data", count)
            given = overrides(data, *SETTINGS, f"DATASETS.SPLIT.FOLDS={chosen.folds}")
            for stage in (*STAGES, AGAIN):
                cost = cost_of(folder, [STAGES[-1] if stage == AGAIN else stage, *given])
                print(f"{count:>7,} {stage:<9} {cost.cpu_s:8.2f} s {cost.peak_mb:8,.0f} MB", flush=True)
                if stage in costs:
                    costs[stage].append(cost)
    return show(chosen.images, costs)


def show(counts: Sequence[int], costs: dict[str, list[Cost]]) -> int:
    """Prints the table in Markdown; returns 1 where a stage grows too fast."""
    print("| stage | " + " | ".join(f"{count:,}" for count in counts) + " | power | at last | MB per 1,000 images |")
    print("|---" * (len(counts) + 4) + "|")
    has_failed = False
    for stage, found in costs.items():
        seconds = [cost.cpu_s for cost in found]
        powers = []
        if len(counts) > 1 and seconds[-1] >= NOISE_S:
            powers = [exponent(counts, seconds), exponent(counts[-2:], seconds[-2:])]
            has_failed |= max(powers) > MOST
        slope = np.polyfit(counts, [cost.peak_mb for cost in found], 1)[0] * 1000 if len(counts) > 1 else np.nan
        cells = [f"{cost.cpu_s:.1f} s, {cost.peak_mb:,.0f} MB" for cost in found]
        cells += [f"{power:.2f}" for power in powers] or ["", ""]
        print(f"| {stage} | {' | '.join(cells)} | {slope:.1f} |")
    return int(has_failed)


if __name__ == "__main__":
    sys.exit(main())
