"""Whole padded images for validation and prediction, decoded from their files; large ones come in windows.

What their labels are is up to the task, which hands in how one is read and framed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import pandas as pd
import torch

from pipeline.data.image_source import ImageSource, black_of
from pipeline.data.padding import ANY_SIZE, Policy, Sizes, offset_in, pad
from pipeline.data.store import Store
from pipeline.data.tiles import Box, cover
from pipeline.errors import UserError
from pipeline.task import Frame, Part

WINDOW, WINDOW_OVERLAP = 1024, 256  # of large images, pixels: a core sees 128 pixels or more around itself

Item = tuple[np.ndarray, Any, Frame]  # a padded image, its label or None, and where in the frame the image is


class ImageRow(NamedTuple):
    """A catalog row that can be pickled, as workers need it that are not forked; pandas' own cannot.

    Attributes:
        mask: the files of the label; no text where the image has none.
    """

    id: str
    image: str
    mask: str | None
    width: int
    height: int


class FramedLabels(Protocol):
    """The labels of images, as a batch of whole images needs them.

    Attributes:
        pixel_bytes: what the label of one pixel takes in a batch.
    """

    pixel_bytes: int

    def read(self, row: ImageRow, part: Part | None, frame: tuple[int, int]) -> Any:
        """Returns the label of an image or of its part, in the middle of a frame of (height, width).

        Raises:
            UserError: the label is not of the size that the row says; see `changed_size`.
        """

    def presence(self, row: ImageRow, part: Part | None) -> np.ndarray:
        """Returns which classes the label shows: bool, the same number for all."""


class WholeImages(torch.utils.data.Dataset):
    """Whole images, padded; for validation, and for test images, which have no label.

    An image that is read by region comes as windows, row by row, left to right.

    Args:
        rows: catalog rows (id, image, width, height, and mask for validation) in the order wanted.
        images: the images; those that `is_large` come as windows.
        labels: of the rows that have one.
        padding: `reflect`, or else black.
    """

    def __init__(
        self,
        rows: pd.DataFrame,
        images: ImageSource,
        labels: FramedLabels,
        padding: Policy = "reflect",
        sizes: Sizes = ANY_SIZE,
    ):
        self.images, self.labels, self.padding, self.black = images, labels, padding, black_of(images.facts)
        self.sizes = sizes
        self.pixel_bytes = image_bytes(images) + labels.pixel_bytes
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
        return self.sizes.padded(*size_of(*self.items[index]))

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
        """Returns which classes each item shows, a window in its core: bool, items x classes."""
        return np.array([self.labels.presence(*item) for item in self.items])

    def __getitem__(self, index: int) -> Item:
        row, part = self.items[index]
        image = self.images.window(row.image, box_of(part.window)) if part else self.images.read(row.image)
        size, frame = image.shape[:2], self.frame(index)
        if size != size_of(row, part):
            raise changed_size(row)
        label = self.labels.read(row, part, frame) if self.has_labels(index) else None
        image = pad(image, frame, None if self.padding == "reflect" else self.black)
        return image, label, Frame(row.id, offset_in(frame, size), size, part)


def size_of(row: ImageRow, part: Part | None) -> tuple[int, int]:
    """Returns (height, width) of an image by its row, or of a window of it."""
    return part.window[2:] if part else (int(row.height), int(row.width))


def box_of(rectangle: tuple[int, int, int, int]) -> Box:
    """Returns the box of a window or core (top, left, height, width)."""
    top, left, height, width = rectangle
    return Box(left, top, width, height)


def changed_size(row: ImageRow) -> UserError:
    """Returns the refusal of an image or label whose size is not what the catalog says."""
    return UserError(f"{row.image}: the size is not what the catalog says; the files changed, run `prepare` again.")


def image_bytes(images: Store | ImageSource) -> int:
    """Returns what a pixel takes in a batch; see `stack`."""
    return images.channels * (1 if images.dtype == np.uint8 else 4)


def stack(arrays: Sequence[np.ndarray]) -> torch.Tensor:
    """Returns arrays as one tensor: uint8, or float32 of other number formats, with which torch can do little."""
    stacked = np.stack(arrays)
    return torch.from_numpy(stacked if stacked.dtype == np.uint8 else stacked.astype(np.float32))
