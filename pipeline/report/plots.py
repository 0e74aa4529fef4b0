"""Plots of the classes: how many images and pixels each has, and which is taken for which.

In: rows of classes.csv, columns of confusion.csv. Out: PNG bytes.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from pipeline.files import write_atomic
from pipeline.report.figure import LIGHT, Theme, encode, new_figure, readable_color, style_axes
from pipeline.report.read import ClassRow, Columns, numbers, read_classes

LOG_FROM_RATIO = 30  # beyond it the small bars of a linear axis cannot be told apart
NUMBERED_UP_TO = 14  # classes; in smaller cells numbers cannot be read
LEAST_WIDTH = 420  # page pixels
CELL, LEAST_CELL = 34, 13  # page pixels of a cell of the confusion matrix: a number in it, a name beside it
LEAST_SHOWN = 0.005  # share of a class's pixels; below it a cell stays without a number


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
        low, high = 10 ** (_digits(min(present)) - 1), max(present)
        axes.set_xlim(low * 0.8, high * (high / low) ** 0.38)
    else:
        axes.set_xlim(0, max(present) * 1.36)
    axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
    start = axes.get_xlim()[0]
    for position, (row, count) in enumerate(zip(rows, counts, strict=True)):
        share = f"  {_percent(row.pixel_share)}" if of == "pixels" else ""
        text = f"{short_count(count)}{share}" if count else "none"
        offset = {"xytext": (4, 0), "textcoords": "offset points", "va": "center", "fontsize": 7.5, "color": theme.ink}
        axes.annotate(text, (max(count, start), position), **offset)
    axes.set_yticks(range(len(rows)), [row.name for row in rows], color=theme.ink, fontsize=8)
    axes.set_ylim(-0.6, len(rows) - 0.4)
    unit = "images that show the class" if of == "images" else "pixels, share of all"
    axes.set_xlabel(f"{unit}{' (log axis)' if is_log else ''}")
    return encode(figure)


def draw_confusion(confusion: Columns, theme: Theme = LIGHT) -> bytes:
    """Returns the confusion matrix as a heat map: of each true class's pixels, the share given to every class."""
    from matplotlib.colors import LinearSegmentedColormap

    names, shares = confusion_shares(confusion)
    cell = CELL if len(names) <= NUMBERED_UP_TO else max(LEAST_CELL, CELL * NUMBERED_UP_TO // len(names))
    side = max(LEAST_WIDTH, 130 + cell * len(names))
    figure = new_figure(theme, height=side - 20, width=side)
    axes = figure.subplots()
    style_axes(axes, theme, "Confusion matrix", grid="none")
    # The square root lets the small shares, which are what one looks for, stand out.
    heat = LinearSegmentedColormap.from_list("heat", theme.heat)
    axes.imshow([[share**0.5 for share in row] for row in shares], cmap=heat, vmin=0, vmax=1, aspect="equal")
    if len(names) <= NUMBERED_UP_TO:
        for row, cells in enumerate(shares):
            for column, share in enumerate(cells):
                color = theme.paper if share > 0.25 else theme.ink
                if share >= LEAST_SHOWN:
                    axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=7.5, color=color)
    axes.set_xticks(range(len(names)), names, rotation=45, ha="right", rotation_mode="anchor", color=theme.ink)
    axes.set_yticks(range(len(names)), names, color=theme.ink)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class; % of its pixels")
    for spine in axes.spines.values():
        spine.set(visible=True, color=theme.grid)
    for edge in range(1, len(names)):
        for line in (axes.axhline, axes.axvline):
            line(edge - 0.5, color=theme.grid, linewidth=0.5)
    return encode(figure)


def confusion_shares(confusion: Columns) -> tuple[list[str], list[list[float]]]:
    """Returns the class names and, for each true class, the share of its pixels given to every class.

    >>> confusion_shares({"truth": ["Road", "Sky"], "Road": ["3", "0"], "Sky": ["1", "0"]})
    (['Road', 'Sky'], [[0.75, 0.25], [0.0, 0.0]])
    """
    names = list(confusion["truth"])
    rows = list(zip(*(numbers(confusion[name]) for name in names), strict=True))
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
    """Returns a count as a person says it.

    >>> short_count(2621), short_count(55590), short_count(763651425), short_count(0)
    ('2,621', '55.6 k', '764 M', '0')
    """
    for unit, size in ((" G", 1e9), (" M", 1e6), (" k", 1e3)):
        if count >= size and (count >= 1e4 or count < 1):
            return f"{count / size:.3g}{unit}"
    return f"{count:,.0f}"


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %" if share < 0.1 else f"{100 * share:.0f} %"


def _digits(count: int) -> int:
    return len(str(count))
