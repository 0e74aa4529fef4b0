"""Training samples with boxes: a pure function of their key, with boxes around pixels of their class only."""

from __future__ import annotations

import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.config.load import load
from pipeline.data.contact_sheet import each_alone, sheet_of
from pipeline.data.image_source import PLAIN as PLAIN_IMAGES
from pipeline.data.loaders import SampleKey
from pipeline.detection.boxes import make_boxes
from pipeline.detection.dense import cuts
from pipeline.detection.learning import seen_targets
from pipeline.detection.samples import labels_of, labels_to, split_labels
from pipeline.detection.train_samples import BoxDataset, collate_train
from pipeline.engine.chain import run_chain
from pipeline.engine.run import Run
from pipeline.engine.stopping import Stop
from pipeline.paths import Folders
from pipeline.stages import stages_of, task_of
from tests.detection.box_competition import ALL_GEOMETRY, CLASSES, COLORS, DISC, SQUARE, overrides, write_competition
from tests.tiny import draw_nothing

A = "DATASETS.AUGMENTATION"
PLAIN = (f"{A}.HORIZONTAL_FLIP.ENABLE=false",)
FLIPS = tuple(f"{A}.{name}.ENABLE=true" for name in ("HORIZONTAL_FLIP", "VERTICAL_FLIP", "QUARTER_TURN"))
COMPOSED = tuple(f"{A}.{name}.{key}" for name in ("MOSAIC", "COPY_PASTE") for key in ("ENABLE=true", "PROBABILITY=1"))
CROPS = (f"{A}.RANDOM_CROP.ENABLE=true", f"{A}.RANDOM_CROP.WIDTH=128", f"{A}.RANDOM_CROP.HEIGHT=64")
TILES = (
    f"{A}.TILE.ENABLE=true",
    f"{A}.TILE.WIDTH=64",
    f"{A}.TILE.HEIGHT=32",
    f"{A}.TILE.SETS=[[1.0, 0.25], [2.0, 0.25]]",
)
BLENDED = (f"{A}.MIX_UP.ENABLE=true", f"{A}.MIX_UP.PROBABILITY=1")
EVERYTHING = tuple(f"{key}={value}" for key, value in ALL_GEOMETRY.items())
KINDS = {
    "plain": PLAIN,
    "flips": FLIPS,
    "composed": (*FLIPS, *COMPOSED),
    "crops": (*FLIPS, *COMPOSED, *CROPS),
    "tiles": (*FLIPS, *COMPOSED, *TILES),
    "everything": (*EVERYTHING, *COMPOSED, *CROPS),
    "blended": (*PLAIN, *BLENDED),
    "blended with everything": (*EVERYTHING, *COMPOSED, *BLENDED),
}
# Of blended samples no pixel has the colour of a class.
OPAQUE = [kind for kind in KINDS if not kind.startswith("blended")]


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Folders]:
    folder = tmp_path_factory.mktemp("boxes")
    return write_competition(folder / "data"), folder


@pytest.fixture(scope="module")
def dataset_of(folders):
    """`dataset_of("tiles")`: the training samples of a kind, whose store is built once."""
    data, folder = folders
    made: dict[str, BoxDataset] = {}

    def make(kind: str) -> BoxDataset:
        if kind not in made:
            with pytest.MonkeyPatch.context() as patch:
                for variable in ("RUNS_DIR", "SCRATCH_DIR", "SUBMISSIONS_DIR"):
                    patch.setenv(variable, str(folder / variable))
                draw_nothing(patch)
                loaded = load("demo", overrides(data, *KINDS[kind]))
                run = Run(loaded, Folders.from_environment(), lambda line: None, Stop(), stages_of, task_of)
                run_chain(run, "tile")
                made[kind] = run.task.train_data(run)
        return made[kind]

    return make


def is_of(image: np.ndarray, index: int) -> np.ndarray:
    """Returns which pixels have the colour of a class, after JPEG, and blended by half at edges."""
    return np.abs(image.astype(int) - COLORS[index]).sum(-1) < 110  # noise is 120 away, or more


