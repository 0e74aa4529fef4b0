"""Validation images and labels out of a tile store that has them at their own size, for machines without the files."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.competition import Competition
from pipeline.data.image_source import PLAIN, Facts
from pipeline.data.store import Store
from pipeline.data.tiles import Box


class StoredImages:
    """The images of a store, read as from an `ImageSource`.

    Args:
        rows: of the catalog, with the id of each image beside the cell that has its files.
    """

    def __init__(self, competition: Competition, store: Store, rows: pd.DataFrame, facts: Facts | None):
        self.store, self.facts, self.whole_px = store, facts or PLAIN, competition.image.whole_px
        self.channels, self.dtype = store.channels, store.dtype
        self._ids = dict(zip(rows["image"], rows["id"], strict=True))

    def read(self, cell: str) -> np.ndarray:
        """Returns an image by the cell of the catalog that has its files: (H, W, C)."""
        return self.store.image(self._ids[cell])

    def is_large(self, height: int, width: int) -> bool:
        """Returns whether an image of that size is read in windows."""
        return int(height) * int(width) > self.whole_px

    def window(self, cell: str, box: Box) -> np.ndarray:
        """Returns a part of an image: (box.height, box.width, C)."""
        return _part(self.read(cell), box)


class StoredLabels:
    """The labels of a store that have a value per pixel."""

    def __init__(self, store: Store):
        self.store, self.planes = store, store.planes

    def read(self, row: Any) -> np.ndarray:
        """Returns the label of a catalog row: uint8 (H, W), or planes (H, W, C)."""
        return self.store.label(row.id)

    def window(self, row: Any, box: Box) -> np.ndarray:
        """Returns a part of it."""
        return _part(self.read(row), box)


def _part(array: np.ndarray, box: Box) -> np.ndarray:
    return array[box.y : box.y + box.height, box.x : box.x + box.width]
