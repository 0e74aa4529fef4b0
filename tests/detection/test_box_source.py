"""The boxes of a competition: which file has those of an image, what is unusual, and what their hash depends on."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from pipeline.config.box_form import BoxForm
from pipeline.config.load import load_competition
from pipeline.detection.box_source import BoxSource
from pipeline.detection.boxes import make_boxes
from pipeline.detection.labels import box_notices, class_presence, class_table, count_boxes
from pipeline.errors import UserError
from pipeline.report.plots import draw_class_histogram
from pipeline.report.read import read_classes
from tests.detection.box_files import FORMS, One, coco_content, competition, nth, prepared, write, write_image

LABELLED = {"a": [One("car", 0, 0, 8, 8), One("car", 1, 1, 79, 59)], "b": [One("tree", 0, 0, 40, 40)], "c": []}


def row_of(catalog: pd.DataFrame, image_id: str) -> SimpleNamespace:
    return next(row for row in catalog.itertuples() if row.id == image_id)


@pytest.mark.parametrize("kind", ["voc", "yolo"])
def test_an_image_without_a_file_is_refused_empty_or_skipped_as_the_competition_says(kind, tmp_path):
    write(tmp_path, kind, LABELLED)
    (tmp_path / FORMS[kind].template.format(id="b")).unlink()
    _, problems, _ = prepared(competition(FORMS[kind]), tmp_path)
    assert [(one.kind, one.file, one.found) for one in problems] == [
        ("boxes missing", FORMS[kind].template.format(id="b"), "no such file")
    ]
    catalog, problems, source = prepared(competition(FORMS[kind], without_mask="empty"), tmp_path)
    assert problems == [] and len(source.read(row_of(catalog, "b")).classes) == 0
    catalog, problems, _ = prepared(competition(FORMS[kind], without_mask="skip"), tmp_path)
    assert problems == [] and catalog["id"].tolist() == ["a", "c"]


def test_an_image_that_a_coco_file_does_not_name_is_refused_and_one_without_a_row_of_a_csv_has_no_box(tmp_path):
    for kind, wanted in (("coco", ["boxes missing"]), ("xyxy", []), ("nuscenes", [])):
        write(tmp_path / kind, kind, LABELLED)
        write_image(tmp_path / kind, "z")
        assert [problem.kind for problem in prepared(competition(FORMS[kind]), tmp_path / kind)[1]] == wanted


@pytest.mark.parametrize("kind", ["coco", "voc", "yolo", "xyxy", "nuscenes"])
def test_boxes_of_images_that_are_in_no_list_are_a_notice(kind, tmp_path):
    write(tmp_path, kind, LABELLED)
    (tmp_path / "train.csv").write_text("ImageID\na\nc\n")
    _, problems, source = prepared(competition(FORMS[kind], train_csv="train.csv"), tmp_path)
    assert problems == []
    assert [
        text
        for text in source.notices
        if text.startswith("annotated images that are not used, as no list has them: 1 (first: ")
    ]


@pytest.mark.parametrize(("kind", "of"), [("coco", "train.json"), ("yolo", "labels/{id}.txt"), ("xyxy", "boxes.csv")])
def test_annotated_images_that_the_folder_lacks_are_counted_where_there_is_no_list(kind, of, tmp_path):
    write(tmp_path, kind, LABELLED)
    (tmp_path / "images/b.png").unlink()
    _, problems, source = prepared(competition(FORMS[kind]), tmp_path)
    (text,) = (text for text in source.notices if "unpack" in text)
    first = "b.png" if kind == "coco" else "b"
    assert problems == [] and text.startswith(f"1 image of {of} is not in images (first: {first}); unpack the archive")
    assert not any("no list" in text for text in source.notices)


@pytest.mark.parametrize("kind", ["coco", "yolo", "voc", "xyxy"])
def test_annotated_test_images_are_not_used_but_are_in_the_folder(kind, tmp_path):
    write(tmp_path, kind, LABELLED)
    (tmp_path / "test").mkdir()
    (tmp_path / "images/b.png").rename(tmp_path / "test/b.png")
    made = competition(FORMS[kind], test_images="test/{id}.png")
    texts = list(prepared(made, tmp_path)[2].notices)
    assert not any("unpack" in text for text in texts)
    assert any("not used, as they are not for training or validation: 1 (first: b" in text for text in texts)
    (tmp_path / "test/b.png").unlink()
    assert any("not in images or test (first: b" in text for text in prepared(made, tmp_path)[2].notices)


@pytest.mark.parametrize(
    ("kind", "remedy"),
    [("xyxy", "set NORMALISED: true under BOXES"), ("coco", "COCO counts pixels"), ("voc", "VOC counts pixels")],
)
def test_boxes_that_all_lie_in_the_first_pixels_are_refused_as_fractions(kind, remedy, tmp_path):
    boxes = {image_id: [One("car", 0.1, 0.2, 0.3, 0.6), One("tree", 0, 0, 1, 1)] for image_id in "ab"}
    write(tmp_path, kind, boxes)
    _, problems, _ = prepared(competition(FORMS[kind]), tmp_path)
    assert [problem.kind for problem in problems] == ["boxes in fractions"] and remedy in problems[0].fix
    write(tmp_path, kind, boxes | {"b": [One("car", 1, 1, 2, 2)]})  # a single box elsewhere is a doubt
    assert prepared(competition(FORMS[kind]), tmp_path)[1] == []


def test_the_remedy_of_fractions_in_a_csv_works(tmp_path):
    write(tmp_path, "xyxy", {"a": [One("car", 0.25, 0.5, 0.75, 1)]})
    catalog, problems, source = prepared(competition(replace(FORMS["xyxy"], normalised=True)), tmp_path)
    assert problems == [] and source.read(nth(catalog, 0)).xyxy.tolist() == [[20, 30, 60, 60]]


def test_the_advice_on_yolo_files_is_about_yolo_files_and_works(tmp_path):
    write(tmp_path, "yolo", {"a": [One("car", 0, 0, 9, 9)], "b": []})
    (tmp_path / "labels/b.txt").write_text("3 0.5 0.5 0.1 0.1\n0 40 30 10 10\n")
    unknown, outside = prepared(competition(FORMS["yolo"]), tmp_path)[1]
    assert unknown.expected == "the index of a class in CLASSES: 0 to 2"
    assert "under NAMES of BOXES, as car: ['0'], tree: ['1'], ..." in unknown.fix and "LABELS" not in unknown.fix
    assert "not in pixels" in outside.fix and "ORDER" not in outside.fix and "NORMALISED" not in outside.fix
    (tmp_path / "labels/b.txt").write_text("3 0.5 0.5 0.1 0.1\n")
    names = {"car": ("0",), "tree": ("1",), "red bike": ("2",), "ignore": "others"}
    _, problems, source = prepared(competition(replace(FORMS["yolo"], names=names)), tmp_path)
    assert problems == [] and next(iter(source.notices)) == "boxes dropped by BOXES.NAMES: 1 (first: b)"


def test_files_in_a_folder_per_subset_are_found_and_two_of_an_image_are_refused(tmp_path):
    write(tmp_path, "yolo", LABELLED)
    for subset, names in (("train", "ac"), ("val", "b")):
        (tmp_path / "labels" / subset).mkdir()
        for name in names:
            (tmp_path / f"labels/{name}.txt").rename(tmp_path / f"labels/{subset}/{name}.txt")
    made = competition(BoxForm(yolo="labels/*/{id}.txt"))
    catalog, problems, source = prepared(made, tmp_path)
    assert problems == [] and catalog["mask"].tolist() == [
        "labels/train/a.txt",
        "labels/val/b.txt",
        "labels/train/c.txt",
    ]
    assert source.read(row_of(catalog, "b")).xyxy.tolist() == [[0, 0, 40, 40]]
    (tmp_path / "labels/val/a.txt").write_text("")
    problems = prepared(made, tmp_path)[1]
    assert [(one.kind, one.file) for one in problems] == [("image annotated twice", "labels/val/a.txt")]


def test_one_name_for_two_images_is_refused(tmp_path):
    write(tmp_path, "coco", {"x/1": [One("car", 0, 0, 9, 9)], "y/1": [One("tree", 0, 0, 9, 9)]})
    content = coco_content({"1": [One("car", 0, 0, 9, 9)]})
    (tmp_path / "train.json").write_text(json.dumps(content))
    (tmp_path / "train.csv").write_text("ImageID\nx/1\ny/1\n")
    _, problems, _ = prepared(competition(FORMS["coco"], train_csv="train.csv"), tmp_path)
    assert [(problem.kind, problem.found) for problem in problems] == [
        ("boxes of two images", "'1.png' matches x/1 and y/1")
    ]


def test_a_file_that_was_replaced_by_one_of_equal_size_and_time_is_read_again(tmp_path):
    for corner in (1, 2):
        write(tmp_path, "coco", {"a": [One("car", corner, corner, 9, 9)]})
        os.utime(tmp_path / "train.json", ns=(0, 0))
        catalog, problems, source = prepared(competition(FORMS["coco"]), tmp_path)
        assert problems == [] and source.read(nth(catalog, 0)).xyxy[0, 0] == corner


def test_the_list_of_images_may_be_the_csv_of_boxes(tmp_path):
    write(tmp_path, "xywh", LABELLED)
    catalog, problems, _ = prepared(competition(FORMS["xywh"], train_csv="boxes.csv"), tmp_path)
    assert problems == [] and catalog["id"].tolist() == ["a", "b", "c"]


def test_names_join_categories_and_leave_others_out(tmp_path):
    names = {"car": ("car", "RED BIKE"), "tree": ("tree",), "ignore": "others"}
    labelled = {"a": [One("red bike", 0, 0, 9, 9), One("tree", 0, 0, 9, 9), One("vehicle.van", 0, 0, 9, 9)]}
    write(tmp_path, "nuscenes", labelled)
    made = competition(BoxForm(nuscenes="image_annotations.json", names=names), classes=("car", "tree"))
    catalog, problems, source = prepared(made, tmp_path)
    assert problems == [] and source.read(nth(catalog, 0)).classes.tolist() == [0, 1]
    assert list(source.notices) == [
        "boxes dropped by BOXES.NAMES: 1 (first: a)",
        "boxes by size: 100 % small (below 32x32 px), 0 % medium, 0 % large (96x96 px or more); median side 9 px",
    ]


def test_labels_stand_for_classes_in_any_letter_case(tmp_path):
    write(tmp_path, "nuscenes", {"a": [One("CAR", 0, 0, 9, 9), One("t", 0, 0, 9, 9)]})
    made = competition(FORMS["nuscenes"], class_labels=("c", "t", "r"))
    catalog, _, source = prepared(made, tmp_path)
    assert source.read(nth(catalog, 0)).classes.tolist() == [0, 1]


@pytest.mark.parametrize("kind", FORMS)
def test_the_hash_of_an_images_boxes_changes_with_them_alone(kind, tmp_path):
    def contents() -> list[str]:
        catalog, _, source = prepared(competition(FORMS[kind]), tmp_path)
        return [source.content(row) for row in catalog.itertuples()]

    write(tmp_path, kind, LABELLED)
    before = contents()
    assert contents() == before
    write(tmp_path, kind, LABELLED | {"a": [One("car", 0, 0, 8, 9), LABELLED["a"][1]]})
    assert [one == two for one, two in zip(before, contents(), strict=True)] == [False, True, True]


def test_the_hash_changes_with_how_boxes_are_read(tmp_path):
    write(tmp_path, "voc", LABELLED)
    forms = (FORMS["voc"], BoxForm(voc="annotations/{id}.xml", first_px=0))
    made = [competition(form) for form in forms] + [competition(FORMS["voc"], classes=("tree", "car", "red bike"))]
    hashes = {BoxSource(one, tmp_path).content(SimpleNamespace(id="a", mask="annotations/a.xml")) for one in made}
    assert len(hashes) == 3


def test_boxes_that_went_bad_after_the_check_are_refused_when_read(tmp_path):
    write(tmp_path, "yolo", LABELLED)
    catalog, _, source = prepared(competition(FORMS["yolo"]), tmp_path)
    (tmp_path / "labels/a.txt").write_text("0 0.5 0.5 0 0\n")
    with pytest.raises(UserError, match="prepare --force"):
        source.read(row_of(catalog, "a"))
    (tmp_path / "labels/a.txt").unlink()
    with pytest.raises(UserError, match=r"a.txt does not exist"):
        source.read(row_of(catalog, "a"))


def test_a_file_that_changed_is_read_again(tmp_path):
    write(tmp_path, "xyxy", LABELLED)
    made = competition(FORMS["xyxy"])
    assert prepared(made, tmp_path)[0]["boxes_0"].tolist() == [2, 0, 0]
    write(tmp_path, "xyxy", LABELLED | {"c": [One("car", 2, 2, 9, 9)]})
    assert prepared(made, tmp_path)[0]["boxes_0"].tolist() == [2, 0, 1]


def test_boxes_are_counted_by_cocos_sizes():
    sides = [[0, 0, 31, 33], [0, 0, 32, 32], [0, 0, 95, 97], [0, 0, 96, 96]]
    counts = count_boxes(make_boxes([*sides, [0, 0, 9, 9]], [0, 0, 0, 0, 0], [0, 0, 0, 0, 1]), 2)
    assert counts.by_size.tolist() == [[1, 2, 1], [0, 0, 0]] and counts.crowds == 1


def test_the_table_of_classes_counts_images_and_boxes_by_size_and_side(tmp_path):
    write(tmp_path, "coco", LABELLED)
    made = competition(FORMS["coco"])
    catalog, _, _ = prepared(made, tmp_path)
    split = pd.DataFrame({"id": ["a", "b", "c"], "subset": ["train", "valid", "train"]})
    table = class_table(catalog, split, made).set_index("name")
    columns = ["images", "boxes", "small", "medium", "large", "train_images", "valid_images"]
    assert table.loc["car", columns].tolist() == [1, 2, 1, 1, 0, 1, 0]
    assert table.loc["tree", columns].tolist() == [1, 1, 0, 1, 0, 0, 1]
    assert table["box_share"].tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert class_presence(catalog).tolist() == [[True, False, False], [False, True, False], [False] * 3]
    assert box_notices(made, catalog) == [
        "no image has a box of red bike; the network cannot learn these classes",
        "images without a box: 1 (first: c); they are trained as background",
    ]
    table.reset_index().to_csv(tmp_path / "classes.csv")
    rows = read_classes(tmp_path / "classes.csv")
    assert [(row.name, row.amount, row.unit) for row in rows] == [
        ("car", 2, "boxes"),
        ("tree", 1, "boxes"),
        ("red bike", 0, "boxes"),
    ]
    assert draw_class_histogram(rows, "boxes").startswith(b"\x89PNG")


def test_the_cells_of_bccd_are_read_without_the_two_boxes_that_have_no_area(shared_data):
    folder = shared_data("bccd")
    catalog, problems, source = prepared(load_competition("bccd"), folder)
    assert problems == [] and len(catalog) == 292
    assert catalog["given"].value_counts().to_dict() == {"train": 205, "val": 87}
    (left_out,) = (text for text in source.notices if "BAD_BOXES" in text)
    assert "2 (box without area)" in left_out
    content = json.loads((folder / "train.json").read_text())
    good = [one for one in content["annotations"] if min(one["bbox"][2:]) > 0]
    read = [source.read(row) for row in catalog.itertuples()]
    assert sum(len(own.classes) for own in read) == len(good) == len(content["annotations"]) - 2
    names = {one["id"]: one["name"] for one in content["categories"]}
    ids = {one["id"]: one["file_name"][:-4] for one in content["images"]}
    by_image: dict[str, list] = {}
    for one in good:
        left, top, width, height = one["bbox"]
        index = load_competition("bccd").classes.index(names[one["category_id"]])
        by_image.setdefault(ids[one["image_id"]], []).append([index, left, top, left + width, top + height])
    for row, own in zip(catalog.itertuples(), read, strict=True):
        wanted = np.clip(np.array(by_image[row.id], np.float32), 0, [9, 640, 480, 640, 480])
        assert np.array_equal(np.column_stack([own.classes, own.xyxy]), wanted)
