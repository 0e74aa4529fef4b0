"""The tile store of a run, its datasets, and the plots that show what training sees."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from pipeline.data.build_store import build_store
from pipeline.data.competition import find_folder
from pipeline.data.contact_sheet import sheet_of
from pipeline.data.image_source import PLAIN, black_of
from pipeline.data.order import distinct_frames
from pipeline.data.padding import ANY_SIZE, refuse_other_sizes
from pipeline.data.remote_store import remote_of
from pipeline.data.store import open_store
from pipeline.data.stored_images import StoredImages, StoredLabels
from pipeline.data.tiles import Scale, scales_of
from pipeline.data.whole_images import WholeImages
from pipeline.engine.run import Run
from pipeline.paths import IMAGES, SAMPLES_PLOT
from pipeline.report.figure import write_image
from pipeline.report.read import read_json
from pipeline.report.tile_plots import draw_tile_grids
from pipeline.segmentation.mask_source import masks_of
from pipeline.segmentation.mixing import Blended
from pipeline.segmentation.networks import frame_sizes
from pipeline.segmentation.panels import draw_sheet
from pipeline.segmentation.planes import most_of
from pipeline.segmentation.pseudo_samples import PSEUDO_SEED, PseudoDataset
from pipeline.segmentation.samples import whole_images
from pipeline.segmentation.train_samples import TrainDataset
from pipeline.training.inputs import (
    image_facts,
    images_of,
    pseudo_rows,
    pseudo_tile_store,
    seed_of,
    split_rows,
    tile_store,
    valid_store,
)

NUM_SHEET_SAMPLES = 12


def build_tile_store(run: Run, rows: pd.DataFrame, is_whole: bool = False) -> Path:
    """Returns the folder of the store with images and masks of catalog rows, built unless it is there.

    Args:
        is_whole: the images have their own size, whatever the tiles.
    """
    settings = run.loaded.config.datasets.augmentation.tile
    folder = find_folder(run.loaded.competition, run.folders.data, run.loaded.config.datasets.directory)
    if not settings.enable:  # whole images: known now, before they are written
        sizes = frame_sizes(run.loaded)
        refuse_other_sizes(sizes, {sizes.padded(*size) for size in zip(rows["height"], rows["width"], strict=True)})
    return build_store(
        images_of(run, folder),
        rows,
        None if is_whole else tile_scales(run),
        run.folders.tiles,
        masks_of(run, folder),
        run.log,
        remote_of(run.folders),
    )


def tile_scales(run: Run) -> tuple[Scale, ...] | None:
    """Returns the scales of a run's tile stores; None: every image has its own size."""
    settings = run.loaded.config.datasets.augmentation.tile
    return scales_of(settings.sets) if settings.enable else None


def train_data(run: Run, fits_network: bool = True) -> TrainDataset | PseudoDataset:
    """Returns the training samples of a run, from its tile store.

    Args:
        fits_network: whether they have frames that the network takes; otherwise frames that most networks take.

    Raises:
        UserError: the network takes no samples of their size.
    """
    datasets, classes = run.loaded.config.datasets, run.loaded.competition.class_names
    ids = split_rows(run.paths, "train")["id"].tolist()
    facts = read_json(run.paths / IMAGES) or PLAIN
    store, colors = open_store(tile_store(run)), (black_of(facts), facts["high"])
    sizes = frame_sizes(run.loaded) if fits_network else ANY_SIZE
    settings = (datasets.augmentation, seed_of(run.loaded), classes, datasets.padding)
    dataset = TrainDataset(store, ids, *settings, *colors, sizes)
    if run.loaded.has_pseudo_labels:
        settings = (datasets.augmentation, seed_of(run.loaded) + PSEUDO_SEED, classes, datasets.padding)
        pseudo_ids = pseudo_rows(run.paths)["id"].tolist()
        pseudo = TrainDataset(open_store(pseudo_tile_store(run)), pseudo_ids, *settings, *colors, sizes)
        dataset = PseudoDataset(dataset, pseudo)
    frames = distinct_frames(dataset.frames())
    refuse_other_sizes(sizes, frames)
    if sizes.smallest and min(map(min, frames)) == sizes.smallest:
        at = f" at DATASETS.INPUT_SCALE {datasets.input_scale:g}" if datasets.input_scale != 1 else ""
        run.log(
            f"samples below {sizes.smallest}x{sizes.smallest} pixels are padded to that, the smallest that "
            f"{run.loaded.config.model.name} takes{at}"
        )
    return dataset


def valid_data(run: Run, folder: Path | None, rows: pd.DataFrame) -> WholeImages:
    """Returns whole padded images of catalog rows, with masks where the rows have them.

    Args:
        folder: of the competition; None: they are in the store of validation images.
    """
    if folder is None:
        store = open_store(valid_store(run))
        images, masks = StoredImages(run.loaded.competition, store, rows, image_facts(run)), StoredLabels(store)
    else:
        images, masks = images_of(run, folder), masks_of(run, folder)
    return whole_images(rows, images, masks, run.loaded.config.datasets.padding, frame_sizes(run.loaded))


def draw_samples(run: Run, dataset: TrainDataset | PseudoDataset) -> None:
    """Draws augmented samples of the first epoch, evenly spread, and the tiles of each set on one image.

    Below the samples comes one of each of the further options that are on, as if it alone were, always.
    """
    augmentation, competition = run.loaded.config.datasets.augmentation, run.loaded.competition
    facts = read_json(run.paths / IMAGES) or PLAIN
    sheet = sheet_of(dataset, facts, NUM_SHEET_SAMPLES)
    # Of blended images the mask that weighs more is shown.
    samples = [(image, mask.first if isinstance(mask, Blended) else mask) for image, mask in sheet.samples]
    if not competition.is_multilabel:  # soft labels are shown by their largest share
        samples = [(image, mask if mask.ndim == 2 else most_of(mask)) for image, mask in samples]
    words = (sheet.captions, competition.class_names, competition.colors, f"{sheet.title}, masks below")
    write_image(run.paths / SAMPLES_PLOT, draw_sheet(samples, *words))
    draw_tile_grids(run.paths, dataset.store, dataset.image_id(0), augmentation.tile, facts)
