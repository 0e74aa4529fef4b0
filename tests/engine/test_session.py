"""How long a session may run: as RUNTIME.TIME_BUDGET_HOURS says, or what is left of Kaggle's 12 hours."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pipeline import paths
from pipeline.engine import session
from pipeline.engine.api import open_run
from pipeline.engine.session import budget_seconds, session_age_s
from pipeline.paths import Folders

HOUR = 3600.0


def write_processes(folder: Path, up_s: float, first_s: float, name: str = "tini") -> Path:
    """Writes /proc of a machine that is up for so long, and whose first process began so many seconds after that."""
    (folder / "1").mkdir(parents=True)
    (folder / "uptime").write_text(f"{up_s:.2f} 1.00\n")
    ticks = int(first_s * os.sysconf("SC_CLK_TCK"))
    (folder / "1" / "stat").write_text(f"1 ({name}) {' '.join(['S', *['0'] * 18, str(ticks), *['0'] * 30])}\n")
    return folder


@pytest.mark.parametrize("name", ["tini", "a (b) c"])
def test_a_session_is_as_old_as_the_first_process(tmp_path, name):
    assert session_age_s(write_processes(tmp_path / "proc", 90_000, 89_000, name)) == pytest.approx(1000)


@pytest.mark.parametrize(("up_s", "first_s"), [(90_000, 0), (10, 20)])
def test_a_process_older_than_any_session_tells_nothing(tmp_path, up_s, first_s):
    assert session_age_s(write_processes(tmp_path / "proc", up_s, first_s)) == 0


def test_a_machine_without_proc_tells_nothing(tmp_path):
    assert session_age_s(tmp_path) == 0
    (tmp_path / "uptime").write_text("")
    assert session_age_s(tmp_path) == 0


def test_auto_is_what_kaggle_leaves_and_no_limit_elsewhere(tmp_path, monkeypatch):
    runs = tmp_path / "kaggle" / "working" / "runs"
    assert budget_seconds("auto", runs) is None
    monkeypatch.setattr(paths, "KAGGLE", tmp_path / "kaggle")
    monkeypatch.setattr(session, "session_age_s", lambda: HOUR)
    assert budget_seconds("auto", runs) == 10.5 * HOUR  # 12 hours, one is over, half an hour in reserve
    assert budget_seconds("auto", tmp_path / "elsewhere") is None
    assert budget_seconds(8.5, runs) == 8.5 * HOUR
    assert budget_seconds(None, runs) is None
    monkeypatch.setattr(session, "session_age_s", lambda: 11.9 * HOUR)
    assert budget_seconds("auto", runs) == 1.0  # stops at once, with what is saved


def test_a_run_on_kaggle_has_a_limit_without_being_told(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "KAGGLE", tmp_path)
    folders = Folders(tmp_path / "working" / "runs", tmp_path, tmp_path, (), ())
    assert open_run("demo", folders=folders).stop.deadline is not None
    assert open_run("demo", ["RUNTIME.TIME_BUDGET_HOURS=null"], folders=folders).stop.deadline is None
