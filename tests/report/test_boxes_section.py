"""The page of a run that finds boxes: its own sections, and no word of pixels."""

from __future__ import annotations

import json

import numpy as np
import pytest

from pipeline.paths import ANCHORS, BOX_FACTS
from pipeline.report.box_plots import draw_anchor_fit, draw_box_confusion, draw_precision, share_below
from pipeline.report.boxes import confused
from pipeline.report.figure import DARK, LIGHT
from pipeline.report.page import write_page
from pipeline.report.record import Record
from pipeline.report.results import decoding_tables, never_predicted
from pipeline.report.words import OF_BOXES, OF_PIXELS, words_of
from pipeline.scores import LABELS
from tests.report.small_run import mark_stages, write_csv
from tests.report.test_page import read
from tests.tiny import run_of

CLASSES = ("RBC", "WBC", "Platelets")
# AP by image and class; some images lack some classes.
OF_IMAGES = np.random.default_rng(0).uniform([0.3, 0.5, 0.7], [0.5, 0.7, 0.9], (20, 3))
OF_IMAGES[::2, 1] = OF_IMAGES[5:, 2] = np.nan
VALUES = {"ap": (0.5, 0.4, 0.3), "ap50": (0.9, 0.8, 0.7), "ap75": (0.5, 0.4, None)}
COLORS = ((214, 69, 65), (65, 131, 215), (245, 171, 53))
COCO = dict.fromkeys(("ap", "ap50", "ap75", "ar_1", "ar_10", "ar_100", "ar_small", "ar_medium", "ar_large"), 0.41)
FACTS = {
    "classes": list(CLASSES),
    "precision": {
        "0.5": [[1.0] * 50 + [0.5] * 51, [0.8] * 101, [None] * 101],
        "0.75": [[0.6] * 101, [0.2] * 101, [None] * 101],
    },
    "best_f1": [
        {"threshold": 0.47, "f1": 0.756, "precision": 0.772, "recall": 0.74},
        {"threshold": 0.31, "f1": 0.841, "precision": 0.831, "recall": 0.851},
        {"threshold": None, "f1": None, "precision": None, "recall": None},
    ],
    "kinds": {"hit": "a right detection", "both": "another class, badly placed", "missed": "a labelled box not found"},
    "errors": {"hit": [71, 7, 0], "both": [3, 0, 0], "ignored": [0, 0, 0], "missed": [24, 1, 0]},
}


