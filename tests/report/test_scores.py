"""When a score is called worthless: near 0, or no better than a constant guess."""

from __future__ import annotations

import pytest

from pipeline.report.read import score_warning

GUESS = {"class": "Road", "scores": {"dice": 0.31}}
NO_GUESS = {"class": "Road", "scores": {"dice": 0.0}}


@pytest.mark.parametrize(
    ("dice", "majority", "words"),
    [
        (0.3, GUESS, "The validation Dice 0.3000 is not above 0.3100, the score of predicting Road everywhere."),
        (0.31, GUESS, "The validation Dice 0.3100 is not above 0.3100, the score of predicting Road everywhere."),
        (0.32, GUESS, None),
        (0.004, NO_GUESS, "The validation Dice 0.0040 is close to 0: next to nothing is found."),
        (0.004, None, "The validation Dice 0.0040 is close to 0: next to nothing is found."),
        (0.06, NO_GUESS, None),
        (None, GUESS, None),
    ],
)
def test_a_score_near_0_or_not_above_the_majority_guess_is_warned_of(dice, majority, words):
    scores = {"dice": {"label": "Dice", "mean": dice}}
    assert score_warning({"score": "dice", "scores": scores, "majority": majority}) == words
