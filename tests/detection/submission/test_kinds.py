"""Boxes are written and read back in every format; what cannot be read is refused with its line or id."""

import json
import random
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.competition import Submission
from pipeline.detection.boxes import make_detections
from pipeline.detection.submission.grid import rounded
from pipeline.errors import UserError
from pipeline.submission import formats
from pipeline.submission.file import origin_path, read_origin, require_good, write_submission
from pipeline.submission.formats import format_of
from tests.detection.submission.scenes import (
    FORMS,
    FOUND,
    FOUND_BY_ID,
    SIZE,
    assert_same,
    detections,
    make_competition,
    read,
    sizes_of,
    write,
)

every_form = pytest.mark.parametrize("form", FORMS)


def numbered(form: str) -> dict:
    """The boxes by ids that fit the form."""
    names = {"a": "x_1", "b": "x_2", "c": "x_30"} if form == "COCO, numbers" else {id: id for id in FOUND_BY_ID}
    return {names[id]: found for id, found in FOUND_BY_ID.items()}


@every_form
@settings(max_examples=60)
@given(st.data())
def test_what_is_read_is_what_was_written_within_the_digits_written(form, tmp_path_factory, data):
    competition = make_competition(form)
    sizes = {f"{n}_{n}": data.draw(st.tuples(st.integers(1, 99), st.integers(1, 2000))) for n in range(3)}
    found = {image_id: data.draw(detections(size)) for image_id, size in sizes.items()}
    path = write(tmp_path_factory.mktemp("s") / f"a{format_of(competition).suffix}", found, competition, sizes)
    again = read(path, competition, sizes)
    assert list(again) == list(sizes)
    for image_id, size in sizes.items():
        kept = again[image_id]
        wanted = rounded(found[image_id], size, competition)
        assert_same(kept._replace(xyxy=wanted.xyxy), wanted)
        assert np.abs(kept.xyxy - wanted.xyxy).max(initial=0) <= 1e-6 * max(size)
        assert (kept.xyxy >= 0).all() and (kept.xyxy <= np.array([size[1], size[0]] * 2)).all()
    assert [one for one in require_good(path, competition, sizes) if "warning: " not in one] == []


@every_form
def test_the_file_is_the_same_in_whatever_order_the_images_come(form, tmp_path):
    competition, found = make_competition(form), numbered(form)
    ids, suffix = list(found), format_of(competition).suffix
    first = write(tmp_path / f"first{suffix}", found, competition)
    second = tmp_path / f"second{suffix}"
    shuffled = random.Random(1).sample(list(found.items()), len(found))
    write_submission(second, shuffled, ids, competition, {}, sizes_of(ids))
    assert first.read_bytes() == second.read_bytes()


@every_form
def test_images_that_the_file_has_are_listed(form, tmp_path):
    competition, found = make_competition(form), numbered(form)
    path = write(tmp_path / f"a{format_of(competition).suffix}", found, competition)
    listed = format_of(competition).list_ids(path, competition)
    with_boxes = [id for id, own in found.items() if len(own.scores)]
    wanted = with_boxes if form in ("size, no row where there is no box", "COCO") else list(found)
    assert listed == (["1", "30"] if form == "COCO, numbers" else wanted)


def test_the_origin_of_a_json_has_another_name(tmp_path):
    path = write(tmp_path / "Exp.json", FOUND_BY_ID, make_competition("COCO"))
    assert origin_path(path).name == "Exp.origin.json" and read_origin(path)["images"] == 3
    assert isinstance(json.loads(path.read_text()), list)


def test_boxes_are_scaled_to_the_size_of_submissions(tmp_path):
    competition = make_competition(submission=Submission("prediction_string", size=(400, 50)))
    path = write(tmp_path / "a.csv", {"a": FOUND}, competition)
    assert path.read_text().splitlines()[1] == "a,0 0.9 20.5 10 121 25 2 0.25 0 0 400 50"
    assert require_good(path, competition, {"a": SIZE}) == []


