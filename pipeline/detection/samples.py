"""Batches of images with boxes, and whole images for validation and prediction.

Letters: N boxes of an image.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch

from pipeline.data.image_source import ImageSource
from pipeline.data.padding import Sizes, offset_in
from pipeline.data.store import Store
from pipeline.data.whole_images import ImageRow, Item, WholeImages, size_of, stack
from pipeline.detection.boxes import Boxes, make_boxes
from pipeline.detection.dense import BoxTargets, cuts, split_targets, targets_to
from pipeline.detection.geometry import cut, shifted
from pipeline.task import Batch, Frame, Part


class BoxLabels(NamedTuple):
    """The labels of a batch.

    Attributes:
        targets: what is trained on; regions of many objects (crowds) are no boxes of it.
        truth: all boxes of each image, in pixels of the frame.
    """

    targets: BoxTargets
    truth: list[Boxes]


class BoxReader(Protocol):
    """Reads the boxes of a catalog row."""

    def read(self, row: Any) -> Boxes: ...


@dataclass(frozen=True)
class StoredBoxes:
    """The boxes of images in a tile store, see `BoxReader`."""

    store: Store

    def read(self, row: Any) -> Boxes:
        values = self.store.values(row.id)
        return make_boxes(values["xyxy"], values["classes"], values["is_crowd"])


@dataclass(frozen=True)
class FramedBoxes:
    """The boxes of whole images, see `FramedLabels`, in pixels of the frame.

    For a window, these are all boxes that are partly visible in it, clipped to the window.
    """

    labels: BoxReader
    num_classes: int
    pixel_bytes: int = 0

    def read(self, row: ImageRow, part: Part | None, frame: tuple[int, int]) -> Boxes:
        boxes, size = self.labels.read(row), size_of(row, part)
        top, left = offset_in(frame, size)
        if part is not None:
            boxes = boxes._replace(xyxy=shifted(boxes.xyxy, -part.window[1], -part.window[0]))
            boxes = cut(boxes, size, 0)
        return boxes._replace(xyxy=shifted(boxes.xyxy, left, top))

    def presence(self, row: ImageRow, part: Part | None) -> np.ndarray:
        boxes = self.labels.read(row)
        boxes = boxes.keep(~boxes.is_crowd)
        boxes = boxes if part is None else boxes.keep(in_core(boxes.xyxy, part))
        return np.bincount(boxes.classes, minlength=self.num_classes) > 0


def in_core(xyxy_N4: np.ndarray, part: Part) -> np.ndarray:
    """Returns which boxes of an image have their centre in the core of a part: bool (N,)."""
    top, left, height, width = part.core
    x_N, y_N = (xyxy_N4[:, 0] + xyxy_N4[:, 2]) / 2, (xyxy_N4[:, 1] + xyxy_N4[:, 3]) / 2
    return (left <= x_N) & (x_N < left + width) & (top <= y_N) & (y_N < top + height)


def whole_images(
    rows: pd.DataFrame, images: ImageSource, labels: BoxReader, num_classes: int, sizes: Sizes
) -> WholeImages:
    """Returns whole images of catalog rows in a black frame, with boxes where the rows have them.

    The frame is never mirrored: objects in it would have no boxes.
    """
    return WholeImages(rows, images, FramedBoxes(labels, num_classes), "ignore", sizes)


def scored_in(boxes: Boxes, frame: Frame) -> Boxes:
    """Returns the boxes of a frame for scoring; in a window, boxes outside its core are marked as crowds.

    Only boxes with their centre in the core are predicted from a window; all others are ignored in its score.
    """
    if frame.part is None:
        return boxes
    (top, left), window = frame.offset, frame.part.window
    is_own_N = in_core(shifted(boxes.xyxy, window[1] - left, window[0] - top), frame.part)
    return boxes._replace(is_crowd=boxes.is_crowd | ~is_own_N)


def labels_of(boxes: Sequence[Boxes], size: tuple[int, int]) -> BoxLabels:
    """Returns the labels of a batch whose frames have a `size` (height, width)."""
    learnt = [one.keep(~one.is_crowd) for one in boxes]
    xyxy, classes = ([torch.from_numpy(one[index].copy()) for one in learnt] for index in (0, 1))
    crowds = [torch.from_numpy(one.xyxy[one.is_crowd]) for one in boxes]
    return BoxLabels(BoxTargets(xyxy, classes, size, crowds), list(boxes))


def split_labels(labels: BoxLabels, num_parts: int) -> list[BoxLabels]:
    """Returns parts of a batch's labels, as `Tensor.tensor_split` cuts its images."""
    parts = zip(split_targets(labels.targets, num_parts), cuts(len(labels.truth), num_parts), strict=True)
    return [BoxLabels(targets, labels.truth[own]) for targets, own in parts]


def labels_to(labels: BoxLabels, device: torch.device) -> BoxLabels:
    """Returns labels with their training targets on a device."""
    return labels._replace(targets=targets_to(labels.targets, device))


def collate_valid(items: list[Item]) -> Batch:
    """Returns a batch of whole images of one padded size, with boxes or without."""
    images, boxes, frames = zip(*items, strict=True)
    if boxes[0] is None:
        return Batch(stack(images), None, list(frames))
    labels = labels_of(boxes, images[0].shape[:2])
    truth = [scored_in(*pair) for pair in zip(boxes, frames, strict=True)]
    return Batch(stack(images), labels._replace(truth=truth), list(frames))
