"""Reuses the finished stages of sibling runs: another PREDICT.TTA is no reason to train again.

A run with overrides has a folder of its own. Where a sibling run (the same config, other overrides) has finished a
stage with the same settings and inputs, its files are hard-linked into this run, which takes neither time nor disk.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path

from pipeline.engine.dependence import inputs_of, settings_of
from pipeline.engine.freshness import Fingerprints, plain, read_marker, write_marker
from pipeline.engine.run import Run, Stage
from pipeline.files import second_name
from pipeline.paths import RunPaths


def sibling_runs(run: Run) -> list[RunPaths]:
    """Returns the other runs of the same config: as it stands, and with overrides."""
    name, runs = glob.escape(run.loaded.name), run.folders.runs
    folders = [*runs.glob(name), *sorted(runs.glob(f"{name}-????????"))]
    return [run.folders.run(folder.name) for folder in folders if folder.name != run.name]


def reuse(siblings: Sequence[RunPaths], stage: Stage, run: Run, fingerprints: Fingerprints) -> RunPaths | None:
    """Returns the sibling whose result of the stage is now this run's, marked as finished; None where there is none.

    Nothing is reused where this run has started the stage or has a file of it: its own work comes first.
    """
    own = [path for pattern in (*stage.writes, *stage.leaves) for path in run.paths.folder.glob(pattern)]
    own += list(run.paths.markers.glob(f"{stage.name}.*json"))
    settings = plain(settings_of(stage, run))
    for sibling in siblings if not own else ():
        marker = read_marker(sibling.marker(stage.name))
        if marker is None or (marker.version, marker.settings) != (stage.version, settings):
            continue
        if inputs_of(stage, run, fingerprints, settings, marker) != marker.inputs:
            continue
        if {name: fingerprints.of(sibling / name) for name in stage.writes} != marker.outputs:
            continue  # changed by hand, or being written at this moment
        left = [path.relative_to(sibling.folder) for pattern in stage.leaves for path in sibling.folder.glob(pattern)]
        for name in (*stage.writes, *left):
            _link(sibling / name, run.paths / name)
        if {name: fingerprints.of(run.paths / name) for name in stage.writes} == marker.outputs:
            write_marker(run.paths.marker(stage.name), marker)
            return sibling
    return None


def known_at(siblings: Sequence[RunPaths], stage: Stage, run: Run) -> RunPaths | None:
    """Returns a sibling that has finished the stage with these settings, whatever it read; then it needs no check."""
    wanted = (stage.version, plain(settings_of(stage, run)))
    for sibling in siblings:
        marker = read_marker(sibling.marker(stage.name))
        if marker is not None and (marker.version, marker.settings) == wanted:
            return sibling
    return None


def _link(source: Path, target: Path) -> None:
    """Hard-links a file, or every file of a folder."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        second_name(source, target)
    for path in source.iterdir() if source.is_dir() else ():
        _link(path, target / path.name)
