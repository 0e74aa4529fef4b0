"""Detections of views, windows, scales and padded frames are in the pixels of the image."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pandas as pd
import pytest
import tifffile
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from pipeline.config.competition import ImageForm
from pipeline.config.load import Loaded, load
from pipeline.data.image_source import ImageSource
from pipeline.data.padding import Sizes
from pipeline.data.whole_images import WholeImages
from pipeline.detection.boxes import Boxes, Detections, ious, make_boxes, make_detections
from pipeline.detection.dense import Dense
from pipeline.detection.learning import BoxScorer
from pipeline.detection.networks import decoded, network_of, resized, seen_size
from pipeline.detection.predict import (
    View,
    _restored,
    _viewed,
    agreement,
    make_predictor,
    pack,
    predict_batches,
    stored_bytes,
    unpack,
    views_of,
)
from pipeline.detection.samples import collate_valid, whole_images
from pipeline.detection.yolox_boxes import encode_boxes, positions_of, to_centres
from pipeline.prediction.store import PredictionStore, StoreWriter
from pipeline.task import Batch, Frame
from tests.data.broken import COMPETITION

CPU = torch.device("cpu")
LEVEL = {0: 80, 1: 160, 2: 240}


class Finder(nn.Module):
    """Finds rectangles of one grey level per class, exactly, and answers in the code of YOLOX."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Identity()
        self.scaling = network_of(load("BccdY")).scaling

    def forward(self, images: Tensor) -> Dense:
        positions = positions_of(tuple(images.shape[-2:]))
        number = len(positions.strides)
        classes, codes = torch.full((len(images), number, 3), -20.0), torch.zeros(len(images), number, 4)
        for image, own, code in zip(images[:, 0], classes, codes, strict=True):
            for place, (index, box) in enumerate(found_in(image.numpy())):
                at = type(positions)(positions.cells[place : place + 1], positions.strides[place : place + 1])
                code[place] = encode_boxes(to_centres(torch.tensor([box], dtype=torch.float32)), at)[0]
                own[place, index] = 4.0
        return Dense(classes, codes, torch.full((len(images), number, 1), 20.0))


def found_in(image: np.ndarray) -> list[tuple[int, list[float]]]:
    """Returns class and box of each rectangle that an image shows."""
    found = []
    for index, level in LEVEL.items():
        is_own = (np.abs(image - level) < 35).astype(np.uint8)
        _, _, stats, _ = cv2.connectedComponentsWithStats(is_own)
        for left, top, width, height, _ in stats[1:].tolist():
            if min(width, height) > 2:  # an edge that is between two levels is no object
                found.append((index, [left, top, left + width, top + height]))
    return found


def loaded(*changes: str) -> Loaded:
    return load("BccdY", ("DATASETS.INPUT_SCALE=1", *changes))


def picture(size: tuple[int, int], boxes: dict[int, tuple[int, int, int, int]]) -> np.ndarray:
    image = np.zeros((*size, 3), np.uint8)
    for index, (left, top, right, bottom) in boxes.items():
        image[top:bottom, left:right] = LEVEL[index]
    return image


def batch_of(image: np.ndarray, size: tuple[int, int] | None = None, offset: tuple[int, int] = (0, 0)) -> Batch:
    return Batch(torch.from_numpy(image)[None], None, [Frame("one", offset, size or image.shape[:2])])


BOXES = {0: (8, 16, 40, 32), 1: (56, 8, 88, 24), 2: (16, 40, 32, 56)}


def predicted(image: np.ndarray, *changes: str, **frame) -> Detections:
    predictor = make_predictor(loaded(*changes), Finder(), CPU, torch.float32)
    ((_, found),) = predict_batches(predictor, [batch_of(image, **frame)])
    return found


def by_class(found: Detections) -> dict[int, list[float]]:
    return {int(index): box.tolist() for index, box in zip(found.classes, found.xyxy, strict=True)}


views = st.builds(
    View,
    st.sampled_from([(), (0,), (1,), (0, 1)]),
    st.integers(0, 3),
    st.tuples(st.integers(1, 9), st.integers(1, 9)).map(lambda own: (own[0] * 7, own[1] * 5)),
    st.just(1.0),
)


@settings(max_examples=60)
@given(views, st.integers(5, 50), st.integers(5, 50), st.integers(0, 10**6))
def test_the_boxes_of_a_view_are_restored_to_the_frame_of_any_size(view, height, width, seed):
    rng = np.random.default_rng(seed)
    left, top = int(rng.integers(width - 3)), int(rng.integers(height - 3))
    right, bottom = int(rng.integers(left + 2, width + 1)), int(rng.integers(top + 2, height + 1))
    view = view._replace(size=(height, width))  # without resizing, pixels say it exactly
    image = torch.zeros(1, 1, height, width)
    image[..., top:bottom, left:right] = 1
    seen = _viewed(image, view)[0, 0] > 0.5
    columns, rows = (torch.nonzero(seen.any(axis))[:, 0] for axis in (0, 1))
    box = torch.tensor([[[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]]], dtype=torch.float32)
    assert _restored(box, view, (height, width))[0, 0].tolist() == [left, top, right, bottom]


