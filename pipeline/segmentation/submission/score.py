"""The local score of a submission of any format, against true masks, per image and class.

In: a submission and a folder of masks. Out: every score in `scores.py`, over the scored classes, and the name of the
competition's own. Ignored pixels of the truth are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from pipeline.config.competition import ID_FIELD, Competition, any_file, fill_template, mask_code
from pipeline.data.inspection import Inspection, compare_sizes
from pipeline.data.problems import Problem, format_problems
from pipeline.errors import UserError
from pipeline.scores import LABELS, PER_IMAGE, class_scores, mean_scored
from pipeline.segmentation.labels import inspect_mask, read_mask
from pipeline.segmentation.submission.masks import hits_and_areas
from pipeline.submission.check import find_hints
from pipeline.submission.formats import format_of_file

Sizes = Mapping[str, tuple[int, int]]


class Truth(NamedTuple):
    """True masks of the images in a submission: those found, the images without one, and masks of no such image."""

    masks: dict[str, Path]
    without: list[str]
    unused: list[Path]


class Scores(NamedTuple):
    """What a submission scores.

    Attributes:
        per_image: id, dice, iou, then dice_<class> and iou_<class> of each scored class; a row per image.
        classes: the values of the scored classes by score, over all images; NaN where a class has no pixels.
    """

    per_image: pd.DataFrame
    classes: dict[str, np.ndarray]


def find_truth(ids: list[str], path: Path, masks_dir: Path, competition: Competition) -> Truth:
    """Returns the masks of submitted images, which are named as the competition's masks are, or `<id>.png`.

    Raises:
        UserError: none has.
    """
    parts = PurePosixPath(competition.masks).parts
    first = next(index for index, part in enumerate(parts) if ID_FIELD.search(part))
    templates = list(dict.fromkeys(["/".join(parts[first:]), "{id}.png"]))
    masks, without = {}, []
    for image_id in ids:
        files = [masks_dir / fill_template(template, image_id) for template in templates]
        found = next((file for file in files if file.is_file()), None)
        if found is None:
            without.append(image_id)
        else:
            masks[image_id] = found
    if not masks:
        wanted = " or ".join(fill_template(template, ids[0]) for template in templates)
        raise UserError(
            f"{masks_dir}: none of the {len(ids)} images in {path} has a mask here; expected {wanted} and so on. "
            f"The file is read as a submission to {competition.name}."
        )
    used = set(masks.values())
    patterns = [any_file(template) for template in templates]
    there = {path for pattern in patterns for path in masks_dir.glob(pattern)}
    return Truth(masks, without, sorted(there - used))


def coverage_lines(truth: Truth, path: Path, masks_dir: Path) -> list[str]:
    """Returns which images and which masks are left out of the score because the other is missing, a line each."""
    lines = []
    if truth.without:
        num_ids = len(truth.masks) + len(truth.without)
        lines.append(
            f"only {len(truth.masks)} of the {num_ids} images in {path} are scored: {len(truth.without)} have no "
            f"mask in {masks_dir}, such as {truth.without[0]}"
        )
    if truth.unused:
        lines.append(
            f"{len(truth.unused)} of the {len(truth.masks) + len(truth.unused)} masks in {masks_dir} are of no image "
            f"in {path} and left out, such as {truth.unused[0].name}"
        )
    return lines


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
    truth = find_truth(form.list_ids(path, competition), path, masks_dir, competition)
    sizes = _checked_sizes(truth, path, masks_dir, competition, sizes_of(list(truth.masks)))
    for line in coverage_lines(truth, path, masks_dir) + find_hints(path, competition, sizes, truth.without):
        log(line)
    scored, code = list(competition.scored_indices), mask_code(competition)
    ids, counts = [], []
    for image_id, mask_HW in form.read(path, competition, sizes, truth.without):
        ids.append(image_id)
        counts.append(hits_and_areas(read_mask(truth.masks[image_id], code), mask_HW, len(competition.classes)))
    hits_IC, areas_IC = (np.stack(one)[:, scored] for one in zip(*counts, strict=True))
    values_IC = {score: class_scores(score, hits_IC, areas_IC) for score in PER_IMAGE}
    table: dict[str, Any] = {"id": ids} | {score: mean_scored(values) for score, values in values_IC.items()}
    for score, values in values_IC.items():
        table |= {f"{score}_{name}": values[:, index] for index, name in enumerate(scored_names(competition))}
    hits, areas = hits_IC.sum(0), areas_IC.sum(0)
    over_all = np.divide(hits, areas - hits, out=np.full(len(scored), np.nan), where=areas > 0)
    return Scores(
        pd.DataFrame(table), {score: values.mean(0) for score, values in values_IC.items()} | {"miou": over_all}
    )


def scored_names(competition: Competition) -> list[str]:
    """Returns the names of the scored classes."""
    return [competition.classes[index] for index in competition.scored_indices]


def _checked_sizes(
    truth: Truth, path: Path, masks_dir: Path, competition: Competition, image_sizes: Sizes
) -> dict[str, tuple[int, int]]:
    """Returns (height, width) of each mask, after checking all of them.

    Raises:
        UserError: with every problem and its remedy.
    """
    sizes: dict[str, tuple[int, int]] = {}
    problems: list[Problem] = []
    for image_id, mask_path in truth.masks.items():
        file = mask_path.relative_to(masks_dir).as_posix()
        seen = inspect_mask(mask_path, file, competition)
        height, width = image_sizes.get(image_id, (0, 0))
        problems += [*seen.problems, *compare_sizes(Inspection(width, height, None, ()), seen, file)]
        sizes[image_id] = (seen.height, seen.width)
    if problems:
        raise UserError(
            f"{masks_dir} cannot be the truth for {path}, a submission to {competition.name}:\n"
            f"{format_problems(problems)}"
        )
    return sizes


def summarise(scores: Scores, competition: Competition) -> dict[str, Any]:
    """Returns the scores in the form of metrics.json; a score is None where no class has pixels."""
    names = scored_names(competition)

    def number(value: float) -> float | None:
        return None if np.isnan(value) else float(value)

    return {
        "images": len(scores.per_image),
        "score": competition.score,
        "scores": {
            score: {
                "label": LABELS[score],
                "mean": number(mean_scored(values)),
                "classes": {name: number(value) for name, value in zip(names, values, strict=True)},
            }
            for score, values in scores.classes.items()
        },
        "scored": names,
    }
