"""The tile store of a run with boxes, its datasets, and the plots of training samples."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.data.build_store import build_store
from pipeline.data.competition import find_folder
from pipeline.data.contact_sheet import sheet_of
from pipeline.data.image_source import PLAIN, black_of
from pipeline.data.padding import ANY_SIZE
from pipeline.data.remote_store import remote_of
from pipeline.data.store import open_store
from pipeline.data.stored_images import StoredImages
from pipeline.data.tiles import scales_of
from pipeline.data.whole_images import WholeImages
from pipeline.detection.anchor_fit import check_anchors
from pipeline.detection.box_source import boxes_of
from pipeline.detection.panels import draw_sheet
from pipeline.detection.samples import StoredBoxes, whole_images
from pipeline.detection.train_samples import BoxDataset
from pipeline.engine.run import Run
from pipeline.paths import IMAGES, SAMPLES_PLOT
from pipeline.report.figure import write_image
from pipeline.report.read import read_json
from pipeline.report.tile_plots import draw_tile_grids
from pipeline.training.inputs import image_facts, images_of, seed_of, split_rows, tile_store, valid_store

NUM_SHEET_SAMPLES = 8


def build_tile_store(run: Run, rows: pd.DataFrame, is_whole: bool = False) -> Path:
    """Returns the folder of the store with images and boxes of catalog rows, built unless it is there.

    Args:
        is_whole: the images have their own size, whatever the tiles.
    """
    tile = run.loaded.config.datasets.augmentation.tile
    folder = find_folder(run.loaded.competition, run.folders.data, run.loaded.config.datasets.directory)
    scales = scales_of(tile.sets) if tile.enable and not is_whole else None
    images, boxes, remote = images_of(run, folder), boxes_of(run, folder), remote_of(run.folders)
    return build_store(images, rows, scales, run.folders.tiles, boxes, run.log, remote)


def train_data(run: Run, fits_network: bool = True) -> BoxDataset:
    """Returns the training samples of a run, from its tile store."""
    augmentation = run.loaded.config.datasets.augmentation
    ids = split_rows(run.paths, "train")["id"].tolist()
    facts = read_json(run.paths / IMAGES) or PLAIN
    settings = (augmentation, seed_of(run.loaded), run.loaded.competition.class_names, augmentation.tile.min_visible)
    return BoxDataset(open_store(tile_store(run)), ids, *settings, black_of(facts), facts["high"], ANY_SIZE)


def valid_data(run: Run, folder: Path | None, rows: pd.DataFrame) -> WholeImages:
    """Returns whole padded images of catalog rows, with boxes where the rows have them.

    Args:
        folder: of the competition; None: they are in the store of validation images.
    """
    competition = run.loaded.competition
    if folder is None:
        store = open_store(valid_store(run))
        images, boxes = StoredImages(competition, store, rows, image_facts(run)), StoredBoxes(store)
    else:
        images, boxes = images_of(run, folder), boxes_of(run, folder)
    return whole_images(rows, images, boxes, competition.num_classes, ANY_SIZE)


def draw_samples(run: Run, dataset: BoxDataset) -> None:
    """Draws augmented samples of the first epoch, the fit of the anchors, and the tiles of each set on one image.

    Below the samples is one for each further option that is on, with this option always applied and the others off.
    """
    augmentation, competition = run.loaded.config.datasets.augmentation, run.loaded.competition
    facts = read_json(run.paths / IMAGES) or PLAIN
    sheet = sheet_of(dataset, facts, NUM_SHEET_SAMPLES)
    words = (sheet.captions, competition.class_names, competition.colors, f"{sheet.title} with their boxes")
    write_image(run.paths / SAMPLES_PLOT, draw_sheet(sheet.samples, *words))
    check_anchors(run, dataset)
    draw_tile_grids(run.paths, dataset.store, dataset.image_id(0), augmentation.tile, facts)
