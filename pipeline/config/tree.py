"""YAML files as trees whose leaves know where they were written; merging, and building typed dataclasses.

In: a file or `KEY=VALUE` texts. Out: frozen dataclasses, and the origin of every value.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields, is_dataclass
from pathlib import Path
from typing import Any, NoReturn

import yaml

from pipeline.config.plain_yaml import COMMAND_LINE, Mismatch, coerce, compose_file, compose_text, origin_of, quote
from pipeline.errors import UserError
from pipeline.wording import is_below, nearest, plain_word

UNIONS = (typing.Union, types.UnionType)
Problems = Iterator[tuple[str, str]]  # key, what was found and expected: the first one is refused


@dataclass(frozen=True)
class Leaf:
    """A value as written, and where: `configs/ExpAAB.yaml:4`."""

    node: yaml.Node
    origin: str


class Tree(dict[str, "Leaf | Tree"]):
    """A mapping as written, and where."""

    def __init__(self, items: Any = (), origin: str = "") -> None:
        super().__init__(items)
        self.origin = origin


def read_tree(path: Path, shown: str) -> Tree:
    """Returns the mapping in a YAML file; `shown` is the file's name in origins and errors.

    Raises:
        UserError: the file is not YAML, not a mapping, or gives a key twice.
    """
    node = compose_file(path, shown)
    if node is None:
        return Tree(origin=shown)
    if not isinstance(node, yaml.MappingNode):
        raise UserError(f"{origin_of(shown, node)}: found {quote(node)}, expected lines of KEY: value")
    return mapping_tree(node, shown)


def mapping_tree(node: yaml.MappingNode, shown: str, path: str = "", begins: str = "") -> Tree:
    """Returns a mapping node as a tree; refuses a key that appears twice (PyYAML would silently keep the last).

    `shown` (the file), `path` (the dotted key of the mapping) and `begins` (where the key is) are for origins and
    messages.
    """
    tree = Tree(origin=begins or origin_of(shown, node))
    for key_node, value in node.value:
        origin = origin_of(shown, key_node)
        if not isinstance(key_node, yaml.ScalarNode) or not key_node.value:
            group = f" in {path}" if path else ""
            raise UserError(f"{origin}: found {quote(key_node)} as a key{group}, expected a word: KEY: value")
        key = key_node.value
        here = join(path, key)
        if key in tree:
            first = f", first at {tree[key].origin}" if tree[key].origin != origin else ""
            raise UserError(f"{origin}: {here} is given twice{first}; keep one")
        is_group = isinstance(value, yaml.MappingNode)
        tree[key] = mapping_tree(value, shown, here, origin) if is_group else Leaf(value, origin)
    return tree


def merge(parent: Tree, child: Tree) -> Tree:
    """Returns `parent` overridden by `child`: mappings merge, lists and scalars replace."""
    merged = Tree(parent, parent.origin)
    for key, value in child.items():
        old = merged.get(key)
        merged[key] = merge(old, value) if isinstance(old, Tree) and isinstance(value, Tree) else value
    return merged


def override_tree(assignments: Iterable[str]) -> Tree:
    """Returns the tree of command line overrides.

    >>> override_tree(["SOLVER.MAX_LR=5e-4", "SOLVER={POWER: 2}"])["SOLVER"].keys()
    dict_keys(['MAX_LR', 'POWER'])

    Raises:
        UserError: an assignment that is not KEY=VALUE, or a key that is given twice.
    """
    tree = Tree(origin=COMMAND_LINE)
    given: list[str] = []
    for assignment in assignments:
        one = _assignment_tree(assignment)
        for key in leaf_origins(one):
            # SOLVER=1 SOLVER.POWER=2 give SOLVER.POWER twice, too.
            if is_below(key, given) or any(is_below(other, (key,)) for other in given):
                raise UserError(f"{COMMAND_LINE}: {key} is given twice; keep one")
        given += leaf_origins(one)
        tree = merge(tree, one)
    return tree


def _assignment_tree(assignment: str) -> Tree:
    key, equals, text = assignment.partition("=")
    if not equals or not all(key.split(".")) or text.startswith("="):
        raise UserError(f"{assignment[:60]!r}: an override is written KEY=VALUE, for example SOLVER.MAX_LR=5e-4")
    try:
        node = compose_text(text, f"{COMMAND_LINE}: {key}")
    except UserError as error:
        raise UserError(f"{error}; quote text that contains YAML syntax: {key}=\"'...'\"") from None
    value: Leaf | Tree = Leaf(node or yaml.ScalarNode("", ""), COMMAND_LINE)
    if isinstance(node, yaml.MappingNode):
        value = mapping_tree(node, COMMAND_LINE, key)
    for part in reversed(key.split(".")):
        value = Tree({part: value}, COMMAND_LINE)
    return value


def build(tree: Tree, schema: type) -> Any:
    """Returns the dataclass `schema` filled from a tree.

    Field `max_lr` is read from key `MAX_LR`. A field without default is required.

    Raises:
        UserError: an unknown or missing key, or a value of a wrong type or range; with its origin.
    """
    unknown = list(_unknown_keys(tree, schema, schema))
    if unknown:
        raise UserError("\n".join(unknown))
    return _build(tree, schema)


def _build(tree: Tree, schema: type, path: str = "") -> Any:
    hints = _hints(schema)
    values = {}
    for field in fields(schema):
        here = join(path, key_of(field.name))
        value = tree.get(key_of(field.name))
        if value is None and field.default is MISSING and field.default_factory is MISSING:
            raise UserError(f"{tree.origin}: {here} is missing; add it")
        if value is not None:
            values[field.name] = _build_field(value, hints[field.name], here)
    return schema(**values)


@functools.cache
def _hints(schema: type) -> dict[str, Any]:
    """Returns the types of a dataclass's fields: its annotations are text, which is evaluated once."""
    return typing.get_type_hints(schema, include_extras=True)


