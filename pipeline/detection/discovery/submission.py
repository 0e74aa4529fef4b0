"""The form of a submission of boxes to an unknown competition, by its sample."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pipeline.config.box_convention import BOX_DEFAULTS, XYWH
from pipeline.data.discovery.draft import Draft
from pipeline.data.discovery.ids import Ids, all_ids
from pipeline.data.discovery.lists import Listing
from pipeline.detection.annotations.table import four_numbers
from pipeline.detection.discovery.annotations import Annotations
from pipeline.detection.discovery.coco import result_numbers

USUAL = "class, score, left, top, right, bottom"
WITH_CLASS, WITHOUT_CLASS = 6, 5  # values of a box in a text


def describe_submission(draft: Draft, folder: Path, found: Annotations, sample: Listing | None, ids: Ids) -> None:
    """Sets SUBMISSION, BOX_CONVENTION and CLASS_LABELS, as far as the sample shows them.

    Args:
        draft: has CLASSES and ID_COLUMN.
    """
    if sample is None and "COCO" in found.form:
        labels, are_numbers = result_numbers(found, folder)
        text = "there is no sample submission; results as for COCO are assumed"
        draft.unknown("SUBMISSION", text, {"FORMAT": "coco_results"})
        draft.guess("CLASS_LABELS", "the ids of the categories", labels)
        if are_numbers:
            draft.guess(
                "BOX_CONVENTION",
                "each image is named by its id in the COCO file, so submissions have that number",
                {"IMAGE_ID": "number"},
            )
    elif sample is None:
        text = f"there is no sample submission; a csv with one text per image is assumed, for each box: {USUAL}"
        draft.unknown("SUBMISSION", text, {"FORMAT": "prediction_string"})
    else:
        _by_sample(draft, sample, ids)


def _by_sample(draft: Draft, sample: Listing, ids: Ids) -> None:
    columns = list(sample.columns)
    id_column = (sample.id_column(all_ids(ids)) or (columns[0], False))[0]
    left = [column for column in columns if column != id_column]
    if len(left) != 1:
        text = (
            f"{sample.file} has the columns {', '.join(columns)}; only submissions with two columns, image and boxes,"
        )
        draft.drop("SAMPLE_SUBMISSION")
        draft.unknown("SUBMISSION", f"{text} can be written", {"FORMAT": "prediction_string"})
        return
    keys: dict[str, Any] = {}
    if id_column != draft.keys.get("ID_COLUMN"):
        keys["ID_COLUMN"] = id_column
    if left[0] != BOX_DEFAULTS.value_column:
        keys["VALUE_COLUMN"] = left[0]
    texts = [cell.split() for cell in sample.columns[left[0]] if cell]
    num = _num_values(texts, len(draft.keys["CLASSES"]))
    if num is None:
        draft.unknown("BOX_CONVENTION", f"{sample.file} does not show how a box is written; assumed: {USUAL}")
    elif num == WITHOUT_CLASS:
        keys["FIELDS"] = ["score", *XYWH]
        draft.guess("BOX_CONVENTION", "each box has five values; assumed: score, left, top, width, height")
    else:
        _with_class(draft, texts, keys)
    if keys:
        draft.guess("BOX_CONVENTION", f"as in {sample.file}", keys)


def _num_values(texts: Sequence[Sequence[str]], num_classes: int) -> int | None:
    """Returns how many values a box has in texts; None where they do not show it.

    >>> _num_values([["car", "0.5", "1", "2", "3", "4"]], 2), _num_values([["0.5", "1", "2", "3", "4"]], 1)
    (6, 5)
    >>> _num_values([], 1) is None, _num_values([["0.5", "1", "2", "3", "4"]], 2) is None
    (True, True)
    """
    fitting = [
        num
        for num in (WITH_CLASS, WITHOUT_CLASS)
        if texts and all(len(text) % num == 0 and _are_numbers(text, num) for text in texts)
    ]
    if num_classes > 1 and WITHOUT_CLASS in fitting:
        fitting.remove(WITHOUT_CLASS)  # whose boxes cannot tell their classes
    return fitting[-1] if fitting else None


def _are_numbers(text: Sequence[str], num: int) -> bool:
    return all(four_numbers(list(text[end - 4 : end])) is not None for end in range(num, len(text) + 1, num))


def _with_class(draft: Draft, texts: Sequence[Sequence[str]], keys: dict[str, Any]) -> None:
    """Sets CLASS_LABELS by the classes in texts, or notes what they show in `keys` of BOX_CONVENTION."""
    draft.guess("BOX_CONVENTION", f"each box has six values; assumed: {USUAL}")
    classes, labels = draft.keys["CLASSES"], draft.keys.get("CLASS_LABELS")
    boxes = [text[start : start + WITH_CLASS] for text in texts for start in range(0, len(text), WITH_CLASS)]
    written = {box[0] for box in boxes}
    usual = labels or [str(index) for index in range(len(classes) + 1)]  # from 0 or from 1
    if {one.casefold() for one in written} <= {name.casefold() for name in classes}:
        draft.drop("CLASS_LABELS")
        draft.sure("CLASS_LABELS", "the sample submission calls the classes by their names", "names")
    elif not written & {*usual} and len({tuple(text) for text in texts}) == 1 and len(boxes) == len(texts):
        keys["EMPTY"] = " ".join(texts[0])
        draft.guess(
            "BOX_CONVENTION", f"{texts[0][0]} is not a class, so EMPTY seems to be the text of an image without boxes"
        )
        return
    elif not written <= {*usual}:
        text = f"the sample calls classes {', '.join(sorted(written)[:3])}; give a label for each of CLASSES"
        draft.unknown("CLASS_LABELS", text)
    elif not labels and "0" not in written and (len(classes) == 1 or str(len(classes)) in written):
        keys["CLASS_BASE"] = 1
    sides = [float(value) for box in boxes for value in box[2:]]
    if max(sides) <= 1 and any(side % 1 for side in sides):
        keys["NORMALISED"] = True
