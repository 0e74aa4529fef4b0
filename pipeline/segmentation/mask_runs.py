"""Masks that a competition stores as run lengths in a csv: read once, in any usual form, decoded when they are needed.

In: `MASKS: {CSV: train.csv, ...}` of the descriptor. Out: bool masks by class. Several rows of an image and a class are
joined. An image without a row has an empty mask, as has one whose text is blank, NaN, -1 or a dash.

Letters: H height, W width.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.config.competition import BINARY_CLASS, IGNORE, Competition, Convention, MaskCsv, split_row
from pipeline.config.template import CONVERT
from pipeline.data.cells import WKT, class_text, is_empty
from pipeline.data.csv_file import read_csv
from pipeline.data.problems import Problem, make_problem
from pipeline.files import stamp_of
from pipeline.segmentation.submission.rle import RleError, Runs, decode_joined, parse_runs


class RunRow(NamedTuple):
    """One row of a csv: its line, the index of its class, and its run lengths with one space between numbers."""

    line: int
    class_index: int
    text: str


@dataclass(frozen=True)
class RunTable:
    """The rows of a csv by image id. `convention` says how they are read; a row without a pixel is left out.

    Attributes:
        unread: columns that nothing is read from.
    """

    file: str
    rows: dict[str, list[RunRow]]
    convention: Convention
    unread: tuple[str, ...] = ()

    def masks(self, image_id: str, height: int, width: int) -> dict[int, np.ndarray]:
        """Returns the pixels of each class that an image has: bool (H, W) by class index.

        Raises:
            RleError: a text does not decode; names the line.
        """
        found: dict[int, list[Runs]] = {}
        for class_index, runs in self.parsed(image_id, height * width):
            found.setdefault(class_index, []).append(runs)
        order = self.convention.order
        return {class_index: decode_joined(own, height, width, order) for class_index, own in found.items()}

    def objects(self, image_id: str, height: int, width: int) -> Iterator[tuple[int, np.ndarray]]:
        """Yields class index and pixels, bool (H, W), of each row of an image, in the order of the classes.

        Raises:
            RleError: a text does not decode; names the line.
        """
        for class_index, runs in self.parsed(image_id, height * width):
            yield class_index, decode_joined([runs], height, width, self.convention.order)

    def parsed(self, image_id: str, num_pixels: int) -> list[tuple[int, Runs]]:
        """Returns (class index, runs) of each row of an image, by class index.

        Raises:
            RleError: a text does not decode; names the line.
        """
        found = []
        for line, class_index, text in self.rows.get(image_id, ()):
            try:
                found.append((class_index, parse_runs(text, num_pixels, self.convention)))
            except RleError as error:
                raise RleError(f"line {line}: {error}") from None
        return sorted(found, key=lambda pair: pair[0])

    def content(self, image_id: str) -> str:
        """Returns a hash of the rows of an image and of how they are read."""
        rows = [f"{row.class_index} {row.text}" for row in self.rows.get(image_id, ())]
        return hashlib.sha256("\n".join([repr(self.convention), *rows]).encode()).hexdigest()


def read_runs(folder: Path, competition: Competition, convention: Convention) -> tuple[RunTable, list[Problem]]:
    """Returns the rows of the csv that MASKS names, and what is wrong with it.

    The file is parsed once in a process, and again where it has changed.

    Args:
        folder: of the competition.
        convention: how the texts are read.
    """
    spec: MaskCsv = competition.masks
    names = (spec.id_column or competition.id_column, competition.convention.value_column, competition.name)
    path, indices = folder / spec.csv, tuple(index_by_label(competition).items())
    rows, unread, problems = _parse(path, stamp_of(path), spec, names, indices, ", ".join(competition.label_texts))
    return RunTable(spec.csv, rows, convention, unread), list(problems)


@lru_cache(maxsize=1)  # each stage of a run asks for the same file, most of them several times
def _parse(
    path: Path,
    stamp: tuple[int, ...] | None,
    spec: MaskCsv,
    names: tuple[str, str, str],
    indices: tuple[tuple[str, int], ...],
    labels: str,
) -> tuple[dict[str, list[RunRow]], tuple[str, ...], list[Problem]]:
    """Returns the rows of a csv by image id, its columns that nothing is read from, and what is wrong with it.

    Args:
        stamp: of the file: with another one it is parsed again.
        names: column of the ids, column of the run lengths where several are left, and the competition's name.
        indices: what `index_by_label` returned.
        labels: of the classes, for messages.
    """
    id_column, usual_column, name = names
    lines, problems = read_csv(path, spec.csv, {}, name, "MASKS.CSV")
    rows: dict[str, list[RunRow]] = {}
    if not lines:
        return rows, (), problems
    header = list(lines[0][1])
    left = [column for column in header if column not in (id_column, spec.class_column)]
    value_column = spec.value_column or (left[0] if len(left) == 1 else usual_column)
    problems += _missing_columns(header, id_column, value_column, spec, name)
    if problems:
        return rows, (), problems
    known = dict(indices)
    for line, cells in lines:
        image_id, label = cells[id_column], cells[spec.class_column] if spec.class_column else ""
        if spec.rows == "id_class":
            image_id, label = split_row(image_id, known)
        label = class_text(label, spec.class_pattern)
        text = " ".join(cells[value_column].split())
        if is_empty(text):
            continue
        if WKT.match(text):
            problems.append(make_problem("polygons", spec.csv, f"line {line}: {text[:30]!r}", convert=CONVERT))
            return {}, (), problems
        class_index = known.get(label.casefold())
        if class_index is None:
            found = f"line {line}: class {label!r}; the labels of the classes are {labels}"
            problems.append(make_problem("class unknown", spec.csv, found, competition=name))
            continue
        rows.setdefault(image_id, []).append(RunRow(line, class_index, text))
    unread = tuple(column for column in header if column not in (id_column, value_column, spec.class_column))
    return rows, unread, problems


def _missing_columns(header: list[str], id_column: str, value_column: str, spec: MaskCsv, name: str) -> list[Problem]:
    named = {id_column: "ID_COLUMN", value_column: "MASKS.VALUE_COLUMN"}
    named |= {spec.class_column: "MASKS.CLASS_COLUMN"} if spec.class_column else {}
    found = f"columns {', '.join(map(repr, header))}"
    return [
        make_problem("column missing", spec.csv, found, column=column, key=key, competition=name)
        for column, key in named.items()
        if column not in header
    ]


def index_by_label(competition: Competition) -> dict[str, int]:
    """Returns the mask value of each label and name, in lower case: `IGNORE` for the ignored class.

    That of "" is the one class that is submitted.
    """
    indices = {name.casefold(): index for index, name in enumerate(competition.classes)}
    indices |= {label.casefold(): index for index, label in enumerate(competition.label_texts)}
    indices = {label: IGNORE if index == competition.ignore_index else index for label, index in indices.items()}
    scored = competition.scored_indices
    return indices | {"": scored[0] if len(scored) == 1 else BINARY_CLASS}
