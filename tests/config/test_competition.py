"""A competition's descriptor says what its folder holds; one that contradicts itself is refused."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import pytest
import yaml

from pipeline.config.check_competition import check_competition
from pipeline.config.competition import (
    IGNORE,
    Competition,
    Convention,
    ImageForm,
    MaskCsv,
    Objects,
    ScoreOptions,
    Submission,
)
from pipeline.config.load import load_competition
from pipeline.config.mask_code import MaskCode, mask_code, submission_code
from pipeline.config.template import fill_template
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


MULTILABEL = {"labels": "multilabel", "ignore_index": None}


def refusal(**changes) -> str:
    with pytest.raises(UserError) as caught:
        check_competition(dataclasses.replace(GOOD, **changes), {})
    return str(caught.value)


CELLS = {"classes": ("ground", "cell", "edge"), "ignore_index": None, "colors": GOOD.colors}


BORDERED = Objects("watershed", border="edge")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"objects": Objects(border="edge")}, "OBJECTS.BORDER: needs OBJECTS.METHOD (components or watershed)"),
        ({"objects": Objects(min_size=5)}, "OBJECTS.MIN_SIZE: needs OBJECTS.METHOD"),
        ({"mask_values": "objects"}, "MASK_VALUES: objects needs OBJECTS.METHOD"),
        (
            {"objects": Objects("watershed", border="edges")},
            "OBJECTS.BORDER: 'edges' is not a class after the first; did you",
        ),
        (
            {"objects": Objects("watershed", border="ground")},
            "OBJECTS.BORDER: 'ground' is not a class after the first; expected",
        ),
        ({"objects": Objects("components")}, "SUBMITTED: with OBJECTS the first class, ground, means no object"),
        ({"objects": BORDERED}, "means no object; name others: [cell]"),
        (
            {"objects": Objects("components", border="edge"), "submitted": ("edge",)},
            "OBJECTS.BORDER: edge is submitted",
        ),
        ({"objects": BORDERED, "submitted": ("cell",), "ignore_index": 2}, "OBJECTS.BORDER: edge is submitted or"),
        (
            {"objects": Objects("components"), "mask_values": "objects", "submitted": ("cell", "edge")},
            "MASK_VALUES: objects numbers the objects of one",
        ),
        ({"objects": Objects("components"), "submission": Submission("png_masks")}, "OBJECTS.METHOD: a row per object"),
        (
            {"objects": BORDERED, "submitted": ("cell",), "mask_values": (0, 1, 2)},
            "MASK_VALUES: found 3 values for 2",
        ),
    ],
)
def test_objects_that_cannot_be_are_refused_with_their_key(changes, message):
    assert message in refusal(**(CELLS | changes))


def test_the_first_class_and_that_of_borders_have_no_objects_and_no_file_stores_borders():
    cells = dataclasses.replace(GOOD, **CELLS, objects=BORDERED, mask_values=(0, 255), submitted=("cell",))
    check_competition(cells, {})
    for same in (cells, dataclasses.replace(cells, submitted=None, convention=Convention(rows="id"))):
        assert (same.scored_indices, same.submitted_indices, same.num_classes) == ((1,), (1,), 3)
    assert mask_code(cells) == MaskCode({0: 0, 255: 1})
    named = dataclasses.replace(cells, mask_values={"ground": (0,), "cell": "others"})
    check_competition(named, {})
    assert mask_code(named) == MaskCode({0: 0}, 1)
    numbered = dataclasses.replace(cells, mask_values="objects", ignore_index=65535)
    check_competition(numbered, {})
    assert mask_code(numbered) == MaskCode({0: 0, 65535: IGNORE}, 1)


def test_a_number_of_another_score_is_refused(configs):
    path = configs / "competitions" / "contour.yaml"
    text = (configs / "competitions" / "camvid.yaml").read_text()
    path.write_text(f"{text}SCORE: boundary_f\nSCORE_OPTIONS: {{TOLERANCE: 3}}\n")
    contour = load_competition("contour")
    assert (contour.score, contour.score_options.tolerance, contour.score_options.beta) == ("boundary_f", 3, 1)
    path.write_text(f"{text}SCORE: boundary_f\nSCORE_OPTIONS: {{BETA: 0.5}}\n")
    with pytest.raises(
        UserError, match=r"SCORE_OPTIONS.BETA: applies only to SCORE: fbeta or object_fbeta or box_fbeta, and SCORE is "
    ):
        load_competition("contour")
    assert "give one IoU or more" in refusal(score="mask_ap", score_options=ScoreOptions(thresholds=()))
    path.write_text(f"{text}SCORE: mask_ap\nSCORE_OPTIONS: {{THRESHOLDS: [0.4]}}\n")
    message = r"contour\.yaml:\d+: SCORE_OPTIONS.THRESHOLDS: found 0.4, expected 0.5 or more for masks"
    with pytest.raises(UserError, match=message):
        load_competition("contour")


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
        assert (folder / fill_template(template, {"id": columns[competition.id_column]})).is_file()


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


def test_some_classes_are_submitted_in_an_order_of_their_own():
    some = dataclasses.replace(GOOD, submitted=("house", "ground"))
    assert some.submitted_indices == some.scored_indices == (1, 0)
    with_void = dataclasses.replace(GOOD, submitted=("ground", "void"))
    assert with_void.submitted_indices == (0, 2)
    assert with_void.scored_indices == (0,)
    only_one = dataclasses.replace(GOOD, submitted=("ground",), convention=Convention(rows="id"))
    check_competition(only_one, {})
    assert only_one.scored_indices == (0,)


def test_lists_call_the_classes_by_number_by_name_or_as_the_competition_does():
    assert GOOD.label_texts == ("0", "1", "2")
    assert dataclasses.replace(GOOD, convention=Convention(class_base=1)).label_texts == ("1", "2", "3")
    assert dataclasses.replace(GOOD, class_labels="names").label_texts == GOOD.classes
    assert dataclasses.replace(GOOD, class_labels=("g", "h", "v")).label_texts == ("g", "h", "v")


def test_classes_without_colours_get_distinct_ones():
    many = dataclasses.replace(GOOD, classes=tuple(map(str, range(40))), colors=(), ignore_index=None)
    assert len(set(many.colors)) == 40
    check_competition(many, {})


def test_several_stored_values_may_mean_one_class_or_nothing():
    values = {"ground": (0, 3), "house": (7,), "void": (9,), "ignore": (-1, 5)}
    several = dataclasses.replace(GOOD, ignore_index=None, mask_values=values)
    check_competition(several, {})
    assert mask_code(several) == MaskCode({0: 0, 3: 0, 7: 1, 9: 2, -1: IGNORE, 5: IGNORE})
    others = dataclasses.replace(GOOD, ignore_index=None, mask_values=values | {"ignore": "others"})
    assert mask_code(others) == MaskCode({0: 0, 3: 0, 7: 1, 9: 2}, others=IGNORE)


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
            "IGNORE_INDEX: found 0, expected the last class (2) or a value outside the classes (3 or more); to ignore "
            "ground, remove it from CLASSES and COLORS, remove IGNORE_INDEX, "
            "and write MASK_VALUES: {house: [1], void: [2], ignore: [0]}",
        ),
        ({"ignore_index": 65536}, "IGNORE_INDEX: found 65536, expected the last class"),
        ({"ignore_index": -1}, "IGNORE_INDEX: found -1, expected the last class"),
        (
            {"classes": ("a", "b"), "colors": ((0, 0, 0), (1, 1, 1)), "ignore_index": 1},
            "IGNORE_INDEX: only one class is not ignored",
        ),
        ({"images": "imgs/x.jpg"}, "IMAGES: found 'imgs/x.jpg', expected a path with {id}"),
        ({"masks": "{id}/{name}.png"}, "MASKS: {name} is no part of ID_FORMAT; expected {class}, {id}, {stem}"),
        ({"images": "{id}/{class}.png"}, "IMAGES: found '{id}/{class}.png'; {class} belongs to MASKS"),
        ({"masks": "masks/*.png"}, "MASKS: found 'masks/*.png', expected a path with {id}"),
        ({"masks": ("a/{id}.png", "b/x.png")}, "MASKS: found 'b/x.png', expected a path with {id}"),
        ({"masks": MaskCsv("/a.csv")}, "MASKS.CSV: found '/a.csv', expected a path inside"),
        ({"masks": MaskCsv("a.csv", class_column="c", rows="id_class")}, "MASKS.CLASS_COLUMN: ROWS: id_class has the"),
        (
            {"mask_values": {"ground": (0,), "hous": (1,)}},
            "MASK_VALUES.hous: no class of that name; did you mean house?",
        ),
        ({"mask_values": {"ground": (0,)}}, "MASK_VALUES: house has no values; give those of each class"),
        ({"mask_values": {"ground": (0,), "house": (0,)}}, "MASK_VALUES: 0 is given twice; a value belongs to one"),
        (
            {"mask_values": {"ground": (0,), "house": (1,)}},
            "IGNORE_INDEX: MASK_VALUES names its classes, so ignored values belong there",
        ),
        ({"submitted": ("hose",)}, "SUBMITTED: 'hose' is no class; did you mean house?"),
        ({"submitted": ("house", "house")}, "SUBMITTED: name each submitted class exactly once"),
        ({"submitted": ("void",)}, "SUBMITTED: only the ignored class is named"),
        (
            {"submitted": ("ground", "house"), "convention": Convention(rows="id")},
            "SUBMITTED: a row per image (CONVENTION.ROWS: id) has one class; 2 are submitted",
        ),
        ({"class_labels": ("a",)}, "CLASS_LABELS: found 1 labels for 3 classes"),
        ({"class_labels": ("a", "b", "a")}, "CLASS_LABELS: 'a' is the label of two classes"),
        (
            {"convention": Convention(columns=("ImageID",))},
            "CONVENTION.COLUMNS: expected each of EncodedPixels, ImageID",
        ),
        ({"split_column": "fold", "valid_csv": "v.csv"}, "SPLIT_COLUMN: VALID_CSV already names the validation images"),
        ({"split_column": "fold", "train_csv": None}, "SPLIT_COLUMN: is a column of TRAIN_CSV, which is null"),
        ({"split_column": "fold", "train_csv": "a.txt"}, "SPLIT_COLUMN: is a column of TRAIN_CSV, but a.txt has no"),
        (
            {"valid_pattern": "a", "valid_images": "v/{id}.png"},
            "VALID_PATTERN: VALID_IMAGES already names the validation",
        ),
        ({"valid_pattern": "a", "split_column": "fold"}, "VALID_PATTERN: SPLIT_COLUMN already names the validation"),
        ({"valid_pattern": "(("}, "VALID_PATTERN: not a valid regular expression"),
        (
            {"image": ImageForm(frame_axis=0)},
            "IMAGE.FRAME_AXIS: names the axis along which FRAME counts; give FRAME, too",
        ),
        ({"id_pattern": "*"}, "ID_PATTERN: not a valid regular expression"),
        ({"sequence_column": "s", "train_csv": None}, "SEQUENCE_COLUMN: is a column of TRAIN_CSV, which is null"),
        ({"valid_csv": "v.csv", "train_csv": None}, "VALID_CSV: TRAIN_CSV: null takes every image of IMAGES"),
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
        ({"submission": Submission(file="x.png")}, "SUBMISSION.FILE: found 'x.png', expected a path inside the zip"),
        (
            {"submission": Submission(file="../{id}.png")},
            "SUBMISSION.FILE: found '../{id}.png', expected a path inside the zip",
        ),
        ({"sequence_pattern": "([a-z"}, "SEQUENCE_PATTERN: not a valid regular expression: "),
        ({"sequence_pattern": "a{99999999999}"}, "SEQUENCE_PATTERN: not a valid regular expression: "),
        ({"sequence_pattern": "^[^_]+_"}, "SEQUENCE_PATTERN: found 0 groups in parentheses, expected exactly one"),
        (
            {"masks": MaskCsv("a.csv", class_column="c", class_pattern="^[0-9]+")},
            "MASKS.CLASS_PATTERN: found 0 groups in parentheses, expected exactly one: the class's label",
        ),
        (
            {"masks": MaskCsv("a.csv", class_pattern="^([0-9]+)")},
            "MASKS.CLASS_PATTERN: reads the class's cell; name its column as CLASS_COLUMN",
        ),
        ({"masks": MaskCsv("a.csv"), "mask_size": "any"}, "MASK_SIZE: run lengths do not say their size; write [width"),
        ({"images": "a/{id}.nii.gz"}, "IMAGES: found 'a/{id}.nii.gz', a file of a whole volume, which is not read"),
        ({"masks": "a/{id}.json"}, "MASKS: found 'a/{id}.json', a file of polygons, which is not read; draw them"),
        ({"masks": MaskCsv("a.json")}, "MASKS.CSV: found 'a.json', a file of polygons, which is not read; draw them"),
        ({"mask_size": (9, 9)}, "MASK_SIZE: mask files have their size in them; write any instead of [width, height]"),
        ({"convention": Convention(rows="id+class")}, "CONVENTION.CLASS_COLUMN: belongs to ROWS: id+class"),
        ({"convention": Convention(class_column="ClassId")}, "CONVENTION.CLASS_COLUMN: belongs to ROWS: id+class"),
        ({"convention": Convention(value_column="ImageID")}, "CONVENTION.VALUE_COLUMN: columns have the same name"),
    ],
)
def test_a_descriptor_that_contradicts_itself_is_refused(changes, message):
    assert refusal(**changes).startswith(f"configs/competitions/good.yaml: {message}")


@pytest.mark.parametrize("values", [None, (0, 7, 9)])
@pytest.mark.parametrize("index", [0, 1])
def test_a_class_in_front_is_ignored_in_the_way_that_its_refusal_names(values, index: int):
    why = refusal(mask_values=values, ignore_index=index)
    named = yaml.safe_load(why.partition("MASK_VALUES: ")[2])
    kept = [place for place in range(3) if place != index]
    classes, colors = (tuple(own[place] for place in kept) for own in (GOOD.classes, GOOD.colors))
    other = {name: tuple(own) for name, own in named.items()}
    changed = dataclasses.replace(GOOD, classes=classes, colors=colors, ignore_index=None, mask_values=other)
    check_competition(changed, {})
    stored = values or (0, 1, 2)
    assert mask_code(changed).values == {stored[kept[0]]: 0, stored[kept[1]]: 1, stored[index]: IGNORE}


def test_an_ignored_colour_is_moved_to_the_end_as_its_refusal_says():
    why = refusal(mask_values="colors", ignore_index=0)
    assert why.endswith("move ground to the end of CLASSES and COLORS, and set IGNORE_INDEX: 2")
    moved = {name: (*getattr(GOOD, name)[1:], getattr(GOOD, name)[0]) for name in ("classes", "colors")}
    check_competition(dataclasses.replace(GOOD, mask_values="colors", ignore_index=2, **moved), {})


def test_png_masks_store_what_the_competitions_own_do_unless_it_says_otherwise():
    def code_of(**keys):
        return submission_code(dataclasses.replace(GOOD, **keys))

    indices, own = MaskCode({0: 0, 1: 1, 2: IGNORE}), MaskCode({0: 0, 7: 1, 9: IGNORE})
    assert code_of() == code_of(submission=Submission(values="indices")) == indices
    assert code_of(mask_values=(0, 7, 9)) == own
    assert code_of(mask_values=(0, 7, 9), submission=Submission(values="indices")) == indices
    assert code_of(mask_values="colors") == MaskCode({}, None, GOOD.colors, 2)
    assert code_of(submission=Submission(values=(0, 7, 9))) == own


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
        ("TEST_CSV: [None]", ":3: TEST_CSV: found a list, expected"),
        (
            "SUBMITTED: [None, b]",
            ':3: SUBMITTED: item 1: found None, expected text; for the word, write "None" in quotes',
        ),
        ("NAME: other", ":3: NAME is not a key here: the name is the file's, mine; remove it"),
        ("IGNORE_INDEX: 0", ":3: IGNORE_INDEX: found 0"),
        (
            "MASK_VALUES: colours",
            ":3: MASK_VALUES: found 'colours', expected one of colors, shares, objects or a list",
        ),
        (
            "SUBMISSION: {FORMAT: png}",
            ":3: SUBMISSION.FORMAT: found 'png', expected one of run_lengths, png_masks, tiff_masks, npz",
        ),
        ("MASK_VALUES: [0, 65536]", ":3: MASK_VALUES: item 2: 65536 is outside the allowed range"),
        ("MASKS: {CSV: 7, ORDER: rows}", ":3: MASKS.ORDER: found 'rows', expected"),
        ("MASK_VALUES: {a: 3}", ":3: MASK_VALUES.a: found '3', expected a list in brackets"),
        ("MASKS: {CVS: a.csv}", ":3: unknown key MASKS.CVS; did you mean MASKS.CSV?"),
        ("MASKS: {ORDER: row}", ":3: MASKS.CSV is missing; add it"),
    ],
)
def test_a_broken_descriptor_is_refused_with_file_and_line(line, message, configs: Path):
    masks = [] if line.startswith("MASKS") else ["MASKS: '{id}.png'"]
    lines = ["CLASSES: [a, b]", "TITLE: x", line, "IMAGES: '{id}.jpg'", *masks, "LICENCE: CC0"]
    if not line.startswith("COLORS"):
        lines.append("COLORS: [[0, 0, 0], [1, 1, 1]]")
    (configs / "competitions" / "mine.yaml").write_text("\n".join(lines))
    with pytest.raises(UserError) as caught:
        load_competition("mine")
    assert str(caught.value).startswith(f"configs/competitions/mine.yaml{message}")


def test_a_score_of_volumes_needs_sequences(configs: Path):
    path = configs / "competitions" / "uw_madison.yaml"
    path.write_text(re.sub(r"(?m)^SEQUENCE_PATTERN.*\n|^IMAGE: .*\n", "", path.read_text()))
    with pytest.raises(UserError, match=r"SCORE: uw_madison needs volumes.*or SCORE: hausdorff_dice"):
        load_competition("uw_madison")


@pytest.mark.parametrize(
    ("changed", "key", "why"),
    [
        ({"annotators": "mean", "masks": ("a/{id}.png", "b/{id}.png")}, "ANNOTATORS", "mean needs LABELS: multilabel"),
        ({"annotators": "vote"}, "ANNOTATORS", "give a list of two or more"),
        ({"mask_values": "shares"}, "MASK_VALUES", "needs LABELS: multilabel"),
        (MULTILABEL | {"mask_values": "colors"}, "MASK_VALUES", "give {name: [values]} for each class"),
        ({"labels": "multilabel", "ignore_index": 255}, "IGNORE_INDEX", "in MASK_VALUES"),
        (MULTILABEL | {"score": "pixel_accuracy"}, "SCORE", "write iou or dice"),
        (MULTILABEL | {"convention": Convention(rows="id")}, "SUBMITTED", "3 are submitted"),
        (
            MULTILABEL | {"masks": "{id}_{class}.png", "mask_values": {"ground": (1,), "ignore": (9,)}},
            *("MASK_VALUES.ignore", "is not read"),
        ),
        (MULTILABEL | {"submission": Submission("png_masks")}, "SUBMISSION.FORMAT", "write run_lengths"),
    ],
)
def test_what_needs_another_kind_of_labels_is_refused(changed, key, why):
    said = refusal(**changed)
    assert key in said and why in said


def test_with_several_classes_per_pixel_one_class_is_enough_and_has_a_colour():
    one = dataclasses.replace(GOOD, classes=("cat",), colors=(), labels="multilabel", ignore_index=None)
    one = dataclasses.replace(one, convention=Convention(rows="id"))
    check_competition(one, {})
    assert one.submitted_indices == (0,) and one.colors == ((230, 34, 34),)
