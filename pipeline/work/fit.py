"""`fit`: fits the decoding on out-of-fold images. Without a fitted DECODE there is no such stage."""

from __future__ import annotations

from functools import partial

from pipeline.engine.run import Run
from pipeline.files import write_json
from pipeline.paths import DECODE
from pipeline.work.combining import forget_streamed, make_each
from pipeline.work.inputs import competition_folder
from pipeline.work.members import combination_facts, held_out_rows


def fit(run: Run) -> None:
    """Writes `decode.json`."""
    rows, held_out = held_out_rows(run)
    each = partial(make_each, run, "valid", held_out)
    facts = run.task.fit_decoding(run, competition_folder(run), rows, held_out, combination_facts(run), each)
    write_json(run.paths / DECODE, facts)
    forget_streamed(run)
