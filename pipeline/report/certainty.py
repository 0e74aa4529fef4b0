"""How sure a run's score is: its 95 % interval from the spread between sequences, and what that means, in a sentence.

In: per_image.csv and the score of metrics.json. Out: an `Interval`, or the reason why there is none.
"""

from __future__ import annotations

import numpy as np

from pipeline.intervals import Interval, group_numbers, interval
from pipeline.report.markup import Html, digits, quantity, tag
from pipeline.report.read import numbers
from pipeline.report.record import Record
from pipeline.scores import KINDS, image_parts, label_of

STATED = ("image_ap",)  # scores of single images that the head of the page does not show, so that they are given here
ROUNDING = 1e-4  # per_image.csv has six digits; a larger difference means that the file is of another evaluation


def score_interval(record: Record) -> Interval | None:
    """Returns the interval of the competition's own score over images in sequences; None where these do not have it."""
    metrics = record.metrics
    if metrics is None or KINDS[metrics.main.name].per != "image":
        return None
    return _interval_of(record, metrics.main.name)


def _interval_of(record: Record, name: str) -> Interval | None:
    """Returns the interval of a score of single images, from each image's part in it; None if images lack the score."""
    metrics, columns = record.metrics, record.per_image
    mean, names = metrics.mean(name), [f"{name}_{own}" for own in metrics.scored]
    if mean is None or not columns.get("id") or not set(names) <= set(columns):
        return None
    parts_I = image_parts(np.array([numbers(columns[own]) for own in names]).T)
    if not abs(parts_I.mean() - mean) <= ROUNDING:
        return None
    return interval(parts_I, group_numbers(columns["id"], columns["sequence"]))


def certainty(record: Record, found: Interval | None) -> Html | None:
    """Returns a sentence or two on the interval of the score, or on why there is none."""
    metrics = record.metrics
    if metrics is None or metrics.main.mean is None:
        return None
    if found is None:
        if KINDS[metrics.main.name].per == "image":
            return None
        of_images = _of_images(record) or ", and single images have no value of it."
        text = f"No interval: {metrics.main.label} is of all images at once{of_images}"
    elif found.num_groups < 2:
        images = quantity(metrics.images, "image")
        text = f"No interval: all {images} are of one sequence, which cannot say how the score varies with others."
    else:
        low, high = shown_range(found)
        has_sequences = any(record.per_image["sequence"])
        groups = quantity(found.num_groups, "sequence" if has_sequences else "image")
        others = "sequences" if has_sequences else "images"
        text = (
            f"{digits(low)} to {digits(high)} is the 95 % interval of the mean score on {others} like these, from the "
            f"variation between {groups}. The variation between seeds is not included."
        )
    return tag("p", text, class_="note")


def _of_images(record: Record) -> str:
    """Returns the mean over images of the score that stands in for the competition's, with its interval."""
    score = record.image_score
    found = _interval_of(record, score) if score in STATED else None
    if found is None or found.num_groups < 2:
        return ""
    low, high = map(digits, shown_range(found))
    return f". The mean {label_of(score)} is {digits(found.mean)}, with a 95 % interval from {low} to {high}."


def shown_range(found: Interval) -> tuple[float, float]:
    """Returns both ends of an interval, cut at 0 and 1, which no score exceeds.

    >>> shown_range(Interval(0.9, 0.7, 1.1, 3))
    (0.7, 1.0)
    """
    return max(found.low, 0.0), min(found.high, 1.0)
