"""Decoding for a score that is 1 where prediction and truth both lack a class: one stray pixel costs the whole class.

In: of each out-of-fold image, the area and the probability of each predicted class, and its score. Out: rules that
drop a class from an image where it is too small (area) or too unsure (sum of its probabilities); its pixels go to the
next best class, or to none where a pixel may have none. A rule is adopted only when it gains, beyond noise, on
sequences that it was not fitted on.

Letters: C classes, H rows, W columns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import numpy as np

from pipeline.config.competition import SCORE_DEFAULTS, ScoreOptions
from pipeline.config.component_rules import ComponentRule
from pipeline.scores import LABELS
from pipeline.segmentation.components import with_components
from pipeline.segmentation.ensemble import Recipe, combine, mean_probs
from pipeline.segmentation.mask_scores import image_score
from pipeline.segmentation.out_of_fold import Fitted, try_settings
from pipeline.segmentation.planes import is_present
from pipeline.segmentation.predict import Prediction
from pipeline.segmentation.scores import counts_of

Measure = Literal["area", "mass"]
MEASURES: tuple[Measure, ...] = ("area", "mass")


@dataclass(frozen=True)
class Rule:
    """A class is dropped from an image in which its measure, as a share of the image, is below `least`."""

    class_index: int
    measure: Measure
    least: float


@dataclass(frozen=True)
class DecodedImage:
    """A decoded out-of-fold image.

    Attributes:
        area: float64 (C,), predicted pixels as a share of the image.
        mass: float64 (C,), the sum of the mean probability over them, as a share of the image.
        scores: float64 (C,), as decoded; NaN where the score leaves a class out that the truth lacks.
        is_present: bool (C,), whether the truth has the class.
    """

    image_id: str
    sequence: str
    area: np.ndarray
    mass: np.ndarray
    scores: np.ndarray
    is_present: np.ndarray


def measure_classes(predictions: Sequence[Prediction], mask: np.ndarray) -> dict[Measure, np.ndarray]:
    """Returns each class's predicted area and mass as shares of the image, float64 (C,) each."""
    num_classes, size = len(predictions[0].logits), mask.shape[0] * mask.shape[1]
    areas, masses = np.zeros(num_classes), np.zeros(num_classes)
    for top, bottom, probs_CRW in mean_probs(predictions):
        if mask.ndim == 3:
            present_CRW = np.moveaxis(is_present(mask[top:bottom]), -1, 0)
            areas += present_CRW.sum((1, 2))
            masses += (probs_CRW.numpy() * present_CRW).sum((1, 2), dtype=np.float64)
            continue
        choices_N = mask[top:bottom].ravel()
        probs_CN = probs_CRW.flatten(1).numpy()
        chosen_N = probs_CN[choices_N, np.arange(len(choices_N))]
        areas += np.bincount(choices_N, minlength=num_classes)
        masses += np.bincount(choices_N, chosen_N, minlength=num_classes)
    return {"area": areas / size, "mass": masses / size}


def measure_image(
    image_id: str,
    sequence: str,
    predictions: Sequence[Prediction],
    mask: np.ndarray,
    truth: np.ndarray,
    score: str = "dice",
    options: ScoreOptions = SCORE_DEFAULTS,
    objects: tuple[np.ndarray, np.ndarray] | None = None,
) -> DecodedImage:
    """Returns the shares and scores of an image; pixels that the truth ignores enter the shares, not the scores.

    Args:
        mask: the decoded mask, uint8 (H, W) or planes (H, W, C).
        truth: likewise; pixels of `IGNORE` have no truth.
        score: one of `per: image`.
        objects: the object maps of both, by which it is scored where OBJECTS is given.
    """
    shares, activation = measure_classes(predictions, mask), predictions[0].activation
    counted = activation.counted(activation.count_masks(mask, truth, len(shares["area"])))
    scores = image_score(score, counted, *(objects or (mask, truth)), options)
    has_class = counts_of(counted).true > 0
    return DecodedImage(image_id, sequence, **shares, scores=scores, is_present=has_class)


