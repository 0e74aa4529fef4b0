"""The positions of tiles: `TILE.SETS` rows in, which `config/check.py` has checked, boxes in scaled images out.

A set `(width, height, columns, rows)` resizes every image to width x height, whatever its own size or aspect, and
lays columns x rows tiles over it so that the outermost ones touch its edges.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

TileSet = tuple[int, int, int, int]
Scale = tuple[int, int]

NOTICED = 1.1  # images that are enlarged or squeezed by more than this factor are reported


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: left upper pixel (x, y) and size."""

    x: int
    y: int
    width: int
    height: int


def tile_windows(sets: Sequence[TileSet], tile_width: int, tile_height: int) -> list[tuple[Scale, Box]]:
    """Returns the scale and the box of each tile of one image, set by set, row by row, left to right.

    Tile (column, row) starts at x = column * (width - tile_width) // (columns - 1), likewise y. A single column or row,
    for which that formula divides by zero, is centred: which favours no edge.

    >>> [(box.x, box.y) for _, box in tile_windows([(1280, 720, 3, 1)], 640, 352)]
    [(0, 184), (320, 184), (640, 184)]

    Source: the tiling of the original course project, which failed for one column or row.
    """
    windows = []
    for width, height, columns, rows in sets:
        xs, ys = tile_starts(width, tile_width, columns), tile_starts(height, tile_height, rows)
        windows += [((width, height), Box(x, y, tile_width, tile_height)) for y in ys for x in xs]
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
