"""The check of a file of boxes: what proves that it is wrong refuses it, what is seldom meant is a warning."""

import pytest

from pipeline.detection.boxes import make_detections
from pipeline.submission.formats import format_of
from tests.detection.submission.scenes import (
    FORMS,
    FOUND,
    FOUND_BY_ID,
    check_submission,
    make_competition,
    sizes_of,
    write,
)

IDS = list(FOUND_BY_ID)


def check_rows(tmp_path, *rows: str, form: str = "corners", ids=("a", "b"), sample: str | None = None) -> list[str]:
    competition, path = make_competition(form), tmp_path / "a.csv"
    path.write_text("\n".join(["ImageID,PredictionString", *rows, ""]))
    if sample is not None:
        (tmp_path / "sample.csv").write_text(sample)
    return check_submission(path, competition, sizes_of(ids), tmp_path / "sample.csv" if sample is not None else None)


@pytest.mark.parametrize("form", [form for form in FORMS if form != "COCO, numbers"])
def test_nothing_is_wrong_with_our_own_files(form, tmp_path):
    competition = make_competition(form)
    path = write(tmp_path / f"a{format_of(competition).suffix}", FOUND_BY_ID, competition)
    assert check_submission(path, competition, sizes_of(IDS), path) == []


def test_missing_unknown_and_double_images_are_named_with_what_was_meant(tmp_path):
    rows = ("image_1,0 0.5 1 2 3 4", "imagee_2,", "image_1,")
    assert (
        check_rows(tmp_path, *rows, ids=("image_1", "image_2", "image_3"))
        == [
            "line 3 (imagee_2): no test image has this id; did you mean image_2?",
            "line 4 (image_1): the image appears twice, first in line 2 (image_1)",
            "image image_2: missing",
            "image image_3: missing",
            "warning: 1 images",
        ][:4]
    )


def test_a_file_of_other_images_lacks_all_of_them_which_is_one_problem(tmp_path):
    assert check_rows(tmp_path, "y,") == [
        "line 2 (y): no test image has this id",
        "all 2 images are missing, from a on",
    ]


def test_an_id_without_its_suffix_is_unknown(tmp_path):
    found = check_rows(tmp_path, "image_1,", form="size, no row where there is no box", ids=("image_1",))
    assert found == ["line 2 (image_1): no test image has this id; did you mean image_1.jpg (other extension)?"]


def test_images_without_a_row_have_no_box_where_the_competition_wants_none(tmp_path):
    competition = make_competition("COCO")
    path = write(tmp_path / "a.json", {"a": FOUND}, competition)
    assert check_submission(path, competition, sizes_of("abc")) == []


@pytest.mark.parametrize(
    ("box", "problem"),
    [
        ("0 1.5 1 2 3 4", "the score is 1.5; expected 0 to 1"),
        ("0 -0.1 1 2 3 4", "the score is -0.1; expected 0 to 1"),
        ("0 0.5 3 2 3 4", "left is 3 and right is 3; expected a right greater than left"),
        ("0 0.5 1 4 3 2", "top is 4 and bottom is 2; expected a bottom greater than top"),
        ("7 0.5 1 2 3 4", "there is no class '7'; expected one of 0, 1, 2"),
        ("0 0.5 1 2 3 nan", "found nan; expected finite scores and coordinates"),
    ],
)
def test_a_box_that_cannot_be_is_named_by_line_and_id(tmp_path, box, problem):
    found = check_rows(tmp_path, f"a,1 0.25 5 6 7 8 {box}", "b,")
    assert [one for one in found if "warning" not in one] == [f"line 2 (a), box 2: {problem}"]


def test_every_fault_of_a_file_is_named(tmp_path):
    found = check_rows(tmp_path, "a,0 0.5 1", "b,0 0.5 1 2 3 x 9 0.5 1 2 3 4")
    assert [one.partition(": ")[0] for one in found if "warning" not in one] == [
        *("line 2 (a)", "line 3 (b), box 1", "line 3 (b), box 2")
    ]


