"""Fitting out of fold: no image is scored with what was fitted on its sequence, and all three fits go through it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from pipeline.intervals import group_numbers, interval
from pipeline.segmentation import out_of_fold
from pipeline.segmentation.decoding import fit_suppression
from pipeline.segmentation.ensemble_weights import fit_weights
from pipeline.segmentation.offsets import fit_offsets
from pipeline.segmentation.out_of_fold import arrays_of, image_from, try_settings
from pipeline.verdicts import held_out_gain
from tests.segmentation import test_decoding, test_ensemble_weights, test_offsets

FITS = {
    "rules": lambda: fit_suppression(test_decoding.flights(6, lambda generator: True), test_decoding.NAMES),
    "offsets": lambda: fit_offsets(list(test_offsets.draw_samples(4.0)), test_offsets.CLASSES),
    "weights": lambda: fit_weights(test_ensemble_weights.draw_images((1.5, 1.5, -1.0)), 3),
}


@dataclass(frozen=True)
class Scored:
    """An image whose gain is its own value times the setting."""

    image_id: str
    sequence: str
    value: np.ndarray


def draw_scored(num_sequences: int, frames: int = 2, mean: float = 0.0, seed: int = 0) -> list[Scored]:
    generator = np.random.default_rng(seed)
    return [
        Scored(f"{sequence}_{frame}", f"s{sequence}", np.float64(generator.normal(mean)))
        for sequence in range(num_sequences)
        for frame in range(frames)
    ]


def gain(image: Scored, setting: float) -> float:
    return float(setting * image.value)


def fit_sign(images: list[Scored]) -> float:
    return float(np.sign(np.mean([image.value for image in images])))


def test_an_image_is_scored_with_what_was_fitted_without_its_sequence():
    fitted_on = []

    def fit(images):
        fitted_on.append({image.sequence for image in images})
        return len(fitted_on) - 1

    images = draw_scored(7)
    trial = try_settings(images, {"any": fit}, lambda image, setting: 0.0).by_key["any"]
    assert fitted_on[trial.setting] == {f"s{number}" for number in range(7)}
    for image in images:
        assert image.sequence not in fitted_on[trial.held_out[image.image_id]]
    assert len(fitted_on) == 1 + out_of_fold.MAX_FOLDS


def test_the_gain_is_that_of_held_out_settings_and_widens_with_the_number_of_candidates():
    images = draw_scored(8, mean=0.5)
    groups = group_numbers([image.image_id for image in images], [image.sequence for image in images])
    trial = try_settings(images, {"sign": fit_sign}, gain).by_key["sign"]
    held_out = np.array([gain(image, trial.held_out[image.image_id]) for image in images])
    assert trial.gain == interval(held_out, groups)
    assert trial.in_sample == pytest.approx(np.mean([gain(image, trial.setting) for image in images]))
    wider = try_settings(images, {"sign": fit_sign}, gain, num_compared=10).by_key["sign"]
    assert wider.gain.low < trial.gain.low


@pytest.mark.parametrize("num_compared", [1, 12])
def test_what_is_adopted_is_called_better_and_nothing_else_is(num_compared):
    verdicts = set()
    for seed in range(30):
        images = draw_scored(8, mean=0.6, seed=seed)
        found = try_settings(images, {"sign": fit_sign}, gain, num_compared)
        trial = found.by_key["sign"]
        assert (trial.verdict == "better") == ("sign" in found.adopted) == (trial.gain.low > 0)
        assert found.facts()["verdicts"] == {"sign": trial.verdict}
        assert f"on held-out sequences: {trial.verdict}; " in found.words("kept", "moved", "Dice", "{0} {1}".format)[1]
        verdicts.add(trial.verdict.partition(" ")[0])
    assert verdicts == {"better", "inconclusive"}
    unchanged = try_settings(draw_scored(8), {"any": fit_sign}, lambda image, setting: 0.0).by_key["any"]
    assert unchanged.verdict == "no difference"


@pytest.mark.parametrize("name", FITS)
def test_intervals_widen_with_the_number_of_things_that_are_fitted(name, monkeypatch):
    """Of many classes, one gains by chance: the interval of each is that of one among so many."""
    given = []
    monkeypatch.setattr(out_of_fold, "held_out_gain", lambda *own: given.append(own[2]) or held_out_gain(*own))
    FITS[name]()
    assert set(given) == {{"rules": len(test_decoding.NAMES), "offsets": len(test_offsets.CLASSES), "weights": 3}[name]}


def test_noise_is_adopted_as_seldom_as_the_interval_promises():
    trials = [try_settings(draw_scored(8, seed=seed), {"sign": fit_sign}, gain) for seed in range(200)]
    assert sum(bool(found.adopted) for found in trials) <= 8  # 2.5 % are 5


def test_a_fold_on_which_nothing_gains_keeps_what_there_is():
    images = draw_scored(5)

    def fit(some):
        return 1.0 if len(some) == len(images) else None

    trial = try_settings(images, {"any": fit}, lambda image, setting: 1.0).by_key["any"]
    assert (trial.gain.mean, trial.in_sample) == (0.0, 1.0)


def test_what_was_stored_of_an_image_is_that_image():
    image = draw_scored(1)[0]
    assert image_from(Scored, image.image_id, image.sequence, arrays_of(image) | {"mask": np.zeros(1)}) == image


@pytest.mark.parametrize("name", FITS)
def test_rules_offsets_and_weights_are_all_fitted_here(name, monkeypatch):
    assert FITS[name]().trials.by_key
    monkeypatch.setattr(out_of_fold, "LEAST_SEQUENCES", 1000)
    found = FITS[name]()
    assert not found.trials.by_key
    assert "fitting needs 1000 sequences or more, found" in found.words[0]
