"""YAML files as trees of leaves that remember where they were written; merging and typed building.

In: a file or a `KEY=VALUE` text. Out: frozen dataclasses and the origin of every value.
"""

from __future__ import annotations

import difflib
import typing
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any

import yaml

from pipeline.config.coerce import Mismatch, coerce, parse_scalar
from pipeline.errors import UserError

Tree = dict[str, Any]  # key -> Leaf or Tree


@dataclass(frozen=True)
class Leaf:
    """A value as written, and where: `configs/ExpAAB.yaml:4`."""

    node: yaml.Node
    origin: str


def read_tree(path: Path, shown: str) -> Tree:
    """Returns the mapping in a YAML file; `shown` names the file in origins and errors.

    Raises:
        UserError: the file is not YAML, not a mapping, or gives a key twice.
    """
    node = compose_file(path, shown)
    if node is None:
        return {}
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{shown}: found {type(node).__name__[:-4].lower()}, wanted a mapping of KEY: value")
    return mapping_tree(node, shown)


def compose_file(path: Path, shown: str) -> yaml.Node | None:
    """Returns the root node of a YAML file, or None when it holds nothing."""
    try:
        text = path.read_text(encoding="utf-8")
        return yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        hint = "; indent with spaces, not tabs" if "\\t" in str(error.problem) else ""
        raise UserError(f"{shown}:{line}: not YAML: {error.problem}{hint}") from None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{shown}: not a UTF-8 YAML file: {error}") from None


def mapping_tree(node: yaml.MappingNode, shown: str) -> Tree:
    """Returns a mapping node as a tree; refuses a key that appears twice (YAML would keep the last in silence)."""
    tree: Tree = {}
    for key_node, value in node.value:
        origin = f"{shown}:{key_node.start_mark.line + 1}"
        if not isinstance(key_node, yaml.ScalarNode):
            raise UserError(f"{origin}: a key must be a word")
        key = key_node.value
        if key in tree:
            raise UserError(f"{origin}: {key} is given twice in the same mapping; keep one")
        is_mapping = isinstance(value, yaml.MappingNode)
        tree[key] = mapping_tree(value, shown) if is_mapping else Leaf(value, origin)
    return tree


def merge(parent: Tree, child: Tree) -> Tree:
    """Returns `parent` overridden by `child`: mappings merge, lists and scalars replace."""
    merged = dict(parent)
    for key, value in child.items():
        both_are_mappings = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both_are_mappings else value
    return merged


def override_tree(assignment: str) -> Tree:
    """Returns the tree of a command line override.

    >>> sorted(override_tree("SOLVER.MAX_LR=5e-4")["SOLVER"])
    ['MAX_LR']

    Raises:
        UserError: there is no `=` or no key before it.
    """
    key, equals, text = assignment.partition("=")
    if not equals or not key or not all(key.split(".")):
        raise UserError(f"{assignment!r}: an override is written KEY=VALUE, for example SOLVER.MAX_LR=5e-4")
    tree: Any = Leaf(parse_scalar(text), "command line")
    if isinstance(tree.node, yaml.MappingNode):
        tree = mapping_tree(tree.node, "command line")
    for part in reversed(key.split(".")):
        tree = {part: tree}
    return tree


def build(tree: Tree, schema: type, path: str = "") -> Any:
    """Returns the dataclass `schema` filled from a tree.

    Field `max_lr` is read from key `MAX_LR`. A field without default must be there.

    Raises:
        UserError: an unknown or missing key, a value of a wrong type or range; with its origin.
    """
    known = {field.name.upper(): field for field in fields(schema)}
    for key, value in tree.items():
        if key not in known:
            raise UserError(unknown_key(join(path, key), origin_of(value), known, path))
    hints = typing.get_type_hints(schema, include_extras=True)
    values = {}
    for key, field in known.items():
        here = join(path, key)
        if key in tree:
            values[field.name] = _build_field(tree[key], hints[field.name], here)
        elif field.default is MISSING:
            raise UserError(f"{origin_of(tree) or path}: {here} is missing")
    return schema(**values)


def _build_field(value: Any, wanted: Any, here: str) -> Any:
    if is_dataclass(wanted):
        if isinstance(value, Leaf):
            keys = ", ".join(field.name.upper() for field in fields(wanted))
            raise UserError(f"{value.origin}: {here} is a group of keys ({keys}), not a value")
        return build(value, wanted, here)
    if isinstance(value, dict):
        raise UserError(f"{origin_of(value)}: {here} is one value, not a group of keys")
    try:
        return coerce(value.node, wanted)
    except Mismatch as mismatch:
        raise UserError(f"{value.origin}: {here}: {mismatch}") from None


def unknown_key(key: str, origin: str, known: typing.Iterable[str], path: str) -> str:
    """Returns the refusal of an unknown key, with the nearest known one."""
    name = key.rpartition(".")[2]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.5) or [
        option for option in known if name.replace("_", "").upper() == option.replace("_", "")
    ]
    hint = f"; did you mean {join(path, near[0])}?" if near else f"; known here: {', '.join(sorted(known))}"
    return f"{origin}: unknown key {key}{hint}"


def origin_of(value: Tree | Leaf) -> str:
    """Returns where a value, or the first value below a mapping, was written."""
    if isinstance(value, Leaf):
        return value.origin
    return next((origin for item in value.values() if (origin := origin_of(item))), "")


def leaf_origins(tree: Tree, path: str = "") -> dict[str, str]:
    """Returns `{"SOLVER.MAX_LR": "configs/base.yaml:90", ...}` for every leaf."""
    origins = {}
    for key, value in tree.items():
        here = join(path, key)
        origins |= leaf_origins(value, here) if isinstance(value, dict) else {here: value.origin}
    return origins


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
