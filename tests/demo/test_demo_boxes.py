"""The demo with boxes: images from nearer than those with masks, and a box around what is seen of each object."""

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
from pipeline.demo.recipes import CLASSES, KINDS
from pipeline.demo.write import generate, list_flights
from pipeline.detection.box_source import BoxSource
from pipeline.detection.task import BOXES

SMALL = {"num_train": 24, "num_test": 4, "width": 160, "height": 96}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data") / "demo_boxes"
    generate(folder, **SMALL, labels="boxes")
    return folder


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
    kind, found = KINDS["boxes"], []
    flights = list_flights(kind, 0, SMALL["num_train"], SMALL["num_test"])
    for number, (subset, recipe, num_frames) in enumerate(flights, 1):
        rng = np.random.default_rng([0, number])
        flight = build_flight(rng, kind.recipes[recipe], num_frames, SMALL["width"], SMALL["height"])
        if subset == "train":
            found += [(f"{number:06d}_{frame + 1:03d}", flight, frame) for frame in range(num_frames)]
    return found


def test_there_are_images_of_the_wanted_size_lists_of_them_and_boxes_in_place_of_masks(folder):
    images = sorted((folder / "imgs/imgs").iterdir())
    assert {cv2.imread(str(path)).shape for path in images} == {(96, 160, 3)}
    train, test = ((folder / f"{subset}.csv").read_text().split()[1:] for subset in ("train", "test"))
    assert (len(train), len(test)) == (24, 4) and sorted(train + test) == [path.stem for path in images]
    assert {path.name for path in folder.iterdir()} == {
        *("imgs", "train.json", "train.csv", "test.csv", "sample_submission.csv", "demo.json")
    }


def test_each_box_is_the_bounding_box_of_the_visible_pixels_of_its_object_and_these_have_its_class(folder, frames):
    written, num_boxes = boxes_of(folder), 0
    for image_id, flight, frame in frames:
        owners, seen = owner_map(flight, frame)
        mask = render(flight, frame)[1]
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


def test_the_boxes_of_a_class_are_together_the_box_of_its_mask_where_all_its_objects_have_one(folder, frames):
    written, num_compared = boxes_of(folder), 0
    for image_id, flight, frame in frames:
        mask = render(flight, frame)[1]
        owners, seen = owner_map(flight, frame)
        classes = [thing.class_index for number, (thing, _, _) in enumerate(seen, start=1) if (owners == number).any()]
        for class_index in OBJECTS:
            boxes = np.array([box for index, box in written[image_id] if index == class_index])
            if len(boxes) and len(boxes) == classes.count(class_index):
                left, top, width, height = cv2.boundingRect((mask == class_index).astype(np.uint8))
                assert [*boxes.min(0)[:2], *boxes.max(0)[2:]] == [left, top, left + width, top + height]
                num_compared += 1
    assert num_compared > 10


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


def test_the_competition_is_prepared_without_a_problem(folder):
    competition = load_competition("demo_boxes")
    catalog, problems = build_train_catalog(competition, folder, BOXES, BoxSource(competition, folder))
    assert problems == [] and len(catalog) == 24
    assert competition.classes == tuple(CLASSES[index] for index in OBJECTS)
    assert catalog.filter(regex=r"^boxes_\d+$").sum().sum() == sum(map(len, boxes_of(folder).values()))


def test_from_eight_flights_on_every_class_has_boxes_and_most_are_large_enough_to_be_found(folder):
    boxes = [one for own in boxes_of(folder).values() for one in own]
    assert {index for index, _ in boxes} == set(OBJECTS)
    sides = [((right - left) * (bottom - top)) ** 0.5 for _, (left, top, right, bottom) in boxes]
    assert np.median(sides) > 0.06 * SMALL["width"]


def test_masks_and_boxes_do_not_pass_for_each_other(tmp_path):
    few = SMALL | {"num_train": 2, "num_test": 1}
    generate(tmp_path / "demo", **few)
    before = (tmp_path / "demo/demo.json").read_bytes()
    generate(tmp_path / "demo", **few, labels="boxes")
    assert not (tmp_path / "demo/masks").exists() and (tmp_path / "demo/train.json").is_file()
    generate(tmp_path / "demo", **few)
    assert (tmp_path / "demo/demo.json").read_bytes() == before
