"""Classes that are chosen too seldom or too often: a factor on a class's probability before the best one is chosen.

In: of each out-of-fold image, the probabilities where factors could change the choice, and the truth. Out: a factor
per class, 1 for all but those that gain, beyond noise, on sequences that they were not fitted on.

A factor f is the same as an offset log(f) of the logits, or as another threshold between two classes.

Letters: C classes, M members, P pixels, I images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from pipeline.config.competition import IGNORE
from pipeline.intervals import TAIL, Interval, deal_folds, group_numbers, interval
from pipeline.segmentation import decision
from pipeline.segmentation.ensemble import Recipe, logits_rows, row_blocks
from pipeline.segmentation.predict import Prediction

FACTORS = (0.25, 0.5, 0.71, 1.41, 2.0, 4.0)  # what is tried; coarse, as finer ones gain less than noise
WIDEST = 4.0  # the largest change: where no other class comes so near to the best one, nothing can change
MOST_OPEN = 2048  # open pixels kept of an image: the noise of sampling is far below that between images
MOST_FOLDS = 5
LEAST_SEQUENCES = 4  # as for the weights of an ensemble
LINEAR = ("AP", "WEIGHTED")  # methods whose classes are ranked by a sum of probabilities


@dataclass(frozen=True)
class Margin:
    """What one image says about factors; pixels that no single factor can change are only scored.

    Attributes:
        probs: float16 (C, P), the combined probabilities at open pixels.
        truth: uint8 (P,) there.
        scale: how many open pixels each kept one stands for.
        settled: int64 (C, C), truth by choice, at the other pixels.
        truth_areas: float64 (C,), true pixels.
    """

    image_id: str
    sequence: str
    probs: np.ndarray
    truth: np.ndarray
    scale: float
    settled: np.ndarray
    truth_areas: np.ndarray


KEPT = ("probs", "truth", "scale", "settled", "truth_areas")  # what is more than a name


@dataclass(frozen=True)
class Offsets:
    """What came of fitting.

    Attributes:
        factors: float64 (C,), 1 for classes that keep their threshold.
        tried: by class index, the factor that would be best on all images.
        gains: by class index, the gain in mean Dice on sequences that its factor was not fitted on.
        in_sample: by class index, the gain on the very images of the fit.
        survived: share of the gain in sample that is left on other sequences, over all classes; None without any.
        words: what was decided and why, for people.
    """

    factors: np.ndarray
    tried: Mapping[int, float]
    gains: Mapping[int, Interval]
    in_sample: Mapping[int, float]
    survived: float | None
    words: str


def with_factors(recipe: Recipe, factors_C: np.ndarray, num_members: int) -> Recipe:
    """Returns a recipe whose classes are ranked by factor times probability; its method is one of `LINEAR`.

    >>> with_factors(Recipe("AP"), np.array([1.0, 2.0]), 2).weights.tolist()
    [[0.5, 1.0], [0.5, 1.0]]
    """
    weights = np.full((num_members, 1), 1 / num_members) if recipe.weights is None else recipe.weights
    return Recipe("WEIGHTED", weights * factors_C)


def margin(
    image_id: str, sequence: str, predictions: Sequence[Prediction], recipe: Recipe, truth_HW: np.ndarray
) -> Margin:
    """Returns what an image says about factors; reads each prediction once, a few rows at a time.

    Args:
        recipe: how its predictions are combined, one of `LINEAR`.
        truth_HW: uint8, `IGNORE` counts nowhere.
    """
    num_classes = len(predictions[0].logits)
    weights_MC = with_factors(recipe, np.ones(num_classes), len(predictions)).weights
    settled = np.zeros(num_classes * num_classes, np.int64)
    parts: list[tuple[np.ndarray, np.ndarray]] = []
    for top, bottom in row_blocks(*truth_HW.shape):
        truth_N = truth_HW[top:bottom].ravel()
        counts_N = truth_N != IGNORE
        truth_N = truth_N[counts_N]
        probs_CN = sum(
            decision.probs(logits_rows(one, top, bottom), 0).flatten(1) * torch.from_numpy(weights_C).float()[:, None]
            for one, weights_C in zip(predictions, weights_MC, strict=True)
        ).numpy()[:, counts_N]
        best_N = probs_CN.max(0)
        is_open_N = (probs_CN * WIDEST >= best_N).sum(0) > 1
        codes = truth_N[~is_open_N].astype(np.int64) * num_classes + probs_CN[:, ~is_open_N].argmax(0)
        settled += np.bincount(codes, minlength=len(settled))
        parts.append((probs_CN[:, is_open_N].astype(np.float16), truth_N[is_open_N]))
    probs, truth = np.concatenate([probs for probs, _ in parts], 1), np.concatenate([truth for _, truth in parts])
    kept = np.sort(np.random.default_rng(0).permutation(len(truth))[:MOST_OPEN])
    truth_areas = np.bincount(truth_HW[truth_HW != IGNORE], minlength=num_classes).astype(np.float64)
    scale = len(truth) / max(1, len(kept))
    shape = (num_classes, num_classes)
    return Margin(
        image_id, sequence, np.ascontiguousarray(probs[:, kept]), truth[kept], scale, settled.reshape(shape),
        truth_areas,
    )  # fmt: skip


def margin_arrays(one: Margin) -> dict[str, np.ndarray]:
    """Returns all of a margin but whose it is, to be kept on disk."""
    return {name: np.asarray(getattr(one, name)) for name in KEPT}


def margin_from(image_id: str, sequence: str, arrays: Mapping[str, np.ndarray]) -> Margin:
    """Returns the margin from what `margin_arrays` returned."""
    kept = {name: arrays[name] for name in KEPT} | {"scale": arrays["scale"].item()}
    return Margin(image_id, sequence, **kept)


def margin_dice(one: Margin, factors_C: np.ndarray, scored: list[int] | slice = slice(None)) -> float:
    """Returns an image's mean Dice over classes under factors; open pixels by their sample.

    Args:
        scored: indices of the classes that enter the mean; all, where nothing is said.
    """
    num_classes = len(factors_C)
    hits, areas = one.settled.diagonal().astype(np.float64), one.settled.sum(0) + one.truth_areas
    if len(one.truth):
        choices = (one.probs.astype(np.float32) * factors_C[:, None].astype(np.float32)).argmax(0)
        areas = areas + one.scale * np.bincount(choices, minlength=num_classes)
        hits += one.scale * np.bincount(choices[choices == one.truth], minlength=num_classes)
    return float(np.where(areas > 0, 2 * hits / np.where(areas > 0, areas, 1), 1.0)[scored].mean())


def fit_offsets(margins: Sequence[Margin], classes: Sequence[str], scored: list[int] | slice = slice(None)) -> Offsets:
    """Returns the factors that gain on sequences that they were not fitted on, beyond noise; each class alone.

    `scored` is as in `margin_dice`.
    """
    num_classes = len(classes)
    groups = group_numbers([one.image_id for one in margins], [one.sequence for one in margins])
    num_groups = len(set(groups.tolist()))
    if num_groups < LEAST_SEQUENCES:
        words = f"no threshold is moved: {num_groups} sequences, and {LEAST_SEQUENCES} are needed to judge them"
        return Offsets(np.ones(num_classes), {}, {}, {}, None, words)
    folds = deal_folds(groups, min(MOST_FOLDS, num_groups))
    plain_I = np.array([margin_dice(one, np.ones(num_classes), scored) for one in margins])
    factors, tried, gains, in_sample = np.ones(num_classes), {}, {}, {}
    for index in range(num_classes):
        moved = [_alone(num_classes, index, factor) for factor in FACTORS]
        gains_FI = np.array([[margin_dice(one, factors_C, scored) for one in margins] for factors_C in moved])
        gains_FI -= plain_I
        best = int(gains_FI.mean(1).argmax())
        if gains_FI[best].mean() <= 0:
            continue
        held_out_I = np.zeros(len(margins))
        for fold in set(folds.tolist()):
            means_F = gains_FI[:, folds != fold].mean(1)
            if means_F.max() > 0:  # else this fold keeps the factor 1
                held_out_I[folds == fold] = gains_FI[means_F.argmax()][folds == fold]
        # Many classes are tried, so each must prove itself the more (Bonferroni).
        gains[index] = interval(held_out_I, groups, TAIL / num_classes)
        tried[index], in_sample[index] = FACTORS[best], float(gains_FI[best].mean())
        if gains[index].low > 0:
            factors[index] = FACTORS[best]
    if (factors != 1).sum() > 1:  # each alone gains; together they must not get in each other's way
        together_I = np.array([margin_dice(one, factors, scored) for one in margins]) - plain_I
        if interval(together_I, groups).low <= 0:
            best = max(gains, key=lambda index: gains[index].low)
            factors = _alone(num_classes, best, tried[best])
    total = sum(in_sample.values())
    survived = sum(gain.mean for gain in gains.values()) / total if total > 0 else None
    return Offsets(factors, tried, gains, in_sample, survived, _words(factors, tried, gains, in_sample, classes))


def _alone(num_classes: int, index: int, factor: float) -> np.ndarray:
    factors = np.ones(num_classes)
    factors[index] = factor
    return factors


def _words(
    factors: np.ndarray,
    tried: Mapping[int, float],
    gains: Mapping[int, Interval],
    in_sample: Mapping[int, float],
    classes: Sequence[str],
) -> str:
    if not gains:
        return "no threshold is moved: no factor gains even on its own images"
    lines = [f"thresholds of {(factors != 1).sum()} of {len(classes)} classes are moved"]
    for index, gain in gains.items():
        what = "times" if factors[index] != 1 else "kept, not times"
        lines.append(
            f"  {classes[index]}: {what} {tried[index]:g}; mean Dice {gain.mean:+.4f} ({gain.low:+.4f} to "
            f"{gain.high:+.4f}) on other sequences, {in_sample[index]:+.4f} in sample"
        )
    return "\n".join(lines)
