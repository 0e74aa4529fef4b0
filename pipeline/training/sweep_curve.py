"""The curve of an LR sweep: smoothed, checked, and the learning rates that it suggests.

In: points of a sweep. Out: numbers. Needs no torch, so that a curve can be analysed again without a network.
"""

from __future__ import annotations

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

FAR_OFF = 3.0  # a MAX_LR this many times above or below what all repeats suggest is worth a warning
PATIENT_STEPS = 6  # steps above the starting loss, after the minimum, that count as an explosion
LEAST_RISE = 0.1  # by this share of the starting loss
LEAST_FALL = 0.01  # likewise; less is noise, and no rate of the curve is better than another
TROUGH_DEPTH = 0.5  # share of the fall to the minimum that is done between a trough's edges
TROUGH_SHARE = 0.4  # of the way across it, on the log axis


@dataclass(frozen=True)
class Point:
    """What one step of a sweep saw."""

    repeat: int
    step: int
    lr: float
    valid_loss: float
    train_loss: float


@dataclass(frozen=True)
class Curve:
    """One repeat: its points, and both losses smoothed, with the rates at which the smoothed ones stand."""

    points: tuple[Point, ...]
    lr_smooth: tuple[float, ...]
    valid_smooth: tuple[float, ...]
    train_smooth: tuple[float, ...]


def curves_of(points: Sequence[Point], smoothing: float) -> list[Curve]:
    """Returns the curves of a sweep, one per repeat."""
    repeats = [tuple(group) for _, group in itertools.groupby(points, key=lambda point: point.repeat)]
    return [
        Curve(
            points=repeat,
            lr_smooth=tuple(smooth_rates([point.lr for point in repeat], smoothing)),
            valid_smooth=tuple(smooth([point.valid_loss for point in repeat], smoothing)),
            train_smooth=tuple(smooth([point.train_loss for point in repeat], smoothing)),
        )
        for repeat in repeats
    ]


def smooth(values: Sequence[float], weight: float) -> list[float]:
    """Returns the exponential moving average with `weight` on the newest value, corrected for its start at zero.

    >>> smooth([1.0, 1.0, 4.0], weight=0.5)
    [1.0, 1.0, 2.7142857142857144]
    """
    average, smoothed = 0.0, []
    for count, value in enumerate(values, start=1):
        average = (1 - weight) * average + weight * value
        smoothed.append(average / (1 - (1 - weight) ** count))
    return smoothed


def smooth_rates(lrs: Sequence[float], weight: float) -> list[float]:
    """Returns the rates to which smoothed losses belong: the same average of the rates, on a log axis.

    A moving average lags, by more than two steps at weight 0.3. Plotted at the newest rate, the curve would be too far
    to the right, and farther with fewer steps.

    >>> [round(rate, 6) for rate in smooth_rates([0.1, 1.0, 10.0], weight=0.5)]
    [0.1, 0.464159, 2.682696]
    """
    return [math.exp(value) for value in smooth([math.log(lr) for lr in lrs], weight)]


def has_exploded(losses: Sequence[float]) -> bool:
    """Returns whether a smoothed curve has left its minimum for good: clearly above its start, or not finite.

    A start that rises by a hair, as batch norms settle, is no explosion.
    """
    if not math.isfinite(losses[-1]):
        return True
    lowest = int(np.argmin(losses))
    after = losses[lowest + 1 :]
    height = losses[0] + LEAST_RISE * abs(losses[0])
    return len(after) >= PATIENT_STEPS and min(after[-PATIENT_STEPS:]) > height


def suggest(lrs: Sequence[float], losses: Sequence[float]) -> dict[str, float]:
    """Returns the marks of a smoothed curve.

    `minimum` is the rate of the lowest loss. `steep` is the rate of the fastest fall per decade left of it. `trough` is
    two fifths of the way across the trough around it, whose edges, at half its depth, lie on both flanks, where noise
    moves them least. `valley` is two thirds down the longest fall that leads to the minimum, in log rate (fastai's
    valley: ESRI, 2021).
    """
    lowest = int(np.argmin(losses))
    if lowest < 2:
        return dict.fromkeys(("steep", "trough", "minimum", "valley"), lrs[lowest])
    slopes = np.gradient(np.asarray(losses[: lowest + 1]), np.log10(lrs[: lowest + 1]))
    start = lrs[_fall_start(losses, lowest)]
    valley = math.exp(math.log(start) + (math.log(lrs[lowest]) - math.log(start)) * 2 / 3)
    steep = lrs[int(np.argmin(slopes))]
    return {"steep": steep, "trough": _trough(lrs, losses), "minimum": lrs[lowest], "valley": valley}


