"""Whole padded images for validation and prediction. Those for training are in `train_samples.py`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch

from pipeline.config.competition import IGNORE
from pipeline.data.image_source import ImageSource, black_of
from pipeline.data.store import Store
from pipeline.data.tiles import Box, cover
from pipeline.errors import UserError
from pipeline.segmentation.copy_paste import count_classes
from pipeline.segmentation.padding import Policy, Sizes, offset_in, pad
from pipeline.task import Batch, Frame, Part

ANY_SIZE = Sizes()
WINDOW, WINDOW_OVERLAP = 1024, 256  # of large images, pixels: a core sees 128 pixels or more around itself


ValidItem = tuple[np.ndarray, np.ndarray | None, Frame]  # a padded image, its mask, and where in them it is


class ImageRow(NamedTuple):
    """A catalog row that can be pickled, as workers need it that are not forked; pandas' own cannot."""

    id: str
    image: str
    mask: str | None
    width: int
    height: int


class Masks(Protocol):
    """The masks of images by their catalog rows: uint8 (H, W), of a whole image or of a box of a large one.

    Or planes, (H, W, `planes`).
    """

    planes: int | None

    def read(self, row: Any) -> np.ndarray: ...

    def window(self, row: Any, box: Box) -> np.ndarray: ...


class ValidDataset(torch.utils.data.Dataset):
    """Whole images decoded from their files and padded; for validation, and for test images, which have no mask.

    An image that is read by region comes as windows, row by row, left to right. Padded mask pixels are 255 whatever the
    policy, because validation counts unpadded pixels only, and so are those that a window shows beyond its core.

    Args:
        rows: catalog rows (id, image, width, height, and mask for validation) in the order wanted.
        images: the images; those that `is_large` come as windows.
        masks: the masks, `MaskSource` or what reads them likewise.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        images: ImageSource,
        masks: Masks,
        padding: Policy = "reflect",
        sizes: Sizes = ANY_SIZE,
    ):
        self.images, self.masks, self.padding, self.black = images, masks, padding, black_of(images.facts)
        self.sizes = sizes
        self.pixel_bytes = pixel_bytes(images, masks.planes)
        self.rows = [
            ImageRow(*row) for row in rows.reindex(columns=ImageRow._fields).itertuples(index=False, name=None)
        ]
        self.items = [(row, part) for row in self.rows for part in self._parts(int(row.height), int(row.width))]

    def _parts(self, height: int, width: int) -> Iterator[Part | None]:
        if not self.images.is_large(height, width):
            yield None
            return
        for top, own_height, core_top, core_height in cover(height, WINDOW, WINDOW_OVERLAP):
            for left, own_width, core_left, core_width in cover(width, WINDOW, WINDOW_OVERLAP):
                core = (core_top, core_left, core_height, core_width)
                yield Part((height, width), (top, left, own_height, own_width), core)

    def __len__(self) -> int:
        return len(self.items)

    def image_id(self, index: int) -> str:
        return self.items[index][0].id

    def frame(self, index: int) -> tuple[int, int]:
        """Returns (height, width) of a padded image or window, from the catalog."""
        row, part = self.items[index]
        return self.sizes.padded(*(part.window[2:] if part else (int(row.height), int(row.width))))

    def group(self, index: int) -> tuple:
        """Returns what items of a batch have in common."""
        row, part = self.items[index]
        return self.frame(index), self.has_labels(index), row.id if part else None

    def has_labels(self, index: int) -> bool:
        return isinstance(self.items[index][0].mask, str)

    def keep(self, indices: Sequence[int]) -> None:
        """Leaves all other items out."""
        self.items = [self.items[index] for index in indices]

    def class_presence(self) -> np.ndarray:
        """Returns which classes each item shows, a window in its core: bool, items x 255."""
        masks = (self._mask(*item) for item in self.items)
        return np.array([count_classes(mask)[:IGNORE] > 0 for mask in masks])

    def __getitem__(self, index: int) -> ValidItem:
        row, part = self.items[index]
        image = self.images.window(row.image, _box(part.window)) if part else self.images.read(row.image)
        mask = self._mask(row, part) if self.has_labels(index) else None
        size = image.shape[:2]
        wanted = part.window[2:] if part else (row.height, row.width)
        if size != wanted or (mask is not None and mask.shape[:2] != size):
            raise UserError(
                f"{row.image}: the size is not what the catalog says; the files changed, run `prepare` again."
            )
        frame = self.frame(index)
        mask = None if mask is None else pad(mask, frame, IGNORE)
        image = pad(image, frame, None if self.padding == "reflect" else self.black)
        return image, mask, Frame(row.id, offset_in(frame, size), size, part)

    def _mask(self, row: Any, part: Part | None) -> np.ndarray:
        if part is None:
            return self.masks.read(row)
        window, core = _box(part.window), _box(part.core)
        own = self.masks.window(row, core)
        mask = np.full((*part.window[2:], *own.shape[2:]), IGNORE, np.uint8)
        top, left = core.y - window.y, core.x - window.x
        mask[top : top + core.height, left : left + core.width] = own
        return mask


def _box(rectangle: tuple[int, int, int, int]) -> Box:
    top, left, height, width = rectangle
    return Box(left, top, width, height)


def collate_valid(items: list[ValidItem]) -> Batch:
    """Returns a batch of whole images of one padded size, with masks or without."""
    images, masks, frames = zip(*items, strict=True)
    return Batch(stack(images), None if masks[0] is None else stack(masks), list(frames))


def pixel_bytes(images: Store | ImageSource, planes: int | None) -> int:
    """Returns what a pixel takes in a batch, with its label; see `stack`."""
    return images.channels * (1 if images.dtype == np.uint8 else 4) + (planes or 1)


def stack(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    """Returns arrays as one tensor: uint8, or float32 of other number formats, with which torch can do little."""
    stacked = np.stack(arrays)
    return torch.from_numpy(stacked if stacked.dtype == np.uint8 else stacked.astype(np.float32))
