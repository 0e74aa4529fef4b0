"""Texts such as `0.7 ce + 0.3 tversky(alpha=0.3, beta=0.7)`: terms joined by `+`, each a name with settings.

In: a text of a config. Out: the name and the numbers of each term. What is unknown is refused with what was probably
meant.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pipeline.config.plain_yaml import NUMBER, Mismatch, Range, describe_range
from pipeline.wording import did_you_mean

TERM = re.compile(r"([^()]*)(?:\((.*)\))?\s*")
PLUS = re.compile(r"\+(?![^(]*\))")  # outside parentheses


@dataclass(frozen=True)
class Setting:
    """A number that a term may be given; without a default it must be given."""

    allowed: Range
    default: float | None = None
    is_whole: bool = False


def split_terms(text: str) -> list[str]:
    """Returns the terms of a text.

    >>> split_terms("0.7 ce + tversky(alpha=0.3, beta=0.7)")
    ['0.7 ce', 'tversky(alpha=0.3, beta=0.7)']
    """
    return [term.strip() for term in PLUS.split(text)]


def split_term(term: str) -> tuple[str, list[str]]:
    """Returns what is before the parentheses of a term, and what is in them, divided by commas.

    Raises:
        Mismatch: parentheses that do not close, or text behind them.

    >>> split_term("0.3 tversky(alpha=0.3, beta=0.7)"), split_term("ce")
    (('0.3 tversky', ['alpha=0.3', 'beta=0.7']), ('ce', []))
    """
    match = TERM.fullmatch(term)
    if match is None:
        raise Mismatch("expected one pair of parentheses at the end, as in focal(gamma=2)")
    inside = (match[2] or "").strip()
    return match[1].strip(), [part.strip() for part in inside.split(",")] if inside else []


def read_settings(name: str, texts: Sequence[str], known: Mapping[str, Setting]) -> dict[str, float]:
    """Returns the value of every setting of a term, in the order of `known`, given or by default.

    Args:
        name: of the term, for messages.
        texts: `word=number` each.

    Raises:
        Mismatch: an unknown word, one that is given twice or is missing, or a number out of its range.
    """
    given: dict[str, float] = {}
    listed = f"{name} takes {', '.join(known)}" if known else f"{name} takes no settings"
    for text in texts:
        word, sign, number = (part.strip() for part in text.partition("="))
        if not sign:
            raise Mismatch(f"{name}: found {text!r}, expected word=number; {listed}")
        if word not in known:
            raise Mismatch(f"{name} has no {word!r}; {did_you_mean(word, known, listed)}")
        if word in given:
            raise Mismatch(f"{name}: {word} is given twice; keep one")
        given[word] = _number(f"{name}: {word}", number, known[word])
    missing = [word for word, setting in known.items() if setting.default is None and word not in given]
    if missing:
        raise Mismatch(f"{name} needs {' and '.join(missing)}; write {name}(..., {missing[0]}=NUMBER)")
    return {word: given.get(word, setting.default) for word, setting in known.items()}


def _number(what: str, text: str, setting: Setting) -> float:
    value = float(text) if NUMBER.fullmatch(text) else math.nan
    allowed, kind = setting.allowed, "a whole number" if setting.is_whole else "a number"
    is_inside = allowed.least <= value <= allowed.most and value > allowed.above
    if not is_inside or not math.isfinite(value) or (setting.is_whole and value != int(value)):
        raise Mismatch(f"{what}: found {text!r}, expected {kind}{describe_range(allowed)}")
    return value


def settings_text(values: Mapping[str, float], separator: str) -> str:
    """Returns settings as they are written; numbers keep all digits.

    >>> settings_text({"alpha": 0.3, "gamma": 2.0}, ", ")
    'alpha=0.3, gamma=2'
    """
    return separator.join(f"{word}={float(value)!r}".removesuffix(".0") for word, value in values.items())
