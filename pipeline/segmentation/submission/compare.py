"""What changed between two submissions: per image and class, the most changed image first."""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.config.competition import Competition
from pipeline.errors import UserError
from pipeline.segmentation.labels import keep_classes
from pipeline.segmentation.objects import NUMBER, class_of, like_first
from pipeline.segmentation.planes import count_matches
from pipeline.segmentation.scores import count_pairs
from pipeline.submission.file import Sizes, submitted_sizes
from pipeline.submission.formats import format_of_file

COLUMNS = ["id", "image_changed_share", "class", "first_px", "second_px", "gained_px", "lost_px", "dice"]
OBJECT_COLUMNS = ["first_objects", "second_objects", "same_objects"]


def compare_submissions(first: Path | str, second: Path | str, competition: Competition, sizes: Sizes) -> pd.DataFrame:
    """Returns one row per image and class that differs between two submissions, of any formats.

    `image_changed_share` is the share of the image's pixels with another class or object (the order of the table),
    `gained_px` are in the class in the second file only, `lost_px` in the first only, `dice` is the agreement of both.
    Where OBJECTS is given, `first_objects` and `second_objects` count the objects, and `same_objects` those of an IoU
    above 0.5.

    Args:
        first: a submission.
        second: another one of the same images.
        competition: classes and formats.
        sizes: (height, width) of each image.

    Raises:
        UserError: a file cannot be read, or they are not of the same images.
    """
    records = []
    files = (Path(first), Path(second))
    forms = [format_of_file(file, competition) for file in files]
    sizes = submitted_sizes(competition, sizes)
    one, other = (form.read(file, competition, sizes) for form, file in zip(forms, files, strict=True))
    for (image_id, first_HW), (second_id, second_HW) in zip_longest(one, other, fillvalue=("", None)):
        if image_id != second_id:
            only = image_id or second_id
            raise UserError(f"{first} and {second} are not of the same images: only one of them has {only}")
        if forms[0] is not forms[1]:  # a csv with a row per image holds no background, PNG masks do
            first_HW, second_HW = (keep_classes(mask, competition.scored_indices) for mask in (first_HW, second_HW))
        if competition.has_objects:
            second_HW = like_first(first_HW, second_HW)
        is_changed = first_HW != second_HW
        changed = np.count_nonzero(is_changed if is_changed.ndim == 2 else is_changed.any(-1))
        if not changed:
            continue
        both_C, first_C, second_C = _pixels(first_HW, second_HW, competition)
        for index, name in enumerate(competition.classes):
            first_px, second_px, both_px = first_C[index], second_C[index], both_C[index]
            objects = _objects_of(index, first_HW, second_HW) if competition.has_objects else ()
            if first_px + second_px > 2 * both_px or len({*objects}) > 1:
                gained_px, lost_px, dice = second_px - both_px, first_px - both_px, 2 * both_px / (first_px + second_px)
                share = changed / (first_HW.shape[0] * first_HW.shape[1])
                records.append((image_id, share, name, first_px, second_px, gained_px, lost_px, dice, *objects))
    table = pd.DataFrame(records, columns=[*COLUMNS, *(OBJECT_COLUMNS if competition.has_objects else ())])
    changed_px = table["gained_px"] + table["lost_px"]
    ranked = table.assign(changed_px=changed_px).sort_values(
        ["image_changed_share", "id", "changed_px"], ascending=[False, True, False], kind="stable"
    )
    return ranked.drop(columns="changed_px").reset_index(drop=True)


def _pixels(first: np.ndarray, second: np.ndarray, competition: Competition) -> list[list[int]]:
    """Returns pixels of each class in both masks, in the first and in the second."""
    if competition.is_multilabel:
        return count_matches(first, second).tolist()
    counts = count_pairs(class_of(first), class_of(second), len(competition.classes))
    return [counts.diagonal().tolist(), counts.sum(1).tolist(), counts.sum(0).tolist()]


def _objects_of(index: int, first_HW: np.ndarray, second_HW: np.ndarray) -> tuple[int, int, int]:
    """Returns how many objects of a class two maps have, and how many of them have the same number in both."""
    first, second = (np.unique(one[(one >= NUMBER) & (one % NUMBER == index)]) for one in (first_HW, second_HW))
    return len(first), len(second), len(np.intersect1d(first, second))
