"""The diaries of boxes, small: their configs from the check of images to the page, on drawn images in their forms."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch

from pipeline.config.drawn_seed import kept_seed
from pipeline.config.load import load
from pipeline.detection.networks import network_of
from pipeline.engine.api import run
from pipeline.engine.run import Run
from pipeline.paths import BEST, HISTORY, REPORT, STEPS, Folders
from pipeline.report.read import read_columns
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.inputs import seed_of
from tests.tiny import draw_nothing, executed

pytestmark = pytest.mark.slow
QUICK = (
    *("MODEL.ENCODER.WEIGHTS=null", "DATALOADERS.TRAIN.NUM_WORKERS=0", "DATALOADERS.VALID.NUM_WORKERS=0"),
    *("RUNTIME.DEVICE=cpu", "RUNTIME.LOG_STEPS=1", "PREDICT.DETECTIONS.SCORE=0"),
)
SIZES = ((64, 96), (96, 64))  # height, width
COLORS = ((200, 40, 40), (40, 200, 40), (40, 40, 200), (200, 200, 40), (40, 200, 200))


def draw(path: Path, number: int, num_kinds: int) -> tuple[tuple[int, int], list[tuple[int, list[int]]]]:
    """Draws an image with two rectangles; returns its size and of each the kind and left, top, right, bottom."""
    rng = np.random.default_rng(number)
    height, width = SIZES[number % 2]
    image, boxes = rng.integers(60, 100, (height, width, 3)).astype(np.uint8), []
    for left in (4, width // 2):
        kind, side, top = (number + len(boxes)) % num_kinds, int(rng.integers(16, 28)), int(rng.integers(2, 30))
        image[top : top + side, left : left + side] = COLORS[kind]
        boxes.append((kind, [left, top, left + side, top + side]))
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), image)
    return (height, width), boxes


def write_coco_five(folder: Path) -> None:
    """Six images for training, three for validation, two to predict; categories as COCO numbers them."""
    categories = [{"id": number, "name": name} for number, name in ((17, "cat"), (18, "dog"), (6, "bus"), (3, "car"))]
    categories.append({"id": 16, "name": "bird"})
    for subset, numbers in (("train", range(6)), ("valid", range(6, 9)), ("test", range(9, 11))):
        images, annotations = [], []
        for number in numbers:
            name = f"{number:012d}.jpg"
            (height, width), boxes = draw(folder / subset / name, number, len(categories))
            images.append({"id": number, "file_name": name, "height": height, "width": width})
            for kind, (left, top, right, bottom) in boxes:
                annotation = {"image_id": number, "category_id": categories[kind]["id"]}
                annotations.append(
                    annotation | {"id": len(annotations), "bbox": [left, top, right - left, bottom - top]}
                )
        if subset != "test":
            (folder / "annotations").mkdir(exist_ok=True)
            content = {"images": images, "annotations": annotations, "categories": categories}
            (folder / f"annotations/{subset}.json").write_text(json.dumps(content))


def write_nuscenes_seven(folder: Path) -> None:
    """Four drives of two images each, one more to predict; the last kind of box is of no class."""
    kinds, entries = ("vehicle.car", "human.pedestrian.adult", "vehicle.bus.rigid", "movable_object.barrier"), []
    for number in range(9):
        name = f"n{number // 2:03d}-2018-07-24-11-22-45+0800__CAM_FRONT__{1532402927612460 + number}.jpg"
        test = "test/" if number == 8 else ""
        _, boxes = draw(folder / f"{test}samples/CAM_FRONT" / name, number, len(kinds))
        for kind, corners in boxes if not test else ():
            image = {"filename": f"samples/CAM_FRONT/{name}", "sample_data_token": f"{number:032x}"}
            entries.append(image | {"category_name": kinds[kind], "bbox_corners": corners})
    (folder / "image_annotations.json").write_text(json.dumps(entries))


def run_small(name: str, folder: Path, *overrides: str, log: Callable[[str], None] = len) -> Run:
    """Runs all stages of a diary's config on the data below `folder`."""
    folders = Folders(folder / "runs", folder / "submissions", folder / "scratch", (folder / "data",), ())
    return run(name, (*QUICK, *overrides), folders=folders, log=log)


