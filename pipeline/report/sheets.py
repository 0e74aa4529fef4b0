"""Images to look at before training: contact sheets of samples, and where the tiles of a set lie.

In: images (uint8, H, W, 3) and masks (uint8, H, W, 255 ignored). Out: uint8 RGB images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw

from pipeline.config.competition import IGNORE
from pipeline.data.tiles import TileSet, tile_windows
from pipeline.report.canvas import (
    GAP,
    MARGIN,
    MAT,
    MUTED,
    Chip,
    Color,
    draw_legend,
    fit,
    font,
    legend_height,
    line_height,
    new_canvas,
    paint_mask,
    resize,
    write,
)

SHEET_WIDTH = 1920
CAPTION_SIZE, TITLE_SIZE = 20, 26
MOST_CELL_HEIGHT = 420
GRID_WIDTH = 1200
# Bright on photographs and apart from each other (after Okabe and Ito); with tiles that share half of their sides, nine
# meet in one place.
WINDOW_COLORS = (
    *((240, 228, 66), (86, 180, 233), (255, 120, 60), (0, 196, 143), (238, 140, 200)),
    *((255, 255, 255), (90, 110, 255), (170, 220, 60), (180, 120, 60)),
)
LINE = 3  # pixels
NEAR = 30  # pixels between tiles that look like neighbours
VEIL, VEIL_COLOR = (
    0.13,
    (86, 180, 233),
)  # each further tile over a pixel adds so much sky blue: seen by day and by night


def draw_sheet(
    samples: Sequence[tuple[np.ndarray, np.ndarray]],
    captions: Sequence[str],
    names: Sequence[str],
    colors: Sequence[Color],
    title: str = "",
    num_columns: int = 6,
) -> np.ndarray:
    """Returns a contact sheet: each sample's image with its mask laid over the same image underneath.

    Args:
        samples: (image, mask) pairs, of any size.
        captions: a line under each; shortened to fit.
    """
    num_columns = min(num_columns, max(len(samples), 1))
    num_rows = math.ceil(len(samples) / num_columns)
    inner = SHEET_WIDTH - 2 * MARGIN
    cell_width = min((inner - (num_columns - 1) * GAP) // num_columns, inner // 3)
    sizes = [fit(*mask.shape[::-1], cell_width, MOST_CELL_HEIGHT) for _, mask in samples]
    tile_height = max((height for _, height in sizes), default=0)
    cell_height = 2 * tile_height + 4 + line_height(CAPTION_SIZE) + GAP
    present = {index for _, mask in samples for index in np.unique(mask)}
    chips = [Chip(colors[index], name) for index, name in enumerate(names) if index in present]
    chips += [Chip(None, "not scored")] if IGNORE in present else []
    title_height = line_height(TITLE_SIZE) if title else 0
    legend_top = MARGIN + title_height + num_rows * cell_height
    canvas = new_canvas(SHEET_WIDTH, legend_top + legend_height(chips, inner, CAPTION_SIZE) + MARGIN)
    draw = ImageDraw.Draw(canvas)
    write(draw, (MARGIN, MARGIN - 4), title, TITLE_SIZE, inner, bold=True)
    for index, ((image, mask), size, caption) in enumerate(zip(samples, sizes, captions, strict=True)):
        left = MARGIN + (index % num_columns) * (cell_width + GAP)
        top = MARGIN + title_height + (index // num_columns) * cell_height
        small, small_mask = resize(image, *size), resize(mask, *size)
        canvas.paste(Image.fromarray(small), (left, top))
        canvas.paste(Image.fromarray(paint_mask(small_mask, colors, small)), (left, top + tile_height + 4))
        write(draw, (left, top + 2 * tile_height + 8), caption, CAPTION_SIZE, cell_width, fill=MUTED)
    draw_legend(canvas, (MARGIN, legend_top + GAP // 2), chips, inner, CAPTION_SIZE)
    return np.asarray(canvas)


def draw_tile_grid(image: np.ndarray, tile_set: TileSet, tile_width: int, tile_height: int) -> np.ndarray:
    """Returns an image with the tiles of one set laid over it: outlined, numbered, veiled in blue where they overlap.

    What no tile shows is dark.
    """
    scale_width, scale_height, num_columns, num_rows = tile_set
    windows = tile_windows([tile_set], tile_width, tile_height)
    width, height = fit(scale_width, scale_height, GRID_WIDTH - 2 * MARGIN, GRID_WIDTH)
    scale = width / scale_width
    cover = np.zeros((height, width), np.uint8)
    boxes = []
    for window in windows:
        left, top = round(window.x * scale), round(window.y * scale)
        right, bottom = round((window.x + tile_width) * scale), round((window.y + tile_height) * scale)
        cover[top:bottom, left:right] += 1
        boxes.append((left, top, right - 1, bottom - 1))
    veil = np.minimum(VEIL * np.maximum(cover.astype(np.float32) - 1, 0), 0.6)[..., None]
    bright = resize(image, width, height) * np.where(cover > 0, 1.0, 0.25)[..., None]
    shown = np.rint(bright * (1 - veil) + np.array(VEIL_COLOR) * veil).astype(np.uint8)
    heading = line_height(TITLE_SIZE)
    canvas = new_canvas(GRID_WIDTH, MARGIN + heading + line_height(CAPTION_SIZE) + height + MARGIN)
    top = MARGIN + heading + line_height(CAPTION_SIZE)
    image_canvas = Image.fromarray(shown)
    _draw_windows(ImageDraw.Draw(image_canvas), boxes, num_columns)
    canvas.paste(image_canvas, (MARGIN, top))
    draw = ImageDraw.Draw(canvas)
    title = f"{scale_width} x {scale_height}: {num_columns} x {num_rows} tiles of {tile_width} x {tile_height}"
    write(draw, (MARGIN, MARGIN - 4), title, TITLE_SIZE, GRID_WIDTH - 2 * MARGIN, bold=True)
    note = grid_note(tile_set, tile_width, tile_height)
    if cover.max() > 1:
        note += "; the bluer, the more tiles see it"
    write(draw, (MARGIN, MARGIN + heading - 2), note, CAPTION_SIZE, GRID_WIDTH - 2 * MARGIN, fill=MUTED)
    return np.asarray(canvas)


def grid_note(tile_set: TileSet, tile_width: int, tile_height: int) -> str:
    """Returns what a person wants to know of a tile set: overlaps, and what is left out.

    >>> grid_note((1280, 720, 3, 3), 640, 352)
    'neighbours share 320 px across (50 %), 168 px down (48 %)'
    """
    windows = tile_windows([tile_set], tile_width, tile_height)
    notes = []
    for starts, length, whole, word in (
        (sorted({window.x for window in windows}), tile_width, tile_set[0], "across"),
        (sorted({window.y for window in windows}), tile_height, tile_set[1], "down"),
    ):
        if len(starts) == 1:
            left_out = whole - length
            notes.append(f"one tile {word}, {left_out} px left out" if left_out else f"one tile {word} takes all")
            continue
        shared = min(length - (later - start) for start, later in pairwise(starts))
        notes.append(
            f"{shared} px {word} ({100 * shared / length:.0f} %)" if shared >= 0 else f"{-shared} px {word} missed"
        )
    shares = "neighbours share " if notes[0].endswith(")") else ""
    return shares + ", ".join(notes)


def window_colors(boxes: Sequence[tuple[int, int, int, int]]) -> list[int]:
    """Returns the number of each box's colour: none that a box has which it overlaps or is near to, while there is one.

    Args:
        boxes: left, top, right, bottom, in pixels that belong to the box.

    >>> window_colors([(0, 0, 99, 99), (50, 0, 149, 99), (100, 0, 199, 99), (150, 0, 249, 99)])
    [0, 1, 2, 0]
    """
    chosen: list[int] = []
    for left, top, right, bottom in boxes:
        taken = [
            color
            for color, (x0, y0, x1, y1) in zip(chosen, boxes, strict=False)
            if left <= x1 + NEAR and x0 <= right + NEAR and top <= y1 + NEAR and y0 <= bottom + NEAR
        ]
        chosen.append(min(range(len(WINDOW_COLORS)), key=taken.count))
    return chosen


def _draw_windows(draw: ImageDraw.ImageDraw, boxes: Sequence[tuple[int, int, int, int]], num_columns: int) -> None:
    """Draws the outlines, each further inside than its neighbour's, and a numbered tag in its corner."""
    for index, ((left, top, right, bottom), chosen) in enumerate(zip(boxes, window_colors(boxes), strict=True)):
        parity = index % num_columns % 2 + 2 * (index // num_columns % 2)
        color, inset, number = WINDOW_COLORS[chosen], LINE * parity, str(index + 1)
        box = (left + inset, top + inset, right - inset, bottom - inset)
        draw.rectangle(box, outline=color, width=LINE)
        tag_width = font(CAPTION_SIZE, bold=True).getlength(number) + 12
        draw.rectangle((box[0], box[1], box[0] + tag_width, box[1] + CAPTION_SIZE + 6), fill=color)
        write(draw, (box[0] + 6, box[1] + 1), number, CAPTION_SIZE, tag_width, fill=MAT, bold=True)
