"""Refuses a descriptor whose TASK and label keys do not match: keys for masks with boxes, or the reverse."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from pipeline.config.box_form import FORMS, IGNORED, OTHERS, BoxForm
from pipeline.config.template import CLASS, FIELD, template_problem
from pipeline.config.tree import Problems, first_repeated
from pipeline.wording import did_you_mean

if TYPE_CHECKING:
    from pipeline.config.competition import Competition

# Keys about masks; None by default.
OF_MASKS = ("masks", "annotators", "mask_folder", "mask_values", "valid_region", "ignore_index")
GROUPS_OF_MASKS = ("objects", "convention")
LEAST_OF_MASKS = 0.5  # IoU; below it, two objects could hit the same one
OF_CSV = ("id_column", "class_column", "columns", "box_column", "order", "normalised")


def label_problems(competition: Competition, of_boxes: tuple[str, ...]) -> Problems:
    """Yields where TASK, MASKS, BOXES and SCORE contradict each other.

    Args:
        of_boxes: the names of the scores of boxes.
    """
    is_of_boxes = competition.score in of_boxes
    if not competition.has_boxes:
        if competition.masks is None:
            yield "MASKS", "is missing; add it, or write TASK: boxes and BOXES if the labels are boxes"
        if competition.boxes is not None:
            yield "BOXES", "is only for TASK: boxes; set TASK: boxes, or remove BOXES"
        if is_of_boxes:
            yield (
                "SCORE",
                f"{competition.score} is a score for boxes, but TASK is segmentation; write for example dice or iou",
            )
        if (least := min(competition.score_options.thresholds, default=1.0)) < LEAST_OF_MASKS:
            yield "SCORE_OPTIONS.THRESHOLDS", f"found {least:g}, expected {LEAST_OF_MASKS} or more for masks"
        return
    if competition.boxes is None:
        yield "BOXES", "is missing; TASK: boxes needs it, for example BOXES: {COCO: train.json}"
        return
    for key in _given_of_masks(competition):
        yield key, "is only for masks, but TASK is boxes; remove it"
    if competition.submission.format in ("png_masks", "tiff_masks", "npz"):
        yield "SUBMISSION.FORMAT", f"{competition.submission.format} stores masks, but TASK is boxes; remove it"
    if not is_of_boxes:
        yield (
            "SCORE",
            f"{competition.score} is a score for masks, but TASK is boxes; write one of {', '.join(of_boxes)}",
        )
    yield from _form_problems(competition.boxes, competition)


def _given_of_masks(competition: Competition) -> list[str]:
    """Returns the keys about masks whose values are not the defaults."""
    given = [name.upper() for name in OF_MASKS if getattr(competition, name) is not None]
    given += ["LABELS"] * competition.is_multilabel + ["MASK_SIZE"] * (competition.mask_size != "image")
    for name in GROUPS_OF_MASKS:
        group = getattr(competition, name)
        default = type(group)()
        if name == "convention":  # which takes ID_COLUMN where it has none
            default = replace(default, id_column=competition.id_column)
        own, usual = vars(group), vars(default)
        given += [f"{name}.{key}".upper() for key in own if own[key] != usual[key]]
    return given


def _form_problems(form: BoxForm, competition: Competition) -> Problems:
    given = [name for name in FORMS if getattr(form, name) is not None]
    if len(given) != 1:
        found = f"found {' and '.join(name.upper() for name in given) or 'none of them'}"
        yield "BOXES", f"{found}, expected exactly one of {', '.join(name.upper() for name in FORMS)}"
        return
    kind = form.kind
    if form.valid_coco is not None and kind != "coco":
        yield (
            "BOXES.VALID_COCO",
            "is used together with BOXES.COCO; add COCO for the other images, or remove VALID_COCO",
        )
    for name in OF_CSV:
        if kind != "csv" and getattr(form, name) != getattr(BoxForm(), name):
            yield f"BOXES.{name.upper()}", f"is only for CSV, but the boxes are given as {kind.upper()}; remove it"
    if kind == "csv":
        yield from _csv_problems(form, competition)
    if form.first_px is not None and kind not in ("voc", "csv"):
        yield "BOXES.FIRST_PX", f"is only for VOC and CSV; {kind.upper()} always counts from 0; remove it"
    if form.template is not None:
        key = f"BOXES.{kind.upper()}"
        suffix = ".xml" if kind == "voc" else ".txt"
        problem = None if form.template.endswith(suffix) else f"expected a name that ends with {suffix}"
        bare = form.template.removesuffix(suffix)  # .xml is also how files of polygons end
        if problem := template_problem(bare, competition.id_format) or problem:
            yield key, problem
        if CLASS in FIELD.findall(form.template):
            yield key, f"found {form.template!r}, expected one file per image, without {{class}}"
    for name in ("coco", "valid_coco", "csv", "nuscenes"):
        path = getattr(form, name)
        if path is not None and (path.startswith("/") or ".." in path.split("/") or FIELD.search(path)):
            yield f"BOXES.{name.upper()}", f"found {path!r}, expected one file inside the competition's folder"
    yield from _name_problems(form, competition)


def _csv_problems(form: BoxForm, competition: Competition) -> Problems:
    if (form.columns is None) == (form.box_column is None):
        yield (
            "BOXES.COLUMNS",
            "expected either COLUMNS with four columns, or BOX_COLUMN with the one column that has all four numbers",
        )
    if form.columns is not None and len(form.columns) != 4:
        found = f"found {len(form.columns)} column{'s' * (len(form.columns) != 1)}"
        yield "BOXES.COLUMNS", f"{found}, expected the 4 that ORDER names, in its order"
    names = [form.id_column or competition.id_column, form.class_column, form.box_column, *(form.columns or ())]
    if twice := first_repeated([name for name in names if name is not None]):
        yield "BOXES.COLUMNS", f"{twice!r} is used twice; give each key another column"
    if form.class_column is None and len(competition.classes) > 1:
        why = f"is missing; with {len(competition.classes)} classes, name the column that has the class of a box"
        yield "BOXES.CLASS_COLUMN", why
    if form.first_px == 1 and (form.normalised or form.order == "cxcywh"):
        why = "1 has no meaning with NORMALISED: true or ORDER: cxcywh"
        yield "BOXES.FIRST_PX", f"{why}; remove it"


def _name_problems(form: BoxForm, competition: Competition) -> Problems:
    if form.names is None:
        return
    known = (*competition.classes, IGNORED)
    for name in form.names:
        if name not in known:
            yield (
                f"BOXES.NAMES.{name}",
                f"CLASSES has no class of this name; {did_you_mean(name, known, ', '.join(known))}",
            )
    missing = [name for name in competition.classes if name not in form.names]
    if missing:
        yield (
            "BOXES.NAMES",
            f"{missing[0]} has no names; list the names of every class, or remove the class from CLASSES",
        )
    names = [name.casefold() for own in form.names.values() if own != OTHERS for name in own]
    if (twice := first_repeated(names)) is not None:
        yield "BOXES.NAMES", f"{twice!r} is given twice; list each name under one class, or under {IGNORED}"
    if sum(own == OTHERS for own in form.names.values()) > 1:
        yield "BOXES.NAMES", f"`{OTHERS}` is given twice; use it for one class, or for {IGNORED}"