@pytest.mark.parametrize("kind", KINDS)
def test_a_sample_is_a_function_of_its_key_alone(dataset_of, kind):
    dataset = dataset_of(kind)
    keys = [SampleKey(epoch, index, True, repeat) for epoch in (1, 2) for index in range(3) for repeat in (0, 1)]
    first = {key: dataset[key] for key in keys}
    copied = pickle.loads(pickle.dumps(dataset))  # noqa: S301 - as a worker that is not forked gets it
    for key in reversed(keys):
        for again in (dataset[key], copied[key]):
            assert (again[0] == first[key][0]).all()
            assert all((one == other).all() for one, other in zip(again[1], first[key][1], strict=True))
    if kind != "plain":
        assert len({first[key][0].tobytes() for key in keys}) > 2


@pytest.mark.parametrize("kind", OPAQUE)
def test_each_box_of_a_sample_has_pixels_of_its_class_and_is_inside(dataset_of, kind):
    dataset, num_boxes = dataset_of(kind), 0
    for key in [SampleKey(epoch, index) for epoch in (1, 2, 3) for index in range(0, len(dataset), 2)]:
        image, boxes, _ = dataset[key]
        assert image.shape[:2] == dataset.frame(key.index)
        assert (boxes.xyxy >= 0).all() and (boxes.xyxy <= [image.shape[1], image.shape[0]] * 2).all()
        for (left, top, right, bottom), index in zip(boxes.xyxy, boxes.classes, strict=True):
            part = image[int(top) : int(np.ceil(bottom)), int(left) : int(np.ceil(right))]
            if min(right - left, bottom - top) >= 3:  # thinner ones are the blurred edge of an object
                assert is_of(part, index).any(), (key, index)
                num_boxes += 1
    assert num_boxes > 10


@pytest.mark.parametrize("kind", ["plain", "flips", "composed", "tiles"])
def test_no_object_without_a_box_shows_more_than_may_be_seen_of_it(dataset_of, kind):
    dataset, largest = dataset_of(kind), 22 * 22
    for key in [SampleKey(epoch, index) for epoch in (1, 2) for index in range(0, len(dataset), 2)]:
        image, boxes, _ = dataset[key]
        left_over = is_of(image, SQUARE) | is_of(image, DISC)
        for left, top, right, bottom in np.rint(boxes.xyxy).astype(int):
            left_over[max(top - 1, 0) : bottom + 1, max(left - 1, 0) : right + 1] = False
        _, _, stats, _ = cv2.connectedComponentsWithStats(left_over.astype(np.uint8))
        scale = 4 if kind == "tiles" else 1
        assert stats[1:, cv2.CC_STAT_AREA].max(initial=0) <= 0.3 * largest * scale + 8


