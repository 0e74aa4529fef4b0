"""The small files of a run as columns and mappings.

Needs neither pandas nor NumPy, so that `./run.sh list` stays quick.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.paths import MARKERS, TILES

Columns = Mapping[str, Sequence[str]]

PUBLISHED = re.compile(r"^Published: (?:validation )?(\w+) (\d+\.\d+)")


@dataclass(frozen=True)
class Header:
    """The comment lines that open a config: its question, and the score that was published for it.

    Attributes:
        published_label: which score that is, such as "Dice".
    """

    question: str
    published: float | None
    published_label: str


@dataclass(frozen=True)
class ClassRow:
    """A line of classes.csv."""

    name: str
    color: tuple[int, int, int]
    images: int
    valid_images: int
    pixels: int
    pixel_share: float


def read_columns(path: Path) -> dict[str, list[str]] | None:
    """Returns a CSV as text by column, every cell as written, or None when there is no such file."""
    if not path.is_file():
        return None
    with open(path, encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.reader(file)
        header = next(reader, [])
        rows = [row for row in reader if len(row) == len(header)]
    return {name: [row[index] for row in rows] for index, name in enumerate(header)}


def read_json(path: Path, kind: type = dict) -> Any:
    """Returns the content of a JSON file, or None when there is no such file or it holds no `kind`."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return content if isinstance(content, kind) else None


def numbers(cells: Iterable[str]) -> list[float]:
    """Returns cells as numbers; an empty one, which stands for "not known", becomes NaN.

    >>> numbers(["0.5", "", "3"])
    [0.5, nan, 3.0]
    """
    return [float(cell) if cell.strip() else math.nan for cell in cells]


def read_steps_per_epoch(run_folder: Path, batch_size: int, drop_last: bool) -> int | None:
    """Returns the optimizer steps of an epoch, or None before the run has tiles."""
    samples = (read_json(run_folder / TILES) or {}).get("samples_per_epoch")
    return None if samples is None else max(1, samples // batch_size if drop_last else -(-samples // batch_size))


def read_classes(path: Path) -> list[ClassRow] | None:
    """Returns the lines of classes.csv, or None when it is not there yet."""
    columns = read_columns(path)
    if columns is None:
        return None
    counts = (map(int, columns[name]) for name in ("images", "valid_images", "pixels"))
    colors = zip(*(map(int, columns[channel]) for channel in ("red", "green", "blue")), strict=True)
    return list(map(ClassRow, columns["name"], colors, *counts, map(float, columns["pixel_share"])))


def read_header(path: Path) -> Header:
    """Returns the question and the published score from the comments that open a config."""
    comments: list[str] = []
    # A file that is not UTF-8 is refused when its experiment is run; the list shows all the others nevertheless.
    with open(path, encoding="utf-8-sig", errors="replace") as file:
        for line in file:
            if not line.startswith("#"):
                break
            comments.append(line.lstrip("#").strip())
    found = next(filter(None, map(PUBLISHED.match, comments)), None)
    question = comments[0] if comments else ""
    return Header(question, float(found[2]), found[1]) if found else Header(question, None, "")


def read_config(path: Path) -> dict[str, Any] | None:
    """Returns the resolved config of a run as `{"SOLVER.MAX_LR": 0.001, ...}`, or None where it is missing or damaged.

    The file is comments and JSON, see `prepare_folder` in `chain.py`.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
        return flatten_tree(json.loads("\n".join(line for line in lines if not line.startswith("#"))))
    except (OSError, ValueError, AttributeError):
        return None


def read_origin(path: Path) -> tuple[str | None, list[str]]:
    """Returns a run's experiment and the keys overridden on the command line, from the comments of its config."""
    experiment, keys = None, []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        if line.startswith("# Resolved values of "):
            experiment = line.removeprefix("# Resolved values of ").removesuffix(".")
        elif line.startswith("# Overridden on the command line: "):
            keys = line.partition(": ")[2].split(", ")
    return experiment, keys


def flatten_tree(tree: Mapping[str, Any], path: str = "") -> dict[str, Any]:
    """Returns nested mappings as one with dotted keys.

    >>> flatten_tree({"SOLVER": {"MAX_LR": 0.001}})
    {'SOLVER.MAX_LR': 0.001}
    """
    values: dict[str, Any] = {}
    for key, value in tree.items():
        here = f"{path}.{key}" if path else key
        values |= flatten_tree(value, here) if isinstance(value, dict) else {here: value}
    return values


def read_stage_seconds(run_folder: Path) -> dict[str, float]:
    """Returns the stages that a run has finished, by name, with their seconds."""
    markers = {path.stem: read_json(path) or {} for path in sorted((run_folder / MARKERS).glob("*.json"))}
    return {
        name: float(marker["seconds"])
        for name, marker in markers.items()
        if "seconds" in marker and not name.endswith(".begun")
    }


def show_value(value: Any) -> str:
    """Returns a config value as it is written on the command line.

    >>> show_value(None), show_value(True), show_value((1, 2)), show_value(1e-8), show_value("FPN")
    ('null', 'true', '[1, 2]', '1e-08', 'FPN')
    """
    return value if isinstance(value, str) else json.dumps(value)


def two_digits(value: float) -> str:
    """Returns a number with two significant digits, without an exponent where it can.

    >>> two_digits(0.00523), two_digits(131.7), two_digits(1e-7)
    ('0.0052', '130', '1e-07')
    """
    return f"{float(f'{value:.2g}'):g}"


def percent(share: float | None) -> str:
    """Returns a share in per cent, small ones with two significant digits.

    >>> percent(0.317), percent(0.0049), percent(1.0), percent(None)
    ('32 %', '0.49 %', '100 %', '–')
    """
    if share is None:
        return "–"
    return f"{100 * share:.0f} %" if share >= 0.1 else f"{two_digits(100 * share)} %"
