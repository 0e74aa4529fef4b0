"""Plots over epochs: loss, Dice, IoU and LR with the phases shaded. Those of the classes are in `class_curves.py`.

In: columns of history.csv. Out: PNG bytes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from pipeline.report.figure import LIGHT, Theme, add_legend, encode, new_figure, style_axes
from pipeline.report.read import Columns, numbers

Span = tuple[str, float, float]  # phase name, first and last epoch on the axis

DOTS_UP_TO = 40  # epochs; with more, dots on a line become a blur
KEPT_WORDS = {"valid_loss": "lowest validation loss", "valid_dice": "highest validation Dice"}
LETTER_SHARE = 0.0135  # of the width of the axes, at the size of the small words


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
    reverts: Sequence[str] = (),
    theme: Theme = LIGHT,
    rates: Sequence[tuple[float, float]] = (),
    monitor: str = "valid_loss",
) -> bytes:
    """Returns loss, Dice and IoU, and LR over epochs.

    Args:
        history: columns of history.csv.
        reverts: names of phases that start from the best weights; their lines start at that epoch's values.
        rates: (epoch, LR) of the steps, see `plans.trained_curve`; without them the rates of the epochs' ends are
            joined, which hides what happens within an epoch.
        monitor: the column that decided which epoch was kept.
    """
    figure = new_figure(theme, height=640)
    loss, score, rate = figure.subplots(3, 1, sharex=True, height_ratios=[5, 6, 3])
    spans, best = phase_spans(history), best_row(history)
    _plot(loss, history, "train_loss", reverts, color=theme.train, label="training")
    _plot(loss, history, "valid_loss", reverts, color=theme.valid, label="validation")
    _plot(score, history, "train_dice", reverts, color=theme.train, label="Dice, training")
    _plot(score, history, "valid_dice", reverts, color=theme.valid, label="Dice, validation")
    _plot(score, history, "valid_iou", reverts, color=theme.other, label="IoU")
    _plot(score, history, "valid_miou", reverts, color=theme.muted, label="data set IoU", linestyle=(0, (4, 2)))
    if rates:
        rate.plot(*zip(*rates, strict=True), color=theme.ink, linewidth=1.6)
    _plot(rate, history, "lr", (), color=theme.ink, label="LR", **({"linestyle": "none"} if rates else {}))
    for axes, title in ((loss, "Loss"), (score, "Score"), (rate, "Learning rate")):
        style_axes(axes, theme, title)
        draw_phases(axes, spans, theme, named=axes is loss)
    epoch_axis(rate, history)
    for axes, column, word in ((loss, "valid_loss", "loss"), (score, "valid_dice", "Dice")):
        _pad_top(axes, 0.14 if axes is loss else 0.03)
        heights = (0.62, 0.5, 0.38, 0.26, 0.09) if axes is loss else (0.09, 0.2, 0.32, 0.44, 0.56, 0.9)
        if axes is loss and len(_pieces(history, reverts)) == 1:  # no arrow is up there
            heights += (0.74, 0.84)
        _draw_kept(axes, history, best, column, f"({KEPT_WORDS[monitor]}), {word}", heights, theme)
    add_legend(loss, theme)
    add_legend(score, theme)
    _draw_reverts(loss, history, spans, reverts, theme)
    rate.set_ylim(bottom=0)
    rate.yaxis.set_major_formatter(lambda value, _: f"{value:g}")
    return encode(figure)


def _plot(axes: Any, history: Columns, column: str, reverts: Sequence[str], **look: Any) -> None:
    """Draws one column; a phase that jumps back to the best weights begins a new line, dotted from that epoch."""
    if column not in history or not any(history[column]):
        return
    epochs, values = numbers(history["epoch"]), numbers(history[column])
    known = sum(not math.isnan(value) for value in values)
    label = look.pop("label")
    pieces = _pieces(history, reverts)
    for begin, end in pieces:
        is_alone = sum(not math.isnan(value) for value in values[begin:end]) == 1  # no line would show it
        marker = {"marker": "o", "markersize": 4.5 if is_alone else 2.6} if known <= DOTS_UP_TO or is_alone else {}
        axes.plot(epochs[begin:end], values[begin:end], linewidth=1.6, label=label, **marker, **look)
        label = None
    for begin, _ in pieces[1:]:
        best = best_row(history, before=begin)
        if best is not None:
            ends = [epochs[best], epochs[begin]], [values[best], values[begin]]
            axes.plot(*ends, linewidth=1.1, linestyle=(0, (1, 1.5)), color=look["color"])


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


def _draw_kept(
    axes: Any, history: Columns, best: int | None, column: str, words: str, heights: Sequence[float], theme: Theme
) -> None:
    """Marks the epoch whose weights were kept, and says why at one of the heights."""
    if best is None:
        return
    epochs, value = numbers(history["epoch"]), numbers(history[column])[best]
    ring = {"markersize": 6, "markerfacecolor": "none", "markeredgecolor": theme.mark, "markeredgewidth": 1.4}
    axes.axvline(epochs[best], color=theme.mark, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.plot([epochs[best]], [value], "o", **ring)
    text = f"kept: epoch {epochs[best]:g} {words} {value:.3f}"
    _note(axes, epochs[best] / max(epochs[-1], 1), heights, text, theme)


def _draw_reverts(axes: Any, history: Columns, spans: Sequence[Span], reverts: Sequence[str], theme: Theme) -> None:
    """Draws an arrow from the beginning of a phase back to the epoch whose weights it took."""
    epochs = numbers(history["epoch"])
    for name, start, _ in spans:
        best = best_row(history, before=int(start) + 1)
        if name not in reverts or best is None or epochs[best] >= start:
            continue
        arrow = {"arrowstyle": "->", "color": theme.mark, "linewidth": 1.2, "shrinkA": 0, "shrinkB": 0}
        place = {"xycoords": axes.get_xaxis_transform(), "textcoords": axes.get_xaxis_transform()}
        axes.annotate("", (epochs[best], 0.84), (start, 0.84), arrowprops=arrow, **place)
        text, last = f"back to epoch {epochs[best]:g}", max(epochs[-1], 1)
        has_room = (start - epochs[best]) / last > LETTER_SHARE * len(text)
        share, heights = (start / last, (0.76,)) if has_room else (epochs[best] / last, (0.84,))
        _note(axes, share, heights, text, theme, to_left=True)


def _note(
    axes: Any, share: float, heights: Sequence[float], text: str, theme: Theme, to_left: bool | None = None
) -> None:
    """Writes a small text beside a place, on paper of its own so that no line of the phases strikes it through.

    Args:
        share: of the axes' width.
        heights: shares of their height, the best first; the first where fewest curves pass is taken.
        to_left: on which side; None: where there is more room. Where the text does not fit it takes the other.
    """
    needed = LETTER_SHARE * len(text)
    to_left = share > 0.5 if to_left is None else to_left
    if needed > (share if to_left else 1 - share):
        to_left = share > 0.5
    place = (share + 0.02) / 1.04 + (-0.014 if to_left else 0.014)  # the axis ends 2 % beyond its epochs
    span = (place - needed, place) if to_left else (place, place + needed)
    height = min(heights, key=lambda height: _num_curves(axes, span, height))
    paper = {"facecolor": theme.paper, "edgecolor": "none", "alpha": 0.85, "pad": 1.2}
    look = {"fontsize": 7.5, "color": theme.mark, "va": "center", "ha": "right" if to_left else "left", "bbox": paper}
    axes.text(place, height, text, transform=axes.transAxes, zorder=5, **look).set_in_layout(False)


def _num_curves(axes: Any, span: tuple[float, float], height: float) -> int:
    """Returns how many curves pass a line of text, given in shares of the axes' width and height."""
    to_share = axes.transData + axes.transAxes.inverted()
    across = np.linspace(*span, 30)
    curves = (to_share.transform(line.get_xydata()) for line in axes.lines if line.get_transform() == axes.transData)
    paths = [curve[np.isfinite(curve).all(axis=1)] for curve in curves]
    heights = (np.interp(across, *path.T, left=np.nan, right=np.nan) for path in paths if len(path))
    return sum(bool((abs(along - height) < 0.05).any()) for along in heights)


def _pad_top(axes: Any, share: float) -> None:
    low, high = axes.get_ylim()
    axes.set_ylim(low, high + share * (high - low))


def epoch_axis(axes: Any, history: Columns) -> None:
    """Gives axes an axis of whole epochs, a little longer than the history at both ends."""
    from matplotlib.ticker import MaxNLocator

    last = max(numbers(history["epoch"]), default=0.0)
    axes.set_xlim(-0.02 * max(last, 1), max(last, 1) * 1.02)
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set_xlabel("epoch (0: before training)")
