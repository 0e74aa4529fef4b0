"""A small competition of boxes, written in any of the forms that are read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple
from xml.sax.saxutils import escape

import cv2
import numpy as np
import pandas as pd

from pipeline.config.box_form import BoxForm
from pipeline.config.check_competition import check_competition
from pipeline.config.competition import Competition
from pipeline.data.catalog import build_train_catalog
from pipeline.data.problems import Problem
from pipeline.detection.box_source import BoxSource
from pipeline.detection.task import BOXES

CLASSES = ("car", "tree", "red bike")
HEIGHT, WIDTH = 60, 80


class One(NamedTuple):
    """A box: left, top, right, bottom in pixels, right and bottom exclusive."""

    name: str
    left: float
    top: float
    right: float
    bottom: float


Labelled = Mapping[str, Sequence[One]]

FORMS = {
    "coco": BoxForm(coco="train.json"),
    "voc": BoxForm(voc="annotations/{id}.xml"),
    "yolo": BoxForm(yolo="labels/{id}.txt"),
    "xyxy": BoxForm(csv="boxes.csv", class_column="label", columns=("x1", "y1", "x2", "y2")),
    "xywh": BoxForm(csv="boxes.csv", class_column="label", box_column="bbox", order="xywh"),
    "shares": BoxForm(
        csv="boxes.csv", class_column="label", columns=("x", "y", "w", "h"), order="cxcywh", normalised=True
    ),
    "from 1": BoxForm(csv="boxes.csv", class_column="label", columns=("x1", "y1", "x2", "y2"), first_px=1),
    "nuscenes": BoxForm(nuscenes="image_annotations.json"),
}


def competition(form: BoxForm, **changes) -> Competition:
    """Returns the descriptor of the small competition, checked."""
    given = {"name": "small", "title": "Small", "classes": CLASSES, "images": "images/{id}.png"}
    given |= {"task": "boxes", "boxes": form, "train_csv": None, "test_csv": None}
    made = Competition(**(given | changes))
    check_competition(made, {})
    return made


def write(folder: Path, kind: str, labelled: Labelled) -> Path:
    """Writes images and their boxes in one of `FORMS`; returns `folder`."""
    for image_id in labelled:
        write_image(folder, image_id)
    {"coco": _coco, "voc": _voc, "yolo": _yolo, "nuscenes": _nuscenes}.get(kind, _csv(kind))(folder, labelled)
    return folder


def write_image(folder: Path, image_id: str) -> None:
    path = folder / f"images/{image_id}.png"
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.full((HEIGHT, WIDTH, 3), 90, np.uint8))


def prepared(made: Competition, folder: Path) -> tuple[pd.DataFrame, list[Problem], BoxSource]:
    """Returns the catalog of the training images, what is wrong, and the boxes after the check."""
    labels = BoxSource(made, folder)
    catalog, problems = build_train_catalog(made, folder, BOXES, labels)
    return catalog, problems, labels


def nth(catalog: pd.DataFrame, index: int) -> Any:
    """Returns a row of a catalog as stages have it."""
    return list(catalog.itertuples())[index]


def coco_content(labelled: Labelled) -> dict:
    """Returns what a COCO file has; category numbers are neither in order nor from 0."""
    number_of = {name: 90 - 7 * index for index, name in enumerate(CLASSES)}
    images = [
        {"id": 100 + index, "file_name": f"{image_id}.png", "height": HEIGHT, "width": WIDTH}
        for index, image_id in enumerate(labelled)
    ]
    boxes = [(100 + index, one) for index, own in enumerate(labelled.values()) for one in own]
    annotations = [
        {
            "id": index,
            "image_id": image,
            "category_id": number_of[one.name],
            "bbox": [one.left, one.top, one.right - one.left, one.bottom - one.top],
        }
        for index, (image, one) in enumerate(boxes, start=1)
    ]
    categories = [{"id": number, "name": name} for name, number in number_of.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def _coco(folder: Path, labelled: Labelled) -> None:
    (folder / "train.json").write_text(json.dumps(coco_content(labelled)))


def voc_text(boxes: Sequence[One], size: tuple[int, int] = (WIDTH, HEIGHT)) -> str:
    """Returns the XML of an image; pixels are counted from 1, and the last ones are inside."""
    objects = [
        f"<object><name>{escape(one.name)}</name><difficult>0</difficult><bndbox><xmin>{one.left + 1}</xmin>"
        f"<ymin>{one.top + 1}</ymin><xmax>{one.right}</xmax><ymax>{one.bottom}</ymax></bndbox></object>"
        for one in boxes
    ]
    sides = f"<size><width>{size[0]}</width><height>{size[1]}</height><depth>3</depth></size>"
    return f"<annotation>{sides}{''.join(objects)}</annotation>"


def _voc(folder: Path, labelled: Labelled) -> None:
    (folder / "annotations").mkdir(parents=True, exist_ok=True)
    for image_id, boxes in labelled.items():
        (folder / f"annotations/{image_id}.xml").write_text(voc_text(boxes))


def centred(one: One) -> tuple[float, float, float, float]:
    """Returns centre, width and height of a box as shares of the image's sides."""
    width, height = one.right - one.left, one.bottom - one.top
    return (
        (one.left + width / 2) / WIDTH,
        (one.top + height / 2) / HEIGHT,
        width / WIDTH,
        height / HEIGHT,
    )


def _yolo(folder: Path, labelled: Labelled) -> None:
    (folder / "labels").mkdir(parents=True, exist_ok=True)
    for image_id, boxes in labelled.items():
        lines = [" ".join(map(str, (CLASSES.index(one.name), *centred(one)))) for one in boxes]
        (folder / f"labels/{image_id}.txt").write_text("".join(f"{line}\n" for line in lines))


def _csv(kind: str):
    def numbers(one: One) -> list[float | str]:
        if kind == "shares":
            return [*centred(one)]
        if kind == "xywh":
            return [f'"[{one.left}, {one.top}, {one.right - one.left}, {one.bottom - one.top}]"']
        first = 1 if kind == "from 1" else 0
        return [one.left + first, one.top + first, one.right, one.bottom]

    def write_rows(folder: Path, labelled: Labelled) -> None:
        form = FORMS[kind]
        columns = [form.box_column] if form.box_column else [*form.columns]
        lines = [",".join(["ImageID", *columns, "label"])]
        for image_id, boxes in labelled.items():
            lines += [",".join([image_id, *map(str, numbers(one)), one.name]) for one in boxes]
            lines += [",".join([image_id, *[""] * len(columns), ""])] * (not boxes)
        (folder / "boxes.csv").write_text("\n".join(lines) + "\n")

    return write_rows


def _nuscenes(folder: Path, labelled: Labelled) -> None:
    entries = [
        {
            "filename": f"samples/images/{image_id}.jpg",
            "sample_data_token": image_id,
            "category_name": one.name,
            "bbox_corners": [one.left, one.top, one.right, one.bottom],
        }
        for image_id, boxes in labelled.items()
        for one in boxes
    ]
    (folder / "image_annotations.json").write_text(json.dumps(entries))
