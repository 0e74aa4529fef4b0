"""The lock by which machines find out whether they see each other's locks, and jobs of Slurm that refuse to train."""

from __future__ import annotations

import fcntl
import json
import subprocess
import sys
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.engine.lock_token import LockToken, unseen_lock
from pipeline.engine.slurm_pool import SlurmPool
from pipeline.errors import UserError
from pipeline.paths import Folders, shown
from tests.engine.slurm_jobs import needs_submitit

CODE = "import sys; from pathlib import Path; from pipeline.engine.lock_token import unseen_lock;"
CODE += "print(unseen_lock(Path(sys.argv[1]), 2))"


def look(project: Path, token: Path) -> subprocess.Popen:
    """Starts another process that looks at a token, as another machine would."""
    return subprocess.Popen([sys.executable, "-c", CODE, str(token)], cwd=project, stdout=subprocess.PIPE, text=True)


def result(process: subprocess.Popen, token: LockToken | None = None) -> str:
    """Returns what the other process found, while this one counts in the token."""
    while process.poll() is None:
        if token is not None:
            token.beat()
        with suppress(subprocess.TimeoutExpired):
            process.wait(0.2)
    return process.communicate()[0].strip()


def without_locks(*arguments: object) -> None:
    """A lock as a disk with `localflock` has it: other machines do not see it."""


def test_another_process_sees_a_lock_that_is_held(project, tmp_path):
    with LockToken(tmp_path / "slurm") as token:
        assert result(look(project, token.path), token) == ""
    assert not list((tmp_path / "slurm").iterdir())
    assert unseen_lock(token.path) == ""  # its holder has ended


def test_a_lock_that_does_not_reach_another_process_is_found(project, tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "lockf", without_locks)
    with LockToken(tmp_path / "slurm") as token:
        found = result(look(project, token.path), token)
    assert f"does not see locks of other machines in RUNS_DIR, {shown(tmp_path)}, so two machines could" in found


def test_a_lock_of_a_holder_that_was_killed_says_nothing(project, tmp_path):
    left = tmp_path / "slurm" / ".locked-left"
    left.parent.mkdir()
    left.write_bytes(b"7")
    assert result(look(project, left)) == ""


@needs_submitit
@pytest.mark.parametrize("has_locks", [True, False])
def test_a_job_begins_only_where_it_sees_the_locks_of_the_study(tmp_path, monkeypatch, has_locks):
    if not has_locks:
        monkeypatch.setattr(fcntl, "lockf", without_locks)
    folders = Folders(tmp_path / "runs", tmp_path / "submissions", tmp_path / "scratch", (), ())
    with SlurmPool("local", folders) as pool:
        future = pool.submit(json.dumps, [1])
        if has_locks:
            assert future.result(60) == "[1]"
        else:
            with pytest.raises(UserError, match="does not see locks of other machines in RUNS_DIR"):
                future.result(60)


def test_a_job_that_looks_at_the_same_moment_is_not_taken_for_the_holder(project, tmp_path, monkeypatch):
    monkeypatch.setattr(fcntl, "lockf", without_locks)
    slow = "import fcntl; lockf = fcntl.lockf; fcntl.lockf = lambda *lock: (lockf(*lock), print(flush=True), input());"
    with LockToken(tmp_path / "slurm") as token:
        command = [sys.executable, "-c", slow + CODE, str(token.path)]
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        with subprocess.Popen(command, cwd=project, **pipes) as first:
            first.stdout.readline()  # it has the lock now
            assert "does not see locks of other machines" in result(look(project, token.path), token)
            first.communicate("\n")


@needs_submitit
def test_jobs_that_are_submitted_while_others_end_do_not_stop_the_watch(tmp_path):
    folders = Folders(tmp_path / "runs", tmp_path / "submissions", tmp_path / "scratch", (), ())
    ended = SimpleNamespace(done=lambda: True, result=lambda: "ended")
    with SlurmPool("local", folders) as pool:

        class Asked(Future):
            """A future at whose state somebody looks while the next job is submitted."""

            def done(self) -> bool:
                pool.jobs.setdefault(second, ended)
                return super().done()

        first, second = Asked(), Future()
        pool.jobs[first] = ended
        assert [future.result(30) for future in (first, second)] == ["ended", "ended"]
