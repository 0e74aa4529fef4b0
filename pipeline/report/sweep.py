"""The plot of the LR sweep: loss against learning rate, and the rates that it suggests.

In: columns of lr_sweep.csv and the content of lr_sweep.json. Out: PNG bytes.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.report.figure import LIGHT, Theme, add_legend, encode, new_figure, style_axes
from pipeline.report.read import Columns, numbers, two_digits

# Name and marker of each suggestion of lr_sweep.json; drawn unfilled, so that coinciding ones show.
SWEEP_MARKS = {
    "steep": ("steepest", "o"),
    "valley": ("valley", "s"),
    "trough": ("trough", "D"),
    "minimum": ("minimum", "^"),
}
PADDING = 0.15  # of the height of the curves, above and below them


def draw_sweep(
    sweep: Columns, found: Mapping[str, Any] | None = None, max_lr: float | None = None, theme: Theme = LIGHT
) -> bytes:
    """Returns loss against learning rate: as measured thin, smoothed thick, the band of the repeats; the suggestions.

    Args:
        sweep: columns of lr_sweep.csv; `repeat` may be missing.
        found: content of lr_sweep.json.
        max_lr: the SOLVER.MAX_LR in use.
    """
    figure = new_figure(theme, height=400)
    axes = figure.subplots()
    plot_sweep(axes, sweep, found or {}, max_lr, theme)
    axes.set_xlabel("learning rate (log axis)")
    add_legend(figure, theme, columns=2, loc="outside lower center")
    return encode(figure)


def plot_sweep(axes: Any, sweep: Columns, found: Mapping[str, Any], max_lr: float | None, theme: Theme) -> None:
    """Draws the curves and, on the validation curve, the suggestions; in brackets the range over the repeats."""
    style_axes(axes, theme, "Loss against learning rate")
    axes.set_xscale("log")
    axes.set_ylabel("loss")
    losses = [
        (_loss(sweep, "train_loss"), "training", theme.train),
        (_loss(sweep, "valid_loss"), "validation", theme.valid),
    ]
    _limit_explosion(axes, [loss for loss, _, _ in losses])
    for loss, label, color in losses:
        _draw_loss(axes, loss, label, color)
    axes.plot([], [], color=theme.muted, linewidth=0.7, label="as measured")
    if any(len(loss.raw) > 1 for loss, _, _ in losses):
        axes.fill_between([], [], color=theme.muted, alpha=0.25, linewidth=0, label="lowest to highest repeat")
    if max_lr is not None:
        axes.axvline(max_lr, color=theme.mark, linewidth=1.6, label=f"MAX_LR {two_digits(max_lr)}", zorder=2.5)
    curve = losses[1][0].middle
    suggestions, bands = found.get("suggestions") or {}, found.get("band") or {}
    for key, (name, marker) in SWEEP_MARKS.items() if curve else ():
        if rate := suggestions.get(key):
            low, high = bands.get(key) or (rate, rate)
            span = f" ({two_digits(low)} to {two_digits(high)})" if high > low else ""
            height = np.interp(math.log(rate), np.log(list(curve)), list(curve.values()))
            style = {"markersize": 6, "markerfacecolor": "none", "markeredgecolor": theme.text, "zorder": 4}
            axes.plot([rate], [height], marker, label=f"{name} {two_digits(rate)}{span}", **style)


@dataclass(frozen=True)
class _Loss:
    """One loss of a sweep: (rate, value) as measured by repeat, and the median of the smoothed ones by rate."""

    raw: list[list[tuple[float, float]]]
    smooth: dict[float, list[float]]

    @property
    def middle(self) -> dict[float, float]:
        return {rate: statistics.median_low(values) for rate, values in sorted(self.smooth.items())}


def _loss(sweep: Columns, column: str) -> _Loss:
    repeats: dict[str, list[tuple[float, float]]] = {}
    smooth: dict[float, list[float]] = {}
    rates = numbers(sweep["lr"])
    repeat_of = sweep.get("repeat") or ["0"] * len(rates)
    for rate, repeat, value in zip(rates, repeat_of, numbers(sweep.get(column, ())), strict=False):
        if math.isfinite(value):
            repeats.setdefault(repeat, []).append((rate, value))
    smooth_rates = numbers(sweep.get("lr_smooth", sweep["lr"]))
    for rate, value in zip(smooth_rates, numbers(sweep.get(f"{column}_smooth", ())), strict=False):
        if math.isfinite(value):
            smooth.setdefault(rate, []).append(value)
    return _Loss(list(repeats.values()), smooth)


def _limit_explosion(axes: Any, losses: Sequence[_Loss]) -> None:
    """Limits the axes to the curves up to the validation's minimum, and beyond it to what is no higher.

    A loss that explodes would flatten the rest. The axes end where the last curve leaves them; a smoothed curve ends
    before the last rate, as it averages over earlier ones.
    """
    middles = [loss.middle for loss in losses if loss.smooth]
    if not middles:
        return
    turn = min(middles[-1], key=middles[-1].__getitem__)
    points = [point for loss in losses for repeat in loss.raw for point in repeat]
    points += [point for middle in middles for point in middle.items()]
    top = max(value for rate, value in points if rate <= turn)
    ends = [turn]
    for middle in middles:
        ends += [after for (rate, value), (after, _) in pairwise(middle.items()) if value <= top]
    low = min(value for rate, value in points if rate <= max(ends))
    padding = PADDING * max(top - low, 1e-6)
    axes.set_ylim(low - padding, top + padding)
    start = min(rate for rate, _ in points)
    margin = (max(ends) / start) ** 0.02
    axes.set_xlim(start / margin, max(ends) * margin)


def _draw_loss(axes: Any, loss: _Loss, label: str, color: str) -> None:
    """Draws the curves of one loss; what was measured ends where it first leaves the axes after its minimum."""
    top = axes.get_ylim()[1]
    for points in loss.raw:
        lowest = min(range(len(points)), key=lambda index: points[index][1])
        left = next((index for index in range(lowest, len(points)) if points[index][1] > top), len(points))
        axes.plot(*zip(*points[: left + 1], strict=True), color=color, linewidth=0.6, alpha=0.45)
    if loss.smooth:
        rates = list(loss.middle)
        lows, highs = ([edge(loss.smooth[rate]) for rate in rates] for edge in (min, max))
        axes.fill_between(rates, lows, highs, color=color, alpha=0.16, linewidth=0)
        axes.plot(rates, list(loss.middle.values()), color=color, linewidth=1.9, label=label)
