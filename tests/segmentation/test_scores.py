"""Scores by hand: Dice, IoU and mIoU by name, the majority guess, the files."""

from __future__ import annotations

import numpy as np
import pytest

from pipeline.config.competition import SCORE_DEFAULTS
from pipeline.scores import ALWAYS, Chosen
from pipeline.segmentation.activation import SOFTMAX
from pipeline.segmentation.mask_scores import image_score
from pipeline.segmentation.scores import (
    Counts,
    confusion_table,
    counts_of,
    counts_table,
    empty_guess,
    image_scores,
    image_table,
    majority_guess,
    summarise,
)

CLASSES = ("Road", "Car", "Boat")
TRUTHS = [np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 0, 0, 0]], np.uint8)]
PREDICTED = [np.array([[0, 1, 1, 2]], np.uint8), np.array([[0, 0, 0, 0]], np.uint8)]


@pytest.fixture
def confusion_ICC():
    return np.stack([SOFTMAX.count_masks(*pair, 3) for pair in zip(PREDICTED, TRUTHS, strict=True)])


def test_rows_are_truth_columns_prediction_and_ignored_pixels_are_in_none(confusion_ICC):
    assert confusion_ICC[0].tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_a_image_has_its_scores_and_one_where_both_lack_the_class(confusion_ICC):
    table = image_table(["a", "b"], ["s", "t"], image_scores(confusion_ICC), CLASSES)
    assert table[["id", "sequence"]].to_numpy().tolist() == [["a", "s"], ["b", "t"]]
    assert table.loc[0, ["dice_Road", "dice_Car", "dice_Boat"]].tolist() == pytest.approx([2 / 3, 2 / 3, 1])
    assert table.loc[0, "dice"] == pytest.approx(7 / 9) and table.loc[1, "iou"] == 1
    assert table.loc[0, ["iou_Road", "iou_Car", "iou_Boat"]].tolist() == pytest.approx([1 / 2, 1 / 2, 1])


def test_every_score_is_named_with_its_mean_and_classes(confusion_ICC):
    metrics = summarise(confusion_ICC, CLASSES)
    assert (metrics["images"], metrics["score"], metrics["scored"]) == (2, "dice", list(CLASSES))
    dice, iou, miou = (metrics["scores"][name] for name in ("dice", "iou", "miou"))
    assert (dice["label"], iou["label"], miou["label"]) == ("Dice", "IoU", "mIoU")
    assert dice["classes"] == pytest.approx({"Road": 5 / 6, "Car": 5 / 6, "Boat": 1})
    assert dice["mean"] == pytest.approx(8 / 9)
    assert iou["mean"] == pytest.approx((3 / 4 + 3 / 4 + 1) / 3)
    assert miou["classes"] == {"Road": 5 / 6, "Car": 0.5, "Boat": None}
    assert miou["mean"] == pytest.approx(4 / 6)


def test_the_competitions_own_score_and_classes_decide_the_means(confusion_ICC):
    metrics = summarise(confusion_ICC, CLASSES, (1,), "miou")
    assert (metrics["score"], metrics["scored"]) == ("miou", ["Car"])
    assert metrics["scores"]["miou"]["mean"] == 0.5
    assert summarise(confusion_ICC, CLASSES, (2,), "miou")["scores"]["miou"]["mean"] is None


def test_always_predicting_one_class_scores_where_the_others_are_absent(confusion_ICC):
    guess = majority_guess(confusion_ICC, 0, CLASSES)
    assert guess["class"] == "Road"
    assert guess["scores"]["dice"] == pytest.approx(((4 / 5 + 1) / 2 + 1 / 2 + 1) / 3)
    assert guess["scores"]["miou"] == pytest.approx((6 / 7 + 0) / 2)


def test_a_guess_has_the_scores_that_need_its_masks(confusion_ICC):
    of_masks = {"boundary_f": np.array([[0.5, 0, 1], [1, 1, 1]]), "uw_madison": np.array([0.5, 0.25, 1])}
    known = {"chosen": Chosen((*ALWAYS, *of_masks)), "of_masks": of_masks}
    counts = counts_of(confusion_ICC)
    guesses = majority_guess(confusion_ICC, 0, CLASSES, (0, 1), **known), empty_guess(counts, CLASSES, (0, 1), **known)
    assert [[guess["scores"][name] for name in of_masks] for guess in guesses] == [[5 / 8, 3 / 8]] * 2


def test_classes_that_overlap_are_compared_with_predicting_nothing_and_have_a_row_of_pixels_each():
    counts = Counts(*np.array([[[2, 0], [1, 0]], [[4, 0], [1, 2]], [[3, 0], [2, 0]]]))
    first, planes = Counts(*(part[0] for part in counts)), np.zeros((1, 1, 2), np.uint8)
    assert image_score("dice", first, planes, planes, SCORE_DEFAULTS).tolist() == [4 / 7, 1]
    guess = empty_guess(counts, ("Road", "Car"))
    # Nothing is right for Car in the first image only, which has none.
    assert guess == {"class": "no class", "scores": {"dice": 1 / 4, "iou": 1 / 4, "miou": 0}}
    assert counts_table(counts, ("Road", "Car")).to_dict("list") == {
        "truth": ["Road", "Car"],
        "found": [3, 0],
        "missed": [2, 2],
        "false": [2, 0],
    }


def test_the_table_of_the_confusion_has_a_row_per_true_class(confusion_ICC):
    table = confusion_table(confusion_ICC.sum(0), CLASSES).set_index("truth")
    assert table.loc["Road", "Car"] == 1 and list(table.columns) == list(CLASSES)


def test_an_image_whose_pixels_are_all_ignored_has_no_score(confusion_ICC):
    with_ignored = np.concatenate([confusion_ICC, np.zeros((1, 3, 3), np.int64)])
    table = image_table(["a", "b", "c"], ["s", "t", "u"], image_scores(with_ignored), CLASSES)
    assert np.isnan(table.loc[2, ["dice", "iou", "dice_Road"]].to_numpy(float)).all()
    scores, expected = summarise(with_ignored, CLASSES)["scores"], summarise(confusion_ICC, CLASSES)["scores"]
    assert scores == expected, "and counts in no mean"
    assert summarise(with_ignored[2:], CLASSES)["scores"]["dice"]["mean"] is None
    masks = np.zeros((1, 4), np.uint8), np.full((1, 4), 255, np.uint8)
    for name in ("dice", "boundary_f"):
        assert np.isnan(image_score(name, with_ignored[2], *masks, SCORE_DEFAULTS)).all()
