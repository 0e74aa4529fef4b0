"""A form of submissions of boxes that contradicts itself is refused, with its key and what to type."""

import pytest

from pipeline.config.box_convention import CXCYWH, XYWH, XYXY, BoxConvention
from pipeline.config.box_form import BoxForm
from pipeline.config.check_competition import check_competition
from pipeline.config.competition import Competition, Submission
from pipeline.config.load import load_competition
from pipeline.errors import UserError

HEAD = """
TITLE: Test
TASK: boxes
CLASSES: [car, bus]
IMAGES: images/{id}.jpg
BOXES: {COCO: train.json}
"""


def make(form: str | None = None, classes=("car", "bus"), task="boxes", submission=None, **convention) -> Competition:
    labels = {"boxes": BoxForm(coco="train.json")} if task == "boxes" else {"masks": "masks/{id}.png"}
    given = {name: convention.pop(name) for name in ("class_labels", "submitted") if name in convention}
    return Competition(
        name="test", title="Test", classes=classes, images="images/{id}.jpg", task=task,
        submission=submission or Submission(form), box_convention=BoxConvention(**convention), **labels, **given,
    )  # fmt: skip


@pytest.mark.parametrize(
    "competition",
    [
        make(),
        make(fields=("score", *CXCYWH), classes=("car",)),
        make(fields=("score", *XYWH), submitted=("bus",)),
        make("coco_results", image_id="number", class_base=1),
        make("nuscenes_boxes", meta={"use_camera": True}, class_labels="names"),
    ],
)
def test_what_fits_together_is_taken(competition):
    check_competition(competition, {})


@pytest.mark.parametrize(
    ("competition", "message"),
    [
        (
            make("run_lengths"),
            "SUBMISSION.FORMAT: run_lengths stores masks, but TASK is boxes; write predic",
        ),
        (
            make("coco_results", task="segmentation"),
            "SUBMISSION.FORMAT: coco_results stores boxes, but TASK is segm",
        ),
        (
            make(task="segmentation", decimals=1),
            "BOX_CONVENTION.DECIMALS: is only for SUBMISSION.FORMAT: pred",
        ),
        (
            make("coco_results", fields=("class", "score", *XYWH)),
            "BOX_CONVENTION.FIELDS: is only for SUBMISSION.",
        ),
        (make(meta={"a": True}), "BOX_CONVENTION.META: is only for SUBMISSION.FORMAT: nuscenes_boxes, but that is"),
        (make(image_id="number"), "BOX_CONVENTION.IMAGE_ID: is only for SUBMISSION.FORMAT: coco_results"),
        (make(submission=Submission(file="{id}.png")), "SUBMISSION.FILE: is only for masks in a zip"),
        (make(submission=Submission(values=(1, 2))), "SUBMISSION.VALUES: is only for masks in a zip"),
        (
            make(fields=("class", "score", "left", "top")),
            "BOX_CONVENTION.FIELDS: found [class, score, left, top];",
        ),
        (make(fields=("class", "score", "score", *XYXY)), "BOX_CONVENTION.FIELDS: found score twice; expected class,"),
        (
            make(fields=("class", *XYXY)),
            "BOX_CONVENTION.FIELDS: score is missing; add it, since boxes are ranked by it",
        ),
        (
            make(fields=("score", *XYXY)),
            "class is missing, but 2 classes are submitted; add class, or set SUBMITTED",
        ),
        (make(value_column="ImageID"), "BOX_CONVENTION.VALUE_COLUMN: ImageID is also the column of the ids"),
        (
            make("coco_results", class_labels="names"),
            "CLASS_LABELS: 'car' cannot be a category_id; give a whole number for",
        ),
        (make(class_labels=("a b", "c")), "CLASS_LABELS: 'a b' contains spaces, which separate the values in the text"),
    ],
)
def test_what_does_not_is_refused_with_its_key(competition, message):
    with pytest.raises(UserError) as caught:
        check_competition(competition, {})
    assert message in str(caught.value)


def test_keys_are_read_from_the_competitions_file(configs):
    path = configs / "competitions" / "cars.yaml"
    path.write_text(
        f"{HEAD}BOX_CONVENTION:\n  FIELDS: [class, score, center_x, center_y, width, height]\n"
        "  EMPTY: null\n  CLASS_BASE: 1\n"
    )
    competition = load_competition("cars")
    own = competition.box_convention
    assert (own.layout, own.empty, competition.label_texts) == (CXCYWH, None, ("1", "2"))
    assert competition.submission.format == "prediction_string"
    path.write_text(f"{HEAD}BOX_CONVENTION: {{FIELDS: [class, score, left, top, rigth, bottom]}}\n")
    with pytest.raises(UserError, match=r"cars.yaml:7: BOX_CONVENTION.FIELDS: item 5: .*did you mean right"):
        load_competition("cars")
    path.write_text(f"{HEAD}BOX_CONVENTION: {{FIELDS: [class, score, left, top, right, height]}}\n")
    with pytest.raises(UserError, match=r"cars.yaml:7: BOX_CONVENTION.FIELDS: found \[class, score, left, top, right,"):
        load_competition("cars")


def test_digits_follow_the_units_where_they_are_not_given():
    assert BoxConvention().most_decimals == 2
    assert BoxConvention(normalised=True).most_decimals == 6
    assert BoxConvention(normalised=True, decimals=3).most_decimals == 3
