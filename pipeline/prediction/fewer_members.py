"""An ensemble with some of its members, if a time limit is too short for all: their order, how they are combined.

In: ensemble.json. Out: the order of the members; the content of ensemble.json for the members used.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from pipeline.engine.run import Run


def member_order(run: Run, found: Mapping[str, Any]) -> list[int]:
    """Returns the numbers of the members, the best first: by weight where there are weights, then by out-of-fold score.

    A member's weight is its mean over the scored classes. Members without a score come last.
    """
    scores = [-np.inf if own["score"] is None else own["score"]["mean"] for own in found["members"]]
    weights = np.zeros(len(scores))
    if found["weights"] is not None:
        weights_MC = np.array(found["weights"], np.float64)
        scored = list(run.loaded.competition.scored_indices)
        weights = weights_MC[:, scored].mean(1) if weights_MC.shape[1] > 1 else weights_MC[:, 0]
    return sorted(range(len(scores)), key=lambda number: (-weights[number], -scores[number], number))


def reduced(found: Mapping[str, Any], numbers: Sequence[int]) -> tuple[dict[str, Any], str]:
    """Returns the content of ensemble.json for some members alone, and in words how they are combined.

    Weights that `evaluate` fitted for just these members are used if there are any; other weights are normalised over
    the members left.

    Args:
        numbers: those of the members used, ascending.

    >>> found = {"method": "WEIGHTED", "weights": [[0.5], [0.3], [0.2]], "members": ["a", "b", "c"]}
    >>> reduced(found, [1, 2])[0]["weights"]
    [[0.6], [0.4]]
    """
    left = {**found, "members": [found["members"][number] for number in numbers]}
    if len(left["members"]) == len(found["members"]):
        return dict(found), ""
    if len(numbers) == 1 or found["weights"] is None:
        left["weights"] = None if found["weights"] is None else [[1.0]]
        return left, "Only the members used vote" if found["method"] == "MW" and len(numbers) > 1 else ""
    for own in found.get("fewer", ()):
        if list(own["members"]) == list(numbers):
            left["weights"] = own["weights"]
            return left, f"The weights were fitted for just the members used, on out-of-fold images ({own['kind']})"
    left["weights"] = normalised(np.array(found["weights"])[list(numbers)]).tolist()
    return left, "The weights are those of the whole ensemble, normalised over the members used"


def normalised(weights: Sequence[float] | Sequence[Sequence[float]] | np.ndarray) -> np.ndarray:
    """Returns weights per member, or per member and class, as float64 (M, 1) or (M, C) with columns of sum 1.

    A column of zeros becomes equal weights.

    >>> normalised([1, 3]).tolist(), normalised([[1, 0], [1, 0]]).tolist()
    ([[0.25], [0.75]], [[0.5, 0.5], [0.5, 0.5]])
    """
    weights_MC = np.array(weights, np.float64)
    weights_MC = weights_MC.reshape(len(weights_MC), -1)
    sums_C = weights_MC.sum(0)
    return np.where(sums_C > 0, weights_MC / np.where(sums_C > 0, sums_C, 1), 1 / len(weights_MC))
