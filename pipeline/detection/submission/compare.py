"""What changed between two submissions of boxes: per image and class, the most changed image first.

Letters: N boxes of the first file, M of the second.
"""

from __future__ import annotations

from itertools import zip_longest
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.config.competition import Competition
from pipeline.detection.boxes import Detections, ious
from pipeline.errors import UserError
from pipeline.submission.file import Sizes, submitted_sizes
from pipeline.submission.formats import format_of_file

COLUMNS = [
    "id",
    "image_changed_share",
    "class",
    "first_boxes",
    "second_boxes",
    "same_boxes",
    "mean_iou",
    "score_change",
]
SAME_IOU = 0.5  # from this IoU on, two boxes count as the same object
ROUNDING_PX, ROUNDING_SCORE = 0.01, 1e-5  # smaller differences are rounding


def compare_files(first: Path | str, second: Path | str, competition: Competition, sizes: Sizes) -> pd.DataFrame:
    """Returns one row per image and class that differs between two submissions, of any formats.

    `same_boxes` is the number of pairs: boxes of the class in both files with an IoU of 0.5 or more, paired by falling
    IoU. `mean_iou` is the mean over pairs, and `score_change` the largest change of a pair's score, second minus first.
    `image_changed_share` is the share of the image's boxes in both files that are in no pair; it sorts the table.

    Args:
        first: a submission.
        second: another one of the same images.
        competition: classes and formats.
        sizes: (height, width) of each image.

    Raises:
        UserError: a file cannot be read, or they are not of the same images.
    """
    files, sizes, records = (Path(first), Path(second)), submitted_sizes(competition, sizes), []
    forms = [format_of_file(file, competition) for file in files]
    one, other = (form.read(file, competition, sizes) for form, file in zip(forms, files, strict=True))
    for (image_id, found), (second_id, changed) in zip_longest(one, other, fillvalue=("", None)):
        if image_id != second_id:
            only = image_id or second_id
            raise UserError(f"{first} and {second} are not of the same images: only one of them has {only}")
        rows = [row for index in range(len(competition.classes)) if (row := _class_row(found, changed, index))]
        if rows:
            num_boxes, num_same = len(found.scores) + len(changed.scores), _num_same(found, changed, competition)
            share = 1 - 2 * num_same / num_boxes
            records += [(image_id, share, competition.classes[index], *values) for index, *values in rows]
    table = pd.DataFrame(records, columns=COLUMNS)
    changed_boxes = table["first_boxes"] + table["second_boxes"] - 2 * table["same_boxes"]
    ranked = table.assign(changed_boxes=changed_boxes, iou=table["mean_iou"]).sort_values(
        ["image_changed_share", "id", "changed_boxes", "iou"], ascending=[False, True, False, True], kind="stable"
    )
    return ranked[COLUMNS].reset_index(drop=True)


def pairs_of(first_N4: np.ndarray, second_M4: np.ndarray) -> list[tuple[int, int, float]]:
    """Returns indices and IoU of boxes that are the same, each in one pair, the largest IoU first.

    >>> pairs_of(np.array([[0.0, 0, 4, 4], [0, 0, 4, 3]]), np.array([[0.0, 0, 4, 3]]))
    [(1, 0, 1.0)]
    """
    iou_NM = ious(first_N4, second_M4)
    found, used = [], (set(), set())
    for place in np.argsort(-iou_NM, axis=None, kind="stable").tolist():
        one, other = divmod(place, iou_NM.shape[1])
        if iou_NM[one, other] < SAME_IOU:
            break
        if one not in used[0] and other not in used[1]:
            found.append((one, other, float(iou_NM[one, other])))
            used[0].add(one)
            used[1].add(other)
    return found


def _class_row(first: Detections, second: Detections, index: int) -> tuple | None:
    """Returns the values of a class in an image, None where both files have the same boxes."""
    one, other = first.keep(first.classes == index), second.keep(second.classes == index)
    if _is_equal(one, other):
        return None
    pairs = pairs_of(one.xyxy, other.xyxy)
    changes = [float(other.scores[b] - one.scores[a]) for a, b, _ in pairs]
    mean_iou = float(np.mean([iou for *_, iou in pairs])) if pairs else np.nan
    change = max(changes, key=abs) if pairs else np.nan
    return index, len(one.scores), len(other.scores), len(pairs), mean_iou, change


def _num_same(first: Detections, second: Detections, competition: Competition) -> int:
    """Returns how many pairs two images have over all classes."""
    return sum(
        len(pairs_of(first.xyxy[first.classes == index], second.xyxy[second.classes == index]))
        for index in range(len(competition.classes))
    )


def _is_equal(first: Detections, second: Detections) -> bool:
    return (
        len(first.scores) == len(second.scores)
        and np.allclose(first.xyxy, second.xyxy, rtol=0, atol=ROUNDING_PX)
        and np.allclose(first.scores, second.scores, rtol=0, atol=ROUNDING_SCORE)
    )
