"""Reads the subset of YAML that configs use, nested plain values, and converts its nodes to typed values.

In: a file or a text. Out: PyYAML's nodes, which know their line, or a `UserError` with file and line. A value has
the type of the schema's annotation, not what YAML would guess: YAML 1.1 reads `5e-5` as text, `NO` as false and
`1_000` as a number.
"""

from __future__ import annotations

import functools
import math
import re
import types
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import yaml

from pipeline.errors import UserError
from pipeline.wording import nearest

COMMAND_LINE = "command line"
DEEPEST = 20  # levels of nesting; the deepest key of the schema has 5
NULLS = ("", "~", "null", "Null", "NULL", "None")
# ASCII digits only: Python's int() and float() also accept Arabic and Devanagari digits, and read 1_0 as 10.
INTEGER = re.compile(r"[-+]?[0-9]+")
NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?")
MOST_DIGITS = 18  # such an integer fits 64 bits; Python refuses to read more than 4300 digits
MOST_SHOWN = 60  # characters of a value that an error message repeats


class NotPlain(yaml.MarkedYAMLError):
    """YAML beyond the subset that configs use."""


class PlainLoader(yaml.SafeLoader):
    """Composes nested plain values only: a file cannot create Python objects, expand aliases or recurse."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """Returns the next node; refuses aliases, anchors, tags and deep nesting, with the line."""
        event = self.peek_event()
        problem = None
        if event.anchor is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            problem = f"{sign}{event.anchor}: anchors and aliases are not supported; repeat the value, or use BASE"
        elif event.tag is not None:
            problem = f"{event.tag}: tags are not supported; write the plain value (text may be quoted)"
        elif self.depth == DEEPEST:
            problem = f"more than {DEEPEST} levels of nesting"
        if problem:
            raise NotPlain(problem=problem, problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def compose_file(path: Path, shown: str) -> yaml.Node | None:
    """Returns the root node of a YAML file, or None if the file is empty."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"cannot read {shown}: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{shown}:{line}: not UTF-8 text ({error.reason}); save the file as UTF-8") from None
    return compose_text(text, shown)


def compose_text(text: str, shown: str) -> yaml.Node | None:
    """Returns the root node of a YAML text, or None if it is empty.

    Raises:
        UserError: not YAML, or YAML beyond plain values; with the line if `shown` is a file.
    """
    try:
        return _compose(text)
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{origin_of(shown, error)}: {_yaml_problem(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        origin = shown if shown.startswith(COMMAND_LINE) else f"{shown}:{line}"
        raise UserError(f"{origin}: the character U+{error.character:04X} is not allowed in YAML; remove it") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # e.g. PyYAML passes "\UFFFFFFFF" to chr()
        raise UserError(f"{shown}: not YAML: {error}") from None


@functools.lru_cache(maxsize=256)
def _compose(text: str) -> yaml.Node | None:
    """Returns the root node of a text: base.yaml and a competition are read for every config. Nobody changes nodes."""
    return yaml.compose(text, Loader=PlainLoader)


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    """Returns what is wrong, with the line where the construct begins if that is another line."""
    problem = str(error.problem)
    if isinstance(error, NotPlain):
        return problem
    begin, end = error.context_mark, error.problem_mark
    since = f" that begins in line {begin.line + 1}" if begin and end and begin.line != end.line else ""
    context = f"{error.context}{since}: " if error.context else ""
    remedy = "; indent with spaces, not tabs" if "\\t" in problem else ""
    if "mapping values" in problem:
        remedy = "; indent the keys of a group equally, and quote text that contains a colon"
    return f"not YAML: {context}{problem}{remedy}"


def origin_of(shown: str, marked: yaml.Node | yaml.MarkedYAMLError) -> str:
    """Returns file and line of a node or an error; for the command line, no line."""
    mark = marked.start_mark if isinstance(marked, yaml.Node) else marked.problem_mark or marked.context_mark
    return shown if shown.startswith(COMMAND_LINE) or mark is None else f"{shown}:{mark.line + 1}"


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

    That is bool, int, float, str, None, Literal, Annotated[..., Range], a Union of those, or a tuple of those.

    Raises:
        Mismatch: says what was found and what was expected.
    """
    origin = get_origin(expected)
    if origin in (Union, types.UnionType):
        return _coerce_union(node, get_args(expected))
    if origin is tuple:
        return _coerce_tuple(node, get_args(expected))
    if not isinstance(node, yaml.ScalarNode):
        raise Mismatch(f"found {quote(node)}, expected {describe(expected)}")
    if origin is not Annotated:
        return _coerce_scalar(node, expected, expected)
    kind, allowed = get_args(expected)
    value = _coerce_scalar(node, kind, expected)
    if not (allowed.least <= value <= allowed.most and value > allowed.above):
        raise NearMiss(f"{value} is outside the allowed range{describe_range(allowed)}")
    return value


def describe(expected: Any) -> str:
    """Returns a type in words.

    >>> describe(tuple[int, int])
    'a list of 2: [an integer, an integer]'
    """
    origin, args = get_origin(expected), get_args(expected)
    if origin in (Union, types.UnionType):
        return " or ".join(describe(option) for option in args)
    if origin is Annotated:
        return describe(args[0]) + describe_range(args[1])
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


def _coerce_scalar(node: yaml.ScalarNode, kind: Any, expected: Any) -> Any:
    """Returns the value of a node as the type `kind`; messages say `expected`, which may have a range."""
    text, is_plain = node.value, node.style is None
    is_null = is_plain and text in NULLS
    if kind is type(None) and is_null:
        return None
    if kind is str and not is_null:
        if text.isprintable():
            return text
        hidden = next(character for character in text if not character.isprintable())
        why = f"found text with the invisible character U+{ord(hidden):04X}, expected plain text on one line"
        raise Mismatch(why)
    if kind is bool and is_plain and text.lower() in ("true", "false"):
        return text.lower() == "true"
    if kind is int and is_plain and INTEGER.fullmatch(text):
        if len(text.lstrip("+-")) > MOST_DIGITS:
            raise NearMiss(f"an integer of {len(text)} digits is too large, expected {MOST_DIGITS} at most")
        return int(text)
    if kind is float and is_plain and NUMBER.fullmatch(text):
        if not math.isfinite(float(text)):
            raise NearMiss(f"found {quote(node)}, expected a number that fits 64 bits")
        return float(text)
    hint = ""
    if get_origin(kind) is Literal and not is_null:
        options = {str(option): option for option in get_args(kind)}
        if text in options:
            return options[text]
        near = nearest(text, options)
        hint = f"; did you mean {near[0]}?" if near else ""
    if kind is str and text:  # `None` and the like
        hint = f'; for the word, write "{text}" in quotes'
    raise Mismatch(f"found {quote(node)}, expected {describe(expected)}{hint}")


def describe_range(allowed: Range) -> str:
    """Returns the limits of a number in words, with a space before them; "" where there are none.

    >>> describe_range(Range(above=0, most=1))
    ' (above 0, at most 1)'
    """
    limits = (("above", allowed.above), ("at least", allowed.least), ("at most", allowed.most))
    parts = [f"{word} {limit:g}" for word, limit in limits if math.isfinite(limit)]
    return f" ({', '.join(parts)})" if parts else ""
