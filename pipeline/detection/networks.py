"""Networks that detect boxes, by MODEL.NAME, and the resizing of their input.

With DATASETS.INPUT_SCALE a network resizes its input. Its boxes are scaled back to the pixels of the image, and in
training the labels are scaled to the resized input.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.load import Loaded
from pipeline.config.schema import STRIDE, Model
from pipeline.data.padding import ANY_SIZE
from pipeline.detection.dense import Dense, Detector
from pipeline.engine.run import named

DETECTORS = {"RetinaNet": "pipeline.detection.retinanet:RETINANET", "YOLOX": "pipeline.detection.yolox:YOLOX"}


def detector_of(model: Model) -> Detector:
    """Returns the architecture of a model."""
    return named(DETECTORS[model.name])


def network_of(loaded: Loaded) -> nn.Module:
    """Returns the network of a run with random weights, on the CPU.

    Raises:
        UserError: an unknown encoder or option.
    """
    model, competition = loaded.config.model, loaded.competition
    network = detector_of(model).build(model, competition.num_classes, competition.num_channels)
    network.to(memory_format=torch.channels_last)
    network.sizes = ANY_SIZE
    if (factor := loaded.config.datasets.input_scale) != 1:
        # A hook, not a network around it: weights keep their names, so that they fit a network without it.
        network.register_forward_pre_hook(lambda _, inputs: (resized(inputs[0], factor),))
    return network


def resized(image_BCHW: Tensor, factor: float) -> Tensor:
    """Returns images at the size that the network sees, float32 (B, C, H', W')."""
    size = seen_size(tuple(image_BCHW.shape[-2:]), factor)
    # Antialiasing: without it, a quarter of the size would show every fourth pixel instead of their mean.
    return F.interpolate(image_BCHW, size=size, mode="bilinear", antialias=factor < 1)


def seen_size(size: tuple[int, int], factor: float) -> tuple[int, int]:
    """Returns the size (height, width) at which a network sees frames of a size: the nearest multiples of its stride.

    >>> seen_size((480, 640), 0.5), seen_size((480, 640), 1)
    ((256, 320), (480, 640))
    """
    if factor == 1:
        return size
    height, width = (max(STRIDE, int(side * factor / STRIDE + 0.5) * STRIDE) for side in size)
    return height, width


def decoded(loaded: Loaded, outputs: Dense, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Returns boxes (B, A, 4) in pixels of frames of a size (height, width), and probabilities (B, A, C)."""
    model, seen = loaded.config.model, seen_size(size, loaded.config.datasets.input_scale)
    boxes_BA4, probs_BAC = detector_of(model).decode(model, outputs, seen)
    if seen != size:
        x, y = size[1] / seen[1], size[0] / seen[0]
        boxes_BA4 = boxes_BA4 * boxes_BA4.new_tensor([x, y, x, y])
    return boxes_BA4, probs_BAC
