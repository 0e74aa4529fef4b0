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


def measured(
    score: str,
    has_class: np.ndarray,
    held_out: dict[str, list[int]] | None = None,
    more: dict[str, np.ndarray] | None = None,
) -> dict:
    """The findings of two members, of which one scores 0.2 less in class 1, and of a method that scores 0.1 more.

    `more`: further methods, and what each image scores more by them.
    """
    competition = replace(load_competition("demo"), score=score, submitted=("Person",))
    ids = [f"i{number}" for number in range(NUM_IMAGES)]
    rows = pd.DataFrame({"id": ids, "sequence": [f"s{number // 2}" for number in range(NUM_IMAGES)]})
    single_IC = np.full((NUM_IMAGES, NUM_CLASSES), 0.5)
    single_IC[~has_class, 1] = np.nan
    held_out = held_out or {image_id: [0, 1] for image_id in ids}
    own = [np.stack([single_C, single_C - 0.2])[held_out[one]] for one, single_C in zip(ids, single_IC, strict=True)]
    methods = {"AP": np.full(NUM_IMAGES, 0.1)} | (more or {})
    by_method = {name: single_IC + more_I[:, None] for name, more_I in methods.items()}
    return findings(rows, held_out, by_method, own, competition, 2)


@pytest.mark.parametrize("num_without", [0, 5])
def test_images_without_a_value_of_the_score_are_left_out(num_without):
    found = measured("present_dice", np.arange(NUM_IMAGES) >= num_without)
    assert (found["score"], found["images"]) == ("present_dice", NUM_IMAGES - num_without)
    assert [member["images"] for member in found["members"]] == [NUM_IMAGES - num_without] * 2
    assert [member["score"]["mean"] for member in found["members"]] == pytest.approx([0.5, 0.3])
    assert found["single"]["mean"] == pytest.approx(0.4)
    assert found["methods"]["AP"]["score"]["mean"] == pytest.approx(0.6)
    assert found["methods"]["AP"]["gain"]["mean"] == pytest.approx(0.2) == found["methods"]["AP"]["gain"]["low"]
    assert found["methods"]["AP"]["verdict"] == "better with these members"
    line = "Dice where present 0.6000, gain over one member +0.2000 (+0.2000 to +0.2000): better with these members"
    assert line in findings_text(found)


def test_the_verdict_on_a_method_is_corrected_for_those_beside_it():
    generator, every = np.random.default_rng(0), np.ones(NUM_IMAGES, bool)
    sure = -0.1 + np.repeat([0.004, 0.002, 0.013, 0.016, 0.012, 0.004], 2)
    none = {f"M{number}": -0.1 + generator.normal(0, 0.02, NUM_IMAGES) for number in range(6)}
    alone = measured("dice", every, more={"MW": sure})["methods"]["MW"]
    together = measured("dice", every, more={"MW": sure, **none})
    assert alone["gain"] == together["methods"]["MW"]["gain"] and alone["gain"]["low"] > 0
    assert alone["verdict"] == "better with these members"
    assert together["methods"]["MW"]["verdict"].startswith("inconclusive (detectable: 0.0")
    assert "Better and worse are corrected for 8 methods (Holm)." in findings_text(together)


def test_images_of_one_held_out_member_tell_nothing_about_combining():
    ids, every = [f"i{number}" for number in range(NUM_IMAGES)], np.ones(NUM_IMAGES, bool)
    own = {one: [0, 1] if number < 6 else [0] for number, one in enumerate(ids)}
    # Where one member predicts, every method returns its prediction.
    none = {"AP": np.where(np.arange(NUM_IMAGES) < 6, 0.1, 0.0)}
    some = measured("dice", every, own, none)
    assert (some["images"], some["combined_images"]) == (NUM_IMAGES, 6)
    assert some["methods"]["AP"]["gain"]["mean"] == pytest.approx(0.2)  # over all images, it would be half as large
    assert "Gains are measured on the 6 images that several such members predict." in findings_text(some)
    alone = measured("dice", every, {one: [0] for one in ids}, {"AP": np.zeros(NUM_IMAGES)})
    assert (alone["methods"]["AP"]["gain"], alone["methods"]["AP"]["verdict"]) == (None, "")
    text = findings_text(alone)
    assert "With one such member per image, the gain of combining members cannot be measured." in text
    assert "gain over" not in text


def test_classes_of_images_that_one_member_predicts_have_no_part_in_the_gain():
    competition = load_competition("demo")
    competition = replace(competition, score="present_dice", submitted=competition.class_names[1:3])
    ids, is_combined = [f"i{number}" for number in range(NUM_IMAGES)], np.arange(NUM_IMAGES) < 6
    rows = pd.DataFrame({"id": ids, "sequence": ids})
    single_IC = np.full((NUM_IMAGES, NUM_CLASSES), 0.5)
    single_IC[is_combined, 2], single_IC[~is_combined, 1] = np.nan, np.nan  # one class each
    held_out = {one: [0, 1] if is_two else [0] for one, is_two in zip(ids, is_combined, strict=True)}
    own = [np.stack([single_C] * len(held_out[one])) for one, single_C in zip(ids, single_IC, strict=True)]
    by_method = {"AP": single_IC + 0.1 * is_combined[:, None]}
    found = findings(rows, held_out, by_method, own, competition, 2)
    assert found["methods"]["AP"]["score"]["mean"] == pytest.approx(0.55)
    assert found["methods"]["AP"]["gain"]["mean"] == pytest.approx(0.1)


def test_where_no_image_has_the_score_that_is_said():
    with pytest.raises(UserError, match=r"^Dice where present has no value: no out-of-fold image shows a scored class"):
        measured("present_dice", np.zeros(NUM_IMAGES, bool))
