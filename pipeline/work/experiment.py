"""What each stage does: reads files, calls one or two folders, writes files. The table of stages is in `stages.py`.

Heavy packages are imported inside the functions, so that a stage which is skipped costs nothing.
"""

from __future__ import annotations

import contextlib
import csv
import json
from pathlib import Path

from tqdm import tqdm

from pipeline.chain import Run
from pipeline.config.competition import any_file, mask_code
from pipeline.config.load import config_path, load, names, run_name
from pipeline.errors import Stopped, UserError
from pipeline.files import atomic_path, sha256_file, write_atomic
from pipeline.paths import PROJECT, RunPaths, runs_folder, scratch_folder, shown
from pipeline.work.outcome import fitted_decoding, truth_masks, write_checked_submission, write_outcome

DEMO_FOLDER = PROJECT / "data" / "demo"
NUM_SHEET_SAMPLES = 12


def competition_folder(run: Run) -> Path:
    """Returns the folder of the run's competition; the demo competition is drawn when it is not there yet."""
    from pipeline.data.competition import find_folder

    if run.loaded.competition.name == "demo" and run.loaded.config.datasets.directory is None:
        from pipeline.data.demo import generate

        generate(DEMO_FOLDER)
        return DEMO_FOLDER
    return find_folder(run.loaded.competition, run.loaded.config.datasets.directory)


def competition_files(run: Run) -> list[Path]:
    """Returns every file of the competition folder that a result depends on."""
    folder, competition = competition_folder(run), run.loaded.competition
    templates = (competition.images, competition.test_images, competition.masks)
    parents = sorted({path.parent for template in templates if template for path in folder.glob(any_file(template))})
    tables = [competition.train_csv, competition.test_csv, competition.sample_submission]
    files = [folder / name for name in tables if name and (folder / name).is_file()]
    return files + sorted(path for parent in parents for path in parent.iterdir() if path.is_file())


def images_of(run: Run, subset: str) -> dict[str, Path | list[Path]]:
    """Returns the `train` (public) or `test` images and masks of the run's catalog, by a name for messages."""
    path = run.paths / "catalog.csv"
    if not path.is_file():
        return {}
    folder = competition_folder(run)
    with open(path, newline="") as file:
        rows = [row for row in csv.DictReader(file) if row.get("subset") == subset]
    files = [folder / row[column] for row in rows for column in ("image", "mask") if row[column]]
    return {"the public images" if subset == "train" else "the test images": files}


def sample_submission(run: Run) -> dict[str, Path | list[Path]]:
    """Returns the sample that a submission is held against, where the competition has one."""
    name = run.loaded.competition.sample_submission
    return {"the sample submission": competition_folder(run) / name} if name else {}


def find_run(name: str) -> Path:
    """Returns the best checkpoint that EXPERIMENT.LOAD_PREV means: a run, a config, a run name for people, or a file.

    Raises:
        UserError: nothing has that name.
    """
    if name.endswith(".ckpt"):
        return Path(name)
    if (runs_folder() / name).is_dir():
        return RunPaths(name) / "best.ckpt"
    known = _configs_by_run_name()
    if name not in known:
        try:
            config_path(name)  # refuses with the nearest names
        except UserError as error:
            raise UserError(f"EXPERIMENT.LOAD_PREV: no run has this name, and {error}") from None
    return RunPaths(known.get(name, name)) / "best.ckpt"


def _configs_by_run_name() -> dict[str, str]:
    """Returns the configs by the names that people see; one that is broken has none, and is told when it is run."""
    known = {}
    for config in names():
        if not config.startswith("Ens"):
            with contextlib.suppress(UserError):
                known[run_name(load(config).config)] = config
    return known


def prepare(run: Run) -> None:
    """Checks every image and mask, then writes catalog, class statistics, split, leakage and histograms."""
    from pipeline.data.catalog import build_catalog, find_notices
    from pipeline.data.leakage import near_duplicates
    from pipeline.data.problems import format_problems
    from pipeline.data.split import make_split
    from pipeline.data.statistics import class_table
    from pipeline.report.classes import write_class_histograms

    competition, datasets = run.loaded.competition, run.loaded.config.datasets
    folder = competition_folder(run)
    catalog, problems = build_catalog(competition, folder)
    if problems:
        raise UserError(f"{shown(folder)} cannot be used as it is:\n{format_problems(problems)}")
    for notice in find_notices(competition, folder, catalog):
        tqdm.write(f"note: {notice}")
    split = make_split(catalog, datasets.split.by, datasets.split_index)
    leaks = near_duplicates(folder, catalog, split)
    tables = {"catalog.csv": catalog, "split.csv": split, "leakage.csv": leaks}
    tables["classes.csv"] = class_table(catalog, split, competition)
    for name, table in tables.items():
        with atomic_path(run.paths / name) as path:
            table.to_csv(path, index=False)
    write_class_histograms(run.paths / "classes.csv", run.paths.plots)
    counts, num_test = split["subset"].value_counts(), (catalog["subset"] == "test").sum()
    tqdm.write(f"{counts['train']} images train, {counts['valid']} validate, {num_test} are to be predicted")
    num_leaky = leaks["valid_id"].nunique()
    if num_leaky:
        has_sequences = catalog.loc[catalog["subset"] == "train", "sequence"].nunique() > 1
        cure = (
            "DATASETS.SPLIT.BY=sequence keeps videos together"
            if has_sequences
            else "SEQUENCE_COLUMN or SEQUENCE_PATTERN in the competition's file would tell which belong together"
        )
        tqdm.write(
            f"leakage: {num_leaky} of {counts['valid']} validation images have a near-duplicate among the training "
            f"ones, so the score will flatter; {cure}"
        )


