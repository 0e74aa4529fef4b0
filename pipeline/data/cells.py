"""What single cells of a list mean: a text without a mask, an outline, a class beside other words."""

from __future__ import annotations

import re

NO_RUNS = frozenset(("", "-1", "-", "nan", "none", "null", "na"))  # in lower case: texts of an empty mask
NO_PIXEL = re.compile(r"\d+ 0")  # a run of no pixel, as SenNet writes an empty mask
WKT = re.compile(r"(MULTI)?POLYGON\b|\[\[", re.IGNORECASE)  # how outlines begin: well-known text, JSON


def is_empty(text: str) -> bool:
    """Returns whether a text is that of an empty mask: none, a word for it, or one run of no pixel.

    >>> [is_empty(text) for text in ("", "NaN", "1 0", "1 1", "1 0 5 2")]
    [True, True, True, False, False]
    """
    return text.casefold() in NO_RUNS or NO_PIXEL.fullmatch(text) is not None


def class_text(cell: str, pattern: str | None) -> str:
    """Returns the class in a cell: the group of CLASS_PATTERN, or all of the cell where it does not match.

    >>> class_text("12_3_45", "^([0-9]+)"), class_text("12", None)
    ('12', '12')
    """
    match = re.search(pattern, cell) if pattern else None
    return (match[1] or "") if match else cell
