"""Curves: loss, scores and learning rate over epochs, the learning rate as planned, the loss of the LR sweep.

In: columns of history.csv and lr_sweep.csv, content of lr_sweep.json, phases of a plan. Out: points, PNG bytes.
"""

from __future__ import annotations

import math
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from itertools import accumulate, groupby, pairwise
from operator import itemgetter
from typing import Any, NamedTuple

import numpy as np

from pipeline.config.plan import Phase, learning_rate
from pipeline.report.figure import LIGHT, Theme, add_legend, encode, new_axes, new_figure, style_axes
from pipeline.report.read import Columns, numbers, two_digits
from pipeline.scores import label_of

Span = tuple[str, float, float]  # phase name, first and last epoch on the axis

DOTS_UP_TO = 40  # epochs; with more, dots on a line become a blur
PLAN_STEPS = 40  # points per epoch of a drawn plan, at most: a smooth line that shows warm-ups within an epoch
# Name and marker of each suggestion of lr_sweep.json; drawn unfilled, so that coinciding ones show.
SWEEP_MARKS = {
    "steep": ("steepest", "o"),
    "valley": ("valley", "s"),
    "trough": ("trough", "D"),
    "minimum": ("minimum", "^"),
}
PADDING = 0.15  # of the height of the curves, above and below them


def phase_spans(history: Columns) -> list[Span]:
    """Returns the phases of a history, each from the epoch that it began after to its last.

    >>> phase_spans({"epoch": ["0", "1", "2", "3"], "phase": ["", "flat", "flat", "anneal"]})
    [('flat', 0.0, 2.0), ('anneal', 2.0, 3.0)]
    """
    rows = zip(history["phase"], numbers(history["epoch"]), strict=True)
    groups = groupby((row for row in rows if row[1] > 0), key=itemgetter(0))
    epochs_of = [(phase, [epoch for _, epoch in group]) for phase, group in groups]
    return [(phase, epochs[0] - 1, epochs[-1]) for phase, epochs in epochs_of]


def draw_learning_curves(
    history: Columns,
    score: str,
    reverts: Sequence[str] = (),
    theme: Theme = LIGHT,
    rates: Sequence[tuple[float, float]] = (),
    changes: Sequence[float] = (),
) -> bytes:
    """Returns loss, scores, and LR over epochs.

    Args:
        score: name of the main score, which is drawn for training too.
        reverts: names of phases that start from the best weights; an arrow leads back to that epoch.
        rates: (epoch, LR) of the steps, see `trained_curve`; without them the rates at the ends of the epochs are
            joined, which hides what happens within an epoch.
        changes: epochs after which the plan was changed.
    """
    figure = new_figure(theme, height=640)
    losses, scores, rate = figure.subplots(3, 1, sharex=True, height_ratios=[5, 6, 3])
    spans, best, jumps = phase_spans(history), best_row(history), _jumps(history, reverts)
    breaks, epochs = [row for row, _ in jumps], numbers(history["epoch"])
    for axes, name in ((losses, "loss"), (scores, score)):
        _plot(axes, history, f"train_{name}", breaks, "training", color=theme.train)
        _plot(axes, history, f"valid_{name}", breaks, "validation", color=theme.valid)
    names = [column.removeprefix("valid_") for column in history if column.startswith("valid_")]
    per_class = {name for name in names if any(name.startswith(f"{other}_") for other in names)}
    others = [name for name in names if name not in {"loss", score, *per_class}]
    styles = ({"color": theme.other}, {"color": theme.muted, "linestyle": (0, (4, 2))})
    for name, style in zip(others, styles, strict=False):  # more lines would be hard to read
        _plot(scores, history, f"valid_{name}", breaks, label_of(name), **style)
    if rates:
        rate.plot(*zip(*rates, strict=True), color=theme.text, linewidth=1.6)
    _plot(rate, history, "lr", (), "LR", color=theme.text, **({"linestyle": "none"} if rates else {}))
    for axes, title in ((losses, "Loss"), (scores, label_of(score)), (rate, "Learning rate")):
        style_axes(axes, theme, title)
        draw_phases(axes, spans, theme, named=axes is losses)
    epoch_axis(rate, history)
    ring = {"markersize": 6, "markerfacecolor": "none", "markeredgecolor": theme.mark, "markeredgewidth": 1.4}
    for axes, column, margin in ((losses, "valid_loss", 0.14), (scores, f"valid_{score}", 0.06)):
        axes.margins(y=margin)
        if best is not None and column in history:
            value = numbers(history[column])[best]
            axes.axvline(epochs[best], color=theme.mark, linewidth=0.9, linestyle=(0, (2, 2)))
            axes.plot([epochs[best]], [value], "o", label=f"best: {value:.3f}", **ring)
        add_legend(axes, theme, columns=5)
    for row, source in jumps:
        if source is not None:
            _draw_jump(losses, epochs[row] - 1, epochs[source], theme)
    for epoch in changes:
        for axes in (losses, scores, rate):
            label = "plan changed" if axes is rate and epoch == changes[0] else None
            axes.axvline(epoch, color=theme.valid, linewidth=0.9, linestyle=(0, (1, 2)), label=label)
    if changes:
        add_legend(rate, theme, columns=5)
    rate.set_ylim(bottom=0)
    rate.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return encode(figure)


