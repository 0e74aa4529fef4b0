"""The page's sections on what came out: scores by class, images, confusions, the submission."""

from __future__ import annotations

import math

from pipeline.config.ensemble import is_ensemble
from pipeline.report.classes import confusion_counts, draw_confusion, largest_confusions
from pipeline.report.ensemble import decoding_tables
from pipeline.report.markup import (
    Html,
    bar,
    body,
    digits,
    join,
    photo,
    quantity,
    table,
    table_of,
    tag,
    themed,
)
from pipeline.report.read import numbers, percent, show_value
from pipeline.report.record import Record

GROUP_TITLES = {"best": "Best", "median": "Median", "worst": "Worst"}


def classes_section(record: Record) -> Html | None:
    """Returns the table of scores per class, the weakest first or in the competition's order."""
    if record.metrics is None:
        return None
    metrics, known = record.metrics, {row.name: row for row in record.classes or []}
    colors = dict(zip(record.loaded.competition.classes, record.loaded.competition.colors, strict=True))
    absent = never_predicted(record)
    lines = {}
    for name, value in metrics.main.classes.items():
        color = "#{:02x}{:02x}{:02x}".format(*colors.get(name, (128, 128, 128)))
        swatch = tag("span", class_="swatch", style=f"background:{color}", aria_hidden="true")
        row = known.get(name)
        lines[name] = (
            join(swatch, name, tag("em", "never predicted") if name in absent else None),
            bar(tag("b", digits(value)), value or 0.0),
            *(digits(score.classes.get(name)) for score in metrics.others),
            f"{row.valid_images:,}" if row else "–",
            f"{row.images:,}" if row else "–",
            bar(percent(row.pixel_share), row.pixel_share) if row else "–",
        )
    weakest = sorted(lines, key=lambda name: math.inf if (value := metrics.main.classes[name]) is None else value)
    scores = [metrics.main, *metrics.others]
    labels = [score.label for score in scores]
    headings = ("class", *labels, "images, validation", "images, all", "share of pixels")
    header = tag("thead", tag("tr", *(tag("th", heading, scope="col") for heading in headings)))
    bodies = [
        body((lines[name] for name in weakest), class_="by-score"),
        body(lines.values(), class_="by-index"),
        body([("mean", *(digits(score.mean) for score in scores), "", "", "")], class_="mean"),
    ]
    choices = (
        tag("input", type="radio", name="order", id="by-score", checked=True),
        tag("label", "weakest first", for_="by-score"),
        tag("input", type="radio", name="order", id="by-index"),
        tag("label", "in the competition's order", for_="by-index"),
    )
    in_images, at_once = (
        [score.label for score in scores if (score.name in record.per_image) == is_in] for is_in in (True, False)
    )
    notes = [
        f"{' and '.join(in_images)}: per image and class, 1 where neither prediction nor label has the class, "
        f"then averaged over images. "
        if in_images
        else "",
        f"{' and '.join(at_once)}: over the whole data set at once." if at_once else "",
    ]
    caption = quantity(metrics.images, "validation image")
    return tag("div", *choices, table_of(header, bodies, caption), tag("p", *notes, class_="note"), class_="order")


def never_predicted(record: Record) -> list[str]:
    """Returns the classes that validation images show and the network never predicts."""
    names, rows = confusion_counts(record.confusion) if record.confusion else ([], [])
    return [name for index, name in enumerate(names) if sum(rows[index]) and not sum(row[index] for row in rows)]


def images_section(record: Record) -> Html | None:
    """Returns the panels of the best, median and worst images."""
    if not record.panels:
        return None
    score, values = record.image_score, {}
    if score in record.per_image:
        values = dict(zip(record.per_image["id"], numbers(record.per_image[score]), strict=True))
    parts: list[Html] = []
    if score != record.score:
        text = f"{record.label(record.score)} has no value per image; images are ranked by {record.label(score)}."
        parts.append(tag("p", text, class_="note"))
    for group, title in GROUP_TITLES.items():
        panels = [panel for panel in record.panels if panel[0] == group]
        parts += [tag("h3", title)] if panels else []
        for _, rank, image_id, path in panels:
            about = f"{title} {rank}: {image_id}, {record.label(score)} {digits(values.get(image_id))}"
            parts.append(photo(path, f"{about}. Image, label, prediction, errors."))
    return join(*parts)


def confusion_section(record: Record) -> Html | None:
    """Returns the confusion matrix and its largest entries in words."""
    if record.confusion is None:
        return None
    found = largest_confusions(record.confusion)
    items = (
        tag("li", bar(tag("b", percent(share)), share), tag("span", f"{truth} predicted as ", tag("b", predicted)))
        for truth, predicted, share in found
    )
    listed = tag("ul", *items, class_="confusions") if found else tag("p", "None.")
    alt = "Heat map of true class against predicted class, in per cent of the true class's pixels."
    drawn = themed(lambda theme: draw_confusion(record.confusion, theme), alt)
    return tag("div", drawn, tag("div", tag("h3", "The largest, as share of the true class"), listed), class_="pair")


def submission_section(record: Record) -> Html | None:
    """Returns the facts of the submission."""
    submission = record.submission
    if submission is None:
        return None
    facts = dict(submission.facts)
    local = facts.pop("local_scores", None) or {facts.get("score"): facts.get("local_score")}
    for key in ("experiment", "score", "local_score"):
        facts.pop(key, None)
    rows = [("file", tag("code", submission.path.name))]
    rows += [
        (f"local {record.label(name)}", tag("code", f"{value:.4f}"))
        for name, value in local.items()
        if value is not None
    ]
    rows += [(key.replace("_", " "), tag("code", _fact(value))) for key, value in facts.items()]
    fitted = None if is_ensemble(record.loaded) else decoding_tables(record.decoding)
    verdict = "ids, rows, overlaps, ranges and orientation are right" if submission.is_checked else "not checked"
    rows.append(("check", verdict if submission.is_intact else "the file was changed after it was written"))
    content = table(("what", "value"), rows, "The file to upload")
    decoding = (tag("h3", "Fitted decoding"), fitted) if fitted else ()
    return join(content, *decoding)


def _fact(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key} {show_value(inner) or 'blank'}" for key, inner in value.items())
    return f"{value:.4f}" if isinstance(value, float) else show_value(value)
