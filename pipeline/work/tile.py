"""`tile`: cuts the scales into the shared tile store, and draws samples as training will see them."""

from __future__ import annotations

from pipeline.data.catalog import read_catalog
from pipeline.data.split import read_split
from pipeline.data.tiles import NOTICED, distortion
from pipeline.engine.run import Run
from pipeline.files import check_writable, write_json
from pipeline.paths import SPLIT, TILES, TRAIN_CATALOG, VALID_STORE
from pipeline.training.inputs import pseudo_rows, split_rows
from pipeline.work.teacher import unlabelled_folder


def check_place(run: Run) -> None:
    """Refuses a folder of tile stores that cannot be written.

    Raises:
        UserError: names it.
    """
    check_writable(run.folders.tiles, "SCRATCH_DIR")


def tile(run: Run) -> None:
    """Builds the tile store unless another run has, and writes the plots of it.

    With STORES_URL the store is also uploaded, and a second one with the validation images at their own size, so that
    another machine can train without the competition's folder.
    """
    task, settings = run.task, run.loaded.config.datasets.augmentation.tile
    catalog, split = read_catalog(run.paths / TRAIN_CATALOG), read_split(run.paths / SPLIT)
    rows = catalog[catalog["id"].isin(split["id"])]
    path = task.build_store(run, rows)
    train_rows = split_rows(run.paths, "train")
    sizes = list(zip(train_rows["width"], train_rows["height"], strict=True))
    if settings.enable and (found := distortion(sizes, settings.sets)):
        by = f"by more than {100 * (NOTICED - 1):.0f} %"
        run.log(f"note: DATASETS.AUGMENTATION.TILE.SETS: {found} ({by})")
    facts = {"store": path.name, "images": len(rows)}
    if run.loaded.has_pseudo_labels:
        pseudo = pseudo_rows(run.paths)
        facts["pseudo_store"] = task.build_pseudo_store(run, unlabelled_folder(run), pseudo).name
        facts["pseudo_images"] = len(pseudo)
    write_json(run.paths / TILES, facts)
    if run.folders.stores is not None and len(valid_rows := split_rows(run.paths, "valid")):
        whole = task.build_store(run, valid_rows, is_whole=True) if settings.enable else path
        write_json(run.paths / VALID_STORE, {"store": whole.name})
    dataset = task.train_data(run, fits_network=False)  # opens the store that tiles.json names
    task.draw_samples(run, dataset)
    labelled = dataset.labelled if run.loaded.has_pseudo_labels else dataset
    write_json(run.paths / TILES, facts | {"samples_per_epoch": len(labelled)})
