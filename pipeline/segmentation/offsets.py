"""Classes that are chosen too seldom or too often: a factor on a class's probability before the best one is chosen.

In: of each out-of-fold image, the probabilities where factors could change the choice, and the truth. Out: a factor
per class, 1 for all but those that gain, beyond noise, on sequences that they were not fitted on.

A factor f is the same as an offset log(f) of the logits, or as another threshold between two classes.

Letters: C classes, M members, N scored pixels of a block, F factors.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial

import numpy as np
import torch

from pipeline.intervals import interval
from pipeline.scores import LABELS, mean_scored
from pipeline.segmentation import decision
from pipeline.segmentation.ensemble import Recipe
from pipeline.segmentation.out_of_fold import Fitted, try_settings
from pipeline.segmentation.pixel_sample import PixelSample, sample_pixels, scored_probs
from pipeline.segmentation.predict import Prediction

FACTORS = (0.25, 0.5, 0.71, 1.41, 2.0, 4.0)  # what is tried; coarse, as finer ones gain less than noise
WIDEST = 4.0  # the largest change: where no other class comes so near to the best one, nothing can change
MOST_OPEN = 2048  # open pixels kept of an image: the noise of sampling is far below that between images
LINEAR = ("AP", "WEIGHTED")  # methods whose classes are ranked by a sum of probabilities


def with_factors(recipe: Recipe, factors_C: np.ndarray, num_members: int) -> Recipe:
    """Returns a recipe whose classes are ranked by factor times probability; its method is one of `LINEAR`.

    >>> with_factors(Recipe("AP"), np.array([1.0, 2.0]), 2).weights.tolist()
    [[0.5, 1.0], [0.5, 1.0]]
    """
    weights = np.full((num_members, 1), 1 / num_members) if recipe.weights is None else recipe.weights
    return Recipe("WEIGHTED", weights * factors_C)


def sample_combined(
    image_id: str, sequence: str, predictions: Sequence[Prediction], recipe: Recipe, truth_HW: np.ndarray
) -> PixelSample:
    """Returns the combined probabilities at pixels that one factor can change; reads each prediction once.

    Args:
        recipe: how the predictions are combined, one of `LINEAR`.
        truth_HW: uint8; pixels of `IGNORE` are left out.
    """
    num_classes = len(predictions[0].logits)
    weights_MC1 = with_factors(recipe, np.ones(num_classes), len(predictions)).weights.astype(np.float32)[:, :, None]

    def blocks() -> Iterator[tuple[np.ndarray, ...]]:
        for probs_MCN, truth_N in scored_probs(predictions, truth_HW):
            probs_CN = sum(probs_CN * weights_C1 for probs_CN, weights_C1 in zip(probs_MCN, weights_MC1, strict=True))
            choices_N = decision.choose(torch.from_numpy(probs_CN)[None, :, None])[0, 0].numpy()
            yield probs_CN, truth_N, choices_N, (probs_CN * WIDEST >= probs_CN.max(0)).sum(0) > 1

    return sample_pixels(image_id, sequence, num_classes, blocks(), MOST_OPEN)


def score_with(
    image: PixelSample, factors_C: np.ndarray, scored: Sequence[int] | None = None, score: str = "dice"
) -> float:
    """Returns an image's mean score over the scored classes (None: all) under factors."""
    ranks_CP = image.probs.astype(np.float32) * factors_C[:, None].astype(np.float32)
    return float(mean_scored(image.scores(ranks_CP, score), scored))


def fit_offsets(
    images: Sequence[PixelSample], classes: Sequence[str], scored: Sequence[int] | None = None, score: str = "dice"
) -> Fitted[int, tuple[int, int], np.ndarray]:
    """Returns the factors, float64 (C,), 1 for all but those that gain, beyond noise, where they were not fitted.

    The trials are by class index; a setting is a class and an index into `FACTORS`, which gains alone.

    Args:
        scored: indices of the scored classes; None: all.
        score: one that `counted_score` returns; images without a value of it take no part.
    """
    num_classes = len(classes)
    plain = {image.image_id: score_with(image, np.ones(num_classes), scored, score) for image in images}
    images = [image for image in images if not np.isnan(plain[image.image_id])]
    gains_CF = {
        image.image_id: np.array(
            [
                [score_with(image, _only(num_classes, index, factor), scored, score) for factor in FACTORS]
                for index in range(num_classes)
            ]
        )
        - plain[image.image_id]
        for image in images
    }
    fits = {index: partial(_best_factor, gains_CF, index) for index in range(num_classes)}
    trials = try_settings(images, fits, lambda image, setting: gains_CF[image.image_id][setting], num_classes)
    factors = np.ones(num_classes)
    for index, factor_index in (trial.setting for trial in trials.adopted.values()):
        factors[index] = FACTORS[factor_index]
    if len(trials.adopted) > 1:  # each alone gains; together they must do so too
        together_I = np.array([score_with(image, factors, scored, score) - plain[image.image_id] for image in images])
        if interval(together_I, trials.groups).low <= 0:
            surest = max(trials.adopted.values(), key=lambda trial: trial.gain.low)
            factors = _only(num_classes, surest.setting[0], FACTORS[surest.setting[1]])
    changed = f"thresholds of {(factors != 1).sum()} of {num_classes} classes are moved"

    def describe(index: int, setting: tuple[int, int]) -> str:
        return f"{classes[index]}: {'' if factors[index] != 1 else 'kept, not '}times {FACTORS[setting[1]]:g}"

    words = trials.words("no threshold is moved", changed, f"mean {LABELS[score]}", describe)
    return Fitted(factors, trials, words)


def _best_factor(
    gains_CF: Mapping[str, np.ndarray], index: int, images: Sequence[PixelSample]
) -> tuple[int, int] | None:
    """Returns a class and the index of the factor that gains most on these images, or None where none gains."""
    means_F = np.mean([gains_CF[image.image_id][index] for image in images], 0)
    best = int(means_F.argmax())
    return (index, best) if means_F[best] > 0 else None


def _only(num_classes: int, index: int, factor: float) -> np.ndarray:
    factors = np.ones(num_classes)
    factors[index] = factor
    return factors
