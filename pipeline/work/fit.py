"""`fit`: fits the decoding on out-of-fold images. Without a fitted DECODE there is no such stage."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

from pipeline.engine.run import Run
from pipeline.files import write_atomic
from pipeline.paths import DECODE, ENSEMBLE
from pipeline.prediction.load import open_predictions
from pipeline.report.read import read_json
from pipeline.task import Arrays, Make
from pipeline.training.inputs import split_rows
from pipeline.work.combining import forget_streamed, make_each
from pipeline.work.inputs import competition_folder
from pipeline.work.members import held_out_rows


def fit(run: Run) -> None:
    """Writes `decode.json`."""
    store, rows = open_predictions(run, "valid"), split_rows(run.paths, "valid")

    def of_store(name: str, make: Make) -> Callable[[str], Arrays]:
        return lambda image_id: make(image_id, [store.view(image_id)])

    facts = run.task.fit_decoding(run, competition_folder(run), rows, None, None, of_store)
    write_atomic(run.paths / DECODE, json.dumps(facts, indent=1))


def fit_ensemble(run: Run) -> None:
    """Writes `decode.json`."""
    found, (rows, held_out) = read_json(run.paths / ENSEMBLE), held_out_rows(run)
    each = partial(make_each, run, "valid", held_out)
    facts = run.task.fit_decoding(run, competition_folder(run), rows, held_out, found, each)
    write_atomic(run.paths / DECODE, json.dumps(facts, indent=1))
    forget_streamed(run)