def submission_of(finished: Run) -> Any:
    """Returns the content of a run's submission."""
    return json.loads((finished.paths.submissions / f"{finished.name}.json").read_text())


def test_a_retinanet_of_the_diary_trains_on_coco_files_and_writes_cocos_results(tmp_path, monkeypatch):
    draw_nothing(monkeypatch)
    write_coco_five(tmp_path / "data/coco_five")
    small = ("SOLVER.NUM_EPOCHS=1", "MODEL.OPTIONS={PRIOR: 0.01, CHANNELS: 32}")
    finished = run_small("ExpR03", tmp_path, *small)
    steps = read_columns(finished.paths / STEPS)
    assert [float(lr) for lr in steps["lr"]] == [1e-4] * 3  # six images in twos
    for loss, focal, smooth_l1 in zip(steps["loss"], steps["sigmoid_focal"], steps["smooth_l1"], strict=True):
        assert float(loss) == pytest.approx(float(focal) + float(smooth_l1), rel=1e-5)
    assert 0 <= float(read_columns(finished.paths / HISTORY)["valid_ap"][-1]) <= 1
    assert (finished.paths / REPORT).is_file()
    assert kept_seed(finished.paths.folder) == finished.loaded.config.experiment.seed
    lines: list[str] = []
    assert seed_of(run_small("ExpR03", tmp_path, *small, log=lines.append).loaded) == seed_of(finished.loaded)
    assert lines and executed(lines) == []  # with the same seed, everything is up to date
    boxes = submission_of(finished)
    assert {box["image_id"] for box in boxes} == {"000000000009", "000000000010"}
    assert {box["category_id"] for box in boxes} <= {1, 2, 3, 4, 5}


def test_the_yolox_of_the_diary_has_its_numbers_of_parameters():
    with torch.device("meta"):
        network = network_of(load("ExpY01"))
    sizes = {name: sum(param.numel() for param in part.parameters()) for name, part in network.named_children()}
    assert (sizes["encoder"] + sizes["neck"]) / 1e6 == pytest.approx(46.6, abs=0.05)
    assert sizes["head"] / 1e6 == pytest.approx(7.6, abs=0.05)


def test_a_yolox_of_the_diary_learns_in_its_head_alone_and_adds_the_l1_loss(tmp_path, monkeypatch, configs):
    draw_nothing(monkeypatch)
    plan = configs / "plans/yolox_frozen.yaml"
    text = plan.read_text()
    for before, after in (("EPOCHS: 22", "EPOCHS: 2"), ("WARMUP: 3", "WARMUP: 1"), ("EPOCHS: 8", "EPOCHS: 1")):
        assert before in text
        text = text.replace(before, after)
    plan.write_text(text)
    write_nuscenes_seven(tmp_path / "data/nuscenes_seven")
    size = ("MODEL.ENCODER.NAME=yolox_nano", "DATASETS.INPUT_SCALE=1", "DATALOADERS.TRAIN.BATCH_SIZE=2")
    finished = run_small("ExpY01", tmp_path, *size)
    steps = read_columns(finished.paths / STEPS)
    assert [epoch for epoch, l1 in zip(steps["epoch"], steps["l1"], strict=True) if l1] == ["3"] * 3
    first, last = ({name: float(steps[name][index] or 0) for name in steps} for index in (0, -1))
    for one in (first, last):
        assert one["loss"] == pytest.approx(5 * one["iou"] + one["conf"] + one["cls"] + one["l1"], rel=1e-5)
    torch.manual_seed(seed_of(finished.loaded))
    start, trained = network_of(finished.loaded).state_dict(), load_checkpoint(finished.paths / BEST)["network"]
    changed = {name.partition(".")[0] for name in start if not torch.equal(start[name], trained[name])}
    assert changed == {"head"}
    results = submission_of(finished)["results"]
    (boxes,) = results.values()
    assert {box["category_name"] for box in boxes} <= set(finished.loaded.competition.classes)
