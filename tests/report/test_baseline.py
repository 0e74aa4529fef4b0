"""When a score is called worthless: near 0, or no better than a constant guess."""

from __future__ import annotations

import pytest

from pipeline.report.baseline import score_warning

GUESS = {"class": "Road", "dice": 0.31}


@pytest.mark.parametrize(
    ("dice", "majority", "words"),
    [
        (0.3, GUESS, "The validation Dice 0.3000 is not above 0.3100, the score of predicting Road everywhere."),
        (0.31, GUESS, "The validation Dice 0.3100 is not above 0.3100, the score of predicting Road everywhere."),
        (0.32, GUESS, None),
        (0.004, GUESS | {"dice": 0.0}, "The validation Dice 0.0040 is close to 0: next to nothing is found."),
        (0.004, None, "The validation Dice 0.0040 is close to 0: next to nothing is found."),
        (0.06, GUESS | {"dice": 0.0}, None),
        (None, GUESS, None),
    ],
)
def test_a_score_near_0_or_not_above_the_majority_guess_is_warned_of(dice, majority, words):
    assert score_warning({"dice": {"mean": dice}, "majority": majority}) == words


def test_a_run_that_was_not_evaluated_has_no_warning():
    assert score_warning({}) is None
