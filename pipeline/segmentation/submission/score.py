"""The local score of a submission of any format, against true masks, per image and class.

In: a submission and a folder of masks. Out: every score in `pipeline/scores.py`, over the scored classes, and the name
of the competition's own. Ignored pixels of the truth are left out.

Letters: I images, C scored classes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.config.competition import ID_FIELD, Competition, any_file, fill_template, mask_code
from pipeline.data.images import Inspection, compare_sizes
from pipeline.data.problems import Problem, format_problems
from pipeline.errors import UserError
from pipeline.scores import PER_IMAGE, class_scores, mean_scored, score_table
from pipeline.segmentation.labels import inspect_mask, read_mask
from pipeline.segmentation.submission.masks import Size, count_pairs
from pipeline.submission.file import find_hints
from pipeline.submission.formats import format_of_file

Sizes = Mapping[str, Size]


class Scores(NamedTuple):
    """What a submission scores.

    Attributes:
        per_image: id, dice, iou, then dice_<class> and iou_<class> of each scored class; a row per image.
        classes: the values of the scored classes by score, over all images; NaN where a class has no pixels.
    """

    per_image: pd.DataFrame
    classes: dict[str, np.ndarray]


def score_file(
    path: Path | str,
    masks_dir: Path | str,
    competition: Competition,
    sizes_of: Callable[[list[str]], Sizes] = lambda ids: {},
    log: Callable[[str], None] = lambda line: None,
) -> Scores:
    """Returns the scores of a submission.

    Args:
        path: a submission; images without a mask are left out.
        masks_dir: folder with the true masks, stored as the competition's own; masks of other images are left out.
        competition: classes, what mask files mean, and formats.
        sizes_of: from ids to (height, width) of the images of which that is known.
        log: receives what was left out, and hints on a file of another program.

    Raises:
        UserError: no image has a mask, a mask cannot be read, or the file cannot.
    """
    path, masks_dir = Path(path), Path(masks_dir)
    form = format_of_file(path, competition)
    ids = form.list_ids(path, competition)
    truth, left_out = _find_truth(ids, path, masks_dir, competition)
    sizes = _checked_sizes(truth, path, masks_dir, competition, sizes_of(list(truth)))
    skipped = [image_id for image_id in ids if image_id not in truth]
    for line in left_out + find_hints(path, competition, sizes, skipped):
        log(line)
    scored, code, num_classes = list(competition.scored_indices), mask_code(competition), len(competition.classes)
    counts = {
        image_id: count_pairs(read_mask(truth[image_id], code), mask_HW, num_classes)[:num_classes]
        for image_id, mask_HW in form.read(path, competition, sizes, skipped)
    }
    counts_I = np.stack(list(counts.values()))  # truth x submission; ignored pixels of the truth are cut off
    hits_IC = counts_I.diagonal(axis1=1, axis2=2)[:, scored]
    areas_IC = (counts_I.sum(2) + counts_I.sum(1)[:, :num_classes])[:, scored]
    values_IC = {score: class_scores(score, hits_IC, areas_IC) for score in PER_IMAGE}
    table: dict[str, Any] = {"id": list(counts)} | {score: mean_scored(values) for score, values in values_IC.items()}
    for score, values in values_IC.items():
        table |= {f"{score}_{name}": values[:, index] for index, name in enumerate(_scored_names(competition))}
    hits, areas = hits_IC.sum(0), areas_IC.sum(0)
    over_all = np.divide(hits, areas - hits, out=np.full(len(scored), np.nan), where=areas > 0)
    classes = {score: values.mean(0) for score, values in values_IC.items()} | {"miou": over_all}
    return Scores(pd.DataFrame(table), classes)


def _scored_names(competition: Competition) -> list[str]:
    return [competition.classes[index] for index in competition.scored_indices]


def _find_truth(
    ids: list[str], path: Path, masks_dir: Path, competition: Competition
) -> tuple[dict[str, Path], list[str]]:
    """Returns the masks of submitted images by id, and a line each on images and on masks without the other.

    Masks are named as the competition's, or `<id>.png`.

    Raises:
        UserError: no image has one.
    """
    parts = PurePosixPath(competition.masks).parts
    first = next(index for index, part in enumerate(parts) if ID_FIELD.search(part))
    templates = list(dict.fromkeys(["/".join(parts[first:]), "{id}.png"]))
    masks = {}
    for image_id, template in product(ids, templates):
        file = masks_dir / fill_template(template, image_id)
        if image_id not in masks and file.is_file():
            masks[image_id] = file
    if not masks:
        wanted = " or ".join(fill_template(template, ids[0]) for template in templates)
        raise UserError(
            f"{masks_dir}: none of the {len(ids)} images in {path} has a mask here; expected {wanted} and so on. "
            f"The file is read as a submission to {competition.name}."
        )
    lines = []
    without = [image_id for image_id in ids if image_id not in masks]
    if without:
        lines.append(
            f"only {len(masks)} of the {len(ids)} images in {path} are scored: {len(without)} have no "
            f"mask in {masks_dir}, such as {without[0]}"
        )
    there = {file for template in templates for file in masks_dir.glob(any_file(template))}
    unused = sorted(there - set(masks.values()))
    if unused:
        lines.append(
            f"{len(unused)} of the {len(masks) + len(unused)} masks in {masks_dir} are of no image "
            f"in {path} and left out, such as {unused[0].name}"
        )
    return masks, lines


def _checked_sizes(
    truth: Mapping[str, Path], path: Path, masks_dir: Path, competition: Competition, image_sizes: Sizes
) -> dict[str, Size]:
    """Returns (height, width) of each mask, after checking all of them.

    Raises:
        UserError: with every problem and its remedy.
    """
    sizes: dict[str, Size] = {}
    problems: list[Problem] = []
    for image_id, mask_path in truth.items():
        file = mask_path.relative_to(masks_dir).as_posix()
        seen = inspect_mask(mask_path, file, competition)
        height, width = image_sizes.get(image_id, (0, 0))
        problems += [*seen.problems, *compare_sizes(Inspection(width, height, None, ()), seen, file)]
        sizes[image_id] = (seen.height, seen.width)
    if problems:
        raise UserError(
            f"the masks in {masks_dir} cannot be used to score {path} as a submission to {competition.name}:\n"
            f"{format_problems(problems)}"
        )
    return sizes


def summarise(scores: Scores, competition: Competition) -> dict[str, Any]:
    """Returns the scores in the form of metrics.json; a score is None where no class has pixels."""
    names = _scored_names(competition)
    families = score_table(scores.classes, names)
    return {"images": len(scores.per_image), "score": competition.score, "scores": families, "scored": names}
