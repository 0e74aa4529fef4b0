"""The files of the page's gallery: every validation image, small, its four views below one another, and a thumbnail.

In: what a task draws of each image. Out: `gallery/<number>.webp`, a thumbnail of each, and a table. Two files per
image: a Kaggle notebook keeps some 500, so that there the images with most errors alone are kept.
"""

from __future__ import annotations

import io
import shutil
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from PIL import Image
from tqdm import tqdm

from pipeline.engine.run import Run
from pipeline.files import atomic_path, write_atomic
from pipeline.paths import GALLERY, GALLERY_LIST, gallery_file, is_on_kaggle
from pipeline.report.canvas import resize

MOST_SIDE, MANY_SIDE = 1024, 640  # pixels of a view; the latter where there are many images
MANY = 500  # images: with the larger side they take some 100 MB
THUMB_WIDTH, THUMB_HEIGHT = 320, 240  # twice their size on the page
QUALITY, METHOD = 80, 0  # of WebP: method 2 takes twice the time for a tenth fewer bytes
MOST_ON_KAGGLE = 150


class Drawn(NamedTuple):
    """What is kept of an image.

    Attributes:
        views: image, label, prediction and errors below one another, uint8 (4 H, W, 3).
        image: of which the middle is the thumbnail.
        wrong_share: how much of the image is wrong, 0 to 1.
    """

    views: np.ndarray
    image: np.ndarray
    wrong_share: float


def write_gallery(run: Run, rows: pd.DataFrame, draw: Callable[[Any, int], Drawn]) -> None:
    """Writes the gallery of catalog rows, in place of an earlier one.

    Args:
        draw: (row, most pixels of a side of a view) to what is kept of its image.
    """
    shutil.rmtree(run.paths / GALLERY, ignore_errors=True)
    (run.paths / GALLERY).mkdir(exist_ok=True)
    side, listed = MOST_SIDE if len(rows) <= MANY else MANY_SIDE, []
    for number, row in enumerate(tqdm(rows.itertuples(), total=len(rows), desc=GALLERY, leave=False, disable=None)):
        drawn = draw(row, side)
        write_atomic(run.paths / gallery_file(number), encoded(drawn.views))
        write_atomic(run.paths / gallery_file(number, is_thumb=True), encoded(draw_thumb(drawn.image)))
        listed.append((number, row.id, drawn.wrong_share, drawn.views.shape[1], len(drawn.views) // 4))
    table = pd.DataFrame(listed, columns=["number", "id", "wrong", "width", "height"])
    if is_on_kaggle(run.folders.runs) and len(table) > MOST_ON_KAGGLE:
        table = _without_the_best(run, table)
    with atomic_path(run.paths / GALLERY_LIST) as path:
        table.to_csv(path, index=False, float_format="%.5f")


def draw_thumb(image: np.ndarray) -> np.ndarray:
    """Returns the middle of an image, uint8 (THUMB_HEIGHT, THUMB_WIDTH, 3)."""
    height, width = image.shape[:2]
    scale = max(THUMB_WIDTH / width, THUMB_HEIGHT / height)
    own_width, own_height = min(width, round(THUMB_WIDTH / scale)), min(height, round(THUMB_HEIGHT / scale))
    top, left = (height - own_height) // 2, (width - own_width) // 2
    return resize(image[top : top + own_height, left : left + own_width], THUMB_WIDTH, THUMB_HEIGHT)


def encoded(image: np.ndarray) -> bytes:
    """Returns an image as a WebP file."""
    content = io.BytesIO()
    Image.fromarray(image).save(content, "WEBP", quality=QUALITY, method=METHOD)
    return content.getvalue()


def _without_the_best(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """Returns the images with most errors, and removes the files of the others."""
    kept = table.nlargest(MOST_ON_KAGGLE, "wrong").sort_index()
    for number in set(table["number"]) - set(kept["number"]):
        for is_thumb in (False, True):
            (run.paths / gallery_file(number, is_thumb)).unlink()
    run.log(f"gallery: the {len(kept)} worst of {len(table)} images, as Kaggle keeps some 500 files")
    return kept
