"""Where many runs are carried out: what `--on` takes, what a disk must have, and a study as jobs of Slurm."""

from __future__ import annotations

import errno
import fcntl
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.engine.clusters import Where, check_locks, parse_where
from pipeline.engine.ray_pool import check_answers
from pipeline.errors import UserError
from pipeline.paths import Folders
from tests.engine.slurm_jobs import needs_submitit
from tests.tiny import write_tiny_study


@pytest.fixture
def installed(monkeypatch):
    """Every package is found, whether or not it is installed here."""
    monkeypatch.setattr("pipeline.engine.clusters.find_spec", lambda name: object())


@pytest.mark.parametrize(
    ("text", "where"),
    [
        ("ray", Where("ray")),
        ("ray:10.0.0.1:6379", Where("ray", "10.0.0.1:6379")),
        ("slurm", Where("slurm")),
        ("slurm:local", Where("slurm", "local")),
        ("slurm:partition=gpu,minutes=240", Where("slurm", "partition=gpu,minutes=240")),
    ],
)
def test_a_cluster_is_named_with_what_it_needs(installed, text, where):
    assert parse_where(text) == where


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected ray, ray:HOST:PORT, slurm or slurm:KEY=VALUE,KEY=VALUE"),
        ("kubernetes", "expected ray, ray:HOST:PORT, slurm or slurm:KEY=VALUE,KEY=VALUE"),
        ("Ray", "did you mean ray?"),
        ("slrum:partition=gpu", "did you mean slurm?"),
        ("slurm:gpu", "found 'gpu', expected slurm:KEY=VALUE,KEY=VALUE or slurm:local"),
        ("slurm:Local", "or slurm:local; did you mean local?"),
        ("slurm:partition=", "found 'partition=', expected slurm:KEY=VALUE"),
        ("ray:10.0.0.1", "expected ray:HOST:PORT, for example ray:10.0.0.1:6379"),
        ("ray:Auto", "for example ray:10.0.0.1:6379; did you mean auto?"),
        ("ray:10.0.0.1:²", "found port '²', expected a number from 1 to 65535"),
        ("ray:10.0.0.1:port", "found port 'port', expected a number from 1 to 65535; the usual one is 6379"),
        ("ray:10.0.0.1:66379", "found port '66379'"),
    ],
)
def test_another_cluster_is_refused_by_what_there_is(installed, text, message):
    with pytest.raises(UserError) as raised:
        parse_where(text)
    assert str(raised.value).startswith(f"--on {text}: ") and message in str(raised.value)


def test_an_address_at_which_nothing_answers_is_refused_at_once():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(UserError, match=f"no Ray cluster answers at {address}: Connection refused. Start one: "):
            check_answers(address)
        free.listen()
        check_answers(address)
    with pytest.raises(UserError, match="label too long"):
        check_answers(f"{'a' * 70}:6379")


def test_a_missing_package_is_named_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setattr("pipeline.engine.clusters.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"--on slurm needs the package submitit, .* -m pip install submitit"):
        parse_where("slurm")


def test_a_disk_without_locks_is_refused(tmp_path, monkeypatch):
    check_locks(tmp_path / "runs")

    def without_locks(*arguments):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("fcntl.lockf", without_locks)
    with pytest.raises(UserError, match=r"has no file locks \(No locks available\).*Set RUNS_DIR to a disk that has"):
        check_locks(tmp_path / "runs")
    assert not list((tmp_path / "runs").iterdir())


def test_a_machine_that_does_not_see_locks_of_others_is_named(project, tmp_path):
    code = "import sys; from pipeline.engine.ray_pool import _looker; print(_looker(*sys.argv[1:3])(sys.argv[3]))"

    def look(token: Path) -> str:
        """What a process with other locks says, as another machine."""
        command = [sys.executable, "-c", code, str(project / "pipeline"), str(tmp_path), str(token)]
        return subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout.strip()

    with open(tmp_path / "token", "wb") as file:
        fcntl.lockf(file, fcntl.LOCK_EX)
        assert look(tmp_path / "token") == ""
    assert look(tmp_path / "token").startswith("does not see locks of other machines in RUNS_DIR")
    assert look(tmp_path / "elsewhere").startswith("does not see RUNS_DIR")


@needs_submitit
@pytest.mark.slow
def test_a_study_runs_as_jobs(project_copy, workshop):
    write_tiny_study(project_copy, workshop.data, "{a: [], b: [SOLVER.POWER=2]}", "SOLVER.NUM_EPOCHS=1")
    command = [sys.executable, "-u", "-m", "pipeline", "study", "mine", "--on", "slurm:local"]
    done = subprocess.run(command, cwd=project_copy, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(list(Folders.from_environment().runs.glob("demo*/metrics.json"))) == 2
    assert "a        1/1" in done.stdout and "b        1/1" in done.stdout
