"""The images in which two submissions differ most: image, both masks, and where they disagree.

In: images with both masks. Out: a uint8 RGB image, one block of four below the other, narrow enough for a phone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from pipeline.config.competition import IGNORE
from pipeline.report.canvas import GAP, MARGIN, Chip, arrange, captioned, fit, legend, resize, text_line
from pipeline.report.figure import Color
from pipeline.report.panels import LUMA, class_chips, highlight, paint_mask
from pipeline.report.read import percent

WIDTH = 1048  # pixels of two images: with margins as wide as a phone; on a larger screen it fits a page
MOST_IMAGE_HEIGHT = 520
TITLE_SIZE, NAME_SIZE, TEXT_SIZE = 34, 30, 26  # still readable when a phone shows it at a third of its size
NUM_SWAPS = 3  # named above each block
LEAST_GROWTH = 2  # pixels that a lone changed one is widened by, to be visible
# In a binary competition most pixels have no class: they are the image itself, grey and dark, not a pattern on it.
NO_CLASS_SHARE, NO_CLASS_COLOR = 0.55, (88, 88, 88)


@dataclass(frozen=True)
class Changed:
    """An image (uint8 RGB) with the masks of two submissions, `IGNORE` where no class has the pixel."""

    image_id: str
    image: np.ndarray
    first: np.ndarray
    second: np.ndarray


def choose_changed(ranked: Sequence[tuple[str, str]], most: int) -> list[str]:
    """Returns the ids to show of (id, sequence) pairs, the most changed first, of as many sequences as there are.

    >>> choose_changed([("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")], 3)
    ['a1', 'a2', 'b1']
    """
    seen: set[str] = set()
    fresh = [id for id, sequence in ranked if not sequence or not (sequence in seen or seen.add(sequence))]
    chosen = [*fresh, *(id for id, _ in ranked if id not in fresh)][:most]
    return [id for id, _ in ranked if id in chosen]


def draw_changes(
    changed: Sequence[Changed], names: Sequence[str], colors: Sequence[Color], titles: tuple[str, str]
) -> np.ndarray:
    """Returns the blocks below one another, with a legend of all classes that appear.

    Args:
        names: the classes in index order; `colors` likewise.
        titles: of the two submissions.

    Returns:
        uint8 (H, 1080, 3).
    """
    masks = (mask for one in changed for mask in (one.first, one.second))
    chips = class_chips(masks, names, colors, Chip(NO_CLASS_COLOR, "no class"), {})
    title = text_line(" against ".join(titles), TITLE_SIZE, WIDTH, bold=True)
    blocks = [_block(one, names, colors, titles) for one in changed]
    return arrange([[part] for part in (title, legend(chips, WIDTH, TEXT_SIZE), *blocks)], margin=MARGIN, gap=2 * GAP)


def swaps(first_HW: np.ndarray, second_HW: np.ndarray, names: Sequence[str]) -> list[str]:
    """Returns the most frequent changes of class with their share of the image.

    >>> swaps(np.array([[0, 0, 1, 255]], np.uint8), np.array([[1, 1, 0, 0]], np.uint8), ["sky", "road"])
    ['sky → road 50 %', 'road → sky 25 %', 'no class → sky 25 %']
    """
    is_changed = first_HW != second_HW
    codes, counts = np.unique(first_HW[is_changed].astype(np.uint16) * 256 + second_HW[is_changed], return_counts=True)
    ranked = sorted(zip(counts.tolist(), codes.tolist(), strict=True), key=lambda pair: (-pair[0], pair[1]))
    labels = dict(enumerate(names)) | {IGNORE: "no class"}
    return [
        f"{labels[code // 256]} → {labels[code % 256]} {percent(count / first_HW.size)}"
        for count, code in ranked[:NUM_SWAPS]
    ]


def _block(one: Changed, names: Sequence[str], colors: Sequence[Color], titles: tuple[str, str]) -> np.ndarray:
    """Returns image and changes above the two masks, with a line on the most frequent changes of class."""
    cell_width = (WIDTH - GAP) // 2
    size = fit(*one.first.shape[::-1], cell_width, MOST_IMAGE_HEIGHT)
    is_changed = one.first != one.second
    small = resize(one.image, *size)
    first, second = (_paint_classes(resize(mask, *size), colors, small) for mask in (one.first, one.second))
    changed = (f"changed: {percent(is_changed.mean())} of pixels", _paint_changes(small, is_changed))
    images = (("image", small), changed, (titles[0], first), (titles[1], second))
    cells = [captioned(caption, image, cell_width, TEXT_SIZE) for caption, image in images]
    name = text_line(one.image_id, NAME_SIZE, WIDTH, bold=True)
    frequent = text_line(", ".join(swaps(one.first, one.second, names)), TEXT_SIZE, WIDTH)
    return arrange([[arrange([[name], [frequent]], gap=0)], cells[:2], cells[2:]])


def _paint_classes(mask: np.ndarray, colors: Sequence[Color], image: np.ndarray) -> np.ndarray:
    """Returns a mask in its class colours; the image, grey and dark, where there is no class."""
    grey = np.rint(image.astype(np.float32) @ LUMA * NO_CLASS_SHARE).astype(np.uint8)
    return np.where((mask == IGNORE)[..., None], grey[..., None], paint_mask(mask, colors, image))


def _paint_changes(image: np.ndarray, is_changed_HW: np.ndarray) -> np.ndarray:
    """Returns the image dark and grey with the changed pixels bright; a lone one is drawn larger than it is."""
    height, width = image.shape[:2]
    rows, columns = np.nonzero(is_changed_HW)
    shown = resize(is_changed_HW.astype(np.uint8), width, height) > 0
    shown[rows * height // is_changed_HW.shape[0], columns * width // is_changed_HW.shape[1]] = True
    if shown.mean() < 0.01:
        grown = np.pad(shown, LEAST_GROWTH)
        span = range(2 * LEAST_GROWTH + 1)
        shown = np.any([grown[down : down + height, along : along + width] for down in span for along in span], axis=0)
    return highlight(image, shown)
