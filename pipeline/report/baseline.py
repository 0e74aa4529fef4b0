"""Whether a validation score shows that a network has learned anything: compared with 0 and with a constant prediction.

In: the content of `metrics.json`. Out: a warning for the terminal, the report and the origin of a submission.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NEAR_ZERO = 0.05  # mean score below which next to nothing is found


def score_warning(metrics: Mapping[str, Any]) -> str | None:
    """Returns a sentence where the competition's own score is near 0 or not above the majority guess, else None.

    >>> metrics = {"score": "dice", "scores": {"dice": {"label": "Dice", "mean": 0.4}}}
    >>> score_warning(metrics | {"majority": {"class": "Road", "scores": {"dice": 0.45}}})
    'The validation Dice 0.4000 is not above 0.4500, the score of predicting Road everywhere.'
    >>> score_warning(metrics) is None
    True
    """
    name = metrics.get("score")
    own, majority = metrics.get("scores", {}).get(name, {}), metrics.get("majority")
    mean, label = own.get("mean"), own.get("label", name)
    if mean is None:
        return None
    guess = (majority or {}).get("scores", {}).get(name)
    if guess is not None and mean <= guess:
        what = f"the score of predicting {majority['class']} everywhere"
        return f"The validation {label} {mean:.4f} is not above {guess:.4f}, {what}."
    return f"The validation {label} {mean:.4f} is close to 0: next to nothing is found." if mean < NEAR_ZERO else None