def tile(run: Run) -> None:
    """Cuts the scales into the shared tile store and draws what training will see."""
    import pandas as pd

    from pipeline.data.catalog import read_catalog
    from pipeline.data.dataset import TrainDataset, sample_sheet
    from pipeline.data.store import build_store, open_store
    from pipeline.data.tiles import NOTICED, SETS_KEY, distortion, scales_of
    from pipeline.report.canvas import draw_tile_grid
    from pipeline.report.figure import write_image
    from pipeline.report.panels import draw_sheet
    from pipeline.training.inputs import seed_of, split_rows

    competition, datasets = run.loaded.competition, run.loaded.config.datasets
    settings = datasets.augmentation.tile
    catalog = read_catalog(run.paths / "catalog.csv")
    split = pd.read_csv(run.paths / "split.csv", dtype=str)
    scales = scales_of(settings.sets) if settings.enable else None
    rows = catalog[catalog["id"].isin(split["id"])]
    folder = competition_folder(run)
    path = build_store(folder, rows, scales, scratch_folder() / "tiles", mask_code(competition), say=tqdm.write)
    store = open_store(path)
    train_ids = split_rows(run.paths, "train")["id"].tolist()
    of_train = rows[rows["id"].isin(train_ids)]
    sizes = list(zip(of_train["width"], of_train["height"], strict=True))
    if settings.enable and (told := distortion(sizes, settings.sets)):
        tqdm.write(f"note: of {SETS_KEY}, {told} (by more than {100 * (NOTICED - 1):.0f} %)")
    classes = competition.class_names
    dataset = TrainDataset(store, train_ids, datasets.augmentation, seed_of(run.loaded), classes, datasets.padding)
    step = max(1, len(dataset) // NUM_SHEET_SAMPLES)
    indices = list(range(0, len(dataset), step))[:NUM_SHEET_SAMPLES]
    captions = [dataset.places[index].image_id for index in indices]
    samples = sample_sheet(dataset, 1, indices)
    kinds = (datasets.augmentation.horizontal_flip, datasets.augmentation.shift_scale_rotate)
    kinds += (datasets.augmentation.copy_paste, datasets.augmentation.color, datasets.augmentation.gaussian_noise)
    what = "augmented samples" if any(kind.enable for kind in kinds) else "samples"
    title = f"What training sees: {what} of the first epoch, masks below"
    write_image(run.paths.plots / "samples.png", draw_sheet(samples, captions, classes, competition.colors, title))
    for number, tile_set in enumerate(settings.sets if settings.enable else (), start=1):
        image = store.image(train_ids[0], tile_set[:2])
        grid = draw_tile_grid(image, tile_set, settings.width, settings.height)
        write_image(run.paths.plots / f"tile_grid_{number}.png", grid)
    facts = {"store": path.name, "samples_per_epoch": len(dataset), "images": len(rows)}
    write_atomic(run.paths / "tiles.json", json.dumps(facts, indent=1))


def lacks_tiles(run: Run) -> bool:
    """Returns whether the tile store has gone from the scratch disk."""
    from pipeline.training.inputs import tile_store

    return not (tile_store(run.paths) / "index.json").is_file()


def check_start(run: Run) -> None:
    """Refuses a network that could not be built or filled with its first weights here."""
    competition_folder(run)  # missing data is the first thing to be told, before torch takes its time
    if (run.paths / "last.ckpt").exists():
        return  # what is continued needs no first weights, which may be out of reach by now
    from pipeline.training.assemble import start_learner

    start_learner(run.loaded, find_run)


def sweep(run: Run) -> None:
    """Tries learning rates and writes the curve with its suggestions."""
    from pipeline.report.read import read_columns, read_json
    from pipeline.report.sweep import draw_sweep
    from pipeline.training.lr_sweep import sweep_learning_rates

    sweep_learning_rates(run.loaded, run.paths, run.stop, find_run, tqdm.write)
    found = read_json(run.paths / "lr_sweep.json")
    write_atomic(
        run.paths / "lr_sweep.png", draw_sweep(read_columns(run.paths / "lr_sweep.csv"), found, found["max_lr"])
    )


def train(run: Run) -> None:
    """Carries out the training plan, from wherever an earlier process left it."""
    from pipeline.training.assemble import assemble
    from pipeline.training.trainer import train as carry_out

    training = assemble(run.loaded, run.paths, run.stop, run.key, find_run, tqdm.write)
    with run.stop.deferred():
        carry_out(training)


def evaluate(run: Run) -> None:
    """Predicts the validation images into their store and scores them; draws best, median and worst."""
    import torch

    from pipeline.inference.evaluate import confusion_of
    from pipeline.inference.predict import decode
    from pipeline.training.inputs import split_rows

    num_classes, folder = run.loaded.competition.num_classes, competition_folder(run)
    rows, split = split_rows(run.paths, "valid"), run.loaded.config.datasets
    store, checkpoint = _predict(run, rows, "valid")

    def mask_of(image_id: str):
        return decode(store[image_id])

    pairs = zip(rows["id"], truth_masks(run, folder, rows), strict=True)
    bar = tqdm(pairs, total=len(rows), desc="score", leave=False, disable=None)
    confusion_PCC = torch.stack([confusion_of(mask_of(image_id), truth, num_classes) for image_id, truth in bar])
    facts = {"split": {"by": split.split.by, "index": split.split_index}, "checkpoint": checkpoint}
    write_outcome(run, folder, rows, confusion_PCC, facts, mask_of)


def predict(run: Run) -> None:
    """Writes the probabilities of the test images."""
    from pipeline.data.catalog import read_catalog

    catalog = read_catalog(run.paths / "catalog.csv")
    _predict(run, catalog[catalog["subset"] == "test"], "test")


def submit(run: Run) -> None:
    """Decodes the test probabilities, writes the submission and checks what was written."""
    from pipeline.inference.decoding import decode_with_rules
    from pipeline.inference.ensemble import Recipe
    from pipeline.inference.offsets import with_factors
    from pipeline.inference.predict import decode
    from pipeline.inference.probability_store import ProbabilityStore
    from pipeline.training.inputs import split_rows

    folder, recipe = competition_folder(run), Recipe("AP")
    store, valid = (ProbabilityStore(run.paths.probs(subset)) for subset in ("test", "valid"))

    def make_valid(name: str, make):
        return lambda image_id: make(image_id, [valid.view(image_id)])

    decoding = fitted_decoding(run, folder, split_rows(run.paths, "valid"), lambda image_id: recipe, make_valid)
    if decoding.factors is not None:
        recipe = with_factors(recipe, decoding.factors, 1)
    is_plain = decoding.factors is None and not decoding.rules

    def mask_of(image_id: str):
        prediction = store[image_id]
        return decode(prediction) if is_plain else decode_with_rules([prediction], recipe, decoding.rules)

    write_checked_submission(run, folder, mask_of, decoding)


def report(run: Run) -> None:
    """Draws the curves and writes the one page that tells everything."""
    from pipeline.report.page import write_page

    path = write_page(run.paths.folder, run.loaded)
    tqdm.write(f"report: {shown(path)}")


def _predict(run: Run, rows, subset: str):
    """Predicts the images of `rows` into the run's store; returns the store and what is known of the checkpoint."""
    from pipeline.data.dataset import ValidDataset
    from pipeline.data.loaders import valid_batches, valid_loader
    from pipeline.inference.load import load_predictor
    from pipeline.inference.predict import predict_batches, stored_bytes
    from pipeline.inference.probability_store import ProbabilityStore, StoreWriter
    from pipeline.training.checkpoint import load_or_refuse

    config, competition = run.loaded.config, run.loaded.competition
    best = run.paths / "best.ckpt"
    content = load_or_refuse(best, f"train it: ./run.sh {run.paths.name} train")
    checkpoint = {
        "epoch": content["state"]["best_epoch"],
        "valid_loss": content["state"]["history"][-1]["valid_loss"],  # `best` may be of the Dice
        "sha256": sha256_file(best),
    }
    facts = {"classes": list(competition.class_names), "competition": competition.name}
    writer = StoreWriter(run.paths.probs(subset), run.key, rows["id"].tolist(), facts, say=tqdm.write)
    missing = set(writer.missing())
    if missing:
        predictor = load_predictor(run.loaded, content, best)
        dataset = ValidDataset(
            competition_folder(run), rows[rows["id"].isin(missing)], mask_code(competition), config.datasets.padding
        )
        writer.expect(*stored_bytes(predictor, map(dataset.frame, range(len(dataset)))))
        options = config.dataloaders.valid
        pins = options.pin_memory and predictor.device.type == "cuda"
        loader = valid_loader(dataset, options.batch_size, options.num_workers, pins, say=tqdm.write)
        with tqdm(total=len(missing), desc=f"predict {subset}", unit="image", leave=False, disable=None) as bar:
            for image_id, prediction in predict_batches(predictor, valid_batches(loader)):
                writer.put(image_id, prediction)
                bar.update()
                if run.stop.requested:  # the time budget; whole shards are kept
                    raise Stopped(f"{run.stop.reason}, {bar.n} of {len(missing)} images predicted")
    writer.finish()
    return ProbabilityStore(run.paths.probs(subset)), checkpoint
