"""The local score of a csv."""

import cv2
import numpy as np
import pytest

from pipeline.config.competition import MaskCode
from pipeline.data.pictures import read_mask
from pipeline.errors import UserError
from pipeline.submission.score import score_csv, summarise
from pipeline.submission.write import write_submission
from tests.submission.scenes import make_competition, make_pictures

COMPETITION = make_competition(ignore_index=4)  # the last of 5 classes


def write_masks(folder, pictures):
    folder.mkdir(exist_ok=True)
    for picture_id, mask_HW in pictures.items():
        cv2.imwrite(str(folder / f"{picture_id}.png"), mask_HW)
    return folder


def write(path, pictures, competition=COMPETITION):
    return write_submission(path, pictures.items(), list(pictures), competition, {})


def score_slowly(mask_HW, truth_HW, class_index):
    counted = truth_HW != 4
    predicted, true = (mask_HW == class_index) & counted, (truth_HW == class_index) & counted
    both, either = (predicted & true).sum(), (predicted | true).sum()
    return (1.0, 1.0) if either == 0 else (2 * both / (predicted.sum() + true.sum()), both / either)


def test_scores_are_those_of_the_definition(tmp_path):
    truth = make_pictures(1, 5, COMPETITION)
    rng = np.random.default_rng(0)
    predicted = {
        picture_id: np.where(rng.random(mask_HW.shape) < 0.3, rng.integers(4, size=mask_HW.shape), mask_HW % 4).astype(
            np.uint8
        )
        for picture_id, mask_HW in truth.items()
    }
    masks = write_masks(tmp_path / "masks", {**truth, "not in the csv": np.zeros((3, 3), np.uint8)})
    table = score_csv(write(tmp_path / "a.csv", predicted), masks, COMPETITION)
    assert table["id"].tolist() == list(truth)
    for (_, row), picture_id in zip(table.iterrows(), truth, strict=True):
        wanted = [score_slowly(predicted[picture_id], truth[picture_id], index) for index in range(4)]
        names = COMPETITION.classes[:4]
        assert [(row[f"dice_{name}"], row[f"iou_{name}"]) for name in names] == pytest.approx(np.array(wanted))
        assert row["dice"] == pytest.approx(np.mean([dice for dice, _ in wanted]))
    summary = summarise(table, COMPETITION)
    assert summary["pictures"] == 5
    assert summary["iou"]["mean"] == pytest.approx(table["iou"].mean())
    assert list(summary["dice"]["classes"]) == list(COMPETITION.classes[:4])


def test_the_truth_scores_one(shared_data, tmp_path):
    competition = make_competition(classes=tuple("abcdefghijkl"), ignore_index=11)
    folder = shared_data("camvid") / "masks" / "masks"
    truth = {path.stem: read_mask(path, MaskCode(11)) for path in sorted(folder.glob("*.png"))[::60]}
    table = score_csv(write(tmp_path / "a.csv", truth, competition), folder, competition)
    assert (table.drop(columns="id") == 1).all(axis=None)
    assert len(table) == 8


def test_rows_without_a_mask_and_files_without_rows_are_refused(tmp_path):
    pictures = make_pictures(1, 2, COMPETITION)
    masks = write_masks(tmp_path / "masks", dict(list(pictures.items())[1:]))
    with pytest.raises(
        UserError, match="row 000000_001_0 is of no such picture; wanted rows of pictures that have a mask"
    ):
        score_csv(write(tmp_path / "a.csv", pictures), masks, COMPETITION)
    with pytest.raises(UserError, match="there are no rows"):
        score_csv(write(tmp_path / "b.csv", {}), masks, COMPETITION)