def _trough(lrs: Sequence[float], losses: Sequence[float]) -> float:
    """Returns the rate TROUGH_SHARE across the trough; where the curve ends in it, its end is the right edge.

    >>> losses = [3.0, 3.0, 1.0, 0.9, 1.0, 3.0, 9.0]
    >>> round(_trough([1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 1e-1, 1.0], losses), 5)
    0.00051
    """
    lowest = int(np.argmin(losses))
    highest = int(np.argmax(losses[: lowest + 1]))
    level = losses[highest] - TROUGH_DEPTH * (losses[highest] - losses[lowest])
    left, right = (_edge(lrs, losses, level, lowest, step) for step in (-1, 1))
    return math.exp(left + TROUGH_SHARE * (right - left))


def _edge(lrs: Sequence[float], losses: Sequence[float], level: float, lowest: int, step: int) -> float:
    """Returns the log rate at which the curve, going from its minimum to one side, first rises above a level."""
    inside = lowest
    while 0 <= inside + step < len(losses) and losses[inside + step] <= level:
        inside += step
    outside, here = inside + step, math.log(lrs[inside])
    if not 0 <= outside < len(losses):
        return here
    share = (level - losses[inside]) / (losses[outside] - losses[inside])
    return here + share * (math.log(lrs[outside]) - here)


def evaluate_curves(
    curves: Sequence[Curve],
    max_lr: float | str,
    is_own: bool = True,
    end_lr: float = math.inf,
    untrained: float = math.inf,
) -> dict[str, Any]:
    """Returns the content of `lr_sweep.json`: suggestions, their band over the repeats, the rate in use, warnings.

    `auto` takes `trough`: on four grids of real trainings it lay within x1.8 of the best rate, the steepest up to x35
    off, the valley up to x8, while the minimum is the edge of a cliff; and other images or repeats move it least
    (docs/LOG.md).

    Args:
        max_lr: SOLVER.MAX_LR, a number or `auto`.
        is_own: whether it was the training's own optimizer that swept; another one's rates mean other steps.
        end_lr: SWEEP.END_LR, to warn where the loss still falls there.
        untrained: the validation loss before the first step, to warn where no rate lowers it.
    """
    single = [suggest(curve.lr_smooth, curve.valid_smooth) for curve in curves]
    # Where the curve is flat around its minimum the repeats spread; the median in log space is the steadier answer.
    suggestions = {name: math.exp(statistics.median(math.log(one[name]) for one in single)) for name in single[0]}
    band = {name: [min(one[name] for one in single), max(one[name] for one in single)] for name in single[0]}
    trough, (low, high) = suggestions["trough"], band["trough"]
    chosen = trough if max_lr == "auto" else max_lr
    facts = {"suggestions": suggestions, "band": band, "max_lr": chosen, "is_auto": max_lr == "auto"}
    if warnings := _no_fall(curves, untrained):
        return {**facts, "warnings": warnings}
    warnings = [f"the loss still falls at SWEEP.END_LR {end_lr:g}; raise it"] if _still_falls(curves, end_lr) else []
    if is_own and not low / FAR_OFF <= chosen <= high * FAR_OFF:
        side = "above" if chosen > trough else "below"
        warnings.append(f"SOLVER.MAX_LR {chosen:.2g} lies far {side} the sweep's suggestion {trough:.2g}")
    return {**facts, "warnings": warnings}


def _still_falls(curves: Sequence[Curve], end_lr: float) -> bool:
    """Returns whether most repeats came to the last rate, and were lowest there."""
    falling = [
        curve.points[-1].lr > 0.99 * end_lr and min(curve.valid_smooth[:-1], default=0.0) > curve.valid_smooth[-1]
        for curve in curves
    ]
    return 2 * sum(falling) > len(curves)


def _no_fall(curves: Sequence[Curve], untrained: float) -> list[str]:
    """Returns a warning where most repeats never get clearly below the loss before the first step, else none."""
    if not math.isfinite(untrained):
        return []
    lowest = statistics.median(min(curve.valid_smooth) for curve in curves)
    if lowest < untrained - LEAST_FALL * abs(untrained):
        return []
    is_at_start = 2 * sum(int(np.argmin(curve.valid_smooth)) < 2 for curve in curves) > len(curves)
    fix = f"lower SWEEP.START_LR (now {curves[0].points[0].lr:g})" if is_at_start else "raise SWEEP.END_LR"
    losses = f"{untrained:.3g} before training, {lowest:.3g} at best"
    return [f"no learning rate lowers the validation loss ({losses}), so do not use the suggestions; {fix}"]


def _fall_start(losses: Sequence[float], lowest: int) -> int:
    """Returns where the longest falling subsequence that ends in the minimum begins."""
    lengths, starts = [1] * (lowest + 1), list(range(lowest + 1))
    for end in range(lowest + 1):
        for before in range(end):
            if losses[before] > losses[end] and lengths[before] >= lengths[end]:
                lengths[end], starts[end] = lengths[before] + 1, starts[before]
    return starts[lowest]