@pytest.fixture
def box_run(new_run, monkeypatch):
    """A run of BccdR with the small files of `prepare`, `tile`, `train` and `evaluate`."""
    from pipeline.report.markup import themed
    from tests.report.test_page import PNG

    for module in ("results", "background", "boxes"):
        monkeypatch.setattr(f"pipeline.report.{module}.themed", lambda draw, alt: themed(lambda theme: PNG, alt))
    loaded, folder = new_run("BccdR")
    head = ["index", "name", "red", "green", "blue", "images", "boxes", "box_share", "small", "medium", "large"]
    rows = [[i, name, *COLORS[i], 40, 100 + i, 0.33, 1, 2, 3, 30, 10] for i, name in enumerate(CLASSES)]
    write_csv(folder / "classes.csv", [*head, "train_images", "valid_images"], rows)
    rows = [[f"{i:02d}", "", f"{i:02d}.jpg", 64, 48] for i in range(40)]
    write_csv(folder / "catalog_train.csv", ["id", "sequence", "image", "width", "height"], rows)
    write_csv(folder / "split.csv", ["id", "subset"], [[f"{i:02d}", "train" if i < 20 else "valid"] for i in range(40)])
    history = ["epoch", "phase", "lr", "train_loss", "valid_loss", "valid_ap", "valid_ap50", "is_best"]
    rows = [[i, "cycle" if i else "", 0.001, 1 - i / 9, 1.0, i / 9, i / 9, i, *[i / 9] * 3] for i in range(2)]
    write_csv(folder / "history.csv", [*history, *(f"valid_ap_{name}" for name in CLASSES)], rows)
    rows = [
        [f"{20 + i:02d}", "", np.nanmean(own), *("" if np.isnan(v) else v for v in own)]
        for i, own in enumerate(OF_IMAGES)
    ]
    write_csv(folder / "per_image.csv", ["id", "sequence", "image_ap", *(f"image_ap_{name}" for name in CLASSES)], rows)
    rows = [["RBC", 71, 1, 0, 24], ["WBC", 0, 7, 0, 1], ["Platelets", 0, 0, 0, 5], ["background", 20, 1, 0, 0]]
    write_csv(folder / "confusion.csv", ["truth", *CLASSES, "background"], rows)
    means = np.nanmean(OF_IMAGES, 0)
    scores = {
        "image_ap": {
            "label": LABELS["image_ap"],
            "mean": means.mean(),
            "classes": dict(zip(CLASSES, means.tolist(), strict=True)),
        }
    }
    scores |= {
        name: {"label": LABELS[name], "mean": 0.4, "classes": dict(zip(CLASSES, values, strict=True))}
        for name, values in VALUES.items()
    }
    metrics = {"images": 20, "score": "ap", "scores": scores, "scored": list(CLASSES), "majority": None, "coco": COCO}
    (folder / "metrics.json").write_text(json.dumps(metrics | {"checkpoint": {"epoch": 1, "valid_loss": 1.0}}))
    (folder / BOX_FACTS).write_text(json.dumps(FACTS))
    (folder / ANCHORS).write_text(json.dumps({"bins": 4, "counts": {"RBC": [1, 0, 2, 1], "WBC": [0] * 4}}))
    (folder / "gallery").mkdir()
    rows = [[0, "20", 0.25, 64, 48], [1, "21", 0.5, 64, 48]]
    write_csv(folder / "gallery" / "list.csv", ["number", "id", "wrong", "width", "height"], rows)
    mark_stages(folder, prepare=1.0, tile=1.0, train=2.0, evaluate=3.0)
    return loaded, folder


def test_the_page_has_what_boxes_are_scored_by(box_run):
    reader = read(write_page(run_of(box_run[0])))
    assert reader.faults == []
    assert {"boxes", "confusion", "classes", "gallery"} <= set(reader.values("id"))
    assert not {"errors", "suspicious", "calibration", "pseudo-labels"} & set(reader.values("id"))
    words = reader.words
    page = (box_run[1] / "report.html").read_text()
    assert '<th scope="row">RBC</th><td>100</td><td>1</td><td>2</td><td>3</td>' in page, "boxes, small, medium, large"
    for text in (
        "Labelled boxes by size",
        "COCO's average precision (AP)",
        "COCO's average recall (AR)",
        "both: another class, badly placed",
    ):
        assert text in words
    assert '<th scope="row">ignored</th><td>0</td>' in page, "kinds without a box are shown too"
    for name in ("RBC", "WBC"):
        assert f"of {name} are not found" in words
    assert "of predicted RBC hit no box of their own" in words
    assert any(alt.startswith("Validation AP of each class") for alt in reader.values("alt"))


def test_no_word_of_the_page_is_about_pixels_of_classes_or_masks(box_run):
    words = read(write_page(run_of(box_run[0]))).words
    words, settings, _ = words.partition("What this experiment sets on top of base.yaml")
    assert settings and "mask" not in words and "wrong pixels" not in words and "everywhere" not in words
    assert "share of wrong boxes. Wrong boxes are labelled boxes without a hit" in words
    assert "40 images with a label." in words, "images without sequences have none to count"
    assert "boxes, all" in words and "share of boxes" in words


def test_numbers_that_are_not_known_are_dashes(box_run):
    loaded, folder = box_run
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics["coco"] |= {"ap_small": None}
    (folder / "metrics.json").write_text(json.dumps(metrics))
    page = write_page(run_of(loaded)).read_text()
    assert '<th scope="row">all classes</th><td>0.410</td><td>0.410</td><td>0.410</td><td>–</td>' in page
    assert (
        "nan" not in page.lower().split() and "None" not in read(folder / "report.html").words.partition("Settings")[0]
    )


