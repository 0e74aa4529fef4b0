"""Small folders of competitions of boxes as they come: COCO, Pascal VOC, YOLO and lists; the images are drawn."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from tests.detection.box_files import One, voc_text

HEIGHT, WIDTH = 48, 64
NAMES = ("car", "tree")
# The right half of the second tells corners from sizes: its right side read as a width leaves the image.
BOXES = ((4, 6, 20, 30), (34, 8, 60, 40))


def name_of(index: int) -> str:
    """Returns a name as competitions give them."""
    return f"{(index + 1) * 0x9E3779B1 % 16**9:09x}"


def boxes_of(index: int) -> list[One]:
    """Returns the boxes of an image: a car, a tree in every second image, and none in every fifth."""
    if index % 5 == 4:
        return []
    return [One(name, *box) for name, box in zip(NAMES, BOXES, strict=True)][: 1 + index % 2]


def write_image(path: Path, index: int) -> None:
    """Writes an image with its boxes drawn in noise."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(index).integers(0, 90, (HEIGHT, WIDTH, 3), np.uint8)
    for one in boxes_of(index):
        pixels[one.top : one.bottom, one.left : one.right] += 120
    Image.fromarray(pixels).save(path)


def write_coco(path: Path, indices: Sequence[int], form: str = "{}.jpg", outlines: bool = False) -> None:
    """Writes a COCO file; the numbers of categories are neither in order nor from 0, and one has no box."""
    boxes = [(index, one) for index in indices for one in boxes_of(index)]
    content = {
        "images": [
            {"id": index + 1, "file_name": form.format(name_of(index)), "height": HEIGHT, "width": WIDTH}
            for index in indices
        ],
        "annotations": [
            {
                "id": number,
                "image_id": index + 1,
                "category_id": {"car": 7, "tree": 3}[one.name],
                "bbox": [one.left, one.top, one.right - one.left, one.bottom - one.top],
                **({"segmentation": [[4, 6, 20, 6, 20, 30]]} if outlines else {}),
            }
            for number, (index, one) in enumerate(boxes, start=1)
        ],
        "categories": [{"id": 0, "name": "things"}, {"id": 7, "name": "car"}, {"id": 3, "name": "tree"}],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content))


def write_lines(path: Path, lines: Sequence[str]) -> None:
    """Writes a list, or a text file of boxes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{line}\n" for line in lines))


def coco(folder: Path) -> None:
    """COCO's layout: a folder of images and a file of annotations for each subset."""
    for index in range(14):
        subset = "train" if index < 8 else "val" if index < 11 else "test"
        write_image(folder / f"{subset}2017/{name_of(index)}.jpg", index)
    write_coco(folder / "annotations/instances_train2017.json", range(8), outlines=True)
    write_coco(folder / "annotations/instances_val2017.json", range(8, 11), outlines=True)


def exported(folder: Path) -> None:
    """As annotation programs export COCO: the annotations lie beside the images of each subset."""
    for index in range(12):
        subset = "train" if index < 8 else "valid"
        write_image(folder / f"{subset}/{name_of(index)}.jpg", index)
    write_coco(folder / "train/_annotations.coco.json", range(8))
    write_coco(folder / "valid/_annotations.coco.json", range(8, 12))


def cells(folder: Path) -> None:
    """One folder of images, lists of subsets, and one COCO file of all images for training."""
    for index in range(14):
        write_image(folder / f"images/{name_of(index)}.png", index)
    write_coco(folder / "train.json", range(10), "{}.png")
    write_lines(
        folder / "train.csv", ["ImageID,Split", *(f"{name_of(n)},{'valid' if n > 7 else 'train'}" for n in range(10))]
    )
    write_lines(folder / "test.csv", ["ImageID", *(name_of(index) for index in range(10, 14))])
    sample = [f"{name_of(index)},car 0.5 10 10 60 40" for index in range(10, 14)]
    write_lines(folder / "sample_submission.csv", ["ImageID,PredictionString", *sample])


def unlisted(folder: Path) -> None:
    """A COCO file that names some of the images in a folder, and a box without area."""
    for index in range(12):
        write_image(folder / f"images/{name_of(index)}.jpg", index)
    write_coco(folder / "labels.json", range(9), "images/{}.jpg")
    content = json.loads((folder / "labels.json").read_text())
    content["annotations"][0]["bbox"][2] = 0
    (folder / "labels.json").write_text(json.dumps(content))


def wheat(folder: Path) -> None:
    """A csv with all numbers of a box in one cell, one class, and no row of images without a box."""
    rows = ["image_id,width,height,bbox,source"]
    for index in range(13):
        write_image(folder / f"{'train' if index < 10 else 'test'}/{name_of(index)}.jpg", index)
        for one in boxes_of(index) if index < 10 else ():
            text = f'"[{one.left}.0, {one.top}.0, {one.right - one.left}.0, {one.bottom - one.top}.0]"'
            rows.append(f"{name_of(index)},{WIDTH},{HEIGHT},{text},usask_1")
    write_lines(folder / "train.csv", rows)
    sample = [f"{name_of(index)},1.0 0 0 50 50" for index in range(10, 13)]
    write_lines(folder / "sample_submission.csv", ["image_id,PredictionString", *sample])


