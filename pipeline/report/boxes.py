"""The page's sections on predicted boxes: COCO's scores, precision-recall curves, kinds of errors, confusion matrix.

In: boxes.json, metrics.json and confusion.csv, which `evaluate` writes of a task with boxes. Out: their sections.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pipeline.report.box_plots import anchor_words, draw_anchor_fit, draw_box_confusion, draw_precision
from pipeline.report.markup import Html, bar, digits, join, quantity, table, tag, themed
from pipeline.report.plots import confusion_counts
from pipeline.report.read import Columns, percent
from pipeline.report.record import Record

# COCO's twelve numbers in their order: the head of each column, and the name in metrics.json.
SIZES = ("small", "medium", "large")
COCO = {
    "average precision (AP)": {
        "all": "ap",
        "IoU 0.5": "ap50",
        "IoU 0.75": "ap75",
        **{size: f"ap_{size}" for size in SIZES},
    },
    "average recall (AR)": {
        "1 box": "ar_1",
        "10 boxes": "ar_10",
        "100 boxes": "ar_100",
        **{size: f"ar_{size}" for size in SIZES},
    },
}
COCO_NOTE = (
    "Means over classes, and over IoU thresholds from 0.5 to 0.95 unless one is given. Recall counts at most the "
    "given number of boxes per image and class, or 100. A small box has less than 32² pixels, a large one 96² or more. "
    "A dash means that there is no such box."
)
LEAST_SHOWN = 0.005  # share; confusions below it are not listed
MOST_LISTED = 8


def boxes_section(record: Record) -> Html | None:
    """Returns COCO's numbers, precision over recall, the best thresholds, and the kinds of errors."""
    facts = record.box_facts
    if not facts or record.metrics is None:
        return None
    curves = [_precision(record, facts, iou) for iou in facts["precision"]]
    return join(
        _coco(record.metrics.content.get("coco") or {}),
        tag("h3", "Precision over recall"),
        tag("div", *curves, class_="pair"),
        tag("p", "The legend shows the mean of each curve, which is the AP of the class at this IoU.", class_="note"),
        tag("h3", "Score thresholds with the best F1"),
        _best_f1(facts),
        tag("h3", "Kinds of errors"),
        _errors(facts),
    )


def _coco(numbers: Mapping[str, float | None]) -> Html | None:
    if not numbers:
        return None
    drawn = (
        table(("", *own), [("all classes", *(digits(numbers.get(name)) for name in own.values()))], f"COCO's {what}")
        for what, own in COCO.items()
    )
    return join(*drawn, tag("p", COCO_NOTE, class_="note"))


def _precision(record: Record, facts: Mapping[str, Any], iou: str) -> Html:
    colors, alt = record.loaded.competition.colors, f"Precision over recall of each class at an IoU of {iou}."
    return themed(lambda theme: draw_precision(facts, iou, colors, theme), alt)


def _best_f1(facts: Mapping[str, Any]) -> Html:
    rows = [
        (
            name,
            bar(tag("b", digits(own["f1"])), own["f1"] or 0.0),
            *(digits(own[key]) for key in ("threshold", "precision", "recall")),
        )
        for name, own in zip(facts["classes"], facts["best_f1"], strict=True)
    ]
    head = ("class", "best F1", "score threshold", "precision", "recall")
    note = (
        "Computed from boxes with at least this score, at an IoU of 0.5. The thresholds are fitted on these images; on "
        "other images F1 is a little lower. AP needs no threshold: it uses all boxes, ranked by their scores."
    )
    return join(table(head, rows, "The highest F1 of each class"), tag("p", note, class_="note"))


def _errors(facts: Mapping[str, Any]) -> Html:
    words = facts.get("kinds") or {}
    rows = [
        (join(kind, tag("small", f": {words[kind]}") if kind in words else None), *(f"{count:,}" for count in counts))
        for kind, counts in facts["errors"].items()
    ]
    note = (
        "Predicted boxes are counted under their predicted class, missed boxes under their labelled class. Predicted "
        "boxes with a score below the threshold of their class above are not counted. The kinds are those of TIDE "
        "(Bolya et al. 2020)."
    )
    return join(table(("kind", *facts["classes"]), rows, "Boxes by kind"), tag("p", note, class_="note"))


