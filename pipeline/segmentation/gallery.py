"""Every validation image for the page, small, and the suspicious regions: image, mask, prediction, errors.

In: images, true and decoded masks. Out: `gallery/<number>.webp`, the four views below one another, with a thumbnail
each and a table; `suspicious/<rank>.webp`, image, mask and prediction side by side. Two files per image: a Kaggle
notebook keeps some 500, so that there the images with most wrong pixels alone are drawn.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from PIL import Image, ImageDraw

from pipeline.config.competition import IGNORE, Competition
from pipeline.engine.run import Run
from pipeline.files import write_atomic
from pipeline.paths import CROPS, SUSPICIOUS, crop_file
from pipeline.report.canvas import GAP, arrange, fit, hatched, resize
from pipeline.report.gallery_files import Drawn, encoded, write_gallery
from pipeline.segmentation.mask_source import masks_of
from pipeline.segmentation.objects import like_first
from pipeline.segmentation.panels import BRIGHT, highlight, paint_outlined, resize_nearest, wrong_pixels
from pipeline.task import Evaluation
from pipeline.training.inputs import images_of

MOST_DRAWN = 8192  # pixels of a side; of a larger mask every second pixel is drawn, or fewer
MOST_CROPS = 30
CROP_SIDE = 300  # pixels of each of the three parts
AROUND, LEAST_AROUND = 0.6, 24  # of a region: a share of its sides and pixels of the image that are shown beside it


@dataclass(frozen=True)
class Views:
    """An image with its masks in one size, that of the masks or of every second pixel of theirs, or fewer.

    Attributes:
        image: uint8 RGB, of its own size, which may be another.
        step: of the pixels of the masks, every how many are kept.
        wrong_share: of the scored pixels, before any was left out.
    """

    image: np.ndarray
    mask: np.ndarray
    prediction: np.ndarray
    wrong: np.ndarray
    wrong_share: float
    step: int


def draw_gallery(run: Run, folder: Path, rows: pd.DataFrame, evaluation: Evaluation) -> None:
    """Draws the validation images and the first suspicious regions, in place of earlier ones."""
    competition, images, masks = run.loaded.competition, images_of(run, folder), masks_of(run, folder)
    shutil.rmtree(run.paths / CROPS, ignore_errors=True)
    (run.paths / CROPS).mkdir(exist_ok=True)
    regions = _regions_by_image(evaluation)

    def draw(row: Any, side: int) -> Drawn:
        views = views_of(images.shown(row.image), masks.read_scored(row), evaluation.decoded(row.id))
        for region in regions.get(row.id, ()):
            write_atomic(run.paths / crop_file(region.rank), encoded(draw_crop(views, region, competition)))
        return Drawn(draw_views(views, competition, side), views.image, views.wrong_share)

    write_gallery(run, rows, draw)


def views_of(image: np.ndarray, mask: np.ndarray, prediction: np.ndarray) -> Views:
    """Returns what is drawn of an image.

    Args:
        image: uint8 (H', W', 3), of a large image a thumbnail.
        mask: uint8 (H, W), an object map, or planes; `prediction` likewise.
    """
    prediction = prediction if mask.dtype == np.uint8 else like_first(mask, prediction)
    wrong, share = wrong_pixels(mask, prediction)
    step = 1 + max(mask.shape[:2]) // MOST_DRAWN
    return Views(image, *(array[::step, ::step] for array in (mask, prediction, wrong)), share, step)


def draw_views(views: Views, competition: Competition, most_side: int) -> np.ndarray:
    """Returns image, label, prediction and errors below one another, uint8 (4 H, W, 3), none larger than the mask."""
    height, width = views.mask.shape[:2]
    size = min((width, height), fit(width, height, most_side, most_side))
    image, wrong = resize(views.image, *size), resize(views.wrong.astype(np.uint8), *size) > 0
    mask, prediction = resize_nearest(views.mask, size), resize_nearest(views.prediction, size)
    ignored = mask == IGNORE if mask.ndim == 2 else (mask == IGNORE).all(-1)
    errors = np.where(ignored[..., None], hatched(*ignored.shape), highlight(image, wrong))
    painted = [paint_outlined(own, competition.colors, image) for own in (mask, prediction)]
    return np.concatenate([image, *painted, errors])


def draw_crop(views: Views, region: Any, competition: Competition) -> np.ndarray:
    """Returns a region with its surroundings as image, mask and prediction side by side; a frame is around it.

    Args:
        region: `top`, `left`, `height`, `width`, in pixels of the whole mask.
    """
    whole_height, whole_width = views.mask.shape[:2]
    box = [round(getattr(region, name) / views.step) for name in ("top", "left", "height", "width")]
    side = max(2 * LEAST_AROUND, round((1 + 2 * AROUND) * max(box[2:])))
    top, bottom = _span(box[0], box[2], side, whole_height)
    left, right = _span(box[1], box[3], side, whole_width)
    size = fit(right - left, bottom - top, CROP_SIDE, CROP_SIDE)
    scale_y, scale_x = len(views.image) / whole_height, views.image.shape[1] / whole_width
    rows = slice(int(top * scale_y), max(int(top * scale_y) + 1, round(bottom * scale_y)))
    columns = slice(int(left * scale_x), max(int(left * scale_x) + 1, round(right * scale_x)))
    image = resize(np.ascontiguousarray(views.image[rows, columns]), *size)
    masks = [np.ascontiguousarray(own[top:bottom, left:right]) for own in (views.mask, views.prediction)]
    parts = [image, *(paint_outlined(resize_nearest(own, size), competition.colors, image) for own in masks)]
    corners = np.array([[box[1] - left, box[0] - top], [box[1] + box[3] - left, box[0] + box[2] - top]])
    frame = (corners * size[0] / (right - left)).ravel().tolist()
    return arrange([[_framed(part, frame) for part in parts]], gap=GAP)


def _span(start: int, length: int, side: int, whole: int) -> tuple[int, int]:
    """Returns where a crop of `side` pixels begins and ends that has a span in its middle, as far as the image allows.

    >>> _span(40, 20, 60, 200), _span(0, 20, 60, 200), _span(40, 20, 60, 50)
    ((20, 80), (0, 60), (0, 50))
    """
    begin = min(max(0, start + length // 2 - side // 2), max(0, whole - side))
    return begin, min(begin + side, whole)


def _framed(image: np.ndarray, box: Sequence[float]) -> np.ndarray:
    """Returns an image with a rectangle (left, top, right, bottom) on it."""
    drawn = Image.fromarray(image)
    ImageDraw.Draw(drawn).rectangle(tuple(box), outline=BRIGHT, width=2)
    return np.asarray(drawn)


def _regions_by_image(evaluation: Evaluation) -> Mapping[str, list[Any]]:
    """Returns the regions that are drawn, by the id of their image."""
    table, regions = evaluation.notes.get(SUSPICIOUS), {}
    for region in () if table is None else table.head(MOST_CROPS).itertuples():
        regions.setdefault(region.id, []).append(region)
    return regions
