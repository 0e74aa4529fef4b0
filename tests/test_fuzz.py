"""A few cases of the fuzzer, the same ones each time; and that it sees what it is there to see.

`python -m tests.long.fuzz --minutes 10` has all targets, and as many cases as the time allows.
"""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.long.fuzz import draw_case
from tests.long.fuzz_case import (
    CONTENT,
    DIED,
    FAULT,
    FOLDER,
    GONE,
    HUNG,
    LINK,
    PIPE,
    REFUSED,
    SUCCEEDED,
    Case,
    Change,
    Ending,
    apply,
    judge,
    read,
    restore,
    save,
)
from tests.long.fuzz_commands import build_project
from tests.long.fuzz_functions import build_archives, build_forms, read_archives, read_forms
from tests.long.fuzz_worker import Worker, run_case
from tests.mutations import change_file

PROJECT = Path(__file__).resolve().parent.parent
CASE = Case("lists", 0, 3, (Change("data/train.csv", CONTENT, b"a,b\n"),), (("demo", "prepare"),), ("train.csv",))
TRACEBACK = 'Traceback (most recent call last):\n  File "/x/pipeline/data/split.py", line 7, in cut\nKeyError: 3\n'


@pytest.mark.parametrize(
    ("target", "builds", "read_changed"),
    [("boxes", (build_forms,), read_forms), ("archives", (build_project, build_archives), read_archives)],
    ids=["boxes", "archives"],
)
def test_changed_files_end_in_success_or_a_refusal_with_their_name(tmp_path, capsys, target, builds, read_changed):
    base, work = tmp_path / "base", tmp_path / "work"
    for folder in (base, work):
        for build in builds:
            build(folder)
    outcomes = Counter()
    for number in range(150):
        case, rewritten = draw_case(target, 0, number, base, work)
        apply(case.changes, work)
        code, written = run_case(work, case, read_changed), capsys.readouterr()
        ending = Ending(code, written.out, written.err, 0.0)
        restore(rewritten, base, work)
        outcome, kind = judge(case, ending)
        assert outcome != FAULT, f"{kind}: {case}\n{ending.errors}"
        outcomes[outcome] += 1
    assert outcomes[SUCCEEDED] > 20 and outcomes[REFUSED] > 20


@pytest.mark.slow
def test_the_command_ends_with_a_table_and_saves_nothing_where_there_is_no_fault(tmp_path):
    command = [sys.executable, "-m", "tests.long.fuzz", "--only", "boxes,configs", "--cases", "10"]
    command += ["--saved", str(tmp_path)]
    result = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True, check=False, timeout=500)
    assert result.returncode == 0, result.stdout + result.stderr
    rows = [line.split() for line in result.stdout.splitlines()]
    assert [row[:2] for row in rows[-2:]] == [["boxes", "10"], ["configs", "10"]]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("code", "output", "errors", "outcome", "words"),
    [
        (0, "done\n", "", SUCCEEDED, ""),
        (2, "", "train.csv: list empty", REFUSED, ""),
        (2, "", "something is wrong", FAULT, "names neither file nor key"),
        (2, "train.csv is read", "something is wrong", FAULT, "names neither file nor key"),
        (1, "", TRACEBACK, FAULT, "KeyError at pipeline/data/split.py:7 cut"),
        (2, "", TRACEBACK + "train.csv", FAULT, "KeyError at pipeline/data/split.py:7 cut"),
        (3, "", "stopped", FAULT, "exit code 3"),
        (0, "a \x1b[31mred name\n", "", FAULT, r"control character '\x1b' in demo"),
        (0, "", "x.py:3: UserWarning: glyph missing\n" * 40, FAULT, "more than 10 warnings"),
        (2, "", "train.csv" * 9000, FAULT, "more than 20,000 characters"),
        (HUNG, "", "", FAULT, "does not end in time"),
        (DIED, "", "", FAULT, "the process died"),
    ],
)
def test_each_ending_is_judged(code, output, errors, outcome, words):
    found, kind = judge(CASE, Ending(code, output, errors, 0.1))
    assert found == outcome and words in kind and bool(kind) == (outcome == FAULT)


def test_without_words_a_key_is_enough():
    case = CASE._replace(words=())
    assert judge(case, Ending(2, "", "SOLVER.MAX_LR: found 'x'", 0.1))[0] == REFUSED
    assert judge(case, Ending(2, "", "found 'x'", 0.1))[0] == FAULT


@pytest.mark.parametrize("kind", [CONTENT, GONE, FOLDER, PIPE, LINK])
@pytest.mark.parametrize("path", ["data/train.csv", "data/masks", "data/new"])
def test_every_change_is_put_back(tmp_path, kind, path):
    for folder in ("base", "work"):
        (tmp_path / folder / "data" / "masks").mkdir(parents=True)
        (tmp_path / folder / "data" / "train.csv").write_text("ids\n")
        (tmp_path / folder / "data" / "masks" / "1.png").write_bytes(b"1")
    base, work = tmp_path / "base", tmp_path / "work"
    apply([Change(path, kind, b"x")], work)
    restore([path], base, work)
    files = {file.relative_to(work).as_posix(): file.read_bytes() for file in work.rglob("*") if file.is_file()}
    assert files == {"data/train.csv": b"ids\n", "data/masks/1.png": b"1"}
    assert not (work / "data" / "new").exists()


def test_a_case_that_was_saved_is_read_back(tmp_path):
    case = CASE._replace(changes=(*CASE.changes, Change("data/x.png", PIPE), Change("data/é.png", CONTENT, b"\xff\0")))
    save(tmp_path / "case.zip", case, "KeyError", Ending(1, "", TRACEBACK, 0.1))
    assert read(tmp_path / "case.zip") == case


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("x.json", b'{"a": [1, 2.5, "b"], "c": {"d": null}}'),
        ("x.yaml", b"A: 1\nB:\n  C: [x, 2]\n"),
        ("x.csv", b"id,n\na,1\nb,2\n"),
        ("x.png", bytes(range(256)) * 8),
        ("empty.json", b""),
    ],
)
def test_changes_are_many_and_the_same_for_the_same_seed(name, data):
    first, again = ([change_file(name, data, random.Random(seed)) for seed in range(200)] for _ in range(2))
    assert first == again
    assert len(set(first)) > (8 if not data else 60)


def test_a_case_that_runs_longer_than_there_is_time_is_cut_off_while_progress_is_told(tmp_path):
    (tmp_path / "project" / "configs").mkdir(parents=True)
    worker = Worker(tmp_path, lambda target: lambda work, case: time.sleep(60), 90.0, is_drawing=True)
    ticks: list[float] = []
    case = Case("archives", 0, 0, (), (), (), False, False)
    start = time.monotonic()
    ending = worker.run(case, start + 0.2, lambda: ticks.append(time.monotonic()))
    worker.close()
    assert (ending.code, len(ticks)) == (HUNG, 1)
    assert time.monotonic() - start < 30
