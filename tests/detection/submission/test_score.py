"""The local score of a file of boxes: which images and boxes are compared. The AP itself is tested by its own file."""

import json
import sys
from dataclasses import replace
from types import SimpleNamespace

import pytest

from pipeline.config.box_form import BoxForm
from pipeline.config.competition import ScoreOptions
from pipeline.detection.boxes import make_detections
from pipeline.detection.submission.score import score_file
from pipeline.errors import UserError
from pipeline.submission.file import origin_path
from tests.detection.submission.scenes import FOUND, SIZE, make_competition, sizes_of, write

NONE = make_detections([], [], [])
LISTED = dict.fromkeys(("a", "b", "c", "t"), "")  # t is a test image, without labels


@pytest.fixture
def compared(monkeypatch) -> list:
    """What the score was asked about: true boxes, detections and class names, instead of the real one."""
    asked = []

    def coco_scores(truth, found, class_names):
        asked.append((truth, found, class_names))
        return SimpleNamespace(
            numbers={"ap": 0.5, "ap_small": float("nan")}, by_class={"ap": [0.25, float("nan"), 0.75]}
        )

    monkeypatch.setitem(sys.modules, "pipeline.detection.coco_scores", SimpleNamespace(coco_scores=coco_scores))
    return asked


@pytest.fixture
def labels(tmp_path):
    """A COCO file with two boxes in image a, one in b and none in c."""
    boxes = [(1, 0, [10, 20, 50, 30]), (1, 2, [0, 0, 200, 100]), (2, 1, [5, 6, 7, 8])]
    content = {
        "images": [{"id": n, "file_name": f"{id}.jpg", "width": 200, "height": 100} for n, id in enumerate("abc", 1)],
        "categories": [{"id": n, "name": name} for n, name in enumerate(("car", "bus", "bicycle"))],
        "annotations": [
            {"id": n, "image_id": image, "category_id": kind, "bbox": box} for n, (image, kind, box) in enumerate(boxes)
        ],
    }
    path = tmp_path / "truth" / "val.json"
    path.parent.mkdir()
    path.write_text(json.dumps(content))
    return path


def score(path, labels, competition, logged=None, ids=LISTED):
    add = logged.append if logged is not None else lambda line: None
    return score_file(path, labels, competition, lambda ids: sizes_of(ids), add, dict.fromkeys(ids, ""))


def test_the_images_of_the_file_are_compared_with_their_labels(tmp_path, labels, compared):
    logged = []
    path = write(tmp_path / "a.csv", {"a": FOUND, "b": NONE}, make_competition())
    found = score(path, labels, make_competition(), logged)
    assert found == {
        "images": 2,
        "score": "ap",
        "scored": ["car", "bus", "bicycle"],
        "scores": {
            "ap": {"label": "AP", "mean": 0.5, "classes": {"car": 0.25, "bus": None, "bicycle": 0.75}},
            "ap_small": {"label": "AP small", "mean": None},
        },
    }
    ((truth, boxes, names),) = compared
    assert list(truth) == list(boxes) == ["a", "b"] and names == ("car", "bus", "bicycle")
    assert truth["a"].xyxy.tolist() == [[10, 20, 60, 50], [0, 0, 200, 100]]
    assert truth["b"].classes.tolist() == [1] and not len(boxes["b"].scores)
    assert boxes["a"].xyxy.tolist() == FOUND.xyxy.tolist()
    assert logged == []


def test_labelled_images_that_a_list_of_boxes_lacks_are_images_without_boxes(tmp_path, labels, compared):
    """Left out, they would make the score too good: whatever is in them was missed."""
    competition, logged = make_competition("COCO"), []
    path = write(tmp_path / "a.json", {"a": FOUND, "b": NONE}, competition)
    assert score(path, labels, competition, logged)["images"] == 3
    ((truth, boxes, _),) = compared
    assert list(truth) == list(boxes) == ["a", "b", "c"]
    assert logged[0].startswith(
        f"2 of 3 labelled images have no boxes in {path}, such as b; if they were not predicted"
    )


