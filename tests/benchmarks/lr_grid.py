"""Is the sweep right? Its curve and suggestions beside what trainings at a grid of learning rates reached.

    python -m tests.benchmarks.lr_grid demo 3e-4 1e-3 3e-3 1e-2 3e-2 1e-1
    python -m tests.benchmarks.lr_grid CamVidPAB 2e-4 6e-4 2e-3 6e-3 2e-2 6e-2 SWEEP.STEPS=41

Everything goes through the ordinary command line: one run that sweeps, then one run per rate that trains with
SOLVER.MAX_LR set to it; finished runs are not repeated. Overrides of SWEEP go to the sweep alone, others to all runs.
Writes `lr_grid.png` and `lr_grid.csv` into the folder of the run that swept.
"""

from __future__ import annotations

import csv
import math
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.engine.api import open_run
from pipeline.files import write_atomic
from pipeline.paths import PROJECT, RunPaths
from pipeline.report.curves import plot_sweep
from pipeline.report.figure import LIGHT, Theme, add_legend, encode, new_figure, style_axes
from pipeline.report.read import Columns, numbers, read_columns, read_json
from pipeline.training.sweep_curve import FAR_OFF


@dataclass(frozen=True)
class Outcome:
    """What a training at one rate reached after its last epoch; NaN where it broke off."""

    rate: float
    run: str
    valid_loss: float
    dice: float
    miou: float


def run_stages(name: str, stage: str, overrides: Sequence[str]) -> tuple[RunPaths, bool]:
    """Runs an experiment up to a stage in a process of its own; returns its paths and whether it came to its end."""
    command = [sys.executable, "-m", "pipeline", name, stage, *overrides]
    code = subprocess.run(command, cwd=PROJECT, check=False).returncode
    if code not in (0, 2):  # 2: the loss was not finite, which is an answer
        raise SystemExit(f"exit code {code}: {' '.join(command[1:])}")
    return open_run(name, overrides).paths, code == 0


def train_at(name: str, rate: float, overrides: Sequence[str]) -> Outcome:
    """Returns what a training with this SOLVER.MAX_LR reaches."""
    paths, is_done = run_stages(name, "train", [*overrides, "SWEEP.ENABLE=false", f"SOLVER.MAX_LR={rate:g}"])
    if not is_done:
        return Outcome(rate, paths.name, math.nan, math.nan, math.nan)
    history = read_columns(paths / "history.csv")
    loss, dice, miou = (numbers(history[column])[-1] for column in ("valid_loss", "valid_dice", "valid_miou"))
    return Outcome(rate, paths.name, loss, dice, miou)


def best_rate(outcomes: Sequence[Outcome]) -> float:
    """Returns the rate of the lowest validation loss, between grid points by a parabola through three on a log axis.

    >>> points = [Outcome(rate, "", loss, 0.0, 0.0) for rate, loss in ((0.01, 2.0), (0.1, 1.0), (1.0, 2.0))]
    >>> round(best_rate(points), 6)
    0.1
    """
    known = [outcome for outcome in outcomes if math.isfinite(outcome.valid_loss)]
    lowest = min(range(len(known)), key=lambda index: known[index].valid_loss)
    if lowest in (0, len(known) - 1):
        return known[lowest].rate
    (x0, y0), (x1, y1), (x2, y2) = ((math.log(o.rate), o.valid_loss) for o in known[lowest - 1 : lowest + 2])
    # The vertex of a parabola through three points.
    above = (x1 - x0) ** 2 * (y1 - y2) - (x1 - x2) ** 2 * (y1 - y0)
    below = (x1 - x0) * (y1 - y2) - (x1 - x2) * (y1 - y0)
    return math.exp(x1 - above / (2 * below)) if below else known[lowest].rate


