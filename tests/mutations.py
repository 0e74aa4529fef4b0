"""Changes of files that an editor, a spreadsheet, a disk or an attacker makes: in structure, by line and by byte.

From a file's name and content and a generator: `.yaml` and `.json` by nodes of their tree, `.csv` and `.txt` by cells,
everything else by bytes. The same generator gives the same change.
"""

from __future__ import annotations

import copy
import csv
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath
from typing import Any

import yaml

from tests.damages import cut, flip, zero_page

# What a hurried person or an unfriendly one writes as a value in YAML.
ODD_YAML = (
    *("", "~", "null", "None", "NO", "yes", "true", "True", "on", "0", "-0", "1", "-1", "1e3", "5e-5", "1e999"),
    *("-1e-320", ".5", "0x10", "010", "1_000", "1:30", "nan", ".inf", "inf", "١٢", "9" * 30, "9" * 5000),
    *("2021-01-01", "all", "auto", "[]", "[[]]", "{}", "[1, 2", "{A: 1}", "{A: 1, A: 2}", "[1280, 720, 2, 2]"),
    *("[[1280, 720, 1, 1]]", "[10.0, 50.0]", "[Car]", "*a", "&a x", "!!python/object/apply:os.system [ls]", "!x"),
    *("@x", "%x", "`x`", "'", '"', '"\\x00"', "- x", '"\\ud800"', "? x", "x: y", "x # y", "|", ">", "---", "..."),
    *("<<", "=", "../x", "/etc/passwd", "x" * 300, "[" * 500, "{a: " * 500, "\t", "\\", "camvid", "demo"),
    *("one_cycle", "poly_warmup", "yolox_frozen", "cityscapes_freeze", "base", "0.7 ce + 0.3 dice", "ce +"),
)
# Names that readers of tables, plots, terminals, templates and file systems take for something else.
ODD_NAMES = (
    *("NA", "nan", "null", "None", "True", "1e5", "007", "-", " x", "x ", "$x^{$", "{stem}", "{id}", "%s", "\x1b[31mx"),
    *("e\u0301", "\u00e9", "\u65e5\u672c\u8a9e", "\u202ex", "x" * 200, "=1+1", "<b>x", "a'b", 'a"b', "a,b", "a;b"),
    *("..", "../x", "/x", "a\\b", "\U0001f600", "*", "[x]", "a b", "#x", "\u2028", ""),
)
ODD_NUMBERS = (0, -1, 1, 2, 3, 255, 256, 65536, 10**6, 2**31, 2**63, 10**20, 0.5, -0.5, 1e-300, 1e300)
ODD_VALUES = (None, True, False, [], {}, [[]], [None], {"a": None}, *ODD_NUMBERS, *ODD_NAMES)
NOT_NUMBERS = (float("nan"), float("inf"), -float("inf"))

Path = tuple[Any, ...]


def nodes_of(tree: Any, path: Path = ()) -> Iterator[Path]:
    """Yields the path of every node below the top of nested lists and dictionaries.

    >>> list(nodes_of({"a": [1, 2]}))
    [('a',), ('a', 0), ('a', 1)]
    """
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, value in list(items):
        yield (*path, key)
        yield from nodes_of(value, (*path, key))


def value_at(tree: Any, path: Path) -> Any:
    """Returns the node at a path.

    >>> value_at({"a": [1, 2]}, ("a", 1))
    2
    """
    for key in path:
        tree = tree[key]
    return tree


