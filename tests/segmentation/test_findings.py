"""What ensemble.json says of methods and members, in the score by which images are compared."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest

from pipeline.config.load import load_competition
from pipeline.errors import UserError
from pipeline.prediction.gains import findings, findings_text

NUM_IMAGES, NUM_CLASSES = 12, 12


def measured(score: str, has_class: np.ndarray) -> dict:
    """The findings of two members, of which one scores 0.2 less in class 1, and of a method that scores 0.1 more."""
    competition = replace(load_competition("demo"), score=score, submitted=("Person",))
    ids = [f"i{number}" for number in range(NUM_IMAGES)]
    rows = pd.DataFrame({"id": ids, "sequence": [f"s{number // 2}" for number in range(NUM_IMAGES)]})
    single_IC = np.full((NUM_IMAGES, NUM_CLASSES), 0.5)
    single_IC[~has_class, 1] = np.nan
    own = [np.stack([single_C, single_C - 0.2]) for single_C in single_IC]
    held_out = {image_id: [0, 1] for image_id in ids}
    return findings(rows, held_out, {"AP": single_IC + 0.1}, own, competition, 2)


@pytest.mark.parametrize("num_without", [0, 5])
def test_images_without_a_value_of_the_score_are_left_out(num_without):
    found = measured("present_dice", np.arange(NUM_IMAGES) >= num_without)
    assert (found["score"], found["images"]) == ("present_dice", NUM_IMAGES - num_without)
    assert [member["images"] for member in found["members"]] == [NUM_IMAGES - num_without] * 2
    assert [member["score"]["mean"] for member in found["members"]] == pytest.approx([0.5, 0.3])
    assert found["single"]["mean"] == pytest.approx(0.4)
    assert found["methods"]["AP"]["score"]["mean"] == pytest.approx(0.6)
    assert found["methods"]["AP"]["gain"]["mean"] == pytest.approx(0.2) == found["methods"]["AP"]["gain"]["low"]
    assert "Dice where present 0.6000, gain over one member +0.2000" in findings_text(found)


def test_where_no_image_has_the_score_that_is_said():
    with pytest.raises(UserError, match=r"^Dice where present has no value: no out-of-fold image shows a scored class"):
        measured("present_dice", np.zeros(NUM_IMAGES, bool))
