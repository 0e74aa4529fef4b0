"""Masks as colours: panels of image, label, prediction and errors, contact sheets, changes between two submissions.

In: images (uint8, H, W, 3), masks (uint8, H, W, class index, 255 ignored), object maps (see `objects.py`), or planes,
whose overlaps are drawn as stripes. Out: uint8 RGB images.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageFilter

from pipeline.config.competition import IGNORE
from pipeline.report.canvas import (
    CAPTION_SIZE,
    GAP,
    MARGIN,
    MUTED,
    TITLE_SIZE,
    Chip,
    arrange,
    captioned,
    fit,
    hatched,
    legend,
    resize,
    text_line,
)
from pipeline.report.figure import Color
from pipeline.report.read import percent
from pipeline.segmentation.objects import class_of, like_first, outlines
from pipeline.segmentation.planes import classes_in, is_present, resize_planes, striped

WIDTH = 1888  # pixels without margins: four images near a small image's own size, sharp at twice the page's width
MOST_IMAGE_HEIGHT = 760
LEAST_WIDTH = 928  # of a panel of narrow images: title and legend need it
LEAST_CELL_WIDTH = 300  # captions need it
TEXT_SIZE = 22
MOST_SAMPLE_HEIGHT = 420
DIFF_WIDTH = 1048  # of a drawing of changes: with margins as wide as a phone; on a larger screen it fits a page
MOST_DIFF_HEIGHT = 520
DIFF_TITLE_SIZE, DIFF_NAME_SIZE, DIFF_TEXT_SIZE = 34, 30, 26  # readable when a phone shows it at a third of its size
NUM_SWAPS = 3  # changes of class that are named
LEAST_GROWTH = 2  # pixels that a lone changed one is widened by, to be visible
# In a binary competition most pixels have no class: they are the image itself, grey and dark, not a pattern on it.
NO_CLASS_SHARE, NO_CLASS_COLOR = 0.55, (88, 88, 88)
IMAGE_SHARE = 0.22  # of the grey image in a painted mask: enough to recognise the scene, colours stay true
BRIGHT = (255, 94, 58)  # far from the greys of a darkened image, for colour-blind eyes too
OUTLINE = np.array((255, 255, 255), np.uint8)
NOT_SCORED = Chip(None, "not scored")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def paint_mask(mask: np.ndarray, colors: Sequence[Color], image: np.ndarray | None = None) -> np.ndarray:
    """Returns a mask in its class colours mixed with a bit of the grey image; ignored pixels are hatched.

    Of planes, a pixel without a class is the image itself, grey and dark.
    """
    has_none = np.False_ if mask.ndim == 2 else ~is_present(mask).any(-1)
    mask = mask if mask.ndim == 2 else striped(mask)
    table = np.zeros((256, 3), np.uint8)
    table[: len(colors)] = colors
    painted = table[mask]
    if image is not None:
        grey = (image.astype(np.float32) @ LUMA)[..., None]
        painted = painted * (1 - IMAGE_SHARE) + IMAGE_SHARE * grey
        painted = np.rint(np.where(has_none[..., None], grey * NO_CLASS_SHARE, painted)).astype(np.uint8)
    return np.where((mask == IGNORE)[..., None], hatched(*mask.shape), painted)


def paint_outlined(mask: np.ndarray, colors: Sequence[Color], image: np.ndarray) -> np.ndarray:
    """Returns what `paint_mask` does; of an object map, with a line around each object."""
    painted = paint_mask(class_of(mask), colors, image)
    return painted if mask.dtype == np.uint8 else np.where(outlines(mask)[..., None], OUTLINE, painted)


def wrong_pixels(mask: np.ndarray, prediction: np.ndarray) -> tuple[np.ndarray, float]:
    """Returns where a prediction is wrong, bool (H, W), and the share of scored pixels where it is.

    >>> wrong_pixels(np.array([[0, 1, 255, 1]], np.uint8), np.array([[0, 0, 0, 1]], np.uint8))[0].tolist()
    [[False, True, False, False]]
    """
    is_scored, is_wrong = mask != IGNORE, mask != prediction
    if mask.ndim == 3:
        is_wrong = ((is_present(mask) != is_present(prediction)) & is_scored).any(-1)
        is_scored = is_scored.any(-1)
    wrong = is_scored & is_wrong
    return wrong, float(wrong.sum() / max(is_scored.sum(), 1))


def highlight(image: np.ndarray, is_bright_HW: np.ndarray) -> np.ndarray:
    """Returns an image dark and grey, with the given pixels (H, W) bright."""
    grey = np.repeat((image.astype(np.float32) @ LUMA * 0.45 + 12)[..., None], 3, axis=2).astype(np.uint8)
    return np.where(is_bright_HW[..., None], np.array(BRIGHT, np.uint8), grey)


def class_chips(
    masks: Iterable[np.ndarray], names: Sequence[str], colors: Sequence[Color], ignored: Chip, texts: Mapping[str, str]
) -> list[Chip]:
    """Returns the legend of the classes that masks show.

    Args:
        names: the classes in index order; `colors` likewise (more are allowed).
        ignored: the entry for ignored pixels, if there are any.
        texts: by class, what stands instead of its name.
    """
    present = {int(index) for mask in masks for index in (np.unique(mask) if mask.ndim == 2 else classes_in(mask))}
    chips = [Chip(colors[index], texts.get(name, name)) for index, name in enumerate(names) if index in present]
    return [*chips, ignored] if IGNORE in present else chips


def draw_panel(
    image: np.ndarray,
    mask: np.ndarray,
    prediction: np.ndarray,
    names: Sequence[str],
    colors: Sequence[Color],
    title: str = "",
    scores: Mapping[str, float] | None = None,
) -> np.ndarray:
    """Returns image, label, prediction and errors side by side, with a legend of the classes present.

    Args:
        image: uint8 (H, W, 3) RGB.
        mask: uint8 (H, W), class index, 255 where nothing is scored, drawn hatched. Or planes (H, W, C), or an object
            map, drawn with outlines; pixels are then errors, too, where the prediction has another object.
        prediction: likewise.
        names: the classes in index order; `colors` likewise (more are allowed).
        scores: of each class on this image, for the legend.

    Returns:
        uint8 (H', W', 3), at most 1920 wide. Wide images are laid out in two rows or four.
    """
    if mask.dtype != np.uint8:
        prediction = like_first(mask, prediction)
    wrong, wrong_share = wrong_pixels(mask, prediction)
    height, width = mask.shape[:2]
    num_columns = 4 if width <= 2.6 * height else 2 if width <= 7 * height else 1
    size = fit(width, height, (WIDTH - (num_columns - 1) * GAP) // num_columns, MOST_IMAGE_HEIGHT)
    image, wrong = resize(image, *size), resize(wrong.astype(np.uint8), *size)
    mask, prediction = resize_nearest(mask, size), resize_nearest(prediction, size)
    ignored = mask == IGNORE if mask.ndim == 2 else (mask == IGNORE).all(-1)
    errors = np.where(ignored[..., None], hatched(*ignored.shape), highlight(image, wrong > 0))
    images = (
        ("image", image),
        ("label", paint_outlined(mask, colors, image)),
        ("prediction", paint_outlined(prediction, colors, image)),
        (f"errors: {100 * wrong_share:.1f} % of pixels", errors),
    )
    texts = {name: f"{name} {score:.2f}" for name, score in (scores or {}).items()}
    chips = class_chips((class_of(mask), class_of(prediction)), names, colors, NOT_SCORED, texts)
    cell_width = max(size[0], LEAST_CELL_WIDTH)
    cells = [captioned(caption, drawn, cell_width, TEXT_SIZE) for caption, drawn in images]
    width = max(LEAST_WIDTH, num_columns * cell_width + (num_columns - 1) * GAP)
    return _with_title(title, cells, num_columns, legend(chips, width, TEXT_SIZE))


def draw_sheet(
    samples: Sequence[tuple[np.ndarray, np.ndarray]],
    captions: Sequence[str],
    names: Sequence[str],
    colors: Sequence[Color],
    title: str = "",
    num_columns: int = 6,
    ignored: Chip = NOT_SCORED,
) -> np.ndarray:
    """Returns a contact sheet: each sample's image, and below it the mask mixed with the same image.

    Args:
        samples: (image, mask) pairs, of any size.
        captions: a line under each; shortened to fit.
        ignored: what the legend calls pixels that are ignored.
    """
    num_columns = min(num_columns, max(len(samples), 1))
    cell_width = min((WIDTH - (num_columns - 1) * GAP) // num_columns, WIDTH // 3)
    cells = []
    for (image, mask), caption in zip(samples, captions, strict=True):
        size = fit(mask.shape[1], mask.shape[0], cell_width, MOST_SAMPLE_HEIGHT)
        small, painted = resize(image, *size), paint_mask(resize_nearest(mask, size), colors, resize(image, *size))
        cells.append(arrange([[small], [painted], [text_line(caption, CAPTION_SIZE, cell_width, MUTED)]], gap=4))
    chips = class_chips((mask for _, mask in samples), names, colors, ignored, {})
    return _with_title(title, cells, num_columns, legend(chips, WIDTH, CAPTION_SIZE))


def resize_nearest(mask: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Returns a mask or planes in another (width, height), by nearest neighbour."""
    return resize(mask, *size) if mask.ndim == 2 else resize_planes(mask, size)


