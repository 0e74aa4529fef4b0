"""SEED and MIN_SIZE of OBJECTS, fitted on out-of-fold images and adopted only where they gain on unseen sequences.

In: for each out-of-fold image, the change in its score by each pair of settings. Out: a pair, or the competition's own.

Letters: C classes, S settings.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from pipeline.config.competition import Competition, Objects
from pipeline.scores import LABELS, mean_scored
from pipeline.segmentation.object_decoding import decoded_for_objects, objects_in
from pipeline.segmentation.out_of_fold import Fitted, try_settings
from pipeline.segmentation.predict import Prediction

SEEDS = (0.5, 0.6, 0.7, 0.8, 0.9)
MIN_SIZES = (0, 10, 20, 40, 80, 160, 320)  # pixels; finer steps gain less than noise


@dataclass(frozen=True)
class ObjectTrial:
    """An out-of-fold image.

    Attributes:
        gains: float64 (S,), change in the mean over the scored classes by each of `settings_of`.
    """

    image_id: str
    sequence: str
    gains: np.ndarray


def settings_of(objects: Objects) -> list[Objects]:
    """Returns the settings to try: MIN_SIZE, and in a watershed also SEED.

    >>> len(settings_of(Objects("components"))), len(settings_of(Objects("watershed")))
    (7, 35)
    """
    seeds = SEEDS if objects.method == "watershed" else (objects.seed,)
    return [replace(objects, seed=seed, min_size=size) for seed in seeds for size in MIN_SIZES]


def try_objects(
    image_id: str,
    sequence: str,
    predictions: Sequence[Prediction],
    mask_HW: np.ndarray,
    competition: Competition,
    score_of: Callable[[np.ndarray], np.ndarray],
) -> ObjectTrial:
    """Returns the change in an image's score by each setting.

    Args:
        mask_HW: the decoded mask.
        score_of: an object map to its score of each class, float64 (C,).
    """

    scored, own = competition.scored_indices, competition.objects
    decoded = decoded_for_objects(predictions, mask_HW, competition)

    def mean_of(settings: Objects) -> float:
        return float(mean_scored(score_of(objects_in(decoded, competition, settings)), scored))

    return ObjectTrial(image_id, sequence, np.array([mean_of(one) for one in settings_of(own)]) - mean_of(own))


def fit_objects(trials: Sequence[ObjectTrial], objects: Objects, score: str) -> Fitted[str, int, Objects]:
    """Returns the settings of the highest gain if, beyond noise, they also gain on sequences they were not fitted on.

    Args:
        objects: the competition's own settings.
        score: name of the score of the images.
    """
    candidates = settings_of(objects)
    fitted = try_settings(trials, {"objects": _best}, lambda trial, index: float(trial.gains[index]))
    adopted = fitted.adopted.get("objects")
    chosen = objects if adopted is None else candidates[adopted.setting]

    def describe(key: str, index: int) -> str:
        return f"{_shown(candidates[index])} instead of {_shown(objects)}"

    words = fitted.words(
        f"objects stay with {_shown(objects)}", f"objects with {_shown(chosen)}", LABELS[score], describe
    )
    return Fitted(chosen, fitted, words)


def _best(trials: Sequence[ObjectTrial]) -> int | None:
    """Returns the setting of the highest mean gain, None where none gains."""
    means_S = np.mean([trial.gains for trial in trials], axis=0)
    best = int(means_S.argmax())
    return best if means_S[best] > 1e-9 else None


def _shown(objects: Objects) -> str:
    seed = f"SEED {objects.seed:g}, " if objects.method == "watershed" else ""
    return f"{seed}MIN_SIZE {objects.min_size}"
