"""The section SEARCH of a study: between which values overrides are searched, and how long.

In: `configs/studies/NAME.yaml`. Out: `Search`, and values as the texts that are typed. Needs no Optuna.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Annotated, Literal

from pipeline.config.plain_yaml import Range
from pipeline.config.ranges import Count, CountOrZero, Positive
from pipeline.config.tree import Problems

DIGITS = 3  # of a proposed value, so that its command can be typed; a finer difference changes no score
# Where a range is tried before anything is trained; odd, so that a key for whole numbers refuses one of them.
TRIED = (0.0137, 0.382)
SECTION = "SEARCH.SPACE"


@dataclass(frozen=True)
class Span:
    """A range of numbers, both ends included.

    Attributes:
        log: whether equal ratios are equally likely, instead of equal distances.
        step: only low, low + step, and so on; null: any number, rounded to three digits.
    """

    low: float
    high: float
    log: bool = False
    step: Positive | None = None


@dataclass(frozen=True)
class Search:
    """What is searched, and how long; docs/studies.md explains each key.

    Attributes:
        space: by config key, a range or a list of values.
        trials: how many different settings are trained.
        sampler: who proposes them.
        seed: of the proposals.
        prune: whether a training that is worse than half of the earlier ones at the same epoch ends early.
        fresh_seeds: with how many seeds the best setting and BASE are trained again.
    """

    space: dict[str, Span | tuple[str, ...]]
    trials: Count = 30
    sampler: Literal["tpe", "random"] = "tpe"
    seed: CountOrZero = 0
    prune: bool = False
    fresh_seeds: Annotated[int, Range(least=2)] = 3  # one says nothing about the spread between seeds


def text_of(values: Span | tuple[str, ...], value: float | str) -> str:
    """Returns a proposed value as it is typed.

    >>> text_of(Span(1e-4, 0.1, log=True), 0.00123456), text_of(Span(1, 9, step=2), 3.0), text_of(("ce", "dice"), "ce")
    ('0.00123', '3', 'ce')
    """
    if not isinstance(values, Span):
        return str(value)
    return f"{value:.10g}" if values.step else f"{value:.{DIGITS}g}"


def words_of(space: Mapping[str, Span | tuple[str, ...]], values: Mapping[str, float | str]) -> tuple[str, ...]:
    """Returns the overrides that are typed for proposed values.

    >>> words_of({"SOLVER.POWER": Span(1, 4)}, {"SOLVER.POWER": 1.23456})
    ('SOLVER.POWER=1.23',)
    """
    return tuple(f"{key}={text_of(own, values[key])}" for key, own in space.items())


def num_settings(space: Mapping[str, Span | tuple[str, ...]]) -> float:
    """Returns how many settings a space has; infinite with a range without steps.

    >>> num_settings({"SOLVER.POWER": Span(1, 4, step=1), "LOSS_FN.MIX": ("1 ce", "1 dice")})
    8
    """
    total = 1
    for own in space.values():
        if isinstance(own, Span) and own.step is None:
            return math.inf
        total *= _num_steps(own) + 1 if isinstance(own, Span) else len(own)
    return total


def search_problems(search: Search) -> Problems:
    """Yields what contradicts itself in a search, by key."""
    if not search.space:
        yield SECTION, "expected at least one config key with a range or a list of values"
    for key, own in search.space.items():
        here = f"{SECTION}.{key}"
        if isinstance(own, Span):
            yield from _span_problems(here, own)
        elif len(set(own)) < 2 or len(set(own)) < len(own):
            yield here, f"found {len(own)} values, {len(set(own))} different; expected at least two, each once"
    count = num_settings(search.space)
    if search.trials >= count:
        remedy = "use GRID instead, which trains each once, or fewer TRIALS"
        yield "SEARCH.TRIALS", f"{search.trials}, but SPACE has {count} settings in all; {remedy}"


def _span_problems(here: str, span: Span) -> Problems:
    if span.low >= span.high:
        yield f"{here}.LOW", f"{span.low:g} is not below HIGH {span.high:g}"
    if span.log and span.low <= 0:
        yield f"{here}.LOW", f"{span.low:g} with LOG: true; expected above 0, as equal ratios have no 0"
    if span.log and span.step:
        yield f"{here}.STEP", "with LOG: true there are no steps; list the values instead: [1, 2, 4, 8]"
    if span.step and _num_steps(span) * Decimal(str(span.step)) != Decimal(str(span.high)) - Decimal(str(span.low)):
        yield f"{here}.HIGH", f"{span.high:g} is not LOW {span.low:g} and a whole number of STEPs {span.step:g}"
    for name, value in (("LOW", span.low), ("HIGH", span.high)):
        if not span.step and float(text_of(span, value)) != value:
            wanted = f"expected at most {DIGITS} digits, as of all proposed values: {text_of(span, value)}"
            yield f"{here}.{name}", f"found {value!r}; {wanted}"


def _num_steps(span: Span) -> int:
    return int((Decimal(str(span.high)) - Decimal(str(span.low))) / Decimal(str(span.step)))


def tried_values(own: Span | tuple[str, ...]) -> Iterator[str]:
    """Yields values of one key that a config is loaded with before anything is trained: all choices; of a range some.

    >>> list(tried_values(Span(1, 3, step=1))), list(tried_values(Span(1, 3)))
    (['1', '3', '2'], ['1', '3', '1.03', '1.76'])
    """
    if not isinstance(own, Span):
        yield from own
        return
    yield from (text_of(own, own.low), text_of(own, own.high))
    if own.step:
        yield text_of(own, own.low + own.step)
        return
    for share in TRIED:
        inside = own.low * (own.high / own.low) ** share if own.log else own.low + share * (own.high - own.low)
        yield text_of(own, inside)


def is_whole(own: Span | tuple[str, ...]) -> bool:
    """Returns whether a range without steps begins and ends with whole numbers, and so may be meant for such only."""
    return isinstance(own, Span) and own.step is None and own.low == int(own.low) and own.high == int(own.high)
