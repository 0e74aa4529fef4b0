"""Predicts the detections of images, or fuses those of flipped, rotated and resized copies.

Letters: B images, C classes, N detections, H and W the padded frame.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pipeline.config.load import Loaded
from pipeline.config.schema import STRIDE, Predict
from pipeline.data.whole_images import WholeImages
from pipeline.detection.box_fusion import fuse
from pipeline.detection.boxes import Detections, make_detections
from pipeline.detection.dense import Dense, join_outputs
from pipeline.detection.networks import decoded
from pipeline.detection.samples import in_core
from pipeline.detection.selection import select
from pipeline.detection.suppression import nms
from pipeline.task import Batch, Frame
from pipeline.training.device import explained_faults
from pipeline.training.encoder import normalise, scaling_of
from pipeline.training.learner import autocast
from pipeline.training.memory import PartLimit, in_parts

COLUMNS = 6  # of a stored detection: left, top, right, bottom, score, class
MEMORY_REMEDY = "Set DATALOADERS.VALID.BATCH_SIZE=1, or DATASETS.INPUT_SCALE below 1 in a new run."


@dataclass(frozen=True)
class Predictor:
    """A network ready to predict: in evaluation mode, on its device. `limit`: how many images are predicted at once."""

    loaded: Loaded
    network: nn.Module
    settings: Predict
    device: torch.device
    precision: torch.dtype
    limit: PartLimit = field(default_factory=PartLimit, compare=False)


class View(NamedTuple):
    """A copy of a frame that is predicted.

    Attributes:
        flips: axes (of H, W) that are flipped.
        turns: quarter turns counter-clockwise, before the flips.
        size: (height, width) to which the frame is resized first.
        weight: of its detections.
    """

    flips: tuple[int, ...]
    turns: int
    size: tuple[int, int]
    weight: float


def make_predictor(
    loaded: Loaded, network: nn.Module, device: torch.device, precision: torch.dtype, is_plain: bool = False
) -> Predictor:
    """Returns a run's network, with its weights on its device, ready to predict.

    Args:
        is_plain: whether images are predicted once, without the copies of PREDICT.TTA and SCALES.
    """
    settings = loaded.config.predict
    if is_plain:
        settings = replace(settings, tta="none", scales=None, scale_weights=None)
    return Predictor(loaded, network.eval(), settings, device, precision)


def predict_batches(predictor: Predictor, batches: Iterable[Batch]) -> Iterator[tuple[str, Detections]]:
    """Yields (image id, detections) for every image of the batches, in their order.

    Each window of a large image contributes the boxes whose centre is in its core.
    """
    windows: list[Detections] = []
    num_px = 0
    for batch in batches:
        with torch.inference_mode(), explained_faults(MEMORY_REMEDY):
            found = _detect(predictor, batch.images.to(predictor.device, non_blocking=True), batch.keys)
        for key, own in zip(batch.keys, found, strict=True):
            if key.part is None:
                yield key.id, own
                continue
            top, left = key.part.window[:2]
            own = own._replace(xyxy=own.xyxy + np.array([left, top, left, top], np.float32))
            windows.append(own.keep(in_core(own.xyxy, key.part)))
            num_px += key.part.core[2] * key.part.core[3]
            if num_px == key.part.image_size[0] * key.part.image_size[1]:
                yield key.id, _joined(windows, predictor.settings)
                windows, num_px = [], 0


def _joined(windows: Sequence[Detections], settings: Predict) -> Detections:
    """Returns the detections of a large image, without duplicates from neighbouring windows."""
    joined = make_detections(*map(np.concatenate, zip(*windows, strict=True)))
    return nms(joined, settings.detections.overlap, settings.detections.most)


def _detect(predictor: Predictor, image_BHWC: Tensor, frames: Sequence[Frame]) -> list[Detections]:
    """Returns the detections of each image in its own pixels, fused over all views."""
    settings, size = predictor.settings.detections, tuple(image_BHWC.shape[1:3])
    views = views_of(predictor.settings, size)
    by_view = [_of_view(predictor, image_BHWC, frames, view) for view in views]
    if len(views) == 1:
        return by_view[0]
    weights = [view.weight for view in views]
    fused = (fuse(own, weights, settings.overlap) for own in zip(*by_view, strict=True))
    return [one.keep(one.scores > settings.score).keep(slice(settings.most)) for one in fused]


def _of_view(predictor: Predictor, image_BHWC: Tensor, frames: Sequence[Frame], view: View) -> list[Detections]:
    size = tuple(image_BHWC.shape[1:3])
    scaling = scaling_of(predictor.network, predictor.loaded.config.model.encoder)

    def answers(part_BHWC: Tensor) -> Dense:
        image_BCHW = _viewed(normalise(part_BHWC, scaling), view)
        with autocast(predictor.device, predictor.precision):
            return predictor.network(image_BCHW.contiguous(memory_format=torch.channels_last))

    outputs = in_parts(answers, image_BHWC, join_outputs, predictor.limit)
    seen = view.size[::-1] if view.turns % 2 else view.size
    boxes_BA4, probs_BAC = decoded(predictor.loaded, outputs, seen)
    boxes_BA4 = _restored(boxes_BA4.float(), view, size)
    settings = predictor.settings.detections
    return [
        select(boxes_A4, probs_AC, settings, frame.offset, frame.size)
        for boxes_A4, probs_AC, frame in zip(boxes_BA4, probs_BAC, frames, strict=True)
    ]


def views_of(settings: Predict, size: tuple[int, int]) -> list[View]:
    """Returns the copies of frames of a size (height, width) that PREDICT.TTA and SCALES ask for."""
    flips: dict[str, tuple[tuple[tuple[int, ...], int], ...]] = {
        "none": (((), 0),),
        "flip": (((), 0), ((1,), 0)),
        "d2": (((), 0), ((1,), 0), ((0,), 0), ((0, 1), 0)),
        "d4": tuple((axes, turns) for turns in range(4) for axes in ((), (1,))),
    }
    weights = settings.scale_weights or (1.0,) * len(settings.sizes)
    scales = [
        (tuple(max(STRIDE, int(side * factor / STRIDE + 0.5) * STRIDE) for side in size), weight)
        for factor, weight in zip(settings.sizes, weights, strict=True)
    ]
    kinds = flips.get(settings.tta, flips["none"])
    return [View(axes, turns, own, weight) for own, weight in scales for axes, turns in kinds]


def _viewed(image_BCHW: Tensor, view: View) -> Tensor:
    if view.size != tuple(image_BCHW.shape[-2:]):
        shrinks = view.size[0] < image_BCHW.shape[-2]
        image_BCHW = F.interpolate(image_BCHW, size=view.size, mode="bilinear", antialias=shrinks)
    image_BCHW = torch.rot90(image_BCHW, view.turns, (2, 3)) if view.turns else image_BCHW
    return image_BCHW.flip([2 + axis for axis in view.flips]) if view.flips else image_BCHW


def _restored(boxes_BA4: Tensor, view: View, size: tuple[int, int]) -> Tensor:
    """Returns boxes of a view in pixels of the original frame."""
    left, top, right, bottom = boxes_BA4.unbind(-1)
    height, width = view.size[::-1] if view.turns % 2 else view.size
    if 1 in view.flips:
        left, right = width - right, width - left
    if 0 in view.flips:
        top, bottom = height - bottom, height - top
    for _ in range(view.turns):  # back clockwise: (x, y) becomes (height - y, x)
        left, top, right, bottom = height - bottom, left, height - top, right
        height, width = width, height
    x, y = size[1] / width, size[0] / height
    return torch.stack([left * x, top * y, right * x, bottom * y], -1)


def pack(prediction: Detections) -> tuple[np.ndarray, dict[str, Any]]:
    """Returns the array that a store keeps of detections, float32 (N, 6), and their number.

    An image without detections has a row of zeros, as an array without rows cannot be mapped into memory.
    """
    columns = (prediction.xyxy, prediction.scores[:, None], prediction.classes[:, None].astype(np.float32))
    rows = np.concatenate(columns, 1, dtype=np.float32)
    return (rows if len(rows) else np.zeros((1, COLUMNS), np.float32)), {"detections": len(rows)}


def unpack(array: np.ndarray, facts: Mapping[str, Any]) -> Detections:
    """Returns detections from what `pack` returned; the array may be a memory map."""
    array = np.array(array[: facts["detections"]], np.float32)
    return Detections(array[:, :4], array[:, 4], array[:, 5].astype(np.int64))


def stored_bytes(predictor: Predictor, sizes: Iterable[tuple[int, int]]) -> tuple[int, bool]:
    """Returns the maximum size in bytes of the detections of images in a store, and False: it is not exact."""
    return sum(1 for _ in sizes) * predictor.settings.detections.most * COLUMNS * 4, False


def agreement(
    predictor: Predictor, dataset: WholeImages, indices: Sequence[int], stored: Mapping[str, Detections]
) -> float:
    """Returns the share of the network's detections that a store has with the same class, within half a pixel.

    Args:
        dataset: the images that were predicted.
        indices: which of them are compared; windows of large images are left out.
        stored: detections by image id, such as a `PredictionStore`.
    """
    num_equal = num_all = 0
    for index in indices:
        image, _, key = dataset[index]
        if key.part is not None:
            continue
        with torch.inference_mode():
            (found,) = _detect(predictor, torch.from_numpy(image)[None].to(predictor.device), [key])
        kept = stored[key.id]
        same = (np.abs(found.xyxy[:, None] - kept.xyxy[None]) < 0.5).all(-1)
        same &= found.classes[:, None] == kept.classes[None]
        num_equal += int(same.any(1).sum())
        num_all += len(found.classes)
    return num_equal / num_all if num_all else 1.0
