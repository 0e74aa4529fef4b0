"""The convention of a competition from its files: `./run.sh convention NAME RUNS.csv`.

In: the sample submission, a csv of run lengths of training images, their masks. Out: the `CONVENTION` for
`configs/competitions/NAME.yaml`.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import fields, replace
from pathlib import Path

import numpy as np

from pipeline.config.competition import BINARY_CLASS, Competition, Convention, mask_code, mask_file
from pipeline.errors import UserError
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.submission.convention import detect_convention, detect_rows, detect_runs
from pipeline.segmentation.submission.run_lengths import read_cells

MOST_FULL, MOST_EMPTY = 200, 20  # examples that are decoded: more add nothing


def find_convention(
    competition: Competition, folder: Path, runs_csv: Path, train_ids: Collection[str], test_ids: Collection[str]
) -> Convention:
    """Returns the convention of a competition.

    Columns and names of rows are those of the sample submission; where there is none, those of the descriptor.

    Args:
        folder: of the competition.
        runs_csv: run lengths of training images, with a header.

    Raises:
        UserError: the competition's submissions hold no run lengths, or the files leave something open, contradict each
            other, or cannot be read.
    """
    if competition.submission.format != "run_lengths":
        raise UserError(
            f"submissions to {competition.name} hold no run lengths: SUBMISSION.FORMAT is "
            f"{competition.submission.format} in configs/competitions/{competition.name}.yaml"
        )
    sample_path = folder / (competition.sample_submission or "sample_submission.csv")
    naming = {field.name: getattr(competition.convention, field.name) for field in fields(Convention)}
    if not sample_path.is_file():
        runs = detect_runs(list(_examples(competition, folder, runs_csv, set(train_ids), naming)))
        return Convention(**(naming | runs._asdict()))
    naming |= vars(detect_rows(sample_path, list(test_ids)))
    examples = list(_examples(competition, folder, runs_csv, set(train_ids), naming))
    return detect_convention(sample_path, list(test_ids), examples)


def convention_text(found: Convention, competition: Competition) -> str:
    """Returns the lines for the descriptor; a comment marks those that differ from it."""
    lines = [f"CONVENTION:    # of configs/competitions/{competition.name}.yaml"]
    for field in fields(Convention):
        value, described = getattr(found, field.name), getattr(competition.convention, field.name)
        note = "" if value == described else f"    # now {_written(described)}"
        default = competition.id_column if field.name == "id_column" else field.default
        if value != default or note:
            lines.append(f"  {field.name.upper()}: {_written(value)}{note}")
    if len(lines) == 1:
        return f"{competition.name} needs no CONVENTION: every value is the default"
    return "\n".join(lines if found != competition.convention else [*lines, "This is the CONVENTION that it has."])


def _examples(
    competition: Competition, folder: Path, runs_csv: Path, train_ids: set[str], naming: dict
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields text and mask (bool, H, W) of the first training rows with and without runs."""
    (_, header), *rows = list(read_cells(runs_csv)) or [(1, [])]
    if len(header) < 2 or not rows:
        raise UserError(f"{runs_csv}: expected a header of two columns or more, and rows of run lengths below it")
    column = header.index(naming["value_column"]) if naming["value_column"] in header else len(header) - 1
    code = mask_code(competition)
    if competition.ignore_index is not None and competition.ignore_index < len(competition.classes):
        code = replace(code, ignore_index=None)  # training rows may have runs of the ignored class
    left = {True: MOST_FULL, False: MOST_EMPTY}
    masks: dict[str, np.ndarray] = {}
    for line, cells in rows:
        named = _named([cell for index, cell in enumerate(cells) if index != column], train_ids, naming)
        if named is None or len(cells) != len(header):
            raise UserError(
                f"{runs_csv}: line {line} ({','.join(cells)[:60]}) names no image and class of "
                f"{competition.train_csv}; expected <id>, <id>_<class> or <id>,<class>, and the runs"
            )
        image_id, class_index = named
        if image_id not in masks:
            masks = {image_id: read_mask(folder / mask_file(competition, image_id), code)}
        mask_HW = masks[image_id] == class_index
        is_full = bool(mask_HW.any())
        if left[is_full]:
            left[is_full] -= 1
            yield cells[column], mask_HW
        if not any(left.values()):
            return


def _named(cells: list[str], train_ids: set[str], naming: dict) -> tuple[str, int] | None:
    """Returns the image and the class that a row's cells name, None where they name none."""
    first, *others = cells
    stem = first if first in train_ids else first.rpartition(".")[0]
    if stem in train_ids:
        numbers = [int(cell) for cell in others if cell.isdecimal()]
        if naming["rows"] != "id" and not numbers:
            return None
        return stem, numbers[0] - naming["class_base"] if numbers else BINARY_CLASS
    image_id, _, number = first.rpartition("_")
    stem = image_id if image_id in train_ids else image_id.rpartition(".")[0]
    return (stem, int(number) - naming["class_base"]) if stem in train_ids and number.isdecimal() else None


def _written(value: object) -> str:
    """Returns a value as YAML.

    >>> _written(True), _written(None), _written("-"), _written("row"), _written("id+class")
    ('true', 'null', '"-"', 'row', 'id+class')
    """
    if isinstance(value, str):
        return value if value[:1].isalpha() else f'"{value}"'
    return (
        {True: "true", False: "false", None: "null"}[value] if value is None or isinstance(value, bool) else str(value)
    )