@every_form
def test_a_writer_that_moves_a_box_or_leaves_an_image_out_is_found(form, tmp_path, monkeypatch):
    competition, found = make_competition(form), numbered(form)
    own, ids = format_of(competition), list(found)

    def move(image_id, boxes, size, competition):
        return own.encode(image_id, boxes._replace(xyxy=boxes.xyxy[:, [1, 0, 3, 2]].clip(0, 100)), size, competition)

    def leave_out(path, encoded, competition):
        own.write(path, [one for one in encoded if one[0] != ids[0]], competition)

    for functions in ({"encode": move}, {"write": leave_out}):
        with monkeypatch.context() as patch, pytest.raises(RuntimeError, match=r"do(es)? not read back"):
            patch.setattr(formats, "FORMATS", [replace(own, **functions)])
            write(tmp_path / f"a{own.suffix}", found, competition)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"xyxy": [[0, 0, 9, float("nan")]]}, "a coordinate or score is not a finite number"),
        ({"scores": [1.5]}, "scores are 1.5 to 1.5; expected 0 to 1"),
        ({"classes": [3]}, "class indices are 3 to 3; expected 0 to 2"),
        ({"xyxy": [[0, 0, 200.6, 9]]}, "0, 0, 200.6, 9 reaches beyond its image of 200x100 pixels"),
    ],
)
def test_boxes_that_cannot_be_are_not_written(tmp_path, changes, message):
    given = {"xyxy": [[0, 0, 9, 9]], "scores": [0.5], "classes": [0]} | changes
    with pytest.raises(UserError, match=f"the boxes of a cannot be written: {message}"):
        write(tmp_path / "a.csv", {"a": make_detections(**given)}, make_competition())


ROW, ENTRY = "a,0 0.5 1 2 3 4", {"image_id": "a", "category_id": 0, "bbox": [1, 2, 3, 4], "score": 0.5}
BOX = {"bbox_corners": [1, 2, 3, 4], "category_name": "0", "score": 0.5}
# What a file has, and what is said of it.
BROKEN = {
    "corners": [
        ("", "the file is empty; expected 'ImageID,PredictionString'"),
        ("id,boxes\n", "the first line is 'id,boxes'; expected 'ImageID,PredictionString'"),
        (f"ImageID,PredictionString\n{ROW}\na,b,c\n", r"line 3 \(a\): 3 cells; expected 2"),
        ("ImageID,PredictionString\na,0 0.5 1 2 3\n", r"line 2 \(a\): 5 values; expected a multiple of 6: class score"),
        ("ImageID,PredictionString\na,0 0.5 1 2 3 x\n", r"line 2 \(a\), box 1: the bottom is 'x'; expected a number"),
        ("ImageID,PredictionString\na,0 0.5 1 2 3 1_0\n", r"line 2 \(a\), box 1: the bottom is '1_0'; expected a"),
        ("ImageID,PredictionString\na,9 0.5 1 2 3 4\n", r"line 2 \(a\), box 1: there is no class '9'; .* 0, 1, 2"),
        ("ImageID,PredictionString\na,0 nan 1 2 3 4\n", r"line 2 \(a\), box 1: found nan; expected finite scores"),
        ("ImageID,PredictionString\na,0 0.5 1 2 3 inf\n", r"line 2 \(a\), box 1: found inf; expected finite scores"),
        (f"ImageID,PredictionString\n{ROW}\n{ROW}\n", r"line 3 \(a\): the image appears twice, first in line 2"),
        ("ImageID,PredictionString\nz,\n", r"line 2 \(z\): not one of the 3 images of test; expected for example a"),
        ('ImageID,PredictionString\na,"0\n', "is not a csv file of UTF-8 text"),
    ],
    "COCO": [
        ("[", "is not JSON: Expecting value: line 1 column 2"),
        ("{}", "found an object; expected a list of boxes"),
        ("[3]", "entry 1 is 3; expected image_id, category_id, bbox, score"),
        (json.dumps([ENTRY, {"image_id": "a"}]), "entry 2 lacks category_id, bbox, score"),
        (json.dumps([ENTRY | {"image_id": 3}]), "image_id is 3; expected text in quotes, see BOX_CONVENTION.IMAGE_ID"),
        (
            json.dumps([ENTRY | {"category_id": "0"}]),
            r"entry 1 \(image a\): category_id is the text '0'; expected a whole",
        ),
        (json.dumps([ENTRY | {"category_id": 7}]), r"entry 1 \(image a\): there is no class '7'"),
        (
            json.dumps([ENTRY | {"bbox": [1, 2, 3]}]),
            r"entry 1 \(image a\): bbox is a list of 3; expected 4 numbers: left",
        ),
        (json.dumps([ENTRY | {"bbox": [1, 2, 3, True]}]), "bbox is a list of 4; expected 4 numbers"),
        (json.dumps([ENTRY | {"score": None}]), "score is null; expected a number from 0 to 1"),
        (json.dumps([ENTRY | {"score": float("nan")}]), "found nan; expected finite scores and coordinates"),
        (json.dumps([ENTRY, ENTRY | {"image_id": "z"}]), r"entry 2 \(image z\): not one of the 3 images"),
    ],
    "COCO, numbers": [
        (json.dumps([ENTRY]), r"entry 1 \(image a\): image_id is the text 'a'; expected a whole number"),
    ],
    "nuScenes": [
        ("[]", "found a list of 0; expected `meta`, and `results`"),
        ('{"meta": {}}', "found keys 'meta'; expected `meta`, and `results`"),
        ('{"results": {"a": [], "a": []}}', "the key 'a' appears twice"),
        ('{"results": {"a": {}}}', "image a: found an object; expected a list of boxes"),
        (json.dumps({"results": {"a": [BOX]}}), "image a, box 1 lacks detection_score, sample_token"),
        (
            json.dumps({"results": {"a": [BOX | {"detection_score": 1, "sample_token": "b"}]}}),
            "image a, box 1: sample_token is 'b'; expected the id of its image",
        ),
        (
            json.dumps({"results": {"a": [BOX | {"detection_score": 1, "sample_token": "a", "category_name": 0}]}}),
            "image a, box 1: category_name is 0; expected the label of a class, in quotes",
        ),
    ],
}


