"""The local score of a submission of any format, against true masks.

In: a submission, and a folder of masks or a csv of run lengths. Out: every score in `pipeline/scores.py`, over the
scored classes, and the name of the competition's own. Ignored pixels of the truth are left out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np

from pipeline.config.competition import IGNORE, Competition, MaskCsv
from pipeline.config.template import FIELD, any_file
from pipeline.data.competition import sequence_of
from pipeline.data.image_files import label_files
from pipeline.data.images import Inspection, compare_sizes
from pipeline.data.problems import Problem, format_problems
from pipeline.errors import UserError
from pipeline.scores import chosen_scores
from pipeline.segmentation.mask_facts import FOUND
from pipeline.segmentation.mask_source import MaskSource, Row
from pipeline.segmentation.objects import class_of
from pipeline.segmentation.planes import count_matches
from pipeline.segmentation.resizing import resize_mask
from pipeline.segmentation.scores import Counts, count_pairs, summarise
from pipeline.segmentation.volume_scores import MaskScores
from pipeline.submission.file import Sizes, find_hints, submitted_sizes
from pipeline.submission.formats import format_of_file


def score_file(
    path: Path | str,
    masks_path: Path | str,
    competition: Competition,
    sizes_of: Callable[[list[str]], Sizes] = lambda ids: {},
    log: Callable[[str], None] = lambda line: None,
    sequences: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Returns the scores of a submission in the form of metrics.json; a score is None where no class has pixels.

    Args:
        path: a submission; images without a mask are left out.
        masks_path: folder with the true masks, stored as the competition's own, or where MASKS is a csv, such a one;
            masks of other images are left out.
        competition: classes, what mask files mean, and formats.
        sizes_of: from ids to (height, width) of the images of which that is known.
        log: receives what was left out, and hints on a file of another program.
        sequences: of images, where it is known and not in their ids; for scores of volumes.

    Raises:
        UserError: no image has a mask, a mask cannot be read, or the file cannot.
    """
    path, masks_path = Path(path), Path(masks_path)
    form = format_of_file(path, competition)
    ids = form.list_ids(path, competition)
    find = _find_rows if masks_path.is_file() else _find_truth
    truth, left_out = find(ids, path, masks_path, competition)
    sizes = _checked_sizes(truth, path, masks_path, competition, sizes_of(list(truth)))
    skipped = [image_id for image_id in ids if image_id not in truth]
    for line in left_out + find_hints(path, competition, sizes, skipped):
        log(line)
    scored, num_classes = list(competition.scored_indices), len(competition.classes)
    chosen, counts = chosen_scores(competition), []
    found = MaskScores(chosen, num_classes, scored)
    for image_id, mask_HW in form.read(path, competition, submitted_sizes(competition, sizes), skipped):
        truth_HW = resize_mask(truth[image_id].read(sizes[image_id]), mask_HW.shape[:2])
        mask_HW = _with_last_class(mask_HW, competition)
        if competition.is_multilabel:
            counts.append(count_matches(truth_HW, mask_HW))
        else:
            pair = (class_of(truth_HW), class_of(mask_HW))
            counts.append(count_pairs(*pair, num_classes)[:num_classes])  # without ignored true pixels
        sequence = _sequence_of(image_id, competition, sequences) if chosen.of_volumes else ""
        found.add(sequence, image_id, mask_HW, truth_HW)
    counted = Counts(*np.stack(counts, 1)) if competition.is_multilabel else np.stack(counts)
    summary = summarise(counted, competition.classes, scored, competition.score, chosen, found.by_name())
    for family in summary["scores"].values():
        family["classes"] = {name: family["classes"][name] for name in summary["scored"]}
    return summary


def _sequence_of(image_id: str, competition: Competition, sequences: Mapping[str, str]) -> str:
    """Returns the sequence of an image.

    Raises:
        UserError: it is not known.
    """
    row = {competition.id_column: image_id}
    sequence = sequences.get(image_id) or sequence_of(competition, row, "", 0)[0]
    if not sequence:
        raise UserError(
            f"the sequence of {image_id} is not known, and {competition.score} needs it; put the folder of "
            f"{competition.name} where ./run.sh finds it (DATA_DIR), or give SEQUENCE_PATTERN"
        )
    return sequence


def _with_last_class(mask_HW: np.ndarray, competition: Competition) -> np.ndarray:
    """Returns a submitted mask whose pixels of no class are of the one class that is not submitted, if it is one.

    A pixel of no object is of the first class.
    """
    if competition.has_objects:
        return np.where(mask_HW == IGNORE, 0, mask_HW).astype(np.int32)
    left = set(range(competition.num_classes)) - set(competition.submitted_indices)
    if competition.is_multilabel:
        return mask_HW
    return np.where(mask_HW == IGNORE, np.uint8(left.pop()), mask_HW) if len(left) == 1 else mask_HW


class _Truth(NamedTuple):
    """Where the true mask of an image is."""

    source: MaskSource
    id: str
    mask: str

    def read(self, size: tuple[int, int]) -> np.ndarray:
        """Returns the mask, or the map of the objects, of an image of (height, width)."""
        return self.source.read_scored(Row(self.id, self.mask, *size))


