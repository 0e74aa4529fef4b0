"""Whether a validation score shows that a network has learned anything: held against 0 and a constant guess.

In: the content of `metrics.json`. Out: a warning for the terminal, the report and the origin of a submission.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

NEAR_ZERO = 0.05  # mean Dice below which next to nothing is found


def score_warning(metrics: Mapping[str, Any]) -> str | None:
    """Returns a sentence where the mean Dice of `metrics.json` is near 0 or not above the majority guess, else None.

    >>> score_warning({"dice": {"mean": 0.4}, "majority": {"class": "Road", "dice": 0.45}})
    'The validation Dice 0.4000 is not above 0.4500, the score of predicting Road everywhere.'
    >>> score_warning({"dice": {"mean": 0.6}, "majority": {"class": "Road", "dice": 0.45}}) is None
    True
    """
    dice, majority = metrics.get("dice", {}).get("mean"), metrics.get("majority")
    if dice is None:
        return None
    if majority and dice <= majority["dice"]:
        guess = f"the score of predicting {majority['class']} everywhere"
        return f"The validation Dice {dice:.4f} is not above {majority['dice']:.4f}, {guess}."
    return f"The validation Dice {dice:.4f} is close to 0: next to nothing is found." if dice < NEAR_ZERO else None
