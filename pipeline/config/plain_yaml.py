"""The part of YAML that configs are written in: nested plain values, composed into nodes that know their line.

In: a file or a text. Out: PyYAML's nodes, or a `UserError` with file and line. Nothing is constructed from them here.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError

COMMAND_LINE = "command line"
DEEPEST = 20  # levels of nesting; the deepest key of the schema has 5


class NotPlain(yaml.MarkedYAMLError):
    """YAML, but more of it than configs are written in."""


class PlainLoader(yaml.SafeLoader):
    """Composes nested plain values and nothing else: a file can neither name Python objects nor expand nor recurse."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node:
        """Returns the next node; refuses aliases, anchors, tags and deep nesting with the place."""
        event = self.peek_event()
        problem = None
        if event.anchor is not None:
            sign = "*" if isinstance(event, yaml.AliasEvent) else "&"
            problem = (
                f"{sign}{event.anchor}: anchors and aliases are not read; write the value out, or share it through BASE"
            )
        elif event.tag is not None:
            problem = f"{event.tag}: tags are not read; write the plain value (a text may stand in quotes)"
        elif self.depth == DEEPEST:
            problem = f"nested deeper than {DEEPEST} levels"
        if problem:
            raise NotPlain(problem=problem, problem_mark=event.start_mark)
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def compose_file(path: Path, shown: str) -> yaml.Node | None:
    """Returns the root node of a YAML file, or None when it holds nothing."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UserError(f"{shown}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = path.read_bytes()[: error.start].count(b"\n") + 1
        raise UserError(f"{shown}:{line}: not UTF-8 text ({error.reason}); save the file as UTF-8") from None
    return compose_text(text, shown)


def compose_text(text: str, shown: str) -> yaml.Node | None:
    """Returns the root node of a YAML text, or None when it holds nothing.

    Raises:
        UserError: not YAML, or more of YAML than plain values; with the line when `shown` is a file.
    """
    try:
        return yaml.compose(text, Loader=PlainLoader)
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{place_of(shown, error)}: {_yaml_problem(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        place = shown if shown.startswith(COMMAND_LINE) else f"{shown}:{line}"
        raise UserError(f"{place}: the character U+{error.character:04X} may not stand in YAML; remove it") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # e.g. PyYAML hands "\UFFFFFFFF" to chr()
        raise UserError(f"{shown}: not YAML: {error}") from None


def _yaml_problem(error: yaml.MarkedYAMLError) -> str:
    """Returns what is wrong; with the line where the thing began when that is another line."""
    problem = str(error.problem)
    if isinstance(error, NotPlain):
        return problem
    begin, end = error.context_mark, error.problem_mark
    since = f" begun in line {begin.line + 1}" if begin and end and begin.line != end.line else ""
    context = f"{error.context}{since}: " if error.context else ""
    cure = "; indent with spaces, not tabs" if "\\t" in problem else ""
    if "mapping values" in problem:
        cure = "; indent the keys of a group alike, and put a text with a colon in quotes"
    return f"not YAML: {context}{problem}{cure}"


def place_of(shown: str, marked: yaml.Node | yaml.MarkedYAMLError) -> str:
    """Returns file and line of a node or an error; the command line has no lines."""
    mark = marked.start_mark if isinstance(marked, yaml.Node) else marked.problem_mark or marked.context_mark
    return shown if shown.startswith(COMMAND_LINE) or mark is None else f"{shown}:{mark.line + 1}"
