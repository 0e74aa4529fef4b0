"""Boxes drawn on images: panels of image, label, prediction and errors, contact sheets.

In: images (uint8, H, W, 3), boxes and detections in their pixels. Out: uint8 RGB images.

Missed labelled boxes are drawn in one colour, detections without a hit in another.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import product

import numpy as np
from PIL import Image, ImageDraw

from pipeline.detection.boxes import Boxes, Detections
from pipeline.detection.error_kinds import image_errors
from pipeline.detection.geometry import scaled
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
    font,
    legend,
    resize,
    text_line,
)
from pipeline.report.figure import Color, contrast

WIDTH = 1888  # pixels without margins: four images near a small image's own size, sharp at twice the page's width
MOST_IMAGE_HEIGHT = 760
LEAST_WIDTH = 928  # of a panel of narrow images: minimum for title and legend
LEAST_CELL_WIDTH = 300  # captions need it
LEAST_CROWDED_WIDTH = 640  # of an image with many boxes, however small it is
TEXT_SIZE = 22
MOST_SAMPLE_HEIGHT = 420
SHOWN_SCORE = 0.3  # detections with lower scores are not drawn: they are mostly wrong and would cover the image
RIGHT = ("hit", "ignored", "crowd")  # kinds that are no error
MISSED_COLOR, FALSE_COLOR = (255, 94, 58), (240, 228, 66)  # easy to distinguish, also for colour-blind readers
CROWD_COLOR = (160, 168, 176)
MISSED, FALSE = Chip(MISSED_COLOR, "label that was not hit"), Chip(FALSE_COLOR, "prediction without a hit")
CROWD = Chip(CROWD_COLOR, "labelled as many objects")
LEAST_SCORE_SIZE, MOST_SCORE_SIZE = 14, 20  # pixels, of the scores at boxes
INKS = ((0, 0, 0), (255, 255, 255))
CROWDED = 40  # with more boxes in an image their outlines are thin
SPACIOUS = 12  # labelled boxes or shown detections of an image up to which four images are side by side

Plate = tuple[int, int, int, int]  # left, top, right, bottom, the last two inside


def draw_boxes(
    image: np.ndarray, xyxy_N4: np.ndarray, colors: Sequence[Color], texts: Sequence[str] | None = None
) -> np.ndarray:
    """Returns an image with outlined boxes, each with its colour and a text on a plate of this colour.

    Plates do not overlap and do not cover much of a small box; texts of later boxes without enough room are left out.
    """
    drawn = Image.fromarray(image)
    pen, line = ImageDraw.Draw(drawn), line_of(image.shape[:2], len(xyxy_N4))
    for (left, top, right, bottom), color in zip(xyxy_N4.tolist(), colors, strict=True):
        corners = (left, top, max(left, right - 1), max(top, bottom - 1))
        pen.rectangle(corners, outline=color, width=line)
    taken: list[Plate] = []
    text_size = min(max(round(max(image.shape[:2]) / 45), LEAST_SCORE_SIZE), MOST_SCORE_SIZE)
    for box, color, text in zip(xyxy_N4.tolist(), colors, texts or (), strict=texts is not None):
        plate = plate_of(box, text, image.shape[:2], taken, text_size)
        if plate is not None:
            taken.append(plate)
            pen.rectangle(plate, fill=color)
            ink = max(INKS, key=lambda ink, color=color: contrast(ink, color))
            middle = ((plate[0] + plate[2] + 1) / 2, (plate[1] + plate[3] + 1) / 2)
            pen.text(middle, text, font=font(text_size), fill=ink, anchor="mm")
    return np.asarray(drawn)


def line_of(size: tuple[int, int], num_boxes: int) -> int:
    """Returns the width of outlines in pixels; thinner where an image has many boxes.

    >>> line_of((480, 640), 20), line_of((480, 640), 200), line_of((300, 400), 20)
    (3, 2, 2)
    """
    width = max(1, round(max(size) / 220))
    return width if num_boxes <= CROWDED else max(1, width - 1)


def plate_of(
    box: Sequence[float], text: str, size: tuple[int, int], taken: Iterable[Plate], text_size: int = LEAST_SCORE_SIZE
) -> Plate | None:
    """Returns where the text of a box is written: at its upper left corner, at another, or nowhere.

    Args:
        size: (height, width) of the image.
        taken: the plates that must stay free.
        text_size: in pixels.

    >>> plate_of((50, 40, 90, 80), "0.9", (200, 200), []), plate_of((50, 0, 90, 80), "0.9", (200, 200), [])
    ((50, 23, 77, 39), (50, 0, 77, 16))
    """
    width, height = round(font(text_size).getlength(text)) + 5, text_size + 2
    most_left = max(size[1] - width - 1, 0)
    lefts = [int(min(max(side, 0), most_left)) for side in (box[0], box[2] - width)]
    tops = (int(box[1]) - height - 1, int(max(box[1], 0)), int(box[3]) - height - 1)
    for left, top in product(lefts, tops):
        plate = (left, top, left + width, top + height)
        is_inside = top >= 0 and plate[3] < size[0]
        if text and is_inside and not any(_meet(plate, other) for other in taken):
            return plate
    return None


def _meet(one: Plate, other: Plate) -> bool:
    return one[0] <= other[2] and other[0] <= one[2] and one[1] <= other[3] and other[1] <= one[3]


def draw_label(image: np.ndarray, boxes: Boxes, colors: Sequence[Color]) -> np.ndarray:
    """Returns an image with its labelled boxes in the colours of their classes; regions of many objects in grey."""
    own = [CROWD_COLOR if crowd else colors[index] for index, crowd in zip(boxes.classes, boxes.is_crowd, strict=True)]
    return draw_boxes(image, boxes.xyxy, own)


def draw_found(image: np.ndarray, found: Detections, colors: Sequence[Color], least: float = SHOWN_SCORE) -> np.ndarray:
    """Returns an image with its detections above a score, each with its score."""
    found = found.keep(found.scores >= least)
    texts = [f"{score:.2f}" for score in found.scores]  # by falling score, so that high scores get room first
    return draw_boxes(image, found.xyxy, [colors[index] for index in found.classes], texts)


def errors_of(boxes: Boxes, found: Detections, least: float = SHOWN_SCORE) -> tuple[np.ndarray, np.ndarray]:
    """Returns the boxes that were not hit, (M, 4), and the detections above a score that hit none, (K, 4)."""
    errors = image_errors(boxes, found, least)
    is_missed = np.array([kind not in RIGHT for kind in errors.truth_kinds], bool)
    is_false = np.array([kind not in RIGHT for kind in errors.kinds], bool)
    return boxes.xyxy[is_missed], errors.found.xyxy[is_false]


def wrong_share(boxes: Boxes, found: Detections) -> float:
    """Returns the share of missed and false boxes among all hits, missed and false boxes."""
    missed, false = errors_of(boxes, found)
    hits = int((~boxes.is_crowd).sum()) - len(missed)
    return (len(missed) + len(false)) / max(hits + len(missed) + len(false), 1)


def draw_errors(image: np.ndarray, boxes: Boxes, found: Detections) -> np.ndarray:
    """Returns an image, dark, with the labelled boxes that were not hit, and the detections that hit none."""
    missed, false = errors_of(boxes, found)
    dark = (image.astype(np.float32) * 0.45).astype(np.uint8)
    return draw_boxes(dark, np.concatenate([missed, false]), [MISSED_COLOR] * len(missed) + [FALSE_COLOR] * len(false))


def views_of(
    image: np.ndarray, boxes: Boxes, found: Detections, colors: Sequence[Color], size: tuple[int, int]
) -> list[np.ndarray]:
    """Returns image, label, prediction and errors, each of a size (width, height)."""
    own, new = image.shape[:2], size[::-1]
    image = resize(image, *size)
    boxes, found = (one._replace(xyxy=scaled(one.xyxy, own, new)) for one in (boxes, found))
    return [
        image,
        draw_label(image, boxes, colors),
        draw_found(image, found, colors),
        draw_errors(image, boxes, found),
    ]


def draw_panel(
    image: np.ndarray,
    boxes: Boxes,
    found: Detections,
    names: Sequence[str],
    colors: Sequence[Color],
    title: str = "",
    scores: Mapping[str, float] | None = None,
) -> np.ndarray:
    """Returns image, label, prediction and errors side by side, with a legend of the classes present.

    Args:
        names: the classes in index order; `colors` likewise (more are allowed).
        scores: of each class on this image, for the legend.

    Returns:
        uint8 (H', W', 3), at most 1920 wide. Wide images and those with many boxes are laid out in two rows or four.
    """
    height, width = image.shape[:2]
    shown = int((found.scores >= SHOWN_SCORE).sum())
    most_columns = 4 if max(len(boxes.classes), shown) <= SPACIOUS else 2
    num_columns = min(most_columns, 4 if width <= 2.6 * height else 2 if width <= 7 * height else 1)
    most_width = (WIDTH - (num_columns - 1) * GAP) // num_columns
    if num_columns > 1:
        most_width = min(most_width, max(width, LEAST_CROWDED_WIDTH))  # a larger view would show no more detail
    size = fit(width, height, most_width, MOST_IMAGE_HEIGHT)
    missed, false = errors_of(boxes, found)
    captions = (
        "image",
        f"label: {_count(len(boxes.classes))}",
        f"prediction: {_count(shown)}, score ≥ {SHOWN_SCORE:g}",
        f"errors: {len(missed)} not hit, {len(false)} false",
    )
    cell_width = max(size[0], LEAST_CELL_WIDTH)
    views = zip(captions, views_of(image, boxes, found, colors, size), strict=True)
    cells = [captioned(caption, drawn, cell_width, TEXT_SIZE) for caption, drawn in views]
    texts = {name: f"{name} {score:.2f}" for name, score in (scores or {}).items()}
    shown_classes = {*boxes.classes[~boxes.is_crowd].tolist(), *found.classes[found.scores >= SHOWN_SCORE].tolist()}
    crowds = [CROWD] if boxes.is_crowd.any() else []
    chips = [*class_chips(shown_classes, names, colors, texts), *crowds, MISSED, FALSE]
    width = max(LEAST_WIDTH, num_columns * cell_width + (num_columns - 1) * GAP)
    return _with_title(title, cells, num_columns, legend(chips, width, TEXT_SIZE))


def draw_sheet(
    samples: Sequence[tuple[np.ndarray, Boxes]],
    captions: Sequence[str],
    names: Sequence[str],
    colors: Sequence[Color],
    title: str = "",
    num_columns: int = 4,
) -> np.ndarray:
    """Returns a contact sheet of samples with their boxes, a line under each."""
    num_columns = min(num_columns, max(len(samples), 1))
    cell_width = min((WIDTH - (num_columns - 1) * GAP) // num_columns, WIDTH // 3)
    cells = []
    for (image, boxes), caption in zip(samples, captions, strict=True):
        size = fit(image.shape[1], image.shape[0], cell_width, MOST_SAMPLE_HEIGHT)
        own = boxes._replace(xyxy=scaled(boxes.xyxy, image.shape[:2], size[::-1]))
        drawn = draw_label(resize(image, *size), own, colors)
        cells.append(arrange([[drawn], [text_line(caption, CAPTION_SIZE, cell_width, MUTED)]], gap=4))
    present = {int(index) for _, boxes in samples for index in boxes.classes}
    return _with_title(title, cells, num_columns, legend(class_chips(present, names, colors, {}), WIDTH, CAPTION_SIZE))


def class_chips(
    present: Iterable[int], names: Sequence[str], colors: Sequence[Color], texts: Mapping[str, str]
) -> list[Chip]:
    """Returns the legend of some classes; `texts`: by class, what stands instead of its name."""
    return [Chip(colors[index], texts.get(names[index], names[index])) for index in sorted(present)]


def _count(number: int) -> str:
    return f"{number} box{'' if number == 1 else 'es'}"


def _with_title(title: str, cells: Sequence[np.ndarray], num_columns: int, below: np.ndarray) -> np.ndarray:
    """Returns images in rows, a title above them and a legend below."""
    rows = [cells[start : start + num_columns] for start in range(0, len(cells), num_columns)]
    above = [[text_line(title, TITLE_SIZE, below.shape[1], bold=True)]] if title else []
    return arrange([*above, *rows, [below]], margin=MARGIN)
