"""How many near-duplicates of a validation image are listed; apart from `leakage.py`, which needs pandas."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

MOST_LISTED = 20  # near-duplicates of one validation image; of blank tiles every pair is one


def is_capped(valid_ids: Iterable[str]) -> bool:
    """Returns whether a list of pairs, by their valid_id, may leave out some: one image has `MOST_LISTED` or more.

    >>> is_capped(["a"] * 19 + ["b"] * 19), is_capped(["a"] * 20)
    (False, True)
    """
    return max(Counter(valid_ids).values(), default=0) >= MOST_LISTED
