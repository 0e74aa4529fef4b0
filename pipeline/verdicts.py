"""What may be concluded from two settings that were trained several times: a contrast, and a verdict in words.

In: the gain of each validation image in each pair of trainings. Out: `Contrast`, verdicts. Needs no torch.

Two things make a mean gain uncertain: other scenes would have gained otherwise (the spread between sequences), and the
same setting trained again with another seed would have scored otherwise (the spread between seeds).
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit

from pipeline.config.study import Study
from pipeline.intervals import TAIL, Interval, group_numbers, interval, mean_and_error

POWER = 0.8  # with which a difference of `detectable` is found
EQUIVALENT = Study.equivalent  # differences up to this one do not matter in practice, where no study says otherwise
OF_MEMBERS = " with these members"  # what a verdict on an ensemble is about


@dataclass(frozen=True)
class Pair:
    """Two trainings that differ in nothing but the setting.

    Attributes:
        split: which images validated.
        seed: of both trainings.
        gains: by image id, its sequence and the gain in its score.
    """

    split: Hashable
    seed: Hashable
    gains: Mapping[str, tuple[str, float]]


@dataclass(frozen=True)
class Contrast:
    """The mean gain over all images, and how sure it is.

    Attributes:
        interval: of the mean gain, 95 %.
        p_value: the probability of so large a gain, either way, where there is none.
        error, degrees: the standard error of the mean gain, and its degrees of freedom.
        num_images: distinct ones.
        num_pairs: of trainings.
        covers_training: whether the interval covers what other seeds would change; with one pair it does not, and one
            difference between two is too little to go by.
    """

    interval: Interval
    p_value: float
    error: float
    degrees: float
    num_images: int
    num_pairs: int
    covers_training: bool

    def detectable(self, num_comparisons: int = 1) -> float:
        """Returns the gain that would be found in four of five such studies, where so many settings are compared."""
        if not np.isfinite(self.error):
            return np.inf
        return self.error * float(stdtrit(self.degrees, 1 - TAIL / num_comparisons) + stdtrit(self.degrees, POWER))


def contrast(pairs: Sequence[Pair]) -> Contrast:
    """Returns what pairs of trainings say about the second setting of each.

    An image's gain is the mean of its gains in all pairs. The squared standard errors of the two sources are added,
    and their degrees of freedom combined as Welch and Satterthwaite do, up to those of the sequences. Each contains
    part of the other, so the interval errs on the wide side.

    Raises:
        ValueError: no pair has an image.
    """
    gains, sequence_of = defaultdict(list), {}
    for pair in pairs:
        for image_id, (sequence, gain) in pair.gains.items():
            gains[image_id].append(gain)
            sequence_of[image_id] = sequence
    if not gains:
        raise ValueError("no image was evaluated in both trainings of any pair")
    values = np.array([sum(own) / len(own) for own in gains.values()])
    groups = group_numbers(list(gains), [sequence_of[image_id] for image_id in gains])
    return _contrast(values, groups, len(pairs), *_spread_of_trainings(pairs))


def contrast_of_images(gains: np.ndarray, groups: np.ndarray) -> Contrast:
    """Returns the contrast of two sets of predictions, from the gain of each image, without variation of trainings.

    Args:
        gains: float (I,).
        groups: int (I,), the sequence of each image.
    """
    return _contrast(gains, groups, 1, 0.0, 0.0)


def _contrast(
    values: np.ndarray, groups: np.ndarray, num_pairs: int, variance: float, degrees_of_variance: float
) -> Contrast:
    """Returns the contrast of the gains of images, with the variance of their mean over other trainings."""
    mean, error, degrees, num_groups = mean_and_error(values, groups)
    covers = degrees_of_variance > 1
    if num_groups < 2:
        nothing = Interval(mean, -np.inf, np.inf, num_groups)
        return Contrast(nothing, 1.0, error, degrees, len(values), num_pairs, covers)
    if variance > 0:
        total = error**2 + variance
        combined = total**2 / (error**4 / degrees + variance**2 / degrees_of_variance)
        degrees = min(combined, degrees)  # more seeds do not make the scenes better known
        error = float(np.sqrt(total))
    half = float(error * stdtrit(degrees, 1 - TAIL))
    p_value = float(2 * stdtr(degrees, -abs(mean) / error)) if error > 0 else float(mean == 0)
    found = Interval(mean, mean - half, mean + half, num_groups)
    return Contrast(found, p_value, error, degrees, len(values), num_pairs, covers)


def _spread_of_trainings(pairs: Sequence[Pair]) -> tuple[float, float]:
    """Returns the variance of the mean gain over other trainings, and its degrees of freedom; 0 and 0 where unknown.

    From the seeds of a split. Where no split has two, from the spread between splits, which contains it.
    """
    means, sizes = defaultdict(list), {}
    for pair in pairs:
        means[pair.split].append(np.mean([gain for _, gain in pair.gains.values()]))
        sizes[pair.split] = len(pair.gains)
    compared = [own for own in means.values() if len(own) > 1] or [[own[0] for own in means.values()]]
    degrees = sum(len(own) - 1 for own in compared)
    if degrees == 0:
        return 0.0, 0.0
    of_one = sum(np.var(own, ddof=1) * (len(own) - 1) for own in compared) / degrees
    total = sum(sizes.values())
    return float(of_one * sum((sizes[split] / total) ** 2 / len(own) for split, own in means.items())), degrees


def holm(p_values: Sequence[float]) -> list[float]:
    """Returns p values corrected for the number of comparisons, so that all together have one rate of false alarms.

    Source: Holm 1979, "A simple sequentially rejective multiple test procedure".

    >>> [round(value, 3) for value in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    adjusted, so_far = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(sorted(range(len(p_values)), key=lambda index: p_values[index])):
        so_far = max(so_far, min(1.0, (len(p_values) - rank) * p_values[index]))
        adjusted[index] = so_far
    return adjusted


def verdicts(found: Sequence[Contrast | None], equivalent: float = EQUIVALENT, about: str | None = None) -> list[str]:
    """Returns the verdict on each of several comparisons that are shown together, corrected for their number (Holm).

    Args:
        found: None: nothing was compared, and the verdict is "".
        equivalent, about: see `verdict`.
    """
    known = [one for one in found if one is not None]
    adjusted = iter(holm([one.p_value for one in known]))
    return ["" if one is None else verdict(one, next(adjusted), equivalent, len(known), about) for one in found]


def held_out_gain(gains: np.ndarray, groups: np.ndarray, num_compared: int = 1) -> tuple[Interval, str]:
    """Returns the mean gain of an option on images that it was not fitted on, its interval, and a verdict.

    Both are corrected for the number of candidates (Bonferroni), and agree: "better" where the lower bound is above 0.
    No gain is too small to matter, as the option costs nothing.

    Args:
        gains: float (I,).
        groups: int (I,), the sequence of each image.
        num_compared: from how many candidates the adopted ones are chosen.
    """
    found = contrast_of_images(gains, groups)
    words = verdict(found, min(1.0, num_compared * found.p_value), 0.0, num_compared, "")
    return interval(gains, groups, TAIL / num_compared), words


def verdict(
    found: Contrast, p_value: float, equivalent: float, num_comparisons: int = 1, about: str | None = None
) -> str:
    """Returns in words what a contrast allows to conclude.

    With one seed and one split, `better`, `worse` and `equal` are about these two trainings: another seed may say
    otherwise. The same holds for two seeds of a split, or one seed of two splits: one difference between trainings does
    not tell how much they vary.

    Args:
        p_value: of the contrast, adjusted where there are several.
        equivalent: differences up to this one do not matter in practice.
        num_comparisons: how many settings are compared with the same one.
        about: words after `better`, `worse` and `equal` that limit them, such as " with these members"; "": none, as
            only predictions are compared, not how they were trained; None: the trainings, if they are too few.

    Scores are between 0 and 1, so that a difference of 1 or more cannot be.

    Source: the region of practical equivalence, Benavoli, Corani, Demsar and Zaffalon 2017.
    """
    span, about = found.interval, _about(found) if about is None else about
    if not np.isfinite(span.low):
        return "one sequence: nothing can be concluded"
    if -equivalent <= span.low and span.high <= equivalent:
        return f"equal within {equivalent:g}{about}" if equivalent else "no difference"
    if p_value < 2 * TAIL:
        return f"{'better' if span.mean > 0 else 'worse'}{about}"
    detectable = found.detectable(num_comparisons)
    return f"inconclusive (detectable: {detectable:.2g})" if detectable < 1 else "inconclusive (too little data)"


def _about(found: Contrast) -> str:
    if found.covers_training:
        return ""
    return " with this seed" if found.num_pairs == 1 else " with these trainings"
