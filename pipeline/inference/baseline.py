"""Whether a validation score shows that a network has learned anything: compared with 0 and with a constant prediction.

In: the content of `metrics.json`. Out: a warning for the terminal, the report and the origin of a submission.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NEAR_ZERO = 0.05  # mean score below which next to nothing is found


def score_warning(metrics: Mapping[str, Any]) -> str | None:
    """Returns a sentence where the competition's own score is near 0 or not above that of the majority class.

    >>> scores = {"dice": {"label": "Dice", "mean": 0.4}}
    >>> majority = {"class": "Road", "scores": {"dice": 0.45}}
    >>> score_warning({"score": "dice", "scores": scores, "majority": majority})
    'The validation Dice 0.4000 is not above 0.4500, the score of predicting Road everywhere.'
    >>> scores["dice"]["mean"] = 0.6
    >>> score_warning({"score": "dice", "scores": scores, "majority": majority}) is None
    True
    """
    score, majority = metrics["scores"][metrics["score"]], metrics.get("majority") or {}
    label, mean, least = score["label"], score["mean"], majority.get("scores", {}).get(metrics["score"])
    if mean is None:
        return None
    if least is not None and mean <= least:
        guess = f"the score of predicting {majority['class']} everywhere"
        return f"The validation {label} {mean:.4f} is not above {least:.4f}, {guess}."
    return f"The validation {label} {mean:.4f} is close to 0: next to nothing is found." if mean < NEAR_ZERO else None
