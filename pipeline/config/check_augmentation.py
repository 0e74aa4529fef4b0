"""Refuses augmentations that contradict themselves or the batches."""

from __future__ import annotations

from pipeline.config.augmentation import Tile
from pipeline.config.schema import Config
from pipeline.config.tree import Problems

KEY = "DATASETS.AUGMENTATION"
RANGES = (
    *("RANDOM_CROP.SCALE", "MOSAIC.CENTER", "CUT_MIX.AREA", "GAMMA.LIMIT", "BLUR.SIGMA", "SHARPEN.ALPHA"),
    *("GAUSSIAN_NOISE.VAR_LIMIT", "COARSE_DROPOUT.HOLES", "COARSE_DROPOUT.SIZE"),
)


def augmentation_problems(config: Config) -> Problems:
    """Yields the keys below DATASETS.AUGMENTATION that cannot be as they are, with what to write."""
    rules = config.datasets.augmentation
    for name in RANGES:
        section, key = name.lower().split(".")
        low, high = getattr(getattr(rules, section), key)
        if low > high:
            yield f"{KEY}.{name}", f"found [{low:g}, {high:g}], expected [smallest, largest]"
    if rules.random_crop.enable and rules.tile.enable:
        why = "true chooses what is cut out of an image, and so does TILE; set the ENABLE of one to false"
        yield f"{KEY}.RANDOM_CROP.ENABLE", why
    yield from _tile_problems(rules.tile)


def _tile_problems(tile: Tile) -> Problems:
    key = f"{KEY}.TILE.SETS"
    if tile.enable and not tile.sets:
        yield key, "the list is empty; give rows of [image width, image height, columns, rows] or [factor, overlap]"
    sizes = [tile_set[:2] for tile_set in tile.sets if len(tile_set) == 4]  # others have no fixed size
    for width, height in sizes if tile.enable else ():
        if width < tile.width or height < tile.height:
            found = f"a tile of {tile.width}x{tile.height} does not fit into an image of {width}x{height}"
            yield key, f"{found}; change TILE.WIDTH, TILE.HEIGHT or that row"
