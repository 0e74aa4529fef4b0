"""How sure a run's score is: its 95 % interval from the spread between sequences, and what that means, in a sentence.

In: per_image.csv and the score of metrics.json. Out: an `Interval`, or the reason why there is none.
"""

from __future__ import annotations

import numpy as np

from pipeline.intervals import Interval, group_numbers, interval
from pipeline.report.markup import Html, digits, quantity, tag
from pipeline.report.read import numbers
from pipeline.report.record import Record
from pipeline.scores import KINDS, label_of

STATED = ("image_ap",)  # scores of single images that the head of the page does not show, so that they are given here
ROUNDING = 1e-4  # per_image.csv has six digits; a larger difference means that the file is of another evaluation


def score_interval(record: Record) -> Interval | None:
    """Returns the interval of the competition's own score over images in sequences; None where images do not have it.

    The score is the mean over classes of means over the images that have a value of the class. Each image enters with
    what it adds to that mean (its linearisation); where all images have all values this is the image's own score.
    """
    metrics, columns = record.metrics, record.per_image
    if metrics is None or metrics.main.mean is None or KINDS[metrics.main.name].per != "image":
        return None
    names = [f"{metrics.main.name}_{name}" for name in metrics.scored]
    if not columns.get("id") or not set(names) <= set(columns):
        return None
    values_IC = np.array([numbers(columns[name]) for name in names]).T
    values_IC = values_IC[:, ~np.isnan(values_IC).all(0)]
    if not values_IC.size:
        return None
    is_known_IC, means_C = ~np.isnan(values_IC), np.nanmean(values_IC, 0)
    if abs(means_C.mean() - metrics.main.mean) > ROUNDING:
        return None
    shares_C = len(values_IC) / is_known_IC.sum(0)
    added_I = (np.where(is_known_IC, values_IC - means_C, 0.0) * shares_C).mean(1)
    return interval(metrics.main.mean + added_I, group_numbers(columns["id"], columns["sequence"]))


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
    score, columns = record.image_score, record.per_image
    values = np.array(numbers(columns.get(score, [])))
    is_known = ~np.isnan(values)
    if score not in STATED or not is_known.any():
        return ""
    chosen = np.flatnonzero(is_known)
    groups = group_numbers(*([columns[name][index] for index in chosen] for name in ("id", "sequence")))
    found = interval(values[chosen], groups)
    if found.num_groups < 2:
        return ""
    low, high = map(digits, shown_range(found))
    return f". The mean {label_of(score)} is {digits(found.mean)}, with a 95 % interval from {low} to {high}."


def shown_range(found: Interval) -> tuple[float, float]:
    """Returns both ends of an interval, cut at 0 and 1, which no score exceeds.

    >>> shown_range(Interval(0.9, 0.7, 1.1, 3))
    (0.7, 1.0)
    """
    return max(found.low, 0.0), min(found.high, 1.0)
