"""A machine without the competition's folder trains from stores that lie elsewhere, and ends with the same bits."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import pytest
import torch

from pipeline.errors import UserError
from pipeline.paths import BEST, HISTORY, VALID_STORE, RunPaths
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.learner import validated_weights
from tests import tiny as masks
from tests.data.range_server import serving
from tests.detection import box_competition as boxes
from tests.tiny import draw_nothing, executed, run_stages

TILES = (
    *("DATASETS.AUGMENTATION.TILE.ENABLE=true", "DATASETS.AUGMENTATION.TILE.WIDTH=32"),
    *("DATASETS.AUGMENTATION.TILE.HEIGHT=32", "DATASETS.AUGMENTATION.TILE.SETS=[[48, 48, 2, 2]]"),
)
WHOLE = ("SWEEP.ENABLE=false", "DATALOADERS.TRAIN.SHUFFLE_WINDOW=16")
SHORT = ("SOLVER.NUM_EPOCHS=1", "DATALOADERS.TRAIN.NUM_WORKERS=2", "DATALOADERS.VALID.NUM_WORKERS=1", "SWEEP.STEPS=8")


@pytest.fixture(autouse=True)
def undrawn(monkeypatch):
    draw_nothing(monkeypatch)


def same_training(one: RunPaths, other: RunPaths) -> bool:
    weights, others = (validated_weights(load_checkpoint(paths / BEST)) for paths in (one, other))
    assert weights.keys() == others.keys()
    is_equal = all(torch.equal(weights[name], others[name]) for name in weights)
    return is_equal and (one / HISTORY).read_text() == (other / HISTORY).read_text()


def move_to(folder: Path, monkeypatch, runs: Path | None = None) -> None:
    """Lets the next runs be on another machine: with other folders, of which that of runs may be a copy."""
    monkeypatch.setenv("RUNS_DIR", str(folder / "runs"))
    monkeypatch.setenv("SCRATCH_DIR", str(folder / "scratch"))
    if runs is not None:
        shutil.copytree(runs, folder / "runs")


@pytest.mark.parametrize(
    ("task", "changes"), [(masks, TILES), (masks, WHOLE), pytest.param(boxes, TILES, marks=pytest.mark.slow)]
)
def test_training_from_another_machines_stores_is_bit_identical(
    tmp_path, monkeypatch, task: ModuleType, changes: tuple[str, ...]
):
    data = task.write_competition(tmp_path / "data")
    loaded = task.tiny(data, *changes, *SHORT)
    move_to(tmp_path / "builder", monkeypatch)
    monkeypatch.setenv("STORES_URL", str(tmp_path / "stores"))
    paths, lines = run_stages(loaded, "tile")
    uploaded = len(list((tmp_path / "stores").iterdir()))
    assert uploaded == (2 if changes == TILES else 1) and (paths / VALID_STORE).is_file()
    assert sum("uploading" in line for line in lines) == uploaded

    move_to(tmp_path / "trainer", monkeypatch, tmp_path / "builder" / "runs")
    data.rename(tmp_path / "away")
    with serving(tmp_path / "stores", wait_s=0.002) as server:
        monkeypatch.setenv("STORES_URL", server.address)
        remote, lines = run_stages(loaded, "train")
    assert executed(lines)[-1] == "train" and "tile" not in executed(lines)
    assert any(first is not None for _, first in server.asked)

    (tmp_path / "away").rename(data)
    monkeypatch.delenv("STORES_URL")
    move_to(tmp_path / "local", monkeypatch)
    local, _ = run_stages(loaded, "train")
    assert not (local / VALID_STORE).exists() and same_training(local, remote)


def test_without_folder_and_stores_the_missing_folder_is_named(tmp_path, monkeypatch):
    data = masks.write_competition(tmp_path / "data")
    loaded = masks.tiny(data, *WHOLE)
    monkeypatch.setenv("STORES_URL", str(tmp_path / "stores"))
    move_to(tmp_path / "builder", monkeypatch)
    run_stages(loaded, "tile")
    move_to(tmp_path / "trainer", monkeypatch, tmp_path / "builder" / "runs")
    data.rename(tmp_path / "away")
    monkeypatch.setenv("STORES_URL", str(tmp_path / "nothing"))
    with pytest.raises(UserError, match=f"there is no folder {data}"):
        run_stages(loaded, "train")
