"""Masks that a competition stores as run lengths in a csv: read once, in any usual form, decoded when they are needed.

In: `MASKS: {CSV: train.csv, ...}` of the descriptor. Out: bool masks by class. Several rows of an image and a class are
joined. An image without a row has an empty mask, as has one whose text is blank, NaN, -1 or a dash.

Letters: H height, W width.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pipeline.config.competition import BINARY_CLASS, IGNORE, Competition, Convention, MaskCsv
from pipeline.data.csv_file import read_csv
from pipeline.data.problems import Problem, make_problem
from pipeline.segmentation.submission.rle import RleError, Runs, decode_classes, parse_runs

NO_RUNS = frozenset(("", "-1", "-", "nan", "none", "null", "na"))  # in lower case: texts of an empty mask


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
        found: dict[int, np.ndarray] = {}
        for line, class_index, text in self.rows.get(image_id, ()):
            try:
                mask = decode_classes([text], height, width, self.convention)
                own = np.equal(mask, 0, out=mask.view(bool))  # in place: a mask may have a gigapixel
            except RleError as error:
                raise RleError(f"line {line}: {error}") from None
            found[class_index] = found[class_index] | own if class_index in found else own
        return found

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

    Args:
        folder: of the competition.
        convention: how the texts are read.
    """
    spec: MaskCsv = competition.masks
    lines, problems = read_csv(folder / spec.csv, spec.csv, {}, competition.name, "MASKS.CSV")
    rows: dict[str, list[RunRow]] = {}
    if not lines:
        return RunTable(spec.csv, {}, convention), problems
    header = list(lines[0][1])
    id_column, value_column = spec.id_column or competition.id_column, _value_column(header, spec, competition)
    problems += _missing_columns(header, id_column, value_column, spec, competition.name)
    if problems:
        return RunTable(spec.csv, {}, convention), problems
    indices = index_by_label(competition)
    for line, cells in lines:
        image_id, label = cells[id_column], cells[spec.class_column] if spec.class_column else ""
        if spec.rows == "id_class":
            image_id, _, label = image_id.rpartition("_")
        text = " ".join(cells[value_column].split())
        if text.casefold() in NO_RUNS:
            continue
        class_index = indices.get(label.casefold())
        if class_index is None:
            known = ", ".join(competition.labels)
            found = f"line {line}: class {label!r}; the labels of the classes are {known}"
            problems.append(make_problem("class unknown", spec.csv, found, competition=competition.name))
            continue
        rows.setdefault(image_id, []).append(RunRow(line, class_index, text))
    unread = tuple(name for name in header if name not in (id_column, value_column, spec.class_column))
    return RunTable(spec.csv, rows, convention, unread), problems


def _value_column(header: list[str], spec: MaskCsv, competition: Competition) -> str:
    """Returns the column of run lengths: the one that is named, or the only one that is left."""
    left = [name for name in header if name not in (spec.id_column or competition.id_column, spec.class_column)]
    return spec.value_column or (left[0] if len(left) == 1 else competition.convention.value_column)


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
    indices |= {label.casefold(): index for index, label in enumerate(competition.labels)}
    indices = {label: IGNORE if index == competition.ignore_index else index for label, index in indices.items()}
    scored = competition.scored_indices
    return indices | {"": scored[0] if len(scored) == 1 else BINARY_CLASS}
