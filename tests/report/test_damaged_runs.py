"""Whatever stands in the small files of one run, commands on all runs show the others, and name what is damaged."""

from __future__ import annotations

import json
import os
import shutil
import threading
from pathlib import Path

import pytest

from pipeline.errors import UserError
from pipeline.paths import CONFIGS, Folders
from pipeline.report.compare import compare_runs
from pipeline.report.live import read_live
from pipeline.report.read import damaged_files, read_columns, read_json, read_metrics, read_stage_seconds
from pipeline.report.runs_table import read_rows
from pipeline.report.shapes import SHAPES, TABLES
from pipeline.report.side import read_sides
from pipeline.report.table import ExperimentRow, experiment_rows
from pipeline.stages import STAGES
from tests.report.small_run import mark_stages, write_evaluated

FILES = ("config.yaml", "metrics.json", "history.csv", "timings.csv", "per_image.csv", ".stages/train.json")
FILES += (".stages/prepare.json", "tiles.json", "scenes/best.json", "scenes/list.json", "lr_sweep.json", "split.csv")
BYTES = {"empty": b"", "binary": bytes(range(256)), "list": b"[]", "null": b"null", "number": b"3", "deep": b"[" * 5000}
DAMAGES = (*BYTES, "cut", "words", "nulls", "lists", "folder", "loop")


def leaves(content: object, leaf: object) -> object:
    """Returns plain values with every value that is no mapping or list replaced."""
    if isinstance(content, dict):
        return {key: leaves(value, leaf) for key, value in content.items()}
    return [leaves(value, leaf) for value in content] if isinstance(content, list) else leaf


def damage(path: Path, how: str) -> None:
    """Damages a file of a run, or puts something else in its place."""
    before = path.read_bytes()
    path.unlink()
    if how == "folder":
        path.mkdir()
    elif how == "loop":
        path.symlink_to(path.name)
    elif how == "cut":
        path.write_bytes(before[: len(before) // 2])
    elif how in BYTES:
        path.write_bytes(BYTES[how])
    elif path.suffix == ".csv":
        cell = {"words": b"x", "nulls": b"", "lists": b"[1]"}[how]
        head, *lines = before.splitlines()
        path.write_bytes(b"\n".join([head, *(b",".join([cell] * (head.count(b",") + 1)) for _ in lines)]))
    else:
        leaf = {"words": "x", "nulls": None, "lists": [1]}[how]
        comments = [line for line in before.decode().splitlines() if line.startswith("#")]
        content = json.loads("\n".join(line for line in before.decode().splitlines() if not line.startswith("#")))
        path.write_text("\n".join([*comments, json.dumps(leaves(content, leaf))]))


@pytest.fixture
def two_runs(finished_run, new_run):
    """A run with every file, ExpAAD, and one beside it, ExpAAB."""
    _, folder = finished_run
    (folder / "scenes").mkdir()
    (folder / "scenes" / "list.json").write_text(json.dumps([{"id": "000004_001", "window": None}]))
    (folder / "scenes" / "best.json").write_text(json.dumps({"epoch": 2, "score": "dice", "scores": [0.5]}))
    (folder / "tiles.json").write_text(json.dumps({"store": "ab", "samples_per_epoch": 8}))
    _, other = new_run("ExpAAB")
    write_evaluated(other)
    mark_stages(other, prepare=1.0, train=60.0, evaluate=2.0)
    configs = folder.parent.parent / "configs"
    configs.mkdir()
    for name in ("ExpAAB", "ExpAAD"):
        shutil.copy(CONFIGS / f"{name}.yaml", configs)
    return folder, other


def row_of(name: str) -> ExperimentRow:
    """Returns the row of a run in `./run.sh list`."""
    runs = Folders.from_environment().runs
    return next(row for row in experiment_rows(runs.parent / "configs", runs, STAGES) if row.name == name)


@pytest.mark.parametrize("name", FILES)
def test_what_is_damaged_in_one_run_costs_no_other_its_row(two_runs, name):
    folders, (folder, _) = Folders.from_environment(), two_runs
    kept = (folder / name).read_bytes()
    for how in DAMAGES:
        damage(folder / name, how)
        assert row_of("ExpAAB").scores[0][0] is not None
        rows = [row for own in read_rows(folders.runs, STAGES).values() for row in own]
        assert {row.name for row in rows} == {"ExpAAB", "ExpAAD"}
        assert next(row for row in rows if row.name == "ExpAAB").metrics is not None
        assert read_live(folders.run("ExpAAD"), STAGES, 0.0, "dice").name == "ExpAAD"
        try:
            compare_runs(["ExpAAB", "ExpAAD"], folders.runs)
            read_sides(["ExpAAB", "ExpAAD"], folders, STAGES)
        except UserError as error:  # of a run that the user has named
            assert name in str(error)
        path = folder / name
        path.rmdir() if path.is_dir() else path.unlink()
        path.write_bytes(kept)


@pytest.mark.parametrize("name", ["config.yaml", "metrics.json", "history.csv", ".stages/prepare.json"])
@pytest.mark.parametrize("how", ["empty", "binary", "list", "words", "folder"])
def test_the_list_names_the_damaged_file(two_runs, name, how):
    assert "damaged" not in row_of("ExpAAD").state
    damage(two_runs[0] / name, how)
    assert row_of("ExpAAD").state.endswith(f"damaged {name}")


def test_a_pipe_in_the_place_of_a_table_is_damaged_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "history.csv")
    found: list[list[str]] = []
    reading = threading.Thread(target=lambda: found.append(damaged_files(tmp_path, ["history.csv"])), daemon=True)
    reading.start()
    reading.join(60)
    assert found == [["history.csv"]]


def test_a_whole_run_has_no_damaged_file(two_runs):
    folder, _ = two_runs
    files = [path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.suffix in (".csv", ".json")]
    assert len(files) > 12 and damaged_files(folder, [*files, "config.yaml"]) == []


def test_every_shape_refuses_another_value(tmp_path):
    for name in SHAPES:
        path = tmp_path / (name if "." in name.strip(".") else f"{name}/any.json")
        path.parent.mkdir(exist_ok=True)
        path.write_text("3")
        assert read_json(path, object) is None, name
    for name, table in TABLES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text("unknown\nx\n")
        assert (read_columns(path) is None) == any(table), name


@pytest.mark.parametrize(
    "content",
    [
        {"dice": 3},
        {"dice": {"mean": None}},
        {"score": "dice", "scores": {}},
        {"score": ["dice"], "scores": {"dice": {}}},
    ],
)
def test_metrics_of_another_form_are_none(tmp_path, content):
    (tmp_path / "metrics.json").write_text(json.dumps(content))
    assert read_metrics(tmp_path) is None


def test_seconds_that_are_no_number_make_a_stage_not_finished(tmp_path):
    (tmp_path / ".stages").mkdir()
    (tmp_path / ".stages" / "prepare.json").write_text('{"seconds": "x"}')
    (tmp_path / ".stages" / "train.json").write_text('{"seconds": 2}')
    assert read_stage_seconds(tmp_path) == {"train": 2.0}
