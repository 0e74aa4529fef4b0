"""The tiles of each of a run's sets, drawn on one image of its tile store."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from pipeline.config.augmentation import Tile
from pipeline.data.image_source import to_rgb
from pipeline.data.store import Store
from pipeline.data.tiles import Scale, fixed_set, scale_of
from pipeline.paths import PLOTS, RunPaths
from pipeline.report.canvas import draw_tile_grid
from pipeline.report.figure import write_image

MOST_DRAWN = 4096  # pixels of a side; of a larger image every second pixel is drawn, or fewer
ROWS_AT_ONCE = 256  # of those that are drawn


def draw_tile_grids(paths: RunPaths, store: Store, image_id: str, tile: Tile, facts: Mapping[str, Any]) -> None:
    """Draws the tiles of each set on an image of the store.

    Args:
        facts: of the images (images.json).
    """
    for number, tile_set in enumerate(tile.sets if tile.enable else (), start=1):
        drawn = fixed_set(tile_set, store.size(image_id), tile.width, tile.height)
        image = to_rgb(_drawn_pixels(store, image_id, scale_of(tile_set)), facts)
        grid = draw_tile_grid(image, drawn, tile.width, tile.height)
        write_image(paths / PLOTS / f"tile_grid_{number}.png", grid)


def _drawn_pixels(store: Store, image_id: str, scale: Scale) -> np.ndarray:
    """Returns an image of the store, of a large one evenly spread pixels."""
    entry = store.entry(image_id, scale)
    step = 1 + max(entry.width, entry.height) // MOST_DRAWN
    if step == 1:
        return store.image(image_id, scale)
    tops = range(0, entry.height, step * ROWS_AT_ONCE)
    # Copied row by row of these, since each access unmaps what the one before has read.
    parts = [store.image(image_id, scale)[top:][: step * ROWS_AT_ONCE : step, ::step].copy() for top in tops]
    return np.concatenate(parts)
