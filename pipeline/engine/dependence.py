"""What a stage's result depends on (its settings, and hashes of what it reads and writes), and whether that changed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pipeline.engine.added import known_before
from pipeline.engine.freshness import ABSENT, NOT_DONE, Fingerprints, Hashes, Marker, changes_since, plain, read_marker
from pipeline.engine.run import Run, Stage
from pipeline.errors import UserError
from pipeline.wording import is_below


def reads_of(stage: Stage, run: Run) -> tuple[str, ...]:
    """Returns the files that the stage reads below the run's folder."""
    return stage.reads(run) if callable(stage.reads) else stage.reads


def declared_keys(stage: Stage, run: Run) -> tuple[str, ...]:
    """Returns the prefixes of the config keys that the stage depends on."""
    return stage.settings(run) if callable(stage.settings) else stage.settings


def settings_of(stage: Stage, run: Run) -> dict[str, Any]:
    """Returns the settings that the stage depends on; a key that was added later counts once it changes something."""
    keys = declared_keys(stage, run)
    return known_before({key: value for key, value in run.loaded.settings.items() if is_below(key, keys)})


def hashes_inside(stage: Stage, run: Run, fingerprints: Fingerprints) -> Hashes:
    """Returns the hashes of what the stage reads below the run's folder."""
    return {name: fingerprints.of(run.paths / name) for name in reads_of(stage, run)}


def hashes_outside(stage: Stage, run: Run, fingerprints: Fingerprints) -> Hashes:
    """Returns the hashes of what the stage reads outside the run's folder; an absent path has none."""
    hashes = {}
    for name, path in stage.reads_outside(run).items():
        if isinstance(path, list):
            below = Path(os.path.commonpath([file.parent for file in path])) if path else Path()
            hashes[name] = fingerprints.of_files(path, below)
        else:
            hashes[name] = fingerprints.of(path)
    return {name: content_hash for name, content_hash in hashes.items() if content_hash != ABSENT}


def outside_or_as_before(stage: Stage, run: Run, fingerprints: Fingerprints, before: Marker) -> Hashes:
    """Returns the same for a stage that was started before: a path that is absent now, or was then, is no change.

    A finished run stays fresh on a machine without the data or the encoder's weights. Where the weights came from the
    library's hub, it stays fresh when their file appears.
    """
    try:
        found = hashes_outside(stage, run, fingerprints)
    except UserError:
        found = {}
    known = {name: old for name, old in before.inputs.items() if name not in reads_of(stage, run)}
    return {name: found.get(name, old) for name, old in known.items()}


def inputs_of(
    stage: Stage, run: Run, fingerprints: Fingerprints, settings: dict[str, Any], before: Marker | None
) -> Hashes:
    """Returns the hashes of everything that the stage reads.

    Args:
        before: the marker of the last time it was started or finished. Inputs outside the run's folder that are absent
            now keep the hash of that time: a half-finished training continues without the weights it started from.
    """
    inside = hashes_inside(stage, run, fingerprints)
    if before is not None and (before.version, before.settings) == (stage.version, plain(settings)):
        as_before = inside | outside_or_as_before(stage, run, fingerprints, before)
        if as_before == before.inputs:
            return as_before
    return inside | hashes_outside(stage, run, fingerprints)


def outputs_of(stage: Stage, run: Run, fingerprints: Fingerprints) -> Hashes:
    """Returns the hashes of what the stage writes."""
    paths = {name: run.paths / name for name in stage.writes} | stage.writes_outside(run)
    return {name: fingerprints.of(path) for name, path in paths.items()}


def why_run(stage: Stage, run: Run, fingerprints: Fingerprints | None = None) -> str | None:
    """Returns why the stage would be run now, as text for the log, or None while it is fresh; nothing is run."""
    return next(reasons_to_run(stage, run, fingerprints or Fingerprints.of_run(run.paths)), None)


def reasons_to_run(stage: Stage, run: Run, fingerprints: Fingerprints) -> Iterator[str]:
    """Yields every reason for which the stage would be run now; none while it is fresh."""
    marker = read_marker(run.paths.marker(stage.name))
    before = marker or read_marker(run.paths.started(stage.name))
    if before is None:
        yield NOT_DONE
        return
    inputs = hashes_inside(stage, run, fingerprints) | outside_or_as_before(stage, run, fingerprints, before)
    yield from changes_since(before, stage.version, settings_of(stage, run), inputs)
    if marker is None:
        yield "not finished"
        return
    for name, found in outputs_of(stage, run, fingerprints).items():
        if found != marker.outputs.get(name):
            yield f"{name} is gone or was changed"
