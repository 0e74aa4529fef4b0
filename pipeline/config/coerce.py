"""Converts YAML text to a typed value. The type is the schema's annotation, not what YAML would guess.

YAML 1.1 reads `5e-5` as text, `NO` as false and `1_000` as a number.
"""

from __future__ import annotations

import math
import re
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

from pipeline.wording import nearest

NULLS = ("", "~", "null", "Null", "NULL", "None")
# ASCII digits only: Python's int() and float() also accept Arabic and Devanagari digits, and read 1_0 as 10.
INTEGER = re.compile(r"[-+]?[0-9]+")
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
MOST_DIGITS = 18  # such an integer fits 64 bits; Python refuses to read more than 4300 digits
MOST_SHOWN = 60  # characters of a value that an error message repeats


@dataclass(frozen=True)
class Range:
    """The range of a number: `least` and `most` are included, `above` is excluded."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf


class Mismatch(Exception):
    """A value that does not have the expected type; the caller adds file and line."""


class NearMiss(Mismatch):
    """A value of the expected type that is wrong in detail: a number out of range, a list with one wrong item."""


def coerce(node: yaml.Node, expected: Any) -> Any:
    """Returns the value of a YAML node as the type `expected`.

    Args:
        node: a scalar or sequence node.
        expected: bool, int, float, str, None, Literal, Annotated[..., Range], a Union of those, or a tuple of those.

    Raises:
        Mismatch: says what was found and what was expected.
    """
    origin = get_origin(expected)
    if origin in (Union, types.UnionType):
        return _coerce_union(node, get_args(expected))
    if origin is Annotated:
        return _coerce_ranged(node, expected)
    if origin is tuple:
        return _coerce_tuple(node, get_args(expected))
    if not isinstance(node, yaml.ScalarNode):
        raise Mismatch(f"found {quote(node)}, expected {describe(expected)}")
    return _coerce_scalar(node, expected)


def describe(expected: Any) -> str:
    """Returns a type in words.

    >>> describe(tuple[int, int])
    'a list of 2: [an integer, an integer]'
    """
    origin, args = get_origin(expected), get_args(expected)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(option) for option in args)
    if origin is Annotated:
        return describe(args[0]) + _describe_range(args[1])
    if origin is Literal:
        return "one of " + ", ".join(str(option) for option in args) if len(args) > 1 else str(args[0])
    if origin is tuple:
        if args[-1] is Ellipsis:
            return f"a list in brackets, each item {describe(args[0])}"
        return f"a list of {len(args)}: [{', '.join(describe(item) for item in args)}]"
    names = {bool: "true or false", int: "an integer", float: "a number", str: "text", type(None): "null"}
    return names[expected]


def quote(node: yaml.Node) -> str:
    """Returns a node in the form in which error messages show it."""
    if not isinstance(node, yaml.ScalarNode):
        return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"
    if node.style is None and node.value in NULLS:
        return "nothing" if not node.value else node.value
    text = f"{node.value[: MOST_SHOWN - 3]!r}..." if len(node.value) > MOST_SHOWN else f"{node.value!r}"
    return f"the quoted text {text}" if node.style in ("'", '"') else text


def _coerce_union(node: yaml.Node, options: tuple[Any, ...]) -> Any:
    near_misses = []  # as text: an exception would keep every frame below it, and the objects in them
    # str accepts every text, so it is tried last.
    for option in sorted(options, key=lambda option: option is str):
        try:
            return coerce(node, option)
        except NearMiss as mismatch:
            near_misses.append(str(mismatch))
        except Mismatch:
            continue
    if near_misses:
        raise NearMiss(near_misses[0])
    raise Mismatch(f"found {quote(node)}, expected {' or '.join(describe(option) for option in options)}")


def _coerce_ranged(node: yaml.Node, expected: Any) -> Any:
    kind, allowed = get_args(expected)
    try:
        value = coerce(node, kind)
    except NearMiss:
        raise
    except Mismatch:
        raise Mismatch(f"found {quote(node)}, expected {describe(expected)}") from None
    if not (allowed.least <= value <= allowed.most and value > allowed.above):
        raise NearMiss(f"{value} is outside the allowed range{_describe_range(allowed)}")
    return value


def _coerce_tuple(node: yaml.Node, items: tuple[Any, ...]) -> tuple:
    if not isinstance(node, yaml.SequenceNode):
        raise Mismatch(f"found {quote(node)}, expected {describe(tuple[items])}")
    is_open = items[-1] is Ellipsis
    if not is_open and len(node.value) != len(items):
        raise Mismatch(f"found a list of {len(node.value)}, expected {describe(tuple[items])}")
    types_expected = [items[0]] * len(node.value) if is_open else items
    values = []
    for index, (item, expected) in enumerate(zip(node.value, types_expected, strict=True)):
        try:
            values.append(coerce(item, expected))
        except Mismatch as mismatch:
            raise NearMiss(f"item {index + 1}: {mismatch}") from None
    return tuple(values)


def _coerce_scalar(node: yaml.ScalarNode, expected: Any) -> Any:
    text, is_plain = node.value, node.style is None
    is_null = is_plain and text in NULLS
    if expected is type(None) and is_null:
        return None
    if expected is str and not is_null:
        return _coerce_text(text)
    if expected is bool and is_plain and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if expected is int and is_plain and INTEGER.fullmatch(text):
        return _coerce_integer(text)
    if expected is float and is_plain and NUMBER.fullmatch(text):
        return _coerce_float(node)
    hint = ""
    if get_origin(expected) is Literal and not is_null:
        options = {str(option): option for option in get_args(expected)}
        if text in options:
            return options[text]
        near = nearest(text, options)
        hint = f"; did you mean {near[0]}?" if near else ""
    raise Mismatch(f"found {quote(node)}, expected {describe(expected)}{hint}")


def _coerce_text(text: str) -> str:
    if not text.isprintable():
        hidden = next(character for character in text if not character.isprintable())
        raise Mismatch(f"found text with the invisible character U+{ord(hidden):04X}, expected plain text on one line")
    return text


def _coerce_integer(text: str) -> int:
    if len(text.lstrip("+-")) > MOST_DIGITS:
        raise NearMiss(f"an integer of {len(text)} digits is too large, expected {MOST_DIGITS} at most")
    return int(text)


def _coerce_float(node: yaml.ScalarNode) -> float:
    value = float(node.value)
    if not math.isfinite(value):
        raise NearMiss(f"found {quote(node)}, expected a number that fits 64 bits")
    return value


def _describe_range(allowed: Range) -> str:
    parts = []
    if allowed.above > -math.inf:
        parts.append(f"above {allowed.above:g}")
    if allowed.least > -math.inf:
        parts.append(f"at least {allowed.least:g}")
    if allowed.most < math.inf:
        parts.append(f"at most {allowed.most:g}")
    return f" ({', '.join(parts)})" if parts else ""
