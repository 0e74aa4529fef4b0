"""`evaluate` of an ensemble: combines the members on images that they were not trained on, and scores."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

from pipeline.engine.run import Run
from pipeline.files import sha256_text, write_atomic
from pipeline.paths import ENSEMBLE, MEMBERS
from pipeline.work.combining import forget_streamed, make_each
from pipeline.work.evaluation import write_evaluation
from pipeline.work.inputs import competition_folder
from pipeline.work.members import held_out_rows


def evaluate(run: Run) -> None:
    """Writes the files of an evaluation, and `ensemble.json` with the score and gain of each method."""
    folder, (rows, held_out) = competition_folder(run), held_out_rows(run)
    each = partial(make_each, run, "valid", held_out)
    evaluation, found = run.task.evaluate_ensemble(run, folder, rows, held_out, each)
    write_evaluation(run, folder, rows, evaluation, _origin(run))
    write_atomic(run.paths / ENSEMBLE, json.dumps(found, indent=1))
    forget_streamed(run)


def _origin(run: Run) -> dict[str, Any]:
    """Returns what metrics.json says of split and checkpoint: those of the members."""
    members = json.loads((run.paths / MEMBERS).read_text())
    kinds = sorted({(member["split"] or {}).get("by", "?") for member in members})
    hashes = [member["checkpoint_sha256"] for member in members]
    checkpoint = {"epoch": None, "valid_loss": None, "sha256": sha256_text(" ".join(hashes))}
    return {"split": {"by": " and ".join(kinds), "index": None}, "checkpoint": checkpoint}
