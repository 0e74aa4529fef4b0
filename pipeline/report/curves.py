"""Plots over epochs: loss, scores and learning rate with the phases shaded, and the learning rate as planned.

In: columns of history.csv, phases of a plan. Out: points, PNG bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any

from pipeline.config.plan import Phase, learning_rate
from pipeline.report.figure import LIGHT, Theme, add_legend, encode, new_figure, style_axes
from pipeline.report.read import Columns, numbers
from pipeline.report.scores import history_scores
from pipeline.scores import label_of

Span = tuple[str, float, float]  # phase name, first and last epoch on the axis

DOTS_UP_TO = 40  # epochs; with more, dots on a line become a blur
PLAN_STEPS = 40  # points per epoch of a drawn plan, at most: a smooth line that shows warm-ups within an epoch


def phase_spans(history: Columns) -> list[Span]:
    """Returns the phases of a history, each from the epoch that it began after to its last.

    >>> phase_spans({"epoch": ["0", "1", "2", "3"], "phase": ["", "flat", "flat", "anneal"]})
    [('flat', 0.0, 2.0), ('anneal', 2.0, 3.0)]
    """
    spans: list[Span] = []
    for epoch, phase in zip(numbers(history["epoch"]), history["phase"], strict=True):
        if epoch == 0:
            continue
        if spans and spans[-1][0] == phase:
            spans[-1] = (phase, spans[-1][1], epoch)
        else:
            spans.append((phase, epoch - 1, epoch))
    return spans


def draw_learning_curves(
    history: Columns,
    score: str,
    reverts: Sequence[str] = (),
    theme: Theme = LIGHT,
    rates: Sequence[tuple[float, float]] = (),
) -> bytes:
    """Returns loss, scores, and LR over epochs.

    Args:
        history: columns of history.csv.
        score: name of the main score, which is drawn for training too.
        reverts: names of phases that start from the best weights; an arrow leads back to that epoch.
        rates: (epoch, LR) of the steps, see `trained_curve`; without them the rates at the ends of the epochs are
            joined, which hides what happens within an epoch.
    """
    figure = new_figure(theme, height=640)
    losses, scores, rate = figure.subplots(3, 1, sharex=True, height_ratios=[5, 6, 3])
    spans, best = phase_spans(history), best_row(history)
    _plot(losses, history, "train_loss", reverts, color=theme.train, label="training")
    _plot(losses, history, "valid_loss", reverts, color=theme.valid, label="validation")
    _plot(scores, history, f"train_{score}", reverts, color=theme.train, label="training")
    _plot(scores, history, f"valid_{score}", reverts, color=theme.valid, label="validation")
    others = [name for name in history_scores(history) if name != score]
    styles = ({"color": theme.other}, {"color": theme.muted, "linestyle": (0, (4, 2))})
    for name, style in zip(others, styles, strict=False):  # more lines would be hard to read
        _plot(scores, history, f"valid_{name}", reverts, label=label_of(name), **style)
    if rates:
        rate.plot(*zip(*rates, strict=True), color=theme.text, linewidth=1.6)
    _plot(rate, history, "lr", (), color=theme.text, label="LR", **({"linestyle": "none"} if rates else {}))
    for axes, title in ((losses, "Loss"), (scores, label_of(score)), (rate, "Learning rate")):
        style_axes(axes, theme, title)
        draw_phases(axes, spans, theme, named=axes is losses)
    epoch_axis(rate, history)
    for axes, column in ((losses, "valid_loss"), (scores, f"valid_{score}")):
        axes.margins(y=0.14 if axes is losses else 0.06)
        if best is not None and column in history:
            _draw_best(axes, numbers(history["epoch"])[best], numbers(history[column])[best], theme)
    for axes in (losses, scores):
        add_legend(axes, theme, columns=5)
    _draw_reverts(losses, history, spans, reverts, theme)
    rate.set_ylim(bottom=0)
    rate.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return encode(figure)


def _plot(axes: Any, history: Columns, column: str, reverts: Sequence[str], **style: Any) -> None:
    """Draws one column; a phase that jumps back to the best weights begins a new line."""
    if column not in history or not any(history[column]):
        return
    epochs, values = numbers(history["epoch"]), numbers(history[column])
    known = sum(not math.isnan(value) for value in values)
    label = style.pop("label")
    for begin, end in _pieces(history, reverts):
        is_alone = sum(not math.isnan(value) for value in values[begin:end]) == 1  # no line would show it
        marker = {"marker": "o", "markersize": 4.5 if is_alone else 2.6} if known <= DOTS_UP_TO or is_alone else {}
        axes.plot(epochs[begin:end], values[begin:end], linewidth=1.6, label=label, **marker, **style)
        label = None


def _pieces(history: Columns, reverts: Sequence[str]) -> list[tuple[int, int]]:
    """Returns the row ranges between jumps back to the best weights; where the last epoch was the best, none jumps.

    >>> _pieces({"epoch": "0123", "phase": ["", "flat", "flat", "anneal"], "is_best": "1100"}, ["anneal"])
    [(0, 3), (3, 4)]
    >>> _pieces({"epoch": "0123", "phase": ["", "flat", "flat", "anneal"], "is_best": "1110"}, ["anneal"])
    [(0, 4)]
    """
    phases = list(history["phase"])
    starts = [
        row
        for row in range(1, len(phases))
        if phases[row] != phases[row - 1] and phases[row] in reverts and best_row(history, before=row) != row - 1
    ]
    return list(pairwise([0, *starts, len(phases)]))


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


def _draw_best(axes: Any, epoch: float, value: float, theme: Theme) -> None:
    """Marks the best epoch, whose weights are kept."""
    ring = {"markersize": 6, "markerfacecolor": "none", "markeredgecolor": theme.mark, "markeredgewidth": 1.4}
    axes.axvline(epoch, color=theme.mark, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.plot([epoch], [value], "o", label=f"best: {value:.3f}", **ring)


def _draw_reverts(axes: Any, history: Columns, spans: Sequence[Span], reverts: Sequence[str], theme: Theme) -> None:
    """Draws an arrow from the beginning of a phase back to the epoch whose weights it starts from."""
    epochs = numbers(history["epoch"])
    for name, start, _ in spans:
        best = best_row(history, before=int(start) + 1)
        if name not in reverts or best is None or epochs[best] >= start:
            continue
        arrow = {"arrowstyle": "->", "color": theme.mark, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
        coordinates = dict.fromkeys(("xycoords", "textcoords"), axes.get_xaxis_transform())
        axes.annotate("", (epochs[best], 0.8), (start, 0.8), arrowprops=arrow, **coordinates)
        style = {"fontsize": 7.5, "color": theme.mark, "ha": "right", "va": "bottom"}
        axes.text(start, 0.82, f"back to epoch {epochs[best]:g}", transform=axes.get_xaxis_transform(), **style)


def epoch_axis(axes: Any, history: Columns) -> None:
    """Gives axes an axis of whole epochs, a little longer than the history at both ends."""
    last = max(1, max(numbers(history["epoch"]), default=0.0))
    _whole_epochs(axes, "epoch (0: before training)", -0.02 * last, 1.02 * last)


def _whole_epochs(axes: Any, label: str, start: float, end: float) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.set_xlim(start, end)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel(label)


def plan_curve(plan: Sequence[Phase], steps_per_epoch: int) -> tuple[list[tuple[float, float]], list[Span]]:
    """Returns (epoch, LR) points of a plan as if no patience ran out, and the spans of its phases.

    Args:
        steps_per_epoch: decides the length of a warm-up given in steps, and how finely the plan is drawn.
    """
    ends = accumulate((phase.epochs for phase in plan), initial=0)
    spans = [(phase.name, *ends_of_phase) for phase, ends_of_phase in zip(plan, pairwise(ends), strict=True)]
    return trained_curve(plan, spans, steps_per_epoch), spans


def trained_curve(plan: Sequence[Phase], spans: Sequence[Span], steps_per_epoch: int) -> list[tuple[float, float]]:
    """Returns the (epoch, LR) points of the epochs that were trained.

    Args:
        spans: the phases as they were trained, see `phase_spans`.
    """
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
    figure = new_figure(theme, height=300)
    axes = figure.subplots()
    style_axes(axes, theme, title)
    axes.plot(*zip(*points, strict=True), color=theme.valid, linewidth=1.8)
    axes.set_ylim(0, max(rate for _, rate in points) * 1.18)
    axes.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    axes.set_ylabel("learning rate")
    _whole_epochs(axes, "epoch", spans[0][1], spans[-1][2])
    draw_phases(axes, spans, theme, named=True)
    return encode(figure)
