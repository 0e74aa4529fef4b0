"""The charts of the board: the public score against the local one, drawn here; learning curves, drawn by `board.js`.

In: a `Competition`. Out: SVG with a link per run; the curves' numbers as JSON, and the box that they are drawn into.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pipeline.report.board import Competition, score_label
from pipeline.report.markup import Html, join, tag

WIDTH, HEIGHT = 440, 320  # of the drawing; shown at this size on a desk, smaller on a phone
LEFT, RIGHT, TOP, BOTTOM = 58, 14, 12, 44  # between its edges and those of the plot
LEAST_RANKED = 5  # uploads for a rank correlation: with four, one in twelve orders is perfect by chance
LETTER = 7.0  # the width of one
MOST_NAMED = 12  # dots that have room for a name
MARGIN = 0.08  # of the range, beyond the outermost dots
LEAST_RANGE = 0.004  # of an axis, where all scores are alike


@dataclass(frozen=True)
class Upload:
    """A run whose current submission was uploaded; `kind`: of its split, by slice or by sequence."""

    name: str
    local: float
    public: float
    kind: str
    has_report: bool


def uploads_of(own: Competition) -> list[Upload]:
    """Returns the runs that have a public score, in the order of the table."""
    public = next((column.values for column in own.table.columns if column.key == "public"), ())
    pairs = zip(own.table.runs, own.table.columns[0].values, public, strict=True) if public else ()
    return [
        Upload(name, local, score, str(own.runs[name].row.split.get("by", "")), own.runs[name].has_report)
        for name, local, score in pairs
        if local is not None and score is not None
    ]


def public_part(own: Competition, links: Mapping[str, str]) -> Html | None:
    """Returns the scatter of public against local scores, None without uploads.

    Args:
        links: by run, the address of its report.
    """
    uploads = uploads_of(own)
    if not uploads:
        return None
    kinds = sorted({upload.kind for upload in uploads})
    keys = None
    if len(kinds) > 1:
        marks = (
            tag("li", tag("span", class_=f"dot dot-{index}", aria_hidden="true"), kind)
            for index, kind in enumerate(kinds)
        )
        keys = tag("ul", *marks, class_="legend")
    return join(
        tag("figure", _scatter(uploads, kinds, score_label(own), links), class_="scatter"), keys, _ranks(uploads)
    )


def _ranks(uploads: Sequence[Upload]) -> Html:
    """Returns what the dots say about trusting local scores; runs of two kinds of split are not ranked together."""
    words = []
    for kind in sorted({upload.kind for upload in uploads}):
        own = [upload for upload in uploads if upload.kind == kind]
        what = f"split by {kind}" if kind else "of an unknown split"
        if len(own) < LEAST_RANKED:
            words.append(f"{len(own)} uploaded, {what}: a rank correlation needs {LEAST_RANKED}.")
        elif (found := rank_correlation([one.local for one in own], [one.public for one in own])) is not None:
            words.append(f"Rank correlation of {len(own)} runs {what}: {found:+.2f} (1: the same order on both).")
    return tag("p", " ".join(words), " A dot is a run whose current submission was uploaded.", class_="note")


def rank_correlation(one: Sequence[float], other: Sequence[float]) -> float | None:
    """Returns Spearman's rank correlation, equal values sharing their mean rank; None where all values are equal.

    >>> rank_correlation([0.1, 0.2, 0.3, 0.4], [1, 2, 4, 3]), rank_correlation([1, 1], [1, 2])
    (0.8, None)
    """
    ranks = np.array([_mean_ranks(one), _mean_ranks(other)])
    centred = ranks - ranks.mean(1, keepdims=True)
    norm = float(np.sqrt(np.square(centred).sum(1).prod()))
    return round(float(centred.prod(0).sum()) / norm, 12) if norm else None


def _mean_ranks(values: Sequence[float]) -> np.ndarray:
    _, index, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[index]


def _scatter(uploads: Sequence[Upload], kinds: Sequence[str], label: str, links: Mapping[str, str]) -> Html:
    x_axis = _axis([upload.local for upload in uploads])
    y_axis = _axis([upload.public for upload in uploads])

    def x_of(value: float) -> float:
        return LEFT + (value - x_axis[0]) / (x_axis[1] - x_axis[0]) * (WIDTH - LEFT - RIGHT)

    def y_of(value: float) -> float:
        return HEIGHT - BOTTOM - (value - y_axis[0]) / (y_axis[1] - y_axis[0]) * (HEIGHT - TOP - BOTTOM)

    parts = []
    for value in ticks(*x_axis):
        x = x_of(value)
        parts.append(_line(x, TOP, x, HEIGHT - BOTTOM, "grid-line"))
        parts.append(_text(x, HEIGHT - BOTTOM + 16, f"{value:g}", text_anchor="middle"))
    for value in ticks(*y_axis):
        y = y_of(value)
        parts.append(_line(LEFT, y, WIDTH - RIGHT, y, "grid-line"))
        parts.append(_text(LEFT - 7, y + 4, f"{value:g}", text_anchor="end"))
    low, high = max(x_axis[0], y_axis[0]), min(x_axis[1], y_axis[1])
    if low < high:
        parts.append(_line(x_of(low), y_of(low), x_of(high), y_of(high), "same-line"))
    middle = (LEFT + WIDTH - RIGHT) / 2
    parts.append(_text(middle, HEIGHT - 8, f"local {label}, on the validation images", text_anchor="middle"))
    turned = f"translate(13 {(TOP + HEIGHT - BOTTOM) / 2:.0f}) rotate(-90)"
    parts.append(tag("text", f"public {label}", transform=turned, text_anchor="middle"))
    dots = [(x_of(upload.local), y_of(upload.public)) for upload in uploads]
    for upload, (x, y) in zip(uploads, dots, strict=True):
        parts.append(_dot(upload, x, y, kinds.index(upload.kind), links))
    if len(uploads) <= MOST_NAMED:
        parts += _names([upload.name for upload in uploads], dots)
    title = f"Public {label} against local {label} of {len(uploads)} runs"
    return tag("svg", *parts, viewBox=f"0 0 {WIDTH} {HEIGHT}", role="group", aria_label=title, class_="chart")


def _dot(upload: Upload, x: float, y: float, kind: int, links: Mapping[str, str]) -> Html:
    words = f"{upload.name}: local {upload.local:.4f}, public {upload.public:.4f}, split by {upload.kind or '?'}"
    circle = tag("circle", tag("title", words), cx=f"{x:.1f}", cy=f"{y:.1f}", r="5", class_=f"dot-{kind % 4}")
    return tag("a", circle, href=links[upload.name], aria_label=words) if upload.name in links else circle


def _names(names: Sequence[str], dots: Sequence[tuple[float, float]]) -> list[Html]:
    """Returns the names of dots, each on a side where it meets nothing; one that has no room is left out."""
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y in dots]
    written = []
    for name, (x, y) in zip(names, dots, strict=True):
        wide = LETTER * len(name)
        for left, base in ((x + 8, y + 4), (x - 8 - wide, y + 4), (x - wide / 2, y - 9), (x - wide / 2, y + 18)):
            box = (left, base - 11, left + wide, base + 3)
            is_inside = left >= LEFT and left + wide <= WIDTH and box[1] >= 0 and box[3] <= HEIGHT - BOTTOM
            if is_inside and not any(_overlap(box, other) for other in taken):
                taken.append(box)
                written.append(_text(left, base, name))
                break
    return written


def _overlap(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
    return one[0] < other[2] and other[0] < one[2] and one[1] < other[3] and other[1] < one[3]


def _line(x: float, y: float, to_x: float, to_y: float, kind: str) -> Html:
    return tag("line", x1=f"{x:.1f}", y1=f"{y:.1f}", x2=f"{to_x:.1f}", y2=f"{to_y:.1f}", class_=kind)


def _text(x: float, y: float, text: str, **attributes: str) -> Html:
    return tag("text", text, x=f"{x:.1f}", y=f"{y:.1f}", **attributes)


def _axis(values: Sequence[float]) -> tuple[float, float]:
    low, high = min(values), max(values)
    margin = max(MARGIN * (high - low), (LEAST_RANGE - (high - low)) / 2)
    return low - margin, high + margin


def ticks(low: float, high: float, most: int = 6) -> list[float]:
    """Returns round numbers between two, as many as fit.

    >>> ticks(0.613, 0.742)
    [0.62, 0.64, 0.66, 0.68, 0.7, 0.72, 0.74]
    """
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next((scale * power for scale in (1, 2, 5) if (high - low) / (scale * power) <= most + 1), 10 * power)
    first = math.ceil(low / step)
    return [float(f"{number * step:.10g}") for number in range(first, math.floor(high / step) + 1)]


def curves_part(number: int, own: Competition) -> Html | None:
    """Returns the box of the learning curves, None where no run has any.

    Args:
        number: of the competition on the page.
    """
    if not any(run.curve for run in own.runs.values()):
        return None
    label = score_label(own)
    charts = (
        tag("div", tag("h3", f"Validation {name}"), tag("div", class_="chart", data_part=part))
        for part, name in (("score", label), ("loss", "loss"))
    )
    clear = tag("button", "Show none", type="button", class_="clear")
    hint = tag("p", "Choose runs by the check boxes in the table. ", clear, class_="note")
    legend = tag("ul", class_="legend", aria_live="polite")
    needs = tag("noscript", tag("p", "The curves are drawn by JavaScript, which is switched off.", class_="missing"))
    return tag("div", hint, needs, legend, tag("div", *charts, class_="pair"), class_="curves", data_number=number)


def curves_data(competitions: Sequence[Competition]) -> Html:
    """Returns the curves of all runs as JSON that the page contains.

    A curve is [epochs, losses, scores]; the epochs are null where they are 0, 1, 2, ...
    """
    found = [{name: _numbers(run.curve) for name, run in own.runs.items() if run.curve} for own in competitions]
    # In JSON a "<" may be written so; a name cannot end the element then.
    text = json.dumps(found, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")
    return tag("script", Html(text), type="application/json", id="curves-data")


def _numbers(curve: Any) -> list[Any]:
    is_plain = curve.epochs == tuple(range(len(curve.epochs)))
    return [None if is_plain else curve.epochs, curve.loss, curve.score]
