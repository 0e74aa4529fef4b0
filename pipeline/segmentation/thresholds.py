"""Fitted thresholds for several classes per pixel: the probability from which on a pixel has a class.

In: for each out-of-fold image, a histogram of probabilities by class and truth. Out: a threshold per class, other than
0.5 only if it gains, beyond noise, on sequences that it was not fitted on.

Probabilities are counted in steps of 1 / `NUM_STEPS`, so the scores of all thresholds follow without reading
the image again.

Letters: C classes, N scored pixels of a block, S steps of probability, T thresholds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from pipeline.intervals import interval
from pipeline.scores import LABELS, class_scores, mean_scored
from pipeline.segmentation.ensemble import Recipe
from pipeline.segmentation.out_of_fold import Fitted, try_settings
from pipeline.segmentation.pixel_sample import THRESHOLD, scored_probs
from pipeline.segmentation.predict import Prediction

NUM_STEPS = 20
THRESHOLDS = np.arange(2, NUM_STEPS - 1) / NUM_STEPS  # 0.1 to 0.9
PLAIN = int(np.flatnonzero(THRESHOLDS == THRESHOLD)[0])


@dataclass(frozen=True)
class ThresholdImage:
    """An out-of-fold image.

    Attributes:
        pixels: int64 (2, C, S), pixels that are not the class and that are, by the step of its probability.
    """

    image_id: str
    sequence: str
    pixels: np.ndarray


def count_probs(
    image_id: str, sequence: str, predictions: Sequence[Prediction], recipe: Recipe, truth_HWC: np.ndarray
) -> ThresholdImage:
    """Returns the counts of an image; reads each prediction once.

    Args:
        recipe: how the predictions are combined: AP, or WEIGHTED with its weights.
        truth_HWC: planes; pixels with `IGNORE` in one of them are left out.
    """
    num_classes = truth_HWC.shape[-1]
    weights = np.full((len(predictions), 1), 1 / len(predictions)) if recipe.weights is None else recipe.weights
    weights_MC = np.broadcast_to(weights, (len(predictions), num_classes)).astype(np.float32)
    pixels = np.zeros((2, num_classes, NUM_STEPS), np.int64)
    for probs_MCN, truth_CN in scored_probs(predictions, truth_HWC):
        probs_CN = np.einsum("mcn,mc->cn", probs_MCN, weights_MC)
        steps_CN = np.minimum(probs_CN * NUM_STEPS, NUM_STEPS - 1).astype(np.int64)
        codes_CN = steps_CN + NUM_STEPS * (np.arange(num_classes)[:, None] + num_classes * truth_CN)
        pixels += np.bincount(codes_CN.ravel(), minlength=pixels.size).reshape(pixels.shape)
    return ThresholdImage(image_id, sequence, pixels)


def threshold_scores(image: ThresholdImage, score: str = "dice") -> np.ndarray:
    """Returns the score of each class at each threshold, float64 (C, T).

    Args:
        score: one that `counted_score` returns.
    """
    above = image.pixels[..., ::-1].cumsum(-1)[..., ::-1]  # pixels from each step on
    above = above[..., np.rint(THRESHOLDS * NUM_STEPS).astype(int)]
    true_C1 = image.pixels[1].sum(-1, keepdims=True)
    return class_scores(score, above[1], np.broadcast_to(true_C1, above[1].shape), above.sum(0))


def fit_thresholds(
    images: Sequence[ThresholdImage], classes: Sequence[str], scored: Sequence[int] | None = None, score: str = "dice"
) -> Fitted[int, tuple[int, int], np.ndarray]:
    """Returns the thresholds, float64 (C,), other than 0.5 only if they gain on sequences they were not fitted on.

    The trials are by class index; a setting is a class and an index into `THRESHOLDS`.

    Args:
        scored: indices of the scored classes; only these are fitted; None: all.
        score: one that `counted_score` returns; images without a value are left out.
    """
    scored = list(range(len(classes)) if scored is None else scored)
    by_image = {image.image_id: threshold_scores(image, score) for image in images}
    images = [image for image in images if not np.isnan(mean_scored(by_image[image.image_id][:, PLAIN], scored))]

    def change(image: ThresholdImage, chosen: Mapping[int, int]) -> float:
        """Returns what thresholds of some classes change in the mean score of an image."""
        scores_CT = by_image[image.image_id]
        moved_C = scores_CT[:, PLAIN].copy()
        for index, setting in chosen.items():
            moved_C[index] = scores_CT[index, setting]
        return float(mean_scored(moved_C, scored) - mean_scored(scores_CT[:, PLAIN], scored))

    def best(index: int, chosen: Sequence[ThresholdImage]) -> tuple[int, int] | None:
        """Returns a class and the index of the threshold that scores highest on these images, None where 0.5 does."""
        scores_IT = np.array([by_image[image.image_id][index] for image in chosen])
        scores_IT = scores_IT[~np.isnan(scores_IT).any(1)]
        means_T = scores_IT.mean(0) if len(scores_IT) else np.zeros(len(THRESHOLDS))
        setting = int(means_T.argmax())
        return (index, setting) if means_T[setting] > means_T[PLAIN] else None

    fits = {index: partial(best, index) for index in scored}
    trials = try_settings(images, fits, lambda image, setting: change(image, dict([setting])), len(fits))
    adopted = dict(trial.setting for trial in trials.adopted.values())
    together = [change(image, adopted) for image in images] if len(adopted) > 1 else []  # each alone gains
    if together and interval(np.array(together), trials.groups).low <= 0:
        adopted = dict([max(trials.adopted.values(), key=lambda trial: trial.gain.low).setting])
    thresholds = np.full(len(classes), THRESHOLD)
    for index, setting in adopted.items():
        thresholds[index] = THRESHOLDS[setting]
    changed = f"thresholds of {len(adopted)} of {len(classes)} classes are moved"

    def describe(index: int, setting: tuple[int, int]) -> str:
        return f"{classes[index]}: {'' if index in adopted else 'kept at 0.5, not '}{THRESHOLDS[setting[1]]:.2f}"

    words = trials.words("all thresholds stay at 0.5", changed, f"mean {LABELS[score]}", describe)
    return Fitted(thresholds, trials, words)
