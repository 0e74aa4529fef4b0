"""Text of a YAML scalar or list to a typed value, by the schema's annotation and not by YAML's own guesses.

YAML 1.1 reads `5e-5` as text, `NO` as false and `1_000` as a number. Here the field's type decides.
"""

from __future__ import annotations

import math
import re
import types
from dataclasses import dataclass
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

from pipeline.errors import UserError

NULLS = ("", "~", "null", "Null", "NULL", "None")
INTEGER = re.compile(r"[-+]?[0-9]+")


@dataclass(frozen=True)
class Range:
    """The values a number may take; `above` excludes its bound, `least` and `most` include theirs."""

    least: float = -math.inf
    most: float = math.inf
    above: float = -math.inf


class Mismatch(Exception):
    """A text that is not of the wanted type; the caller adds file and line."""


def coerce(node: yaml.Node, wanted: Any) -> Any:
    """Returns the value of a YAML node as the type `wanted`.

    Args:
        node: a scalar or sequence node.
        wanted: bool, int, float, str, None, Literal, Annotated[..., Range], a Union of those, or a tuple of those.

    Raises:
        Mismatch: says what was found and what was wanted.
    """
    origin = get_origin(wanted)
    if origin in (Union, types.UnionType):
        return _coerce_union(node, get_args(wanted))
    if origin is Annotated:
        value = coerce(node, get_args(wanted)[0])
        _check_range(value, get_args(wanted)[1])
        return value
    if origin is tuple:
        return _coerce_tuple(node, get_args(wanted))
    if not isinstance(node, yaml.ScalarNode):
        raise Mismatch(f"found {_kind(node)}, wanted {describe(wanted)}")
    return _coerce_scalar(node, wanted)


def describe(wanted: Any) -> str:
    """Returns a type as a person would say it.

    >>> describe(tuple[int, int])
    'a list of 2: [an integer, an integer]'
    """
    origin, args = get_origin(wanted), get_args(wanted)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(option) for option in args)
    if origin is Annotated:
        return describe(args[0]) + _describe_range(args[1])
    if origin is Literal:
        return "one of " + ", ".join(str(option) for option in args) if len(args) > 1 else str(args[0])
    if origin is tuple:
        if args[-1] is Ellipsis:
            return f"a list, each {describe(args[0])}"
        return f"a list of {len(args)}: [{', '.join(describe(item) for item in args)}]"
    names = {bool: "true or false", int: "an integer", float: "a number", str: "text", type(None): "null"}
    return names[wanted]


def _coerce_union(node: yaml.Node, options: tuple[Any, ...]) -> Any:
    reasons = []
    # Text accepts everything, so it is asked last.
    for option in sorted(options, key=lambda option: option is str):
        try:
            return coerce(node, option)
        except Mismatch as mismatch:
            reasons.append(str(mismatch))
    ranges = [reason for reason in reasons if "outside" in reason]
    wanted = " or ".join(describe(option) for option in options)
    raise Mismatch(ranges[0] if ranges else f"found {_quote(node)}, wanted {wanted}")


def _coerce_tuple(node: yaml.Node, items: tuple[Any, ...]) -> tuple:
    if not isinstance(node, yaml.SequenceNode):
        raise Mismatch(f"found {_quote(node)}, wanted {describe(tuple[items])}")
    if items[-1] is Ellipsis:
        return tuple(coerce(item, items[0]) for item in node.value)
    if len(node.value) != len(items):
        raise Mismatch(f"found a list of {len(node.value)}, wanted {describe(tuple[items])}")
    return tuple(coerce(item, wanted) for item, wanted in zip(node.value, items, strict=True))


def _coerce_scalar(node: yaml.ScalarNode, wanted: Any) -> Any:
    text, is_plain = node.value, node.style is None
    is_null = is_plain and text in NULLS
    if wanted is type(None) and is_null:
        return None
    if wanted is str and not is_null:
        return text
    if wanted is bool and is_plain and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if wanted is int and is_plain and INTEGER.fullmatch(text):
        return int(text)
    if wanted is float and is_plain:
        return _coerce_float(node)
    if get_origin(wanted) is Literal:
        for option in get_args(wanted):
            if text == str(option) and not is_null:
                return option
    raise Mismatch(f"found {_quote(node)}, wanted {describe(wanted)}")


def _coerce_float(node: yaml.ScalarNode) -> float:
    try:
        value = float(node.value.replace("_", "x"))  # Python would read 1_0 as 10
    except ValueError:
        raise Mismatch(f"found {_quote(node)}, wanted a number") from None
    if not math.isfinite(value):
        raise Mismatch(f"found {_quote(node)}, wanted a finite number")
    return value


def _check_range(value: float, allowed: Range) -> None:
    if not (allowed.least <= value <= allowed.most and value > allowed.above):
        raise Mismatch(f"{value} is outside the allowed range{_describe_range(allowed)}")


def _describe_range(allowed: Range) -> str:
    parts = []
    if allowed.above > -math.inf:
        parts.append(f"above {allowed.above:g}")
    if allowed.least > -math.inf:
        parts.append(f"at least {allowed.least:g}")
    if allowed.most < math.inf:
        parts.append(f"at most {allowed.most:g}")
    return f" ({', '.join(parts)})" if parts else ""


def _quote(node: yaml.Node) -> str:
    return f"{node.value!r}" if isinstance(node, yaml.ScalarNode) else _kind(node)


def _kind(node: yaml.Node) -> str:
    return "a list" if isinstance(node, yaml.SequenceNode) else "a mapping"


def parse_scalar(text: str) -> yaml.Node:
    """Returns the YAML node of a command line value such as `5e-4`, `[1, 2]` or `null`.

    Raises:
        UserError: the text is not YAML.
    """
    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.YAMLError as error:
        raise UserError(f"{text!r} is not a value: {getattr(error, 'problem', error)}") from None
    return node if node is not None else yaml.ScalarNode("tag:yaml.org,2002:null", "")
