"""Decoding for a score that is 1 where prediction and truth both lack a class: one stray pixel costs the whole class.

In: of each out-of-fold image, how large and how sure each predicted class is, and what it scores. Out: rules that
drop a class from an image where it is too small (area) or too unsure (sum of its probabilities); its pixels go to the
next best class. A rule is adopted only when it gains, beyond noise, on sequences that it was not fitted on.

Letters: C classes, I images.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from pipeline.config.competition import IGNORE
from pipeline.intervals import Interval, deal_folds, group_numbers, interval
from pipeline.segmentation.ensemble import Recipe, combine, mean_probs
from pipeline.segmentation.predict import Prediction

Measure = Literal["area", "mass"]
MEASURES: tuple[Measure, ...] = ("area", "mass")
MOST_FOLDS = 5
LEAST_SEQUENCES = 4  # as for the weights of an ensemble


@dataclass(frozen=True)
class Rule:
    """A class is dropped from an image in which its measure, as a share of the image, is below `least`."""

    class_index: int
    measure: Measure
    least: float


@dataclass(frozen=True)
class Sight:
    """What is known of one decoded out-of-fold image.

    Attributes:
        shares: float64 (C,) by measure: the predicted area, and the sum of the mean probability over it, both as a
            share of the image.
        dice: float64 (C,), as decoded.
        is_shown: bool (C,), whether the truth has the class.
    """

    image_id: str
    sequence: str
    shares: Mapping[Measure, np.ndarray]
    dice: np.ndarray
    is_shown: np.ndarray


@dataclass(frozen=True)
class Suppression:
    """What came of fitting.

    Attributes:
        rules: the adopted ones.
        gains: by class index, the gain in its Dice on sequences that its rule was not fitted on.
        in_sample: by class index, the gain on the very images of the fit.
        survived: share of the gain in sample that is left on other sequences, over all classes; None without any.
        words: what was decided and why, for people.
    """

    rules: tuple[Rule, ...]
    gains: Mapping[int, Interval]
    in_sample: Mapping[int, float]
    survived: float | None
    words: str


def measure_classes(predictions: Sequence[Prediction], mask_HW: np.ndarray) -> dict[Measure, np.ndarray]:
    """Returns each class's predicted area and mass as shares of the image, float64 (C,) each."""
    num_classes = len(predictions[0].logits)
    areas, masses = np.zeros(num_classes), np.zeros(num_classes)
    for top, bottom, probs_CRW in mean_probs(predictions):
        choices_N = mask_HW[top:bottom].ravel()
        probs_CN = probs_CRW.flatten(1).numpy()
        chosen_N = probs_CN[choices_N, np.arange(len(choices_N))]
        areas += np.bincount(choices_N, minlength=num_classes)
        masses += np.bincount(choices_N, chosen_N, minlength=num_classes)
    return {"area": areas / mask_HW.size, "mass": masses / mask_HW.size}


def see(
    image_id: str, sequence: str, predictions: Sequence[Prediction], mask_HW: np.ndarray, truth_HW: np.ndarray
) -> Sight:
    """Returns what is known of an image; predicted pixels that the truth ignores count in the shares, not in the Dice.

    Args:
        mask_HW: the decoded mask.
        truth_HW: uint8, `IGNORE` counts nowhere.
    """
    shares = measure_classes(predictions, mask_HW)
    num_classes = len(shares["area"])
    counts = truth_HW != IGNORE
    true_areas = np.bincount(truth_HW[counts], minlength=num_classes)
    areas = true_areas + np.bincount(mask_HW[counts], minlength=num_classes)
    hits = np.bincount(truth_HW[counts & (truth_HW == mask_HW)], minlength=num_classes)
    dice = np.where(areas > 0, 2 * hits / np.maximum(areas, 1), 1.0)
    return Sight(image_id, sequence, shares, dice, true_areas > 0)


def arrays_of(sight: Sight) -> dict[str, np.ndarray]:
    """Returns all of a sight but whose it is, to be kept on disk."""
    return {**sight.shares, "dice": sight.dice, "is_shown": sight.is_shown}


def sight_from(image_id: str, sequence: str, arrays: Mapping[str, np.ndarray]) -> Sight:
    """Returns the sight from what `arrays_of` returned."""
    shares = {measure: arrays[measure] for measure in MEASURES}
    return Sight(image_id, sequence, shares, arrays["dice"], arrays["is_shown"])


def dropped(shares: Mapping[Measure, np.ndarray], rules: Sequence[Rule]) -> tuple[int, ...]:
    """Returns the classes that rules drop from an image; the largest class always stays.

    >>> shares = {"area": np.array([0.9, 0.001, 0.099]), "mass": np.array([0.8, 0.0005, 0.05])}
    >>> dropped(shares, [Rule(1, "area", 0.01), Rule(2, "mass", 0.01)])
    (1,)
    """
    largest = int(shares["area"].argmax())
    return tuple(
        rule.class_index
        for rule in rules
        if rule.class_index != largest and 0 < shares[rule.measure][rule.class_index] < rule.least
    )


