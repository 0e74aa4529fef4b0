"""`predict`: writes the predictions of the test images into their store."""

from __future__ import annotations

from typing import Any

import pandas as pd
from tqdm import tqdm

from pipeline.data.catalog import read_catalog
from pipeline.data.loaders import valid_batches, valid_loader
from pipeline.engine.run import Run
from pipeline.errors import Stopped
from pipeline.files import sha256_file
from pipeline.paths import BEST, PROBS, TEST_CATALOG
from pipeline.prediction.load import load_predictor, open_predictions
from pipeline.prediction.store import PredictionStore, StoreWriter
from pipeline.training.checkpoint import load_or_refuse
from pipeline.work.inputs import image_folder


def predict(run: Run) -> None:
    """Predicts the images of the test catalog."""
    predict_into_store(run, read_catalog(run.paths / TEST_CATALOG), "test")


def predict_into_store(run: Run, rows: pd.DataFrame, subset: str) -> tuple[PredictionStore, dict[str, Any]]:
    """Predicts images into the run's store; returns the store, and epoch, loss and hash of the checkpoint.

    Args:
        rows: of the catalog.
        subset: "valid" or "test".

    Raises:
        Stopped: the time budget is used up; whole shards are kept.
    """
    task, config, competition = run.task, run.loaded.config, run.loaded.competition
    best = run.paths / BEST
    content = load_or_refuse(best, f"train it: ./run.sh {run.name} train")
    checkpoint = {
        "epoch": content["state"]["best_epoch"],
        "valid_loss": content["state"]["history"][-1]["valid_loss"],  # the monitor may be a score
        "sha256": sha256_file(best),
    }
    facts = {"classes": list(competition.class_names), "competition": competition.name}
    folder = run.paths / PROBS[subset]
    writer = StoreWriter(folder, run.key, rows["id"].tolist(), facts, task.pack, log=run.log)
    missing = set(writer.missing())
    if missing:
        predictor = load_predictor(run, content, best)
        chosen = rows[rows["id"].isin(missing)]
        dataset = task.valid_data(run, image_folder(run, subset), chosen.drop(columns="mask", errors="ignore"))
        writer.expect(*task.stored_bytes(predictor, map(dataset.frame, range(len(dataset)))))
        options = config.dataloaders.valid
        pins = options.pin_memory and predictor.device.type == "cuda"
        loader = valid_loader(dataset, options.batch_size, task.collate_valid, options.num_workers, pins, log=run.log)
        with tqdm(total=len(missing), desc=f"predict {subset}", unit="image", leave=False, disable=None) as bar:
            for image_id, prediction in task.predict(predictor, valid_batches(loader)):
                writer.put(image_id, prediction)
                bar.update()
                if run.stop.requested:
                    raise Stopped(f"{run.stop.reason}, {bar.n} of {len(missing)} images predicted")
    writer.finish()
    return open_predictions(run, subset), checkpoint
