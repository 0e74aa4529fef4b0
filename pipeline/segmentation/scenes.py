"""A validation image, its label, and what a network finds in it, as small image files, for chosen epochs of a training.

In: a batch of one padded image, the outputs for it. Out: WebP, at most `MOST_SIDE` pixels wide and high.
"""

from __future__ import annotations

import numpy as np
from PIL import Image
from torch import Tensor

from pipeline.data.image_source import PLAIN, to_rgb
from pipeline.engine.run import Run
from pipeline.report.canvas import fit, resize
from pipeline.report.figure import encode_webp
from pipeline.segmentation.activation import activation_of
from pipeline.segmentation.joining import core_slices
from pipeline.segmentation.panels import paint_mask, resize_nearest
from pipeline.task import Batch, Frame
from pipeline.training.inputs import image_facts

MOST_SIDE = 512  # pixels: twice the page's size of an image beside three others


def draw_scene(run: Run, batch: Batch) -> tuple[bytes, bytes]:
    """Returns the image of a batch of one, and its mask in class colours; ignored pixels are hatched."""
    image = _image(run, batch)
    return _encoded(image), _painted(run, image, _shown(batch, batch.labels[0].numpy()))


def draw_outputs(run: Run, batch: Batch, outputs: Tensor) -> bytes:
    """Returns the classes that outputs (1, C or one more, H, W) choose for the image of a batch of one, in colours."""
    competition = run.loaded.competition
    predicted = activation_of(competition).choose(outputs[:, : competition.num_classes])
    return _painted(run, _image(run, batch), _shown(batch, predicted[0].cpu().numpy()))


def _image(run: Run, batch: Batch) -> np.ndarray:
    """Returns the unpadded image as uint8 RGB in the size of the file."""
    image = to_rgb(_shown(batch, batch.images[0].numpy()), image_facts(run) or PLAIN)
    return resize(image, *_size(image))


def _shown(batch: Batch, array: np.ndarray) -> np.ndarray:
    """Returns what an array (H, W, ...) of the padded frame has of the image, or of a window's core."""
    frame: Frame = batch.keys[0]
    (top, left), (height, width) = frame.offset, frame.size
    array = array[top : top + height, left : left + width]
    return array if frame.part is None else array[core_slices(frame.part)]


def _size(array: np.ndarray) -> tuple[int, int]:
    """Returns (width, height) in the file, which is never larger than the image."""
    height, width = array.shape[:2]
    return min((width, height), fit(width, height, MOST_SIDE, MOST_SIDE))


def _painted(run: Run, image: np.ndarray, mask: np.ndarray) -> bytes:
    return _encoded(paint_mask(resize_nearest(mask, _size(mask)), run.loaded.competition.colors, image))


def _encoded(image: np.ndarray) -> bytes:
    return encode_webp(Image.fromarray(image))
