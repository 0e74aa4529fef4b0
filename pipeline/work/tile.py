"""`tile`: cuts the scales into the shared tile store, and draws samples as training will see them."""

from __future__ import annotations

import json

from pipeline.config.competition import mask_code
from pipeline.data.catalog import read_catalog
from pipeline.data.dataset import TrainDataset, sample_sheet
from pipeline.data.split import read_split
from pipeline.data.store import Store, build_store, open_store
from pipeline.data.tiles import NOTICED, SETS_KEY, distortion, scales_of
from pipeline.engine.run import Run
from pipeline.files import write_atomic
from pipeline.paths import SAMPLES_PLOT, SPLIT, TILE_PLOTS, TILES, TRAIN_CATALOG
from pipeline.report.figure import write_image
from pipeline.report.sheets import draw_sheet, draw_tile_grid
from pipeline.training.inputs import seed_of, split_rows
from pipeline.work.inputs import competition_folder

NUM_SHEET_SAMPLES = 12


def tile(run: Run) -> None:
    """Builds the tile store unless another run has, and writes the plots of it."""
    competition, datasets = run.loaded.competition, run.loaded.config.datasets
    settings = datasets.augmentation.tile
    catalog, split = read_catalog(run.paths / TRAIN_CATALOG), read_split(run.paths / SPLIT)
    rows = catalog[catalog["id"].isin(split["id"])]
    scales = scales_of(settings.sets) if settings.enable else None
    path = build_store(competition_folder(run), rows, scales, run.folders.tiles, mask_code(competition), run.log)
    train_rows = split_rows(run.paths, "train")
    sizes = list(zip(train_rows["width"], train_rows["height"], strict=True))
    if settings.enable and (found := distortion(sizes, settings.sets)):
        run.log(f"note: of {SETS_KEY}, {found} (by more than {100 * (NOTICED - 1):.0f} %)")
    store, train_ids = open_store(path), train_rows["id"].tolist()
    dataset = TrainDataset(
        store, train_ids, datasets.augmentation, seed_of(run.loaded), competition.class_names, datasets.padding
    )
    _draw_samples(run, dataset)
    _draw_tile_grids(run, store, train_ids[0])
    facts = {"store": path.name, "samples_per_epoch": len(dataset), "images": len(rows)}
    write_atomic(run.paths / TILES, json.dumps(facts, indent=1))


def _draw_samples(run: Run, dataset: TrainDataset) -> None:
    """Draws a few augmented samples of the first epoch, evenly spread over the dataset."""
    augmentation, competition = run.loaded.config.datasets.augmentation, run.loaded.competition
    step = max(1, len(dataset) // NUM_SHEET_SAMPLES)
    indices = list(range(0, len(dataset), step))[:NUM_SHEET_SAMPLES]
    captions = [dataset.places[index].image_id for index in indices]
    kinds = (augmentation.horizontal_flip, augmentation.shift_scale_rotate, augmentation.copy_paste)
    kinds += (augmentation.color, augmentation.gaussian_noise)
    what = "augmented samples" if any(kind.enable for kind in kinds) else "samples"
    title = f"Training input: {what} of the first epoch, masks below"
    sheet = draw_sheet(sample_sheet(dataset, 1, indices), captions, competition.class_names, competition.colors, title)
    write_image(run.paths / SAMPLES_PLOT, sheet)


def _draw_tile_grids(run: Run, store: Store, image_id: str) -> None:
    """Draws where the tiles of each set are on one image."""
    settings = run.loaded.config.datasets.augmentation.tile
    for number, tile_set in enumerate(settings.sets if settings.enable else (), start=1):
        grid = draw_tile_grid(store.image(image_id, tile_set[:2]), tile_set, settings.width, settings.height)
        write_image(run.paths / TILE_PLOTS.replace("*", str(number)), grid)
