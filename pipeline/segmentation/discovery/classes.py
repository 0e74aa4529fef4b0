"""The classes of an unknown folder: by the values of its masks, the labels in its lists, and the names of its files."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Sequence
from itertools import pairwise
from typing import NamedTuple

from pipeline.config.competition import IGNORED as IGNORED_NAME
from pipeline.data.discovery.draft import Draft
from pipeline.data.discovery.ids import all_ids, training_ids
from pipeline.data.discovery.lists import Listing, is_runs, split_cell
from pipeline.segmentation.discovery.findings import Findings
from pipeline.segmentation.discovery.masks import DENSE, MaskFiles, is_dense

BACKGROUND, OBJECT = "Background", "Object"
IGNORED = 255  # usual value of ignored pixels
MOST_COMPARED = 500  # images whose classes are compared


class Labels(NamedTuple):
    """How submissions call classes: `rows` as in CONVENTION, the column of the class, the labels in their order."""

    rows: str
    class_column: str | None
    labels: tuple[str, ...]


def describe_classes(draft: Draft, findings: Findings) -> Labels:
    """Sets CLASSES and what depends on them; returns how the sample, or else the list of masks, calls the classes."""
    masks, runs, sample = findings.masks, findings.runs, findings.sample
    own = labels_of(runs, training_ids(findings.ids)) if runs else Labels("id", None, ())
    sampled = labels_of(sample, all_ids(findings.ids)) if sample else None
    submitted = (
        sampled.labels if sampled and sampled.labels else own.labels if isinstance(draft.keys["MASKS"], dict) else ()
    )
    if isinstance(draft.keys["MASKS"], dict):
        _classes_of_runs(draft, own, submitted)
    elif masks.names:
        names = list(masks.names)
        draft.sure("CLASSES", "the names of the mask files; what is in none is background", [BACKGROUND, *names])
        draft.guess("SUBMITTED", "the background is not submitted", names)
    else:
        _classes_of_files(draft, masks, submitted, findings.listings)
    if sampled is None or (sampled.rows == "id" and len(draft.keys.get("SUBMITTED", ())) > 1):
        return own
    return sampled if sampled.labels or sampled.rows == "id" else sampled._replace(labels=submitted)


def labels_of(listing: Listing, ids: Collection[str]) -> Labels:
    """Returns how a list calls the classes; of images that are not here by the form of the cells or columns."""
    column, has_class = listing.id_column(ids) or (next(iter(listing.columns)), listing.ends_with_class)
    if has_class:
        return Labels("id_class", None, _ordered([split_cell(cell, ids)[1] for cell in listing.columns[column]]))
    value = listing.runs_column or list(listing.columns)[-1]
    class_column = listing.class_column(column, value) if len(listing.columns) > 2 else None
    if class_column is None:
        return Labels("id", None, ())
    return Labels("id+class", class_column, _ordered(listing.labels(class_column)))


def _ordered(cells: Sequence[str]) -> tuple[str, ...]:
    labels = tuple(dict.fromkeys(cells))
    return tuple(sorted(labels, key=int)) if all(label.isdecimal() for label in labels) else labels


def _classes_of_runs(draft: Draft, own: Labels, submitted: Sequence[str]) -> None:
    labels = _ordered([*own.labels, *submitted]) if own.labels else tuple(submitted)
    if not labels:
        draft.guess("CLASSES", "one kind of object; name it", [BACKGROUND, OBJECT])
    elif all(label.isdecimal() for label in labels):
        numbers = [int(label) for label in labels]
        names = [f"Class {number}" for number in range(max(1, min(numbers)), max(numbers) + 1)]
        if len(numbers) < DENSE * (max(numbers) - min(numbers) + 1):
            names = [f"Class {number}" for number in numbers]
            draft.sure("CLASS_LABELS", "labels are not consecutive numbers", ["background", *labels])
        elif min(numbers) == 0:
            names = [f"Class {number}" for number in range(max(numbers) + 1)]
            draft.guess(
                "CLASS_LABELS",
                "label 0 is a class beside the background",
                ["background", *map(str, range(max(numbers) + 1))],
            )
        elif min(numbers) > 1:
            draft.sure(
                "CLASS_LABELS",
                "labels do not begin with 1",
                ["background", *map(str, range(min(numbers), max(numbers) + 1))],
            )
        draft.guess(
            "CLASSES", f"the labels are {', '.join(labels)}; name the classes, in this order", [BACKGROUND, *names]
        )
        draft.sure("SUBMITTED", "all but the background", names)
    else:
        draft.sure("CLASSES", "the labels of the list", [BACKGROUND, *labels])
        draft.sure("CLASS_LABELS", "lists call the classes by their names", "names")
        draft.sure("SUBMITTED", "all but the background", list(submitted or labels))


def _classes_of_files(draft: Draft, masks: MaskFiles, submitted: Sequence[str], listings: Sequence[Listing]) -> None:
    values = masks.values
    read = (
        "all masks were read"
        if masks.is_whole
        else "not all masks were read; `prepare` names values that are missing here"
    )
    if masks.is_lossy:
        draft.unknown("MASK_VALUES", "the masks are JPEGs, whose values are not exact; convert them to PNG first")
    if values is None or masks.is_lossy:
        text = "the values of the masks do not show the classes; name them"
        draft.unknown("CLASSES", text, [BACKGROUND, OBJECT])
        return
    if masks.is_color:
        _colors(draft, values, read, listings)
        return
    are_even = len({second - first for first, second in pairwise(values)}) == 1  # 0, 85, 170, 255: four classes
    ignores = (
        len(values) > 2 and values[-1] == IGNORED and (is_dense(values[:-1]) or (len(values) > 3 and not are_even))
    )
    inner = values[:-1] if ignores else values
    if len(inner) <= 2 and 0 in inner:
        _note_classes(draft, f"masks have the values {', '.join(map(str, values))}", [BACKGROUND, OBJECT], submitted)
        if inner[-1] > 1:
            draft.sure("MASK_VALUES", read, [0, inner[-1]])
    elif is_dense(inner):
        gaps = sorted({*range(inner[-1] + 1)} - {*inner})
        text = f"values 0 to {inner[-1]} are taken as class indices; {read}"
        text += f"; {', '.join(map(str, gaps))} did not occur" if gaps else ""
        draft.guess("MASK_VALUES", f"{text}. If 0 means no data: MASK_VALUES: {{..., ignore: [0]}}")
        _note_classes(draft, f"{inner[-1] + 1} values", [f"Class {value}" for value in range(inner[-1] + 1)], submitted)
    else:
        names = [f"Class {value}" for value in inner]
        _note_classes(draft, f"{len(inner)} values", names, submitted)
        note = f"{read}. Values that do not count: `ignore: [...]`, and all that are not named: `ignore: others`"
        draft.guess(
            "MASK_VALUES", note, {name: [value] for name, value in zip(draft.keys["CLASSES"], inner, strict=True)}
        )
    usual = f"{IGNORED} usually marks pixels that do not count"
    if ignores and isinstance(draft.keys.get("MASK_VALUES"), dict):
        draft.guess("MASK_VALUES", usual, draft.keys["MASK_VALUES"] | {IGNORED_NAME: [IGNORED]})
    elif ignores:
        draft.guess("IGNORE_INDEX", usual, IGNORED)


def _colors(draft: Draft, values: Sequence[tuple[int, int, int]], read: str, listings: Sequence[Listing]) -> None:
    draft.sure("MASK_VALUES", "masks are stored in colours", "colors")
    for listing in listings:
        table = listing.color_table()
        if table and {*values} <= {*table.values()} and len({*table.values()}) == len(table):
            draft.sure("CLASSES", f"named in {listing.file}", list(table))
            draft.sure("COLORS", f"as in {listing.file}", [list(color) for color in table.values()])
            return
    draft.sure(
        "COLORS", f"the colours that masks have, in the order of CLASSES; {read}", [list(value) for value in values]
    )
    if len(values) == 2:
        draft.guess("CLASSES", "two colours; the darker one is the background", [BACKGROUND, OBJECT])
    else:
        draft.guess(
            "CLASSES", f"{len(values)} colours; name the classes", [f"Class {index}" for index in range(len(values))]
        )


def _note_classes(draft: Draft, text: str, names: list[str], submitted: Sequence[str]) -> None:
    """Sets CLASSES, with the labels of the sample where there is one for each."""
    are_names = submitted and not all(label.isdecimal() for label in submitted)
    if are_names and len(submitted) in (len(names), len(names) - 1):
        names = [*[BACKGROUND][: len(names) - len(submitted)], *submitted]
        draft.guess("CLASSES", f"{text}, called as in the sample submission, in its order", names)
        draft.sure("CLASS_LABELS", "the sample submission calls the classes by their names", "names")
        if len(submitted) < len(names):
            draft.sure("SUBMITTED", "the classes in the sample submission", list(submitted))
        return
    draft.guess("CLASSES", f"{text}; name the classes, in this order", names)
    if submitted and not are_names and len(submitted) < len(names):
        numbers = [int(label) for label in submitted if int(label) < len(names)]
        draft.sure("SUBMITTED", "the classes in the sample submission", [names[number] for number in numbers])


def describe_overlap(draft: Draft, runs: Listing | None, ids: Collection[str]) -> None:
    """Sets LABELS where run lengths of several classes overlap in some images; such classes have no background.

    Args:
        draft: is complete: CONVENTION says whether starts are relative.
    """
    if runs is None or not isinstance(draft.keys["MASKS"], dict) or "OBJECTS" in draft.keys:
        return
    column, has_class = runs.id_column(ids)
    class_column = None if has_class else runs.class_column(column, runs.runs_column)
    if class_column is None and not has_class:
        return
    labels = runs.labels(class_column) if class_column else []
    is_relative = draft.keys["CONVENTION"].get("RELATIVE", False)
    owned: dict[str, list[tuple[int, int, str]]] = defaultdict(list)
    for row, (cell, text) in enumerate(zip(runs.columns[column], runs.columns[runs.runs_column], strict=True)):
        image_id, label = split_cell(cell, ids) if has_class else (cell, labels[row])
        if is_runs(text) and (image_id in owned or len(owned) < MOST_COMPARED):
            owned[image_id] += [(start, end, label) for start, end in _intervals(text, is_relative)]
    num = sum(_overlap(own) for own in owned.values())
    if num:
        _leave_out_background(draft)
        text = f"classes overlap in {num:,} of {len(owned):,} images, so a pixel may have several, or none"
        draft.sure("LABELS", f"{text}; CLASSES has no background", "multilabel")


def _leave_out_background(draft: Draft) -> None:
    """Takes the background out of CLASSES, and of the labels and submitted classes that follow from it."""
    first, *names = draft.keys["CLASSES"]
    if first != BACKGROUND:
        return
    labels = draft.keys.get("CLASS_LABELS") or [str(number) for number in range(1, len(names) + 1)]
    draft.keys["CLASSES"] = names
    if labels != "names":
        draft.drop("CLASS_LABELS")
        draft.sure("CLASS_LABELS", "the labels of the list", labels[-len(names) :])
    if draft.keys.get("SUBMITTED") == names:
        draft.drop("SUBMITTED")


def _intervals(text: str, is_relative: bool) -> list[tuple[int, int]]:
    """Returns where runs begin and end.

    >>> _intervals("5 2 9 1", False), _intervals("5 2 9 1", True)
    ([(5, 7), (9, 10)], [(5, 7), (16, 17)])
    """
    numbers, found, last = [int(word) for word in text.split()], [], 0
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        first = last + start if is_relative else start
        last = first + length
        found.append((first, last))
    return found


def _overlap(intervals: Sequence[tuple[int, int, str]]) -> bool:
    """Returns whether intervals (start, end, label) of two labels have a number in common."""
    ends: dict[str, int] = {}
    for start, end, label in sorted(intervals):
        if any(own > start for other, own in ends.items() if other != label):
            return True
        ends[label] = max(end, ends.get(label, 0))
    return False