@settings(max_examples=60)
@given(views, st.integers(5, 50), st.integers(5, 50))
def test_the_box_of_a_whole_view_is_that_of_the_whole_frame(view, height, width):
    seen = _viewed(torch.zeros(1, 3, height, width), view).shape[-2:]
    whole = torch.tensor([[[0, 0, seen[1], seen[0]]]], dtype=torch.float32)
    assert _restored(whole, view, (height, width))[0, 0].tolist() == pytest.approx([0, 0, width, height])


@pytest.mark.parametrize(
    ("changes", "num_views"),
    [
        ((), 1),
        (("PREDICT.TTA=flip",), 2),
        (("PREDICT.TTA=d2",), 4),
        (("PREDICT.TTA=d4",), 8),
        (("PREDICT.TTA=scales",), 3),
        (("PREDICT.TTA=flip", "PREDICT.SCALES=[1, 0.5]", "PREDICT.SCALE_WEIGHTS=[1, 3]"), 4),
    ],
)
def test_all_views_together_find_the_boxes_of_the_image(changes, num_views):
    image = picture((64, 96), BOXES)
    found = predicted(image, *changes)
    assert len(views_of(loaded(*changes).config.predict, (64, 96))) == num_views
    assert sorted(found.classes.tolist()) == [0, 1, 2]
    for index, box in by_class(found).items():
        np.testing.assert_allclose(box, BOXES[index], atol=1.0 if "SCALES" in str(changes).upper() else 1e-3)


def test_training_validates_a_network_once_whatever_predict_says():
    predictor = make_predictor(loaded("PREDICT.TTA=d4"), Finder(), CPU, torch.float32, is_plain=True)
    assert len(views_of(predictor.settings, (64, 96))) == 1
    assert predictor.settings.detections == loaded().config.predict.detections


@pytest.mark.parametrize("offset", [(0, 0), (7, 3), (15, 20)])
def test_boxes_are_those_of_the_image_in_its_frame_and_never_outside(offset):
    size = (64 - 2 * offset[0], 96 - 2 * offset[1])
    found = predicted(picture((64, 96), BOXES), size=size, offset=offset)
    top, left = offset
    for index, box in by_class(found).items():
        wanted = np.clip(np.array(BOXES[index]) - [left, top, left, top], 0, [size[1], size[0], size[1], size[0]])
        np.testing.assert_allclose(box, wanted, atol=1e-3)
    assert (found.xyxy >= 0).all() and (found.xyxy <= [size[1], size[0]] * 2).all()
    assert (found.xyxy[:, 2:] > found.xyxy[:, :2]).all()


@pytest.mark.parametrize("factor", [0.5, 2])
@pytest.mark.parametrize("name", ["BccdR", "BccdY"])
def test_input_scale_gives_the_boxes_of_the_resized_image_in_the_pixels_of_the_image(name, factor):
    changes = ("MODEL.ENCODER.WEIGHTS=null", "DATASETS.INPUT_SCALE=1")
    torch.manual_seed(3)
    plain_loaded, scaled_loaded = load(name, changes), load(name, (*changes[:1], f"DATASETS.INPUT_SCALE={factor}"))
    plain, scaled = network_of(plain_loaded).eval(), network_of(scaled_loaded).eval()
    scaled.load_state_dict(plain.state_dict())
    images = torch.rand(1, 3, 96, 128)
    small = resized(images, factor)
    size = seen_size((96, 128), factor)
    assert size == tuple(small.shape[-2:])
    with torch.inference_mode():
        boxes, probs = decoded(plain_loaded, plain(small), size)
        found, found_probs = decoded(scaled_loaded, scaled(images), (96, 128))
    torch.testing.assert_close(found, boxes * torch.tensor([128 / size[1], 96 / size[0]] * 2), rtol=1e-4, atol=1e-3)
    torch.testing.assert_close(found_probs, probs)


def test_detections_come_back_from_a_store_also_those_of_an_image_without_any(tmp_path):
    rng = np.random.default_rng(1)
    number = {"one": 7, "none": 0, "many": 300}
    found = {
        name: make_detections(rng.uniform(0, 90, (count, 4)), rng.random(count), rng.integers(0, 300, count))
        for name, count in number.items()
    }
    writer = StoreWriter(tmp_path / "store", "key", list(found), {"classes": ["a"]}, pack)
    for name, own in found.items():
        writer.put(name, own)
    writer.finish()
    store = PredictionStore(tmp_path / "store", unpack)
    for name, own in found.items():
        again = store[name]
        assert all((one == other).all() and one.dtype == other.dtype for one, other in zip(own, again, strict=True))
        assert again.xyxy.shape == (number[name], 4)


def test_a_store_never_takes_more_than_was_said():
    changes = ("PREDICT.DETECTIONS.MOST=5", "PREDICT.DETECTIONS.SCORE=0")
    predictor = make_predictor(loaded(*changes), Finder(), CPU, torch.float32)
    assert stored_bytes(predictor, [(64, 96)] * 3) == (3 * 5 * 6 * 4, False)


