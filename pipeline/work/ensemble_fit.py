"""`fit` of an ensemble: fits the decoding on images that the members were not trained on."""

from __future__ import annotations

import json
from functools import partial

from pipeline.engine.run import Run
from pipeline.files import write_atomic
from pipeline.paths import DECODE, ENSEMBLE
from pipeline.report.read import read_json
from pipeline.work.combining import forget_streamed, make_each
from pipeline.work.inputs import competition_folder
from pipeline.work.members import held_out_rows


def fit(run: Run) -> None:
    """Writes `decode.json`."""
    found, (rows, held_out) = read_json(run.paths / ENSEMBLE), held_out_rows(run)
    each = partial(make_each, run, "valid", held_out)
    facts = run.task.fit_decoding(run, competition_folder(run), rows, held_out, found, each)
    write_atomic(run.paths / DECODE, json.dumps(facts, indent=1))
    forget_streamed(run)
