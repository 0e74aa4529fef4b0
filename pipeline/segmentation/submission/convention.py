"""How a competition writes run lengths, detected from its own data: what its page says may be wrong.

In: the sample submission, and training run lengths with their masks. Out: a `Convention`, or a refusal that says what
remains open.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np

from pipeline.config.competition import Convention
from pipeline.errors import UserError
from pipeline.segmentation.submission.rle import Order, RleError, decode
from pipeline.segmentation.submission.run_lengths import read_cells

AGREEMENT = 0.9  # share of rows that must read exactly: published encoders have bugs at the first and last pixel
_NO_RUNS = ("", "-", "-1", "nan", "None")  # what competitions write for an empty mask


class RunConvention(NamedTuple):
    """The part of a convention that run lengths determine."""

    order: Order
    base: Literal[0, 1]
    relative: bool
    empty: str


@dataclass(frozen=True)
class SampleConvention:
    """The part of a convention that a sample submission determines; `empty` None: all its rows hold runs."""

    id_column: str
    value_column: str
    class_column: str | None
    rows: Literal["id_class", "id", "id+class"]
    class_base: int
    empty: str | None


def detect_convention(
    sample_submission: Path | str, ids: Sequence[str], examples: Sequence[tuple[str, np.ndarray]]
) -> Convention:
    """Returns the convention of a competition.

    Args:
        sample_submission: the competition's own.
        ids: all test images.
        examples: run-length texts of the competition's training data with the mask (bool, H, W) of each.

    Raises:
        UserError: the files leave something open or contradict each other; says which, and what would settle it.
    """
    sample = detect_rows(sample_submission, ids)
    runs = detect_runs(examples)
    if sample.empty is not None and runs.empty not in (sample.empty, ""):
        raise UserError(f"empty masks are {runs.empty!r} in the training rows but {sample.empty!r} in the sample")
    empty = sample.empty if sample.empty is not None else runs.empty
    return Convention(
        runs.order, runs.base, runs.relative, empty, sample.id_column, sample.value_column, sample.rows,
        sample.class_column, sample.class_base,
    )  # fmt: skip


def detect_rows(sample_submission: Path | str, ids: Sequence[str]) -> SampleConvention:
    """Returns columns, row naming and empty text of a sample submission.

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
    return SampleConvention(
        header[0], header[-1], header[1] if naming == "id+class" else None, naming, class_base,
        _empty_text([cells[-1] for cells in rows]),
    )  # fmt: skip


def detect_runs(examples: Sequence[tuple[str, np.ndarray]]) -> RunConvention:
    """Returns the one convention under which texts decode to their masks (bool, H, W).

    Raises:
        UserError: no convention fits, or several fit equally well; names them.
    """
    empty = _empty_text([text for text, mask_HW in examples if not mask_HW.any()]) or ""
    full = [(text, mask_HW) for text, mask_HW in examples if mask_HW.any()]
    agreeing: Counter[tuple[Order, Literal[0, 1], bool]] = Counter()
    for order, base, relative in product(("row", "column"), (0, 1), (False, True)):
        agreeing[order, base, relative] = sum(_reads_as(text, mask_HW, order, base, relative) for text, mask_HW in full)
    most = max(agreeing.values())
    if not full or most < AGREEMENT * len(full):
        raise UserError(
            f"no convention decodes the {len(full)} rows that are not empty to their masks; the best decodes {most}. "
            "Are these the masks of these rows, at their original size?"
        )
    best = [settings for settings, count in agreeing.items() if count == most]
    if len(best) > 1:
        raise UserError(
            f"{len(best)} conventions decode {most} rows to their masks: {_listed(best)}. Give rows with several runs, "
            "of masks that are not symmetric."
        )
    return RunConvention(*best[0], empty)


def _reads_as(text: str, mask_HW: np.ndarray, order: Order, base: int, relative: bool) -> bool:
    try:
        return np.array_equal(decode(text, *mask_HW.shape, order, base, relative), mask_HW.astype(bool))
    except RleError:
        return False


def _empty_text(texts: Sequence[str]) -> str | None:
    """Returns the most common text without runs, None when there is none."""
    without_runs = Counter(text for text in texts if text in _NO_RUNS)
    return without_runs.most_common(1)[0][0] if without_runs else None


def _listed(settings: Sequence[tuple[Order, int, bool]]) -> str:
    return "; ".join(
        f"{order} by {order}, first pixel {base}{', relative starts' if relative else ''}"
        for order, base, relative in settings
    )