def many_rectangles(height: int, width: int) -> tuple[np.ndarray, Boxes]:
    """Returns an image with a rectangle in each square of 250 pixels, and their boxes."""
    rng = np.random.default_rng(4)
    image, rows, classes = np.zeros((height, width, 3), np.uint8), [], []
    for top, left in np.ndindex(height // 250, width // 250):
        x, y = 250 * left + int(rng.integers(130)), 250 * top + int(rng.integers(130))
        rows.append([x, y, x + int(rng.integers(20, 110)), y + int(rng.integers(20, 110))])
        classes.append(int(rng.integers(3)))
        image[rows[-1][1] : rows[-1][3], rows[-1][0] : rows[-1][2]] = LEVEL[classes[-1]]
    return image, make_boxes(rows, classes)


class Known:
    """Labels that are the same boxes for each row."""

    def __init__(self, boxes: Boxes) -> None:
        self.boxes = boxes

    def read(self, row: object) -> Boxes:
        return self.boxes


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> tuple[WholeImages, Boxes]:
    """An image so large that it comes in windows, as a dataset, and its boxes, some of them where windows meet."""
    folder = tmp_path_factory.mktemp("large")
    image, boxes = many_rectangles(1500, 2000)
    tifffile.imwrite(folder / "large.tif", image, photometric="rgb", tile=(256, 256), compression="zlib")
    rows = pd.DataFrame(
        [("large", "large.tif", "boxes", 2000, 1500)], columns=["id", "image", "mask", "width", "height"]
    )
    competition = replace(COMPETITION, image=ImageForm(whole_px=10**6))
    return whole_images(rows, ImageSource(competition, folder), Known(boxes), 3, Sizes()), boxes


def test_the_windows_of_a_large_image_give_the_boxes_of_the_whole(large):
    data, boxes = large
    batches = [collate_valid([data[index]]) for index in range(len(data))]
    assert len(batches) == 6 and all(batch.windows_of == "large" for batch in batches)
    predictor = make_predictor(loaded(), Finder(), CPU, torch.float32)
    ((name, found),) = predict_batches(predictor, batches)
    assert name == "large" and len(found.classes) == len(boxes.classes)
    overlap = ious(boxes.xyxy, found.xyxy) * (boxes.classes[:, None] == found.classes[None])
    assert (overlap.max(1) > 0.99).all() and (overlap.max(0) > 0.99).all()


def test_of_a_large_image_no_more_boxes_are_kept_than_of_any(large):
    data, _ = large
    predictor = make_predictor(loaded("PREDICT.DETECTIONS.MOST=10"), Finder(), CPU, torch.float32)
    ((_, found),) = predict_batches(predictor, [collate_valid([data[index]]) for index in range(len(data))])
    assert len(found.classes) == 10


def test_a_validation_of_windows_counts_each_box_once_and_nothing_that_a_window_shows_besides(large):
    data, boxes = large
    scorer = BoxScorer(loaded(), ("RBC", "WBC", "Platelets"), (0, 1, 2))
    num_scored = 0
    for index in range(len(data)):
        batch = collate_valid([data[index]])
        num_scored += int((~batch.labels.truth[0].is_crowd).sum())
        assert len(batch.labels.targets.boxes[0]) == len(batch.labels.truth[0].classes)
        with torch.inference_mode():
            scorer.add(Finder()(batch.images.permute(0, 3, 1, 2).float()), batch.labels, batch.windows_of)
    assert num_scored == len(boxes.classes)
    scores = scorer.scores().by_name
    assert scores["ap50"].mean == pytest.approx(1) and scores["ap"].mean > 0.99
    presence = data.class_presence()
    assert presence.shape == (6, 3) and presence.any(0).all()


def test_settings_of_boxes_have_their_effect():
    image = picture((64, 96), {0: (8, 16, 40, 32), 1: (56, 8, 88, 24)})
    assert len(predicted(image).classes) == 2
    assert len(predicted(image, "PREDICT.DETECTIONS.MOST=1").classes) == 1
    assert not len(predicted(image, "PREDICT.DETECTIONS.SCORE=0.99").classes)  # the network says 0.98


def test_the_network_agrees_with_what_is_stored_of_it(tmp_path):
    image, boxes = many_rectangles(256, 512)
    cv2.imwrite(str(tmp_path / "one.png"), image)
    rows = pd.DataFrame([("one", "one.png", "boxes", 512, 256)], columns=["id", "image", "mask", "width", "height"])
    data = whole_images(rows, ImageSource(COMPETITION, tmp_path), Known(boxes), 3, Sizes())
    predictor = make_predictor(loaded(), Finder(), CPU, torch.float32)
    stored = dict(predict_batches(predictor, [collate_valid([data[0]])]))
    assert agreement(predictor, data, [0], stored) == 1
    by_one_px = np.array([[0, 0, 0, 1], [0, 0, 0, 0]])
    moved = {"one": stored["one"]._replace(xyxy=stored["one"].xyxy + by_one_px)}
    assert agreement(predictor, data, [0], moved) == 0.5
    assert agreement(predictor, data, [0], {"one": stored["one"].keep([])}) == 0
