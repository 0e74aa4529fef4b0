"""A validation image, its boxes and a network's detections as small image files, for chosen epochs of a training.

In: a batch of one padded image, the outputs for it. Out: WebP, at most `MOST_SIDE` pixels wide and high.
"""

from __future__ import annotations

import numpy as np
from PIL import Image

from pipeline.data.image_source import PLAIN, to_rgb
from pipeline.detection.boxes import Boxes, Detections
from pipeline.detection.dense import Dense
from pipeline.detection.geometry import cut, scaled, shifted
from pipeline.detection.learning import VALIDATED
from pipeline.detection.networks import decoded
from pipeline.detection.panels import draw_found, draw_label
from pipeline.detection.selection import select
from pipeline.engine.run import Run
from pipeline.report.canvas import fit, resize
from pipeline.report.figure import encode_webp
from pipeline.task import Batch, Frame
from pipeline.training.inputs import image_facts

MOST_SIDE = 512  # pixels: twice the page's size of an image beside three others


def draw_scene(run: Run, batch: Batch) -> tuple[bytes, bytes]:
    """Returns the image of a batch of one, and the same with its boxes."""
    image, frame = _image(run, batch), batch.keys[0]
    (top, left), boxes = frame.offset, batch.labels.truth[0]
    boxes = cut(boxes._replace(xyxy=shifted(boxes.xyxy, -left, -top)), frame.size, 0)
    return _encoded(image), _encoded(draw_label(image, _small(boxes, frame, image), run.loaded.competition.colors))


def draw_outputs(run: Run, batch: Batch, outputs: Dense) -> bytes:
    """Returns the image of a batch of one with the detected boxes, each with its score."""
    image, frame = _image(run, batch), batch.keys[0]
    boxes_BA4, probs_BAC = decoded(run.loaded, outputs, tuple(batch.images.shape[1:3]))
    found = select(boxes_BA4[0], probs_BAC[0], VALIDATED, frame.offset, frame.size)
    return _encoded(draw_found(image, _small(found, frame, image), run.loaded.competition.colors))


def _small(boxes: Boxes | Detections, frame: Frame, image: np.ndarray) -> Boxes | Detections:
    """Returns boxes of the image in the pixels of its drawing."""
    return boxes._replace(xyxy=scaled(boxes.xyxy, frame.size, image.shape[:2]))


def _image(run: Run, batch: Batch) -> np.ndarray:
    """Returns the unpadded image, or window, as uint8 RGB in the size of the file."""
    frame: Frame = batch.keys[0]
    (top, left), (height, width) = frame.offset, frame.size
    pixels = batch.images[0].numpy()[top : top + height, left : left + width]
    image = to_rgb(pixels, image_facts(run) or PLAIN)
    return resize(image, *min((width, height), fit(width, height, MOST_SIDE, MOST_SIDE)))


def _encoded(image: np.ndarray) -> bytes:
    return encode_webp(Image.fromarray(image))
