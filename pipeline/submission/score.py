"""The local score of any submission: a csv against index masks, picture by picture and class by class.

Comes in: a csv and a folder of masks. Goes out: Dice and IoU of the competition, 1 where prediction and truth both lack
a class, averaged over pictures, then classes; ignored pixels of the truth count nowhere.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.competition import Competition, scored_classes
from pipeline.data.pictures import read_mask
from pipeline.errors import UserError
from pipeline.submission.compare import count_pairs
from pipeline.submission.rows import expected_keys, read_masks, read_rows


def score_csv(csv_path: Path | str, masks_dir: Path | str, competition: Competition) -> pd.DataFrame:
    """Returns one row per picture of the csv: id, dice, iou, then dice_<class> and iou_<class> of each scored class.

    Args:
        csv_path: a submission of pictures whose masks are known; other masks in the folder are left alone.
        masks_dir: folder with `<id>.png`, uint8 class indices.
        competition: classes, ignored index and convention.

    Raises:
        UserError: a row has no mask, cannot be decoded, or the file has no rows.
    """
    csv_path, masks_dir = Path(csv_path), Path(masks_dir)
    known_ids = sorted(path.stem for path in masks_dir.glob("*.png"))
    if not known_ids:
        raise UserError(f"{masks_dir} holds no masks; wanted <id>.png of the pictures in {csv_path}")
    places = expected_keys(known_ids, competition)
    keys = [row.key for row in read_rows(csv_path, competition.convention)]
    unknown = next((key for key in keys if key not in places), None)
    if unknown is not None or not keys:
        found = f"row {','.join(unknown)} is of no such picture" if unknown else "there are no rows below the header"
        raise UserError(
            f"{csv_path}: {found}; wanted rows of pictures that have a mask in {masks_dir}, such as "
            f"{','.join(next(iter(places)))}. It is read as a submission to {competition.name}."
        )
    ids = dict.fromkeys(places[key][0] for key in keys)
    sizes = {picture_id: read_mask(masks_dir / f"{picture_id}.png").shape for picture_id in ids}
    names = scored_classes(competition)
    records = []
    for picture_id, mask_HW in read_masks(csv_path, competition, sizes):
        truth_HW = read_mask(masks_dir / f"{picture_id}.png", competition.ignore_index)
        dice, iou = score_mask(mask_HW, truth_HW, len(competition.classes), len(names))
        records.append([picture_id, dice.mean(), iou.mean(), *dice, *iou])
    columns = ["id", "dice", "iou", *(f"dice_{name}" for name in names), *(f"iou_{name}" for name in names)]
    return pd.DataFrame(records, columns=columns)


def summarise(table: pd.DataFrame, competition: Competition) -> dict[str, Any]:
    """Returns the means of `score_csv`'s table in the form of metrics.json: pictures, dice and iou by class."""
    names = scored_classes(competition)
    summary: dict[str, Any] = {"pictures": len(table)}
    for metric in ("dice", "iou"):
        classes = {name: float(table[f"{metric}_{name}"].mean()) for name in names}
        summary[metric] = {"mean": sum(classes.values()) / len(classes), "classes": classes}
    return summary


def score_mask(
    mask_HW: np.ndarray, truth_HW: np.ndarray, num_classes: int, num_scored: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns Dice and IoU (float64 of shape num_scored) of one picture.

    >>> truth = np.array([[0, 1, 1, 255]], np.uint8)
    >>> [values.round(3).tolist() for values in score_mask(np.array([[0, 0, 1, 1]], np.uint8), truth, 3, 3)]
    [[0.667, 0.667, 1.0], [0.5, 0.5, 1.0]]
    """
    counts = count_pairs(truth_HW, mask_HW, num_classes)[:num_classes]  # without the ignored pixels of the truth
    both = counts.diagonal()[:num_scored].astype(np.float64)
    sizes = counts.sum(axis=1)[:num_scored] + counts.sum(axis=0)[:num_scored]
    is_absent = sizes == 0
    dice = np.where(is_absent, 1.0, 2 * both / np.maximum(sizes, 1))
    iou = np.where(is_absent, 1.0, both / np.maximum(sizes - both, 1))
    return dice, iou
