"""The page's sections on what came out: scores by class, images, confusions, the submission."""

from __future__ import annotations

import math

from pipeline.config.ensemble import is_ensemble
from pipeline.report.classes import confusion_counts, draw_confusion, largest_confusions
from pipeline.report.ensemble import decoding_tables
from pipeline.report.markup import Html, bar, digits, join, photo, quantity, table, tag, themed
from pipeline.report.read import numbers, percent, show_value
from pipeline.report.record import Record

GROUP_TITLES = {"best": "Best", "median": "Median", "worst": "Worst"}


def classes_section(record: Record) -> Html | None:
    """Returns the table of scores per class, the weakest first."""
    if record.metrics is None:
        return None
    metrics, known = record.metrics, {row.name: row for row in record.classes or []}
    colors = dict(zip(record.loaded.competition.classes, record.loaded.competition.colors, strict=True))
    absent, scores = never_predicted(record), [metrics.main, *metrics.others]
    rows = []
    for name, value in sorted(metrics.main.classes.items(), key=lambda item: math.inf if item[1] is None else item[1]):
        color = "#{:02x}{:02x}{:02x}".format(*colors.get(name, (128, 128, 128)))
        swatch = tag("span", class_="swatch", style=f"background:{color}", aria_hidden="true")
        named = join(swatch, name, tag("em", "never predicted") if name in absent else None)
        cells = [bar(tag("b", digits(value)), value or 0.0), *(digits(score.classes.get(name)) for score in scores[1:])]
        if (row := known.get(name)) is None:
            rows.append((named, *cells, "–", "–", "–"))
        else:
            share = bar(percent(row.pixel_share), row.pixel_share)
            rows.append((named, *cells, f"{row.valid_images:,}", f"{row.images:,}", share))
    head = ("class", *(score.label for score in scores), "images, validation", "images, all", "share of pixels")
    mean = ("mean", *(digits(score.mean) for score in scores), "", "", "")
    in_images, at_once = (
        " and ".join(score.label for score in scores if (score.name in record.per_image) == is_in)
        for is_in in (True, False)
    )
    how = "per image and class, 1 where neither prediction nor label has the class, then averaged over images. "
    notes = [f"{in_images}: {how}" if in_images else "", f"{at_once}: over the data set at once." if at_once else ""]
    caption = quantity(metrics.images, "validation image")
    return join(table(head, rows, caption, mean), tag("p", *notes, class_="note"))


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
