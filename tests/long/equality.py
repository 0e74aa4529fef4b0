"""Two ranks with half of each batch against one process with the whole: how much loss, weights and scores differ.

    python -m tests.long.equality                      every loss; a table in Markdown
    python -m tests.long.equality --losses "1 dice"    some of them

Each pair of trainings has the tests' small competition, 20 steps of batch 8 on the CPU in float32 (two ranks of 4), the
same seed, and augmented crops. The network has no dropout, which draws other numbers in each rank. The last row is a
contrast: batch norms that do not see the other rank's samples. Exit code 1 when a loss of the first step, or Dice after
the last, differs by more than the tolerance.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from torch import Tensor

from pipeline.paths import HISTORY, LAST, STEPS
from pipeline.report.read import read_columns
from pipeline.segmentation import losses
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.ranks import launch
from tests.long.processes import load_packages, run_to_end
from tests.tiny import overrides, write_competition

FIRST_TOLERANCE, DICE_TOLERANCE = 1e-5, 1e-3
SETTINGS = (
    *("DATALOADERS.TRAIN.BATCH_SIZE=8", "SWEEP.ENABLE=false", "RUNTIME.LOG_STEPS=1", "SOLVER.SAVE_MINUTES=60"),
    *("SOLVER.NUM_EPOCHS=4", "SOLVER.ANN_EPOCHS=1", "DATASETS.AUGMENTATION.COPY_PASTE.ENABLE=false"),
    *("DATASETS.AUGMENTATION.RANDOM_CROP.ENABLE=true", "DATASETS.AUGMENTATION.RANDOM_CROP.PER_IMAGE=4"),
    *("DATASETS.AUGMENTATION.RANDOM_CROP.WIDTH=64", "DATASETS.AUGMENTATION.RANDOM_CROP.HEIGHT=64"),
)
MIXED = ("1 ce(top=0.2)", "0.5 ce + 0.5 dice")
APART = "RUNTIME.SYNC_BATCH_NORM=false"


class Difference(NamedTuple):
    """The largest absolute differences of two trainings.

    Attributes:
        first: of the loss of the first step, before any weight has changed.
        loss: of the loss of any of the steps.
        weights: of any weight or statistic after the last step.
        weight: of the largest weight itself, for comparison.
        dice: of the validation Dice after any epoch.
    """

    steps: int
    first: float
    loss: float
    weights: float
    weight: float
    dice: float


def trained_run(folder: Path) -> Path:
    (last,) = (folder / "runs").glob(f"demo*/{LAST}")
    return last.parent


def columns(folder: Path, name: str, column: str) -> list[float]:
    return [float(value) for value in read_columns(trained_run(folder) / name)[column] if value]


def weights(folder: Path) -> dict[str, Tensor]:
    return load_checkpoint(trained_run(folder) / LAST)["network"]


def compare(one: Path, two: Path) -> Difference:
    """Returns how two finished runs differ."""

    def largest(name: str, column: str) -> float:
        pairs = zip(columns(one, name, column), columns(two, name, column), strict=True)
        return float(np.max([abs(first - second) for first, second in pairs]))  # NaN where one is

    first, second, steps = weights(one), weights(two), [columns(folder, STEPS, "loss") for folder in (one, two)]
    return Difference(
        len(steps[0]),
        abs(steps[0][0] - steps[1][0]),
        largest(STEPS, "loss"),
        max(float((first[key] - second[key]).abs().max()) for key in first),
        max(float(value.abs().max()) for value in first.values() if value.is_floating_point()),
        largest(HISTORY, "valid_dice"),
    )


def trained(prepared: Path, folder: Path, data: Path, changes: Sequence[str]) -> Path:
    """Trains in a copy of a prepared folder; returns the copy."""
    shutil.copytree(prepared, folder)
    code, output = run_to_end(folder, ["train", *overrides(data, *changes)], start_forked)
    if code:
        raise SystemExit(f"a training ended with {code}:\n{output}")
    return folder


def start_forked() -> None:
    launch.START_METHOD = "fork"


def main(arguments: Sequence[str]) -> int:
    options = argparse.ArgumentParser(prog="python -m tests.long.equality", description=__doc__.split("\n")[0])
    options.add_argument(
        "--losses", nargs="*", metavar="MIX", default=[f"1 {name}" for name in losses.TERMS] + [*MIXED]
    )
    chosen = options.parse_args(arguments)
    load_packages()
    print("| loss | first step | largest of all steps | weights | Dice |\n|---|---|---|---|---|", flush=True)
    too_large = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        data = write_competition(folder / "data")
        run_to_end(folder / "prepared", ["tile", *overrides(data, *SETTINGS)])
        for number, (mix, extra) in enumerate([*((mix, ()) for mix in chosen.losses), (chosen.losses[0], (APART,))]):
            changes = (*SETTINGS, f"LOSS_FN.MIX={mix}")
            one = trained(folder / "prepared", folder / f"one-{number}", data, changes)
            two = trained(folder / "prepared", folder / f"two-{number}", data, (*changes, "RUNTIME.RANKS=2", *extra))
            found = compare(one, two)
            what = f"{mix}, batch norms of each rank alone" if extra else mix
            print(
                f"| {what} | {found.first:.1e} | {found.loss:.1e} | {found.weights:.1e} | {found.dice:.1e} |",
                flush=True,
            )
            if not extra and not (found.first <= FIRST_TOLERANCE and found.dice <= DICE_TOLERANCE):
                too_large.append(mix)
    print(f"after {found.steps} steps; the largest weight is {found.weight:.2g}")
    print(f"too large: {', '.join(too_large) or 'none'}")
    return 1 if too_large else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
