"""The demo with boxes: the same images, and a box around what is seen of each object in them."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.config.load import load_competition
from pipeline.data.catalog import build_train_catalog
from pipeline.demo.flight import Flight, build_flight, render
from pipeline.demo.objects import LEAST_PX, LEAST_VISIBLE, OBJECTS, owner_map, visible_objects
from pipeline.demo.recipes import CLASSES, RECIPES
from pipeline.demo.write import generate, list_flights
from pipeline.detection.box_source import BoxSource
from pipeline.detection.task import BOXES

SMALL = {"num_train": 26, "num_test": 4, "width": 160, "height": 96}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """The same flights with masks and with boxes."""
    parent = tmp_path_factory.mktemp("data")
    generate(parent / "demo", **SMALL)
    generate(parent / "demo_boxes", **SMALL, labels="boxes")
    return parent / "demo", parent / "demo_boxes"


def boxes_of(folder: Path) -> dict[str, list[tuple[int, tuple[int, ...]]]]:
    """Returns (class index of the masks, left, top, right, bottom) of each box by the image's id."""
    content = json.loads((folder / "train.json").read_text())
    names = {one["id"]: Path(one["file_name"]).stem for one in content["images"]}
    class_of = {one["id"]: CLASSES.index(one["name"]) for one in content["categories"]}
    found: dict[str, list] = {name: [] for name in names.values()}
    for one in content["annotations"]:
        left, top, width, height = one["bbox"]
        box = (left, top, left + width, top + height)
        found[names[one["image_id"]]].append((class_of[one["category_id"]], box))
    return found


@pytest.fixture(scope="module")
def frames() -> list[tuple[str, Flight, int]]:
    """Id, flight, and number of each training frame."""
    found = []
    for number, (subset, recipe, num_frames) in enumerate(list_flights(0, SMALL["num_train"], SMALL["num_test"]), 1):
        rng = np.random.default_rng([0, number])
        flight = build_flight(rng, RECIPES[recipe], num_frames, SMALL["width"], SMALL["height"])
        if subset == "train":
            found += [(f"{number:06d}_{frame + 1:03d}", flight, frame) for frame in range(num_frames)]
    return found


def test_the_images_and_lists_are_those_of_the_demo_and_there_are_boxes_in_place_of_masks(folders):
    masks, boxes = folders
    for name in ("train.csv", "test.csv"):
        assert (masks / name).read_bytes() == (boxes / name).read_bytes()
    images = sorted((masks / "imgs/imgs").iterdir())
    assert len(images) == 30
    assert all(path.read_bytes() == (boxes / "imgs/imgs" / path.name).read_bytes() for path in images)
    assert {path.name for path in boxes.iterdir()} == {
        *("imgs", "train.json", "train.csv", "test.csv", "sample_submission.csv", "demo.json")
    }


def test_each_box_is_the_bounding_box_of_the_visible_pixels_of_its_object_and_these_have_its_class(folders, frames):
    written, num_boxes = boxes_of(folders[1]), 0
    for image_id, flight, frame in frames:
        owners, seen = owner_map(flight, frame)
        mask = render(flight, frame)[1]
        assert (mask == cv2.imread(str(folders[0] / f"masks/masks/{image_id}.png"), cv2.IMREAD_UNCHANGED)).all()
        assert np.isin(mask, OBJECTS).sum() == (owners > 0).sum()  # every pixel of an object has an owner
        wanted = []
        for number, (thing, _, _) in enumerate(seen, start=1):
            assert (mask[owners == number] == thing.class_index).all()
            rows, columns = np.nonzero(owners == number)
            if len(rows):
                box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
                wanted.append((thing.class_index, tuple(map(int, box))))
        assert written[image_id] and set(written[image_id]) <= set(wanted)
        num_boxes += len(written[image_id])
    assert num_boxes > 100


def test_the_only_object_of_a_class_has_the_box_of_the_mask_of_this_class(folders, frames):
    written, num_compared = boxes_of(folders[1]), 0
    for image_id, flight, frame in frames:
        mask = cv2.imread(str(folders[0] / f"masks/masks/{image_id}.png"), cv2.IMREAD_UNCHANGED)
        owners, seen = owner_map(flight, frame)
        classes = [thing.class_index for number, (thing, _, _) in enumerate(seen, start=1) if (owners == number).any()]
        for class_index, box in written[image_id]:
            if classes.count(class_index) == 1:
                left, top, width, height = cv2.boundingRect((mask == class_index).astype(np.uint8))
                assert box == (left, top, left + width, top + height)
                num_compared += 1
    assert num_compared > 5


def test_objects_that_are_hidden_for_the_most_part_or_very_small_have_no_box(frames):
    shares, num_left_out = [], 0
    for _, flight, frame in frames:
        objects = visible_objects(flight, frame)
        owners, _ = owner_map(flight, frame)
        shares += [one.visible_share for one in objects]
        num_left_out += len(np.unique(owners[owners > 0])) - len(objects)
        assert all((one.box[2] - one.box[0]) * (one.box[3] - one.box[1]) >= LEAST_PX for one in objects)
    assert LEAST_VISIBLE <= min(shares) < 0.9 and max(shares) == 1
    assert num_left_out > 0


def test_the_competition_is_prepared_without_a_problem(folders):
    competition = load_competition("demo_boxes")
    catalog, problems = build_train_catalog(competition, folders[1], BOXES, BoxSource(competition, folders[1]))
    assert problems == [] and len(catalog) == 26
    assert competition.classes == tuple(CLASSES[index] for index in OBJECTS)
    assert catalog.filter(regex=r"^boxes_\d+$").sum().sum() == sum(map(len, boxes_of(folders[1]).values()))


def test_masks_and_boxes_do_not_pass_for_each_other(folders, tmp_path):
    generate(tmp_path / "demo", **SMALL)
    before = (tmp_path / "demo/demo.json").read_bytes()
    generate(tmp_path / "demo", **SMALL, labels="boxes")
    assert not (tmp_path / "demo/masks").exists() and (tmp_path / "demo/train.json").is_file()
    generate(tmp_path / "demo", **SMALL)
    assert (tmp_path / "demo/demo.json").read_bytes() == before
