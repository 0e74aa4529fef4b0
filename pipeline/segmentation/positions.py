"""Where training samples lie: tiles of the images in the tile store, or whole images where tiles are off."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pipeline.config.augmentation import Augmentation
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
    """Returns every tile of every image, image by image; the whole image as often as random crops are taken of it.

    Raises:
        UserError: no images at all, or impossible `TILE.SETS`.
    """
    if not ids:
        raise UserError(f"the split leaves no image to train on; see {SPLIT} and DATASETS.SPLIT_INDEX")
    tile = augmentation.tile
    if not tile.enable:
        entries = [(image_id, store.entry(image_id)) for image_id in ids]
        per_image = augmentation.random_crop.per_image if augmentation.random_crop.enable else 1
        wholes = (TilePosition(image_id, None, Box(0, 0, entry.width, entry.height)) for image_id, entry in entries)
        return [whole for whole in wholes for _ in range(per_image)]
    return [
        TilePosition(image_id, scale, box)
        for image_id in ids
        for scale, box in tile_windows(tile.sets, tile.width, tile.height, store.size(image_id))
    ]
