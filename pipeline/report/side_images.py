"""The same validation images of several runs in a grid: a row per run, a column per chosen epoch, then what was kept.

In: `Side`s. Out: a part of their page.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from pipeline.report.figure import Color
from pipeline.report.markup import Html, join, tag
from pipeline.report.scenes import legend, shot
from pipeline.report.side import Side

BEST = "best"  # the key of what the kept weights find


def images_part(sides: Sequence[Side], colors: Mapping[str, Mapping[str, Color]]) -> Html | None:
    """Returns a grid for each image that some run has kept; None where none has any.

    Args:
        colors: of the classes, by competition and name.
    """
    having = [side for side in sides if side.shots.names]
    if not having:
        return None
    text = (
        "Each run's network on the same validation images, which were chosen by the classes that they show. The last "
        "column is of the weights that were kept: those of the best epoch."
    )
    parts = [tag("p", text, class_="note")]
    for competition in dict.fromkeys(side.competition for side in having):
        own = [side for side in having if side.competition == competition]
        names = dict.fromkeys(name for side in own for name in side.shots.names)
        parts.append(legend(colors.get(competition, {})))
        parts += [join(tag("h3", name), _grid(name, own)) for name in names]
    return join(*parts)


def columns_of(sides: Sequence[Side]) -> list[str]:
    """Returns the keys of the moments that some run has, in order of epochs; the kept weights come last."""
    epochs = sorted({moment.epoch for side in sides for key, moment in side.shots.moments.items() if key != BEST})
    has_best = any(BEST in side.shots.moments for side in sides)
    return [*(f"epoch_{epoch}" for epoch in epochs), *([BEST] if has_best else [])]


def _grid(name: str, sides: Sequence[Side]) -> Html:
    having = [side for side in sides if name in side.shots.names]
    columns = columns_of(having)
    heads = ("kept" if key == BEST else key.replace("_", " ") for key in columns)
    head = tag("thead", tag("tr", *(tag("th", text, scope="col") for text in ("run", *heads))))
    truth = having[0].shots
    cells = [shot(truth.file(name, what), f"{name}, {what}", what, "") for what in ("image", "label")]
    rows = [_row("the image and its label", "", [*cells, *[None] * (len(columns) - len(cells))])]
    absent = tag("span", "–", class_="note")
    rows += [_row(side.label, side.mix, [_cell(side, name, key) or absent for key in columns]) for side in having]
    body = tag("table", head, tag("tbody", *rows), class_="grid")
    return tag("div", body, class_="scroll", tabindex="0", role="region", aria_label=f"{name} in every run")


def _row(title: str, note: str, cells: Sequence[Html | None]) -> Html:
    return tag(
        "tr", tag("th", title, tag("small", note) if note else None, scope="row"), *(tag("td", cell) for cell in cells)
    )


def _cell(side: Side, name: str, key: str) -> Html | None:
    """Returns what a run has of an image at a moment; nothing where it has not got there, or was not asked to."""
    moment = side.shots.moments.get(key)
    if moment is None:
        return None
    title = f"epoch {moment.epoch}" if key == BEST else ""
    return shot(side.shots.file(name, key), f"{side.label}, {moment.title}", title, side.shots.score(name, moment))