def _build_field(value: Leaf | Tree, expected: Any, here: str) -> Any:
    options, group = _options(expected), _group_of(expected)
    words = next((option for option in options if typing.get_origin(option) is dict), None)
    if isinstance(value, Tree) and group:
        return _build(value, group, here)
    if isinstance(value, Tree) and words:
        _, one = typing.get_args(words)
        return {key: _build_field(item, one, join(here, key)) for key, item in value.items()}
    if isinstance(value, Tree):
        raise UserError(f"{value.origin}: {here}: found a group of keys, expected one value")
    plain = tuple(option for option in options if option not in (group, words))
    try:
        if not plain:
            raise Mismatch
        return coerce(value.node, typing.Union[plain])  # noqa: UP007
    except Mismatch as mismatch:
        why = str(mismatch)
        if set(plain) <= {type(None)}:
            keys = ", ".join(key_of(field.name) for field in fields(group)) if group else "WORD: value"
            why = f"found {quote(value.node)}, expected a group of keys: {keys}"
        raise UserError(f"{value.origin}: {here}: {why}") from None


def _group_of(expected: Any) -> type | None:
    """Returns the dataclass that a field is, or may be; None: it is never a group of keys."""
    return next(filter(is_dataclass, _options(expected)), None)


def _group_of_items(expected: Any) -> type | None:
    """Returns the dataclass that the values of a mapping with free keys are, or may be."""
    words = next((option for option in _options(expected) if typing.get_origin(option) is dict), None)
    return _group_of(typing.get_args(words)[1]) if words else None


def _options(expected: Any) -> tuple[Any, ...]:
    return typing.get_args(expected) if typing.get_origin(expected) in UNIONS else (expected,)