def dropped(shares: Mapping[Measure, np.ndarray], rules: Sequence[Rule], keeps_largest: bool = True) -> tuple[int, ...]:
    """Returns the classes that rules drop from an image; the largest class stays unless a pixel may have none.

    >>> shares = {"area": np.array([0.9, 0.001, 0.099]), "mass": np.array([0.8, 0.0005, 0.05])}
    >>> dropped(shares, [Rule(1, "area", 0.01), Rule(2, "mass", 0.01)])
    (1,)
    """
    largest = int(shares["area"].argmax()) if keeps_largest else None
    return tuple(
        rule.class_index
        for rule in rules
        if rule.class_index != largest and 0 < shares[rule.measure][rule.class_index] < rule.least
    )


def decode_with_rules(
    predictions: Sequence[Prediction],
    recipe: Recipe,
    rules: Sequence[Rule],
    of_components: Sequence[ComponentRule] = (),
) -> np.ndarray:
    """Returns the mask, uint8 (height, width), with the pixels of dropped classes given to the next best class.

    Args:
        of_components: rules that change what is left, see `components.py`.
    """
    mask, excluded = suppressed(predictions, recipe, rules)
    return with_components(predictions, recipe, mask, of_components, excluded)


def suppressed(
    predictions: Sequence[Prediction], recipe: Recipe, rules: Sequence[Rule]
) -> tuple[np.ndarray, tuple[int, ...]]:
    """Returns the mask without the classes that rules drop, and these classes."""
    mask = combine(predictions, [recipe])[0]
    keeps_largest = not predictions[0].is_sigmoid
    excluded = dropped(measure_classes(predictions, mask), rules, keeps_largest) if rules else ()
    return (combine(predictions, [recipe], excluded)[0] if excluded else mask), excluded


def fit_rule(class_index: int, images: Sequence[DecodedImage]) -> Rule | None:
    """Returns the rule of the highest gain in a class's score over these images, or None where none gains.

    Dropping a class scores 1 where the truth lacks it, else 0; so the best threshold is one pass over sorted images.
    """
    best_gain, best = 0.0, None
    changes = np.array([gain_of(image, class_index) for image in images])
    for measure in MEASURES:
        values = np.array([getattr(image, measure)[class_index] for image in images])
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


def gain_of(image: DecodedImage, class_index: int) -> float:
    """Returns what dropping a class from an image changes in that class's score."""
    if not image.area[class_index] or np.isnan(image.scores[class_index]):
        return 0.0
    return (0.0 if image.is_present[class_index] else 1.0) - float(image.scores[class_index])


def fit_suppression(
    images: Sequence[DecodedImage],
    classes: Sequence[str],
    scored: Sequence[int] | None = None,
    score: str = "dice",
    keeps_largest: bool = True,
) -> Fitted[int, Rule, tuple[Rule, ...]]:
    """Returns the rules that gain on sequences that they were not fitted on, beyond noise; trials are by class index.

    Only the score of the dropped class is measured; where its pixels go changes the other classes' scores too little.

    Args:
        scored: indices of the scored classes, which alone may be dropped; None: all.
        score: that of the images.
        keeps_largest: as in `dropped`.
    """
    fits = {index: partial(fit_rule, index) for index in (range(len(classes)) if scored is None else scored)}

    def gain(image: DecodedImage, rule: Rule) -> float:
        return gain_of(image, rule.class_index) if dropped(vars(image), [rule], keeps_largest) else 0.0

    trials = try_settings(images, fits, gain, len(fits))
    rules = tuple(trial.setting for trial in trials.adopted.values())
    share = 100 * (trials.survived or 0)
    changed = f"rules for {len(rules)} of {len(classes)} classes, {share:.0f} % of the gain in sample survives"

    def describe(index: int, rule: Rule) -> str:
        limit = f"where its {rule.measure} is below {rule.least:.2e} of the image"
        return f"{classes[index]}: {'dropped' if index in trials.adopted else 'kept, not dropped'} {limit}"

    return Fitted(rules, trials, trials.words("no class is dropped", changed, LABELS[score], describe))
