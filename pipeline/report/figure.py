"""The common style of plots: colours, sizes, a blank figure, heat maps, and a figure as the bytes of a small PNG.

Sizes are in the pixels of a web page; an image has twice as many, so that it is sharp on today's screens. matplotlib
is used through its objects alone and imported late: no global state, and a quick start for commands that draw nothing.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageColor

from pipeline.files import write_atomic
from pipeline.report.lettering import make_legible

Color = tuple[int, int, int]

SCALE = 2  # image pixels per page pixel
PIXELS_PER_INCH = 100  # 8 pt are then 11 page pixels, the smallest text that reads well
WIDTH = 460  # page pixels: two side by side on a desk, one across a phone
PNG_COLORS = 256  # a plot has few colours; a palette takes a third of the bytes of full colour
PNG_LEVEL = 6  # 9 takes three times as long for a tenth fewer bytes
PHOTO_QUALITY = 82  # of WebP: no visible difference at the page's size, a sixth of a PNG
LEAST_CONTRAST = 1.7  # of a line against the background, as WCAG measures it


@dataclass(frozen=True)
class Theme:
    """Colours of a plot on a light or dark page, distinct for colour-blind eyes too.

    Source: Okabe and Ito, "Color Universal Design", 2008; made lighter or darker where the background needs it.
    """

    background: str
    text: str
    muted: str
    grid: str
    shade: str
    valid: str
    train: str
    mark: str
    other: str
    heat: tuple[str, ...]


LIGHT = Theme(
    "#ffffff", "#1d2126", "#5c6570", "#e4e7eb", "#f3f5f7", "#0072b2", "#d98200", "#c2410c", "#009e73",
    ("#ffffff", "#d6e8f4", "#8fc3e3", "#3b93c8", "#0b5f96", "#063a5e"),
)  # fmt: skip
DARK = Theme(
    "#191c20", "#e6e8eb", "#9aa4af", "#30353c", "#20242a", "#56b4e9", "#e69f00", "#ff7a45", "#2cc295",
    ("#191c20", "#16334a", "#155a86", "#2f8cc4", "#7cc3ee", "#dff2ff"),
)  # fmt: skip


def new_figure(theme: Theme, height: int, width: int = WIDTH) -> Any:
    """Returns an empty matplotlib Figure of width x height page pixels."""
    from matplotlib.figure import Figure

    size = (width / PIXELS_PER_INCH, height / PIXELS_PER_INCH)
    return Figure(figsize=size, dpi=PIXELS_PER_INCH * SCALE, facecolor=theme.background, layout="constrained")


def new_axes(theme: Theme, title: str, height: int, width: int = WIDTH, grid: str = "both") -> tuple[Any, Any]:
    """Returns an empty Figure of width x height page pixels, and its only axes in the common style."""
    figure = new_figure(theme, height, width)
    axes = figure.subplots()
    style_axes(axes, theme, title, grid)
    return figure, axes


def style_axes(axes: Any, theme: Theme, title: str = "", grid: str = "both") -> None:
    """Gives axes the common style: thin grid behind the data, no box, small text; the title at the left."""
    axes.set_facecolor(theme.background)
    axes.set_axisbelow(True)
    if grid != "none":
        axes.grid(True, axis=grid, color=theme.grid, linewidth=0.7)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set_color(theme.muted)
        spine.set_linewidth(0.7)
    axes.tick_params(which="both", colors=theme.muted, labelsize=7.5, length=0, pad=3)
    axes.xaxis.label.set(color=theme.muted, fontsize=8)
    axes.yaxis.label.set(color=theme.muted, fontsize=8)
    axes.set_title(title, loc="left", color=theme.text, fontsize=9, fontweight="bold", pad=6)


def add_legend(axes: Any, theme: Theme, columns: int, **location: Any) -> None:
    """Writes the legend without a box, on the line of the title at the right unless `location` says otherwise."""
    location = location or {"loc": "lower right", "bbox_to_anchor": (1.01, 1.0)}
    axes.legend(
        ncols=columns, frameon=False, fontsize=7.5, labelcolor=theme.text, handlelength=1.5, handletextpad=0.5,
        columnspacing=1.1, borderpad=0.2, borderaxespad=0.2, **location,
    )  # fmt: skip


def encode(figure: Any) -> bytes:
    """Returns a figure as PNG, the same bytes for the same figure; its texts are made legible."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    make_legible(figure)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    image = Image.frombuffer("RGBA", canvas.get_width_height(), canvas.buffer_rgba()).convert("RGB")
    return encode_png(image.quantize(PNG_COLORS, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE))


def encode_png(image: Image.Image) -> bytes:
    """Returns an image as PNG."""
    content = io.BytesIO()
    image.save(content, "PNG", compress_level=PNG_LEVEL)
    return content.getvalue()


def encode_webp(image: Image.Image) -> bytes:
    """Returns an image with photographs in it as WebP."""
    content = io.BytesIO()
    image.convert("RGB").save(content, "WEBP", quality=PHOTO_QUALITY, method=2)
    return content.getvalue()


def write_image(path: Path, image: np.ndarray) -> None:
    """Writes a uint8 RGB image (H, W, 3) as PNG."""
    write_atomic(path, encode_png(Image.fromarray(image)))


def readable_color(color: Color, theme: Theme) -> str:
    """Returns a class colour as text, moved towards the text colour until it stands out from the background.

    >>> readable_color((0, 0, 128), LIGHT), readable_color((255, 255, 255), LIGHT)
    ('#000080', '#bbbcbe')
    """
    background, text = ImageColor.getrgb(theme.background), ImageColor.getrgb(theme.text)
    for share in (step / 10 for step in range(11)):
        mixed = tuple(round(own + (towards - own) * share) for own, towards in zip(color, text, strict=True))
        if contrast(mixed, background) >= LEAST_CONTRAST:
            break
    return "#{:02x}{:02x}{:02x}".format(*mixed)


def contrast(color: Color, other: Color) -> float:
    """Returns the contrast of two colours, 1 (none) to 21 (black on white).

    Source: WCAG 2.2, "contrast ratio".

    >>> contrast((0, 0, 0), (255, 255, 255))
    21.0
    """
    light, dark = sorted((_luminance(color), _luminance(other)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def _luminance(color: Color) -> float:
    linear = [value / 255 / 12.92 if value <= 10 else ((value / 255 + 0.055) / 1.055) ** 2.4 for value in color]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