def sizes_part(columns: Columns | None) -> Html | None:
    """Returns a table of the labelled boxes by class and size, from the columns of classes.csv; None of masks."""
    if columns is None or not {"boxes", *SIZES} <= columns.keys():
        return None
    cells = zip(*(columns[name] for name in ("boxes", *SIZES)), strict=True)
    rows = [
        (name, *(f"{int(count):,}" for count in counts)) for name, counts in zip(columns["name"], cells, strict=True)
    ]
    note = (
        "A small box has less than 32² pixels, a large one 96² or more. Regions labelled as many objects are left out."
    )
    return join(table(("class", "boxes", *SIZES), rows, "Labelled boxes by size"), tag("p", note, class_="note"))


def confusion_section(record: Record) -> Html | None:
    """Returns the confusion matrix of boxes, with the most frequent confusions; None where there is none."""
    if record.confusion is None:
        return None
    names, rows = confusion_counts(record.confusion)
    alt = "Table of labelled class against predicted class, in boxes; the last row and column are the background."
    drawn = themed(lambda theme: draw_box_confusion(names, rows, theme), alt)
    note = (
        "Rows are labelled classes, columns predicted classes. The column background has labelled boxes that were not "
        "found. The row background has predicted boxes without a labelled box, or whose labelled box is already "
        "counted. A match has an IoU of 0.5 or more. Boxes with a score below the threshold of their class are ignored."
    )
    lists = [
        tag("h3", title) if not found else join(tag("h3", title), _listed(found))
        for title, found in zip(("Labelled boxes", "Predicted boxes"), confused(names, rows), strict=True)
        if found
    ]
    return join(tag("p", note, class_="note"), tag("div", drawn, tag("div", *lists), class_="pair"))


def _listed(found: Sequence[tuple[str, float]]) -> Html:
    items = (tag("li", bar(tag("b", percent(share)), share), tag("span", words)) for words, share in found)
    return tag("ul", *items, class_="confusions")


def confused(
    names: Sequence[str], rows: Sequence[Sequence[float]]
) -> tuple[list[tuple[str, float]], list[tuple[str, float]]]:
    """Returns the most frequent errors of labelled boxes and of predicted boxes, each as a share of its class.

    Args:
        names: the classes, then the background.
        rows: boxes by labelled class and predicted class.

    >>> confused(["Cell", "Dust", "background"], [[6, 2, 2], [0, 1, 0], [2, 1, 0]])[0]
    [('of Cell are found as Dust', 0.2), ('of Cell are not found', 0.2)]
    >>> confused(["Cell", "Dust", "background"], [[8, 2, 0], [0, 1, 0], [2, 1, 0]])[1]
    [('of predicted Dust hit no box of their own', 0.25), ('of predicted Cell hit no box of their own', 0.2)]
    """
    *classes, background = range(len(names))
    labelled = [
        (f"of {names[row]} are {'not found' if column == background else f'found as {names[column]}'}", share)
        for row in classes
        for column in range(len(names))
        if row != column and (share := rows[row][column] / (sum(rows[row]) or 1)) >= LEAST_SHOWN
    ]
    totals = [sum(row[column] for row in rows) or 1 for column in classes]
    predicted = [
        (f"of predicted {names[column]} hit no box of their own", share)
        for column in classes
        if (share := rows[background][column] / totals[column]) >= LEAST_SHOWN
    ]
    return tuple(sorted(found, key=lambda own: -own[1])[:MOST_LISTED] for found in (labelled, predicted))


def anchors_part(record: Record) -> Html | None:
    """Returns how well the anchors of a RetinaNet fit the labelled boxes; None of a run that has none."""
    facts = record.anchors
    if not facts:
        return None
    colors, alt = record.loaded.competition.colors, "Share of boxes whose best anchor has a lower IoU, per class."
    drawn = themed(lambda theme: draw_anchor_fit(facts, colors, theme), alt)
    rows = [(name, f"{sum(counts):,}", *anchor_words(counts)) for name, counts in facts["counts"].items()]
    head = ("class", "boxes", "best IoU below 0.4", "below 0.5")
    note = (
        "Before augmentation, at the size of the network's input. A box with a best IoU below 0.5 is trained only "
        "on its best anchor. MODEL.OPTIONS.ANCHOR_SIZES, RATIOS and SCALES change the anchors."
    )
    total = quantity(sum(map(sum, facts["counts"].values())), "labelled box").replace("boxs", "boxes")
    beside = tag("div", table(head, rows, total), tag("p", note, class_="note"))
    return join(tag("h3", "Anchors"), tag("div", drawn, beside, class_="pair"))
