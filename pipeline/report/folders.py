"""The folders of runs that a command names: which there are, their resolved config, and what was typed for them.

Needs neither pandas nor NumPy.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pipeline.config.load import RANK_KEYS, is_machine_key
from pipeline.errors import UserError
from pipeline.paths import CONFIG, shown
from pipeline.report.read import read_config, read_origin
from pipeline.wording import did_you_mean

NEEDED = ("DATASETS.DIRECTORY", "MODEL.ENCODER.ALLOW_REMOTE", *RANK_KEYS)  # keys of the machine that a run may need
SPLIT_KEYS = ("DATASETS.SPLIT.BY", "DATASETS.SPLIT.FOLDS", "DATASETS.SPLIT_INDEX")


def run_folder(name: str, runs: Path) -> Path:
    """Returns the folder of a run.

    Raises:
        UserError: there is none; names the nearest.
    """
    folder = runs / name
    if not folder.is_dir():
        known = sorted(path.name for path in runs.iterdir() if (path / CONFIG).is_file()) if runs.is_dir() else []
        hint = did_you_mean(name, known, f"there are: {', '.join(known) or 'none yet'}", most=3)
        raise UserError(
            f"there is no run {name!r} in {runs}; {hint}\n`./run.sh {shlex.quote(name)}` makes one of a config."
        )
    return folder


def config_of(folder: Path) -> dict[str, Any]:
    """Returns the resolved config of a run that must be there."""
    path, (name, dash, _) = folder / CONFIG, folder.name.partition("-")
    if (values := read_config(path)) is None:
        again = f"./run.sh {shlex.quote(name)}{' with its settings' if dash else ''}"
        raise UserError(f"{shown(path)} is {'damaged' if path.is_file() else 'missing'}; {again} writes it again")
    return values


def command_of(folder: Path, values: Mapping[str, Any]) -> str:
    """Returns the command that was typed for a run."""
    return shlex.join(["./run.sh", *typed_for(folder, values)])


def typed_for(folder: Path, values: Mapping[str, Any]) -> list[str]:
    """Returns the config and the overrides of a run, by the comments of its resolved config, which has `values`.

    Overrides of the machine alone are left out, but for those without which it is another run, or not found.
    """
    experiment, changed = read_origin(folder / CONFIG)
    keys = [key for key in changed if not is_machine_key(key) or key in NEEDED]
    return [experiment or folder.name, *(f"{key}={json.dumps(values.get(key))}" for key in keys)]


def without_split(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the settings of a run that another split leaves as they are, without the machine's own.

    >>> without_split({"DATASETS.SPLIT_INDEX": 3, "SOLVER.POWER": 2.0, "RUNTIME.DEVICE": "cpu"})
    {'SOLVER.POWER': 2.0}
    """
    return {key: value for key, value in values.items() if key not in SPLIT_KEYS and not is_machine_key(key)}
