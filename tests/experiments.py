"""Small experiments of a test's own, written beside the project's configs and run in folders of the test."""

from __future__ import annotations

import shutil
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from pipeline.config import load as load_module
from pipeline.config.load import load, nested
from tests.tiny import SETTINGS, draw_nothing, run_stages

FOLDERS = {"DATA_DIR": "data", "RUNS_DIR": "runs", "SCRATCH_DIR": "scratch", "SUBMISSIONS_DIR": "out"}


def copy_configs(project: Path, folder: Path) -> Path:
    """Copies the project's configs; returns the copy."""
    return Path(shutil.copytree(project / "configs", folder / "configs"))


def write_members(configs: Path, shared: Mapping[str, Any], members: Mapping[str, int | Mapping[str, Any]]) -> None:
    """Writes the tiny config once for each member, with shared and own values by dotted key; a number: SPLIT_INDEX."""
    settings = {key: yaml.safe_load(value) for key, value in SETTINGS.items()} | dict(shared)
    for name, own in members.items():
        own = {"DATASETS.SPLIT_INDEX": own} if isinstance(own, int) else dict(own)
        tree = {"BASE": "demo"} | nested(settings | {"EXPERIMENT.PREFIX": name} | own)
        (configs / f"{name}.yaml").write_text(f"# A member. ./run.sh {name}\n{yaml.safe_dump(tree)}")


def write_ensemble(
    configs: Path, name: str, members: Iterable[str], datasets: Mapping[str, Any], how: Mapping[str, Any] = {}, **parts
) -> None:
    """Writes an ensemble; `datasets` and `how` are keys of DATASETS and ENSEMBLE, `parts` other keys."""
    tree = {"DATASETS": dict(datasets), "ENSEMBLE": {"MEMBERS": list(members)} | dict(how), **parts}
    (configs / f"{name}.yaml").write_text(f"# All of them. ./run.sh {name}\n{yaml.safe_dump(tree)}")


def use(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Makes configs, data, runs and submissions those below a folder."""
    patch.setattr(load_module, "CONFIGS", folder / "configs")
    for variable, name in FOLDERS.items():
        patch.setenv(variable, str(folder / name))


def run_all(folder: Path, names: Iterable[str], last: str = "report") -> None:
    """Runs experiments one after the other up to `last`, in the folders of `use`."""
    with pytest.MonkeyPatch.context() as patch:
        use(patch, folder)
        draw_nothing(patch)
        for name in names:
            run_stages(load(name), last)


def use_copy(patch: pytest.MonkeyPatch, folder: Path, own: Path, has_tiles: bool = False) -> None:
    """Makes configs those below `folder`, and runs a copy of the finished ones, which is the test's own.

    Args:
        has_tiles: whether the tile stores of the finished runs, below `folder`, are used too.
    """
    shutil.copytree(folder / "runs", own / "runs")
    if has_tiles:
        patch.setenv("SCRATCH_DIR", str(folder / "scratch"))
    patch.setattr(load_module, "CONFIGS", folder / "configs")
    draw_nothing(patch)
