"""Learning curves of several runs in one figure: validation loss, score, learning rate with the changes of each plan.

In: `Side`s. Out: PNG bytes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from pipeline.report.curves import epoch_axis, trained_curve
from pipeline.report.figure import LIGHT, Theme, add_legend, encode, new_figure, readable_color, style_axes
from pipeline.report.lettering import legend_label
from pipeline.report.plots import RUN_COLORS
from pipeline.report.read import numbers
from pipeline.report.side import Side
from pipeline.scores import label_of

WIDTH, HEIGHT = 1040, 900  # page pixels
LEGEND_ROWS = 36
# A line of matplotlib and a border of CSS: the colours of more runs come again in another line.
LINES = (("-", "solid"), ((0, (5, 2)), "dashed"), ((0, (1.2, 1.4)), "dotted"), ((0, (6, 1.6, 1.2, 1.6)), "double"))
# Beyond it a loss is cut off: that of a few epochs, or of a run that diverged, would flatten all others.
SHOWN_SHARE, MARGIN = 0.97, 1.15

Point = tuple[float, float]


def run_color(index: int, theme: Theme = LIGHT) -> str:
    """Returns the colour of the run of this number."""
    color = RUN_COLORS[index % len(RUN_COLORS)].lstrip("#")
    red, green, blue = (int(color[start : start + 2], 16) for start in (0, 2, 4))
    return readable_color((red, green, blue), theme)


def run_line(index: int) -> tuple[Any, str]:
    """Returns the line style of the run of this number, for matplotlib and for CSS."""
    return LINES[index // len(RUN_COLORS) % len(LINES)]


def draw_overlay(sides: Sequence[Side], score: str, theme: Theme = LIGHT) -> bytes:
    """Returns validation loss, a score, and the learning rate over epochs, a line per run.

    Circles mark where a phase of the plan begins, crosses where the plan was changed while it trained.
    """
    figure = new_figure(theme, HEIGHT, WIDTH)
    losses, scores, rates = figure.subplots(3, 1, sharex=True, height_ratios=[5, 6, 4])
    trained = [(index, side) for index, side in enumerate(sides) if side.history.get("epoch")]
    for index, side in trained:
        style = {"color": run_color(index, theme), "linestyle": run_line(index)[0], "linewidth": 1.5}
        epochs = numbers(side.history["epoch"])
        for axes, column in ((losses, "valid_loss"), (scores, f"valid_{score}")):
            if any(side.history.get(column, ())):
                axes.plot(epochs, numbers(side.history[column]), **style)
        points = rate_points(side)
        rates.plot(*zip(*points, strict=True), **style, label=legend_label(side.label))
        _mark(rates, side, points, style["color"])
    titles = ("Validation loss", f"Validation {label_of(score)}", "Learning rate")
    for axes, title in zip((losses, scores, rates), titles, strict=True):
        style_axes(axes, theme, title)
    if limit := _limit([side for _, side in trained]):
        losses.set_ylim(top=limit)
    rates.set_ylim(bottom=0)
    rates.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    longest = max((side for _, side in trained), key=lambda side: side.last_epoch or 0)
    epoch_axis(rates, longest.history)
    add_legend(figure, theme, math.ceil(len(trained) / LEGEND_ROWS), loc="outside right upper")
    return encode(figure)


def rate_points(side: Side) -> list[Point]:
    """Returns (epoch, LR) of the steps that were trained, or of the ends of epochs where the plan is not known."""
    steps = side.steps_per_epoch
    if side.phases and steps and (points := trained_curve(side.phases, side.spans, steps)):
        return points
    pairs = zip(numbers(side.history["epoch"]), numbers(side.history["lr"]), strict=True)
    return [(epoch, rate) for epoch, rate in pairs if not math.isnan(rate)] or [(0.0, math.nan)]


def _mark(axes: Any, side: Side, points: Sequence[Point], color: str) -> None:
    style = {"linestyle": "none", "color": color, "zorder": 3}
    begun = [start for _, start, _ in side.spans[1:]]
    axes.plot(begun, [_rate_at(points, epoch) for epoch in begun], "o", markersize=5, markerfacecolor="none", **style)
    changed = list(_changed(side))
    axes.plot(changed, [_rate_at(points, epoch) for epoch in changed], "X", markersize=6, **style)


def _changed(side: Side) -> Iterator[float]:
    """Yields the epochs after which the plan was changed, with a fraction within an epoch."""
    for epoch, step in zip(*(map(int, side.changes.get(name, ())) for name in ("epoch", "step")), strict=True):
        yield epoch + min(step / (side.steps_per_epoch or 1), 1.0)


def _rate_at(points: Sequence[Point], epoch: float) -> float:
    """Returns the rate of the first step after an epoch."""
    return next((rate for at, rate in points if at > epoch), points[-1][1])


def _limit(sides: Sequence[Side]) -> float | None:
    """Returns up to where losses are shown: nearly all of those of trained networks."""
    values = [value for side in sides for value in numbers(side.history.get("valid_loss", ()))[1:]]
    known = np.array([value for value in values if math.isfinite(value)])
    if not len(known):
        return None
    limit = float(np.quantile(known, SHOWN_SHARE))
    return None if known.max() <= MARGIN * limit else MARGIN * limit
