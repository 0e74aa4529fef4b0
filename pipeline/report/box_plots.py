"""Plots of boxes: precision over recall, how well anchors fit, and which class was found as which.

In: content of boxes.json and anchors.json, columns of confusion.csv. Out: PNG bytes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

from pipeline.report.figure import LIGHT, Color, Theme, add_legend, encode, new_axes, readable_color
from pipeline.report.lettering import legend_label
from pipeline.report.plots import CELL, DRAWN_UP_TO, LEAST_CELL, LEAST_WIDTH, NUMBERED_UP_TO, draw_heat_map
from pipeline.report.read import percent

HEIGHT = 380  # page pixels
ANCHOR_IOUS = (0.4, 0.5)  # of RetinaNet: below the first an anchor is background, from the second on it is a box's
WIDE_CELL = 44  # page pixels of a cell with a count in it
NAMED_UP_TO = 14  # classes; a longer legend does not fit beside a plot of this height
DASHES = (4, 3)


def draw_precision(facts: Mapping[str, Any], iou: str, colors: Sequence[Color], theme: Theme = LIGHT) -> bytes:
    """Returns the precision at each recall of every class, at one IoU; the legend has the area below each curve.

    Args:
        facts: content of boxes.json.
        iou: one of the keys of its `precision`.
    """
    figure, axes = new_axes(theme, f"Precision over recall, IoU {iou}", HEIGHT)
    curves = facts["precision"][iou]
    known = [(index, curve) for index, curve in enumerate(curves) if curve[0] is not None]
    recalls = [step / (max(map(len, curves), default=2) - 1) for step in range(max(map(len, curves), default=2))]
    for number, (index, curve) in enumerate(known):
        style = {"linestyle": (0, DASHES) if number % 2 else "-", "linewidth": 1.6}
        style["color"] = readable_color(colors[index % len(colors)], theme)
        label = legend_label(f"{facts['classes'][index]} {sum(curve) / len(curve):.2f}")
        axes.plot(recalls, curve, label=label, **style)
    for bounds in (axes.set_xlim, axes.set_ylim):
        bounds(-0.02, 1.02)
    axes.set_xlabel("recall")
    axes.set_ylabel("precision")
    if 0 < len(known) <= NAMED_UP_TO:
        add_legend(axes, theme, columns=1, loc="lower left")
    return encode(figure)


def draw_anchor_fit(facts: Mapping[str, Any], colors: Sequence[Color], theme: Theme = LIGHT) -> bytes:
    """Returns the share of the boxes of each class whose best anchor has less than an IoU, over that IoU.

    Args:
        facts: content of anchors.json.
    """
    figure, axes = new_axes(theme, "Best IoU of any anchor with each box", HEIGHT)
    num_bins = facts["bins"]
    edges = [edge / num_bins for edge in range(num_bins + 1)]
    known = [(index, name, counts) for index, (name, counts) in enumerate(facts["counts"].items()) if sum(counts)]
    for number, (index, name, counts) in enumerate(known):
        shares = [below / sum(counts) for below in accumulate(counts, initial=0)]
        style = {"linestyle": (0, DASHES) if number % 2 else "-", "linewidth": 1.6}
        style["color"] = readable_color(colors[index % len(colors)], theme)
        axes.plot(edges, shares, label=legend_label(name), **style)
    for iou in ANCHOR_IOUS:
        axes.axvline(iou, color=theme.mark, linewidth=0.9, linestyle=(0, (2, 2)))
    axes.set_xlim(0, 1)
    axes.set_ylim(-0.02, 1.02)
    axes.set_xlabel(f"IoU; dashed: {' and '.join(f'{iou:g}' for iou in ANCHOR_IOUS)}")
    axes.set_ylabel("share of boxes below it")
    if 0 < len(known) <= NAMED_UP_TO:
        add_legend(axes, theme, columns=1, loc="upper left")
    return encode(figure)


def share_below(counts: Sequence[int], iou: float) -> float | None:
    """Returns the share of boxes whose best anchor has less than an IoU; None where there is no box.

    >>> share_below([1, 0, 0, 3], 0.5), share_below([0, 0], 0.5)
    (0.25, None)
    """
    total = sum(counts)
    return sum(counts[: round(iou * len(counts))]) / total if total else None


def anchor_words(counts: Sequence[int]) -> tuple[str, ...]:
    """Returns the shares of boxes below each of `ANCHOR_IOUS` as text.

    >>> anchor_words([1, 0, 0, 3])
    ('25 %', '25 %')
    """
    shares = (share_below(counts, iou) for iou in ANCHOR_IOUS)
    return tuple("–" if share is None else percent(share) if share else "none" for share in shares)


def draw_box_confusion(names: Sequence[str], rows: Sequence[Sequence[float]], theme: Theme = LIGHT) -> bytes:
    """Returns how many labelled boxes of each class (row) were found as each class (column), as a heat map.

    Colours are shares of a row; of the background, which has no boxes of its own, shares of a column.

    Args:
        names: the classes, then the background.
    """
    title, num_classes = "Labelled and predicted boxes", len(names) - 1
    columns = [sum(column) or 1 for column in zip(*rows, strict=True)]
    shares = [[count / (sum(row) or 1) for count in row] for row in rows[:-1]]
    shares.append([count / total for count, total in zip(rows[-1], columns, strict=True)])
    if num_classes > DRAWN_UP_TO:
        wrong = {index: sum(row) - row[index] for index, row in enumerate(shares[:-1])}
        kept = [*sorted(sorted(wrong, key=wrong.__getitem__, reverse=True)[:DRAWN_UP_TO]), num_classes]
        names = [names[index] for index in kept]
        rows, shares = ([[table[row][index] for index in kept] for row in kept] for table in (rows, shares))
        title += f": the {DRAWN_UP_TO} of {num_classes:,} classes with the largest share of errors"
    has_numbers = len(names) <= NUMBERED_UP_TO
    cell = WIDE_CELL if has_numbers else max(LEAST_CELL, CELL * NUMBERED_UP_TO // len(names))
    side = max(LEAST_WIDTH, 130 + cell * len(names))
    figure, axes = new_axes(theme, title, side - 20, side, grid="none")
    texts = [[f"{count:,.0f}" if count else "" for count in row] for row in rows]
    values = [[share**0.5 for share in row] for row in shares]  # the square root brings out the small shares
    draw_heat_map(axes, values, texts if has_numbers else [], names, names, theme, aspect="equal")
    axes.set_xlabel("predicted class")
    axes.set_ylabel("labelled class; boxes")
    for line in (axes.axhline, axes.axvline):
        line(len(names) - 1.5, color=theme.muted, linewidth=1)
    return encode(figure)
