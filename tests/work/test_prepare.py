"""`prepare` refuses a split with nothing to learn or nothing to score, and files that nobody can read, by their names.

`testset` does so with the sample submission.
"""

from __future__ import annotations

import json
import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from pipeline.data.split import slice_split
from pipeline.errors import UserError
from pipeline.segmentation.learning import learning
from pipeline.stages import stages_of
from tests.tiny import run_of, run_stages, tiny, write_competition

IDS = [f"s_{number}" for number in range(10)]
VOID = 11  # the class of CamVid that is ignored
SIDES = dict(zip(("train", "valid"), slice_split(IDS, 0), strict=True))


def write_camvid(folder: Path, ignored: list[str]) -> list[str]:
    """Writes images of 32x32; the masks of some hold ignored pixels only. Returns the settings of the competition."""
    for name in ("imgs/imgs", "masks/masks"):
        (folder / name).mkdir(parents=True)
    for number, image_id in enumerate(IDS):
        cv2.imwrite(str(folder / f"imgs/imgs/{image_id}.jpg"), np.full((32, 32, 3), 9 * number, np.uint8))
        mask = np.full((32, 32), VOID if image_id in ignored else number % 3, np.uint8)
        cv2.imwrite(str(folder / f"masks/masks/{image_id}.png"), mask)
    (folder / "train.csv").write_text("\n".join(["ImageID,Sequence", *(f"{one},s" for one in IDS)]) + "\n")
    return ["DATASETS.COMPETITION=camvid", "DATASETS.SPLIT.BY=slice"]


def write_bccd(folder: Path, without_boxes: list[str]) -> list[str]:
    """Writes images of 32x32 with a box each, but for some. Returns the settings of the competition."""
    (folder / "images").mkdir(parents=True)
    images, boxes = [], []
    for number, image_id in enumerate(IDS):
        cv2.imwrite(str(folder / f"images/{image_id}.jpg"), np.full((32, 32, 3), 9 * number, np.uint8))
        images.append({"id": number, "file_name": f"{image_id}.jpg", "width": 32, "height": 32})
        if image_id not in without_boxes:
            own = {"id": number, "image_id": number, "category_id": 1, "iscrowd": 0}
            boxes.append(own | {"bbox": [2, 3, 10, 12], "area": 120})
    categories = [{"id": index, "name": name} for index, name in enumerate(("RBC", "WBC", "Platelets"), start=1)]
    content = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "train.json").write_text(json.dumps(content))
    (folder / "train.csv").write_text("\n".join(["ImageID,Split", *(f"{one},train" for one in IDS)]) + "\n")
    model = ("MODEL.NAME=RetinaNet", "LOSS_FN.MIX=1 sigmoid_focal + 1 smooth_l1", "SOLVER.MONITOR=valid_ap")
    network = ("MODEL.OPTIONS={CHANNELS: 16, CONVOLUTIONS: 1, ANCHOR_SIZES: [8, 16, 32, 64, 128]}",)
    plain = ("DATASETS.AUGMENTATION.COPY_PASTE.ENABLE=false", "DATASETS.AUGMENTATION.COLOR.ENABLE=false")
    return ["DATASETS.COMPETITION=bccd", "DATASETS.SPLIT.BY=slice", "SWEEP.ENABLE=false", *model, *network, *plain]


@pytest.mark.parametrize(("side", "use", "index"), [("train", "learn", 5), ("valid", "score", 1)])
@pytest.mark.parametrize(("write", "what"), [(write_camvid, "pixel of a class"), (write_bccd, "box")])
def test_a_side_without_labels_is_refused_with_an_index_that_is_accepted(
    tmp_path, monkeypatch, side: str, use: str, index: int, write, what: str
):
    monkeypatch.setattr("pipeline.work.prepare.write_class_histograms", lambda *paths: None)
    settings = write(tmp_path / "data", SIDES[side])
    with pytest.raises(UserError, match=rf"has a {what}, so there is nothing to {use}\.\n.*SPLIT_INDEX={index}\."):
        run_stages(tiny(tmp_path / "data", *settings), "prepare")
    run_stages(tiny(tmp_path / "data", *settings, f"DATASETS.SPLIT_INDEX={index}"), "prepare")


def test_where_no_image_has_a_label_no_other_split_is_named(tmp_path):
    settings = write_camvid(tmp_path / "data", IDS)
    with pytest.raises(UserError, match=r"none of the 8 training images .* nothing to learn\.\nCheck the masks\.$"):
        run_stages(tiny(tmp_path / "data", *settings), "prepare")


def test_classes_that_no_training_image_shows_are_nothing_to_learn(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.work.prepare.write_class_histograms", lambda *paths: None)
    settings = write_camvid(tmp_path / "data", [])
    loaded = tiny(tmp_path / "data", *settings, "DATASETS.CLASSES=[Bicyclist, Car]")
    run_stages(loaded, "prepare")
    with pytest.raises(UserError, match=r"no training image shows Bicyclist, Car, .* choose from Sky, Building, Pole$"):
        learning(run_of(loaded), torch.device("cpu"))


@pytest.mark.parametrize(
    ("target", "kind"),
    [("/proc/self/mem", "file unreadable"), ("s_7.jpg", "link to nowhere"), ("/dev/zero", "not a file")],
)
def test_a_file_that_cannot_be_read_is_refused_by_name_and_not_when_it_is_hashed(tmp_path, target: str, kind: str):
    settings = write_camvid(tmp_path / "data", [])
    image = tmp_path / "data/imgs/imgs/s_7.jpg"
    image.unlink()
    image.symlink_to(target)
    with pytest.raises(UserError, match=rf"{kind}\n    imgs/imgs/s_7\.jpg"):
        run_stages(tiny(tmp_path / "data", *settings), "prepare")


def test_a_sample_submission_that_is_a_pipe_is_refused_instead_of_waited_for(tmp_path):
    data = write_competition(tmp_path / "data")
    (data / "sample_submission.csv").unlink()
    os.mkfifo(data / "sample_submission.csv")
    loaded = tiny(data)
    testset_alone = tuple(stage for stage in stages_of(loaded) if stage.name == "testset")
    with pytest.raises(UserError, match=r"not a file\n    sample_submission\.csv"):
        run_stages(loaded, "testset", stages=testset_alone)
