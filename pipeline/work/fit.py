"""`fit`: fits the decoding on out-of-fold images. Without a fitted DECODE there is no such stage."""

from __future__ import annotations

import shlex
from functools import partial

from pipeline.engine.freshness import read_marker
from pipeline.engine.run import Run, Sources
from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.paths import CONFIG, DECODE
from pipeline.report.read import read_config, read_json
from pipeline.training.all_data import settings_of_source, source_of
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


def take_fitted(run: Run) -> None:
    """Writes the `decode.json` of the run that SOLVER.FROM names, for a run on all images."""
    check_fitted(run)
    write_json(run.paths / DECODE, read_json(source_of(run.loaded, run.folders) / DECODE))


def fitted_of_source(run: Run) -> Sources:
    """Returns the `decode.json` of the run that SOLVER.FROM names."""
    return {"the decoding of SOLVER.FROM": source_of(run.loaded, run.folders) / DECODE}


def check_fitted(run: Run) -> None:
    """Refuses a SOLVER.FROM that has not fitted what this run's DECODE says.

    Raises:
        UserError: says what to type, or to set.
    """
    source, name = source_of(run.loaded, run.folders), run.loaded.config.solver.from_
    marker = read_marker(source.marker("fit"))
    theirs = {} if marker is None else marker.settings
    theirs = (read_config(source / CONFIG) or {}) | theirs  # without a DECODE it has no stage `fit` to be typed
    for key, value in run.loaded.values.items():
        if key.startswith("DECODE.") and theirs.get(key, value) != value:
            raise UserError(
                f"{key}: found {value}, but {name}, whose fitted values are used, has {theirs[key]}; set the same"
            )
    if marker is None or read_json(source / DECODE) is None:
        settings_of_source(run.loaded, run.folders)  # not even trained
        raise UserError(
            f"DECODE: {name} has fitted no thresholds yet; type: ./run.sh {shlex.quote(name)} fit, "
            "or set DECODE to none"
        )