def _unknown_keys(tree: Tree, schema: type, root: type, path: str = "") -> Iterator[str]:
    """Yields an error message for each key in `tree` that is not in the schema, that of the group `path` of `root`."""
    hints = _hints(schema)
    known = {key_of(field.name): hints[field.name] for field in fields(schema)}
    for key, value in tree.items():
        if key not in known:
            leaves = list(leaf_origins(Tree({key: value}), path)) or [join(path, key)]
            here = leaves[0] if len(leaves) == 1 else join(path, key)
            yield f"{value.origin}: unknown key {here}; {_unknown_hint(path, key, here, list(known), _all_keys(root))}"
        elif isinstance(value, Tree) and (group := _group_of(known[key])):
            yield from _unknown_keys(value, group, root, join(path, key))
        elif isinstance(value, Tree) and (group := _group_of_items(known[key])):
            for name, item in value.items():
                if isinstance(item, Tree):
                    yield from _unknown_keys(item, group, root, join(join(path, key), name))


def _unknown_hint(path: str, key: str, here: str, known: list[str], all_keys: list[str]) -> str:
    """Returns what was probably meant by an unknown key: the nearest in its group, or the same word elsewhere."""
    if join(path, key) in all_keys:  # a dotted key can only come from a file
        return f"in a file groups are nested: {': {'.join(key.split('.'))}: ...{'}' * key.count('.')}"
    if plain_word(here) == "base":
        return "did you mean BASE?"
    whole, last = {}, {}
    for name in all_keys:
        whole[name], last[name] = plain_word(name), plain_word(name.rpartition(".")[2])
    word, near = (
        plain_word(key),
        nearest(key, last.values(), cutoff=0.75),
    )  # in other groups short words are often alike
    for meant in (
        [name for name in all_keys if f".{whole[name]}".endswith(f".{plain_word(here)}")],
        [join(path, option) for option in known if plain_word(option) == word],
        [name for name in all_keys if last[name] == word],
        [join(path, option) for option in nearest(key, known)],
        [name for name in all_keys if last[name] in near],
    ):
        if 1 <= len(meant) <= 3:
            return f"did you mean {' or '.join(meant)}?"
    return f"the keys of this group are {', '.join(known)}"


def _all_keys(schema: type, path: str = "") -> list[str]:
    """Returns the dotted names of all groups and keys of a schema."""
    names = []
    for name, expected in _hints(schema).items():
        here = join(path, key_of(name))
        names += [here, *(_all_keys(group, here) if (group := _group_of(expected)) else [])]
    return names


def leaf_origins(tree: Tree, path: str = "") -> dict[str, str]:
    """Returns `{"SOLVER.MAX_LR": "configs/base.yaml:90", ...}` for every leaf."""
    origins = {}
    for key, value in tree.items():
        here = join(path, key)
        origins |= leaf_origins(value, here) if isinstance(value, Tree) else {here: value.origin}
    return origins


def value_origins(tree: Tree, values: Mapping[str, Any]) -> dict[str, str]:
    """Returns where each leaf was written, and for a key whose value is a group the last of its leaves."""
    origins = leaf_origins(tree)
    for key in values.keys() - origins.keys():
        within = [origin for leaf, origin in origins.items() if leaf.startswith(f"{key}.")]
        group = functools.reduce(lambda node, part: node[part], key.split("."), tree)
        origins[key] = within[-1] if within else group.origin
    return origins


def key_of(name: str) -> str:
    """Returns the key of a schema's field; one that Python keeps for itself has an underscore behind it.

    >>> key_of("max_lr"), key_of("from_")
    ('MAX_LR', 'FROM')
    """
    return name.rstrip("_").upper()


def join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def first_repeated(items: Sequence) -> Any:
    """Returns the first item that a sequence has twice, or None.

    >>> first_repeated(["car", "road", "car"]), first_repeated([])
    ('car', None)
    """
    return next((item for item in items if items.count(item) > 1), None)


def refuse(origins: Mapping[str, str], key: str, why: str, default: str = "config") -> NoReturn:
    """Raises the UserError about a key's value; `default` is the origin of a key that no file sets."""
    raise UserError(f"{origins.get(key, default)}: {key}: {why}")
