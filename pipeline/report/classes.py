"""Plots of the classes: how many images and pixels each has, their scores over epochs, and their confusion.

In: rows of classes.csv, columns of history.csv and confusion.csv. Out: PNG bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path
from typing import Any, Literal

from pipeline.files import write_atomic
from pipeline.report.curves import best_row, draw_phases, epoch_axis, phase_spans
from pipeline.report.figure import (
    LIGHT,
    Color,
    Theme,
    draw_heat_map,
    encode,
    new_figure,
    readable_color,
    spread,
    style_axes,
)
from pipeline.report.read import ClassRow, Columns, numbers, percent, read_classes
from pipeline.report.scores import class_columns
from pipeline.scores import LABELS

LOG_FROM_RATIO = 30  # beyond it the small bars of a linear axis all look alike
NUMBERED_UP_TO = 14  # classes; in smaller cells numbers cannot be read
LEAST_WIDTH = 420  # page pixels
CELL, LEAST_CELL = 34, 13  # page pixels of a cell of the confusion matrix: a number in it, a name beside it
LEAST_SHOWN = 0.005  # share of a class's pixels; below it a cell stays without a number
SAME = 0.004  # of a score; lines that are nearer than that cover each other
DASH = 5.0  # line widths; the length of one class's colour in a line of several
LINE = 1.6  # points


def write_class_histograms(classes_csv: Path, folder: Path) -> list[Path]:
    """Writes `class_images.png` and `class_pixels.png` for classes.csv; returns their paths."""
    rows = read_classes(classes_csv) or []
    written = []
    for of in ("images", "pixels"):
        path = folder / f"class_{of}.png"
        write_atomic(path, draw_class_histogram(rows, of))
        written.append(path)
    return written


def draw_class_histogram(rows: Sequence[ClassRow], of: Literal["images", "pixels"], theme: Theme = LIGHT) -> bytes:
    """Returns the histogram of images that show each class, or of pixels per class; the largest on top.

    The axis is logarithmic where the classes differ by more than a factor of 30.
    """
    rows = sorted(rows, key=lambda row: getattr(row, of))
    counts = [getattr(row, of) for row in rows]
    present = [count for count in counts if count] or [1]
    is_log = max(present) / min(present) > LOG_FROM_RATIO
    figure = new_figure(theme, height=90 + 24 * len(rows))
    axes = figure.subplots()
    style_axes(axes, theme, f"{of.capitalize()} per class", grid="x")
    colors = [readable_color(row.color, theme) for row in rows]
    axes.barh(range(len(rows)), counts, color=colors, height=0.68, linewidth=0)
    if is_log:
        axes.set_xscale("log")
        low, high = 10 ** (len(str(min(present))) - 1), max(present)
        axes.set_xlim(low * 0.8, high * (high / low) ** 0.38)
    else:
        axes.set_xlim(0, max(present) * 1.36)
    axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
    start = axes.get_xlim()[0]
    for position, (row, count) in enumerate(zip(rows, counts, strict=True)):
        share = f"  {percent(row.pixel_share)}" if of == "pixels" else ""
        text = f"{short_count(count)}{share}" if count else "none"
        offset = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 7.5, "color": theme.text}
        axes.annotate(text, (max(count, start), position), **offset)
    axes.set_yticks(range(len(rows)), [row.name for row in rows], color=theme.text, fontsize=8)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    unit = "images that show the class" if of == "images" else "pixels, share of all"
    axes.set_xlabel(f"{unit}{' (log axis)' if is_log else ''}")
    return encode(figure)


def draw_class_curves(history: Columns, score: str, colors: Mapping[str, Color], theme: Theme = LIGHT) -> bytes:
    """Returns a validation score of each class over epochs, named at the right end of its line.

    Where classes share a line it is dashed in the colours of all of them.

    Args:
        score: name of a score that history.csv has by class.
    """
    figure = new_figure(theme, height=640)
    axes = figure.subplots()
    style_axes(axes, theme, f"Validation {LABELS[score]} per class")
    lines = {name: numbers(cells) for name, cells in class_columns(history, score).items()}
    epochs = numbers(history["epoch"])
    ends = [next((value for value in reversed(values) if not math.isnan(value)), 0.0) for values in lines.values()]
    parts = shared_parts(lines)
    for (name, values), end, height in zip(lines.items(), ends, spread(ends, 0.033, -0.01, 1.01), strict=True):
        color = readable_color(colors.get(name, (128, 128, 128)), theme)
        if len(epochs) == 1:
            axes.plot(epochs, values, "o", markersize=3, color=color)
        for first, last, turn, of in parts[name]:
            style = {} if of == 1 else {"linestyle": (turn * DASH, (DASH, (of - 1) * DASH)), "dash_capstyle": "butt"}
            style |= {"color": color, "linewidth": LINE, "solid_capstyle": "round"}
            axes.plot(epochs[first : last + 1], values[first : last + 1], **style)
        _name_line(axes, name, epochs[-1], end, height, color, theme)
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
        together = []  # for each step between two rows, the classes on that line
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


def _name_line(axes: Any, name: str, epoch: float, end: float, height: float, color: str, theme: Theme) -> None:
    """Writes a class's name beside the axes, behind a patch of its colour and a thin line to its curve's end."""
    target = {"xycoords": ("data", "data"), "textcoords": ("axes fraction", "data")}
    leader = {"arrowstyle": "-", "color": color, "linewidth": 0.7, "shrinkA": 0, "shrinkB": 0}
    axes.annotate("", (epoch, end), (1.03, height), arrowprops=leader, annotation_clip=False, **target)
    beside = axes.get_yaxis_transform()
    axes.plot([1.03, 1.055], [height, height], color=color, linewidth=4, transform=beside, clip_on=False)
    axes.text(1.07, height, name, transform=beside, va="center", fontsize=7.5, color=theme.text)


def draw_confusion(confusion: Columns, theme: Theme = LIGHT) -> bytes:
    """Returns the confusion matrix as a heat map: of each true class's pixels, the share predicted as every class."""
    names, shares = confusion_shares(confusion)
    has_numbers = len(names) <= NUMBERED_UP_TO
    cell = CELL if has_numbers else max(LEAST_CELL, CELL * NUMBERED_UP_TO // len(names))
    side = max(LEAST_WIDTH, 130 + cell * len(names))
    figure = new_figure(theme, height=side - 20, width=side)
    axes = figure.subplots()
    style_axes(axes, theme, "Confusion matrix", grid="none")
    values = [[share**0.5 for share in row] for row in shares]  # the square root brings out the small shares
    texts = [[f"{100 * share:.0f}" if share >= LEAST_SHOWN else "" for share in row] for row in shares]
    draw_heat_map(axes, values, texts if has_numbers else [], names, names, theme, aspect="equal")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class; % of its pixels")
    for spine in axes.spines.values():
        spine.set(visible=True, color=theme.grid)
    for edge in range(1, len(names)):
        for line in (axes.axhline, axes.axvline):
            line(edge - 0.5, color=theme.grid, linewidth=0.5)
    return encode(figure)


def confusion_counts(confusion: Columns) -> tuple[list[str], list[list[float]]]:
    """Returns the class names and, for each true class, its pixels by predicted class."""
    names = list(confusion["truth"])
    return names, [list(row) for row in zip(*(numbers(confusion[name]) for name in names), strict=True)]


def confusion_shares(confusion: Columns) -> tuple[list[str], list[list[float]]]:
    """Returns the class names and, for each true class, the share of its pixels predicted as every class.

    >>> confusion_shares({"truth": ["Road", "Sky"], "Road": ["3", "0"], "Sky": ["1", "0"]})
    (['Road', 'Sky'], [[0.75, 0.25], [0.0, 0.0]])
    """
    names, rows = confusion_counts(confusion)
    return names, [[value / (sum(row) or 1) for value in row] for row in rows]


def largest_confusions(confusion: Columns, most: int = 8) -> list[tuple[str, str, float]]:
    """Returns the largest confusions as (true class, predicted class, share of the true class's pixels).

    >>> largest_confusions({"truth": ["Road", "Sky"], "Road": ["3", "0"], "Sky": ["1", "0"]})
    [('Road', 'Sky', 0.25)]
    """
    names, shares = confusion_shares(confusion)
    found = [
        (truth, predicted, share)
        for truth, row in zip(names, shares, strict=True)
        for predicted, share in zip(names, row, strict=True)
        if truth != predicted and share >= LEAST_SHOWN
    ]
    return sorted(found, key=lambda item: -item[2])[:most]


def short_count(count: float) -> str:
    """Returns a count with three digits and a unit where it is large.

    >>> short_count(2621), short_count(55590), short_count(763651425), short_count(0)
    ('2,621', '55.6 k', '764 M', '0')
    """
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= max(size, 1e4):
            return f"{count / size:.3g} {unit}"
    return f"{count:,.0f}"
