"""Refuses contradictions in how submissions of boxes are written; see `check_competition.py`."""

from __future__ import annotations

from typing import get_args

from pipeline.config.box_convention import BOX_DEFAULTS, LAYOUTS, BoxFormat
from pipeline.config.competition import Competition
from pipeline.config.tree import Problems, first_repeated

BOX_FORMATS = get_args(BoxFormat)
# The format that each key belongs to; keys that are not listed belong to every format of boxes.
FORMAT_OF = {
    **dict.fromkeys(("fields", "normalised", "empty", "id_column", "value_column"), "prediction_string"),
    "image_id": "coco_results",
    **dict.fromkeys(("score_key", "class_key", "token_key", "meta"), "nuscenes_boxes"),
}


def check_box_convention(competition: Competition) -> Problems:
    """Yields where SUBMISSION.FORMAT and BOX_CONVENTION contradict TASK, the classes or each other."""
    own, form = competition.box_convention, competition.submission.format
    has_boxes, is_boxes = competition.has_boxes, form in BOX_FORMATS
    if has_boxes != is_boxes:
        wanted = " or ".join(BOX_FORMATS) if has_boxes else "run_lengths, png_masks, tiff_masks or npz"
        what = "boxes" if is_boxes else "masks"
        yield "SUBMISSION.FORMAT", f"{form} stores {what}, but TASK is {competition.task}; write {wanted}"
        return
    given = [name for name, default in vars(BOX_DEFAULTS).items() if getattr(own, name) != default]
    for name in given:
        if not is_boxes or FORMAT_OF.get(name, form) != form:
            wanted = FORMAT_OF.get(name, " or ".join(BOX_FORMATS))
            why = f"is only for SUBMISSION.FORMAT: {wanted}, but that is {form}; remove it, or change FORMAT"
            yield f"BOX_CONVENTION.{name.upper()}", why
    if not is_boxes:
        return
    for key in ("values", "file"):
        if getattr(competition.submission, key) is not None:
            yield f"SUBMISSION.{key.upper()}", f"is only for masks in a zip, but SUBMISSION.FORMAT is {form}; remove it"
    if form == "prediction_string":
        yield from _fields(competition)
    yield from _labels(competition)


def _fields(competition: Competition) -> Problems:
    own, key = competition.box_convention, "BOX_CONVENTION.FIELDS"
    layouts = "; ".join(", ".join(layout) for layout in LAYOUTS)
    if not own.layout or (twice := first_repeated(own.fields)) is not None:
        found = f"{twice} twice" if own.layout else f"[{', '.join(own.fields)}]"
        yield key, f"found {found}; expected class, score and one of these groups, in the order of the text: {layouts}"
    if "score" not in own.fields:
        yield key, "score is missing; add it, since boxes are ranked by it"
    if "class" not in own.fields and len(competition.scored_indices) != 1:
        num = len(competition.scored_indices)
        yield key, f"class is missing, but {num} classes are submitted; add class, or set SUBMITTED to one class"
    if own.value_column == (own.id_column or competition.id_column):
        yield (
            "BOX_CONVENTION.VALUE_COLUMN",
            f"{own.value_column} is also the column of the ids; name the column of the boxes",
        )


def _labels(competition: Competition) -> Problems:
    form, own = competition.submission.format, competition.box_convention
    labels = [competition.label_texts[index] for index in competition.submitted_indices]
    number = next((label for label in labels if not label.isdecimal()), None)
    if form == "coco_results" and number is not None:
        yield (
            "CLASS_LABELS",
            f"{number!r} cannot be a category_id; give a whole number for each class, for example [1, 2, 3]",
        )
    blank = next((label for label in labels if len(label.split()) != 1), None)
    if form == "prediction_string" and "class" in own.fields and blank is not None:
        yield (
            "CLASS_LABELS",
            f"{blank!r} contains spaces, which separate the values in the text; give labels without spaces",
        )
