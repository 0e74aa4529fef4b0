"""A process ends with the one that started it, whatever it is doing, also while it loads its packages."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.paths import PROJECT

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")

# Reading the task takes long, as loading torch does; like that, it holds the lock of the interpreter.
RANK = """
import multiprocessing, os, sys, time
from pipeline.training.ranks.begin import begin
class Slow:
    def __reduce__(self):
        code = "import ctypes; print('loading', flush=True); ctypes.PyDLL(None).sleep(60)"
        return exec, (code,)
if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    own, other = context.Pipe()
    process = context.Process(target=begin, args=(other, os.getpid() + int(sys.argv[1])))
    process.start()
    own.send(Slow())
    print(process.pid, flush=True)
    if sys.argv[1] != "0":
        process.join()
        print("ended", process.exitcode, flush=True)
    time.sleep(60)
"""


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


STUDY = """
import os, sys, time
from pipeline.engine.pools import LocalPool
def begin(cards):
    print(os.getpid(), flush=True)
if __name__ == "__main__":
    with LocalPool(2, [], begin) as pool:
        for _ in range(2):
            pool.submit(time.sleep, 60)
        time.sleep(60)
"""


@pytest.fixture
def start(tmp_path):
    started = []

    def start(code: str, *words: str) -> subprocess.Popen:
        (tmp_path / "starter.py").write_text(code)
        command = [sys.executable, str(tmp_path / "starter.py"), *words]
        pipes = {"stdout": subprocess.PIPE, "text": True}
        started.append(subprocess.Popen(command, env={"PYTHONPATH": str(PROJECT)}, **pipes))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def are_gone(processes: list[int], within_s: float = 5) -> bool:
    until = time.monotonic() + within_s
    while any(map(is_alive, processes)) and time.monotonic() < until:
        time.sleep(0.02)
    return not any(map(is_alive, processes))


def test_a_rank_that_loads_its_packages_is_gone_soon_after_its_starter(start):
    starter = start(RANK, "0")
    lines = [starter.stdout.readline().strip() for _ in range(2)]
    (rank,) = [int(line) for line in lines if line != "loading"]
    assert is_alive(rank) and "loading" in lines
    starter.kill()
    assert are_gone([rank])


def test_a_rank_whose_starter_has_ended_before_it_began_ends_at_once(start):
    starter = start(RANK, "1")
    lines = [starter.stdout.readline().strip() for _ in range(2)]
    assert lines[1] == "ended 1"


def test_the_processes_of_a_study_are_gone_soon_after_it(start):
    starter = start(STUDY)
    workers = [int(starter.stdout.readline()) for _ in range(2)]
    assert all(map(is_alive, workers))
    starter.kill()
    assert are_gone(workers)
