"""A descriptor of boxes says where they are in one way; keys of masks and of other forms are refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipeline.config.box_form import BoxForm
from pipeline.config.check_competition import check_competition
from pipeline.config.competition import Competition, Convention, Objects, Submission
from pipeline.config.load import load, load_competition
from pipeline.errors import UserError

CSV = BoxForm(csv="boxes.csv", class_column="label", columns=("l", "t", "r", "b"))
GOOD = Competition(
    name="good", title="Good", classes=("car", "tree"), images="{id}.jpg", task="boxes", boxes=BoxForm(coco="a.json")
)
MASKS = Competition(name="good", title="Good", classes=("ground", "tree"), images="{id}.jpg", masks="masks/{id}.png")


def refusal(competition: Competition) -> str:
    with pytest.raises(UserError) as caught:
        check_competition(competition, {})
    return str(caught.value).removeprefix("configs/competitions/good.yaml: ")


def test_boxes_have_no_background_and_are_scored_by_ap_unless_another_score_is_given():
    check_competition(GOOD, {})
    assert (GOOD.score, GOOD.scored_indices, GOOD.has_boxes) == ("ap", (0, 1), True)
    assert (0, 0, 0) not in GOOD.colors
    one = dataclasses.replace(GOOD, classes=("car",), colors=(), score="ap50")
    check_competition(one, {})
    assert (one.score, one.scored_indices) == ("ap50", (0,))
    assert MASKS.score == "dice" and not MASKS.has_boxes


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": "masks/{id}.png"}, "MASKS: is only for masks, but TASK is boxes; remove it"),
        ({"mask_values": (0, 255)}, "MASK_VALUES: is only for masks"),
        ({"mask_folder": "/masks"}, "MASK_FOLDER: is only for masks"),
        ({"mask_size": "any"}, "MASK_SIZE: is only for masks"),
        ({"annotators": "vote"}, "ANNOTATORS: is only for masks"),
        ({"labels": "multilabel"}, "LABELS: is only for masks"),
        ({"valid_region": "{id}.png"}, "VALID_REGION: is only for masks"),
        ({"ignore_index": 1}, "IGNORE_INDEX: is only for masks"),
        ({"objects": Objects("components")}, "OBJECTS.METHOD: is only for masks"),
        ({"convention": Convention(order="column", id_column="ImageID")}, "CONVENTION.ORDER: is only for masks"),
        ({"submission": Submission("png_masks")}, "SUBMISSION.FORMAT: png_masks stores masks"),
        (
            {"score": "dice"},
            "SCORE: dice is a score for masks, but TASK is boxes; write one of ap, ap50, ap75, image_ap, box_fbeta",
        ),
        ({"boxes": None}, "BOXES: is missing; TASK: boxes needs it"),
        ({"boxes": BoxForm()}, "BOXES: found none of them, expected exactly one of COCO, VOC, YOLO, CSV, NUSCENES"),
        ({"boxes": BoxForm(coco="a.json", csv="b.csv")}, "BOXES: found COCO and CSV, expected exactly one"),
        ({"boxes": BoxForm(voc="{id}.xml", valid_coco="b.json")}, "BOXES.VALID_COCO: is used together with BOXES.COCO"),
        (
            {"boxes": BoxForm(coco="a.json", order="xywh")},
            "BOXES.ORDER: is only for CSV, but the boxes are given as COCO",
        ),
        (
            {"boxes": BoxForm(yolo="{id}.txt", first_px=1)},
            "BOXES.FIRST_PX: is only for VOC and CSV; YOLO always counts from 0",
        ),
        ({"boxes": BoxForm(voc="boxes.xml")}, "BOXES.VOC: found 'boxes', expected a path with {id}"),
        ({"boxes": BoxForm(voc="{id}.txt")}, "BOXES.VOC: expected a name that ends with .xml"),
        (
            {"boxes": BoxForm(yolo="{class}/{id}.txt")},
            "BOXES.YOLO: found '{class}/{id}.txt', expected one file per image",
        ),
        ({"boxes": BoxForm(coco="../a.json")}, "BOXES.COCO: found '../a.json', expected one file inside"),
        ({"boxes": BoxForm(nuscenes="{id}.json")}, "BOXES.NUSCENES: found '{id}.json', expected one file inside"),
        ({"boxes": dataclasses.replace(CSV, class_column=None)}, "BOXES.CLASS_COLUMN: is missing; with 2 classes,"),
        (
            {"boxes": dataclasses.replace(CSV, columns=None)},
            "BOXES.COLUMNS: expected either COLUMNS with four columns, or",
        ),
        ({"boxes": dataclasses.replace(CSV, box_column="bbox")}, "BOXES.COLUMNS: expected either COLUMNS"),
        (
            {"boxes": dataclasses.replace(CSV, columns=("x1", "y1", "x2"))},
            "BOXES.COLUMNS: found 3 columns, expected the 4 that ORDER names, in its order",
        ),
        ({"boxes": dataclasses.replace(CSV, class_column="l")}, "BOXES.COLUMNS: 'l' is used twice"),
        (
            {"boxes": dataclasses.replace(CSV, normalised=True, first_px=1)},
            "BOXES.FIRST_PX: 1 has no meaning with NORMALISED",
        ),
        (
            {"boxes": BoxForm(coco="a.json", names={"car": ("c",), "tre": ("t",)})},
            "BOXES.NAMES.tre: CLASSES has no class of this name; did you mean tree?",
        ),
        ({"boxes": BoxForm(coco="a.json", names={"car": ("c",)})}, "BOXES.NAMES: tree has no names"),
        ({"boxes": BoxForm(coco="a.json", names={"car": ("c",), "tree": ("C",)})}, "BOXES.NAMES: 'c' is given twice"),
        (
            {"boxes": BoxForm(coco="a.json", names={"car": "others", "tree": ("t",), "ignore": "others"})},
            "BOXES.NAMES: `others` is given twice",
        ),
    ],
)
def test_what_contradicts_boxes_is_refused_with_its_key(changes, message):
    assert refusal(dataclasses.replace(GOOD, **changes)).startswith(message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"masks": None}, "MASKS: is missing; add it, or write TASK: boxes and BOXES"),
        ({"boxes": BoxForm(coco="a.json")}, "BOXES: is only for TASK: boxes"),
        ({"score": "ap"}, "SCORE: ap is a score for boxes, but TASK is segmentation"),
    ],
)
def test_boxes_are_refused_where_labels_are_masks(changes, message):
    assert refusal(dataclasses.replace(MASKS, **changes)).startswith(message)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("BOXES: {COCO: a.json, ORDER: yxyx}", ":4: BOXES.ORDER: found 'yxyx', expected one of xyxy, xywh, cxcywh"),
        ("BOXES: {COCO: a.json, FIRST_PX: 2}", ":4: BOXES.FIRST_PX: found '2'"),
        ("BOXES: {COCCO: a.json}", ":4: unknown key BOXES.COCCO; did you mean BOXES.COCO?"),
        ("BOXES: train.json", ":4: BOXES: found 'train.json', expected a group of keys: COCO, VALID_COCO, VOC"),
        ("BOXES: {COCO: a.json, NAMES: {car: c}}", ":4: BOXES.NAMES.car: found 'c', expected a list in brackets"),
        (
            "BOXES: {COCO: a.json}\nMASK_VALUES: [0, 1]",
            ":5: MASK_VALUES: is only for masks, but TASK is boxes; remove it",
        ),
        ("BOXES: {COCO: a.json}\nTASK: box", ":5: TASK: found 'box', expected one of segmentation, boxes"),
    ],
)
def test_a_broken_descriptor_of_boxes_is_refused_with_file_and_line(line, message, configs: Path):
    task = [] if "TASK" in line else ["TASK: boxes"]
    head = ["TITLE: x", "CLASSES: [car]", "IMAGES: '{id}.jpg'"]
    (configs / "competitions" / "mine.yaml").write_text("\n".join([*head, line, *task]))
    with pytest.raises(UserError) as caught:
        load_competition("mine")
    assert str(caught.value).startswith(f"configs/competitions/mine.yaml{message}")


def test_runs_on_masks_depend_on_no_key_of_boxes_and_runs_on_boxes_on_all():
    masks, boxes = load("ExpBAA").settings, load("BccdR").settings
    assert not [key for key in masks if key.startswith("COMPETITION.BOXES")]
    assert boxes["COMPETITION.BOXES.COCO"] == "train.json" and boxes["COMPETITION.TASK"] == "boxes"


def test_bccd_is_boxes_and_only_scores_of_boxes_are_watched_there():
    bccd = load("BccdR", ("SOLVER.MONITOR=valid_ap50",)).competition
    assert (bccd.classes, bccd.boxes.kind, bccd.boxes.bad_boxes) == (("RBC", "WBC", "Platelets"), "coco", "skip")
    with pytest.raises(UserError, match=r"bccd has boxes, but dice is not a score for boxes; set valid_ap"):
        load("BccdR", ("SOLVER.MONITOR=valid_dice",))
    with pytest.raises(UserError, match=r"SOLVER.MONITOR: .* has masks, but ap is not a score for masks"):
        load("ExpBAA", ("SOLVER.MONITOR=valid_ap",))
