"""The form of a submission to an unknown competition: its sample, and the run lengths of its training list."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from pipeline.config.competition import IGNORE, Competition, MaskCsv
from pipeline.data.cells import is_empty
from pipeline.data.discovery.draft import Draft
from pipeline.data.discovery.ids import all_ids, training_ids
from pipeline.data.discovery.lists import Listing, is_runs
from pipeline.data.discovery.sizes import spread
from pipeline.errors import UserError
from pipeline.segmentation.discovery.classes import Labels
from pipeline.segmentation.discovery.findings import Findings
from pipeline.segmentation.mask_facts import FOUND, find_facts
from pipeline.segmentation.mask_source import MaskSource, Row
from pipeline.segmentation.submission.convention import detect_runs

USUAL = {"order": "column", "base": 1, "relative": False}  # of most competitions in `docs/conventions.md`
DEFAULTS = {"ORDER": "row", "BASE": 0, "RELATIVE": False, "VALUE_COLUMN": "EncodedPixels", "EMPTY": ""}


def describe_submission(draft: Draft, folder: Path, findings: Findings, labels: Labels) -> None:
    """Sets SUBMISSION or CONVENTION."""
    sample, has_files = findings.sample, not isinstance(draft.keys["MASKS"], dict)
    if sample is None and has_files:
        file, values = draft.keys["MASKS"].rpartition("/")[2], draft.keys.get("MASK_VALUES")
        is_tiff = file.endswith((".tif", ".tiff"))
        own: dict[str, Any] = {"FORMAT": "tiff_masks" if is_tiff else "png_masks"}
        if (
            (is_tiff or file.endswith(".png"))
            and file.startswith("{id}")
            and file not in ("{id}.png", "{id}.tif")
            and "*" not in file
            and "{class}" not in file
        ):
            own["FILE"] = file
        if isinstance(values, dict):
            own["VALUES"] = [value for name, (value, *_) in values.items() if name in draft.keys["CLASSES"]]
        draft.unknown(
            "SUBMISSION",
            f"there is no sample submission; masks as {'TIFF' if is_tiff else 'PNG'}s are assumed, with the values of "
            "the masks",
            own,
        )
        return
    shown = sample or findings.runs
    keys: dict[str, Any] = {"ROWS": labels.rows}
    if labels.class_column:
        keys["CLASS_COLUMN"] = labels.class_column
    columns = list(shown.columns)
    found = shown.id_column(training_ids(findings.ids) if shown is findings.runs else all_ids(findings.ids))
    id_column = found[0] if found else columns[0]
    if id_column != draft.keys.get("ID_COLUMN"):
        keys["ID_COLUMN"] = id_column
    left = [column for column in columns if column not in (id_column, labels.class_column)]
    value_column = shown.runs_column or (left[-1] if left else DEFAULTS["VALUE_COLUMN"])
    keys["VALUE_COLUMN"] = value_column
    numbers = [int(label) for label in labels.labels if label.isdecimal()]
    if has_files and numbers and len(numbers) == len(draft.keys["CLASSES"]) and min(numbers) != 0:
        keys["CLASS_BASE"] = min(numbers)
    empty = Counter(cell for cell in shown.columns[value_column] if is_empty(cell))
    keys["EMPTY"] = empty.most_common(1)[0][0] if empty else ""
    draft.keys["CONVENTION"] = {name: value for name, value in keys.items() if DEFAULTS.get(name, ()) != value}
    runs, text, is_sure = _runs(draft, folder, findings)
    keys = {"ROWS": keys.pop("ROWS"), **{name.upper(): value for name, value in runs.items()}, **keys}
    kept = {name: value for name, value in keys.items() if name in ("ORDER", "BASE") or DEFAULTS.get(name, ()) != value}
    (draft.sure if is_sure else draft.guess)("CONVENTION", text, kept)
    if sample is None:
        draft.unknown("CONVENTION", "there is no sample submission; rows as in the training list are assumed")


def describe_objects(draft: Draft, findings: Findings) -> None:
    """Sets OBJECTS where labels name each object: a file each, or several rows of an image and class.

    Args:
        draft: complete except for this key.
    """
    rows = draft.keys.get("CONVENTION", {}).get("ROWS")
    form: dict[str, Any] = {"METHOD": "components"}
    if rows == "id+class" and isinstance(draft.keys["MASKS"], dict) and findings.masks is None:
        runs = findings.runs
        class_column = draft.keys["MASKS"].get("CLASS_COLUMN")
        column, _ = runs.id_column(training_ids(findings.ids))
        labels = runs.labels(class_column) if class_column else []
        several = sum(count > 1 for count in Counter(zip(runs.columns[column], labels, strict=False)).values())
        found = f"images have several rows of one class ({several:,} times), so each row seems to be an object"
        form["EMPTY_ROWS"] = "image"
    elif rows != "id":
        return
    elif isinstance(draft.keys["MASKS"], dict):
        column, has_class = findings.runs.id_column(training_ids(findings.ids))
        ids = findings.runs.columns[column]
        several = 0 if has_class else sum(count > 1 for count in Counter(ids).values())
        found = f"{several:,} images have several rows, so each row seems to be an object"
    else:
        several, found = findings.masks.is_objects, "an image has a file per object"
    if several:
        why = (
            "each is submitted in a row of its own; SCORE is then often object_ap. Remove OBJECTS if one row per image"
        )
        draft.guess("OBJECTS", f"{found}: {why} is wanted", form)


def _runs(draft: Draft, folder: Path, findings: Findings) -> tuple[dict[str, Any], str, bool]:
    """Returns order, base and kind of starts of the run lengths, how they were found, and whether that is sure."""
    usual = ", ".join(f"{name.upper()} {str(value).lower()}" for name, value in USUAL.items())
    runs = findings.examples
    if runs is None:
        return USUAL, f"no run lengths of training images are here; usual ones are assumed ({usual})", False
    competition: Competition = draft.competition()
    try:
        if isinstance(draft.keys["MASKS"], dict):
            return _by_edges(competition, folder)
        return _by_masks(competition, folder, runs, training_ids(findings.ids))
    except UserError:
        shown = _shown_by_texts(runs)
        words = ", ".join(f"{name.upper()} {str(value).lower()}" for name, value in shown.items())
        why = "images and masks do not show how run lengths are read"
        rest = f"their texts show {words}, the rest is assumed" if shown else f"usual ones are assumed ({usual})"
        return USUAL | shown, f"{why}; {rest}", False


def _by_masks(
    competition: Competition, folder: Path, runs: Listing, ids: Collection[str]
) -> tuple[dict[str, Any], str, bool]:
    """Returns how run lengths are read by the mask files of some images; by edges where these are no objects alone."""
    column, has_class = runs.id_column(ids)
    texts: dict[str, list[str]] = {}
    for image_id, text in zip(runs.columns[column], runs.columns[runs.runs_column], strict=True):
        if is_runs(text) and image_id in ids:
            texts.setdefault(image_id, []).append(text)
    source = MaskSource(replace(competition, valid_region=None), folder)  # runs go beyond it
    try:
        chosen = spread(list(texts))
        masks = [source.read(Row(image_id, source.cell(image_id), 0, 0)) for image_id in chosen]
        examples = [(texts[id], (mask > 0) & (mask != IGNORE)) for id, mask in zip(chosen, masks, strict=True)]
        found = detect_runs(examples)
        return {name: found[name] for name in FOUND}, f"{runs.file} decodes to the masks", True
    except UserError:
        spec = MaskCsv(runs.file, column, runs.runs_column, rows="id_class" if has_class else "id")
        return _by_edges(replace(competition, masks=spec), folder)


def _by_edges(competition: Competition, folder: Path) -> tuple[dict[str, Any], str, bool]:
    facts = find_facts(competition, folder)
    if not facts["examples"]:
        raise UserError("no image with run lengths can be read")
    doubtful = [name.upper() for name in facts["doubtful"]]
    text = f"found by {facts['examples']} training masks and the edges in their images"
    text += f"; not sure: {', '.join(doubtful)}" if doubtful else ""
    return {name: facts[name] for name in FOUND}, text, not doubtful


def _shown_by_texts(runs: Listing) -> dict[str, Any]:
    """Returns what the texts of run lengths show by themselves: starts that do not grow are relative."""
    texts = [cell.split() for cell in runs.columns[runs.runs_column] if is_runs(cell)]
    starts = [[int(number) for number in numbers[::2]] for numbers in texts]
    if any(second <= first for own in starts for first, second in pairwise(own)):
        return {"base": 0, "relative": True}
    return {"base": 0} if any(0 in own for own in starts) else {}