def _plot(axes: Any, history: Columns, column: str, breaks: Sequence[int], label: str | None, **style: Any) -> None:
    """Draws one column; a new line begins at each row of `breaks`."""
    if column not in history or not any(history[column]):
        return
    epochs, values = numbers(history["epoch"]), numbers(history[column])
    known = sum(not math.isnan(value) for value in values)
    for begin, end in pairwise([0, *breaks, len(values)]):
        is_alone = sum(not math.isnan(value) for value in values[begin:end]) == 1  # no line would show it
        marker = {"marker": "o", "markersize": 4.5 if is_alone else 2.6} if known <= DOTS_UP_TO or is_alone else {}
        axes.plot(epochs[begin:end], values[begin:end], linewidth=1.6, label=label, **marker, **style)
        label = None


def _jumps(history: Columns, reverts: Sequence[str]) -> list[tuple[int, int | None]]:
    """Returns the rows at which training went back to the best weights, each with the row of these.

    >>> _jumps({"phase": ["", "flat", "flat", "anneal"], "is_best": "1100"}, ["anneal"])
    [(3, 1)]
    >>> _jumps({"phase": ["", "flat", "flat", "anneal"], "is_best": "1110"}, ["anneal"])
    []
    """
    steps = enumerate(pairwise(history["phase"]), start=1)
    starts = [row for row, (before, phase) in steps if phase != before and phase in reverts]
    return [(row, best) for row in starts if (best := best_row(history, before=row)) != row - 1]


def best_row(history: Columns, before: int | None = None) -> int | None:
    """Returns the last row that was the best so far, of those before a row."""
    rows = [row for row, is_best in enumerate(numbers(history["is_best"])[:before]) if is_best == 1]
    return rows[-1] if rows else None


def draw_phases(axes: Any, spans: Sequence[Span], theme: Theme, named: bool) -> None:
    """Shades every second phase and, with `named`, writes the names at the top."""
    for index, (name, start, end) in enumerate(spans):
        if index % 2 == 0:
            axes.axvspan(start, end, color=theme.shade, zorder=0, linewidth=0)
        if index:
            axes.axvline(start, color=theme.muted, linewidth=0.7, zorder=1)
        if named:
            total = spans[-1][2] - spans[0][1]
            is_narrow = (end - start) / total < 0.025 * len(name)
            text = {"transform": axes.get_xaxis_transform(), "fontsize": 7.5, "color": theme.muted, "style": "italic"}
            axes.text((start + end) / 2, 0.985, name, ha="center", va="top", rotation=90 if is_narrow else 0, **text)


