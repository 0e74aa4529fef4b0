"""Plots of learning rates: the training plan over epochs, and the LR sweep.

In: phases of a plan; columns of lr_sweep.csv and the content of lr_sweep.json. Out: PNG bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.config.plan import Phase, learning_rate
from pipeline.report.curves import Span, draw_phases
from pipeline.report.figure import LIGHT, Theme, add_legend, encode, new_figure, style_axes
from pipeline.report.read import Columns, numbers, two_digits

PLAN_STEPS = 40  # points per epoch of a drawn plan: a smooth line, and warm-ups within an epoch show
SWEEP_MARKS = {"steep": ("steepest", "v"), "fallen": ("90 % fallen", "s"), "minimum": ("minimum", "o")}
SWEEP_MARKS |= {"valley": ("valley", "D")}


def plan_curve(
    plan: Sequence[Phase], steps_per_epoch: int = PLAN_STEPS
) -> tuple[list[tuple[float, float]], list[Span]]:
    """Returns (epoch, LR) points of a plan as if no patience ran out, and the spans of its phases.

    Args:
        steps_per_epoch: how long a warm-up that is counted in steps looks; nothing else depends on it.
    """
    points: list[tuple[float, float]] = []
    spans: list[Span] = []
    start = 0
    for phase in plan:
        for point in range(phase.epochs * PLAN_STEPS):
            rate = learning_rate(phase, point * steps_per_epoch // PLAN_STEPS, steps_per_epoch)
            points.append((start + (point + 0.5) / PLAN_STEPS, rate))
        spans.append((phase.name, start, start + phase.epochs))
        start += phase.epochs
    return points, spans


def draw_plan(
    points: Sequence[tuple[float, float]],
    spans: Sequence[Span],
    title: str = "Learning rate of the plan",
    theme: Theme = LIGHT,
) -> bytes:
    """Returns the LR over epochs with the phases shaded and named.

    Args:
        points: (epoch, LR); the epoch counts in fractions from 0.
        spans: name, first and last epoch of each phase.
    """
    figure = new_figure(theme, height=300)
    axes = figure.subplots()
    style_axes(axes, theme, title)
    axes.plot(*zip(*points, strict=True), color=theme.valid, linewidth=1.8)
    axes.set_ylim(0, max(rate for _, rate in points) * 1.18)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_xlabel("epoch")
    axes.set_xlim(spans[0][1], spans[-1][2])
    draw_phases(axes, spans, theme, named=True)
    return encode(figure)


def draw_sweep(
    sweep: Columns, found: Mapping[str, Any] | None = None, max_lr: float | None = None, theme: Theme = LIGHT
) -> bytes:
    """Returns loss against learning rate: raw light, smoothed strong, the band of the repeats, the suggestions marked.

    A line through a mark spans the suggestions of the single repeats.

    Args:
        sweep: columns of lr_sweep.csv; `repeat` may be missing.
        found: content of lr_sweep.json.
        max_lr: the SOLVER.MAX_LR in use.
    """
    figure = new_figure(theme, height=400)
    axes = figure.subplots()
    plot_sweep(axes, sweep, found, max_lr, theme)
    axes.set_xlabel("learning rate (log axis)")
    add_legend(axes, theme, columns=3, loc="upper center", bbox_to_anchor=(0.5, -0.17))
    return encode(figure)


def plot_sweep(axes: Any, sweep: Columns, found: Mapping[str, Any] | None, max_lr: float | None, theme: Theme) -> None:
    """Draws what `draw_sweep` shows, but for the legend, into given axes."""
    style_axes(axes, theme, "Loss against learning rate")
    axes.set_xscale("log")
    axes.set_ylabel("loss")
    middles: dict[str, dict[float, float]] = {}
    for name, label, color in (("train_loss", "training", theme.train), ("valid_loss", "validation", theme.valid)):
        middles[name] = _draw_repeats(axes, sweep, name, label, color)
    _limit_explosion(axes, middles)
    if max_lr is not None:
        axes.axvline(max_lr, color=theme.mark, linewidth=1.6, label=f"MAX_LR {two_digits(max_lr)}", zorder=2.5)
    suggestions, bands = ((found or {}).get(name) or {} for name in ("suggestions", "band"))
    for key, (word, marker) in SWEEP_MARKS.items():
        rate = suggestions.get(key)
        if rate is not None and middles["valid_loss"]:
            height = _at(middles["valid_loss"], rate)
            look = {"markersize": 7, "markerfacecolor": theme.paper, "markeredgecolor": theme.ink, "zorder": 4}
            if key in bands:
                axes.plot(bands[key], [height, height], color=theme.ink, linewidth=1, zorder=3.5)
            axes.plot([rate], [height], marker, linestyle="none", label=f"{word} {two_digits(rate)}", **look)


def _draw_repeats(axes: Any, sweep: Columns, column: str, label: str, color: str) -> dict[float, float]:
    """Draws the curves of one loss; returns the median smoothed loss by learning rate."""
    smooth: dict[float, list[float]] = {}
    repeats: dict[str, list[tuple[float, float]]] = {}
    rates = numbers(sweep["lr"])
    repeat_of = sweep.get("repeat") or ["0"] * len(rates)
    smooth_rates = numbers(sweep.get("lr_smooth", sweep["lr"]))
    raw, smoothed = numbers(sweep.get(column, ())), numbers(sweep.get(f"{column}_smooth", ()))
    for rate, repeat, value in zip(rates, repeat_of, raw, strict=False):
        repeats.setdefault(repeat, []).append((rate, value))
    for rate, value in zip(smooth_rates, smoothed, strict=False):
        if math.isfinite(value):
            smooth.setdefault(rate, []).append(value)
    for points in repeats.values():
        axes.plot(*zip(*points, strict=True), color=color, linewidth=0.6, alpha=0.4)
    rates = sorted(smooth)
    middle = {rate: sorted(smooth[rate])[len(smooth[rate]) // 2] for rate in rates}
    if rates:
        lows, highs = ([edge(smooth[rate]) for rate in rates] for edge in (min, max))
        axes.fill_between(rates, lows, highs, color=color, alpha=0.16, linewidth=0)
        axes.plot(rates, [middle[rate] for rate in rates], color=color, linewidth=1.9, label=label)
    return middle


def _limit_explosion(axes: Any, middles: Mapping[str, Mapping[float, float]]) -> None:
    """Ends the axis a little above where the curves began: what explodes beyond would flatten all that matters."""
    curves = [list(middle.values()) for middle in middles.values() if middle]
    if curves:
        low, start = min(map(min, curves)), max(curve[0] for curve in curves)
        room = max(start - low, 1e-6)
        axes.set_ylim(low - 0.15 * room, start + 0.4 * room)


def _at(curve: Mapping[float, float], rate: float) -> float:
    """Returns a curve's value at the learning rate nearest to `rate` on a log axis."""
    return curve[min(curve, key=lambda known: abs(math.log(known / rate)))]
