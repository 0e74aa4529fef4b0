"""Folders of competitions of boxes become descriptors by which the boxes are read as they were drawn."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pipeline.config.box_form import BoxForm
from pipeline.data.catalog import build_train_catalog
from pipeline.data.discovery.draft import Draft, parse_competition
from pipeline.data.discovery.folder import NothingFound
from pipeline.detection.box_source import BoxSource
from pipeline.detection.discovery.describe import describe_folder
from pipeline.detection.discovery.experiment import experiment_text
from pipeline.detection.task import BOXES
from tests.detection.discovery import folders
from tests.detection.discovery.folders import KINDS, boxes_of, name_of, write_image, write_lines


def draft_of(kind: Callable[[Path], None], folder: Path) -> Draft:
    """Returns the descriptor of a folder of a kind."""
    kind(folder)
    return describe_folder(folder, "small")[0]


def notes_of(draft: Draft, key: str) -> str:
    return "\n".join(note.text for note in draft.notes if note.key == key)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_boxes_are_read_as_they_were_drawn(kind, tmp_path: Path):
    made = draft_of(kind, tmp_path).competition()
    source = BoxSource(made, tmp_path)
    catalog, problems = build_train_catalog(made, tmp_path, BOXES, source)
    assert problems == [] and len(catalog) >= 6
    drawn = {name_of(index): boxes_of(index) for index in range(20)}
    names = {"car": "car", "tree": "tree"} if {"car", "tree"} & {*made.classes} else None
    num = 0
    for row in catalog.itertuples():
        read, wanted = source.read(row), drawn[row.id.partition(".")[0]]
        if kind is folders.voc_from_0:
            wanted = [one._replace(left=0) for one in wanted[:1]]
        if kind is folders.unlisted and row.id == name_of(0):
            wanted = []  # its only box has no area
        sides = np.array([[one.left, one.top, one.right, one.bottom] for one in wanted]).reshape(-1, 4)
        if kind is folders.voc_from_0:
            sides[:, :2] = [0, 7]
        np.testing.assert_allclose(read.xyxy, sides, atol=0.01)
        if names:
            assert [made.classes[index] for index in read.classes] == [one.name for one in wanted]
        num += len(wanted)
    assert num >= 6


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_the_text_of_a_draft_means_the_competition_and_each_key_has_a_note(kind, tmp_path: Path):
    draft = draft_of(kind, tmp_path)
    assert parse_competition("small", draft.text) == draft.competition()
    assert draft.keys.keys() <= {note.key for note in draft.notes}
    for key in draft.keys:
        assert f"\n{key}: " in draft.text
    assert "BASE: BccdR\n" in experiment_text(draft, [(64, 48)])


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        (
            folders.coco,
            {
                "images": "train2017/{id}.jpg",
                "valid_images": "val2017/{id}.jpg",
                "test_images": "test2017/{id}.jpg",
                "classes": ("tree", "car"),
                "class_labels": ("3", "7"),
                "boxes": BoxForm(
                    coco="annotations/instances_train2017.json", valid_coco="annotations/instances_val2017.json"
                ),
            },
        ),
        (
            folders.cells,
            {
                "train_csv": "train.csv",
                "test_csv": "test.csv",
                "split_column": "Split",
                "class_labels": "names",
                "sample_submission": "sample_submission.csv",
                "boxes": BoxForm(coco="train.json"),
            },
        ),
        (folders.unlisted, {"without_mask": "skip", "boxes": BoxForm(coco="labels.json", bad_boxes="skip")}),
        (
            folders.wheat,
            {
                "train_csv": None,
                "test_images": "test/{id}.jpg",
                "test_csv": "sample_submission.csv",
                "id_column": "image_id",
                "boxes": BoxForm(csv="train.csv", box_column="bbox", order="xywh"),
            },
        ),
        (
            folders.chests,
            {
                "train_csv": "train.csv",
                "classes": ("tree", "car"),
                "class_labels": ("0", "1"),
                "boxes": BoxForm(
                    csv="train.csv", class_column="class_name", columns=("x_min", "y_min", "x_max", "y_max")
                ),
            },
        ),
        (
            folders.corners,
            {
                "id_column": "filename",
                "class_labels": ("1", "2"),
                "boxes": BoxForm(csv="boxes.csv", class_column="label", box_column="box", normalised=True),
            },
        ),
        (
            folders.voc,
            {
                "train_csv": "ImageSets/Main/train.txt",
                "valid_csv": "ImageSets/Main/val.txt",
                "boxes": BoxForm(voc="Annotations/{id}.xml"),
            },
        ),
        (folders.voc_from_0, {"without_mask": "empty", "boxes": BoxForm(voc="{id}.xml", first_px=0)}),
        (
            folders.yolo,
            {
                "valid_images": "images/val/{id}.jpg",
                "classes": ("car", "tree"),
                "without_mask": "empty",
                "boxes": BoxForm(yolo="labels/*/{id}.txt"),
            },
        ),
        (folders.darknet, {"classes": ("car", "tree"), "train_csv": None}),
        (folders.nameless, {"classes": ("Class 0", "Class 1")}),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_each_kind_has_the_keys_of_its_files(kind, wanted, tmp_path: Path):
    made = draft_of(kind, tmp_path).competition()
    assert made.has_boxes and {name: getattr(made, name) for name in wanted} == wanted


def test_a_sample_shows_how_boxes_are_written(tmp_path: Path):
    fields = draft_of(folders.wheat, tmp_path / "wheat").competition().box_convention.fields
    assert fields == ("score", "left", "top", "width", "height")
    assert draft_of(folders.chests, tmp_path / "chests").competition().box_convention.empty == "14 1 0 0 1 1"


def test_outlines_beside_boxes_are_named_with_what_makes_masks_of_them(tmp_path: Path):
    assert "also has outlines, which are not read" in notes_of(draft_of(folders.coco, tmp_path / "a"), "BOXES")
    assert "outlines" not in notes_of(draft_of(folders.exported, tmp_path / "b"), "BOXES")


def test_outlines_without_boxes_are_no_boxes(tmp_path: Path):
    folders.coco(tmp_path)
    for path in tmp_path.rglob("*.json"):
        content = json.loads(path.read_text())
        for entry in content["annotations"]:
            del entry["bbox"]
        path.write_text(json.dumps(content))
    with pytest.raises(NothingFound, match=r"no COCO file \(JSON\)"):
        describe_folder(tmp_path, "small")


def test_validation_images_without_boxes_are_not_used(tmp_path: Path):
    folders.coco(tmp_path)
    (tmp_path / "annotations/instances_val2017.json").unlink()
    draft = describe_folder(tmp_path, "small")[0]
    assert "VALID_IMAGES" not in draft.keys and "have no boxes, and are not used" in notes_of(draft, "VALID_IMAGES")
    assert draft.competition().boxes == BoxForm(coco="annotations/instances_train2017.json")


def test_test_images_in_the_folder_of_the_training_images_are_no_images_without_boxes(tmp_path: Path):
    rows = ["name,x,y,w,h"]
    for index in range(10):
        write_image(tmp_path / f"images/{name_of(index)}.jpg", index)
        rows += [f"{name_of(index)},{one.left},{one.top},9,9" for one in boxes_of(index) if index < 7]
    write_lines(tmp_path / "boxes.csv", rows)
    write_lines(tmp_path / "test.csv", ["name", *(name_of(index) for index in range(7, 10))])
    made = describe_folder(tmp_path, "small")[0].competition()
    assert (made.train_csv, made.test_csv, made.boxes.order) == ("boxes.csv", "test.csv", "xywh")
    catalog, problems = build_train_catalog(made, tmp_path, BOXES, BoxSource(made, tmp_path))
    assert problems == [] and {*catalog["id"]} == {name_of(index) for index in range(7) if boxes_of(index)}


@pytest.mark.parametrize("name", ["notes.txt", "labels.json", "boxes.csv", "images/1.txt", "images/1.xml"])
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"{", b"a,b\n1,2\n", b"<annotation/>", b"[1, 2]", b"0 1 2"])
def test_files_without_boxes_are_no_boxes(name, content, tmp_path: Path):
    for index in range(3):
        write_image(tmp_path / f"images/{index}.jpg", index)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(NothingFound, match="four numbers of a box"):
        describe_folder(tmp_path, "small")


@pytest.mark.parametrize("start", ["1699999999", "9" * 5000])
def test_text_files_whose_lines_begin_with_a_large_number_are_no_boxes(start, tmp_path: Path):
    for index in range(3):
        write_image(tmp_path / f"images/{index}.jpg", index)
        write_lines(tmp_path / f"images/{index}.txt", [f"{start} 0.5 0.5 0.2 0.2"])
    with pytest.raises(NothingFound, match="XML or text files"):
        describe_folder(tmp_path, "small")


def test_a_large_number_in_a_file_of_names_makes_no_classes(tmp_path: Path):
    folders.nameless(tmp_path)
    write_lines(tmp_path / "data.yaml", ["names: {0: car, 1699999999: tree}"])
    assert describe_folder(tmp_path, "small")[0].competition().classes == ("Class 0", "Class 1")
