"""Durations, sizes and suggestions in messages, and dotted keys. Standard library only."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Callable, Iterable, Sequence

GIB = 1024**3
# How the names of an image may differ between lists and disks, and how to make them equal; in this order.
NAME_CHANGES: dict[str, Callable[[str], str]] = {
    "Unicode form": lambda name: unicodedata.normalize("NFC", name),  # macOS takes accents apart: NFD
    "invisible characters": lambda name: "".join(one for one in name if unicodedata.category(one) not in ("Cc", "Cf")),
    "spaces": lambda name: "".join(name.split()),
    "letter case": str.casefold,
    "extension": lambda name: re.sub(r"(\.[a-z]{3,4})+$", "", name),
    "leading zeros": lambda name: re.sub(r"(?<!\d)0+(?=\d)", "", name),
}


def duration(seconds: float) -> str:
    """Returns a duration in its two largest units.

    >>> duration(3725), duration(185), duration(8.25)
    ('1 h 2 min', '3 min 5 s', '8.2 s')
    """
    minutes, hours = int(seconds // 60), int(seconds // 3600)
    if hours:
        return f"{hours} h {minutes % 60} min"
    return f"{minutes} min {int(seconds % 60)} s" if minutes else f"{seconds:.1f} s"


def hours_of(text: str) -> float | None:
    """Returns a duration that was typed, in hours; None where it is not one: a number above 0 and its unit.

    >>> hours_of("8.5h"), hours_of("90 min"), hours_of("36s"), hours_of("8.5"), hours_of("0h")
    (8.5, 1.5, 0.01, None, None)
    """
    match = re.fullmatch(r"([0-9]*\.?[0-9]+) ?(h|min|m|s)", text.strip())
    hours = float(match[1]) / {"h": 1, "min": 60, "m": 60, "s": 3600}[match[2]] if match else 0.0
    return hours or None


def size(num_bytes: int) -> str:
    """Returns a number of bytes in its largest unit.

    >>> size(3_000), size(70 * 1024**2), size(5 * 1024**3)
    ('2.9 KiB', '70.0 MiB', '5.0 GiB')
    """
    units = (("GiB", GIB), ("MiB", 1024**2))
    unit, divisor = next(((unit, divisor) for unit, divisor in units if num_bytes >= divisor), ("KiB", 1024))
    return f"{num_bytes / divisor:.1f} {unit}"


def did_you_mean(word: str, known: Iterable[str], otherwise: str, most: int = 1) -> str:
    """Returns a suggestion of known words that are near a misspelt one, or `otherwise`.

    >>> did_you_mean("maxlr", ["MIN_LR", "MAX_LR"], "see base.yaml"), did_you_mean("x", ["MAX_LR"], "see base.yaml")
    ('did you mean MAX_LR?', 'see base.yaml')
    """
    near = nearest(word, known, most)
    return f"did you mean {' or '.join(near)}?" if near else otherwise


def nearest(word: str, known: Iterable[str], most: int = 1, cutoff: float = 0.6) -> list[str]:
    """Returns the known words nearest to a misspelt one; case, underscores and dashes do not matter.

    Args:
        cutoff: similarity from 0 to 1 that a near word must have.

    >>> nearest("maxlr", ["MIN_LR", "MAX_LR", "POWER"])
    ['MAX_LR']
    """
    plain = plain_word(word)
    by_plain = {plain_word(option): option for option in known}
    if plain in by_plain:
        return [by_plain[plain]]
    close = difflib.get_close_matches(plain, by_plain, n=20, cutoff=cutoff)
    # Of equally near words, those with the same beginning come first: ExpAAA before ExpHAA for ExpAAZ.
    ratio = {near: difflib.SequenceMatcher(None, near, plain).ratio() for near in close}
    close.sort(key=lambda near: (-ratio[near], not near.startswith(plain[:-1]), near))
    return [by_plain[near] for near in close[:most]]


def loose_name(name: str, kept: str = "") -> str:
    """Returns a file's name or an id without what cameras, spreadsheets and file systems change.

    Args:
        kept: the one of `NAME_CHANGES` that is not made equal.

    >>> loose_name("000001_012.JPG") == loose_name(" 1_12.jpg") == loose_name("000001_012.jpg.png")
    True
    """
    for what, change in NAME_CHANGES.items():
        name = name if what == kept else change(name)
    return name


def name_difference(name: str, other: str) -> str:
    """Returns in what two names differ that `loose_name` makes equal; "" where it does not.

    >>> name_difference("7.JPG", "07.jpg"), name_difference("caf\\u00e9", "cafe\\u0301"), name_difference("7", "8")
    ('other letter case and leading zeros', 'other Unicode form', '')
    """
    if loose_name(name) != loose_name(other):
        return ""
    return "other " + " and ".join(what for what in NAME_CHANGES if loose_name(name, what) != loose_name(other, what))


def alike_names(names: Sequence[str], known: Iterable[str]) -> dict[str, str]:
    """Returns for each unknown name the end of a message: a similar known name and what differs, or "".

    >>> alike_names(["7.JPG", "9.jpg"], ["07.jpg"])
    {'7.JPG': '; there is 07.jpg (other letter case and leading zeros)', '9.jpg': ''}
    """
    alike = {loose_name(other): other for other in known} if names else {}
    near = {name: alike.get(loose_name(name)) for name in names}
    return {
        name: f"; there is {other} ({name_difference(name, other)})" if other else "" for name, other in near.items()
    }


def similar_name(name: str, known: Iterable[str]) -> str:
    """Returns the end of a message about an unknown name: the most similar of the known ones, and what differs.

    >>> similar_name("img_7", ["img_07", "img_8"]), similar_name("img_7", ["other"])
    ('; did you mean img_07 (other leading zeros)?', '')
    """
    known = list(known)
    similar = [other for other in known if name_difference(name, other)]
    similar = similar or difflib.get_close_matches(name, known, n=1)
    if not similar:
        return ""
    difference = name_difference(name, similar[0])
    return f"; did you mean {similar[0]}{f' ({difference})' if difference else ''}?"


def plain_word(word: str) -> str:
    """Returns a word without case, underscores and dashes.

    >>> plain_word("Max-LR")
    'maxlr'
    """
    return word.replace("_", "").replace("-", "").casefold()


def is_below(key: str, prefixes: Iterable[str]) -> bool:
    """Returns whether a dotted key is one of the prefixes or below one.

    >>> is_below("SOLVER.MAX_LR", ["SOLVER"]), is_below("SOLVER.MAX_LR", ["SOLVER.MAX"])
    (True, False)
    """
    return any(key == prefix or key.startswith(f"{prefix}.") for prefix in prefixes)
