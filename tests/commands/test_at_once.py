"""How many runs of a study are trained at a time: by cores, GPUs, and the memory that finished runs have taken."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.commands.at_once import MARGIN, AtOnce, free_bytes, peak_bytes, runs_for_cores
from pipeline.config.study import Training
from pipeline.engine.api import Outcome, Request

GIB = 1024**3


class Waiting:
    """Stands in for a packer: runs that wait, and those that have ended."""

    def __init__(self, count: int) -> None:
        self.waiting, self.ended = [Request("demo", label=f"run {number}") for number in range(count)], []

    def propose(self) -> Request | None:
        return self.waiting.pop(0) if self.waiting else None

    def note(self, outcome: Outcome) -> None:
        self.ended.append(outcome)


def training(number: int, *overrides: str) -> Training:
    return Training("plain", 0, number, "demo", overrides, f"run{number}")


def finish(runs: Path, own: Training, **peaks: int) -> None:
    folder = runs / own.run / "provenance"
    folder.mkdir(parents=True)
    (runs / own.run / "metrics.json").write_text("{}")
    (folder / "train.json").write_text(json.dumps({"peak_bytes": peaks}))


def proposals(limited: AtOnce) -> int:
    """Starts as many runs as may begin now."""
    count = 0
    while limited.propose() is not None:
        count += 1
    return count


@pytest.fixture
def study(tmp_path):
    trainings, lines = [training(number) for number in range(8)], []

    def limited(most: int, free: int | None, has_cards: bool = False) -> AtOnce:
        return AtOnce(Waiting(8), trainings, tmp_path, most, has_cards, lines.append, free)

    return SimpleNamespace(limited=limited, runs=tmp_path, trainings=trainings, lines=lines)


def test_the_first_run_is_alone_and_then_as_many_as_its_memory_allows(study):
    limited = study.limited(most=4, free=int(3.5 * MARGIN * 2 * GIB))
    assert proposals(limited) == 1
    finish(study.runs, study.trainings[0], process=2 * GIB)
    limited.note(Outcome(Request("demo"), "run0", "done"))
    assert proposals(limited) == 3 and len(limited.packer.ended) == 1
    limited.note(Outcome(Request("demo"), "run1", "done"))
    assert proposals(limited) == 1, "one ended, one begins"
    assert study.lines == [
        "1 run at a time (alone, as the memory of a run or of this machine is not known); "
        "--workers N sets another number",
        "3 runs at a time (4 for the cores, memory for 3: 8.8 GiB free, a run took 2.0 GiB); "
        "--workers N sets another number",
    ]


def test_a_run_that_takes_more_lowers_the_number_and_one_may_always_begin(study):
    finish(study.runs, study.trainings[0], process=GIB)
    limited = study.limited(most=4, free=int(4 * MARGIN * GIB))
    assert proposals(limited) == 4
    finish(study.runs, study.trainings[1], process=20 * GIB)
    for _ in range(3):
        limited.note(Outcome(Request("demo"), "any", "done"))
    assert proposals(limited) == 0
    limited.note(Outcome(Request("demo"), "any", "done"))
    assert proposals(limited) == 1


def test_gpus_begin_together_and_unknown_memory_means_one_run(study):
    assert proposals(study.limited(most=2, free=100 * GIB, has_cards=True)) == 2
    assert proposals(study.limited(most=2, free=None)) == 1
    finish(study.runs, study.trainings[0], process=3 * GIB)
    assert proposals(study.limited(most=2, free=4 * GIB, has_cards=True)) == 1, "not more than memory allows"


def test_where_one_is_the_most_nothing_is_said(study):
    assert proposals(study.limited(most=1, free=100 * GIB)) == 1 and study.lines == []


def test_a_peak_includes_processes_that_load_data(tmp_path):
    own = training(0, "DATALOADERS.TRAIN.NUM_WORKERS=3")
    assert peak_bytes(own, tmp_path) is None
    finish(tmp_path, own, process=2 * GIB, worker=GIB)
    assert peak_bytes(own, tmp_path) == 5 * GIB
    alone = training(1, "DATALOADERS.TRAIN.NUM_WORKERS=0")
    finish(tmp_path, alone, process=2 * GIB, worker=GIB)
    assert peak_bytes(alone, tmp_path) == 2 * GIB
    (tmp_path / "run1" / "provenance" / "train.json").write_text("{")
    assert peak_bytes(alone, tmp_path) is None


def test_free_memory_is_that_of_the_container_where_it_is_less(tmp_path):
    meminfo = tmp_path / "meminfo"
    meminfo.write_text("MemTotal:       9000000 kB\nMemAvailable:   2097152 kB\n")
    assert free_bytes(meminfo, tmp_path) == 2 * GIB
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text(f"{GIB}\n")
    assert free_bytes(meminfo, tmp_path) == 2 * GIB
    (tmp_path / "memory.max").write_text(f"{int(1.5 * GIB)}\n")
    assert free_bytes(meminfo, tmp_path) == GIB // 2
    assert free_bytes(tmp_path / "none", tmp_path / "none") is None


def test_files_that_linux_keeps_in_memory_leave_room_for_programs(tmp_path):
    meminfo, second = tmp_path / "meminfo", tmp_path / "memory"
    meminfo.write_text("MemAvailable:   20971520 kB\n")
    (tmp_path / "memory.max").write_text(f"{16 * GIB}\n")
    (tmp_path / "memory.current").write_text(f"{16 * GIB}\n")
    (tmp_path / "memory.stat").write_text(f"anon {3 * GIB}\nfile {13 * GIB}\ninactive_file {12 * GIB}\n")
    assert free_bytes(meminfo, tmp_path) == 12 * GIB
    second.mkdir()  # version 1 of control groups
    (second / "memory.limit_in_bytes").write_text(f"{8 * GIB}\n")
    (second / "memory.usage_in_bytes").write_text(f"{7 * GIB}\n")
    (second / "memory.stat").write_text(f"inactive_file 0\ntotal_inactive_file {GIB}\n")
    assert free_bytes(meminfo, tmp_path) == 2 * GIB


def test_two_cores_have_two_runs():
    assert [runs_for_cores(cores) for cores in (1, 2, 8)] == [1, 2, 4]
