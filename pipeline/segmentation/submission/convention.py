"""How a competition writes run lengths, detected from its own files: `./run.sh convention NAME RUNS.csv`.

In: the sample submission, a csv of run lengths of training images, their masks. Out: the `CONVENTION` for
`configs/competitions/NAME.yaml`, or a refusal that says what remains open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.competition import BINARY_CLASS, Competition, Convention, mask_code, mask_file
from pipeline.errors import UserError
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.submission.rle import RleError, decode_classes
from pipeline.segmentation.submission.run_lengths import read_cells

AGREEMENT = 0.9  # share of rows that must read exactly: published encoders have bugs at the first and last pixel
MOST_FULL, MOST_EMPTY = 200, 20  # training rows that are decoded: more add nothing
_NO_RUNS = ("", "-", "-1", "nan", "None")  # what competitions write for an empty mask

Found = dict[str, Any]  # values of `Convention` by name


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
    sample = detect_rows(sample_path, test_ids) if sample_path.is_file() else {}
    described = vars(competition.convention) | sample
    runs = detect_runs(list(_examples(competition, folder, runs_csv, set(train_ids), described)))
    empty = sample.get("empty", runs["empty"])
    if runs["empty"] not in (empty, ""):
        raise UserError(f"empty masks are {runs['empty']!r} in the training rows but {empty!r} in the sample")
    return Convention(**(described | runs | sample))


def detect_rows(sample_submission: Path | str, ids: Collection[str]) -> Found:
    """Returns columns, row naming and empty text of a sample submission; no `empty` where all its rows hold runs.

    Raises:
        UserError: its rows fit no known naming of `ids`.
    """
    lines = list(read_cells(Path(sample_submission)))
    if len(lines) < 2 or len(lines[0][1]) not in (2, 3):
        raise UserError(f"{sample_submission}: expected a header of two or three columns and rows below it")
    (_, header), *body = lines
    rows = [cells for _, cells in body if len(cells) == len(header)]
    known = set(ids)
    if len(header) == 3:
        naming, numbers = "id+class", [cells[1] for cells in rows if cells[0] in known]
    elif all(cells[0] in known for cells in rows):
        naming, numbers = "id", []
    else:
        naming = "id_class"
        numbers = [cells[0].rpartition("_")[2] for cells in rows if cells[0].rpartition("_")[0] in known]
    if naming != "id" and (len(numbers) < len(body) or not all(number.isdecimal() for number in numbers)):
        raise UserError(
            f"{sample_submission}: rows such as {','.join(body[0][1])[:60]!r} are neither <id>, <id>_<class number> "
            f"nor <id>,<class number>,... of the {len(known)} test images"
        )
    class_numbers = sorted({int(number) for number in numbers})
    class_base = class_numbers[0] if class_numbers else 0
    if class_numbers and class_numbers != list(range(class_base, class_base + len(class_numbers))):
        raise UserError(f"{sample_submission}: class numbers {class_numbers} have gaps")
    class_column = header[1] if naming == "id+class" else None
    found = {"id_column": header[0], "value_column": header[-1], "class_column": class_column, "rows": naming}
    return found | {"class_base": class_base} | _empty_text(cells[-1] for cells in rows)


def detect_runs(examples: Sequence[tuple[str, np.ndarray]]) -> Found:
    """Returns the one order, base, kind of starts and empty text with which texts decode to their masks (bool, H, W).

    Raises:
        UserError: no convention fits, or several fit equally well; names them.
    """
    empty = _empty_text(text for text, mask_HW in examples if not mask_HW.any())
    full = [(text, mask_HW) for text, mask_HW in examples if mask_HW.any()]
    agreeing = {
        settings: sum(_reads_as(text, mask_HW, Convention(*settings)) for text, mask_HW in full)
        for settings in product(("row", "column"), (0, 1), (False, True))
    }
    most = max(agreeing.values())
    if not full or most < AGREEMENT * len(full):
        raise UserError(
            f"no convention decodes the {len(full)} rows that are not empty to their masks; the best decodes {most}. "
            "Are these the masks of these rows, at their original size?"
        )
    best = [settings for settings, count in agreeing.items() if count == most]
    if len(best) > 1:
        listed = "; ".join(
            f"{order} by {order}, first pixel {base}{', relative starts' if relative else ''}"
            for order, base, relative in best
        )
        raise UserError(
            f"{len(best)} conventions decode {most} rows to their masks: {listed}. Give rows with several runs, "
            "of masks that are not symmetric."
        )
    return dict(zip(("order", "base", "relative"), best[0], strict=True)) | {"empty": ""} | empty


def convention_text(found: Convention, competition: Competition) -> str:
    """Returns the lines for the descriptor; a comment marks those that differ from it."""
    lines = [f"CONVENTION:    # of configs/competitions/{competition.name}.yaml"]
    for field in fields(Convention):
        value, described = getattr(found, field.name), getattr(competition.convention, field.name)
        note = "" if value == described else f"    # now {_yaml(described)}"
        default = competition.id_column if field.name == "id_column" else field.default
        if value != default or note:
            lines.append(f"  {field.name.upper()}: {_yaml(value)}{note}")
    if len(lines) == 1:
        return f"{competition.name} needs no CONVENTION: every value is the default"
    return "\n".join(lines if found != competition.convention else [*lines, "This is the CONVENTION that it has."])


def _reads_as(text: str, mask_HW: np.ndarray, convention: Convention) -> bool:
    try:
        return np.array_equal(decode_classes([text], *mask_HW.shape, convention) == 0, mask_HW)
    except RleError:
        return False


def _empty_text(texts: Iterator[str]) -> Found:
    """Returns the most common text without runs as `empty`, nothing when there is none."""
    without_runs = Counter(text for text in texts if text in _NO_RUNS)
    return {"empty": without_runs.most_common(1)[0][0]} if without_runs else {}


def _examples(
    competition: Competition, folder: Path, runs_csv: Path, train_ids: set[str], described: Found
) -> Iterator[tuple[str, np.ndarray]]:
    """Yields text and mask (bool, H, W) of the first training rows with and without runs."""
    (_, header), *rows = list(read_cells(runs_csv)) or [(1, [])]
    if len(header) < 2 or not rows:
        raise UserError(f"{runs_csv}: expected a header of two columns or more, and rows of run lengths below it")
    value_column = described["value_column"]
    column = header.index(value_column) if value_column in header else len(header) - 1
    code = mask_code(competition)
    if competition.ignore_index is not None and competition.ignore_index < len(competition.classes):
        code = replace(code, ignore_index=None)  # training rows may have runs of the ignored class
    left = {True: MOST_FULL, False: MOST_EMPTY}
    masks: dict[str, np.ndarray] = {}
    for line, cells in rows:
        named = _named([cell for index, cell in enumerate(cells) if index != column], train_ids, described)
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


def _named(cells: list[str], train_ids: set[str], described: Found) -> tuple[str, int] | None:
    """Returns the image and the class that a row's cells name, None where they name none."""
    first, *others = cells
    stem = first if first in train_ids else first.rpartition(".")[0]
    if stem in train_ids:
        numbers = [int(cell) for cell in others if cell.isdecimal()]
        if described["rows"] != "id" and not numbers:
            return None
        return stem, numbers[0] - described["class_base"] if numbers else BINARY_CLASS
    image_id, _, number = first.rpartition("_")
    stem = image_id if image_id in train_ids else image_id.rpartition(".")[0]
    return (stem, int(number) - described["class_base"]) if stem in train_ids and number.isdecimal() else None


def _yaml(value: object) -> str:
    """Returns a value as YAML.

    >>> _yaml(True), _yaml(None), _yaml("-"), _yaml("row"), _yaml(1)
    ('true', 'null', '"-"', 'row', '1')
    """
    if isinstance(value, str):
        return value if value[:1].isalpha() else f'"{value}"'
    return "null" if value is None else str(value).lower()
