"""Whole images with their masks, for validation and prediction. Those for training are in `train_samples.py`."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from pipeline.config.competition import IGNORE
from pipeline.data.image_source import ImageSource
from pipeline.data.padding import ANY_SIZE, Policy, Sizes, pad
from pipeline.data.tiles import Box
from pipeline.data.whole_images import (
    ImageRow,
    Item,
    WholeImages,
    box_of,
    changed_size,
    size_of,
    stack,
)
from pipeline.segmentation.copy_paste import count_classes
from pipeline.task import Batch, Part


class Masks(Protocol):
    """The masks of images by their catalog rows: uint8 (H, W), of a whole image or of a box of a large one.

    Or planes, (H, W, `planes`).
    """

    planes: int | None

    def read(self, row: Any) -> np.ndarray: ...

    def window(self, row: Any, box: Box) -> np.ndarray: ...


@dataclass(frozen=True)
class FramedMasks:
    """The masks of whole images, see `FramedLabels`: ignored in the frame, and in what a window shows beyond its core.

    Padded pixels are so whatever the policy, because validation counts unpadded pixels only.
    """

    masks: Masks

    @property
    def pixel_bytes(self) -> int:
        return self.masks.planes or 1

    def read(self, row: ImageRow, part: Part | None, frame: tuple[int, int]) -> np.ndarray:
        mask = self._mask(row, part)
        if mask.shape[:2] != size_of(row, part):
            raise changed_size(row)
        return pad(mask, frame, IGNORE)

    def presence(self, row: ImageRow, part: Part | None) -> np.ndarray:
        return count_classes(self._mask(row, part))[:IGNORE] > 0

    def _mask(self, row: ImageRow, part: Part | None) -> np.ndarray:
        if part is None:
            return self.masks.read(row)
        window, core = box_of(part.window), box_of(part.core)
        own = self.masks.window(row, core)
        mask = np.full((*part.window[2:], *own.shape[2:]), IGNORE, np.uint8)
        top, left = core.y - window.y, core.x - window.x
        mask[top : top + core.height, left : left + core.width] = own
        return mask


def whole_images(
    rows: pd.DataFrame, images: ImageSource, masks: Masks, padding: Policy = "reflect", sizes: Sizes = ANY_SIZE
) -> WholeImages:
    """Returns whole padded images of catalog rows, with masks where the rows have them.

    Args:
        masks: `MaskSource`, or what reads masks likewise.
    """
    return WholeImages(rows, images, FramedMasks(masks), padding, sizes)


def collate_valid(items: list[Item]) -> Batch:
    """Returns a batch of whole images of one padded size, with masks or without."""
    images, masks, frames = zip(*items, strict=True)
    return Batch(stack(images), None if masks[0] is None else stack(masks), list(frames))
