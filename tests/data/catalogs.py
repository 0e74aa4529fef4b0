"""Catalogs and labels of a competition's folder, as the stages make them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from pipeline.config.competition import Competition
from pipeline.config.load import load_competition
from pipeline.data.catalog import build_train_catalog, find_notices
from pipeline.data.image_source import ImageSource
from pipeline.data.problems import Problem
from pipeline.files import sha256_file
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.task import SEGMENTATION


def train_catalog(competition: Competition, folder: Path) -> tuple[pd.DataFrame, list[Problem]]:
    """Returns the catalog of the training images, and everything that is wrong."""
    labels = SEGMENTATION.open_labels(competition, folder, SEGMENTATION.find_labels(competition, folder))
    return build_train_catalog(competition, folder, SEGMENTATION, labels)


def notices(competition: Competition, folder: Path) -> list[str]:
    """Returns what is unusual in a folder without mistakes."""
    labels = SEGMENTATION.open_labels(competition, folder, SEGMENTATION.find_labels(competition, folder))
    catalog, problems = build_train_catalog(competition, folder, SEGMENTATION, labels)
    assert problems == []
    return find_notices(competition, folder, catalog, SEGMENTATION, labels)


def plain_images(folder: Path) -> ImageSource:
    """Returns the ordinary 8-bit images in colour below a folder."""
    return ImageSource(load_competition("demo"), Path(folder))


class IndexMasks:
    """The masks of catalog rows, files of class indices below a folder."""

    planes = None

    def __init__(self, folder: Path):
        self.folder = folder

    def read(self, row: Any) -> np.ndarray:
        return read_mask(self.folder / row.mask)

    def content(self, row: Any) -> str:
        return sha256_file(self.folder / row.mask)
