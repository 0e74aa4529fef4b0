"""The true boxes of images that a submission is scored against: stored as the competition's own, wherever they are."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pipeline.config.competition import Competition
from pipeline.config.template import FIELD
from pipeline.data.problems import format_problems
from pipeline.detection.box_source import BoxSource
from pipeline.detection.boxes import Boxes
from pipeline.errors import UserError
from pipeline.submission.file import Sizes


class Row(NamedTuple):
    """What `BoxSource.read` needs of a row of the catalog."""

    id: str
    mask: str
    height: int
    width: int


def open_truth(labels_path: Path, competition: Competition) -> BoxSource:
    """Returns the boxes at a path.

    Args:
        labels_path: the file that has the boxes of all images, or the folder of such files, or of one per image.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    form, folder = competition.boxes, labels_path
    if form.template is not None:
        if not labels_path.is_dir():
            example = PurePosixPath(form.template).name
            raise UserError(f"--boxes {labels_path}: found a file, expected the folder that has the files {example}")
        parts = PurePosixPath(form.template).parts
        first = next(index for index, part in enumerate(parts) if FIELD.search(part))
        form = replace(form, **{form.kind: "/".join(parts[first:])})
    elif labels_path.is_file():
        folder, form = labels_path.parent, replace(form, **{form.kind: labels_path.name, "valid_coco": None})
    source = BoxSource(replace(competition, boxes=form), folder)
    if source.problems:
        raise UserError(f"{labels_path} cannot be used to score:\n{format_problems(list(source.problems))}")
    return source


def true_boxes(source: BoxSource, sizes: Sizes) -> dict[str, Boxes]:
    """Returns the boxes of the images that the labels have, by id; the others are left out.

    If the labels list only boxes, an image that is not in them has none.

    Args:
        sizes: (height, width) of each image.
    """
    rows = [Row(image_id, source.cell(image_id), *size) for image_id, size in sizes.items()]
    return {row.id: source.read(row) for row in rows if row.mask or source.competition.without_mask == "empty"}


def names_only_boxes(source: BoxSource) -> bool:
    """Returns whether the labels say nothing of an image without boxes."""
    return source.form.kind in ("csv", "nuscenes")
