"""Plots of classes (images and pixels, scores over epochs, confusion) and of runs (scores by class, and over epochs).

In: rows of classes.csv, columns of history.csv and confusion.csv, a `Comparison`. Out: PNG bytes.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from pipeline.files import write_atomic
from pipeline.paths import HISTORY
from pipeline.report.curves import best_row, draw_phases, epoch_axis, phase_spans
from pipeline.report.figure import LIGHT, Color, Theme, add_legend, encode, new_axes, readable_color
from pipeline.report.lettering import MOST_OF_A_NAME, legend_label
from pipeline.report.read import ClassRow, Columns, numbers, percent, read_classes, read_columns
from pipeline.scores import LABELS

if TYPE_CHECKING:
    from pipeline.report.compare import Comparison

LOG_FROM_RATIO = 30  # beyond it the small bars of a linear axis cannot be distinguished
NUMBERED_UP_TO = 14  # classes; in smaller cells numbers cannot be read
LINED_UP_TO = 24  # classes; the legend of more lines is higher than the plot, and their colours are alike
DRAWN_UP_TO = 160  # classes; beyond it a plot has thousands of pixels a side, of which nobody sees the whole
COMPARED_UP_TO = 40  # classes beside each other, for each of which a run has a cell
WIDE_ROW, NARROW_ROW = 24, 14  # page pixels of a bar; the second from 41 classes on
LEAST_WIDTH = 420  # page pixels
CELL, LEAST_CELL = 34, 13  # page pixels of a cell of the confusion matrix: a number in it, a name beside it
LEAST_SHOWN = 0.005  # share of a class's pixels; below it a cell stays without a number
# Okabe and Ito's eight without black; more runs repeat them in dashes
RUN_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b3a100")
DASHES = (4, 4)  # line widths: as much of the line below shows as of the dashed one


def write_class_histograms(classes_csv: Path, folder: Path) -> None:
    """Writes `class_images.png`, and `class_pixels.png` or `class_boxes.png`, for classes.csv."""
    rows = read_classes(classes_csv) or []
    for of in ("images", unit_of(rows)):
        write_atomic(folder / f"class_{of}.png", draw_class_histogram(rows, of))


def unit_of(rows: Sequence[ClassRow]) -> str:
    """Returns what the rows of classes.csv count beside images: pixels, or boxes."""
    return rows[0].unit if rows else "pixels"


def draw_class_histogram(
    rows: Sequence[ClassRow], of: Literal["images", "pixels", "boxes"], theme: Theme = LIGHT
) -> bytes:
    """Returns the histogram of images that show each class, or of pixels or boxes per class; the largest on top.

    The axis is logarithmic where the classes differ by more than a factor of 30.
    """
    rows = sorted(rows, key=lambda row: row.images if of == "images" else row.amount)
    title, num_classes = f"{of.capitalize()} per class", len(rows)
    if num_classes > DRAWN_UP_TO:
        half = DRAWN_UP_TO // 2
        rows = rows[:half] + rows[-half:]
        title += f": {half} with most, {half} with least, of {num_classes:,}"
    counts = [row.images if of == "images" else row.amount for row in rows]
    present = [count for count in counts if count] or [1]
    is_log = max(present) / min(present) > LOG_FROM_RATIO
    row_height = WIDE_ROW if len(rows) <= 40 else NARROW_ROW
    figure, axes = new_axes(theme, title, height=90 + row_height * len(rows), grid="x")
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
        share = "" if of == "images" else f"  {percent(row.share)}"
        text = f"{short_count(count)}{share}" if count else "none"
        offset = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 7.5, "color": theme.text}
        axes.annotate(text, (max(count, start), position), **offset)
    axes.set_yticks(
        range(len(rows)), [row.name for row in rows], color=theme.text, fontsize=8 if row_height == WIDE_ROW else 7
    )
    axes.set_ylim(-0.6, len(rows) - 0.4)
    unit = "images that show the class" if of == "images" else f"{of}, share of all"
    axes.set_xlabel(f"{unit}{' (log axis)' if is_log else ''}")
    return encode(figure)


def draw_class_curves(history: Columns, score: str, colors: Mapping[str, Color], theme: Theme = LIGHT) -> bytes:
    """Returns a validation score of each class over epochs; the legend has the last value, the highest first.

    Every second line is dashed: lines that coincide are usually neighbours in that order, so both show. Of many classes
    the highest and the lowest are named, the others are thin grey lines.
    """
    prefix = f"valid_{score}_"
    lines = {name.removeprefix(prefix): numbers(cells) for name, cells in history.items() if name.startswith(prefix)}
    epochs = numbers(history["epoch"])
    last = {
        name: next((value for value in values[::-1] if not math.isnan(value)), 0.0) for name, values in lines.items()
    }
    ranked, title = sorted(lines, key=last.__getitem__, reverse=True), f"Validation {LABELS[score]} per class"
    named = ranked
    if len(ranked) > LINED_UP_TO:
        half = LINED_UP_TO // 2
        named = ranked[:half] + ranked[-half:]
        title += f": {half} highest, {half} lowest, of {len(ranked):,}"
    figure, axes = new_axes(theme, title, height=640)
    for name in ranked[len(named) // 2 : -(len(named) // 2)] if len(named) < len(ranked) else ():
        axes.plot(epochs, lines[name], color=theme.grid, linewidth=0.8, zorder=1)
    for index, name in enumerate(named):
        style = {"linestyle": (0, DASHES), "dash_capstyle": "butt"} if index % 2 else {"linestyle": "-"}
        style["color"] = readable_color(colors.get(name, (128, 128, 128)), theme)
        style["marker"] = "o" if len(epochs) == 1 else None  # no line would show a single epoch
        axes.plot(
            epochs, lines[name], label=legend_label(f"{name} {last[name]:.2f}"), linewidth=1.6, markersize=3, **style
        )
    draw_phases(axes, phase_spans(history), theme, named=True)
    best = best_row(history)
    if best is not None:
        axes.axvline(epochs[best], color=theme.mark, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.set_ylim(-0.02, 1.06)
    axes.set_yticks([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    epoch_axis(axes, history)
    if lines:
        add_legend(axes, theme, columns=1, loc="upper left", bbox_to_anchor=(1.01, 1.0))
    return encode(figure)


def draw_confusion(confusion: Columns, theme: Theme = LIGHT) -> bytes:
    """Returns the confusion matrix as a heat map: of each true class's pixels, the share predicted as every class."""
    names, shares = confusion_shares(confusion)
    title, num_classes = "Confusion matrix", len(names)
    if num_classes > DRAWN_UP_TO:
        wrong = {index: sum(row) - row[index] for index, row in enumerate(shares)}
        kept = sorted(sorted(wrong, key=wrong.__getitem__, reverse=True)[:DRAWN_UP_TO])
        names, shares = [names[index] for index in kept], [[shares[row][index] for index in kept] for row in kept]
        title += f": the {DRAWN_UP_TO} of {num_classes:,} classes with the largest share of wrong pixels"
    has_numbers = len(names) <= NUMBERED_UP_TO
    cell = CELL if has_numbers else max(LEAST_CELL, CELL * NUMBERED_UP_TO // len(names))
    side = max(LEAST_WIDTH, 130 + cell * len(names))
    figure, axes = new_axes(theme, title, side - 20, side, grid="none")
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


def draw_comparison(comparison: Comparison, theme: Theme = LIGHT) -> bytes:
    """Returns a heat map: a row per run, the mean of the compared score and its classes in columns."""
    num_runs = len(comparison.runs)
    classes, title = comparison.class_scores, f"Validation {comparison.label}"
    if len(classes) > COMPARED_UP_TO:
        spread = {name: _spread(scores) for name, scores in classes.items()}
        kept = set(sorted(spread, key=spread.__getitem__, reverse=True)[:COMPARED_UP_TO])
        title += f": the {COMPARED_UP_TO} of {len(classes):,} classes in which runs differ most"
        classes = {name: scores for name, scores in classes.items() if name in kept}
    columns = {"mean": comparison.scores.get(comparison.label, (None,) * num_runs), **classes}
    width = 60 + 7 * min(max(map(len, comparison.runs)), MOST_OF_A_NAME) + 44 * len(columns)
    figure, axes = new_axes(theme, title, 120 + 26 * num_runs, width, grid="none")
    values = [[np.nan if value is None else value for value in row] for row in zip(*columns.values(), strict=True)]
    texts = [["–" if np.isnan(value) else f"{value:.2f}" for value in row] for row in values]
    draw_heat_map(axes, values, texts, comparison.runs, list(columns), theme, aspect="auto")
    axes.axvline(0.5, color=theme.background, linewidth=3)
    axes.spines["bottom"].set_visible(False)
    return encode(figure)


def _spread(scores: Sequence[float | None]) -> float:
    known = [score for score in scores if score is not None]
    return max(known) - min(known) if known else -1.0


def draw_run_curves(comparison: Comparison, runs: Path, theme: Theme = LIGHT) -> bytes:
    """Returns the compared score on the validation images over epochs of all runs."""
    figure, axes = new_axes(theme, f"Validation {comparison.label} over epochs", height=380, width=720)
    for index, name in enumerate(comparison.runs):
        history = read_columns(runs / name / HISTORY) or {}
        column = f"valid_{comparison.score}"
        if column in history:
            style = {"color": RUN_COLORS[index % len(RUN_COLORS)], "linewidth": 1.6, "label": legend_label(name)}
            style["linestyle"] = "-" if index < len(RUN_COLORS) else "--"
            axes.plot(numbers(history["epoch"]), numbers(history[column]), **style)
    axes.set_xlabel("epoch (0: before training)")
    if axes.lines:
        add_legend(axes, theme, columns=1, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return encode(figure)


def draw_heat_map(
    axes: Any,
    values: Sequence[Sequence[float]],
    texts: Sequence[Sequence[str]],
    rows: Sequence[str],
    columns: Sequence[str],
    theme: Theme,
    aspect: str,
) -> None:
    """Draws values (0 to 1, or NaN) as colours with texts on them, and the names of rows and columns."""
    from matplotlib.colors import LinearSegmentedColormap

    heat = LinearSegmentedColormap.from_list("heat", theme.heat)
    axes.imshow(values, cmap=heat, vmin=0, vmax=1, aspect=aspect)
    for row, cells in enumerate(texts):
        for column, text in enumerate(cells):
            color = theme.background if values[row][column] > 0.5 else theme.text
            axes.text(column, row, text, ha="center", va="center", fontsize=7.5, color=color)
    axes.set_xticks(range(len(columns)), columns, rotation=45, ha="right", rotation_mode="anchor", color=theme.text)
    axes.set_yticks(range(len(rows)), rows, color=theme.text)


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
