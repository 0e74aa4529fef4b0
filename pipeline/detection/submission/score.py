"""The local score of a submission of boxes, against true boxes.

In: a submission, and the labels of its images. Out: the scores of COCO over the submitted classes, and the
competition's own.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np

from pipeline.config.competition import Competition
from pipeline.detection.box_source import BoxSource
from pipeline.detection.boxes import Boxes
from pipeline.detection.submission.kinds import KINDS, images_in, keys_of
from pipeline.detection.submission.truth import names_only_boxes, open_truth, true_boxes
from pipeline.engine.run import named
from pipeline.errors import UserError
from pipeline.scores import LABELS, score_table
from pipeline.submission.file import Sizes, find_hints, submitted_sizes
from pipeline.submission.formats import Format, format_of_file


def score_file(
    path: Path | str,
    labels_path: Path | str,
    competition: Competition,
    sizes_of: Callable[[list[str]], Sizes] = lambda ids: {},
    log: Callable[[str], None] = lambda line: None,
    sequences: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Returns the scores of a submission in the form of metrics.json; one that is undefined is None.

    Some formats omit images without boxes. Such a file is scored on all labelled images of the competition found here;
    any other file on the images that it contains.

    Args:
        path: a submission.
        labels_path: the true boxes, stored as the competition's own: their file, or the folder of them.
        competition: classes, what labels mean, and formats.
        sizes_of: from ids to (height, width) of the images that are here.
        log: receives which images are not in the file, and hints on one of another program.
        sequences: of the images that are listed here; their ids are what matters.

    Raises:
        UserError: an image of the file has no labels, or a file cannot be read.
    """
    path, labels_path = Path(path), Path(labels_path)
    form, source = format_of_file(path, competition), open_truth(labels_path, competition)
    there, others = _split_ids(path, competition, form, sequences)
    if KINDS[form.name].lists_all(competition):
        others = []
    known = sizes_of([*there, *others])
    labelled = _labelled(
        there, [image_id for image_id in others if image_id in known], source, known, (path, labels_path)
    )
    if len(labelled) > len(there):
        absent = next(image_id for image_id in labelled if image_id not in set(there))
        num = f"{len(labelled) - len(there)} of {len(labelled)} labelled images"
        log(
            f"{num} have no boxes in {path}, such as {absent}; "
            "if they were not predicted, pass a labels file without them"
        )
    sizes = {image_id: known[image_id] for image_id in labelled}
    for line in find_hints(path, competition, sizes):
        log(line)
    submitted = submitted_sizes(competition, sizes)
    found = {
        image_id: form.resize(boxes, sizes[image_id], submitted[image_id])
        for image_id, boxes in form.read(path, competition, submitted)
    }
    kept = {image_id: _submitted(boxes, competition) for image_id, boxes in labelled.items()}
    # By name, imported here: it needs a package that no other command on submissions needs.
    scores = named("pipeline.detection.coco_scores:coco_scores")(kept, found, competition.class_names)
    scored = [competition.classes[index] for index in competition.scored_indices]
    families = {name: _family(name, scores, competition) for name in scores.numbers}
    if competition.score not in families:  # COCO has no such number
        values_C = named("pipeline.detection.set_scores:set_scores")(scores, kept, found, competition)[
            competition.score
        ]
        families |= score_table({competition.score: values_C[list(competition.scored_indices)]}, scored)
    return {"images": len(kept), "score": competition.score, "scored": scored, "scores": families}


def _family(name: str, scores: Any, competition: Competition) -> dict[str, Any]:
    """Returns a score in the form of metrics.json: its label, its mean and, where it has them, its values per class."""
    values = scores.by_class.get(name, [])
    classes = {competition.classes[index]: _or_none(values[index]) for index in competition.scored_indices if values}
    family = {"label": _label(name), "mean": _or_none(scores.numbers[name])}
    return family | ({"classes": classes} if classes else {})


def _label(name: str) -> str:
    """Returns the label of one of COCO's numbers.

    >>> _label("ap"), _label("ap_small"), _label("ar_100")
    ('AP', 'AP small', 'AR 100')
    """
    kind, _, rest = name.partition("_")
    return LABELS.get(name, f"{kind.upper()} {rest}")


def _or_none(value: float) -> float | None:
    """Returns a number for JSON, which has no NaN.

    >>> _or_none(0.5), _or_none(float("nan"))
    (0.5, None)
    """
    return None if math.isnan(value) else value


def _split_ids(
    path: Path, competition: Competition, form: Format, sequences: Mapping[str, str]
) -> tuple[list[str], list[str]]:
    """Returns the ids of the images that a file has, and of the others that are known.

    Raises:
        UserError: IMAGE_ID is number and a number in the file belongs to no known image, or the file has no image.
    """
    known = keys_of(sequences, competition, form.name)
    there, unknown = images_in(path, competition, known, form.name)
    if unknown and form.name == "coco_results" and competition.box_convention.image_id == "number":
        raise UserError(
            f"{path}: image {unknown[0]} is not one of the {len(known)} images of {competition.name} found here; put "
            "its folder where ./run.sh finds it (DATA_DIR)"
        )
    if unknown:
        there = form.list_ids(path, competition)
    if not there:
        raise UserError(f"{path}: no images; it is read as a submission to {competition.name}")
    in_file = set(there)
    return there, [image_id for image_id in sequences if image_id not in in_file]


def _labelled(
    there: Sequence[str], others: Sequence[str], source: BoxSource, sizes: Sizes, paths: tuple[Path, Path]
) -> dict[str, Boxes]:
    """Returns the true boxes of the images in a file, and of the other labelled ones.

    Args:
        there: the images in the file.
        others: images that are not in it.
        source: the labels.
        sizes: (height, width) of the images that are here.
        paths: the submission and the labels, for messages.

    Raises:
        UserError: an image in the file has no labels, or its size, which its boxes are cut at, is not known.
    """
    name, (path, labels) = source.competition.name, paths
    absent = next((image_id for image_id in there if image_id not in sizes), None)
    if absent is not None:
        raise UserError(
            f"the size of {absent} in {path} is not known: no image of {name} found here has this id; put its folder "
            "where ./run.sh finds it (DATA_DIR), or name another competition"
        )
    labelled = true_boxes(source, {image_id: sizes[image_id] for image_id in (*there, *others)})
    without = [image_id for image_id in there if image_id not in labelled]
    if without:
        raise UserError(
            f"{path}: {len(without)} of its {len(there)} images have no labels in {labels}, such as {without[0]}; "
            f"pass labels of all images with --boxes. The file is read as a submission to {name}"
        )
    if names_only_boxes(source):  # an image that is neither in the labels nor in the file may be of another subset
        in_file = set(there)
        labelled = {one: boxes for one, boxes in labelled.items() if one in in_file or len(boxes.classes)}
    if not any(len(boxes.classes) for boxes in labelled.values()):
        raise UserError(f"{path}: no image in it has a box in {labels}; it is read as a submission to {name}")
    return labelled


def _submitted(boxes: Boxes, competition: Competition) -> Boxes:
    """Returns the boxes of submitted classes."""
    return boxes.keep(np.isin(boxes.classes, competition.submitted_indices))
