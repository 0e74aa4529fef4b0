"""The local score of any submission: a csv against true masks, image by image and class by class.

Comes in: a csv and a folder of masks. Goes out: Dice and IoU of the competition, 1 where prediction and truth both lack
a class, averaged over images, then over the classes that are submitted; ignored pixels of the truth count nowhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.config.competition import ID_FIELD, Competition, any_file, fill_template, mask_code
from pipeline.data.images import read_mask
from pipeline.data.inspection import Inspection, compare_sizes, inspect_mask
from pipeline.data.problems import Problem, format_problems
from pipeline.errors import UserError
from pipeline.submission.compare import count_pairs
from pipeline.submission.rows import expected_keys, image_of, read_masks, read_rows, row_key

Sizes = Mapping[str, tuple[int, int]]


class Truth(NamedTuple):
    """What of a submission can be scored: the mask of each such image, images without one, masks of no image."""

    masks: dict[str, Path]
    without: list[str]
    unused: list[Path]


def submitted_ids(csv_path: Path, competition: Competition) -> list[str]:
    """Returns the images that a submission has rows of, in its order.

    Raises:
        UserError: the file cannot be read, has no rows, or a row names no image and class.
    """
    keys = [row.key for row in read_rows(csv_path, competition.convention)]
    ids = list(dict.fromkeys(image_of(key, competition.convention) for key in keys))
    places = expected_keys(ids, competition)
    unknown = next((key for key in keys if key not in places), None)
    if unknown is not None or not keys:
        found = f"row {','.join(unknown)} names no image and class" if unknown else "there are no rows below the header"
        example = ",".join(row_key("<id>", 1, competition.convention))
        raise UserError(
            f"{csv_path}: {found}; wanted rows such as {example} of the {len(competition.classes)} classes. "
            f"It is read as a submission to {competition.name}."
        )
    return ids


def find_truth(ids: list[str], csv_path: Path, masks_dir: Path, competition: Competition) -> Truth:
    """Returns which submitted images have a mask: called as the competition's masks are, or `<id>.png`.

    Raises:
        UserError: none has.
    """
    parts = PurePosixPath(competition.masks).parts
    first = next(place for place, part in enumerate(parts) if ID_FIELD.search(part))
    templates = list(dict.fromkeys(["/".join(parts[first:]), "{id}.png"]))
    masks, without = {}, []
    for image_id in ids:
        places = [masks_dir / fill_template(template, image_id) for template in templates]
        found = next((place for place in places if place.is_file()), None)
        if found is None:
            without.append(image_id)
        else:
            masks[image_id] = found
    if not masks:
        wanted = " or ".join(fill_template(template, ids[0]) for template in templates)
        raise UserError(
            f"{masks_dir}: none of the {len(ids)} images in {csv_path} has a mask here; wanted {wanted} and so on. "
            f"The file is read as a submission to {competition.name}."
        )
    used = set(masks.values())
    patterns = [any_file(template) for template in templates]
    there = {path for pattern in patterns for path in masks_dir.glob(pattern)}
    return Truth(masks, without, sorted(there - used))


def coverage_lines(truth: Truth, csv_path: Path, masks_dir: Path) -> list[str]:
    """Returns what is left out of the score because the other side lacks, a line each."""
    lines = []
    if truth.without:
        num_ids = len(truth.masks) + len(truth.without)
        lines.append(
            f"only {len(truth.masks)} of the {num_ids} images in {csv_path} are scored: {len(truth.without)} have no "
            f"mask in {masks_dir}, such as {truth.without[0]}"
        )
    if truth.unused:
        lines.append(
            f"{len(truth.unused)} of the {len(truth.masks) + len(truth.unused)} masks in {masks_dir} are of no image "
            f"in {csv_path} and left out, such as {truth.unused[0].name}"
        )
    return lines


def score_csv(
    csv_path: Path | str,
    masks_dir: Path | str,
    competition: Competition,
    sizes_of: Callable[[list[str]], Sizes] = lambda ids: {},
    say: Callable[[str], None] = lambda line: None,
) -> pd.DataFrame:
    """Returns one row per image of the csv: id, dice, iou, then dice_<class> and iou_<class> of each scored class.

    Args:
        csv_path: a submission; images without a mask are left out.
        masks_dir: folder with the true masks, stored as the competition's own; masks of other images are left out.
        competition: classes, what mask files mean, and convention.
        sizes_of: from ids to (height, width) of the images of which that is known.
        say: receives what was left out.

    Raises:
        UserError: no image has a mask, a mask is not what it should be, or a row cannot be decoded.
    """
    csv_path, masks_dir = Path(csv_path), Path(masks_dir)
    truth = find_truth(submitted_ids(csv_path, competition), csv_path, masks_dir, competition)
    sizes = _checked_sizes(truth, csv_path, masks_dir, competition, sizes_of(list(truth.masks)))
    for line in coverage_lines(truth, csv_path, masks_dir):
        say(line)
    scored, code = list(competition.scored_indices), mask_code(competition)
    records = []
    for image_id, mask_HW in read_masks(csv_path, competition, sizes, truth.without):
        truth_HW = read_mask(truth.masks[image_id], code)
        dice, iou = score_mask(mask_HW, truth_HW, len(competition.classes), competition.num_classes)
        dice, iou = dice[scored], iou[scored]
        records.append([image_id, dice.mean(), iou.mean(), *dice, *iou])
    names = counted_names(competition)
    columns = ["id", "dice", "iou", *(f"dice_{name}" for name in names), *(f"iou_{name}" for name in names)]
    return pd.DataFrame(records, columns=columns)


def counted_names(competition: Competition) -> list[str]:
    """Returns the names of the classes that a submission is scored by."""
    return [competition.classes[index] for index in competition.scored_indices]


def _checked_sizes(
    truth: Truth, csv_path: Path, masks_dir: Path, competition: Competition, image_sizes: Sizes
) -> dict[str, tuple[int, int]]:
    """Returns (height, width) of each mask, after a look at all of them.

    Raises:
        UserError: with all that is wrong and its cure.
    """
    sizes: dict[str, tuple[int, int]] = {}
    problems: list[Problem] = []
    for image_id, path in truth.masks.items():
        file = path.relative_to(masks_dir).as_posix()
        seen = inspect_mask(path, file, competition)
        height, width = image_sizes.get(image_id, (0, 0))
        problems += [*seen.problems, *compare_sizes(Inspection(width, height, None, ()), seen, file)]
        sizes[image_id] = (seen.height, seen.width)
    if problems:
        raise UserError(
            f"{masks_dir} cannot be the truth for {csv_path}, a submission to {competition.name}:\n"
            f"{format_problems(problems)}"
        )
    return sizes


def summarise(table: pd.DataFrame, competition: Competition) -> dict[str, Any]:
    """Returns the means of `score_csv`'s table in the form of metrics.json: images, dice and iou by class."""
    names = counted_names(competition)
    summary: dict[str, Any] = {"images": len(table)}
    for metric in ("dice", "iou"):
        classes = {name: float(table[f"{metric}_{name}"].mean()) for name in names}
        summary[metric] = {"mean": sum(classes.values()) / len(classes), "classes": classes}
    return summary


def score_mask(
    mask_HW: np.ndarray, truth_HW: np.ndarray, num_classes: int, num_scored: int
) -> tuple[np.ndarray, np.ndarray]:
    """Returns Dice and IoU (float64 of shape num_scored) of one image.

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
