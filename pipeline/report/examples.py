"""Chooses the best, median and worst images of a run, which its panels show.

In: the columns of per_image.csv. Out: ids.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any


def choose_images(per_image: Mapping[str, Sequence[Any]], score: str, k: int = 3) -> dict[str, list[str]]:
    """Returns the ids of the k best, median and worst images, none in two groups.

    Neighbouring frames of a video score alike and would fill a group with one scene, so each group takes the next
    image of another sequence while there is one within reach (a third of the images). Images without a value of the
    score are left out. A group is ordered by score: best and median from the highest down, worst from the lowest up.

    Args:
        per_image: columns of per_image.csv or a DataFrame: `id`, the score and, optionally, `sequence`.

    >>> choose_images({"id": ["a", "b", "c"], "dice": ["0.2", "0.9", "0.5"]}, "dice", k=1)
    {'best': ['b'], 'median': ['c'], 'worst': ['a']}
    """
    ids = [str(image_id) for image_id in per_image["id"]]
    sequence_of = dict(zip(ids, per_image.get("sequence", ids), strict=True))
    known = [(float(value), image_id) for value, image_id in zip(per_image[score], ids, strict=True) if value != ""]
    ranked = [image_id for value, image_id in sorted(known) if not math.isnan(value)]
    middle = (len(ranked) - 1) / 2
    by_distance = sorted(ranked, key=lambda image_id: abs(ranked.index(image_id) - middle))
    # In this order where there are too few images for all.
    orders = {"worst": ranked, "best": ranked[::-1], "median": by_distance}
    reach = max(k, math.ceil(len(ranked) / 3))
    chosen: dict[str, list[str]] = {group: [] for group in ("best", "median", "worst")}
    for group, order in list(orders.items()) * k:
        left = [image_id for image_id in order[:reach] if not any(image_id in ids for ids in chosen.values())]
        shown = {sequence_of[image_id] for image_id in chosen[group]}
        left.sort(key=lambda image_id: sequence_of[image_id] in shown)  # stable: the first of another sequence leads
        chosen[group] += left[:1]
    return {group: sorted(ids, key=ranked.index, reverse=group != "worst") for group, ids in chosen.items()}
