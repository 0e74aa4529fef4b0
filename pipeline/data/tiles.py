"""The positions of tiles: `TILE.SETS` rows in, windows of scaled images out.

A set `(width, height, columns, rows)` resizes every image to width x height, whatever its own size or aspect, and
lays columns x rows tiles over it so that the outermost ones touch its edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.errors import UserError

TileSet = tuple[int, int, int, int]
Scale = tuple[int, int]

SETS_KEY = "DATASETS.AUGMENTATION.TILE.SETS"
NOTICED = 1.1  # images that are enlarged or squeezed by more than this factor are reported


@dataclass(frozen=True)
class Window:
    """A tile's position: its left upper pixel (x, y) in an image resized to scale_width x scale_height."""

    scale_width: int
    scale_height: int
    x: int
    y: int

    @property
    def scale(self) -> Scale:
        return self.scale_width, self.scale_height


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: left upper pixel (x, y) and size."""

    x: int
    y: int
    width: int
    height: int


def tile_windows(sets: Sequence[TileSet], tile_width: int, tile_height: int) -> list[Window]:
    """Returns the windows of one image, set by set, row by row, left to right.

    Tile (column, row) starts at x = column * (width - tile_width) // (columns - 1), likewise y. A single column or row,
    for which that formula divides by zero, is centred: which favours no edge.

    >>> [(w.x, w.y) for w in tile_windows([(1280, 720, 3, 1)], 640, 352)]
    [(0, 184), (320, 184), (640, 184)]

    Raises:
        UserError: a set without columns or rows, a tile larger than the scaled image, or no set at all.

    Source: the tiling of the original course project, which failed for one column or row.
    """
    if not sets:
        raise UserError(f"{SETS_KEY} is empty; give at least one [width, height, columns, rows], or TILE.ENABLE: false")
    windows = []
    for number, (width, height, columns, rows) in enumerate(sets):
        _check_set(number, (width, height, columns, rows), tile_width, tile_height)
        xs = tile_starts(width, tile_width, columns)
        ys = tile_starts(height, tile_height, rows)
        windows += [Window(width, height, x, y) for y in ys for x in xs]
    return windows


def tile_starts(length: int, tile_length: int, num_tiles: int) -> list[int]:
    """Returns where `num_tiles` tiles start along a side of `length` pixels.

    >>> tile_starts(854, 640, 2), tile_starts(854, 640, 1)
    ([0, 214], [107])
    """
    rest = length - tile_length
    return [rest // 2] if num_tiles == 1 else [index * rest // (num_tiles - 1) for index in range(num_tiles)]


def scales_of(sets: Sequence[TileSet]) -> tuple[Scale, ...]:
    """Returns the different image sizes that the sets need, in order of first use.

    >>> scales_of([(1280, 720, 3, 3), (854, 480, 2, 2), (1280, 720, 1, 1)])
    ((1280, 720), (854, 480))
    """
    return tuple(dict.fromkeys((width, height) for width, height, _, _ in sets))


def distortion(sizes: Sequence[tuple[int, int]], sets: Sequence[TileSet]) -> str:
    """Returns how many images the sets enlarge or change in aspect by more than a tenth, or "" where none is.

    Args:
        sizes: (width, height) of each image.

    >>> distortion([(640, 360), (360, 640)], [(1280, 720, 3, 3), (640, 360, 2, 2)])
    '[1280, 720] enlarges 2 of 2 images and changes the aspect of 1; [640, 360] changes the aspect of 1 of 2 images'
    >>> distortion([(640, 360)], [(640, 360, 2, 2)])
    ''
    """
    found = []
    for width, height in scales_of(sets):
        factors = [(width / own_width, height / own_height) for own_width, own_height in sizes]
        enlarged = sum(min(pair) > NOTICED for pair in factors)
        squeezed = sum(max(pair) / min(pair) > NOTICED for pair in factors)
        images = f"of {len(sizes):,} images"
        if enlarged:
            aspect = f" and changes the aspect of {squeezed:,}" if squeezed else ""
            found.append(f"[{width}, {height}] enlarges {enlarged:,} {images}{aspect}")
        elif squeezed:
            found.append(f"[{width}, {height}] changes the aspect of {squeezed:,} {images}")
    return "; ".join(found)


def _check_set(number: int, tile_set: TileSet, tile_width: int, tile_height: int) -> None:
    width, height, columns, rows = tile_set
    where = f"{SETS_KEY}[{number}] = {list(tile_set)}"
    if min(tile_width, tile_height) < 1:
        raise UserError(f"DATASETS.AUGMENTATION.TILE: a tile of {tile_width}x{tile_height} pixels is impossible")
    if columns < 1 or rows < 1:
        raise UserError(f"{where}: {columns} columns and {rows} rows; both must be at least 1")
    if tile_width > width or tile_height > height:
        raise UserError(
            f"{where}: a tile of {tile_width}x{tile_height} does not fit into an image of {width}x{height}.\n"
            f"Raise the set's first two numbers or lower TILE.WIDTH and TILE.HEIGHT."
        )