def decode_with_rules(predictions: Sequence[Prediction], recipe: Recipe, rules: Sequence[Rule]) -> np.ndarray:
    """Returns the mask, uint8 (height, width), with the pixels of dropped classes given to the next best class."""
    mask = combine(predictions, [recipe])[0]
    excluded = dropped(measure_classes(predictions, mask), rules) if rules else ()
    return combine(predictions, [recipe], excluded)[0] if excluded else mask


def fit_rule(sights: Sequence[Sight], class_index: int) -> Rule | None:
    """Returns the rule of the highest gain in a class's Dice over these images, or None where none gains.

    Dropping a class scores 1 where the truth lacks it, else 0; so the best threshold is one pass over sorted images.
    """
    best_gain, best = 0.0, None
    changes = np.array([gain_of(sight, class_index) for sight in sights])
    for measure in MEASURES:
        values = np.array([sight.shares[measure][class_index] for sight in sights])
        order = np.argsort(values, kind="stable")
        order = order[values[order] > 0]
        if not len(order):
            continue
        sums, ordered = np.cumsum(changes[order]), values[order]
        sums[:-1][ordered[:-1] == ordered[1:]] = -np.inf  # equal values fall together
        last = int(sums.argmax())
        if sums[last] > best_gain + 1e-9:
            above = ordered[last + 1] if last + 1 < len(ordered) else ordered[last] * 1.0001
            best_gain, best = float(sums[last]), Rule(class_index, measure, float((ordered[last] + above) / 2))
    return best


def gain_of(sight: Sight, class_index: int) -> float:
    """Returns what dropping a class from an image changes in that class's Dice."""
    if not sight.shares["area"][class_index]:
        return 0.0
    return (0.0 if sight.is_shown[class_index] else 1.0) - float(sight.dice[class_index])


def fit_suppression(
    sights: Sequence[Sight], classes: Sequence[str], scored: Sequence[int] | None = None
) -> Suppression:
    """Returns the rules that gain on sequences that they were not fitted on, beyond noise.

    A class's gain counts in its own Dice; that its pixels go to other classes is left out here, being rarely of weight.

    Args:
        scored: indices of the classes that may be dropped, because they score; None: all.
    """
    groups = group_numbers([sight.image_id for sight in sights], [sight.sequence for sight in sights])
    num_groups = len(set(groups.tolist()))
    if num_groups < LEAST_SEQUENCES:
        words = f"no class is dropped anywhere: {num_groups} sequences, and {LEAST_SEQUENCES} are needed to judge rules"
        return Suppression((), {}, {}, None, words)
    folds = deal_folds(groups, min(MOST_FOLDS, num_groups)).tolist()
    rules, gains, in_sample = [], {}, {}
    for class_index in range(len(classes)) if scored is None else scored:
        rule = fit_rule(sights, class_index)
        if rule is None:
            continue
        by_fold = {
            fold: fit_rule([one for one, own in zip(sights, folds, strict=True) if own != fold], class_index)
            for fold in set(folds)
        }
        pairs = [(sight, by_fold[fold]) for sight, fold in zip(sights, folds, strict=True)]
        gains[class_index] = interval(np.array([_gain(sight, own) for sight, own in pairs]), groups)
        in_sample[class_index] = float(np.mean([_gain(sight, rule) for sight in sights]))
        if gains[class_index].low > 0:
            rules.append(rule)
    total = sum(in_sample.values())
    survived = sum(gain.mean for gain in gains.values()) / total if total > 0 else None
    return Suppression(tuple(rules), gains, in_sample, survived, _words(rules, gains, in_sample, survived, classes))


def _gain(sight: Sight, rule: Rule | None) -> float:
    return 0.0 if rule is None or not dropped(sight.shares, [rule]) else gain_of(sight, rule.class_index)


def _words(
    rules: Sequence[Rule],
    gains: Mapping[int, Interval],
    in_sample: Mapping[int, float],
    survived: float | None,
    classes: Sequence[str],
) -> str:
    if not gains:
        return "no class is dropped anywhere: no rule gains even on its own images"
    adopted = {rule.class_index: rule for rule in rules}
    lines = []
    for class_index, gain in gains.items():
        rule = adopted.get(class_index)
        what = f"dropped where its {rule.measure} is below {rule.least:.2e} of the image" if rule else "kept"
        lines.append(
            f"  {classes[class_index]}: {what}; Dice {gain.mean:+.4f} ({gain.low:+.4f} to {gain.high:+.4f}) on other "
            f"sequences, {in_sample[class_index]:+.4f} in sample"
        )
    share = "" if survived is None else f", {100 * survived:.0f} % of the gain in sample survives"
    return "\n".join([f"rules for {len(rules)} of {len(classes)} classes{share}", *lines])