def _with_title(title: str, cells: Sequence[np.ndarray], num_columns: int, below: np.ndarray) -> np.ndarray:
    """Returns images in rows, a title above them and a legend below."""
    rows = [cells[start : start + num_columns] for start in range(0, len(cells), num_columns)]
    above = [[text_line(title, TITLE_SIZE, below.shape[1], bold=True)]] if title else []
    return arrange([*above, *rows, [below]], margin=MARGIN)


@dataclass(frozen=True)
class Changed:
    """An image (uint8 RGB) with the masks of two submissions, `IGNORE` where no class has the pixel; or planes."""

    image_id: str
    image: np.ndarray
    first: np.ndarray
    second: np.ndarray


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
    title = text_line(" against ".join(titles), DIFF_TITLE_SIZE, DIFF_WIDTH, bold=True)
    parts = [title, legend(chips, DIFF_WIDTH, DIFF_TEXT_SIZE), *(_block(one, names, colors, titles) for one in changed)]
    return arrange([[part] for part in parts], margin=MARGIN, gap=2 * GAP)


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


def growths(first_HWC: np.ndarray, second_HWC: np.ndarray, names: Sequence[str]) -> list[str]:
    """Returns the classes that gain and lose most in planes, with the share of the image.

    >>> growths(np.array([[[0, 240]]], np.uint8), np.array([[[240, 240]]], np.uint8), ["cat", "dog"])
    ['cat +100 %']
    """
    first, second = is_present(first_HWC), is_present(second_HWC)
    changes = [
        (part[..., index].mean(), f"{name} {sign}")
        for part, sign in ((second & ~first, "+"), (first & ~second, "-"))
        for index, name in enumerate(names)
    ]
    ranked = sorted((change for change in changes if change[0]), key=lambda change: -change[0])
    return [f"{text}{percent(share)}" for share, text in ranked[:NUM_SWAPS]]


