"""What one run says of itself in the table of `./run.sh table`: scores, split, settings, costs, board scores.

In: the small files of `runs/NAME`, the header of its config, the log of uploads. Out: `RunRow`. No pandas, no NumPy.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.config.competition import Competition
from pipeline.config.load import is_machine_key
from pipeline.engine.run import Stage
from pipeline.errors import UserError
from pipeline.paths import CONFIG, CONFIGS, HISTORY, LOG, MEMBERS, METRICS, TIMINGS, Folders
from pipeline.report.read import (
    Header,
    Metrics,
    numbers,
    read_columns,
    read_config,
    read_header,
    read_json,
    read_metrics,
    read_origin,
    read_stage_seconds,
)
from pipeline.report.table import read_state
from pipeline.submission.log import read_log

BOARDS = ("public", "private")
LOSSES = ("train_loss", "valid_loss")  # of these columns, or their beginning


@dataclass(frozen=True)
class RunRow:
    """What one run says of itself.

    Attributes:
        config: the name of its config; `values`: the resolved one.
        without: why it has no score, else "".
        header: question and published score of its config; empty for a run with overrides.
        changed: the keys that overrides changed.
        members: of an ensemble, the hashes of their checkpoints.
        losses: of training and validation, with the terms of the loss, at the epoch that is scored, by their columns in
            history.csv.
    """

    name: str
    config: str
    values: Mapping[str, Any]
    metrics: Metrics | None
    without: str
    header: Header
    changed: tuple[str, ...]
    hours: float | None
    members: tuple[str, ...]
    losses: Mapping[str, float]

    @property
    def split(self) -> Mapping[str, Any]:
        return self.metrics.split if self.metrics else {}

    @property
    def checkpoint(self) -> str:
        return str(self.metrics.checkpoint.get("sha256", "")) if self.metrics else ""

    @property
    def parameters_m(self) -> float | None:
        """Millions of parameters; not known of runs that were evaluated before the number was kept."""
        number = self.metrics.checkpoint.get("parameters") if self.metrics else None
        return None if number is None else number / 1e6


def read_row(folder: Path, stages: Sequence[Stage], configs: Path = CONFIGS) -> RunRow:
    """Returns what the small files of a run say, however far it has come, and whatever is damaged.

    Args:
        stages: in order; the last one that it has finished is its state.
        configs: the folder whose headers have questions and published scores.
    """
    values, metrics, header = read_config(folder / CONFIG) or {}, read_metrics(folder), Header("", None, "")
    origin, changed = read_origin(folder / CONFIG)
    config = origin or folder.name
    if folder.name == config and (configs / f"{config}.yaml").is_file():  # else it was renamed or removed
        header = read_header(configs / f"{config}.yaml")
    members = read_json(folder / MEMBERS, list) or ()
    return RunRow(
        name=folder.name,
        config=config,
        values=values,
        metrics=metrics,
        without=_why_none(folder, values, metrics, stages),
        header=header,
        changed=tuple(key for key in changed if key in values and not is_machine_key(key)),
        hours=_hours(folder),
        members=tuple(str(one.get("checkpoint_sha256")) for one in members),
        losses=_losses(folder, metrics),
    )


def _why_none(folder: Path, values: Mapping[str, Any], metrics: Metrics | None, stages: Sequence[Stage]) -> str:
    """Returns why a run has no row, else ""."""
    if not values:
        return f"its {CONFIG} is {'damaged' if os.path.lexists(folder / CONFIG) else 'missing'}"
    if values.get("DATASETS.SPLIT.BY") == "none":
        return "trained on all images"
    if metrics is None and os.path.lexists(folder / METRICS):
        return f"its {METRICS} is damaged"
    return read_state(folder, stages) if metrics is None or metrics.main.mean is None else ""


def _hours(folder: Path) -> float | None:
    """Returns the hours of training: of the stage, or of all epochs where it was interrupted in between."""
    stage = read_stage_seconds(folder).get("train", 0.0)
    epochs = sum(numbers((read_columns(folder / TIMINGS) or {}).get("seconds", ())))
    return max(stage, epochs) / 3600 or None


def _losses(folder: Path, metrics: Metrics | None) -> dict[str, float]:
    """Returns the losses of the epoch whose weights are scored; none where nothing was trained here."""
    history = read_columns(folder / HISTORY) or {}
    epochs, epoch = numbers(history.get("epoch", ())), metrics.checkpoint.get("epoch") if metrics else None
    if epoch not in epochs:
        return {}
    cells = {name: cells[epochs.index(epoch)] for name, cells in history.items() if name.startswith(LOSSES)}
    return {name: float(cell) for name, cell in cells.items() if _is_number(cell)}


def read_uploads(folders: Folders, competition: Competition | None) -> tuple[list[dict[str, str]], list[str]]:
    """Returns the uploads to a competition, and what is wrong with their log."""
    slug = competition.kaggle_slug if competition else None
    try:
        return [row for row in read_log(folders.submissions / LOG) if slug and row["competition"] == slug], []
    except UserError as error:
        return [], [f"no board scores: {error}"]


def board_scores(name: str, uploads: Sequence[Mapping[str, str]], submissions: Path) -> dict[str, float]:
    """Returns the public and the private score of a run, as far as they are known.

    An upload counts where it has the content of the submission that is there now; where that is gone, the last one.
    """
    own = [upload for upload in uploads if Path(upload["file"]).stem == name]
    # Beside a `.json` of boxes the origin has a name of its own, and the `.json` no such key.
    origin = read_json(submissions / f"{name}.origin.json") or read_json(submissions / f"{name}.json") or {}
    if own and (sha256 := origin.get("sha256")):
        own = [upload for upload in own if upload["sha256"] and str(sha256).startswith(upload["sha256"])]
    return {key: float(own[-1][key]) for key in BOARDS if own and _is_number(own[-1][key])}


def _is_number(cell: str) -> bool:
    try:
        return float(cell) == float(cell)
    except ValueError:
        return False
