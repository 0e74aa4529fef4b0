"""Where runs, data and weights are: by the environment, in a clone, and in a Kaggle notebook."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline import paths
from pipeline.errors import UserError
from pipeline.paths import PROJECT, Folders, shown


@pytest.fixture
def kaggle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A notebook's folders."""
    (tmp_path / "working").mkdir()
    (tmp_path / "input" / "weights").mkdir(parents=True)
    monkeypatch.setattr(paths, "KAGGLE", tmp_path)
    return tmp_path


def test_without_variables_everything_is_in_the_project(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "KAGGLE", tmp_path / "no notebook")
    folders = Folders.from_environment({"RUNS_DIR": ""})
    assert (folders.runs, folders.submissions) == (PROJECT / "runs", PROJECT / "submissions")
    assert folders.scratch == PROJECT / "runs" / "shared"
    assert folders.data == (PROJECT / "data", tmp_path / "no notebook" / "input")
    assert folders.weights == (PROJECT / "data" / "weights",)


def test_each_variable_names_a_folder_and_comes_first(tmp_path):
    names = ("RUNS_DIR", "SUBMISSIONS_DIR", "SCRATCH_DIR", "DATA_DIR", "WEIGHTS_DIR")
    folders = Folders.from_environment({name: str(tmp_path / name) for name in names})
    assert (folders.runs, folders.submissions) == (tmp_path / "RUNS_DIR", tmp_path / "SUBMISSIONS_DIR")
    assert (folders.scratch, folders.tiles) == (tmp_path / "SCRATCH_DIR", tmp_path / "SCRATCH_DIR" / "tiles")
    assert (folders.data[0], folders.weights[0]) == (tmp_path / "DATA_DIR", tmp_path / "WEIGHTS_DIR")


def test_stores_may_be_at_an_address_or_in_a_folder_and_limited_on_this_disk(tmp_path, monkeypatch):
    assert (Folders.from_environment({}).stores, Folders.from_environment({}).stores_cache_gib) == (None, None)
    folders = Folders.from_environment({"STORES_URL": "s3://bucket/stores", "STORES_CACHE_GIB": "50"})
    assert (folders.stores, folders.stores_cache_gib) == ("s3://bucket/stores", 50.0)
    assert folders.absolute().stores == "s3://bucket/stores"
    monkeypatch.chdir(tmp_path)
    assert Folders.from_environment({"STORES_URL": "disk"}).absolute().stores == str(tmp_path / "disk")
    for text in ("0", "-1", "much", "inf", "nan"):
        with pytest.raises(UserError, match=f"STORES_CACHE_GIB is '{text}'; expected a number above 0"):
            Folders.from_environment({"STORES_CACHE_GIB": text})


def test_folders_do_not_change_with_the_environment(tmp_path, monkeypatch):
    folders = Folders.from_environment()
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "elsewhere"))
    assert folders.run("demo").folder == tmp_path / "runs" / "demo"
    assert Folders.from_environment().run("demo").folder == tmp_path / "elsewhere" / "demo"


def test_the_submission_of_a_run_has_its_name_and_the_suffix_of_its_format(tmp_path):
    run = Folders.from_environment().run("demo-12ab34cd")
    assert run.submission(".csv") == tmp_path / "submissions" / "demo-12ab34cd.csv"
    assert run.submission(".zip") == tmp_path / "submissions" / "demo-12ab34cd.zip"


def test_tile_stores_stay_out_of_the_folder_that_kaggle_keeps(kaggle):
    kept = {"RUNS_DIR": str(kaggle / "working" / "runs")}
    assert Folders.from_environment(kept).scratch == Path("/tmp/scratch")
    named = Folders.from_environment(kept | {"SCRATCH_DIR": str(kaggle / "elsewhere")})
    assert named.scratch == kaggle / "elsewhere"


def test_anywhere_else_they_lie_beside_the_runs(kaggle):
    assert Folders.from_environment({}).scratch == Folders.from_environment({}).runs / "shared"
    named = Folders.from_environment({"RUNS_DIR": str(kaggle / "my" / "runs")})
    assert named.scratch == kaggle / "my" / "runs" / "shared"


def test_data_and_weights_are_looked_for_in_what_a_notebook_has_as_input(kaggle):
    folders = Folders.from_environment({})
    assert kaggle / "input" in folders.data
    assert kaggle / "input" / "weights" in folders.weights


def test_runs_in_a_notebooks_output_are_known(kaggle):
    assert paths.is_on_kaggle(kaggle / "working") and paths.is_on_kaggle(kaggle / "working" / "runs")
    assert not paths.is_on_kaggle(kaggle / "input")


def test_a_path_is_shown_from_here_where_that_is_shorter(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert shown(tmp_path / "runs" / "demo") == "runs/demo"
    assert shown(tmp_path.parent / "data") == "../data"
    assert shown(Path("/somewhere/else")) == "/somewhere/else"


def test_folders_of_the_environment_are_the_same_from_another_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("RUNS_DIR", "SUBMISSIONS_DIR", "SCRATCH_DIR", "DATA_DIR", "WEIGHTS_DIR"):
        monkeypatch.setenv(name, name.lower())
    folders = Folders.from_environment().absolute()
    assert (folders.runs, folders.scratch) == (tmp_path / "runs_dir", tmp_path / "scratch_dir")
    assert folders.submissions == tmp_path / "submissions_dir"
    assert folders.data[0] == tmp_path / "data_dir" and folders.weights[0] == tmp_path / "weights_dir"