def test_images_that_are_listed_but_not_here_are_left_out(tmp_path, labels, compared):
    competition = make_competition("COCO")
    path = write(tmp_path / "a.json", {"a": FOUND}, competition)
    score_file(path, labels, competition, lambda ids: sizes_of(id for id in ids if id != "b"), sequences=LISTED)
    assert list(compared[0][0]) == ["a", "c"]


def test_images_are_known_by_their_numbers(tmp_path, labels, compared):
    labels.write_text(labels.read_text().replace('"a.jpg"', '"0007.jpg"'))
    competition = make_competition("COCO, numbers")
    path = write(tmp_path / "a.json", {"0007": FOUND}, competition)
    assert score(path, labels, competition, ids=["0007", "8"])["images"] == 1
    with pytest.raises(UserError, match="image 7 is not one of the 1 images of test found here"):
        score(path, labels, competition, ids=["8"])


@pytest.mark.parametrize("form", ["corners", "COCO"])
def test_images_without_labels_are_refused(tmp_path, labels, compared, form):
    competition = make_competition(form)
    path = write(tmp_path / ("a.csv" if form == "corners" else "a.json"), {"a": FOUND, "t": FOUND}, competition)
    with pytest.raises(UserError, match=r"1 of its 2 images have no labels in .*val.json, such as t"):
        score(path, labels, competition)
    assert compared == []


def test_classes_that_are_not_submitted_are_not_scored(tmp_path, labels, compared):
    competition = make_competition(submitted=("bicycle",))
    path = write(tmp_path / "a.csv", {"a": FOUND}, competition)
    assert score(path, labels, competition)["scored"] == ["bicycle"]
    ((truth, boxes, _),) = compared
    assert truth["a"].classes.tolist() == boxes["a"].classes.tolist() == [2]


def test_boxes_at_the_size_of_submissions_are_compared_at_that_of_the_image(tmp_path, labels, compared):
    competition = make_competition()
    competition = replace(competition, submission=replace(competition.submission, size=(400, 50)))
    score(write(tmp_path / "a.csv", {"a": FOUND}, competition), labels, competition)
    assert compared[0][1]["a"].xyxy.tolist() == FOUND.xyxy.tolist()


def test_labels_may_be_a_csv_or_a_folder_of_files(tmp_path, compared):
    by_rows = make_competition(boxes=BoxForm(csv="train.csv", class_column="kind", columns=("l", "t", "r", "b")))
    path = write(tmp_path / "a.csv", {"a": FOUND, "c": NONE}, by_rows)
    (tmp_path / "truth.csv").write_text("ImageID,kind,l,t,r,b\na,0,10,20,60,50\nb,1,5,6,12,14\n")
    assert score(path, tmp_path / "truth.csv", by_rows)["images"] == 2  # c has no row, and no box
    by_files = make_competition(boxes=BoxForm(yolo="labels/train/{id}.txt"))
    (tmp_path / "labels").mkdir()
    for name, text in (("a", "0 0.175 0.35 0.25 0.3\n"), ("c", "")):
        (tmp_path / f"labels/{name}.txt").write_text(text)
    assert score(path, tmp_path / "labels", by_files)["images"] == 2
    first, second = (truth["a"].xyxy for truth, _, _ in compared)
    assert first.tolist() == [[10, 20, 60, 50]] and second == pytest.approx(first)
    with pytest.raises(UserError, match=r"found a file, expected the folder that has the files \{id\}.txt"):
        score(path, tmp_path / "truth.csv", by_files)


def test_an_image_that_neither_the_file_nor_a_list_of_true_boxes_has_is_left_out(tmp_path, compared):
    """It may be of the test set; one that only the truth has was missed."""
    competition = make_competition(
        "COCO", boxes=BoxForm(csv="a.csv", class_column="kind", columns=("l", "t", "r", "b"))
    )
    (tmp_path / "truth.csv").write_text("ImageID,kind,l,t,r,b\na,0,10,20,60,50\nb,1,5,6,12,14\n")
    path = write(tmp_path / "a.json", {"a": FOUND}, competition)
    score(path, tmp_path / "truth.csv", competition)
    assert list(compared[0][0]) == list(compared[0][1]) == ["a", "b"]