def odd_value(value: Any, rng: random.Random) -> Any:
    """Returns a value in place of another: of another type, an absurd number near it, or an odd name."""
    kind = rng.randrange(4)
    if kind == 0 and isinstance(value, int | float) and not isinstance(value, bool):
        factor = rng.choice((-1, 0, 0.5, 1.5, 2, 10, 1000, 10**9, 1e-9))
        try:
            return type(value)(value * factor)
        except (OverflowError, ValueError):  # of what is infinite or no number already
            return 0
    if kind == 0 and isinstance(value, str):
        return rng.choice((value.upper(), value + rng.choice(ODD_NAMES), value[: len(value) // 2], value * 3, [value]))
    if kind == 1:
        return rng.choice((str(value), [value], {"x": value}, None))
    return rng.choice((*ODD_VALUES, *NOT_NUMBERS) if kind == 2 else ODD_NAMES)


TOP_SHARE = 0.4  # of the changes that concern a key at the top, of which there are few beside all nodes below


def change_tree(tree: Any, rng: random.Random) -> Any:
    """Returns nested content with one node replaced, removed, doubled, renamed or moved; `tree` is changed."""
    paths = list(nodes_of(tree))
    if not paths or rng.random() < 0.03:
        return odd_value(tree, rng)
    top = [path for path in paths if len(path) == 1]
    path = rng.choice(top if rng.random() < TOP_SHARE else paths)
    parent, key = value_at(tree, path[:-1]), path[-1]
    change = rng.choice(("replace", "replace", "replace", "remove", "double", "rename", "move"))
    if change == "remove":
        del parent[key]
    elif change == "double" and isinstance(parent, list):
        parent.insert(key, parent[key])
    elif change == "rename" and isinstance(parent, dict):
        parent[rng.choice((f"{key}s", f"{key} ", "x", None, 1, *ODD_NAMES))] = parent.pop(key)
    elif change == "move":
        parent[key] = copy.deepcopy(value_at(tree, rng.choice(paths)))
    else:
        parent[key] = odd_value(parent[key], rng)
    return tree


def change_json(data: bytes, rng: random.Random) -> bytes:
    """Returns a JSON file with one to three nodes changed."""
    tree = json.loads(data)
    for _ in range(rng.randint(1, 3)):
        tree = change_tree(tree, rng)
    return json.dumps(_with_plain_keys(tree)).encode()


def _with_plain_keys(tree: Any) -> Any:
    if isinstance(tree, dict):
        return {str(key): _with_plain_keys(value) for key, value in tree.items()}
    return [_with_plain_keys(value) for value in tree] if isinstance(tree, list) else tree


def change_yaml(data: bytes, rng: random.Random) -> bytes:
    """Returns a YAML file with nodes changed, or with the value of one line replaced as people type it."""
    if rng.random() < 0.5:
        lines = data.decode().splitlines()
        places = [number for number, line in enumerate(lines) if ":" in line.partition("#")[0]]
        if places:
            number = rng.choice(places)
            key = lines[number].partition(":")[0]
            lines[number] = f"{key}: {rng.choice(ODD_YAML)}"
            return "\n".join([*lines, ""]).encode()
    tree = yaml.safe_load(data)
    for _ in range(rng.randint(1, 2)):
        tree = change_tree(tree, rng)
    try:
        return yaml.safe_dump(tree, allow_unicode=rng.random() < 0.5, sort_keys=False).encode()
    except (yaml.YAMLError, TypeError):  # a key that YAML cannot write
        return repr(tree).encode()


def change_csv(data: bytes, rng: random.Random) -> bytes:
    """Returns a table with cells, rows or columns changed, or with another separator or coding."""
    rows = list(csv.reader(io.StringIO(data.decode(), newline="")))
    if not rows:
        return data
    change = rng.choice(("cell", "cell", "cell", "cell", "row gone", "row twice", "column", "header", "form"))
    number = rng.randrange(len(rows))
    if change == "row gone":
        rows = rows[:number] + rows[number + 1 :] if rng.random() < 0.7 else rows[:1]
    elif change == "row twice":
        rows.insert(number, rows[rng.randrange(len(rows))])
    elif change == "column":
        column = rng.randrange(max(1, len(rows[0])))
        rows = [row[:column] + row[column + 1 :] for row in rows]
    elif change == "form":
        text = data.decode()
        other = rng.choice((text.replace(",", ";"), text.replace("\n", "\r"), text.replace("\n", "\r\n\r\n"), text * 2))
        return other.encode(rng.choice(("utf-8", "utf-8-sig", "utf-16", "latin-1")), "replace")
    else:
        row = rows[0 if change == "header" else number]
        for _ in range(rng.randint(1, 2)):
            if row:
                place = rng.randrange(len(row))
                row[place] = str(odd_value(_number_in(row[place]), rng))
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode("utf-8", "replace")


def _number_in(cell: str) -> str | float:
    try:
        return float(cell)
    except ValueError:
        return cell


def change_bytes(data: bytes, rng: random.Random) -> bytes:
    """Returns a file cut, with bits flipped, zeroed, lengthened or replaced."""
    if not data:
        return rng.randbytes(8)
    change = rng.choice((cut, flip, flip, zero_page, _several, _insert, _empty, _random))
    return change(data, rng)


def _several(data: bytes, rng: random.Random) -> bytes:
    for _ in range(rng.randint(2, 12)):
        data = flip(data, rng)
    return data


def _insert(data: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(data))
    more = rng.choice((data[place : place + 40], rng.randbytes(4), b"\0" * 9, b"\xff\xfe", b"\n\n", b"9" * 40))
    return data[:place] + more + data[place + rng.choice((0, len(more))) :]


def _empty(data: bytes, rng: random.Random) -> bytes:
    return rng.choice((b"", b"\n", b" ", b"\0", b"[]", b"{}", b"null", b"0", b'""', b"\xef\xbb\xbf"))


def _random(data: bytes, rng: random.Random) -> bytes:
    return rng.randbytes(rng.choice((1, 8, 100)))


STRUCTURED: dict[str, Callable[[bytes, random.Random], bytes]] = {
    ".yaml": change_yaml,
    ".json": change_json,
    ".csv": change_csv,
    ".txt": change_csv,
}
STRUCTURED_SHARE = 0.8  # of the changes of files that have a structure


def change_file(name: str, data: bytes, rng: random.Random) -> bytes:
    """Returns other content for a file, by what its name says that it is."""
    structured = STRUCTURED.get(PurePosixPath(name).suffix)
    if structured is not None and rng.random() < STRUCTURED_SHARE:
        try:
            return structured(data, rng)
        except (ValueError, yaml.YAMLError):  # not what its name says
            pass
    return change_bytes(data, rng)
