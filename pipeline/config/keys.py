"""Dotted keys of a config, such as SOLVER.MAX_LR."""

from __future__ import annotations

from collections.abc import Iterable


def is_below(key: str, prefixes: Iterable[str]) -> bool:
    """Returns whether a dotted key is one of the prefixes or lies below one.

    >>> is_below("SOLVER.MAX_LR", ["SOLVER"]), is_below("SOLVERS", ["SOLVER"])
    (True, False)
    """
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
