"""Reads the subset of YAML that configs use: nested plain values.

In: a file or a text. Out: PyYAML's nodes, which know their line, or a `UserError` with file and line.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from pipeline.errors import UserError

COMMAND_LINE = "command line"
DEEPEST = 20  # levels of nesting; the deepest key of the schema has 5


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
        return yaml.compose(text, Loader=PlainLoader)
    except yaml.MarkedYAMLError as error:
        raise UserError(f"{origin_of(shown, error)}: {_yaml_problem(error)}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        origin = shown if shown.startswith(COMMAND_LINE) else f"{shown}:{line}"
        raise UserError(f"{origin}: the character U+{error.character:04X} is not allowed in YAML; remove it") from None
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # e.g. PyYAML passes "\UFFFFFFFF" to chr()
        raise UserError(f"{shown}: not YAML: {error}") from None


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
