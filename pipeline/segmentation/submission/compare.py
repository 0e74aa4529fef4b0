"""What changed between two submissions: per image and class, the most changed image first."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.segmentation.submission.masks import count_pairs, keep_classes
from pipeline.submission.formats import format_of_file

COLUMNS = ["id", "image_changed_share", "class", "first_px", "second_px", "gained_px", "lost_px", "dice"]


def compare_submissions(
    first: Path | str, second: Path | str, competition: Competition, sizes: Mapping[str, tuple[int, int]]
) -> pd.DataFrame:
    """Returns one row per image and class that differs between two submissions, of any formats.

    `image_changed_share` is the share of the image's pixels with another class (the order of the table),
    `gained_px` are in the class in the second file only, `lost_px` in the first only, `dice` is the agreement of both.

    Args:
        first: a submission.
        second: another one of the same images.
        competition: classes and formats.
        sizes: (height, width) of each image.

    Raises:
        UserError: a file cannot be read, or they are not of the same images.
    """
    records = []
    forms = [format_of_file(Path(path), competition) for path in (first, second)]
    one, other = (form.read(Path(path), competition, sizes) for form, path in zip(forms, (first, second), strict=True))
    for (image_id, first_HW), (second_id, second_HW) in zip_longest(one, other, fillvalue=("", None)):
        if image_id != second_id:
            only = image_id or second_id
            raise UserError(f"{first} and {second} are not of the same images: only one of them has {only}")
        if forms[0] is not forms[1]:  # a csv with a row per image holds no background, PNG masks do
            first_HW, second_HW = (keep_classes(mask, competition.scored_indices) for mask in (first_HW, second_HW))
        records += _changes(image_id, first_HW, second_HW, competition.classes)
    table = pd.DataFrame(records, columns=COLUMNS)
    changed_px = table["gained_px"] + table["lost_px"]
    ranked = table.assign(changed_px=changed_px).sort_values(
        ["image_changed_share", "id", "changed_px"], ascending=[False, True, False], kind="stable"
    )
    return ranked.drop(columns="changed_px").reset_index(drop=True)


def _changes(
    image_id: str, first_HW: np.ndarray, second_HW: np.ndarray, classes: tuple[str, ...]
) -> list[tuple[str, float, str, int, int, int, int, float]]:
    changed = np.count_nonzero(first_HW != second_HW)
    if not changed:
        return []
    counts = count_pairs(first_HW, second_HW, len(classes))
    records = []
    for index, name in enumerate(classes):
        first_px, second_px, both_px = int(counts[index].sum()), int(counts[:, index].sum()), int(counts[index, index])
        if first_px + second_px > 2 * both_px:
            dice = 2 * both_px / (first_px + second_px)
            records.append(
                (image_id, changed / first_HW.size, name, first_px, second_px, second_px - both_px,
                 first_px - both_px, dice)
            )  # fmt: skip
    return records
