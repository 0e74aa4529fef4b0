"""Every validation image for the page, small: image, label, detections, errors. See `report/gallery_files.py`."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.detection.box_source import boxes_of
from pipeline.detection.geometry import scaled
from pipeline.detection.panels import views_of, wrong_share
from pipeline.engine.run import Run
from pipeline.report.canvas import fit
from pipeline.report.gallery_files import Drawn, write_gallery
from pipeline.task import Evaluation
from pipeline.training.inputs import images_of


def draw_gallery(run: Run, folder: Path, rows: pd.DataFrame, evaluation: Evaluation) -> None:
    """Draws the validation images, in place of earlier ones."""
    colors, images, labels = run.loaded.competition.colors, images_of(run, folder), boxes_of(run, folder)

    def draw(row: Any, side: int) -> Drawn:
        image, boxes, found = images.shown(row.image), labels.read(row), evaluation.decoded(row.id)
        share, own = wrong_share(boxes, found), (int(row.height), int(row.width))
        boxes, found = (one._replace(xyxy=scaled(one.xyxy, own, image.shape[:2])) for one in (boxes, found))
        height, width = image.shape[:2]
        size = min((width, height), fit(width, height, side, side))
        return Drawn(np.concatenate(views_of(image, boxes, found, colors, size)), image, share)

    write_gallery(run, rows, draw)
