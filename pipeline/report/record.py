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

from pipeline.config.load import Loaded, config_path, is_machine_key, with_max_lr
from pipeline.config.plan import Phase
from pipeline.files import sha256_file
from pipeline.paths import submissions_folder
from pipeline.report.read import (
    ClassRow,
    Columns,
    Header,
    read_classes,
    read_columns,
    read_config,
    read_header,
    read_json,
    read_list,
    read_stage_seconds,
    read_steps_per_epoch,
    show_value,
)
from pipeline.report.scores import Metrics, read_metrics
from pipeline.scores import LABELS, per_image_score

SPLIT_KEYS = ("DATASETS.SPLIT.BY", "DATASETS.SPLIT_INDEX")


@dataclass(frozen=True)
class Panel:
    """A file `panels/<group>_<rank>_<id>.png`."""

    group: str
    rank: int
    image_id: str
    path: Path


@dataclass(frozen=True)
class SplitScore:
    """The scores of this run, or of one that differs from it in its split alone."""

    run: str
    split_by: str
    split_index: int
    metrics: Metrics


@dataclass(frozen=True)
class Submission:
    """The submission of a run.

    Attributes:
        facts: content of the .json beside it.
        is_checked: the stage has compared it with the competition: ids, rows, overlaps, ranges, orientation.
        is_intact: the file has still the hash that `facts` names.
    """

    path: Path
    facts: Mapping[str, Any]
    is_checked: bool
    is_intact: bool


@dataclass(frozen=True)
class Record:
    """What a page is made from."""

    folder: Path
    loaded: Loaded
    header: Header
    stage_seconds: Mapping[str, float]
    classes: list[ClassRow] | None
    subsets: Mapping[str, int]
    num_sequences: int
    split: Mapping[str, int] | None
    leaks: Columns | None
    sweep: Columns | None
    sweep_found: Mapping[str, Any]
    history: Columns | None
    timings: Columns | None
    metrics: Metrics | None
    per_image: Columns | None
    confusion: Columns | None
    members: list[Any] | None
    stores: list[Any]
    ensemble: Mapping[str, Any] | None
    decoding: Mapping[str, Any] | None
    panels: tuple[Panel, ...]
    sheets: tuple[Path, ...]
    grids: tuple[Path, ...]
    split_scores: tuple[SplitScore, ...]
    submission: Submission | None

    @property
    def score(self) -> str:
        """The name of the competition's own score."""
        return self.metrics.main.name if self.metrics else self.loaded.competition.score

    @property
    def image_score(self) -> str:
        """The name of the score by which single images are compared."""
        return per_image_score(self.score)

    def label(self, score: str) -> str:
        """Returns a score's name for people."""
        return (
            self.metrics.scores[score].label
            if self.metrics and score in self.metrics.scores
            else LABELS.get(score, score)
        )

    @property
    def max_lr(self) -> float | None:
        """SOLVER.MAX_LR, or what the sweep chose for it; None before the sweep."""
        max_lr = self.loaded.config.solver.max_lr
        return self.sweep_found.get("max_lr") if max_lr == "auto" else max_lr

    @property
    def phases(self) -> tuple[Phase, ...]:
        """The plan, with the sweep's suggestion where SOLVER.MAX_LR is auto and there was a sweep."""
        is_found = self.loaded.config.solver.max_lr == "auto" and self.max_lr
        return with_max_lr(self.loaded, self.max_lr) if is_found else self.loaded.plan

    @property
    def steps_per_epoch(self) -> int | None:
        """The optimizer steps of an epoch, or None before the run has tiles."""
        batches = self.loaded.config.dataloaders.train
        return read_steps_per_epoch(self.folder, batches.batch_size, batches.drop_last)

    def command(self, *stages: str) -> str:
        """Returns the command for stages of this run, its overrides included."""
        overrides = [f"{key}={show_value(self.loaded.values[key])}" for key in self.loaded.changed]
        quoted = [f"'{text}'" if set(text) & set(' []{}"$&|;<>*?') else text for text in overrides]
        return " ".join(["./run.sh", self.loaded.name, *stages, *quoted])


def read_record(folder: Path, loaded: Loaded) -> Record:
    """Returns everything that is in a run's folder by now."""
    catalog = read_columns(folder / "catalog.csv") or {"subset": [], "sequence": []}
    split = read_columns(folder / "split.csv")
    return Record(
        folder=folder,
        loaded=loaded,
        header=read_header(config_path(loaded.name)),
        stage_seconds=read_stage_seconds(folder),
        classes=read_classes(folder / "classes.csv"),
        subsets=Counter(catalog["subset"]),
        num_sequences=len(set(catalog["sequence"])),
        split=Counter(split["subset"]) if split else None,
        leaks=read_columns(folder / "leakage.csv"),
        sweep=read_columns(folder / "lr_sweep.csv"),
        sweep_found=read_json(folder / "lr_sweep.json") or {},
        history=read_columns(folder / "history.csv"),
        timings=read_columns(folder / "timings.csv"),
        metrics=read_metrics(folder),
        per_image=read_columns(folder / "per_image.csv"),
        confusion=read_columns(folder / "confusion.csv"),
        members=read_list(folder / "members.json"),
        stores=read_list(folder / "stores.json") or [],
        ensemble=_ensemble(read_json(folder / "ensemble.json") or {}),
        decoding=read_json(folder / "decode.json"),
        panels=tuple(sorted(_panels(folder / "panels"), key=lambda panel: (panel.group, panel.rank))),
        sheets=tuple(sorted((folder / "plots").glob("samples*.png"))),
        grids=tuple(sorted((folder / "plots").glob("tile_grid_*.png"))),
        split_scores=tuple(_split_scores(folder, loaded)),
        submission=_submission(submissions_folder() / f"{folder.name}.csv", folder / "submission.json"),
    )


def _ensemble(content: dict[str, Any]) -> dict[str, Any] | None:
    """Returns the content of ensemble.json, or None where there is none or it has another form."""
    return content if {"score", "held_out", "single", "members", "methods"} <= set(content) else None


def _panels(folder: Path) -> list[Panel]:
    parts = [(path, *path.stem.split("_", 2)) for path in folder.glob("*_*_*.png")]
    return [Panel(group, int(rank), image_id, path) for path, group, rank, image_id in parts if rank.isdigit()]


def _split_scores(folder: Path, loaded: Loaded) -> list[SplitScore]:
    """Returns the scores of this run and of those that differ from it in their split alone, best first."""
    own = _without_split(json.loads(json.dumps(loaded.values)))
    found = []
    for other in sorted({folder, *folder.parent.glob(f"{loaded.name}*")}):
        metrics, values = read_metrics(other), read_config(other / "config.yaml")
        if metrics and values and _without_split(values) == own:
            found.append(SplitScore(other.name, *(values[key] for key in SPLIT_KEYS), metrics))
    return sorted(found, key=lambda one: -(one.metrics.main.mean or 0.0))


def _without_split(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in values.items() if key not in SPLIT_KEYS and not is_machine_key(key)}


def _submission(path: Path, check_path: Path) -> Submission | None:
    facts, check = read_json(path.with_suffix(".json")), read_json(check_path) or {}
    if facts is None or not path.is_file():
        return None
    content_hash = sha256_file(path)
    is_checked = bool(check.get("checked")) and check.get("csv_sha256") == content_hash
    return Submission(path, facts, is_checked, content_hash == facts.get("csv_sha256"))
