"""The page's section of single images: best, median and worst, and the training images most like the worst.

In: the panels that `evaluate` has drawn. Out: their section.
"""

from __future__ import annotations

from pipeline.report.markup import Html, digits, join, photo, tag
from pipeline.report.read import numbers
from pipeline.report.record import Record
from pipeline.scores import label_of

PANEL_WIDTH, NEAREST_WIDTH = 1440, 1168  # pixels in the page, which must stay small; panels themselves have 1920
NEAREST = "near"  # in the names of panels: the training images that look most like the worst


def images_section(record: Record) -> Html | None:
    """Returns the panels of the best, median and worst images."""
    if not record.panels:
        return None
    score, values = record.image_score, {}
    if score in record.per_image:
        values = dict(zip(record.per_image["id"], numbers(record.per_image[score]), strict=True))
    parts: list[Html] = []
    if score != record.score:
        text = f"{label_of(record.score)} has no value per image; images are ranked by {label_of(score)}."
        parts.append(tag("p", text, class_="note"))
    for group in ("best", "median", "worst"):
        panels = [panel for panel in record.panels if panel[0] == group]
        parts += [tag("h3", group.capitalize())] if panels else []
        for _, rank, image_id, path in panels:
            about = f"{group.capitalize()} {rank}: {image_id}, {label_of(score)} {digits(values.get(image_id))}"
            parts.append(photo(path, f"{about}. Image, label, prediction, errors.", PANEL_WIDTH))
    return join(*parts, _nearest(record))


def _nearest(record: Record) -> Html | None:
    """Returns the worst images beside the training images that look most like them."""
    found = [panel for panel in record.panels if panel[0] == NEAREST]
    if record.loaded.is_ensemble:
        text = "The training images most like the worst ones are on the members' own pages: each has images of its own."
        return tag("p", text, class_="note")
    if not found:
        return None
    note = (
        "Likeness is the correlation of small grey copies, by which near-duplicates are found; 1 is the same image. Is "
        "there no such scene in training, or is it labelled otherwise?"
    )
    drawn = (
        photo(path, f"Worst {rank}, {image_id}, and the training images most like it.", NEAREST_WIDTH)
        for _, rank, image_id, path in found
    )
    return join(tag("h3", "Training images most like the worst"), tag("p", note, class_="note"), *drawn)
