"""The Dice of each class over epochs.

In: columns of history.csv. Out: PNG bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from typing import Any

from pipeline.report.curves import best_row, draw_phases, epoch_axis, phase_spans
from pipeline.report.figure import (
    LIGHT,
    Color,
    Theme,
    encode,
    new_figure,
    readable_color,
    spread,
    style_axes,
)
from pipeline.report.read import Columns, numbers

PREFIX = "valid_dice_"
SAME = 0.004  # Dice; lines that are nearer than that cover each other
DASH = 5.0  # line widths; the length of one class's colour in a line of several
LINE = 1.6  # points


def draw_class_dice(history: Columns, colors: Mapping[str, Color], theme: Theme = LIGHT) -> bytes:
    """Returns the validation Dice of each class over epochs, named at the right end of its line.

    Where classes share a line it is dashed in the colours of all of them.
    """
    figure = new_figure(theme, height=640)
    axes = figure.subplots()
    style_axes(axes, theme, "Validation Dice per class")
    lines = {column[len(PREFIX) :]: numbers(cells) for column, cells in history.items() if column.startswith(PREFIX)}
    epochs = numbers(history["epoch"])
    ends = [next((value for value in reversed(values) if not math.isnan(value)), 0.0) for values in lines.values()]
    parts = shared_parts(lines)
    for (name, values), end, place in zip(lines.items(), ends, spread(ends, 0.033, -0.01, 1.01), strict=True):
        color = readable_color(colors.get(name, (128, 128, 128)), theme)
        if len(epochs) == 1:
            axes.plot(epochs, values, "o", markersize=3, color=color)
        for first, last, turn, of in parts[name]:
            look = {} if of == 1 else {"linestyle": (turn * DASH, (DASH, (of - 1) * DASH)), "dash_capstyle": "butt"}
            look |= {"color": color, "linewidth": LINE, "solid_capstyle": "round"}
            axes.plot(epochs[first : last + 1], values[first : last + 1], **look)
        _name_line(axes, name, epochs[-1], end, place, color, theme)
    draw_phases(axes, phase_spans(history), theme, named=True)
    best = best_row(history)
    if best is not None:
        axes.axvline(epochs[best], color=theme.mark, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.set_ylim(-0.02, 1.06)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    epoch_axis(axes, history)
    return encode(figure)


def shared_parts(lines: Mapping[str, Sequence[float]]) -> dict[str, list[tuple[int, int, int, int]]]:
    """Returns the stretches of each line: first and last row, the line's turn among those that lie on it, their number.

    >>> shared_parts({"sky": [0.0, 1.0, 1.0], "car": [0.5, 1.0, 1.0]})
    {'sky': [(0, 1, 0, 1), (1, 2, 0, 2)], 'car': [(0, 1, 0, 1), (1, 2, 1, 2)]}
    """
    levels = {
        name: [None if math.isnan(value) else round(value / SAME) for value in values] for name, values in lines.items()
    }
    parts: dict[str, list[tuple[int, int, int, int]]] = {}
    for name, own in levels.items():
        together = []  # for each step between two rows, who goes there
        for row in range(len(own) - 1):
            known = None not in own[row : row + 2]
            together.append(
                tuple(other for other, level in levels.items() if level[row : row + 2] == own[row : row + 2])
                if known
                else ()
            )
        parts[name] = [
            (rows[0], rows[-1] + 1, names.index(name), len(names))
            for names, group in groupby(range(len(together)), key=together.__getitem__)
            if names and (rows := list(group))
        ]
    return parts


def _name_line(axes: Any, name: str, epoch: float, end: float, place: float, color: str, theme: Theme) -> None:
    """Writes a class's name beside the axes, behind a patch of its colour and a thin line to its curve's end."""
    target = {"xycoords": ("data", "data"), "textcoords": ("axes fraction", "data")}
    leader = {"arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (epoch, end), (1.03, place), arrowprops=leader, annotation_clip=False, **target)
    beside = axes.get_yaxis_transform()
    axes.plot([1.03, 1.055], [place, place], color=color, linewidth=4, transform=beside, clip_on=False)
    axes.text(1.07, place, name, transform=beside, va="center", fontsize=7.5, color=theme.ink)
