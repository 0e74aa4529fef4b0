"""`predict`: writes the predictions of the test images into their store; of an ensemble, lets its members do so."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd
from tqdm import tqdm

from pipeline.config.members import member_names
from pipeline.data.catalog import read_catalog, write_table
from pipeline.data.loaders import image_loader, valid_batches
from pipeline.engine.run import Run
from pipeline.errors import Stopped
from pipeline.files import sha256_file, write_json
from pipeline.paths import (
    CLASSES,
    IMAGES,
    LABELS,
    LEAKAGE,
    MEMBERS,
    PROBS,
    SPLIT,
    STORES,
    TEST_CATALOG,
    TRAIN_CATALOG,
)
from pipeline.prediction.store import PredictionStore, StoreWriter, open_predictions
from pipeline.report.read import read_json
from pipeline.task import Batch
from pipeline.training.assemble import load_predictor, predicting_content
from pipeline.training.checkpoint import num_parameters
from pipeline.training.inputs import predicting_checkpoint
from pipeline.work.combining import check_room, store_facts
from pipeline.work.inputs import has_limit, image_folder, large_ids, member_runs, sizes_of
from pipeline.work.members import (
    held_out_table,
    leaked_pairs,
    member_facts,
    members_by_image,
    predict_members,
    require_alike,
    require_trained,
)


def predict(run: Run) -> None:
    """Predicts the images of the test catalog."""
    predict_into_store(run, read_catalog(run.paths / TEST_CATALOG), "test")


def predict_ensemble(run: Run) -> None:
    """Writes the members, and the images that each of them was not trained on.

    Raises:
        UserError: a member is not trained, or not as its config says now; with the commands to type.
    """
    members, is_streamed, is_limited = member_runs(run), run.loaded.config.ensemble.stream, has_limit(run)
    has_stores = not (is_streamed or is_limited)  # of test images
    require_trained(members)
    if has_stores:
        check_room(run)
    if not is_streamed:
        predict_members(members, is_limited)
    require_alike(members, has_stores)
    catalog, test = (read_catalog(members[0].paths / name) for name in (TRAIN_CATALOG, TEST_CATALOG))
    split = held_out_table(members, catalog)
    tables = {TRAIN_CATALOG: catalog, TEST_CATALOG: test, SPLIT: split}
    tables[LEAKAGE] = leaked_pairs(members, members_by_image(split))
    tables[CLASSES] = run.task.class_table(catalog, split, run.loaded.competition)
    for name, table in tables.items():
        write_table(run.paths / name, table)
    for name in (LABELS, IMAGES):
        write_json(run.paths / name, read_json(members[0].paths / name))
    stores = [store_facts(member) for member in members] if has_stores else []
    write_json(run.paths / STORES, stores)
    names = member_names([member.loaded for member in members])
    write_json(run.paths / MEMBERS, list(map(member_facts, members, names)))


def predict_into_store(run: Run, rows: pd.DataFrame, subset: str) -> tuple[PredictionStore, dict[str, Any]]:
    """Predicts images into the run's store; returns the store, and epoch, loss, hash and size of the checkpoint.

    Args:
        rows: of the catalog.
        subset: "valid" or "test".

    Raises:
        Stopped: the time budget is used up; whole shards are kept.
    """
    task, config, competition = run.task, run.loaded.config, run.loaded.competition
    content = predicting_content(run)
    checkpoint = {
        "epoch": content["state"]["best_epoch"],
        "valid_loss": content["state"]["history"][-1]["valid_loss"],  # the monitor may be a score
        "sha256": sha256_file(predicting_checkpoint(run)),
        "parameters": num_parameters(content["network"]),
    }
    if "averaged" in content:
        checkpoint |= {"epoch": None, "valid_loss": None, "weights": content["averaged"]}
    facts = {"classes": list(competition.class_names), "competition": competition.name}
    folder = run.paths / PROBS[subset]
    alone = large_ids(rows, competition.image.whole_px)
    writer = StoreWriter(folder, run.key, rows["id"].tolist(), facts, task.pack, log=run.log, alone=alone)
    missing = set(writer.missing())
    if missing:
        predictor = load_predictor(run, content)
        chosen = rows[rows["id"].isin(missing)]
        dataset = task.valid_data(run, image_folder(run, subset), chosen.drop(columns="mask", errors="ignore"))
        writer.expect(*task.stored_bytes(predictor, sizes_of(chosen)))
        options = config.dataloaders.valid
        pins = options.pin_memory and predictor.device.type == "cuda"
        loader = image_loader(dataset, options.batch_size, task.collate_valid, options.num_workers, pins, log=run.log)
        with tqdm(total=len(missing), desc=f"predict {subset}", unit="image", leave=False, disable=None) as bar:
            for image_id, prediction in task.predict(predictor, windows_until_stopped(run, valid_batches(loader))):
                writer.put(image_id, prediction)
                bar.update()
                if run.stop.requested:
                    raise Stopped(f"{run.stop.reason}, {bar.n} of {len(missing)} images predicted")
    writer.finish()
    return open_predictions(run, subset), checkpoint


def windows_until_stopped(run: Run, batches: Iterator[Batch]) -> Iterator[Batch]:
    """Yields all batches; a stop is heard between the windows of a large image, which takes minutes."""
    for batch in batches:
        if batch.windows_of is not None and run.stop.requested:
            raise Stopped(f"{run.stop.reason}, in the middle of {batch.windows_of}, which the next run predicts again")
        yield batch
