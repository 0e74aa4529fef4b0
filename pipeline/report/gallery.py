"""The page's gallery: every validation image as a thumbnail, sortable, and a viewer of image, mask, prediction, errors.

In: `gallery/list.csv`, per_image.csv. Out: a section whose images are files beside the page, loaded when they come into
view. Without JavaScript the thumbnails stand in order, the lowest score first, and lead to the images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from pipeline.paths import GALLERY, gallery_file
from pipeline.report.markup import Html, digits, join, quantity, tag
from pipeline.report.read import numbers
from pipeline.report.record import Record
from pipeline.scores import label_of

SCRIPT = Path(__file__).with_name("gallery.js")
VIEWS = ("image", "label", "prediction", "errors")  # below one another in a file
UNKNOWN = "-"  # in place of a number


def gallery_section(record: Record) -> Html | None:
    """Returns the thumbnails with their numbers, what they are sorted by, and the viewer."""
    listed = record.gallery
    if not listed or not listed["id"]:
        return None
    label = label_of(record.image_score)
    scores, classes = _scores(record)
    rows = []
    for index, image_id in enumerate(listed["id"]):
        own = scores.get(image_id, [math.nan] * (1 + len(classes)))
        wrong = float(listed["wrong"][index])
        rows.append(([own[0], wrong, *own[1:]], int(listed["number"][index]), image_id, index))
    rows.sort(key=lambda row: (math.isnan(row[0][0]), row[0][0], row[2]))
    sizes = [(int(width), int(height)) for width, height in zip(listed["width"], listed["height"], strict=True)]
    thumbs = [_thumb(values, number, image_id, sizes[index]) for values, number, image_id, index in rows]
    num_scored = record.metrics.images if record.metrics else len(thumbs)
    count = quantity(len(thumbs), "validation image")
    if len(thumbs) < num_scored:
        count = f"{len(thumbs):,} of {quantity(num_scored, 'validation image')}, those with most {record.words.wrong}"
    words, views = record.words, f"{', '.join(VIEWS[:-1])} or {VIEWS[-1]}"
    note = (
        f"{count}. Each shows its {label} and the share of {words.wrong}.{words.about_wrong} A click opens it; then "
        f"arrow keys go on, 1 to 4 show {views} alone, 0 all, + and - zoom, Escape closes. The images are files in "
    )
    return join(
        tag("p", note, tag("code", f"{GALLERY}/"), " beside this page."),
        _order([label, record.words.wrong, *classes]),
        tag("div", *thumbs, class_="thumbs"),
        _viewer(record),
    )


def _scores(record: Record) -> tuple[dict[str, list[float]], list[str]]:
    """Returns the score of each image and of each of its classes, by id, and the classes."""
    columns, score = record.per_image, record.image_score
    scored = record.metrics.scored if record.metrics else ()
    classes = [name for name in scored if f"{score}_{name}" in columns]
    if score not in columns:
        return {}, classes
    parts = [numbers(columns[name]) for name in (score, *(f"{score}_{name}" for name in classes))]
    return dict(zip(columns["id"], map(list, zip(*parts, strict=True)), strict=True)), classes


def _order(names: Sequence[str]) -> Html:
    """Returns what the thumbnails are sorted by: a choice and a direction; a script makes them work."""
    options = (tag("option", name, value=index) for index, name in enumerate(names))
    named = tag("option", "name", value=UNKNOWN)
    choice = tag("select", *options, named, class_="by")
    words = tag("label", "Sort by ", choice)
    turn = tag("button", "lowest first", type="button", class_="turn", title="turn the order round")
    return tag("p", words, " ", turn, class_="order")


def _thumb(values: Sequence[float], number: int, image_id: str, size: tuple[int, int]) -> Html:
    """Returns a thumbnail; `data-values` has its numbers in thousandths, in the order of the choice."""
    short = ",".join(UNKNOWN if math.isnan(value) else f"{1000 * value:.0f}" for value in values)
    score, wrong = (None if math.isnan(value) else value for value in values[:2])
    image = tag("img", src=gallery_file(number, is_thumb=True), alt="", loading="lazy", width=160, height=120)
    words = tag("span", tag("b", digits(score)), " ", f"{100 * (wrong or 0.0):.1f} %", " ", tag("small", image_id))
    shape = "{}/{}".format(*size)
    return tag("a", image, words, href=gallery_file(number), data_values=short, data_shape=shape)


def _viewer(record: Record) -> Html:
    def button(text: str, about: str, **attributes: object) -> Html:
        return tag("button", text, type="button", title=about, aria_label=about, **attributes)

    views = (button(name, f"{name} alone ({number})", data_view=number) for number, name in enumerate(VIEWS, start=1))
    bar = tag(
        "div",
        button("‹", "previous image (left arrow)", data_step=-1),
        button("›", "next image (right arrow)", data_step=1),
        tag("span", class_="name"),
        tag("span", button("all", "all four (0)", data_view=0), *views, class_="views"),
        tag("span", button("−", "smaller (-)", data_zoom=-1), button("+", "larger (+)", data_zoom=1), class_="zoom"),
        button("×", "close (Escape)", data_close=""),
        class_="tools",
    )
    parts = (tag("figure", tag("div", tag("img", alt=name)), tag("figcaption", name)) for name in VIEWS)
    stage = tag("div", tag("div", *parts, class_="parts"), class_="stage", tabindex="0")
    names = record.loaded.competition.class_names
    chips = (
        tag("li", tag("span", class_="swatch", style="background:#{:02x}{:02x}{:02x}".format(*color)), name)
        for name, color in zip(names, record.loaded.competition.colors, strict=False)
    )
    return tag("dialog", bar, stage, tag("ul", *chips, class_="legend"), class_="viewer", aria_label="Validation image")
