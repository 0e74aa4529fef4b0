"""Which config is derived from which: the parent of each by BASE, and its competition. Needs no torch.

In: the files of `configs/`. Out: `Relative`s by name. No value is checked: a config that would be refused when it is
run has its place nevertheless.
"""

from __future__ import annotations

from dataclasses import dataclass

import yaml

from pipeline.config import load
from pipeline.config.tree import Leaf, Tree, read_tree
from pipeline.errors import UserError

ROOT = "base"  # configs/base.yaml, from which all are derived


@dataclass(frozen=True)
class Relative:
    """A config among others.

    Attributes:
        base: the name of its parent; "base" where it has no other.
        competition: its own or the nearest ancestor's; "" where none names one.
    """

    base: str
    competition: str


def read_family() -> dict[str, Relative]:
    """Returns every config that can be read, by name."""
    own = {name: known for name in (ROOT, *load.names()) if (known := _read(name)) is not None}
    return {name: Relative(base, _inherited(name, own)) for name, (base, _) in own.items() if name != ROOT}


def _read(name: str) -> tuple[str, str] | None:
    """Returns BASE and DATASETS.COMPETITION of a file, "" where it does not set one; None where it is no YAML."""
    try:
        tree = read_tree(load.CONFIGS / f"{name}.yaml", name)
    except (UserError, OSError, UnicodeDecodeError):
        return None
    datasets = tree.get("DATASETS")
    competition = datasets.get("COMPETITION") if isinstance(datasets, Tree) else None
    return _text(tree.get("BASE")) or ROOT, _text(competition)


def _text(value: object) -> str:
    is_scalar = isinstance(value, Leaf) and isinstance(value.node, yaml.ScalarNode)
    return value.node.value if is_scalar else ""


def _inherited(name: str, own: dict[str, tuple[str, str]]) -> str:
    """Returns the competition of the nearest config up the chain that names one."""
    seen: set[str] = set()
    while name in own and name not in seen:
        seen.add(name)
        base, competition = own[name]
        if competition:
            return competition
        name = base
    return ""
