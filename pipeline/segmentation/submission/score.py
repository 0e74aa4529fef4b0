"""The local score of a submission of any format, against true masks.

In: a submission and a folder of masks. Out: every score in `pipeline/scores.py`, over the scored classes, and the name
of the competition's own. Ignored pixels of the truth are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import product
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from pipeline.config.competition import ID_FIELD, Competition, any_file, fill_template, mask_code
from pipeline.data.images import Inspection, compare_sizes
from pipeline.data.problems import Problem, format_problems
from pipeline.errors import UserError
from pipeline.scores import score_table
from pipeline.segmentation.labels import inspect_mask, read_mask
from pipeline.segmentation.scores import count_pairs, scores_over_all
from pipeline.submission.file import Sizes, find_hints
from pipeline.submission.formats import format_of_file


def score_file(
    path: Path | str,
    masks_dir: Path | str,
    competition: Competition,
    sizes_of: Callable[[list[str]], Sizes] = lambda ids: {},
    log: Callable[[str], None] = lambda line: None,
) -> dict[str, Any]:
    """Returns the scores of a submission in the form of metrics.json; a score is None where no class has pixels.

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
    confusions = [
        count_pairs(read_mask(truth[image_id], code), mask_HW, num_classes)[:num_classes]  # without ignored true pixels
        for image_id, mask_HW in form.read(path, competition, sizes, skipped)
    ]
    names = [competition.classes[index] for index in scored]
    families = {name: values_C[scored] for name, values_C in scores_over_all(np.stack(confusions)).items()}
    table = score_table(families, names)
    return {"images": len(confusions), "score": competition.score, "scores": table, "scored": names}


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
) -> dict[str, tuple[int, int]]:
    """Returns (height, width) of each mask, after checking all of them.

    Raises:
        UserError: with every problem and its remedy.
    """
    sizes: dict[str, tuple[int, int]] = {}
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
