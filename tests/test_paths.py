from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import paths


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook's folders, without the variables that this machine may have set."""
    for name in ("RUNS_DIR", "SCRATCH_DIR", "DATA_DIR", "WEIGHTS_DIR"):
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "working").mkdir()
    (tmp_path / "input" / "weights").mkdir(parents=True)
    monkeypatch.setattr(paths, "KAGGLE", tmp_path)
    return tmp_path


def test_tile_stores_stay_out_of_the_folder_that_kaggle_keeps(kaggle, monkeypatch):
    monkeypatch.setenv("RUNS_DIR", str(kaggle / "working" / "runs"))
    assert paths.Folders.from_environment().scratch == Path("/tmp/scratch")
    monkeypatch.setenv("SCRATCH_DIR", str(kaggle / "elsewhere"))
    assert paths.Folders.from_environment().scratch == kaggle / "elsewhere"


def test_anywhere_else_they_lie_beside_the_runs(kaggle, monkeypatch):
    assert paths.Folders.from_environment().scratch == paths.Folders.from_environment().runs / "shared"
    monkeypatch.setenv("RUNS_DIR", str(kaggle / "my" / "runs"))
    assert paths.Folders.from_environment().scratch == kaggle / "my" / "runs" / "shared"


def test_what_a_notebook_has_as_input_is_looked_through(kaggle):
    assert kaggle / "input" in paths.data_folders()
    assert kaggle / "input" / "weights" in paths.weights_folders()