def test_what_competitions_accept_is_a_warning(tmp_path):
    far = "0 0.5 0 0 200.51 9"
    assert check_rows(tmp_path, "a,0 0.4 0 0 200.5 9", f"b,{far}") == [
        "warning: 1 of 2 boxes reach beyond their image, such as line 3 (b), box 1"
    ]
    assert check_rows(tmp_path, "a,0 0.5 1 2 3 4 0 0.4 1 2 3 4 1 0.5 1 2 3 4", "b,") == [
        "warning: 1 images have duplicate boxes of a class, such as line 2 (a)"
    ]
    many = " ".join(f"0 {0.001 * n} 0 0 {n} 9" for n in range(1, 102))
    assert check_rows(tmp_path, f"a,{many}", "b,") == [
        "warning: 1 images have more than 100 boxes, such as line 2 (a) with 101"
    ]
    assert check_rows(tmp_path, "a,0 1 1 2 3 4 0 1 5 5 9 9", "b,") == ["warning: all 2 boxes have the score 1"]
    assert check_rows(tmp_path, "a,", "b,") == ["warning: no image has a box"]


def test_boxes_that_fit_in_another_layout_say_so(tmp_path):
    found = check_rows(tmp_path, "a,0 0.5 100 50 20 30 0 0.4 10 10 180 70", "b,")
    assert found[0] == "line 2 (a), box 1: left is 100 and right is 20; expected a right greater than left"
    assert found[-1] == (
        "warning: all boxes are inside their images if they are read as left, top, width, height instead of left, "
        "top, right, bottom; correct BOX_CONVENTION.FIELDS, or the file"
    )
    rows = "a.jpg,0.5 100 50 199 99 0 0.4 10 20 30 40 0"
    found = check_rows(tmp_path, rows, form="size, no row where there is no box", ids=("a",))
    assert found[0] == "warning: 1 of 2 boxes reach beyond their image, such as line 2 (a.jpg), box 1"
    assert "if they are read as left, top, right, bottom" in found[1]


def test_meta_of_nuscenes_boxes_is_compared(tmp_path):
    competition = make_competition("nuScenes")
    path = write(tmp_path / "a.json", {"a": FOUND}, competition)
    path.write_text(path.read_text().replace("true", "false"))
    (problem,) = check_submission(path, competition, sizes_of("a"))
    assert problem.startswith('meta is {"use_camera": false}; expected {"use_camera": true}')


def test_the_file_is_compared_with_the_competitions_sample(tmp_path):
    sample = "ImageID,PredictionString\nb,\na,0 0.5 1 2 3 4\n"
    assert check_rows(tmp_path, "a,0 0.5 1 2 3 4", "b,", sample=sample) == [
        "warning: image a: another order than sample.csv, which has b here"
    ]
    sample = "ImageID,PredictionString\nb,\nz,0 0.5 1 2\n"
    assert check_rows(tmp_path, "a,0 0.5 1 2 3 4", "b,", sample=sample)[:3] == [
        "warning: sample.csv does not match BOX_CONVENTION: line 3 (z): 4 values; expected a multiple of 6: class "
        "score left top right bottom for each box; for an image without boxes, ''",
        "sample.csv: 1 images are not of the test images, such as z",
        "warning: sample.csv lacks 1 of 2 test images, such as a",
    ]
    assert check_rows(tmp_path, "a,0 0.5 1 2 3 4", "b,", sample="x\n")[0].startswith("warning: not compared with the")


def test_the_sample_alone_is_checked_before_anything_is_trained(tmp_path):
    competition, path = make_competition(), tmp_path / "sample.csv"

    def problems(text: str) -> list[tuple[str, str]]:
        path.write_text(text)
        found = format_of(competition).check_sample(competition, path, {"a", "b"})
        return [(one.kind, one.found) for one in found]

    assert problems("ImageID,PredictionString\na,0 0.5 1 2 3 4\nb,\n") == []
    assert problems("ImageID,PredictionString\n") == []  # organisers may hide the rows
    (found,) = problems("id,PredictionString\n")
    assert found[0] == "sample of another form" and "the first line is 'id,PredictionString'" in found[1]
    assert problems("ImageID,PredictionString\na,14 1 0 0 1 1\na,\nz,\n") == [
        ("sample of another form", "line 2 (a), box 1: there is no class '14'; expected one of 0, 1, 2"),
        ("sample row twice", "line 3 (a), first line 2 (a)"),
        ("sample row unknown", "line 4 (z)"),
        ("sample row missing", "b: no row"),
    ]


def test_a_sample_of_coco_results_has_any_images(tmp_path):
    competition = make_competition("COCO")
    path = write(tmp_path / "sample.json", {"a": FOUND, "b": make_detections([], [], [])}, competition)
    assert format_of(competition).check_sample(competition, path, {"a", "b", "c"}) == []
    (problem,) = format_of(competition).check_sample(competition, path, {"b", "c"})
    assert (problem.kind, problem.found) == ("sample row unknown", "entry 1 (image a)")