def _find_truth(
    ids: list[str], path: Path, masks_dir: Path, competition: Competition
) -> tuple[dict[str, _Truth], list[str]]:
    """Returns the masks of submitted images by id, and a line each on images and on masks without the other.

    Masks are named as the competition's, or `<id>.png`.

    Raises:
        UserError: no image has one.
    """
    templates = _templates(competition)
    masks: dict[str, _Truth] = {}
    groups = [(None, template) for template in templates]
    if competition.annotators is not None and len(templates) > 2:  # the last one is of ids alone
        groups = [(competition.annotators, tuple(templates[:-1])), (None, templates[-1])]
    for annotators, template in groups:
        files = replace(
            competition,
            masks=template,
            annotators=annotators,
            mask_folder=str(masks_dir),
            without_mask="empty",
            valid_region=None,
        )
        source = MaskSource(files, masks_dir)
        cells = ((image_id, source.cell(image_id)) for image_id in ids if image_id not in masks)
        masks |= {image_id: _Truth(source, image_id, cell) for image_id, cell in cells if cell}
    masks = {image_id: masks[image_id] for image_id in ids if image_id in masks}
    if not masks:
        wanted = " or ".join(FIELD.sub(ids[0], template) for template in templates)
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
    there = {str(file) for template in templates for file in masks_dir.glob(any_file(template))}
    unused = sorted(there - {file for truth in masks.values() for file in label_files(truth.mask)})
    if unused:
        lines.append(
            f"{len(unused)} of the {len(masks) + len(unused)} masks in {masks_dir} are of no image "
            f"in {path} and left out, such as {PurePosixPath(unused[0]).name}"
        )
    return masks, lines


def _find_rows(
    ids: list[str], path: Path, csv_path: Path, competition: Competition
) -> tuple[dict[str, _Truth], list[str]]:
    """Returns what `_find_truth` does, from a csv of run lengths; an image without a row has an empty mask.

    Raises:
        UserError: the competition has mask files, the csv cannot be read, or has no run lengths of any image.
    """
    spec, name = competition.masks, competition.name
    if not isinstance(spec, MaskCsv):
        raise UserError(f"--masks {csv_path} is a file, but {name} has its masks in files; name their folder")
    given = {key: getattr(spec, key) for key in FOUND if getattr(spec, key) is not None}
    facts = {key: getattr(competition.convention, key) for key in FOUND} | given
    masks = replace(spec, csv=csv_path.name)
    source = MaskSource(replace(competition, masks=masks, valid_region=None), csv_path.parent, facts)
    if source.problems:
        raise UserError(f"{csv_path} cannot be used to score {path}:\n{format_problems(source.problems)}")
    num_with_runs = sum(image_id in source.runs.rows for image_id in ids)
    if not num_with_runs:
        raise UserError(f"{csv_path}: no run lengths for any of the {len(ids)} images in {path}, such as {ids[0]}")
    line = f"{len(ids) - num_with_runs} of the {len(ids)} images have no run lengths in {csv_path} and count as empty"
    return {image_id: _Truth(source, image_id, csv_path.name) for image_id in ids}, [line] * (num_with_runs < len(ids))


def _checked_sizes(
    truth: Mapping[str, _Truth], path: Path, masks_path: Path, competition: Competition, image_sizes: Sizes
) -> dict[str, tuple[int, int]]:
    """Returns (height, width) of each mask, after checking all of them.

    Raises:
        UserError: with every problem and its remedy.
    """
    sizes: dict[str, tuple[int, int]] = {}
    problems: list[Problem] = []
    for image_id, (source, _, cell) in truth.items():
        file = cell if masks_path.is_file() else _below(masks_path, cell)
        height, width = image_sizes.get(image_id, (0, 0))
        if masks_path.is_file() and 0 in (height, width):
            raise UserError(
                f"the size of {image_id} in {path} is not known: no image of {competition.name} here has this id"
            )
        seen = source.inspect(image_id, cell, Inspection(width, height, None, ()))
        problems += [*seen.problems, *compare_sizes(Inspection(width, height, None, ()), seen, file)]
        sizes[image_id] = (seen.height, seen.width)
    if problems:
        raise UserError(
            f"the masks in {masks_path} cannot be used to score {path} as a submission to {competition.name}:\n"
            f"{format_problems(problems)}"
        )
    return sizes


def _below(folder: Path, cell: str) -> str:
    """Returns the first file of a cell, relative to a folder."""
    return PurePosixPath(label_files(cell)[0]).relative_to(folder).as_posix()


def _templates(competition: Competition) -> list[str]:
    """Returns what the masks in a folder may be called: as the competition's own from the id on, or `<id>.png`."""
    masks = competition.masks
    own = [masks] if isinstance(masks, str) else list(masks) if isinstance(masks, tuple) else []
    tails = []
    for template in own:
        parts = PurePosixPath(template).parts
        first = next(index for index, part in enumerate(parts) if FIELD.search(part))
        tails.append("/".join(parts[first:]))
    return list(dict.fromkeys([*tails, "{id}.png"]))