def test_files_that_cannot_be_scored_are_refused(tmp_path, labels, compared):
    competition = make_competition()
    path = write(tmp_path / "a.csv", {"a": FOUND}, competition)
    with pytest.raises(
        UserError, match=r"the size of a in .*a.csv is not known: no image of test found here has this id"
    ):
        score_file(path, labels, competition)
    (tmp_path / "b.csv").write_text("ImageID,PredictionString\n")
    with pytest.raises(UserError, match="no images; it is read as a submission to test"):
        score(tmp_path / "b.csv", labels, competition)
    only = write(tmp_path / "c.csv", {"c": FOUND}, competition)
    with pytest.raises(UserError, match=r"no image in it has a box in .*val.json"):
        score(only, labels, competition)
    labels.write_text("[")
    with pytest.raises(UserError, match=r"val.json cannot be used to score:[\s\S]*annotations unreadable"):
        score(path, labels, competition)


def test_a_file_of_another_program_that_seems_to_have_other_units_is_scored_with_a_hint(tmp_path, labels, compared):
    shares = make_competition()
    shares = replace(shares, box_convention=replace(shares.box_convention, normalised=True))
    many = make_detections([[n, n, n + 9, n + 9] for n in range(60)], [0.5] * 60, [0] * 60)
    ids = [f"i{n}" for n in range(12)]
    content = json.loads(labels.read_text())
    content["images"] += [{"id": 10 + n, "file_name": f"{id}.jpg"} for n, id in enumerate(ids)]
    labels.write_text(json.dumps(content))
    path = write(tmp_path / "a.csv", {"a": FOUND, **dict.fromkeys(ids, many)}, shares)
    origin_path(path).unlink()
    logged = []
    score(path, labels, make_competition(), logged, ids=["a", *ids])
    assert len(logged) == 1 and "all boxes are within the first pixel" in logged[0]


def test_a_file_of_the_truth_scores_one_and_a_missed_image_costs(tmp_path, labels):
    exact = {
        "a": make_detections([[10, 20, 60, 50], [0, 0, 200, 100]], [0.9, 0.8], [0, 2]),
        "b": make_detections([[5, 6, 12, 14]], [0.7], [1]),
    }
    competition = make_competition("COCO")
    scores = score(write(tmp_path / "a.json", exact, competition), labels, competition)["scores"]
    assert scores["ap"]["mean"] == scores["ap50"]["mean"] == 1
    scores = score(write(tmp_path / "b.json", {"a": exact["a"]}, competition), labels, competition)["scores"]
    assert scores["ap"]["classes"] == {"car": 1, "bus": 0, "bicycle": 1}


def test_the_competitions_own_score_is_there_where_coco_has_no_such_number(tmp_path, labels):
    found = {"a": make_detections([[10, 20, 60, 50], [0, 0, 9, 9]], [0.9, 0.8], [0, 0]), "b": NONE}
    own = {"score": "box_fbeta", "score_options": ScoreOptions(beta=2.0, thresholds=(0.3,))}
    competition = make_competition("COCO", **own)
    content = score(write(tmp_path / "a.json", found, competition), labels, competition)
    wanted = {"car": pytest.approx(5 / 6), "bus": 0, "bicycle": 0}
    assert content["scores"]["box_fbeta"]["classes"] == wanted and content["score"] == "box_fbeta"
    assert content["scores"]["box_fbeta"]["mean"] == pytest.approx(5 / 18)
    competition = make_competition("COCO", score="image_ap", submitted=("car", "bus"))
    content = score(write(tmp_path / "a.json", found, competition), labels, competition)
    assert content["scores"]["image_ap"]["classes"] == {"car": pytest.approx(1), "bus": 0}
    assert content["scores"]["image_ap"]["mean"] == pytest.approx(0.5)


def test_the_size_of_an_image_is_that_of_its_file(tmp_path, labels, compared):
    assert SIZE == (100, 200)
    shares = make_competition("centres in shares")
    path = write(tmp_path / "a.csv", {"a": FOUND}, shares)
    score_file(path, labels, shares, lambda ids: sizes_of(ids), sequences=LISTED)
    assert compared[0][1]["a"].xyxy == pytest.approx(FOUND.xyxy, abs=2e-3)
