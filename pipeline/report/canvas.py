"""Drawing on images: text, legends, rows of captioned images on a dark background, tile grids.

In and out: uint8 RGB arrays of shape (H, W, 3). The background is dark, so that photographs and saturated class colours
appear the same on a light and on a dark page.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.data.tiles import TileSet, tile_windows
from pipeline.report.figure import Color
from pipeline.report.lettering import own_drawable

BACKGROUND = (24, 27, 31)
TEXT = (236, 238, 240)
MUTED = (160, 168, 176)
OUTLINE = (118, 126, 134)
HATCH = ((70, 74, 79), (128, 133, 139))
HATCH_PERIOD = 8  # pixels; two stripes of four
MARGIN = 16
GAP = 10
TITLE_SIZE, CAPTION_SIZE = 26, 20
GRID_WIDTH = 1168  # pixels without margins
# Bright on photographs and distinct from each other (after Okabe and Ito); with tiles that share half of their sides,
# nine meet in one point.
WINDOW_COLORS = (
    *((240, 228, 66), (86, 180, 233), (255, 120, 60), (0, 196, 143), (238, 140, 200)),
    *((255, 255, 255), (90, 110, 255), (170, 220, 60), (180, 120, 60)),
)
LINE = 3  # pixels
LEAST_NUMBERED = 48  # pixels of a tile's shorter side, for a number and an outline inside its neighbours'
OVERLAP_COLOR = (86, 180, 233)  # sky blue, which shows on photographs by day and by night
OVERLAP_SHARE = 0.13  # of that colour, which each further tile over a pixel adds


@dataclass(frozen=True)
class Chip:
    """An entry of a legend: a colour (None: hatched) and a text."""

    color: Color | None
    text: str


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Returns the plots' font, which comes with matplotlib, in a size of pixels."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}", size)


def line_height(size: int) -> int:
    """Returns the distance of two lines of text in pixels."""
    return round(size * 1.65)


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns an image (H, W, 3) or, by nearest neighbour, a mask (H, W) in another size."""
    how = Image.Resampling.NEAREST if image.ndim == 2 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize((width, height), how))


