"""Plots over epochs: loss, Dice, IoU and LR with the phases shaded, and Dice per class.

In: columns of history.csv. Out: PNG bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pipeline.report.figure import (
    LIGHT,
    Color,
    Theme,
    add_legend,
    encode,
    new_figure,
    readable_color,
    spread,
    style_axes,
)
from pipeline.report.read import Columns, numbers

Span = tuple[str, float, float]  # phase name, first and last epoch on the axis

DOTS_UP_TO = 40  # epochs; with more, dots on a line become a blur


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


def draw_learning_curves(history: Columns, reverts: Sequence[str] = (), theme: Theme = LIGHT) -> bytes:
    """Returns loss, Dice and IoU, and LR over epochs.

    Args:
        history: columns of history.csv.
        reverts: names of phases that start from the best weights; their lines start at that epoch's values.
    """
    figure = new_figure(theme, height=640)
    loss, score, rate = figure.subplots(3, 1, sharex=True, height_ratios=[5, 6, 3])
    spans, best = phase_spans(history), _best_row(history)
    _plot(loss, history, "train_loss", reverts, color=theme.train, label="training")
    _plot(loss, history, "valid_loss", reverts, color=theme.valid, label="validation")
    _plot(score, history, "train_dice", reverts, color=theme.train, label="Dice, training")
    _plot(score, history, "valid_dice", reverts, color=theme.valid, label="Dice, validation")
    _plot(score, history, "valid_iou", reverts, color=theme.other, label="IoU")
    _plot(score, history, "valid_miou", reverts, color=theme.muted, label="data set IoU", linestyle=(0, (4, 2)))
    _plot(rate, history, "lr", (), color=theme.ink, label="LR")
    for axes, title in ((loss, "Loss"), (score, "Score"), (rate, "Learning rate")):
        style_axes(axes, theme, title)
        draw_phases(axes, spans, theme, named=axes is loss)
    for axes, column in ((loss, "valid_loss"), (score, "valid_dice")):
        _draw_best(axes, history, best, column, theme)
        _pad_top(axes, 0.14 if axes is loss else 0.03)
    add_legend(loss, theme)
    add_legend(score, theme)
    _draw_reverts(loss, history, spans, reverts, theme)
    rate.set_ylim(bottom=0)
    rate.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    _epoch_axis(rate, history)
    return encode(figure)


def draw_class_dice(history: Columns, colors: Mapping[str, Color], theme: Theme = LIGHT) -> bytes:
    """Returns the validation Dice of each class over epochs, named at the right end of its line."""
    figure = new_figure(theme, height=640)
    axes = figure.subplots()
    style_axes(axes, theme, "Validation Dice per class")
    prefix = "valid_dice_"
    lines = {column[len(prefix) :]: numbers(cells) for column, cells in history.items() if column.startswith(prefix)}
    epochs = numbers(history["epoch"])
    ends = [next((value for value in reversed(values) if not math.isnan(value)), 0.0) for values in lines.values()]
    for (name, values), end, place in zip(lines.items(), ends, spread(ends, 0.033, -0.01, 1.01), strict=True):
        color = readable_color(colors.get(name, (128, 128, 128)), theme)
        axes.plot(epochs, values, color=color, linewidth=1.6, solid_capstyle="round")
        target = {"xycoords": ("data", "data"), "textcoords": ("axes fraction", "data")}
        leader = {"arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", (epochs[-1], end), (1.03, place), arrowprops=leader, annotation_clip=False, **target)
        text_place = {"transform": axes.get_yaxis_transform(), "va": "center", "fontsize": 7.5, "color": theme.ink}
        axes.text(1.04, place, name, **text_place)
    draw_phases(axes, phase_spans(history), theme, named=True)
    best = _best_row(history)
    if best is not None:
        axes.axvline(epochs[best], color=theme.mark, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.set_ylim(-0.02, 1.06)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    _epoch_axis(axes, history)
    return encode(figure)


def _plot(axes: Any, history: Columns, column: str, reverts: Sequence[str], **look: Any) -> None:
    """Draws one column; a phase that starts from the best weights begins a new line, dotted from that epoch."""
    if column not in history or not any(history[column]):
        return
    epochs, values = numbers(history["epoch"]), numbers(history[column])
    known = sum(not math.isnan(value) for value in values)
    marker = {"marker": "o", "markersize": 2.6} if known <= DOTS_UP_TO else {}
    label = look.pop("label")
    is_judged = column in ("valid_loss", "valid_dice")
    pieces = _pieces(history, reverts)
    for begin, end in pieces:
        axes.plot(epochs[begin:end], values[begin:end], linewidth=1.6, label=label, **marker, **look)
        label = None
    for begin, _ in pieces[1:]:
        best = _best_row(history, before=begin)
        if best is not None and is_judged:
            ends = [epochs[best], epochs[begin]], [values[best], values[begin]]
            axes.plot(*ends, linewidth=1.1, linestyle=(0, (1, 1.5)), color=look["color"])


def _pieces(history: Columns, reverts: Sequence[str]) -> list[tuple[int, int]]:
    """Returns the row ranges between jumps back to the best weights.

    >>> _pieces({"epoch": "0123", "phase": ["", "flat", "flat", "anneal"]}, ["anneal"])
    [(0, 3), (3, 4)]
    """
    phases = list(history["phase"])
    starts = [row for row in range(1, len(phases)) if phases[row] != phases[row - 1] and phases[row] in reverts]
    return list(pairwise([0, *starts, len(phases)]))


def _best_row(history: Columns, before: int | None = None) -> int | None:
    """Returns the last row that was the best so far, of those before a row."""
    rows = [row for row, is_best in enumerate(numbers(history["is_best"])[:before]) if is_best == 1]
    return rows[-1] if rows else None


def draw_phases(axes: Any, spans: Sequence[Span], theme: Theme, named: bool) -> None:
    """Shades every second phase and, where asked to, writes the names at the top."""
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


def _draw_best(axes: Any, history: Columns, best: int | None, column: str, theme: Theme) -> None:
    """Marks the epoch whose weights were kept; the words stand where falling losses and rising scores leave room."""
    if best is None:
        return
    epoch, value = numbers(history["epoch"])[best], numbers(history[column])[best]
    ring = {"markersize": 6, "markerfacecolor": "none", "markeredgecolor": theme.mark, "markeredgewidth": 1.4}
    axes.axvline(epoch, color=theme.mark, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.plot([epoch], [value], "o", **ring)
    is_late = best > 0.5 * len(history["epoch"])
    look = {"ha": "right" if is_late else "left", "fontsize": 7.5, "color": theme.mark, "va": "center"}
    height = 0.62 if column == "valid_loss" else 0.07
    text = f" best: {value:.3f}, epoch {epoch:g} "
    axes.text(epoch, height, text, transform=axes.get_xaxis_transform(), **look)


def _draw_reverts(axes: Any, history: Columns, spans: Sequence[Span], reverts: Sequence[str], theme: Theme) -> None:
    """Draws an arrow from the beginning of a phase back to the epoch whose weights it took."""
    epochs = numbers(history["epoch"])
    for name, start, _ in spans:
        best = _best_row(history, before=int(start) + 1)
        if name not in reverts or best is None or epochs[best] >= start:
            continue
        arrow = {"arrowstyle": "->", "color": theme.mark, "linewidth": 1.2, "connectionstyle": "arc3,rad=0.25"}
        low, high = axes.get_ylim()
        height = low + 0.8 * (high - low)
        axes.annotate("", (epochs[best], height), (start, height), arrowprops={**arrow, "shrinkA": 0, "shrinkB": 0})
        text = {"ha": "right", "va": "bottom", "fontsize": 7.5, "color": theme.mark}
        axes.text(epochs[best], height, "back to best ", **text)


def _pad_top(axes: Any, share: float) -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + share * (high - low))


def _epoch_axis(axes: Any, history: Columns) -> None:
    from matplotlib.ticker import MaxNLocator

    last = max(numbers(history["epoch"]), default=0.0)
    axes.set_xlim(-0.02 * max(last, 1), max(last, 1) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch (0: before training)")
