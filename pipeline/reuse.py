"""Takes over what another run of the same config has done already: other TTA is no reason to train again.

A run with overrides has a folder of its own. Where a stage there has the settings and inputs of a finished one in a
folder beside it, its files are given second names here, which costs neither time nor disk.
"""

from __future__ import annotations

import glob
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.dependence import inputs_of, settings_of
from pipeline.files import second_name
from pipeline.freshness import Fingerprints, plain, read_marker, write_marker
from pipeline.paths import RunPaths, runs_folder

if TYPE_CHECKING:
    from pipeline.chain import Run, Stage


def siblings(run: Run) -> list[RunPaths]:
    """Returns the other runs of the same config: as it stands, and with overrides."""
    name = glob.escape(run.loaded.name)
    folders = [*runs_folder().glob(name), *sorted(runs_folder().glob(f"{name}-????????"))]
    return [RunPaths(folder.name) for folder in folders if folder.name != run.paths.name]


def take_from(others: Sequence[RunPaths], stage: Stage, run: Run, fingerprints: Fingerprints) -> RunPaths | None:
    """Returns the run whose result of the stage is this run's now, marked as done, or None where there is none.

    Nothing is taken where this run has begun the stage or has anything of it: that is work of its own.
    """
    own = [path for pattern in (*stage.writes, *stage.leaves) for path in run.paths.folder.glob(pattern)]
    own += list(run.paths.markers.glob(f"{stage.name}.*json"))
    settings = plain(settings_of(stage, run.loaded))
    for sibling in others if not own else ():
        marker = read_marker(sibling.markers / f"{stage.name}.json")
        if marker is None or (marker.version, marker.settings) != (stage.version, settings):
            continue
        if inputs_of(stage, run, fingerprints, settings, marker) != marker.inputs:
            continue
        if {name: fingerprints.of(sibling / name) for name in stage.writes} != marker.outputs:
            continue  # changed by hand, or at work just now
        left = [path.relative_to(sibling.folder) for pattern in stage.leaves for path in sibling.folder.glob(pattern)]
        for name in (*stage.writes, *left):
            _take(sibling / name, run.paths / name)
        if {name: fingerprints.of(run.paths / name) for name in stage.writes} == marker.outputs:
            write_marker(run.paths.markers / f"{stage.name}.json", marker)
            return sibling
    return None


def is_known(others: Sequence[RunPaths], stage: Stage, run: Run) -> bool:
    """Returns whether another run has done the stage with these settings, so that nothing of it need be tried out."""
    asked = (stage.version, plain(settings_of(stage, run.loaded)))
    markers = (read_marker(sibling.markers / f"{stage.name}.json") for sibling in others)
    return any(marker is not None and (marker.version, marker.settings) == asked for marker in markers)


def _take(source: Path, target: Path) -> None:
    """Gives a file, or every file of a folder, a second name."""
    if source.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
        second_name(source, target)
    for path in source.iterdir() if source.is_dir() else ():
        _take(path, target / path.name)
