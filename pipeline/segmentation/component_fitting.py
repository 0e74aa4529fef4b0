"""Rules for components, fitted on out-of-fold images and adopted only where they gain on unseen sequences.

In: for each out-of-fold image, the change in its score by each candidate. Out: rules, a few or none per class.

Each kind of rule is tried for each scored class by itself. Where several are adopted, they must gain together as well:
each image is then decoded with the rules that were fitted without its sequence.

Letters: C classes, S settings of a kind of rule.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from pipeline.config.component_rules import NAMES, ComponentRule, in_order
from pipeline.intervals import Interval, group_numbers
from pipeline.scores import LABELS, mean_scored
from pipeline.segmentation.components import Changing, apply_rule
from pipeline.segmentation.out_of_fold import Fitted, try_settings
from pipeline.verdicts import held_out_gain

AREAS = (1e-4, 3e-4, 1e-3, 3e-3, 1e-2, 3e-2)  # shares of an image; finer steps gain less than noise
HOLES = (1e-3, 1e-2, 1.0)
HIGHS, LOWS = (0.6, 0.75, 0.9), (1.0, 0.3)  # with a low of 1 nothing is added
CANDIDATES: dict[str, tuple[dict[str, float], ...]] = {
    "hysteresis": tuple({"high": high, "low": low} for high in HIGHS for low in LOWS),
    "largest": ({},),
    "min_area": tuple({"share": share} for share in AREAS),
    "fill_holes": tuple({"share": share} for share in HOLES),
}
GIVEN = "all rules, as given"
Key = tuple[int, str]  # a class and a kind of rule

ScoreOf = Callable[[np.ndarray], np.ndarray]  # from a mask to the score of each class, float64 (C,)


@dataclass(frozen=True)
class ComponentImage:
    """An out-of-fold image.

    Attributes:
        gains: float64 (C, settings of all kinds, in the order of `CANDIDATES`), change in the mean over the scored
            classes by each rule alone; 0 for classes that are not scored, NaN where the image has no score.
    """

    image_id: str
    sequence: str
    gains: np.ndarray


@dataclass(frozen=True)
class JointGain:
    """What several rules together change in the mean score of an image: float64 (1,), NaN where it has none."""

    image_id: str
    sequence: str
    gain: np.ndarray


def candidates_of(index: int, name: str | None = None) -> list[ComponentRule]:
    """Returns the rules that are tried for a class, of one kind or of all.

    >>> len(candidates_of(0, "min_area")), len(candidates_of(0))
    (6, 16)
    """
    names = NAMES if name is None else (name,)
    return [ComponentRule(one, index, tuple(own.items())) for one in names for own in CANDIDATES[one]]


def try_components(
    image_id: str, sequence: str, changing: Changing, score_of: ScoreOf, scored: Sequence[int]
) -> ComponentImage:
    """Returns the change in an image's score by each candidate.

    Args:
        changing: the image's mask, decoded without rules for components.
        score_of: the score of a mask.
    """
    plain = float(mean_scored(score_of(changing.mask), scored))
    gains = np.zeros((len(changing.predictions[0].logits), len(candidates_of(0))))
    if np.isnan(plain):
        return ComponentImage(image_id, sequence, np.full_like(gains, np.nan))
    for index in scored:
        rules, before_HW = candidates_of(index), changing.plane(index)
        probs_HW, known = changing.probs_for(rules), {_digest(before_HW): 0.0}
        for column, rule in enumerate(rules):
            after_HW = apply_rule(rule, before_HW, probs_HW)
            content = _digest(after_HW)
            if content not in known:  # many rules change nothing, or the same
                own = changing.copy()
                own.put(index, before_HW, after_HW)
                known[content] = float(mean_scored(score_of(own.mask), scored)) - plain
            gains[index, column] = known[content]
    return ComponentImage(image_id, sequence, gains)


def fit_components(
    images: Sequence[ComponentImage],
    classes: Sequence[str],
    scored: Sequence[int],
    score: str,
    joint: Callable[[Callable[[str], tuple[ComponentRule, ...]]], Sequence[JointGain]],
) -> Fitted[Key, tuple[int, int], tuple[ComponentRule, ...]]:
    """Returns the rules that gain on sequences that they were not fitted on, beyond noise, in their order.

    Args:
        classes: their names.
        scored: indices of the scored classes.
        score: name of the score of the images.
        joint: from the rules of each image, by its id, to what they change in its score together.
    """
    images = [image for image in images if not np.isnan(image.gains).any()]
    fits = {(index, name): partial(_best, index, _columns(name)) for index in scored for name in NAMES}
    trials = try_settings(images, fits, lambda image, place: float(image.gains[place]), len(fits))
    adopted = {key: trial.setting for key, trial in trials.adopted.items()}
    if len(adopted) > 1:  # each alone gains; together they must do so too

        def rules_without(image_id: str) -> tuple[ComponentRule, ...]:
            held_out = (trial.held_out.get(image_id, trial.setting) for trial in trials.adopted.values())
            return in_order(_rule_at(place) for place in held_out if place is not None)

        if joint_gain(joint(rules_without))[0].low <= 0:
            surest = max(adopted, key=lambda key: trials.by_key[key].gain.low)
            adopted = {surest: adopted[surest]}
    rules = in_order(map(_rule_at, adopted.values()))
    changed = f"components: {len(rules)} of {len(fits)} rules are adopted"

    def describe(key: Key, place: tuple[int, int]) -> str:
        return f"{_rule_at(place).text(classes[key[0]])}{'' if key in adopted else ', not adopted'}"

    words = trials.words("components stay as they are", changed, f"mean {LABELS[score]}", describe)
    return Fitted(rules, trials, words)


def _digest(plane_HW: np.ndarray) -> bytes:
    return hashlib.sha256(plane_HW).digest()


def joint_gain(gains: Sequence[JointGain]) -> tuple[Interval, str]:
    """Returns the mean gain of rules together, over the images that have a score, with its interval and a verdict."""
    known = [one for one in gains if not np.isnan(one.gain.item())]
    groups = group_numbers([one.image_id for one in known], [one.sequence for one in known])
    return held_out_gain(np.array([one.gain.item() for one in known]), groups)


def given_facts(gains: Sequence[JointGain], label: str) -> dict[str, Any]:
    """Returns the content of decode.json on rules that the config gives: their gain together, and it in words."""
    if all(np.isnan(one.gain.item()) for one in gains):
        words = f"components: rules as given; no out-of-fold image has a value of {label}"
        return {"gains": {}, "verdicts": {}, "in_sample": {}, "survived": None, "words": words}
    gain, verdict = joint_gain(gains)
    words = f"components: rules as given, not fitted; mean {label} {gain} out of fold: {verdict}"
    own = {"gains": vars(gain), "verdicts": verdict, "in_sample": gain.mean}
    return {**{name: {GIVEN: value} for name, value in own.items()}, "survived": None, "words": words}


def key_name(classes: Sequence[str], key: Key) -> str:
    """Returns a class and a kind of rule in words.

    >>> key_name(["Land", "Bird"], (1, "min_area"))
    'Bird, min_area'
    """
    return f"{classes[key[0]]}, {key[1]}"


def _columns(name: str) -> tuple[int, int]:
    """Returns the first column of `gains` that is of a kind, and the one behind its last."""
    first = sum(len(CANDIDATES[other]) for other in NAMES[: NAMES.index(name)])
    return first, first + len(CANDIDATES[name])


def _best(index: int, columns: tuple[int, int], images: Sequence[ComponentImage]) -> tuple[int, int] | None:
    """Returns class and column of the highest mean gain on these images, or None where none gains."""
    first, end = columns
    means_S = np.mean([image.gains[index, first:end] for image in images], 0)
    best = int(means_S.argmax())
    return (index, first + best) if means_S[best] > 1e-9 else None


def _rule_at(place: tuple[int, int]) -> ComponentRule:
    return candidates_of(place[0])[place[1]]