def _block(one: Changed, names: Sequence[str], colors: Sequence[Color], titles: tuple[str, str]) -> np.ndarray:
    """Returns image and changes above the two masks, with a line on the most frequent changes of class."""
    cell_width = (DIFF_WIDTH - GAP) // 2
    size = fit(one.first.shape[1], one.first.shape[0], cell_width, MOST_DIFF_HEIGHT)
    is_changed = one.first != one.second
    is_changed = is_changed if is_changed.ndim == 2 else is_changed.any(-1)
    small = resize(one.image, *size)
    first, second = (_paint_classes(resize_nearest(mask, size), colors, small) for mask in (one.first, one.second))
    changed = (f"changed: {percent(is_changed.mean())} of pixels", _paint_changes(small, is_changed))
    images = (("image", small), changed, (titles[0], first), (titles[1], second))
    cells = [captioned(caption, image, cell_width, DIFF_TEXT_SIZE) for caption, image in images]
    name = text_line(one.image_id, DIFF_NAME_SIZE, DIFF_WIDTH, bold=True)
    changes = swaps if one.first.ndim == 2 else growths
    frequent = text_line(", ".join(changes(one.first, one.second, names)), DIFF_TEXT_SIZE, DIFF_WIDTH)
    return arrange([[arrange([[name], [frequent]], gap=0)], cells[:2], cells[2:]])


def _paint_classes(mask: np.ndarray, colors: Sequence[Color], image: np.ndarray) -> np.ndarray:
    """Returns a mask in its class colours; the image, grey and dark, where there is no class."""
    painted = paint_mask(mask, colors, image)
    if mask.ndim == 3:
        return painted
    grey = np.rint(image.astype(np.float32) @ LUMA * NO_CLASS_SHARE).astype(np.uint8)
    return np.where((mask == IGNORE)[..., None], grey[..., None], painted)


def _paint_changes(image: np.ndarray, is_changed_HW: np.ndarray) -> np.ndarray:
    """Returns the image dark and grey with the changed pixels bright; a lone one is drawn larger than it is."""
    height, width = image.shape[:2]
    rows, columns = np.nonzero(is_changed_HW)
    shown = resize(is_changed_HW.astype(np.uint8), width, height) > 0
    shown[rows * height // is_changed_HW.shape[0], columns * width // is_changed_HW.shape[1]] = True
    if shown.mean() < 0.01:
        grown = Image.fromarray(shown.astype(np.uint8)).filter(ImageFilter.MaxFilter(2 * LEAST_GROWTH + 1))
        shown = np.asarray(grown) > 0
    return highlight(image, shown)