def _draw_jump(axes: Any, start: float, best: float, theme: Theme) -> None:
    """Draws an arrow from the beginning of a phase back to the epoch whose weights it starts from."""
    arrow = {"arrowstyle": "->", "color": theme.mark, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
    coordinates = dict.fromkeys(("xycoords", "textcoords"), axes.get_xaxis_transform())
    axes.annotate("", (best, 0.8), (start, 0.8), arrowprops=arrow, **coordinates)
    style = {"fontsize": 7.5, "color": theme.mark, "ha": "right", "va": "bottom"}
    axes.text(start, 0.82, f"back to epoch {best:g}", transform=axes.get_xaxis_transform(), **style)


def epoch_axis(axes: Any, history: Columns | None = None) -> None:
    """Gives axes an axis of whole epochs; with a history, a little longer than that at both ends."""
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch (0: before training)" if history else "epoch")
    if history:
        last = max(1, max(numbers(history["epoch"]), default=0.0))
        axes.set_xlim(-0.02 * last, 1.02 * last)


def plan_curve(plan: Sequence[Phase], steps_per_epoch: int) -> tuple[list[tuple[float, float]], list[Span]]:
    """Returns (epoch, LR) points of a plan as if no patience ran out, and the spans of its phases.

    Args:
        steps_per_epoch: decides the length of a warm-up given in steps, and how finely the plan is drawn.
    """
    ends = accumulate((phase.epochs for phase in plan), initial=0)
    spans = [(phase.name, *ends_of_phase) for phase, ends_of_phase in zip(plan, pairwise(ends), strict=True)]
    return trained_curve(plan, spans, steps_per_epoch), spans


def trained_curve(plan: Sequence[Phase], spans: Sequence[Span], steps_per_epoch: int) -> list[tuple[float, float]]:
    """Returns the (epoch, LR) points of the epochs that were trained; see `phase_spans`."""
    phases = {phase.name: phase for phase in plan}
    if not {name for name, _, _ in spans} <= set(phases):
        return []  # trained with another plan
    return [
        point
        for name, start, end in spans
        for point in _phase_curve(phases[name], start, round(end - start), steps_per_epoch)
    ]


def _phase_curve(phase: Phase, start: float, epochs: int, steps_per_epoch: int) -> list[tuple[float, float]]:
    """Returns points in the middle of steps, and one at either end, so that sudden changes are vertical."""
    per_epoch = min(PLAN_STEPS, steps_per_epoch)
    steps = [number * steps_per_epoch // per_epoch for number in range(epochs * per_epoch)]
    rates = [learning_rate(phase, step, steps_per_epoch) for step in steps]
    inner = [(start + (step + 0.5) / steps_per_epoch, rate) for step, rate in zip(steps, rates, strict=True)]
    return [(start, rates[0]), *inner, (start + epochs, rates[-1])]


def draw_plan(
    plan: Sequence[Phase], steps_per_epoch: int | None, title: str = "Learning rate of the plan", theme: Theme = LIGHT
) -> bytes:
    """Returns the LR over epochs, as if no patience ran out, with the phases shaded and named.

    Args:
        steps_per_epoch: None: unknown yet; drawn for `PLAN_STEPS`.
    """
    points, spans = plan_curve(plan, steps_per_epoch or PLAN_STEPS)
    figure, axes = new_axes(theme, title, height=300)
    axes.plot(*zip(*points, strict=True), color=theme.valid, linewidth=1.8)
    axes.set_ylim(0, max(rate for _, rate in points) * 1.18)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("learning rate")
    epoch_axis(axes)
    axes.set_xlim(spans[0][1], spans[-1][2])
    draw_phases(axes, spans, theme, named=True)
    return encode(figure)


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
    training, validation = losses = [_loss(sweep, column) for column in ("train_loss", "valid_loss")]
    _limit_explosion(axes, losses)
    _draw_loss(axes, training, "training", theme.train)
    _draw_loss(axes, validation, "validation", theme.valid)
    axes.plot([], [], color=theme.muted, linewidth=0.7, label="as measured")
    if any(len(loss.raw) > 1 for loss in losses):
        axes.fill_between([], [], color=theme.muted, alpha=0.25, linewidth=0, label="lowest to highest repeat")
    if max_lr is not None:
        axes.axvline(max_lr, color=theme.mark, linewidth=1.6, label=f"MAX_LR {two_digits(max_lr)}", zorder=2.5)
    curve = validation.middle
    suggestions, bands = found.get("suggestions") or {}, found.get("band") or {}
    for key, (name, marker) in SWEEP_MARKS.items() if curve else ():
        if rate := suggestions.get(key):
            low, high = bands.get(key) or (rate, rate)
            span = f" ({two_digits(low)} to {two_digits(high)})" if high > low else ""
            height = np.interp(math.log(rate), np.log(list(curve)), list(curve.values()))
            style = {"markersize": 6, "markerfacecolor": "none", "markeredgecolor": theme.text, "zorder": 4}
            axes.plot([rate], [height], marker, label=f"{name} {two_digits(rate)}{span}", **style)


class _Loss(NamedTuple):
    """One loss of a sweep: its points as measured, by repeat; the smoothed values by rate, and the median of each."""

    raw: list[list[tuple[float, float]]]
    smooth: dict[float, list[float]]
    middle: dict[float, float]


def _loss(sweep: Columns, column: str) -> _Loss:
    raw: dict[str, list[tuple[float, float]]] = defaultdict(list)
    smooth: dict[float, list[float]] = defaultdict(list)
    rates, smooth_rates = numbers(sweep["lr"]), numbers(sweep.get("lr_smooth", sweep["lr"]))
    repeat_of = sweep.get("repeat") or ["0"] * len(rates)
    for rate, repeat, value in zip(rates, repeat_of, numbers(sweep.get(column, ())), strict=False):
        if math.isfinite(value):
            raw[repeat].append((rate, value))
    for rate, value in zip(smooth_rates, numbers(sweep.get(f"{column}_smooth", ())), strict=False):
        if math.isfinite(value):
            smooth[rate].append(value)
    smooth = dict(sorted(smooth.items()))
    return _Loss(list(raw.values()), smooth, {rate: statistics.median_low(values) for rate, values in smooth.items()})


def _limit_explosion(axes: Any, losses: Sequence[_Loss]) -> None:
    """Limits the axes to the curves up to the validation's minimum, and beyond it to what is no higher.

    A loss that explodes would flatten the rest. The axes end where the last curve leaves them; a smoothed curve ends
    before the last rate, as it averages over earlier ones.
    """
    middles = [loss.middle for loss in losses if loss.middle]
    if not middles:
        return
    turn = min(middles[-1], key=middles[-1].__getitem__)
    points = [point for loss in losses for repeat in loss.raw for point in repeat]
    points += [point for middle in middles for point in middle.items()]
    top = max(value for rate, value in points if rate <= turn)
    steps = (step for middle in middles for step in pairwise(middle.items()))
    end = max([turn, *(after for (_, value), (after, _) in steps if value <= top)])
    low = min(value for rate, value in points if rate <= end)
    padding = PADDING * max(top - low, 1e-6)
    axes.set_ylim(low - padding, top + padding)
    start = min(rate for rate, _ in points)
    margin = (end / start) ** 0.02
    axes.set_xlim(start / margin, end * margin)


def _draw_loss(axes: Any, loss: _Loss, label: str, color: str) -> None:
    """Draws the curves of one loss; what was measured ends where it first leaves the axes after its minimum."""
    top = axes.get_ylim()[1]
    for points in loss.raw:
        lowest = min(range(len(points)), key=lambda index: points[index][1])
        left = next((index for index in range(lowest, len(points)) if points[index][1] > top), len(points))
        axes.plot(*zip(*points[: left + 1], strict=True), color=color, linewidth=0.6, alpha=0.45)
    if loss.smooth:
        lows, highs = (list(map(edge, loss.smooth.values())) for edge in (min, max))
        axes.fill_between(list(loss.smooth), lows, highs, color=color, alpha=0.16, linewidth=0)
        axes.plot(*zip(*loss.middle.items(), strict=True), color=color, linewidth=1.9, label=label)
