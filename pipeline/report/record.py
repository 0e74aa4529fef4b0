"""All that a run has written so far, read from its folder. A file that is not there yet is None or empty.

In: `runs/<NAME>/`, the submission and its origin, other runs of the same config. Out: `Record`.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.load import Loaded, config_path, is_machine_key
from pipeline.engine.run import Run, Stage
from pipeline.files import sha256_file
from pipeline.paths import (
    CLASSES,
    CONFIG,
    CONFUSION,
    HISTORY,
    LEAKAGE,
    METRICS,
    PANELS,
    PER_IMAGE,
    REFUSAL,
    SAMPLES_PLOT,
    SPLIT,
    SUBMISSION,
    SWEEP_FACTS,
    SWEEP_TABLE,
    TEST_CATALOG,
    TILE_PLOTS,
    TIMINGS,
    TRAIN_CATALOG,
)
from pipeline.report.read import (
    ClassRow,
    Columns,
    Header,
    read_classes,
    read_columns,
    read_config,
    read_header,
    read_json,
    read_stage_seconds,
)

SPLIT_KEYS = ("DATASETS.SPLIT.BY", "DATASETS.SPLIT_INDEX")


@dataclass(frozen=True)
class Panel:
    """A file `panels/<group>_<rank>_<id>.png`."""

    group: str
    rank: int
    image_id: str
    path: Path


@dataclass(frozen=True)
class Judged:
    """The score of a run of this config that differs from this one in its split alone, or of this one."""

    run: str
    split_by: str
    split_index: int
    metrics: Mapping[str, Any]


@dataclass(frozen=True)
class Submission:
    """The submission of a run.

    Attributes:
        facts: content of the .json beside it.
        is_checked: the stage has compared it with the competition: ids, rows, overlaps, ranges, orientation.
        is_intact: the csv is still the one that the facts tell of.
    """

    path: Path
    facts: Mapping[str, Any]
    is_checked: bool
    is_intact: bool


@dataclass(frozen=True)
class Record:
    """What `page` tells of."""

    folder: Path
    loaded: Loaded
    stages: tuple[Stage, ...]
    header: Header
    stage_seconds: Mapping[str, float]
    classes: list[ClassRow] | None
    subsets: Mapping[str, int]
    num_sequences: int
    split: Mapping[str, int] | None
    leaks: Columns | None
    sweep: Columns | None
    sweep_found: Mapping[str, Any] | None
    history: Columns | None
    timings: Columns | None
    metrics: Mapping[str, Any] | None
    per_image: Columns | None
    confusion: Columns | None
    panels: tuple[Panel, ...]
    sheets: tuple[Path, ...]
    grids: tuple[Path, ...]
    judged: tuple[Judged, ...]
    submission: Submission | None
    refusal: Mapping[str, Any] | None


def read_record(run: Run) -> Record:
    """Returns everything that is in a run's folder by now."""
    folder, loaded = run.paths.folder, run.loaded
    catalogs = {"train": read_columns(folder / TRAIN_CATALOG), "test": read_columns(folder / TEST_CATALOG)}
    catalogs = {subset: columns for subset, columns in catalogs.items() if columns}
    split = read_columns(folder / SPLIT)
    return Record(
        folder=folder,
        loaded=loaded,
        stages=run.stages,
        header=read_header(config_path(loaded.name)),
        stage_seconds=read_stage_seconds(folder),
        classes=read_classes(folder / CLASSES),
        subsets={subset: len(columns["id"]) for subset, columns in catalogs.items()},
        num_sequences=len({sequence for columns in catalogs.values() for sequence in columns["sequence"]}),
        split=Counter(split["subset"]) if split else None,
        leaks=read_columns(folder / LEAKAGE),
        sweep=read_columns(folder / SWEEP_TABLE),
        sweep_found=read_json(folder / SWEEP_FACTS),
        history=read_columns(folder / HISTORY),
        timings=read_columns(folder / TIMINGS),
        metrics=read_json(folder / METRICS),
        per_image=read_columns(folder / PER_IMAGE),
        confusion=read_columns(folder / CONFUSION),
        panels=tuple(sorted(_panels(folder / PANELS), key=lambda panel: (panel.group, panel.rank))),
        sheets=tuple(folder.glob(SAMPLES_PLOT)),
        grids=tuple(sorted(folder.glob(TILE_PLOTS))),
        judged=tuple(_judged(folder, loaded)),
        submission=_submission(run.paths.submission(), folder / SUBMISSION),
        refusal=read_json(folder / REFUSAL),
    )


def _panels(folder: Path) -> list[Panel]:
    panels = []
    for path in folder.glob("*_*_*.png"):
        group, rank, image_id = path.stem.split("_", 2)
        if rank.isdigit():
            panels.append(Panel(group, int(rank), image_id, path))
    return panels


def _judged(folder: Path, loaded: Loaded) -> list[Judged]:
    """Returns the scores of this run and of those that differ from it in their split alone, best first."""
    own = _comparable(json.loads(json.dumps(loaded.values)))
    found = []
    for other in sorted({folder, *folder.parent.glob(f"{loaded.name}*")}):
        metrics, values = read_json(other / METRICS), read_config(other / CONFIG)
        if not metrics or not values or _comparable(values) != own:
            continue
        split_by, split_index = (values[key] for key in SPLIT_KEYS)
        found.append(Judged(other.name, split_by, split_index, metrics))
    return sorted(found, key=lambda one: -one.metrics["dice"]["mean"])


def _comparable(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in SPLIT_KEYS and not is_machine_key(key)}


def _submission(path: Path, verdict_path: Path) -> Submission | None:
    facts, verdict = read_json(path.with_suffix(".json")), read_json(verdict_path) or {}
    if facts is None or not path.is_file():
        return None
    content_hash = sha256_file(path)
    is_checked = bool(verdict.get("checked")) and verdict.get("csv_sha256") == content_hash
    return Submission(path, facts, is_checked, content_hash == facts.get("csv_sha256"))
