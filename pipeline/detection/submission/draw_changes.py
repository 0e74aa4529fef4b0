"""Two submissions of boxes side by side, on the images that differ most."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from pipeline.config.competition import Competition
from pipeline.detection.boxes import Detections
from pipeline.detection.submission.grid import resize_boxes
from pipeline.report.canvas import GAP, MARGIN, Chip, arrange, captioned, fit, legend, resize, text_line
from pipeline.report.figure import Color
from pipeline.submission.file import Sizes, submitted_sizes
from pipeline.submission.formats import format_of_file

WIDTH = 1048  # with margins as wide as a phone; on a larger screen it fits a page
MOST_HEIGHT = 520
TITLE_SIZE, NAME_SIZE, TEXT_SIZE = 34, 30, 26  # readable when a phone shows it at a third of its size
LEAST_SCORE = 0.05  # lower scores are not drawn: detectors return hundreds of such boxes, which would cover the image
LINE_PX = 3


def draw_changes(
    images: Sequence[tuple[str, np.ndarray]], sizes: Sizes, paths: tuple[Path, Path], competition: Competition
) -> np.ndarray:
    """Returns a drawing of the boxes that two submissions have of some images, uint8 (H, W, 3).

    The line width of a box grows with its score.

    Args:
        images: id and image, uint8 (H, W, 3).
        sizes: (height, width) of all images of the submissions.
    """
    shown, submitted = dict(images), submitted_sizes(competition, sizes)
    first, second = (
        {
            image_id: resize_boxes(found, sizes[image_id], submitted[image_id])
            for image_id, found in format_of_file(path, competition).read(path, competition, submitted)
            if image_id in shown
        }
        for path in paths
    )
    seen = {index for found in (*first.values(), *second.values()) for index in found.classes.tolist()}
    chips = [Chip(competition.colors[index], competition.classes[index]) for index in sorted(seen)]
    title = text_line(" against ".join(path.name for path in paths), TITLE_SIZE, WIDTH, bold=True)
    rows = [[title], [legend(chips, WIDTH, TEXT_SIZE)]]
    for image_id, image in images:
        size = fit(sizes[image_id][1], sizes[image_id][0], (WIDTH - GAP) // 2, MOST_HEIGHT)
        small = resize(image, *size)
        cells = [
            captioned(
                _caption(path, found[image_id]),
                draw_boxes(small, resize_boxes(found[image_id], size[::-1], sizes[image_id]), competition.colors),
                (WIDTH - GAP) // 2,
                TEXT_SIZE,
            )
            for path, found in zip(paths, (first, second), strict=True)
        ]
        rows += [[text_line(image_id, NAME_SIZE, WIDTH, bold=True)], [arrange([cells])]]
    return arrange([row for row in rows if len(row[0])], margin=MARGIN, gap=2 * GAP)


def _caption(path: Path, found: Detections) -> str:
    """Returns the name of a file, and how many boxes it has of an image, and how many of them are drawn."""
    num_boxes, num_drawn = len(found.scores), int((found.scores >= LEAST_SCORE).sum())
    few = "" if num_drawn == num_boxes else f", {num_drawn} drawn (score ≥ {LEAST_SCORE:g})"
    return f"{path.name}, boxes: {num_boxes}{few}"


def draw_boxes(image: np.ndarray, found: Detections, colors: Sequence[Color]) -> np.ndarray:
    """Returns an image (uint8, H, W, 3) with the boxes that score at least `LEAST_SCORE`, the highest score on top."""
    canvas = Image.fromarray(image)
    draw = ImageDraw.Draw(canvas)
    shown = found.keep(found.scores >= LEAST_SCORE)
    for xyxy, score, index in reversed(list(zip(*(part.tolist() for part in shown), strict=True))):
        left, top, right, bottom = xyxy
        box = (left, top, max(left, right - 1), max(top, bottom - 1))  # the pixel that is the last inside
        draw.rectangle(box, outline=tuple(colors[index]), width=max(1, round(LINE_PX * score)))
    return np.asarray(canvas)