@pytest.mark.parametrize(
    ("form", "content", "message"), [(form, *case) for form, cases in BROKEN.items() for case in cases]
)
def test_a_broken_file_is_refused_with_line_or_id_and_the_check_says_the_same(tmp_path, form, content, message):
    competition = make_competition(form)
    own, ids = format_of(competition), ["a", "b", "c"] if form != "COCO, numbers" else ["1", "2", "3"]
    path = tmp_path / f"a{own.suffix}"
    path.write_text(content)
    with pytest.raises(UserError, match=message):
        list(own.read(path, competition, sizes_of(ids)))
    with pytest.raises(UserError, match="cannot be submitted to test: "):
        require_good(path, competition, sizes_of(ids))


def test_a_file_that_is_not_there_or_not_text_is_refused(tmp_path):
    for form in ("corners", "COCO"):
        competition = make_competition(form)
        path = tmp_path / f"a{format_of(competition).suffix}"
        with pytest.raises(UserError, match=r"cannot read .*No such file"):
            read(path, competition, {})
        path.write_bytes(b"\xff\xfe\x00")
        with pytest.raises(UserError, match="is not"):
            read(path, competition, {})


def test_columns_in_another_order_lose_nothing(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text("PredictionString,ImageID\n0 0.5 1 2 3 4,a\n")
    assert read(path, make_competition(), sizes_of("a"))["a"].xyxy.tolist() == [[1, 2, 3, 4]]


def test_images_that_are_skipped_are_not_read(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text(f"ImageID,PredictionString\n{ROW}\nz,nonsense\n")
    found = dict(format_of(make_competition()).read(path, make_competition(), sizes_of("a"), ["z"]))
    assert list(found) == ["a"]


def test_ids_that_end_with_the_same_number_are_refused_where_numbers_are_wanted(tmp_path):
    with pytest.raises(UserError, match="x_1 and y_1 are both 1 in a submission; write IMAGE_ID: text"):
        write(tmp_path / "a.json", {"x_1": FOUND, "y_1": FOUND}, make_competition("COCO, numbers"))
    with pytest.raises(UserError, match=r"image x does not end with a number, but BOX_CONVENTION.IMAGE_ID is number"):
        write(tmp_path / "a.json", {"x": FOUND}, make_competition("COCO, numbers"))
