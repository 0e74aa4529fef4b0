"""The page's sections on calibration, on where pixels are wrong, and on masks that may be.

In: diagnosis.json, suspicious.csv. Out: sections; a run that was evaluated before these files existed has none.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from pipeline.paths import SUSPICIOUS, crop_file
from pipeline.report.markup import Html, bar, digits, heat, join, quantity, table, tag, themed
from pipeline.report.plots import short_count
from pipeline.report.read import percent
from pipeline.report.record import Record
from pipeline.report.reliability import Reliability, draw_distances, draw_reliability, read_reliability

LEAST_PIXELS = 10_000  # of a class, for a calibration of its own
LEAST_OBJECTS = 5
SHOWN_REGIONS, FOLDED_REGIONS = 12, 18  # at once, and behind a click
MOST_OF_SCALE = 0.2  # the calibration error at which a bar is full
SURE = 0.9  # an edge of the bins


def calibration_section(record: Record) -> Html | None:
    """Returns the reliability diagram, and the calibration error of all pixels and of each class."""
    found = record.diagnosis.get("calibration")
    if not found:
        return None
    is_chosen, whole = found["of"] == "the chosen class", read_reliability(found)
    alt = "Reliability diagram: share of right pixels by the probability that the network gave them."
    drawn = themed(lambda theme: draw_reliability(whole, is_chosen, theme), alt)
    classes, rows = record.loaded.competition.class_names, []
    for index, name in enumerate(classes):
        own = read_reliability(found, index)
        count = short_count(own.pixels.sum())
        if own.pixels.sum() < LEAST_PIXELS:
            rows.append((name, "too few pixels", "–", "–", count))
            continue
        total = own.pixels.sum()
        means = (digits(values.sum() / total) for values in (own.probability, own.right))
        rows.append((name, bar(f"{own.error:.3f}", own.error / MOST_OF_SCALE), *means, count))
    of_class = ("probability", "right", "predicted pixels") if is_chosen else ("probability", "has it", "pixels")
    listed = table(("class", "calibration error", *of_class), rows, "Mean over the pixels of each class", class_="wide")
    return join(tag("p", *_calibration_words(whole, is_chosen)), tag("div", drawn, listed, class_="pair"))


def _calibration_words(whole: Reliability, is_chosen: bool) -> list[object]:
    """Returns the expected calibration error, and what it means, in words."""
    error = ("Expected calibration error: ", tag("b", f"{whole.error:.3f}"), ". ")
    if not is_chosen:
        words = "It is the mean difference between the probability of a class and the share of pixels that have it."
        return [*error, words]
    points = f"{abs(100 * whole.excess):.2f} percentage points too {'high' if whole.excess > 0 else 'low'}"
    sure = whole.right_from(SURE)
    words = "It is the mean difference between the probability of the chosen class and the share of right pixels. "
    words += f"Overall, probabilities are {points}."
    return [*error, words, f" Of pixels with {SURE} or more, {percent(sure)} are right." if sure is not None else ""]


def errors_section(record: Record) -> Html | None:
    """Returns what is found of objects by size, and the wrong pixels by distance to boundaries and seams."""
    found = record.diagnosis
    if not found:
        return None
    parts = [_distances(record, found), _sizes(record, found["sizes"])]
    if found.get("cut"):
        words = "too large to be examined at once; what crosses the edge of a band of their rows counts twice"
        parts.append(tag("p", f"{quantity(found['cut'], 'image')} of the validation: {words}.", class_="note"))
    return join(*parts)


def _distances(record: Record, found: Mapping[str, Any]) -> Html:
    drawn = []
    for key, what in (("boundary", "a class boundary"), ("seams", "a seam of windows")):
        own = found.get(key)
        if own:
            alt = f"Bars: share of wrong pixels by their distance to {what}."
            drawn.append(themed(lambda theme, own=own, what=what: draw_distances(**own, what=what, theme=theme), alt))
    notes = "Boundaries are those of the true masks; pixels at distance 1 touch another class, or pixels not scored."
    if record.loaded.config.predict.mode == "window" and not found.get("seams"):
        reason = "each member has windows of its own" if record.loaded.is_ensemble else "one window covers each image"
        notes += f" There is no chart of seams: {reason}."
    return tag("div", *drawn, tag("p", notes, class_="note"), class_="pair")


def _sizes(record: Record, found: Mapping[str, Any]) -> Html:
    """Returns the share of pixels that is found, by class and size of objects."""
    names, counts = size_names(found["edges"]), found["counts"]
    scored = record.metrics.scored if record.metrics else record.loaded.competition.class_names
    chosen = [index for index, name in enumerate(record.loaded.competition.class_names) if name in scored]
    rows = [
        (record.loaded.competition.class_names[index], *map(_size_cell, counts[index]))
        for index in chosen
        if any(own[0] for own in counts[index])
    ]
    sums = [[sum(counts[index][size][part] for index in chosen) for part in range(4)] for size in range(len(names))]
    caption = "Share of the pixels of objects that is found, by size of the object; below it, how many objects"
    note = (
        "An object is a connected component of a class in the true mask; its size is the square root of its area, in "
        "pixels. The last line says of how many objects at least half of the pixels are found."
    )
    shares = ["–" if not own[0] else percent(own[1] / own[0]) for own in sums]
    totals = (("all scored classes", *map(_size_cell, sums)), ("objects found", *shares))
    drawn = table(("class", *names), rows, caption, totals, class_="heat sizes")
    return join(tag("h3", "Small and large objects"), drawn, tag("p", note, class_="note"))


def _size_cell(own: Sequence[int]) -> Html | str:
    objects, _, pixels, right = own
    if not objects:
        return heat(None, "–")
    share = right / pixels
    content = join(f"{share:.2f}", tag("small", f"{objects:,}"))
    return heat(share if objects >= LEAST_OBJECTS else None, content)


def size_names(edges: Sequence[int]) -> list[str]:
    """Returns what the sizes of objects are called.

    >>> size_names((8, 16))
    ['to 8 px', '8–16 px', 'over 16 px']
    """
    pairs = pairwise(edges)
    return [f"to {edges[0]} px", *(f"{one}–{other} px" for one, other in pairs), f"over {edges[-1]} px"]


def suspicious_section(record: Record) -> Html | None:
    """Returns the regions where a sure prediction and the mask differ, the largest first, as small images."""
    found, listed = record.diagnosis.get("suspects"), record.suspicious
    if not found or listed is None:
        return None
    if found["reason"]:
        return tag("p", f"Not searched: {found['reason']}.")
    images = quantity(found["images"], "image")
    left_out = f" {quantity(found['left_out'], 'image')} left out, because the initial weights were trained on them."
    words = (
        f"Likely label errors or systematic mistakes: check them. In these regions the prediction has a probability of "
        f"{found['sure']} or more, and the mask has another class. {images} searched, none of which was trained on."
        f"{left_out if found['left_out'] else ''}"
    )
    if not listed["rank"]:
        return join(tag("p", words), tag("p", "None found."))
    drawn = [
        _region(record, {name: cells[index] for name, cells in listed.items()})
        for index in range(min(SHOWN_REGIONS + FOLDED_REGIONS, len(listed["rank"])))
    ]
    first, others = drawn[:SHOWN_REGIONS], drawn[SHOWN_REGIONS:]
    folded = tag("details", tag("summary", f"{len(others)} more"), tag("div", *others, class_="regions"))
    num_listed = len(listed["rank"])
    which = "all of them are" if num_listed == found["regions"] else f"the first {num_listed:,} are"
    largest = f"The largest of {found['regions']:,} regions, by pixels times probability; {which} in "
    return join(
        tag("p", words),
        tag("p", largest, tag("code", SUSPICIOUS), ". Each is shown as image, mask, prediction.", class_="note"),
        tag("div", *first, class_="regions"),
        folded if others else None,
    )


def _region(record: Record, own: Mapping[str, str]) -> Html:
    says = f"mask {own['label']}, predicted {own['predicted']}"
    about = f"{own['rank']}. {own['id']}: {says}"
    file = crop_file(int(own["rank"]))
    shown = tag("img", src=file, alt=f"{about}; image, mask, prediction.", loading="lazy")
    if not (record.folder / file).is_file():
        shown = tag("span", "no image")
    size = f"{int(own['pixels']):,} px, {float(own['probability']):.2f}"
    words = tag("figcaption", tag("span", tag("b", says), tag("small", own["id"])), tag("span", size))
    return tag("figure", shown, words)
