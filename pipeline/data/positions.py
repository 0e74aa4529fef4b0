"""Where training samples lie: tiles of the images in the tile store, or whole images where tiles are off.

Images of one size have the same tiles, so these are kept once, and of each image only the number of its first sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np

from pipeline.config.augmentation import Augmentation, RandomCrop
from pipeline.data.augment import Geometry, draw_crop
from pipeline.data.padding import Sizes
from pipeline.data.store import Store
from pipeline.data.tiles import Box, Scale, tile_windows
from pipeline.errors import UserError
from pipeline.paths import SPLIT

Windows = list[tuple[Scale | None, Box]]


class TilePosition(NamedTuple):
    """One tile of one image in the store; without tiles the whole image."""

    image_id: str
    scale: Scale | None
    box: Box


class TilePositions(Sequence[TilePosition]):
    """Every tile of every image, image by image.

    Args:
        ids: the images, each once.
        kinds: for each image the number of its windows in `windows`.
        windows: the tiles of an image, one list for each size of image.
    """

    def __init__(self, ids: Sequence[str], kinds: Sequence[int], windows: Sequence[Windows]) -> None:
        self.ids, self.kinds, self.windows = ids, np.asarray(kinds), windows
        counts = np.array([len(own) for own in windows])[self.kinds]
        self.starts = np.concatenate([[0], np.cumsum(counts)])

    def __len__(self) -> int:
        return int(self.starts[-1])

    def __getitem__(self, index: int) -> TilePosition:
        if not 0 <= index < len(self):
            raise IndexError(f"sample {index} of {len(self)}")
        image = int(self.image_of(index))
        return TilePosition(self.ids[image], *self.windows[self.kinds[image]][index - int(self.starts[image])])

    def image_of(self, indices: int | np.ndarray) -> np.ndarray:
        """Returns the position of the image of each sample in `ids`."""
        return np.searchsorted(self.starts, indices, side="right") - 1

    def of_image(self, image: int) -> tuple[int, int]:
        """Returns the first sample of an image, and how many it has."""
        return int(self.starts[image]), int(self.starts[image + 1] - self.starts[image])

    def draw_other(self, index: int, rng: np.random.Generator) -> int | None:
        """Returns a tile of another image than that of a sample; None where there is none."""
        first, number = self.of_image(self.image_of(index))
        num_others = len(self) - number
        if num_others == 0:
            return None
        draw = int(rng.integers(num_others))
        return draw if draw < first else draw + number

    def frames(self, sizes: Sizes) -> np.ndarray:
        """Returns (height, width) of each padded sample: int64 (samples, 2), without its memory where all are equal."""
        flat = np.array([sizes.padded(box.height, box.width) for own in self.windows for _, box in own])
        if (flat == flat[0]).all():
            return np.broadcast_to(flat[0], (len(self), 2))
        firsts = np.cumsum([0, *map(len, self.windows)])
        images = self.image_of(np.arange(len(self)))
        return flat[firsts[self.kinds[images]] + np.arange(len(self)) - self.starts[images]]


def storage_ranks(store: Store, positions: TilePositions) -> np.ndarray:
    """Returns for each sample the position of its image among all of them, as they lie one after the other: int32."""
    by_offset = np.argsort([store.offset(image_id) for image_id in positions.ids], kind="stable")
    ranks = np.empty(len(by_offset), np.int32)
    ranks[by_offset] = np.arange(len(by_offset), dtype=np.int32)
    return np.repeat(ranks, np.diff(positions.starts))


def describe_tile(store: Store, position: TilePosition, epoch: int) -> str:
    """Returns image and tile of a sample, e.g. `000001_001 640x352+320+0 of 1280x720, epoch 3`."""
    image_id, scale, box = position
    entry = store.entry(image_id, scale)
    of_scale = f" of {entry.width}x{entry.height}" if scale else ""
    return f"{image_id} {box.width}x{box.height}+{box.x}+{box.y}{of_scale}, epoch {epoch}"


def sample_frame(box: Box, crop: RandomCrop, sizes: Sizes) -> tuple[int, int]:
    """Returns (height, width) of a padded sample, which is a tile or, where these are on, a random crop."""
    cut = crop if crop.enable else box
    return sizes.padded(cut.height, cut.width)


def sample_frames(positions: TilePositions, crop: RandomCrop, sizes: Sizes) -> np.ndarray:
    """Returns (height, width) of every padded sample: int64 (samples, 2)."""
    if crop.enable:
        return np.broadcast_to(sizes.padded(crop.height, crop.width), (len(positions), 2))
    return positions.frames(sizes)


def placed(
    own: Box, crop: RandomCrop, geometry: Geometry, rng: np.random.Generator, is_scaled: bool
) -> tuple[Geometry, Box]:
    """Returns the box that is cut, a tile or a random crop, and the geometry with the crop's zoom.

    Args:
        own: the tile, or the whole image.
        is_scaled: false for a crop at the image's own scale, where nothing is to be augmented.
    """
    if not crop.enable:
        return geometry, own
    zoom, box = draw_crop(crop, (own.width, own.height), rng, is_scaled)
    return replace(geometry, zoom=zoom), box


def tile_positions(store: Store, ids: Sequence[str], augmentation: Augmentation) -> TilePositions:
    """Returns every tile of every image, image by image; the whole image as often as random crops are taken of it.

    Raises:
        UserError: no images at all, or impossible `TILE.SETS`.
    """
    if not ids:
        raise UserError(f"the split leaves no image to train on; see {SPLIT} and DATASETS.SPLIT_INDEX")
    tile, crop = augmentation.tile, augmentation.random_crop
    if tile.enable:
        sizes = [store.size(image_id) for image_id in ids]
        known = {size: tile_windows(tile.sets, tile.width, tile.height, size) for size in dict.fromkeys(sizes)}
    else:
        entries = map(store.entry, ids)
        sizes = [(entry.width, entry.height) for entry in entries]
        times = crop.per_image if crop.enable else 1
        known = {size: [(None, Box(0, 0, *size))] * times for size in dict.fromkeys(sizes)}
    numbers = {size: number for number, size in enumerate(known)}
    return TilePositions(ids, [numbers[size] for size in sizes], list(known.values()))
