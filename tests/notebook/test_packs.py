"""What a session leaves for the next one, and which earlier output it continues from.

`run.sh` is a script of the test's own here, that writes runs as a training does. Whole sessions: `test_session.py`.
"""

from __future__ import annotations

import os
import tarfile
import time
from collections import namedtuple
from pathlib import Path

import pytest

from pipeline.notebook import session
from pipeline.notebook.session import newest_pack

FINISHED = ("best.ckpt", "history.csv", ".stages/train.json", ".stages/evaluate.json", "probs/valid/index.json")
CUT = ("best.ckpt", "last.ckpt", "previous-best.ckpt", "previous-last.ckpt", "history.csv", ".stages/lock")


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """The folders of a session, which has a run that came with the notebook; returns the folder of unpacked files."""
    unpacked, working = tmp_path / "unpacked", tmp_path / "working"
    named = {"PROJECT": "project", "RUNS": "runs", "SUBMISSIONS": "submissions", "SCRATCH": "scratch", "DATA": "data"}
    for name, folder in named.items():
        monkeypatch.setattr(session, name, unpacked / folder)
    monkeypatch.setattr(session, "INPUT", tmp_path / "input")
    monkeypatch.setattr(session, "WORKING", working)
    for folder in (unpacked / "project", working, tmp_path / "input" / "me" / "my-copy"):
        folder.mkdir(parents=True)
    write_run(unpacked, "given", FINISHED)
    for path in (unpacked / "runs").rglob("*"):
        os.utime(path, (0, 0))
    return unpacked


def write_run(unpacked: Path, name: str, files: tuple[str, ...], size: int = 1) -> None:
    for file in files:
        path = unpacked / "runs" / name / file
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x" * size)


def write_script(unpacked: Path, *lines: str) -> None:
    (unpacked / "project" / "run.sh").write_text("\n".join(lines) + "\n")


def packed(machine: Path) -> list[str]:
    with tarfile.open(machine.parent / "working" / "mine-study-runs.pack") as pack:
        return pack.getnames()


def study(*data: str) -> None:
    session.study("mine-study", ["study", "mine"], hours=2.0, started_s=time.monotonic() - 1800, data=data)


def test_a_session_leaves_all_runs_that_it_worked_on_without_spare_checkpoints(machine, capsys):
    write_run(machine, "finished", FINISHED)
    write_run(machine, "cut", CUT)
    write_run(machine, "finished", ("panels/1.png",))
    write_script(machine, 'echo "$@"; ls -l "$DATA_DIR"; mkdir -p $RUNS_DIR/study_tables',
                 "echo a > $RUNS_DIR/study_tables/mine.csv; exit 3")  # fmt: skip
    study("shapes", "my-copy")
    out = capsys.readouterr().out
    assert "study mine --time-limit 5400s\n" in out and f"shapes -> {machine.parent}/input/me/my-copy" in out
    assert "The session's time is used up. The same notebook continues: push it again." in out
    wanted = {f"finished/{name}" for name in (*FINISHED, "panels/1.png")} | {"study_tables/mine.csv"}
    wanted |= {f"cut/{name}" for name in CUT if not name.startswith("previous")}
    assert set(packed(machine)) == {f"runs/{name}" for name in wanted}
    shown = {path.name for path in (machine.parent / "working").iterdir()}
    assert shown == {"mine-study-runs.pack", "mine-study.log", "mine.csv"}  # no image of one run among many


def test_one_run_of_several_that_fails_does_not_fail_the_notebook_whose_output_would_be_lost(machine, capsys):
    write_script(machine, "exit 1")
    for _ in range(2):  # a cell that failed can be run again
        with pytest.raises(RuntimeError, match="the run ended with exit code 1"):
            study("shapes", "my-copy")
    write_run(machine, "finished", FINISHED)
    study()
    assert "Some runs ended in an error (exit code 1), see above. The next session tries" in capsys.readouterr().out
    with pytest.raises(RuntimeError, match="the run ended with exit code 1"):
        session.train("mine-study", ["demo"], hours=2.0, started_s=time.monotonic())


def test_a_disk_that_is_too_small_loses_predictions_first_and_then_the_largest_run(machine, monkeypatch, capsys):
    for name, size in (("small", 100_000), ("large", 200_000)):
        write_run(machine, name, FINISHED, size)
    write_script(machine, "exit 3")
    for free, left_out in ((1_600_000, set()), (1_300_000, {"probs"}), (600_000, {"probs", "large"})):
        usage = namedtuple("Usage", "free")(free)
        monkeypatch.setattr(session.shutil, "disk_usage", lambda folder, usage=usage: usage)
        study()
        names = packed(machine)
        assert ("runs/large/best.ckpt" in names) == ("large" not in left_out) and "runs/small/best.ckpt" in names
        assert any("/probs/" in name for name in names) == ("probs" not in left_out)
    assert "That is not enough: large is left out, and the next session trains it again." in capsys.readouterr().out


def test_a_session_continues_from_the_pack_whose_files_are_newest_whatever_its_own_time(tmp_path):
    packs = []
    for name, written_s, mounted_s in (("first", 1_000, 9_000), ("second", 2_000, 9_000), ("damaged", 3_000, 9_999)):
        file, pack = tmp_path / "history.csv", tmp_path / name / "mine-runs.pack"
        pack.parent.mkdir()
        file.write_text(name)
        os.utime(file, (written_s, written_s))
        with tarfile.open(pack, "w") as archive:
            archive.add(file, "runs/demo/history.csv")
        os.utime(pack, (mounted_s, mounted_s))
        packs.append(pack)
    packs[2].write_bytes(b"damaged")
    assert newest_pack(packs) == newest_pack(packs[::-1]) == packs[1]
    assert newest_pack(packs[2:]) == packs[2], "whose damage is then told"


def test_a_pack_that_the_mount_does_not_give_is_left_out_with_a_line(tmp_path, capsys):
    unreadable, good = tmp_path / "bad" / "mine-runs.pack", tmp_path / "mine-runs.pack"
    unreadable.mkdir(parents=True)  # opening a folder raises an OSError, as a bad mount does
    with tarfile.open(good, "w"):
        pass
    assert newest_pack([unreadable, good]) == newest_pack([good, unreadable]) == good
    assert f"{unreadable} cannot be read and is left out: Is a directory" in capsys.readouterr().out