def test_without_augmentation_a_sample_is_the_image_with_its_boxes(dataset_of):
    dataset = dataset_of("everything")
    for index in range(len(dataset)):
        image, boxes, _ = dataset[SampleKey(1, index, augment=False)]
        assert image.shape == (64, 128, 3)
        values = dataset.store.values(dataset.image_id(index))
        assert set(boxes.classes.tolist()) <= set(values["classes"])
        for (left, top, right, bottom), own in zip(boxes.xyxy.astype(int), boxes.classes, strict=True):
            middle = image[(top + bottom) // 2, (left + right) // 2][None, None]
            assert min(right - left, bottom - top) < 5 or is_of(middle, own).all()


def test_a_blended_sample_has_the_boxes_of_two_images_and_without_augmentation_its_own(dataset_of):
    dataset, plain = dataset_of("blended"), dataset_of("plain")
    num_more = 0
    for index in range(len(dataset)):
        key = SampleKey(1, index)
        own, mixed = plain[key], dataset[key]
        number = len(own[1].classes)
        assert (mixed[1].xyxy[:number] == own[1].xyxy).all()
        num_more += len(mixed[1].classes) - number
        for sample in (plain[key._replace(augment=False)], dataset[key._replace(augment=False)]):
            assert (sample[0] == own[0]).all() and len(sample[1].classes) == number
    assert num_more > len(dataset)


def test_the_contact_sheet_shows_every_option_that_is_on_by_itself(dataset_of):
    dataset = dataset_of("blended with everything")
    names = [name for name, _, _ in each_alone(dataset, [SampleKey(1, 0), SampleKey(1, 1)])]
    assert {"VERTICAL_FLIP", "QUARTER_TURN", "MOSAIC", "ELASTIC", "MIX_UP"} <= set(names)
    sheet = sheet_of(dataset, PLAIN_IMAGES, 4)
    assert sheet.captions[:4] == [dataset.image_id(index) for index in (0, 3, 6, 9)] and sheet.captions[4:] == names
    own = dataset.boxes(0)
    blended = sheet.samples[4 + names.index("MIX_UP")][1]
    assert (blended.xyxy[: len(own.classes)] == own.xyxy).all() and len(blended.classes) >= len(own.classes)


def test_classes_that_a_sample_shows_are_those_of_its_boxes_without_crowds(dataset_of):
    dataset = dataset_of("tiles")
    presence = dataset.class_presence()
    assert presence.shape == (len(dataset), len(CLASSES))
    for index in range(len(dataset)):
        _, boxes, _ = dataset[SampleKey(1, index, augment=False)]
        assert np.flatnonzero(presence[index]).tolist() == np.unique(boxes.classes).tolist()


def test_tiles_of_several_scales_have_boxes_in_their_own_pixels(dataset_of):
    dataset = dataset_of("tiles")
    assert {position.scale for position in map(dataset.positions.__getitem__, range(len(dataset)))} == {1.0, 2.0}
    sides: dict[float, list[float]] = {1.0: [], 2.0: []}
    for index in range(len(dataset)):
        _, boxes, _ = dataset[SampleKey(1, index, augment=False)]
        sides[dataset.positions[index].scale] += (boxes.xyxy[:, 2] - boxes.xyxy[:, 0]).tolist()
    assert max(sides[1.0]) <= 22 < max(sides[2.0]) <= 44


@given(st.integers(0, 40), st.integers(1, 12))
def test_a_batch_is_cut_as_torch_cuts_its_images(length, num_parts):
    expected = [part.tolist() for part in torch.arange(length).tensor_split(num_parts)]
    assert [list(range(length))[own] for own in cuts(length, num_parts)] == expected


@settings(max_examples=30)
@given(st.integers(1, 9), st.integers(1, 5))
def test_the_labels_of_a_batch_are_cut_with_its_images(number, num_parts):
    boxes = [make_boxes([[0, 0, index + 1, 2]] * (index % 3), [index % 3] * (index % 3)) for index in range(number)]
    parts = split_labels(labels_of(boxes, (32, 64)), num_parts)
    assert len(parts) == num_parts
    joined = [one for part in parts for one in part.truth]
    assert [own.xyxy.tolist() for own in joined] == [own.xyxy.tolist() for own in boxes]
    assert [len(part.truth) for part in parts] == [len(part.targets.boxes) for part in parts]
    assert all(part.targets.size == (32, 64) for part in parts)


def test_crowds_are_scored_and_are_neither_boxes_nor_background_of_the_training():
    boxes = make_boxes([[0, 0, 4, 4], [0, 0, 9, 9]], [1, 2], [False, True])
    labels = labels_of([make_boxes([], []), boxes], (32, 32))
    assert labels.targets.classes[1].tolist() == [1] and labels.truth[1].classes.tolist() == [1, 2]
    first, second = split_labels(labels, 2)
    assert [own.tolist() for own in (*first.targets.crowds, *second.targets.crowds)] == [[], [[0, 0, 9, 9]]]
    assert seen_targets(labels.targets, 2).crowds[1].tolist() == [[0, 0, 18, 18]]
    assert labels_to(labels, torch.device("cpu")).targets.crowds[1].tolist() == [[0, 0, 9, 9]]


def test_samples_of_several_sizes_are_framed_with_their_boxes():
    key, white = SampleKey(1, 0), np.full((32, 32, 3), 255, np.uint8)
    small = (white, make_boxes([[0, 0, 32, 32]], [0]), key)
    large = (np.zeros((64, 96, 3), np.uint8), make_boxes([], []), key)
    batch = collate_train([small, large])
    assert batch.images.shape == (2, 64, 96, 3) and batch.labels.targets.size == (64, 96)
    (box,) = batch.labels.targets.boxes[0].int().tolist()
    assert box == [32, 16, 64, 48]
    is_white = batch.images[0, ..., 0] == 255
    assert is_white[16:48, 32:64].all() and is_white.sum() == 32 * 32