def test_ap_has_no_interval_and_that_of_single_images_has_one(box_run):
    words = read(write_page(run_of(box_run[0]))).words
    mean = np.nanmean(OF_IMAGES, 0).mean()  # over images, then over classes, as in the table of scores
    assert abs(np.nanmean(OF_IMAGES, 1).mean() - mean) > 0.01
    assert f"No interval: AP is of all images at once. The mean AP of single images is {mean:.3f}, with" in words
    assert "with a 95 % interval from 0." in words


def test_thresholds_of_scores_are_shown_with_their_gain_and_the_fbeta_before_and_after():
    words = "Dropping boxes improves the F-beta of boxes: from 0.2735 to 0.7963"
    rules = [{"class": "WBC", "measure": "score", "least": 0.31}]
    gains = {"WBC": {"mean": 0.74, "low": 0.68, "high": 0.81, "num_groups": 87}}
    fitted = {"rules": rules, "gains": gains, "in_sample": {"WBC": 0.75}, "survived": 0.99, "words": words}
    shown = str(decoding_tables(fitted | {"score": {}}, OF_BOXES))
    for text in ("gain in the F-beta of their class", "score below 0.31", "+0.7400", "+0.6800", words):
        assert text in shown
    nothing = {"rules": [], "gains": {}, "in_sample": {}, "survived": None, "words": "No score threshold was fitted"}
    assert str(decoding_tables(nothing, OF_BOXES)).count("No score threshold was fitted") == 1


def test_a_class_that_is_never_predicted_is_named_and_the_background_is_no_class(box_run):
    assert never_predicted(Record(run_of(box_run[0]))) == ["Platelets"]


def test_the_page_can_be_written_before_there_are_boxes(box_run):
    loaded, folder = box_run
    for name in (BOX_FACTS, ANCHORS, "confusion.csv"):
        (folder / name).unlink()
    reader = read(write_page(run_of(loaded)))
    assert reader.faults == [] and "./run.sh BccdR evaluate" in reader.words and "Anchors" not in reader.words


def test_shares_of_labelled_boxes_are_of_their_row_and_of_predicted_ones_of_their_column():
    labelled, predicted = confused(["Cell", "Dust", "background"], [[8, 0, 2], [1, 3, 0], [1, 2, 0]])
    assert labelled == [("of Dust are found as Cell", 0.25), ("of Cell are not found", 0.2)]
    assert predicted == [
        ("of predicted Dust hit no box of their own", 0.4),
        ("of predicted Cell hit no box of their own", 0.1),
    ]


def test_tasks_differ_in_their_words_alone(new_run):
    assert words_of(new_run("BccdR")[0].competition) is OF_BOXES
    assert words_of(new_run("ExpAAD")[0].competition) is OF_PIXELS


@pytest.mark.parametrize("theme", [LIGHT, DARK])
def test_plots_of_boxes_are_drawn_for_both_themes(theme):
    names, rows = [*CLASSES, "background"], [[71, 1, 0, 24], [0, 7, 0, 1], [0, 0, 0, 5], [20, 1, 0, 0]]
    drawn = [
        draw_precision(FACTS, "0.5", COLORS, theme),
        draw_anchor_fit({"bins": 4, "counts": {"RBC": [1, 0, 2, 1], "WBC": [0] * 4}}, COLORS, theme),
        draw_box_confusion(names, rows, theme),
        draw_precision({"classes": ["RBC"], "precision": {"0.5": [[None] * 101]}}, "0.5", COLORS, theme),
    ]
    assert all(png.startswith(b"\x89PNG") and len(png) > 1000 for png in drawn) and len(set(drawn)) == 4


def test_the_share_below_an_iou_counts_whole_bins():
    assert share_below([1] * 50, 0.4) == 0.4 and share_below([0] * 25 + [1] * 25, 0.5) == 0