def chests(folder: Path) -> None:
    """A csv with four columns, names and numbers of classes, and a class that means that there is no box."""
    rows = ["image_id,class_name,class_id,x_min,y_min,x_max,y_max"]
    for index in range(13):
        write_image(folder / f"{'train' if index < 10 else 'test'}/{name_of(index)}.png", index)
        for one in boxes_of(index) if index < 10 else ():
            label = {"car": 1, "tree": 0}[one.name]
            rows.append(f"{name_of(index)},{one.name},{label},{one.left},{one.top},{one.right},{one.bottom}")
        if index < 10 and not boxes_of(index):
            rows.append(f"{name_of(index)},No finding,14,,,,")
    write_lines(folder / "train.csv", rows)
    sample = [f"{name_of(index)},14 1 0 0 1 1" for index in range(10, 13)]
    write_lines(folder / "sample_submission.csv", ["image_id,PredictionString", *sample])


def corners(folder: Path) -> None:
    """A csv with the names of files, numbers of classes from 1, and corners in one cell, in fractions."""
    rows = ["filename,label,box"]
    for index in range(8):
        write_image(folder / f"images/{name_of(index)}.jpg", index)
        for one in boxes_of(index):
            shares = (one.left / WIDTH, one.top / HEIGHT, one.right / WIDTH, one.bottom / HEIGHT)
            rows.append(f"{name_of(index)}.jpg,{NAMES.index(one.name) + 1},{' '.join(map(str, shares))}")
    write_lines(folder / "boxes.csv", rows)


def voc(folder: Path) -> None:
    """Pascal VOC's layout, with lists of subsets; pixels are counted from 1."""
    for index in range(10):
        write_image(folder / f"JPEGImages/{name_of(index)}.jpg", index)
        write_lines(folder / f"Annotations/{name_of(index)}.xml", [voc_text(boxes_of(index), (WIDTH, HEIGHT))])
    write_lines(folder / "ImageSets/Main/train.txt", [name_of(index) for index in range(7)])
    write_lines(folder / "ImageSets/Main/val.txt", [name_of(index) for index in range(7, 10)])


def voc_from_0(folder: Path) -> None:
    """XML files beside the images, whose pixels are counted from 0; some images have none."""
    for index in range(10):
        write_image(folder / f"{name_of(index)}.png", index)
        if boxes_of(index):
            write_lines(folder / f"{name_of(index)}.xml", [voc_text([One("car", -1, 6, 20, 30)], (WIDTH, HEIGHT))])


def yolo_lines(index: int) -> list[str]:
    """Returns the lines of YOLO's file of an image."""
    lines = []
    for one in boxes_of(index):
        x, y = (one.left + one.right) / 2 / WIDTH, (one.top + one.bottom) / 2 / HEIGHT
        sides = (one.right - one.left) / WIDTH, (one.bottom - one.top) / HEIGHT
        lines.append(" ".join(map(str, (NAMES.index(one.name), x, y, *sides))))
    return lines


def yolo(folder: Path) -> None:
    """YOLO's layout: images/ and labels/ with the same subsets, and the names of the classes in data.yaml."""
    for index in range(13):
        subset = "train" if index < 8 else "val" if index < 11 else "test"
        write_image(folder / f"images/{subset}/{name_of(index)}.jpg", index)
        if subset != "test" and boxes_of(index):
            write_lines(folder / f"labels/{subset}/{name_of(index)}.txt", yolo_lines(index))
    write_lines(folder / "data.yaml", ["train: images/train", "val: images/val", "nc: 2", "names: {0: car, 1: tree}"])


def darknet(folder: Path) -> None:
    """As Darknet has it: text files beside the images, names in obj.names, a list of paths."""
    for index in range(8):
        write_image(folder / f"obj_train_data/{name_of(index)}.jpg", index)
        write_lines(folder / f"obj_train_data/{name_of(index)}.txt", yolo_lines(index))
    write_lines(folder / "obj.names", NAMES)
    write_lines(folder / "train.txt", [f"data/obj_train_data/{name_of(index)}.jpg" for index in range(8)])


def nameless(folder: Path) -> None:
    """YOLO's files without the names of the classes."""
    for index in range(6):
        write_image(folder / f"images/{name_of(index)}.jpg", index)
        write_lines(folder / f"labels/{name_of(index)}.txt", yolo_lines(index))


KINDS = (coco, exported, cells, unlisted, wheat, chests, corners, voc, voc_from_0, yolo, darknet, nameless)
