"""Boxes are read alike from every form, and each broken annotation is found, all of them at once, with its remedy."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.config.box_form import BoxForm
from pipeline.data.problems import BOX_KINDS, Problem, format_problems
from pipeline.detection.annotations.table import Table, edges
from tests.detection.box_files import (
    CLASSES,
    FORMS,
    HEIGHT,
    WIDTH,
    One,
    coco_content,
    competition,
    nth,
    prepared,
    voc_text,
    write,
    write_image,
)

TWO = {"a": [One("car", 0, 0, 80, 60), One("red bike", 10, 20, 30, 25)], "b": [], "c": [One("tree", 5, 6, 7, 8)]}

sides = st.tuples(st.integers(0, WIDTH - 1), st.integers(0, HEIGHT - 1), st.integers(1, WIDTH), st.integers(1, HEIGHT))
boxes = st.builds(
    lambda name, at: One(name, at[0], at[1], min(WIDTH, at[0] + at[2]), min(HEIGHT, at[1] + at[3])),
    st.sampled_from(CLASSES),
    sides,
)
images = st.dictionaries(st.sampled_from(["a", "07", "b_2"]), st.lists(boxes, max_size=4, unique=True), min_size=1)


def read_all(folder: Path, kind: str) -> dict[str, list[tuple]]:
    """Returns class and sides of each box by image, as `BoxSource` reads them."""
    catalog, problems, source = prepared(competition(FORMS[kind]), folder)
    assert problems == []
    found = {row.id: source.read(row) for row in catalog.itertuples()}
    return {
        image_id: [(CLASSES[index], *xyxy) for index, xyxy in zip(own.classes, own.xyxy.tolist(), strict=True)]
        for image_id, own in found.items()
    }


@given(images)
def test_the_same_boxes_are_read_from_every_form(labelled):
    for kind in FORMS:
        with tempfile.TemporaryDirectory() as folder:
            found = read_all(write(Path(folder), kind, labelled), kind)
        assert found.keys() == labelled.keys(), kind
        for image_id, own in labelled.items():
            assert [one[0] for one in found[image_id]] == [one.name for one in own], kind
            wanted = np.array([one[1:] for one in own], float).reshape(-1, 4)
            exact = 1e-4 if kind in ("yolo", "shares") else 0
            assert np.allclose(np.array([one[1:] for one in found[image_id]]).reshape(-1, 4), wanted, 0, exact), kind


def test_a_voc_box_from_1_to_the_width_is_all_of_the_image(tmp_path):
    write(tmp_path, "voc", {"a": [One("car", 0, 0, WIDTH, HEIGHT)]})
    assert "<xmin>1</xmin><ymin>1</ymin><xmax>80</xmax><ymax>60</ymax>" in (tmp_path / "annotations/a.xml").read_text()
    assert read_all(tmp_path, "voc") == {"a": [("car", 0, 0, 80, 60)]}


@pytest.mark.parametrize(
    ("order", "first", "numbers"),
    [
        ("xyxy", 0, (3, 4, 9, 8)),
        ("xyxy", 1, (4, 5, 9, 8)),
        ("xywh", 0, (3, 4, 6, 4)),
        ("xywh", 1, (4, 5, 6, 4)),
        ("cxcywh", 0, (6, 6, 6, 4)),
    ],
)
def test_every_order_and_first_pixel_mean_the_same_box(order, first, numbers):
    assert edges(numbers, order, first) == (3, 4, 9, 8)


def test_an_image_is_found_by_the_end_of_its_path_or_by_its_id():
    names = ["train/7.jpg", "./8.PNG", "C:\\data\\9.jpg", "token", "1.jpg", "b/1.jpg", "p/5.jpg", "q/5.jpg"]
    table = Table("x.json", dict.fromkeys(names), True)
    assert table.find(["images/train/7.png"]) == "train/7.jpg"
    assert table.find(["images/8.png"]) == "./8.PNG"
    assert table.find(["data/9.png"]) == "C:\\data\\9.jpg"
    assert table.find(["images/2.png"], "token") == "token"
    assert table.find(["b/1.png"], "1") == "b/1.jpg" and table.find(["c/1.png"], "1") == "1.jpg"
    assert table.find(["c/7.jpg"], "7") == "train/7.jpg" and table.find(["c/5.jpg"], "5") is None
    assert table.find(["images/valid/7.jpg"]) is None
    assert table.find(["images/77.png"], "77") is None


def kinds(problems: list[Problem]) -> set[str]:
    return {problem.kind for problem in problems}


BROKEN = {
    "a": [
        One("car", 10, 10, 10, 20),
        One("car", 30, 10, 20, 20),
        One("car", 90, 10, 95, 20),
        One("tree", 1, 1, 5, 5),
        One("tree", 1, 1, 5, 5),
        One("car", float("nan"), 1, 5, 5),
    ],
    "b": [One("bus", 1, 1, 5, 5)],
    "c": [One("tree", -10, -10, 5, 5)],
}
FAULTS = {
    *("box without area", "box inside out", "box outside its image", "box twice", "box without numbers"),
    "class of a box unknown",
}


@pytest.fixture
def broken_classes(monkeypatch):
    """Lets files be written that have a class which the competition does not have."""
    monkeypatch.setattr("tests.detection.box_files.CLASSES", (*CLASSES, "bus"))


@pytest.mark.parametrize("kind", FORMS)
def test_each_fault_of_a_box_is_listed_at_once_with_its_place_and_remedy(kind, tmp_path, broken_classes):
    write(tmp_path, kind, BROKEN)
    _, problems, source = prepared(competition(FORMS[kind], classes=CLASSES), tmp_path)
    assert kinds(problems) == FAULTS and len(problems) == 6
    assert next(iter(source.notices)).startswith(
        "boxes that reach beyond their image by more than a pixel, clipped to it: 1 (first: c)"
    )
    for problem in problems:
        assert problem.found[:2] in ("a,", "b,")
        fix = "NAMES of BOXES" if problem.kind == "class of a box unknown" else "BAD_BOXES: skip under BOXES"
        assert fix in problem.fix and "configs/competitions/small.yaml" in problem.fix
    assert "6 problems of 6 kinds" in format_problems(problems)


@pytest.mark.parametrize("kind", FORMS)
def test_bad_boxes_are_left_out_and_counted_where_the_competition_says_so(kind, tmp_path):
    write(tmp_path, kind, {"a": BROKEN["a"], "c": BROKEN["c"]})
    made = competition(FORMS[kind].__class__(**(vars(FORMS[kind]) | {"bad_boxes": "skip"})))
    catalog, problems, source = prepared(made, tmp_path)
    assert problems == []
    assert [len(source.read(row).classes) for row in catalog.itertuples()] == [1, 1]
    assert source.read(nth(catalog, 1)).xyxy == pytest.approx(np.array([[0, 0, 5, 5]]), abs=1e-5)
    left_out = next(text for text in source.notices if text.startswith("boxes dropped by BAD_BOXES: skip: "))
    for fault in FAULTS - {"class of a box unknown"}:
        assert f"1 ({fault})" in left_out


def test_a_box_that_reaches_beyond_by_a_pixel_is_cut_without_a_word(tmp_path):
    write(tmp_path, "coco", {"a": [One("car", -1, 0, 81, 60)]})
    assert read_all(tmp_path, "coco") == {"a": [("car", 0, 0, 80, 60)]}
    (sizes,) = prepared(competition(FORMS["coco"]), tmp_path)[2].notices
    assert sizes.startswith("boxes by size: ")


def broken_coco(change) -> str:
    content = coco_content(TWO)
    return json.dumps(change(content) or content)


COCO_BREAKS = {
    "cut": ("annotations unreadable", lambda content: None),
    "a list": ("annotations unreadable", lambda content: [1]),
    "no categories": ("annotations unreadable", lambda content: content.pop("categories") and None),
    "an image without a name": (
        "annotations unreadable",
        lambda content: content["images"][0].pop("file_name") and None,
    ),
    "an annotation number twice": ("number twice", lambda content: content["annotations"][1].update(id=1)),
    "a category number twice": ("number twice", lambda content: content["categories"].append({"id": 90, "name": "x"})),
    "a file name twice": ("image annotated twice", lambda content: content["images"][1].update(file_name="a.png")),
    "no such image": ("box of no image", lambda content: content["annotations"][0].update(image_id=7)),
    "no such category": ("class of a box unknown", lambda content: content["annotations"][0].update(category_id=7)),
    "three numbers": ("box without numbers", lambda content: content["annotations"][0].update(bbox=[1, 2, 3])),
    "words": ("box without numbers", lambda content: content["annotations"][0].update(bbox=["a", 2, 3, 4])),
    "no numbers": ("box without numbers", lambda content: content["annotations"][0].pop("bbox") and None),
    "infinity": ("box without numbers", lambda content: content["annotations"][0].update(bbox=[1, 1, 1e300, 1])),
    "another size": ("boxes of another size", lambda content: content["images"][0].update(width=800, height=600)),
    "an image that is not there": ("boxes missing", lambda content: content["images"].pop(1) and None),
    "other names": (
        "boxes of no image",
        lambda content: [image.update(file_name=f"x{image['id']}.png") for image in content["images"]] and None,
    ),
}


@pytest.mark.parametrize("name", COCO_BREAKS)
def test_each_break_of_a_coco_file_is_found(name, tmp_path):
    wanted, change = COCO_BREAKS[name]
    write(tmp_path, "coco", TWO)
    text = broken_coco(change)
    (tmp_path / "train.json").write_text(text[:-20] if name == "cut" else text)
    _, problems, _ = prepared(competition(FORMS["coco"]), tmp_path)
    assert wanted in kinds(problems)
    assert all(problem.fix and problem.expected for problem in problems)


def test_several_breaks_of_a_coco_file_and_its_boxes_are_found_at_once(tmp_path):
    content = coco_content(TWO | {"d": [One("car", 3, 3, 3, 9)]})
    content["annotations"][0]["image_id"] = 7
    content["images"][1]["id"] = content["images"][0]["id"]
    write(tmp_path, "coco", TWO | {"d": []})
    (tmp_path / "train.json").write_text(json.dumps(content))
    assert {"box of no image", "number twice", "box without area"} <= kinds(
        prepared(competition(FORMS["coco"]), tmp_path)[1]
    )


@pytest.mark.parametrize("mark", ["iscrowd", "ignore"])
def test_a_crowd_stays_one_and_is_not_counted_as_a_box(tmp_path, mark):
    content = coco_content(TWO)
    content["annotations"][0] |= {"iscrowd": 0, mark: 1}
    write(tmp_path, "coco", TWO)
    (tmp_path / "train.json").write_text(json.dumps(content))
    catalog, problems, source = prepared(competition(FORMS["coco"]), tmp_path)
    assert problems == []
    assert source.read(nth(catalog, 0)).is_crowd.tolist() == [True, False]
    assert catalog.loc[0, ["boxes_0", "boxes_2", "crowds"]].tolist() == [0, 1, 1]


def test_organisers_validation_images_may_have_a_coco_file_of_their_own(tmp_path):
    write(tmp_path, "coco", TWO)
    (tmp_path / "valid.json").write_text(json.dumps(coco_content({"v": [One("car", 1, 1, 9, 9)]})))
    write_image(tmp_path, "v")
    made = competition(BoxForm(coco="train.json", valid_coco="valid.json"))
    catalog, problems, source = prepared(made, tmp_path)
    assert problems == [] and catalog["mask"].tolist() == ["train.json"] * 3 + ["valid.json"]
    assert source.read(nth(catalog, 3)).xyxy.tolist() == [[1, 1, 9, 9]]


VOC_BREAKS = {
    "cut": ("annotations unreadable", lambda text: text[:-10]),
    "empty": ("annotations unreadable", lambda text: ""),
    "another root": ("annotations unreadable", lambda text: text.replace("annotation>", "html>")),
    "entities": (
        "annotations unreadable",
        lambda text: '<!DOCTYPE annotation [<!ENTITY a "aaaa">]>' + text.replace("car", "&a;"),
    ),
    "no name": ("class of a box unknown", lambda text: text.replace("<name>car</name>", "")),
    "a word": ("box without numbers", lambda text: text.replace("<xmin>1<", "<xmin>left<")),
    "a side missing": ("box without numbers", lambda text: text.replace("<xmax>80</xmax>", "")),
    "another size": ("boxes of another size", lambda text: text.replace("<width>80<", "<width>81<")),
}


def test_the_breaks_cover_the_kinds_of_problems_of_boxes():
    covered = FAULTS | {kind for kind, _ in (*COCO_BREAKS.values(), *VOC_BREAKS.values())}
    # Below, and in test_box_source.py.
    elsewhere = {"file of boxes missing", "boxes of two images", "boxes in fractions"}
    assert covered | elsewhere == set(BOX_KINDS)


@pytest.mark.parametrize("name", VOC_BREAKS)
def test_each_break_of_a_voc_file_is_found(name, tmp_path):
    wanted, change = VOC_BREAKS[name]
    write(tmp_path, "voc", TWO)
    path = tmp_path / "annotations/a.xml"
    path.write_text(change(path.read_text()))
    _, problems, _ = prepared(competition(FORMS["voc"]), tmp_path)
    assert kinds(problems) == {wanted} and problems[0].file == "annotations/a.xml"


def test_difficult_objects_are_kept_as_crowds_and_a_size_of_0_is_unknown(tmp_path):
    write(tmp_path, "voc", {"a": []})
    text = voc_text([One("car", 1, 1, 9, 9)], size=(0, 0)).replace("<difficult>0", "<difficult>1")
    (tmp_path / "annotations/a.xml").write_text(text)
    catalog, problems, source = prepared(competition(FORMS["voc"]), tmp_path)
    assert problems == [] and source.read(nth(catalog, 0)).is_crowd.tolist() == [True]


def test_voc_files_that_count_from_0_are_noticed_and_read_with_first_px_0(tmp_path):
    write(tmp_path, "voc", {"a": [One("car", -1, -1, 40, 30)]})
    notices = list(prepared(competition(FORMS["voc"]), tmp_path)[2].notices)
    assert len(notices) == 2 and notices[0].endswith("if the annotations count from 0, set FIRST_PX: 0")
    catalog, _, source = prepared(competition(BoxForm(voc="annotations/{id}.xml", first_px=0)), tmp_path)
    assert source.read(nth(catalog, 0)).xyxy.tolist() == [[0, 0, 40, 30]]
    assert len(list(source.notices)) == 1  # the sizes of boxes


@pytest.mark.parametrize(
    ("line", "wanted"),
    [
        ("0 0.5 0.5 0.1", "annotations unreadable"),
        ("0 0.5 0.5 0.1 0.1 0.9", "annotations unreadable"),
        ("0 0.5 0.5 0.1 wide", "box without numbers"),
        ("0 0.5 0.5 0.1 nan", "box without numbers"),
        ("car 0.5 0.5 0.1 0.1", "class of a box unknown"),
        ("3 0.5 0.5 0.1 0.1", "class of a box unknown"),
        ("0 40 30 10 10", "box outside its image"),
        ("0 0.5 0.5 0 0.1", "box without area"),
        ("0 0.5 0.5 -0.1 0.1", "box inside out"),
    ],
)
def test_each_break_of_a_line_of_yolo_is_found(line, wanted, tmp_path):
    write(tmp_path, "yolo", TWO)
    (tmp_path / "labels/b.txt").write_text(f"\n{line}\n")
    _, problems, _ = prepared(competition(FORMS["yolo"]), tmp_path)
    assert kinds(problems) == {wanted} and "line 2" in problems[0].found


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        (lambda text: text.replace("x1", "left"), "column missing"),
        (lambda text: text.replace("label", "what"), "column missing"),
        (lambda text: text.replace(",80,60,", ",80,,"), "box without numbers"),
        (lambda text: text.replace(",80,60,", ",80,tall,"), "box without numbers"),
        (lambda text: text.replace(",80,60,", ",80,inf,"), "box without numbers"),
        (lambda text: text.replace(",80,60,car", ",80,60,cart"), "class of a box unknown"),
        (lambda text: "", "list empty"),
    ],
)
def test_each_break_of_a_csv_is_found(change, wanted, tmp_path):
    write(tmp_path, "xyxy", TWO)
    path = tmp_path / "boxes.csv"
    path.write_text(change(path.read_text()))
    assert kinds(prepared(competition(FORMS["xyxy"]), tmp_path)[1]) == {wanted}


@pytest.mark.parametrize(
    "content",
    [{"a": 1}, [{"filename": "a.jpg"}], [{"category_name": "car", "bbox_corners": [0, 0, 1, 1]}], [7], "{"],
)
def test_each_break_of_a_nuscenes_file_is_found(content, tmp_path):
    write(tmp_path, "nuscenes", TWO)
    text = content if isinstance(content, str) else json.dumps(content)
    (tmp_path / "image_annotations.json").write_text(text)
    assert kinds(prepared(competition(FORMS["nuscenes"]), tmp_path)[1]) == {"annotations unreadable"}


@pytest.mark.parametrize("kind", ["coco", "xyxy", "nuscenes"])
def test_a_file_that_is_not_there_is_one_problem_which_names_the_key(kind, tmp_path):
    write(tmp_path, kind, TWO)
    (tmp_path / FORMS[kind].files[0]).unlink()
    _, problems, _ = prepared(competition(FORMS[kind]), tmp_path)
    assert len(problems) == 1 and f"BOXES.{FORMS[kind].kind.upper()}" in problems[0].fix


def test_an_image_that_its_exif_tag_turns_is_refused_beside_its_boxes(tmp_path):
    write(tmp_path, "coco", TWO)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(tmp_path / "images/a.png").save(tmp_path / "images/a.png", exif=exif)
    (tmp_path / "images/c.png").unlink()
    made = competition(FORMS["coco"], train_csv="train.csv")
    (tmp_path / "train.csv").write_text("ImageID\na\nb\nc\n")
    problems = prepared(made, tmp_path)[1]
    assert kinds(problems) == {"EXIF rotation", "image missing"}
    assert any("the boxes still fit" in problem.fix for problem in problems)
