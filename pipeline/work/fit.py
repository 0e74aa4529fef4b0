"""`fit`: fits the decoding on out-of-fold images. Without a fitted DECODE there is no such stage."""

from __future__ import annotations

import json
from collections.abc import Callable

from pipeline.engine.run import Run
from pipeline.files import write_atomic
from pipeline.paths import DECODE
from pipeline.prediction.load import open_predictions
from pipeline.task import Arrays, Make
from pipeline.training.inputs import split_rows
from pipeline.work.inputs import competition_folder


def fit(run: Run) -> None:
    """Writes `decode.json`."""
    store, rows = open_predictions(run, "valid"), split_rows(run.paths, "valid")

    def make_each(name: str, make: Make) -> Callable[[str], Arrays]:
        return lambda image_id: make(image_id, [store.view(image_id)])

    facts = run.task.fit_decoding(run, competition_folder(run), rows, None, None, make_each)
    write_atomic(run.paths / DECODE, json.dumps(facts, indent=1))
