"""Drawing on images: masks as colours, hatching, text, legends, tiles laid out on a dark mat.

In and out: uint8 RGB arrays of shape (H, W, 3) and index masks of shape (H, W) with 255 for pixels that count nowhere.
The mat is dark because photographs and saturated class colours look alike on a light and on a dark page then.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from pipeline.config.competition import IGNORE

Color = tuple[int, int, int]

MAT = (24, 27, 31)
INK = (236, 238, 240)
MUTED = (160, 168, 176)
OUTLINE = (118, 126, 134)
HATCH = ((70, 74, 79), (128, 133, 139))
HATCH_PERIOD = 8  # pixels; two stripes of four
MARGIN = 16
GAP = 10
SHINE = 0.22  # how much of the grey image is seen through a mask: enough to find one's way, colours stay true
BRIGHT = (255, 94, 58)  # far from the greys of a darkened image, for colour-blind eyes too
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


@dataclass(frozen=True)
class Chip:
    """An entry of a legend: a colour (None: hatched) and a text."""

    color: Color | None
    text: str


@functools.cache
def font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Returns the plots' typeface, which comes with matplotlib, in a size of pixels."""
    import matplotlib

    name = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(f"{matplotlib.get_data_path()}/fonts/ttf/{name}", size)


def resize(image: np.ndarray, width: int, height: int) -> np.ndarray:
    """Returns an image (H, W, 3) or, by nearest neighbour, a mask (H, W) in another size."""
    if image.shape[:2] == (height, width):
        return image
    how = Image.Resampling.NEAREST if image.ndim == 2 else Image.Resampling.LANCZOS
    return np.asarray(Image.fromarray(image).resize((width, height), how))


def highlight(image: np.ndarray, is_bright_HW: np.ndarray) -> np.ndarray:
    """Returns an image dark and grey, with the given pixels (H, W) bright."""
    grey = np.repeat((image.astype(np.float32) @ LUMA * 0.45 + 12)[..., None], 3, axis=2).astype(np.uint8)
    return np.where(is_bright_HW[..., None], np.array(BRIGHT, np.uint8), grey)


def fit(width: int, height: int, most_width: int, most_height: int) -> tuple[int, int]:
    """Returns the largest size of the same aspect in a box; small images grow too.

    >>> fit(1280, 720, 640, 640), fit(20, 2000, 640, 640)
    ((640, 360), (6, 640))
    """
    scale = min(most_width / width, most_height / height)
    return max(1, round(width * scale)), max(1, round(height * scale))


def hatched(height: int, width: int) -> np.ndarray:
    """Returns diagonal grey stripes (H, W, 3): what counts nowhere."""
    rows, columns = np.ogrid[:height, :width]
    is_light = (rows + columns) % HATCH_PERIOD < HATCH_PERIOD // 2
    return np.where(is_light[..., None], *(np.array(color, np.uint8) for color in reversed(HATCH)))


def paint_mask(mask: np.ndarray, colors: Sequence[Color], image: np.ndarray | None = None) -> np.ndarray:
    """Returns a mask in its class colours, ignored pixels hatched, a bit of the image shining through."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    painted = table[mask]
    if image is not None:
        grey = image.astype(np.float32) @ LUMA
        painted = np.rint(painted * (1 - SHINE) + SHINE * grey[..., None]).astype(np.uint8)
    return np.where((mask == IGNORE)[..., None], hatched(*mask.shape), painted)


def write(
    draw: ImageDraw.ImageDraw, place: tuple[float, float], text: str, size: int, most_width: float, **look
) -> float:
    """Writes one line of text with its left upper corner at `place`, shortened to fit; returns its width."""
    face = font(size, look.pop("bold", False))
    text = shorten(printable(text), face, most_width)
    draw.text(place, text, font=face, fill=look.pop("fill", INK), **look)
    return face.getlength(text)


def printable(text: str) -> str:
    """Returns a text without what a typeface cannot draw.

    >>> printable("a\\tb")
    'a\ufffdb'
    """
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in text)


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
        needed = round(size * 1.5 + font(size).getlength(printable(chip.text)) + size * 1.4)
        if rows[-1] and start + needed > width:
            rows.append([])
            start = 0
        rows[-1].append((start, chip))
        start += needed
    return rows if rows[-1] else []


def draw_legend(canvas: Image.Image, place: tuple[int, int], chips: Sequence[Chip], width: int, size: int) -> None:
    """Draws a legend, wrapped to a width, with its left upper corner at `place`."""
    draw = ImageDraw.Draw(canvas)
    side = round(size * 1.05)
    for line, entries in enumerate(legend_rows(chips, width, size)):
        top = place[1] + line * line_height(size)
        for start, chip in entries:
            left = place[0] + start
            if chip.color is None:
                canvas.paste(Image.fromarray(hatched(side, side)), (left, top))
            box = (left, top, left + side - 1, top + side - 1)
            draw.rectangle(box, fill=chip.color and tuple(chip.color), outline=OUTLINE)
            write(draw, (left + size * 1.5, top - size * 0.1), chip.text, size, width)


def legend_height(chips: Sequence[Chip], width: int, size: int) -> int:
    """Returns the height of a wrapped legend in pixels."""
    return len(legend_rows(chips, width, size)) * line_height(size)


def line_height(size: int) -> int:
    """Returns the distance of two lines of text in pixels."""
    return round(size * 1.65)


def new_canvas(width: int, height: int) -> Image.Image:
    """Returns an empty dark mat."""
    return Image.new("RGB", (width, height), MAT)
