"""The positions of tiles: `TILE.SETS` rows in, which `config/check.py` has checked, boxes in scaled images out.

A set `(width, height, columns, rows)` resizes every image to width x height, whatever its own size or aspect, and
lays columns x rows tiles over it so that the outermost ones touch its edges.

A set `(factor, overlap)` resizes an image to its own size times the factor, and lays as many tiles over it as are
needed for neighbours to share at least that part of their sides. It suits images of different sizes, as what is on them
keeps its size in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

TileSet = tuple[int, int, int, int] | tuple[float, float]
Scale = tuple[int, int] | float  # the size (width, height) of all images, or a factor on each image's own
Size = tuple[int, int]  # width, height

NOTICED = 1.1  # images that are enlarged or squeezed by more than this factor are reported


@dataclass(frozen=True)
class Box:
    """A rectangle of pixels: left upper pixel (x, y) and size."""

    x: int
    y: int
    width: int
    height: int


def tile_windows(
    sets: Sequence[TileSet], tile_width: int, tile_height: int, size: Size | None = None
) -> list[tuple[Scale, Box]]:
    """Returns the scale and the box of each tile of one image, set by set, row by row, left to right.

    Where a factor makes an image smaller than a tile, the tile ends with the image.

    Args:
        size: (width, height) of the image, which sets of a factor and an overlap need.

    Tile (column, row) starts at x = column * (width - tile_width) // (columns - 1), likewise y. A single column or row,
    for which that formula divides by zero, is centred: which favours no edge.

    >>> [(box.x, box.y) for _, box in tile_windows([(1280, 720, 3, 1)], 640, 352)]
    [(0, 184), (320, 184), (640, 184)]

    Source: the tiling of the original course project, which failed for one column or row.
    """
    windows = []
    for tile_set in sets:
        width, height, columns, rows = fixed_set(tile_set, size, tile_width, tile_height)
        own_width, own_height = min(tile_width, width), min(tile_height, height)
        xs, ys = tile_starts(width, own_width, columns), tile_starts(height, own_height, rows)
        windows += [(scale_of(tile_set), Box(x, y, own_width, own_height)) for y in ys for x in xs]
    return windows


def fixed_set(tile_set: TileSet, size: Size | None, tile_width: int, tile_height: int) -> tuple[int, int, int, int]:
    """Returns (width, height, columns, rows) of a set on an image of a size (width, height).

    >>> fixed_set((0.5, 0.25), (3000, 2000), 512, 512), fixed_set((1280, 720, 3, 1), None, 640, 352)
    ((1500, 1000, 4, 3), (1280, 720, 3, 1))
    """
    if len(tile_set) == 4:
        return tile_set
    factor, overlap = tile_set
    width, height = scaled_size(factor, size)
    return width, height, num_starts(width, tile_width, overlap), num_starts(height, tile_height, overlap)


def num_starts(length: int, window: int, overlap: float) -> int:
    """Returns how many windows cover a length with at least the overlap, a share of a window.

    >>> num_starts(720, 352, 0.25), num_starts(100, 352, 0.25)
    (3, 1)
    """
    if window >= length:
        return 1
    step = max(1, int(window * (1 - overlap)))
    return 1 - -(length - window) // step


def cover(length: int, window: int, overlap: int) -> list[tuple[int, int, int, int]]:
    """Returns (start of the window, its length, start of its core, length of the core) of windows that cover a length.

    Neighbours share `overlap` pixels or more, and meet in the middle of what they share.

    >>> cover(2000, 1024, 256), cover(700, 1024, 256)
    ([(0, 1024, 0, 756), (488, 1024, 756, 488), (976, 1024, 1244, 756)], [(0, 700, 0, 700)])
    """
    window = min(window, length)
    num_gaps = -(-(length - window) // max(1, window - overlap))
    starts = tile_starts(length, window, num_gaps + 1)
    edges = [0, *((before + window + after) // 2 for before, after in pairwise(starts)), length]
    return [(start, window, edge, end - edge) for start, edge, end in zip(starts, edges[:-1], edges[1:], strict=True)]


def scaled_size(scale: Scale, size: Size) -> Size:
    """Returns the size (width, height) at a scale of an image of a size.

    >>> scaled_size(0.25, (3001, 2)), scaled_size((1280, 720), (3001, 2))
    ((750, 1), (1280, 720))
    """
    return scale if isinstance(scale, tuple) else tuple(max(1, round(side * scale)) for side in size)


def scale_of(tile_set: TileSet) -> Scale:
    """Returns the scale of a set."""
    return tile_set[:2] if len(tile_set) == 4 else tile_set[0]


def tile_starts(length: int, tile_length: int, num_tiles: int) -> list[int]:
    """Returns where `num_tiles` tiles start along a side of `length` pixels.

    >>> tile_starts(854, 640, 2), tile_starts(854, 640, 1)
    ([0, 214], [107])
    """
    rest = length - tile_length
    return [rest // 2] if num_tiles == 1 else [index * rest // (num_tiles - 1) for index in range(num_tiles)]


def scales_of(sets: Sequence[TileSet]) -> tuple[Scale, ...]:
    """Returns the different scales that the sets need, in order of first use.

    >>> scales_of([(1280, 720, 3, 3), (854, 480, 2, 2), (1280, 720, 1, 1)]), scales_of([(1.0, 0.25), (0.5, 0.25)])
    (((1280, 720), (854, 480)), (1.0, 0.5))
    """
    return tuple(dict.fromkeys(map(scale_of, sets)))


def distortion(sizes: Sequence[tuple[int, int]], sets: Sequence[TileSet]) -> str:
    """Returns how many images sets of a fixed size enlarge or change in aspect by more than a tenth, "" where none is.

    Args:
        sizes: (width, height) of each image.

    >>> distortion([(640, 360), (360, 640)], [(1280, 720, 3, 3), (640, 360, 2, 2)])
    '[1280, 720] enlarges 2 of 2 images and changes the aspect of 1; [640, 360] changes the aspect of 1 of 2 images'
    >>> distortion([(640, 360)], [(640, 360, 2, 2)])
    ''
    """
    found = []
    for width, height in (scale for scale in scales_of(sets) if isinstance(scale, tuple)):
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
