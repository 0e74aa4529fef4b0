"""What a stage's result depends on: its settings, and hashes of what it reads and wrote.

A file may be named with a part of its rows, as in `catalog.csv (train)`: then only these count.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.config.load import Loaded, is_machine_key
from pipeline.config.tree import is_below
from pipeline.errors import UserError
from pipeline.freshness import ABSENT, Fingerprints, Hashes, Marker, plain

if TYPE_CHECKING:
    from pipeline.chain import Run, Stage

ABOUT = ("NAME", "TITLE", "KAGGLE_SLUG", "REPOSITORY", "LICENCE")  # said of a competition, and nothing is made of it
PART_OF_ROWS = re.compile(r"(.+) \((\w+)\)")
SUBSET_COLUMN = "subset"


def reads_of(stage: Stage, loaded: Loaded) -> tuple[str, ...]:
    """Returns what the stage reads below the run's folder, as it is named in messages."""
    return stage.reads(loaded) if callable(stage.reads) else stage.reads


def file_of(name: str) -> str:
    """Returns the file that is meant.

    >>> file_of("catalog.csv (train)"), file_of("split.csv")
    ('catalog.csv', 'split.csv')
    """
    found = PART_OF_ROWS.fullmatch(name)
    return found[1] if found else name


def settings_of(stage: Stage, loaded: Loaded) -> dict[str, Any]:
    """Returns the values that the stage depends on; a named plan or competition counts with its content."""
    settings = {key: value for key, value in loaded.values.items() if not is_machine_key(key)}
    settings |= competition_settings(loaded)
    chosen = {key: value for key, value in settings.items() if is_below(key, stage.settings)}
    if "SOLVER.PLAN" in chosen:
        chosen["SOLVER.PLAN"] = [vars(phase) for phase in loaded.plan]
    return chosen


def competition_settings(loaded: Loaded) -> dict[str, Any]:
    """Returns the competition's description as settings: COMPETITION.*, and ABOUT.* of which no result depends."""
    fields = {name.upper(): value for name, value in vars(loaded.competition).items()}
    convention = {f"CONVENTION.{name.upper()}": value for name, value in vars(fields.pop("CONVENTION")).items()}
    return {
        ("ABOUT." if name in ABOUT else "COMPETITION.") + name: value for name, value in (fields | convention).items()
    }


def inside(stage: Stage, run: Run, fingerprints: Fingerprints) -> Hashes:
    """Returns the hashes of what the stage reads below the run's folder."""
    hashes = {}
    for name in reads_of(stage, run.loaded):
        part = PART_OF_ROWS.fullmatch(name)
        if part:
            hashes[name] = fingerprints.of_rows(run.paths / part[1], SUBSET_COLUMN, part[2])
        else:
            hashes[name] = fingerprints.of(run.paths / name)
    return hashes


def outside(stage: Stage, run: Run, fingerprints: Fingerprints) -> Hashes:
    """Returns the hashes of what the stage reads beyond the run's folder; what is not there has none."""
    hashes = {}
    for name, path in stage.reads_outside(run).items():
        if isinstance(path, list):
            below = Path(os.path.commonpath([file.parent for file in path])) if path else Path()
            hashes[name] = fingerprints.of_files(path, below)
        else:
            hashes[name] = fingerprints.of(path)
    return {name: content_hash for name, content_hash in hashes.items() if content_hash != ABSENT}


def outside_or_as_before(stage: Stage, run: Run, fingerprints: Fingerprints, before: Marker) -> Hashes:
    """Returns the same for a stage that was begun: what is not here now, or was not here then, is no reason to run.

    A finished run stays fresh on a machine without the data or the encoder's weights, and where the weights came from
    the library's hub it stays so when their file turns up.
    """
    try:
        found = outside(stage, run, fingerprints)
    except UserError:
        found = {}
    known = {name: old for name, old in before.inputs.items() if name not in reads_of(stage, run.loaded)}
    return {name: found.get(name, old) for name, old in known.items()}


def inputs_of(
    stage: Stage, run: Run, fingerprints: Fingerprints, settings: dict[str, Any], before: Marker | None
) -> Hashes:
    """Returns the hashes of all that the stage is to read.

    Args:
        before: how it was begun, or done, the last time. What it then read beyond the run's folder and is not here now
            counts as it was: a half-done training goes on without the weights that it started from.
    """
    within = inside(stage, run, fingerprints)
    if before is not None and (before.version, before.settings) == (stage.version, plain(settings)):
        as_before = within | outside_or_as_before(stage, run, fingerprints, before)
        if as_before == before.inputs:
            return as_before
    return within | outside(stage, run, fingerprints)


def outputs_of(stage: Stage, run: Run, fingerprints: Fingerprints) -> Hashes:
    """Returns the hashes of what the stage is to write."""
    places = {name: run.paths / name for name in stage.writes} | stage.writes_outside(run)
    return {name: fingerprints.of(path) for name, path in places.items()}