def good_rates(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    """Returns the lowest and highest rate whose Dice is within 0.02 of the grid's best."""
    most = max(outcome.dice for outcome in outcomes if math.isfinite(outcome.dice))
    good = [outcome.rate for outcome in outcomes if outcome.dice >= most - 0.02]
    return min(good), max(good)


def draw_grid(sweep: Columns, found: Mapping[str, Any], outcomes: Sequence[Outcome], title: str, theme: Theme) -> bytes:
    """Returns the sweep above what the grid reached, on one axis of learning rates."""
    figure = new_figure(theme, height=700)
    above, below = figure.subplots(2, 1, sharex=True, height_ratios=[5, 4])
    plot_sweep(above, sweep, found, None, theme)
    add_legend(above, theme, columns=3, loc="upper center", bbox_to_anchor=(0.5, -0.05))
    style_axes(below, theme, title)
    rates = [outcome.rate for outcome in outcomes]
    below.plot(rates, [o.valid_loss for o in outcomes], "o-", color=theme.valid, linewidth=1.6, label="validation loss")
    for outcome in outcomes:
        if not math.isfinite(outcome.valid_loss):
            below.axvline(outcome.rate, color=theme.mark, linewidth=1, linestyle=(0, (2, 2)))
            below.text(outcome.rate, 0.5, " broke off", color=theme.mark, fontsize=7.5, rotation=90)
    below.set_ylabel("loss")
    score = below.twinx()
    style_axes(score, theme, grid="none")
    for column, label, color in (("dice", "Dice", theme.other), ("miou", "mIoU", theme.muted)):
        values = [getattr(outcome, column) for outcome in outcomes]
        score.plot(rates, values, "s--", markersize=4, color=color, linewidth=1.2, label=label)
    score.set_ylabel("Dice, mIoU")
    for axes in (above, below):
        axes.axvspan(*good_rates(outcomes), color=theme.other, alpha=0.12, linewidth=0)
    below.plot([], [], color=theme.other, alpha=0.25, linewidth=8, label="Dice within 0.02 of the best")
    for axes, x in ((below, 0.27), (score, 0.8)):
        add_legend(axes, theme, columns=2, loc="upper center", bbox_to_anchor=(x, -0.15))
    below.set_xlabel("learning rate, or MAX_LR (log axis)")
    return encode(figure)


def report(paths: RunPaths, name: str, outcomes: Sequence[Outcome]) -> None:
    """Prints the table and how far each suggestion lies from the best rate; writes csv and plot."""
    found = read_json(paths / "lr_sweep.json")
    with open(paths / "lr_grid.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["max_lr", "run", "valid_loss", "valid_dice", "valid_miou"])
        writer.writerows([o.rate, o.run, o.valid_loss, o.dice, o.miou] for o in outcomes)
    print(f"\n{'MAX_LR':>9} {'valid loss':>11} {'Dice':>7} {'mIoU':>7}  run")
    for one in outcomes:
        print(f"{one.rate:9.2g} {one.valid_loss:11.4f} {one.dice:7.4f} {one.miou:7.4f}  {one.run}")
    best, (low, high) = best_rate(outcomes), good_rates(outcomes)
    print(f"lowest loss near {best:.2g}; Dice within 0.02 of the best from {low:.2g} to {high:.2g}")
    for mark, rate in found["suggestions"].items():
        factor = max(rate / best, best / rate)
        verdict = "near" if factor <= FAR_OFF else "FAR"
        lowest, highest = found["band"][mark]
        side = "above" if rate > best else "below"
        print(f"{mark:>8} {rate:8.2g} ({lowest:.2g} to {highest:.2g}): x{factor:.1f} {side} the best, {verdict}")
    plot = draw_grid(read_columns(paths / "lr_sweep.csv"), found, outcomes, f"What trainings of {name} reached", LIGHT)
    write_atomic(paths / "lr_grid.png", plot)
    print(f"plot: {paths / 'lr_grid.png'}")


def main(arguments: Sequence[str]) -> None:
    name, *others = arguments
    overrides = [argument for argument in others if "=" in argument]
    rates = sorted(float(argument) for argument in others if "=" not in argument)
    shared = [override for override in overrides if not override.startswith("SWEEP.")]
    paths, is_done = run_stages(name, "sweep", [*overrides, "SWEEP.ENABLE=true"])
    if not is_done:
        raise SystemExit("the sweep was refused")
    report(paths, name, [train_at(name, rate, shared) for rate in rates])


if __name__ == "__main__":
    main(sys.argv[1:])
