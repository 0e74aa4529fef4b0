"""SEED and MIN_SIZE fitted on out-of-fold images: adopted where they gain on unseen ones, and only there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from pipeline.config.competition import SCORE_DEFAULTS, Competition, Objects
from pipeline.segmentation.mask_scores import score_masks
from pipeline.segmentation.object_fitting import ObjectTrial, fit_objects, settings_of, try_objects
from pipeline.segmentation.predict import Prediction

SPECKS = Competition("specks", "Specks", ("back", "cell"), "{id}.png", "{id}.png", objects=Objects("components"))


def trial_of(number: int, with_specks: bool, objects: Objects) -> ObjectTrial:
    """An image of two true squares, predicted as they are; half of the specks around them are of 12 pixels."""
    rng, truth = np.random.default_rng(number), np.zeros((60, 80), np.int32)
    truth[10:25, 10:25], truth[10:25, 40:55] = 257, 513
    mask = (truth > 0).astype(np.uint8)
    for column in rng.permutation(np.arange(4, 76, 8))[: rng.integers(2, 6)] if with_specks else ():
        mask[40:43, column : column + 4] = 1
    logits = np.log(np.where(mask[None] == np.arange(2)[:, None, None], 0.9, 0.1)).astype(np.float16)
    prediction = Prediction(logits, 1, False, (0, 0), mask.shape)

    def score_of(found: np.ndarray) -> np.ndarray:
        return score_masks(("object_ap",), found, truth, 2, SCORE_DEFAULTS)["object_ap"]

    competition = replace(SPECKS, objects=objects, submitted=("cell",))
    return try_objects(f"{number}", f"{number}", [prediction], mask, competition, score_of)


@pytest.mark.parametrize("method", ["components", "watershed"])
def test_small_false_objects_make_a_minimum_size_gain(method):
    objects = Objects(method)
    trials = [trial_of(number, True, objects) for number in range(12)]
    fitted = fit_objects(trials, objects, "object_ap")
    assert fitted.adopted.min_size == 20  # the first of those that drop the specks and keep the squares
    (trial,) = fitted.trials.by_key.values()
    assert trial.gain.low > 0 and trial.in_sample == pytest.approx(trial.gain.mean)
    assert "MIN_SIZE 20" in fitted.words[0] and "instead of" in fitted.words[1]
    index = [one.min_size for one in settings_of(objects)].index(320)
    assert all(trial.gains[index] < 0 for trial in trials)  # the squares have 225 pixels


def test_without_a_gain_the_settings_stay():
    objects = Objects("watershed", min_size=10, seed=0.6)
    trials = [trial_of(number, False, objects) for number in range(8)]
    fitted = fit_objects(trials, objects, "object_ap")
    assert fitted.adopted == objects
    assert fitted.words[0].startswith("objects stay with SEED 0.6, MIN_SIZE 10: no setting improves the score")


def test_a_gain_on_few_images_is_noise():
    trials = [trial_of(number, number == 0, Objects("components")) for number in range(12)]
    fitted = fit_objects(trials, Objects("components"), "object_ap")
    assert fitted.adopted == Objects("components") and "no gain on held-out sequences exceeds noise" in fitted.words[0]
