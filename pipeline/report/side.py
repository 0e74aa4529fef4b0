"""One of several runs that a page lays side by side: what its folder says, however far it has come.

In: the folder of a run, or the name of a config that was never run. Out: `Side`.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from pipeline.config.load import config_path
from pipeline.config.load import names as config_names
from pipeline.config.plan import Phase
from pipeline.engine.freshness import read_marker
from pipeline.engine.run import Stage
from pipeline.errors import UserError
from pipeline.paths import CONFIG, HISTORY, PLAN_CHANGES, Folders
from pipeline.report.curves import Span, phase_spans
from pipeline.report.folders import command_of, config_of, run_folder
from pipeline.report.read import (
    Columns,
    Header,
    Metrics,
    read_columns,
    read_header,
    read_metrics,
    read_origin,
    read_stage_seconds,
    read_steps_per_epoch,
)
from pipeline.report.scenes import Shots, read_shots
from pipeline.report.table import read_state


@dataclass(frozen=True)
class Side:
    """A run beside others. What is not there yet is None or empty.

    Attributes:
        name: of its folder, or of a config that has none; `label`: the shortest name that tells the runs apart.
        command: what was typed for it, without a stage.
        values: its config by key.
        phases: its plan as it was trained; empty before training, and where the plan's rate is the LR sweep's.
        steps_per_epoch: optimizer steps.
        epochs: REPORT.EPOCHS.
    """

    name: str
    label: str
    command: str
    state: str
    header: Header
    values: Mapping[str, Any] = field(default_factory=dict)
    metrics: Metrics | None = None
    history: Columns = field(default_factory=dict)
    changes: Columns = field(default_factory=dict)
    phases: Sequence[Phase] = ()
    steps_per_epoch: int | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    epochs: Sequence[int] = ()
    shots: Shots = field(default_factory=lambda: Shots(Path(), (), {}))

    @property
    def is_trained(self) -> bool:
        return "train" in self.seconds

    @property
    def last_epoch(self) -> int | None:
        """The last that is trained."""
        return int(self.history["epoch"][-1]) if self.history.get("epoch") else None

    @property
    def spans(self) -> list[Span]:
        """The phases that were trained, with their epochs."""
        return phase_spans(self.history) if self.history else []

    @property
    def competition(self) -> str:
        """The name of its competition."""
        return str(self.values.get("DATASETS.COMPETITION", ""))

    @property
    def mix(self) -> str:
        """LOSS_FN.MIX."""
        return str(self.values.get("LOSS_FN.MIX", ""))


def read_sides(names: Sequence[str], folders: Folders, stages: Sequence[Stage]) -> list[Side]:
    """Returns what the folders of runs say; a config that was never run has a command alone.

    Raises:
        UserError: there is neither a run nor a config of that name, or a run's config is damaged.
    """
    labels = short_names(names)
    return [_read(name, label, folders, stages) for name, label in zip(names, labels, strict=True)]


def short_names(names: Sequence[str]) -> list[str]:
    """Returns names of run folders without the hash of their overrides, where that tells them apart.

    >>> short_names(["ExpC01-61cf2771", "ExpC02", "ExpC02-0a3d7e55"])
    ['ExpC01', 'ExpC02', 'ExpC02-0a3d7e55']
    """
    bare = [name.partition("-")[0] for name in names]
    return [one if bare.count(one) == 1 else name for one, name in zip(bare, names, strict=True)]


def _read(name: str, label: str, folders: Folders, stages: Sequence[Stage]) -> Side:
    paths = folders.run(name)
    if not os.path.lexists(paths / CONFIG):
        if name not in config_names():
            run_folder(name, folders.runs)  # refuses with the nearest names
        return Side(name, label, shlex.join(["./run.sh", name]), "not started", read_header(config_path(name)))
    folder = paths.folder
    values = config_of(folder)
    train = read_marker(paths.marker("train")) or read_marker(paths.started("train"))
    epochs = values.get("REPORT.EPOCHS") or ()
    batch_size, drop_last = (values.get(f"DATALOADERS.TRAIN.{key}") for key in ("BATCH_SIZE", "DROP_LAST"))
    loader = SimpleNamespace(batch_size=batch_size, drop_last=drop_last)
    return Side(
        name=name,
        label=label,
        command=command_of(folder, values),
        state=read_state(folder, stages),
        header=_header(folder),
        values=values,
        metrics=read_metrics(folder),
        history=read_columns(folder / HISTORY) or {},
        changes=read_columns(folder / PLAN_CHANGES) or {},
        phases=_phases(train.settings) if train else (),
        steps_per_epoch=read_steps_per_epoch(folder, loader) if batch_size else None,
        seconds=read_stage_seconds(folder),
        epochs=epochs,
        shots=read_shots(folder, epochs),
    )


def _header(folder: Path) -> Header:
    experiment, _ = read_origin(folder / CONFIG)
    try:
        return read_header(config_path(experiment or folder.name))
    except UserError:  # its config was renamed or removed
        return Header("", None, "")


def _phases(settings: Mapping[str, Any]) -> tuple[Phase, ...]:
    """Returns the plan among the settings that `train` was started with."""
    if settings.get("SOLVER.MAX_LR") == "auto" or settings.get("DATASETS.SPLIT.BY") == "none":
        return ()  # what was started with was provisional
    try:
        return tuple(Phase(**{**one, "freeze": tuple(one["freeze"])}) for one in settings.get("SOLVER.PLAN", ()))
    except (TypeError, KeyError):  # of another version of the program
        return ()
