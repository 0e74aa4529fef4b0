"""How a competition writes run lengths, detected from its own files: `./run.sh convention NAME RUNS.csv`.

In: the sample submission, a csv of run lengths of training images, their masks. Out: the `CONVENTION` for
`configs/competitions/NAME.yaml`, or a refusal that says what remains open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import fields, replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.competition import BINARY_CLASS, Competition, Convention, MaskCsv, split_row
from pipeline.data.cells import is_empty
from pipeline.data.csv_file import read_cells
from pipeline.errors import UserError
from pipeline.paths import descriptor
from pipeline.segmentation.mask_facts import FOUND, find_facts
from pipeline.segmentation.mask_source import MaskSource, Row
from pipeline.segmentation.submission.rle import RleError, decode_classes
from pipeline.segmentation.submission.run_lengths import EXPECTED

AGREEMENT = 0.9  # share of rows that must read exactly: published encoders have bugs at the first and last pixel
MOST_FULL, MOST_EMPTY = 200, 20  # training rows that are decoded: more add nothing

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
            f"{competition.submission.format} in {descriptor(competition.name)}"
        )
    sample_path = folder / (competition.sample_submission or "sample_submission.csv")
    sample = detect_rows(sample_path, test_ids, competition.label_texts) if sample_path.is_file() else {}
    described = vars(competition.convention) | sample
    if isinstance(competition.masks, MaskCsv):  # there are no masks to compare with: the images show the direction
        facts = find_facts(competition, folder)
        runs = {name: facts[name] for name in FOUND} | {"empty": described["empty"]}
    else:
        runs = detect_runs(list(_examples(competition, folder, runs_csv, set(train_ids), described)))
    empty = sample.get("empty", runs["empty"])
    if runs["empty"] not in (empty, ""):
        raise UserError(f"empty masks are {runs['empty']!r} in the training rows but {empty!r} in the sample")
    return Convention(**(described | runs | sample))


def detect_rows(sample_submission: Path | str, ids: Collection[str], labels: Collection[str] = ()) -> Found:
    """Returns columns, row naming and empty text of a sample submission; no `empty` where all its rows hold runs.

    Nothing of a sample without rows, which organisers hide.

    Args:
        labels: what the descriptor calls the classes; where all in the sample are of them, no `class_base` is returned.

    Raises:
        UserError: its rows fit no known naming of `ids`.
    """
    lines = list(read_cells(Path(sample_submission), EXPECTED))
    if not lines or len(lines[0][1]) not in (2, 3):
        raise UserError(f"{sample_submission}: expected a header of two or three columns")
    (_, header), *body = lines
    if not body:
        return {}
    rows, known = [cells for _, cells in body if len(cells) == len(header)], set(ids)
    value, class_place = len(header) - 1, 1
    if len(header) == 3:  # run lengths have blanks, or say that there is none; labels of classes do not
        is_second_value = all(" " in cells[1] or is_empty(cells[1]) for cells in rows)
        class_place = 2 if is_second_value else 1
        value = 3 - class_place
        naming, found_labels = "id+class", [cells[class_place] for cells in rows if cells[0] in known]
    elif all(cells[0] in known for cells in rows):
        naming, found_labels = "id", []
    else:
        naming = "id_class"
        named = [split_row(cells[0], labels) for cells in rows]
        found_labels = [label for image_id, label in named if image_id in known]
    is_described = bool(labels) and set(found_labels) <= set(labels)
    is_numbered = all(label.isdecimal() for label in found_labels)
    if naming != "id" and (len(found_labels) < len(body) or not (is_described or is_numbered)):
        raise UserError(
            f"{sample_submission}: rows such as {','.join(body[0][1])[:60]!r} are neither <id>, <id>_<class> nor "
            f"<id>,<class>,... of the {len(known)} test images; CLASS_LABELS says what the classes are called"
        )
    found = {"id_column": header[0], "value_column": header[value], "rows": naming}
    found |= {"class_column": header[class_place] if naming == "id+class" else None}
    if not is_described:
        numbers = sorted({int(label) for label in found_labels})
        found["class_base"] = numbers[0] if numbers else 0
        if numbers and numbers != list(range(numbers[0], numbers[0] + len(numbers))):
            raise UserError(f"{sample_submission}: class numbers {numbers} have gaps; list them as CLASS_LABELS")
    return found | _empty_text(cells[value] for cells in rows)


def detect_runs(examples: Sequence[tuple[Sequence[str], np.ndarray]]) -> Found:
    """Returns the one order, base, kind of starts and empty text with which texts decode to their masks (bool, H, W).

    The texts of an example are objects, or all that a mask has.

    Raises:
        UserError: no convention fits, or several fit equally well; names them.
    """
    empty = _empty_text(text for texts, mask_HW in examples for text in texts if not mask_HW.any())
    full = [(texts, mask_HW) for texts, mask_HW in examples if mask_HW.any()]
    agreeing = {
        settings: sum(_reads_as(texts, mask_HW, Convention(*settings)) for texts, mask_HW in full)
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
    lines = [f"CONVENTION:    # of {descriptor(competition.name)}"]
    for field in fields(Convention):
        value, described = getattr(found, field.name), getattr(competition.convention, field.name)
        note = "" if value == described else f"    # the file has {_yaml(described)}"
        default = competition.id_column if field.name == "id_column" else field.default
        if value != default or note:
            lines.append(f"  {field.name.upper()}: {_yaml(value)}{note}")
    if len(lines) == 1:
        return f"{competition.name} needs no CONVENTION: every value is the default"
    return "\n".join(
        lines if found != competition.convention else [*lines, f"{descriptor(competition.name)} already says this."]
    )


def _reads_as(texts: Sequence[str], mask_HW: np.ndarray, convention: Convention) -> bool:
    try:
        return np.array_equal(decode_classes(texts, *mask_HW.shape, convention) < len(texts), mask_HW)
    except RleError:
        return False


def _empty_text(texts: Iterator[str]) -> Found:
    """Returns the most common text without runs as `empty`, nothing when there is none."""
    without_runs = Counter(text for text in texts if is_empty(text))
    return {"empty": without_runs.most_common(1)[0][0]} if without_runs else {}


def _examples(
    competition: Competition, folder: Path, runs_csv: Path, train_ids: set[str], described: Found
) -> Iterator[tuple[Sequence[str], np.ndarray]]:
    """Yields texts and mask (bool, H, W) of the first training images and classes with and without runs."""
    lines = [(line, [cell.strip() for cell in cells]) for line, cells in read_cells(runs_csv, EXPECTED)]
    (_, header), *rows = lines or [(1, [])]
    if len(header) < 2 or not rows:
        raise UserError(f"{runs_csv}: expected a header of two columns or more, and rows of run lengths below it")
    value_column = described["value_column"]
    column = header.index(value_column) if value_column in header else len(header) - 1
    if competition.ignore_index is not None and competition.ignore_index < len(competition.classes):
        competition = replace(competition, ignore_index=None)  # training rows may have runs of the ignored class
    numbers = {str(described["class_base"] + index): index for index in range(len(competition.classes))}
    labels = numbers | {label: index for index, label in enumerate(competition.label_texts) if not label.isdecimal()}
    source = MaskSource(replace(competition, valid_region=None), folder)
    texts: dict[tuple[str, int], list[str]] = {}
    for line, cells in rows:
        named = _named(
            [cell for index, cell in enumerate(cells) if index != column], train_ids, labels, described["rows"]
        )
        if named is None or len(cells) != len(header):
            raise UserError(
                f"{runs_csv}: line {line} ({','.join(cells)[:60]}) names no image and class of "
                f"{competition.train_csv}; expected <id>, <id>_<class> or <id>,<class>, and the runs"
            )
        texts.setdefault(named, []).append(cells[column])
    left = {True: MOST_FULL, False: MOST_EMPTY}
    read_id, mask = "", None
    for (image_id, class_index), own in texts.items():
        if not left[any(not is_empty(text) for text in own)]:  # as its text says, before its mask is read
            continue
        if image_id != read_id:
            read_id, mask = image_id, source.read(Row(image_id, source.cell(image_id), 0, 0))
        mask_HW = mask == class_index
        is_full = bool(mask_HW.any())
        if left[is_full]:
            left[is_full] -= 1
            yield own, mask_HW
        if not any(left.values()):
            return


def _named(cells: list[str], train_ids: set[str], labels: Mapping[str, int], rows: str) -> tuple[str, int] | None:
    """Returns the image and the class that a row's cells name, None where they name none."""
    first, *others = cells
    stem = first if first in train_ids else first.rpartition(".")[0]
    if stem in train_ids:
        named = [labels[cell] for cell in others if cell in labels]
        return None if rows != "id" and not named else (stem, named[0] if named else BINARY_CLASS)
    image_id, label = split_row(first, labels)
    stem = image_id if image_id in train_ids else image_id.rpartition(".")[0]
    return (stem, labels[label]) if stem in train_ids and label in labels else None


def _yaml(value: object) -> str:
    """Returns a value as YAML.

    >>> _yaml(True), _yaml(None), _yaml("-"), _yaml("row"), _yaml(1)
    ('true', 'null', '"-"', 'row', '1')
    """
    if isinstance(value, str):
        return value if value[:1].isalpha() else f'"{value}"'
    return "null" if value is None else str(value).lower()
