"""A competition's descriptor says what its folder holds; one that contradicts itself is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pipeline.config.competition import (
    Competition,
    Convention,
    MaskCode,
    Submission,
    check_competition,
    image_file,
    submission_code,
)
from pipeline.config.load import load_competition
from pipeline.errors import UserError

AEROSCAPES = (
    *("Background", "Person", "Bike", "Car", "Drone", "Boat"),
    *("Animal", "Obstacle", "Construction", "Vegetation", "Road", "Sky"),
)
AEROSCAPES_COLORS = (
    *((0, 0, 0), (192, 128, 128), (0, 128, 0), (128, 128, 128), (128, 0, 0), (0, 0, 128), (192, 0, 128)),
    *((192, 0, 0), (192, 128, 0), (0, 64, 0), (128, 128, 0), (0, 128, 128)),
)
GOOD = Competition(
    name="good",
    title="Good",
    classes=("ground", "house", "void"),
    colors=((0, 0, 0), (255, 0, 0), (9, 9, 9)),
    images="imgs/{id}.jpg",
    masks="masks/{id}.png",
    licence="CC0",
    ignore_index=2,
)


def refusal(**changes) -> str:
    with pytest.raises(UserError) as caught:
        check_competition(dataclasses.replace(GOOD, **changes), {})
    return str(caught.value)


def test_aeroscapes_has_the_originals_classes_colours_folders_and_convention():
    competition = load_competition("aeroscapes")
    assert competition.classes == AEROSCAPES
    assert competition.colors == AEROSCAPES_COLORS
    assert competition.num_classes == 12
    assert (competition.images, competition.masks) == ("imgs/imgs/{id}.jpg", "masks/masks/{id}.png")
    assert (competition.train_csv, competition.test_csv, competition.id_column) == ("train.csv", "test.csv", "ImageID")
    assert competition.kaggle_slug == "opencv-pytorch-course-segmentation"
    assert competition.convention == Convention(
        order="row",
        base=0,
        relative=False,
        empty="",
        id_column="ImageID",
        value_column="EncodedPixels",
        rows="id_class",
    )


def test_the_demo_has_the_classes_and_colours_of_aeroscapes():
    demo, aeroscapes = load_competition("demo"), load_competition("aeroscapes")
    assert (demo.classes, demo.colors) == (aeroscapes.classes, aeroscapes.colors)


@pytest.mark.parametrize(("name", "scored", "ignored"), [("camvid", 11, "Void"), ("dubai_aerial", 5, "Unlabeled")])
def test_the_ignored_last_class_is_not_scored(name, scored, ignored):
    competition = load_competition(name)
    assert competition.num_classes == scored
    assert ignored == competition.classes[-1]
    assert ignored not in competition.class_names


@pytest.mark.parametrize("name", ["camvid", "dubai_aerial"])
def test_a_real_competitions_folder_is_as_its_descriptor_says(name, shared_data):
    folder, competition = shared_data(name), load_competition(name)
    for table in (competition.train_csv, competition.test_csv, competition.sample_submission):
        assert (folder / table).is_file()
    header, first = (folder / competition.train_csv).read_text().splitlines()[:2]
    columns = dict(zip(header.split(","), first.split(","), strict=True))
    assert competition.sequence_column in columns
    for template in (competition.images, competition.masks):
        assert (folder / template.format(id=columns[competition.id_column])).is_file()


def test_the_mean_is_taken_over_what_is_submitted():
    by_image = dataclasses.replace(GOOD, convention=Convention(rows="id"))
    assert by_image.scored_indices == (1,)
    assert GOOD.scored_indices == (0, 1)
    assert dataclasses.replace(GOOD, ignore_index=None).scored_indices == (0, 1, 2)


def test_a_submission_calls_its_images_as_the_lists_do_unless_it_says_otherwise():
    assert GOOD.convention.id_column == "ImageID"
    assert dataclasses.replace(GOOD, id_column="img", convention=Convention()).convention.id_column == "img"
    own = dataclasses.replace(GOOD, id_column="img", convention=Convention(id_column="ImageId"))
    assert own.convention.id_column == "ImageId"
    with_two = {"convention": Convention(value_column="img"), "id_column": "img"}
    assert refusal(**with_two).endswith("CONVENTION.VALUE_COLUMN: columns have the same name: img, img")


def test_the_images_of_the_test_list_may_lie_elsewhere():
    assert image_file(GOOD, "7", "test") == image_file(GOOD, "7", "train") == "imgs/7.jpg"
    elsewhere = dataclasses.replace(GOOD, test_images="test/{id}.png")
    assert image_file(elsewhere, "7", "test") == "test/7.png"
    assert image_file(elsewhere, "7", "train") == "imgs/7.jpg"


def test_an_ignored_value_outside_the_classes_leaves_them_all_scored():
    check_competition(dataclasses.replace(GOOD, ignore_index=255), {})
    assert dataclasses.replace(GOOD, ignore_index=255).num_classes == 3
    assert dataclasses.replace(GOOD, ignore_index=None).num_classes == 3
    assert GOOD.num_classes == 2


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"classes": ("a",), "colors": ((0, 0, 0),)}, "CLASSES: found 1 classes, expected 2 to 254"),
        ({"classes": ("a", "b", "a")}, "CLASSES: a class name is empty or used twice"),
        ({"classes": ("a", "b", "")}, "CLASSES: a class name is empty or used twice"),
        ({"colors": ((0, 0, 0),)}, "COLORS: found 1 colours for 3 classes; give one [red, green, blue] per class"),
        (
            {"colors": ((1, 1, 1), (0, 0, 0), (1, 1, 1))},
            "COLORS: [1, 1, 1] is the colour of two classes; give each its own",
        ),
        (
            {"ignore_index": 0},
            "IGNORE_INDEX: found 0, expected the last class (2) or a value outside the classes (3 to 255)",
        ),
        ({"ignore_index": 256}, "IGNORE_INDEX: found 256, expected the last class"),
        ({"ignore_index": -1}, "IGNORE_INDEX: found -1, expected the last class"),
        (
            {"classes": ("a", "b"), "colors": ((0, 0, 0), (1, 1, 1)), "ignore_index": 1},
            "IGNORE_INDEX: only one class is not ignored",
        ),
        ({"images": "imgs/x.jpg"}, "IMAGES: found 'imgs/x.jpg', expected a path with {id}"),
        ({"masks": "{id}/{name}.png"}, "MASKS: found '{id}/{name}.png', expected a path with {id}"),
        ({"masks": "{id.__class__}/{id}.png"}, "MASKS: found"),
        (
            {"images": "/etc/{id}.jpg"},
            "IMAGES: found '/etc/{id}.jpg', expected a path inside the competition's folder",
        ),
        ({"test_csv": "../other/test.csv"}, "TEST_CSV: found '../other/test.csv', expected a path inside"),
        ({"test_images": "imgs/x.jpg"}, "TEST_IMAGES: found 'imgs/x.jpg', expected a path with {id}"),
        ({"test_images": "../{id}.jpg"}, "TEST_IMAGES: found '../{id}.jpg', expected a path inside"),
        ({"mask_values": (0, 255)}, "MASK_VALUES: found 2 values for 3 classes; give the grey value of each class"),
        ({"mask_values": (0, 7, 7)}, "MASK_VALUES: 7 is the value of two classes; give each its own"),
        (
            {"mask_values": (0, 1, 255), "ignore_index": 255},
            "IGNORE_INDEX: 255 is the value of void in MASK_VALUES; give another",
        ),
        (
            {"mask_values": "colors", "ignore_index": 255},
            "IGNORE_INDEX: found 255, a grey value, but with MASK_VALUES: colors masks are in colour",
        ),
        (
            {"submission": Submission(values=(0, 255))},
            "SUBMISSION.VALUES: found 2 values for 3 classes; give the grey value",
        ),
        (
            {"submission": Submission(values=(0, 7, 7))},
            "SUBMISSION.VALUES: 7 is the value of two classes; give each its own",
        ),
        (
            {"submission": Submission(values="colors"), "ignore_index": 255},
            "IGNORE_INDEX: found 255, a grey value, but with SUBMISSION.VALUES: colors masks are in colour",
        ),
        ({"submission": Submission(file="x.png")}, "SUBMISSION.FILE: found 'x.png', expected a path with {id}"),
        (
            {"submission": Submission(file="../{id}.png")},
            "SUBMISSION.FILE: found '../{id}.png', expected a path inside the zip",
        ),
        ({"sequence_pattern": "([a-z"}, "SEQUENCE_PATTERN: not a valid regular expression: "),
        ({"sequence_pattern": "a{99999999999}"}, "SEQUENCE_PATTERN: not a valid regular expression: "),
        ({"sequence_pattern": "^[^_]+_"}, "SEQUENCE_PATTERN: found 0 groups in parentheses, expected exactly one"),
        ({"convention": Convention(rows="id+class")}, "CONVENTION.CLASS_COLUMN: belongs to ROWS: id+class"),
        ({"convention": Convention(class_column="ClassId")}, "CONVENTION.CLASS_COLUMN: belongs to ROWS: id+class"),
        ({"convention": Convention(value_column="ImageID")}, "CONVENTION.VALUE_COLUMN: columns have the same name"),
    ],
)
def test_a_descriptor_that_contradicts_itself_is_refused(changes, message):
    assert refusal(**changes).startswith(f"configs/competitions/good.yaml: {message}")


def test_png_masks_store_what_the_competitions_own_do_unless_it_says_otherwise():
    def code_of(**keys):
        return submission_code(dataclasses.replace(GOOD, **keys))

    assert code_of() == code_of(submission=Submission(values="indices")) == MaskCode(2, (0, 1, 2))
    assert code_of(mask_values=(0, 7, 9)) == MaskCode(2, (0, 7, 9))
    assert code_of(mask_values=(0, 7, 9), submission=Submission(values="indices")) == MaskCode(2, (0, 1, 2))
    assert code_of(mask_values="colors") == MaskCode(2, None, GOOD.colors)
    assert code_of(submission=Submission(values=(5, 6, 7))) == MaskCode(2, (5, 6, 7))


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("COLORS: [[0, 0, 256], [1, 1, 1]]", ":3: COLORS: item 1: item 3: 256 is outside the allowed range"),
        ("CLASES: [a, b]", ":3: unknown key CLASES; did you mean CLASSES?"),
        (
            "CONVENTION: {ORDER: rows}",
            ":3: CONVENTION.ORDER: found 'rows', expected one of row, column; did you mean row?",
        ),
        ("CONVENTION: {EMPTY: }", ":3: CONVENTION.EMPTY: found nothing, expected text"),
        ("NAME: other", ":3: NAME is not a key here: the name is the file's, mine; remove it"),
        ("IGNORE_INDEX: 0", ":3: IGNORE_INDEX: found 0"),
        ("MASK_VALUES: colours", ":3: MASK_VALUES: found 'colours', expected colors or a list in brackets"),
        (
            "SUBMISSION: {FORMAT: png}",
            ":3: SUBMISSION.FORMAT: found 'png', expected one of run_lengths, png_masks",
        ),
        ("MASK_VALUES: [0, 256]", ":3: MASK_VALUES: item 2: 256 is outside the allowed range"),
    ],
)
def test_a_broken_descriptor_is_refused_with_file_and_line(line, message, configs: Path):
    lines = ["CLASSES: [a, b]", "TITLE: x", line, "IMAGES: '{id}.jpg'", "MASKS: '{id}.png'", "LICENCE: CC0"]
    if not line.startswith("COLORS"):
        lines.append("COLORS: [[0, 0, 0], [1, 1, 1]]")
    (configs / "competitions" / "mine.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError) as caught:
        load_competition("mine")
    assert str(caught.value).startswith(f"configs/competitions/mine.yaml{message}")