def fit(width: int, height: int, most_width: int, most_height: int) -> tuple[int, int]:
    """Returns the largest size of the same aspect in a box; small images grow too.

    >>> fit(1280, 720, 640, 640), fit(20, 2000, 640, 640)
    ((640, 360), (6, 640))
    """
    scale = min(most_width / width, most_height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def hatched(height: int, width: int) -> np.ndarray:
    """Returns diagonal grey stripes (H, W, 3), the sign for what is not scored."""
    rows, columns = np.ogrid[:height, :width]
    is_light = (rows + columns) % HATCH_PERIOD < HATCH_PERIOD // 2
    return np.where(is_light[..., None], *(np.array(color, np.uint8) for color in reversed(HATCH)))


def arrange(rows: Sequence[Sequence[np.ndarray]], margin: int = 0, gap: int = GAP) -> np.ndarray:
    """Returns rows of images as one image, each row as high as its highest image."""
    heights = [max(len(image) for image in row) for row in rows]
    width = max(sum(image.shape[1] for image in row) + gap * (len(row) - 1) for row in rows)
    size = (sum(heights) + gap * (len(rows) - 1) + 2 * margin, width + 2 * margin, 3)
    canvas = np.full(size, BACKGROUND, np.uint8)
    top = margin
    for row, height in zip(rows, heights, strict=True):
        left = margin
        for image in row:
            canvas[top : top + len(image), left : left + image.shape[1]] = image
            left += image.shape[1] + gap
        top += height + gap
    return canvas


def text_line(text: str, size: int, width: int, color: Color = TEXT, bold: bool = False) -> np.ndarray:
    """Returns a line of text, shortened to a width."""
    face = font(size, bold)
    canvas = Image.new("RGB", (width, line_height(size)), BACKGROUND)
    ImageDraw.Draw(canvas).text((0, 0), shorten(own_drawable(text), face, width), font=face, fill=color)
    return np.asarray(canvas)


def captioned(caption: str, image: np.ndarray, width: int, size: int) -> np.ndarray:
    """Returns an image below its caption."""
    return arrange([[text_line(caption, size, width, MUTED)], [image]], gap=0)


def shorten(text: str, face: ImageFont.FreeTypeFont, most_width: float) -> str:
    """Returns a text that is not wider than `most_width` pixels, with an ellipsis where something was cut."""
    if face.getlength(text) <= most_width:
        return text
    while text and face.getlength(text + "…") > most_width:
        text = text[:-1]
    return text + "…"


def legend_rows(chips: Sequence[Chip], width: int, size: int) -> list[list[tuple[int, Chip]]]:
    """Returns the lines of a legend of a width: each entry with the pixel that it starts at."""
    rows: list[list[tuple[int, Chip]]] = [[]]
    start = 0
    for chip in chips:
        needed = round(size * 1.5 + font(size).getlength(own_drawable(chip.text)) + size * 1.4)
        if rows[-1] and start + needed > width:
            rows.append([])
            start = 0
        rows[-1].append((start, chip))
        start += needed
    return rows if rows[-1] else []


def legend(chips: Sequence[Chip], width: int, size: int) -> np.ndarray:
    """Returns a legend, wrapped to a width; without entries its height is 0."""
    rows, side = legend_rows(chips, width, size), round(size * 1.05)
    canvas = Image.new("RGB", (width, len(rows) * line_height(size)), BACKGROUND)
    draw = ImageDraw.Draw(canvas)
    for line, entries in enumerate(rows):
        top = line * line_height(size)
        for left, chip in entries:
            if chip.color is None:
                canvas.paste(Image.fromarray(hatched(side, side)), (left, top))
            box = (left, top, left + side - 1, top + side - 1)
            draw.rectangle(box, fill=chip.color and tuple(chip.color), outline=OUTLINE)
            text = shorten(own_drawable(chip.text), font(size), width)
            draw.text((left + size * 1.5, top - size * 0.1), text, font=font(size), fill=TEXT)
    return np.asarray(canvas)


def draw_tile_grid(image: np.ndarray, tile_set: TileSet, tile_width: int, tile_height: int) -> np.ndarray:
    """Returns an image with the tiles of one set on it: outlined, numbered, blue where they overlap.

    What no tile covers is dark.
    """
    scale_width, scale_height, num_columns, num_rows = tile_set
    width, height = fit(scale_width, scale_height, GRID_WIDTH, GRID_WIDTH)
    scale = width / scale_width
    cover = np.zeros((height, width), np.uint8)
    boxes = []
    for _, box in tile_windows([tile_set], tile_width, tile_height):
        left, top = round(box.x * scale), round(box.y * scale)
        right, bottom = round((box.x + tile_width) * scale), round((box.y + tile_height) * scale)
        cover[top:bottom, left:right] += 1
        boxes.append((left, top, right - 1, bottom - 1))
    blue = np.minimum(OVERLAP_SHARE * np.maximum(cover.astype(np.float32) - 1, 0), 0.6)[..., None]
    bright = resize(image, width, height) * np.where(cover > 0, 1.0, 0.25)[..., None]
    shown = Image.fromarray(np.rint(bright * (1 - blue) + np.array(OVERLAP_COLOR) * blue).astype(np.uint8))
    _draw_windows(ImageDraw.Draw(shown), boxes, num_columns)
    title = f"{scale_width} x {scale_height}: {num_columns} x {num_rows} tiles of {tile_width} x {tile_height}"
    more = "; the bluer, the more tiles cover it" if cover.max() > 1 else ""
    note = f"{grid_note(tile_set, tile_width, tile_height)}{more}"
    lines = [text_line(title, TITLE_SIZE, GRID_WIDTH, bold=True), text_line(note, CAPTION_SIZE, GRID_WIDTH, MUTED)]
    return arrange([[line] for line in (*lines, np.asarray(shown))], margin=MARGIN, gap=0)


def grid_note(tile_set: TileSet, tile_width: int, tile_height: int) -> str:
    """Returns the overlaps of a tile set, and what it leaves out.

    >>> grid_note((1280, 720, 3, 3), 640, 352)
    'neighbours share 320 px across (50 %), 168 px down (48 %)'
    """
    windows = tile_windows([tile_set], tile_width, tile_height)
    tile_width, tile_height = min(tile_width, tile_set[0]), min(tile_height, tile_set[1])
    notes = []
    for starts, length, whole, word in (
        (sorted({box.x for _, box in windows}), tile_width, tile_set[0], "across"),
        (sorted({box.y for _, box in windows}), tile_height, tile_set[1], "down"),
    ):
        if len(starts) == 1:
            left_out = whole - length
            notes.append(f"one tile {word}, {left_out} px left out" if left_out else f"one tile {word} covers all")
            continue
        shared = min(length - (later - start) for start, later in pairwise(starts))
        share = f"{shared} px {word} ({100 * shared / length:.0f} %)"
        notes.append(share if shared >= 0 else f"{-shared} px {word} missed")
    return ("neighbours share " if notes[0].endswith(")") else "") + ", ".join(notes)


def window_color(index: int, num_columns: int) -> Color:
    """Returns the colour of a tile: another one than those of the tiles up to two columns and rows away."""
    row, column = divmod(index, num_columns)
    return WINDOW_COLORS[column % 3 + 3 * (row % 3)]


def _draw_windows(draw: ImageDraw.ImageDraw, boxes: Sequence[tuple[int, int, int, int]], num_columns: int) -> None:
    """Draws the outlines, each further inside than its neighbour's, and a numbered tag in its corner."""
    face = font(CAPTION_SIZE, bold=True)
    if min(min(right - left, bottom - top) for left, top, right, bottom in boxes) < LEAST_NUMBERED:
        for index, box in enumerate(boxes):  # many tiles on a large image: thin outlines, which may coincide
            draw.rectangle(box, outline=window_color(index, num_columns))
        return
    for index, (left, top, right, bottom) in enumerate(boxes):
        inset = LINE * (index % num_columns % 2 + 2 * (index // num_columns % 2))
        left, top, color, number = left + inset, top + inset, window_color(index, num_columns), str(index + 1)
        draw.rectangle((left, top, right - inset, bottom - inset), outline=color, width=LINE)
        draw.rectangle((left, top, left + face.getlength(number) + 12, top + CAPTION_SIZE + 6), fill=color)
        draw.text((left + 6, top + 1), number, font=face, fill=BACKGROUND)
