"""Scores by hand: both families of Dice and IoU, the majority guess, the files."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pytest
import torch

from pipeline.segmentation.scores import confusion_of, image_table, majority_guess, summarise, write_scores

CLASSES = ("Road", "Car", "Boat")
TRUTHS = [np.array([[0, 0, 1, 255]], np.uint8), np.array([[0, 0, 0, 0]], np.uint8)]
PREDICTED = [np.array([[0, 1, 1, 2]], np.uint8), np.array([[0, 0, 0, 0]], np.uint8)]


@pytest.fixture
def confusion_PCC():
    return torch.stack([confusion_of(*pair, 3) for pair in zip(PREDICTED, TRUTHS, strict=True)])


def test_rows_are_truth_columns_prediction_and_ignored_pixels_are_in_none(confusion_PCC):
    assert confusion_PCC[0].tolist() == [[1, 1, 0], [0, 1, 0], [0, 0, 0]]


def test_a_image_has_its_scores_and_one_where_both_lack_the_class(confusion_PCC):
    table = image_table(["a", "b"], ["s", "t"], confusion_PCC, CLASSES)
    assert table[["id", "sequence"]].to_numpy().tolist() == [["a", "s"], ["b", "t"]]
    assert table.loc[0, ["dice_Road", "dice_Car", "dice_Boat"]].tolist() == pytest.approx([2 / 3, 2 / 3, 1])
    assert table.loc[0, "dice"] == pytest.approx(7 / 9) and table.loc[1, "iou"] == 1
    assert table.loc[0, ["iou_Road", "iou_Car", "iou_Boat"]].tolist() == pytest.approx([1 / 2, 1 / 2, 1])


def test_both_families_of_scores_are_told_by_name(confusion_PCC):
    table = image_table(["a", "b"], ["s", "t"], confusion_PCC, CLASSES)
    metrics = summarise(table, confusion_PCC.sum(0), CLASSES)
    assert metrics["images"] == 2
    assert metrics["dice"]["classes"] == pytest.approx({"Road": 5 / 6, "Car": 5 / 6, "Boat": 1})
    assert metrics["dice"]["mean"] == pytest.approx(8 / 9)
    assert metrics["dataset_iou"]["classes"] == {"Road": 5 / 6, "Car": 0.5, "Boat": None}
    assert metrics["dataset_iou"]["mean"] == pytest.approx(4 / 6)


def test_always_guessing_one_class_scores_where_the_others_are_absent():
    guess = majority_guess(iter(TRUTHS), 0, CLASSES)
    assert guess["class"] == "Road" and guess["dice"] == pytest.approx(((4 / 5 + 1) / 2 + 1 / 2 + 1) / 3)


def test_the_files_of_an_evaluation_can_be_read_back(tmp_path, confusion_PCC):
    table = image_table(["007", "b"], ["s", "t"], confusion_PCC, CLASSES)
    metrics = summarise(table, confusion_PCC.sum(0), CLASSES)
    write_scores(tmp_path, metrics, table, confusion_PCC.sum(0), CLASSES)
    assert json.loads((tmp_path / "metrics.json").read_text()) == metrics
    confusion = pd.read_csv(tmp_path / "confusion.csv", index_col="truth")
    assert confusion.loc["Road", "Car"] == 1 and list(confusion.columns) == list(CLASSES)
    per_image = pd.read_csv(tmp_path / "per_image.csv", dtype={"id": str})
    assert per_image["id"].tolist() == ["007", "b"] and per_image.loc[1, "dice_Boat"] == 1
