"""The tiles of a run's training images in the tile store, or whole images where tiles are off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.config.schema import Augmentation
from pipeline.data.store import Store
from pipeline.data.tiles import Box, Scale, tile_windows
from pipeline.errors import UserError
from pipeline.paths import SPLIT


class TilePosition(NamedTuple):
    """One tile of one image in the store; without tiles the whole image."""

    image_id: str
    scale: Scale | None
    box: Box


def tile_positions(store: Store, ids: Sequence[str], augmentation: Augmentation) -> list[TilePosition]:
    """Returns every tile of every image, image by image.

    Raises:
        UserError: no images at all, or impossible `TILE.SETS`.
    """
    if not ids:
        raise UserError(f"the split leaves no image to train on; see {SPLIT} and DATASETS.SPLIT_INDEX")
    tile = augmentation.tile
    if not tile.enable:
        entries = [(image_id, store.entry(image_id)) for image_id in ids]
        return [TilePosition(image_id, None, Box(0, 0, entry.width, entry.height)) for image_id, entry in entries]
    return [
        TilePosition(image_id, scale, box)
        for image_id in ids
        for scale, box in tile_windows(tile.sets, tile.width, tile.height, store.size(image_id))
    ]
