"""Scenes of boxes for REPORT.EPOCHS: small pictures with boxes where labels and predictions are."""

from __future__ import annotations

import io
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from pipeline.config.detector_options import options_of
from pipeline.config.load import load
from pipeline.detection.anchors import anchors_of
from pipeline.detection.boxes import make_boxes
from pipeline.detection.dense import Dense
from pipeline.detection.samples import labels_of
from pipeline.detection.scenes import draw_outputs, draw_scene
from pipeline.task import Batch, Frame

FRAME, OFFSET, SIZE = (256, 512), (32, 64), (192, 384)  # of the padded image; where the image is in it; its size
GREY = 90
LEFT, TOP, RIGHT, BOTTOM = 64, 32, 192, 160  # of a box in the image
CORNERS = (LEFT + OFFSET[1], TOP + OFFSET[0], RIGHT + OFFSET[1], BOTTOM + OFFSET[0])  # of the same in its frame


@pytest.fixture
def run(tmp_path):
    loaded = load("BccdR", ("DATASETS.INPUT_SCALE=1", "MODEL.ENCODER.WEIGHTS=null", "MODEL.OPTIONS.SCALES=1"))
    return SimpleNamespace(loaded=loaded, paths=tmp_path)


@pytest.fixture
def batch():
    """A batch of one grey image in a black frame, with a box of class 0."""
    images = torch.zeros((1, *FRAME, 3), dtype=torch.uint8)
    images[:, OFFSET[0] : OFFSET[0] + SIZE[0], OFFSET[1] : OFFSET[1] + SIZE[1]] = GREY
    return Batch(images, labels_of([make_boxes([CORNERS], [0])], FRAME), [Frame("a", OFFSET, SIZE)])


def outputs_with(run, scores: dict[int, float]) -> Dense:
    """Returns outputs with detections of the box's anchor alone: their scores by class."""
    anchors_A4 = anchors_of(options_of(run.loaded.config.model), FRAME, torch.device("cpu"))
    nearest = int((anchors_A4 - torch.tensor(CORNERS)).abs().sum(1).argmin())
    assert anchors_A4[nearest].tolist() == list(CORNERS)
    logits_BAC = torch.full((1, len(anchors_A4), run.loaded.competition.num_classes), -20.0)
    for index, score in scores.items():
        logits_BAC[0, nearest, index] = torch.logit(torch.tensor(score))
    return Dense(logits_BAC, torch.zeros(1, len(anchors_A4), 4), logits_BAC[..., :0])


def pixels_of(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)


def assert_drawn(content: bytes, color: tuple[int, int, int]) -> None:
    """Checks that the sides of the box differ from grey as its color does; the pixels around and inside are grey.

    The format stores colors at half the resolution, so those of thin lines are paler.
    """
    image = pixels_of(content)
    assert image.shape == (*SIZE, 3)
    wanted_3 = np.array(color) - GREY
    for side in (
        image[TOP + 60 : BOTTOM - 8, LEFT],
        image[TOP + 60 : BOTTOM - 8, RIGHT - 1],
        image[BOTTOM - 1, LEFT + 8 : RIGHT - 8],
    ):
        found_3 = side.mean(0) - GREY
        assert np.linalg.norm(found_3) > 30
        assert found_3 @ wanted_3 > 0.8 * np.linalg.norm(found_3) * np.linalg.norm(wanted_3)
    for place in (image[TOP + 60 : BOTTOM - 12, LEFT + 12 : RIGHT - 12], image[:, RIGHT + 16 :]):
        assert np.abs(place - GREY).max() < 12


def test_the_scene_is_the_image_without_its_frame_and_the_same_with_its_labelled_boxes(run, batch):
    plain, labelled = draw_scene(run, batch)
    assert np.abs(pixels_of(plain) - GREY).max() < 12
    assert_drawn(labelled, run.loaded.competition.colors[0])


@pytest.mark.parametrize("index", [0, 2])
def test_a_detection_is_drawn_where_it_is_in_the_color_of_its_class(run, batch, index):
    assert_drawn(draw_outputs(run, batch, outputs_with(run, {index: 0.9})), run.loaded.competition.colors[index])


def test_a_detection_with_a_low_score_is_not_drawn(run, batch):
    assert np.abs(pixels_of(draw_outputs(run, batch, outputs_with(run, {0: 0.2}))) - GREY).max() < 12
