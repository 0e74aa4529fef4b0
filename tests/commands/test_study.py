"""The command `study`: trains what is missing, survives runs that fail, and says what the runs say."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.commands import at_once
from pipeline.commands.packing import MARGIN, NO_TIME
from pipeline.config.study import SEED, SPLIT
from pipeline.paths import BEST, CHECKPOINTS, PER_IMAGE, STUDIES, Folders
from tests.tiny import overrides, write_tiny_study

pytestmark = pytest.mark.usefixtures("without_drawing")


@pytest.fixture
def write_study(configs, workshop, monkeypatch):
    """Writes a study of the tests' small competition, whose runs are trained one at a time, in this process."""
    monkeypatch.setattr(at_once, "runs_for_cores", lambda cores: 1)

    def write(*lines: str) -> None:
        words = overrides(workshop.data, "SOLVER.NUM_EPOCHS=1", "RUNTIME.KEEP_STATE=false")
        common = "\n".join(f"  - '{word}'" for word in words if not word.startswith((SPLIT, SEED)))
        (configs / "studies" / "mine.yaml").write_text("\n".join(["BASE: demo", "SET:", common, *lines]) + "\n")

    return write


def table() -> list[dict[str, str]]:
    with open(Folders.from_environment().runs / STUDIES / "mine.csv", newline="") as file:
        return list(csv.DictReader(file))


def test_a_study_trains_each_setting_once_and_compares_it_with_the_first(write_study, capsys):
    write_study("SETTINGS: {low: [SOLVER.MAX_LR=1e-6], high: [SOLVER.MAX_LR=0.01]}", "SEEDS: [0, 1]")
    assert main(["study", "mine"]) == 0
    first = capsys.readouterr().out
    assert "high, split 0, seed 1: train     done in" in first
    rows = table()
    assert [(row["setting"], row["runs"], row["planned"]) for row in rows] == [("low", "2", "2"), ("high", "2", "2")]
    assert rows[0]["gain"] == "" and rows[0]["verdict"] == ""
    checkpoints = sorted(path.name for path in Folders.from_environment().runs.glob(f"demo*/**/{CHECKPOINTS}"))
    assert checkpoints == 4 * [BEST]  # one of each run, whose weights later stages need
    gain = float(rows[1]["score"]) - float(rows[0]["score"])
    assert float(rows[1]["gain"]) == pytest.approx(gain)
    assert float(rows[1]["low"]) < gain < float(rows[1]["high"]) and rows[1]["verdict"]
    assert main(["study", "mine"]) == 0
    again = capsys.readouterr().out
    assert "done in" not in again and again[again.index("\nsetting") :] == first[first.index("\nsetting") :]
    damaged = Folders.from_environment().run(rows[1]["names"].split()[0])
    (damaged / PER_IMAGE).write_text("id,dice\n")
    assert main(["study", "mine", "--table"]) == 0
    assert re.search(rf"left out: .*{damaged.name}/{PER_IMAGE}", capsys.readouterr().out)
    assert [(row["runs"], row["planned"]) for row in table()] == [("2", "2"), ("1", "2")]


def test_a_setting_that_fails_is_named_and_the_others_are_compared(write_study, capsys):
    write_study("SETTINGS: {a: [], b: [MODEL.ENCODER.WEIGHTS=/nowhere.safetensors], c: [SOLVER.POWER=2]}")
    assert main(["study", "mine"]) == 2
    out = capsys.readouterr().out
    assert "b, split 0: refused: " in out and "/nowhere.safetensors" in out
    assert "1 of 3 runs ended in an error; the same command tries them again" in out
    assert [row["runs"] for row in table()] == ["1", "0", "1"]


def test_an_error_that_all_runs_have_is_printed_once(write_study, capsys):
    write_study("SETTINGS: {a: [MODEL.ENCODER.WEIGHTS=/nowhere.safetensors], b: [SOLVER.POWER=2]}", "SEEDS: [0, 1]")
    assert main(["study", "mine"]) == 2
    out = capsys.readouterr().out
    assert "a, split 0, seed 0 and 1 more: refused: " in out and out.count("refused: ") == 1


def test_a_table_of_a_study_that_has_not_begun_is_empty(write_study, capsys):
    write_study("SETTINGS: {a: [], b: [SOLVER.POWER=2]}")
    assert main(["study", "mine", "--table"]) == 0
    assert [(row["runs"], row["score"], row["gain"]) for row in table()] == [("0", "", ""), ("0", "", "")]
    assert not any(Path(Folders.from_environment().runs).glob("demo*"))


def test_only_the_named_settings_are_trained(write_study):
    write_study("SETTINGS: {a: [], b: [SOLVER.POWER=2]}")
    assert main(["study", "mine", "--only", "a"]) == 0
    assert [row["runs"] for row in table()] == ["1", "0"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["mine", "--only", "z*"], "no setting is called 'z*'; there are: a, b"),
        (["mine", "--workers", "0"], "--workers 0: expected at least 1"),
        (["mine", "--time-limit", "11"], "--time-limit 11: expected a number and h, min or s, for example 11.5h"),
        (["nothing"], "there is no study 'nothing'"),
    ],
)
def test_a_slip_on_the_command_line_is_refused(write_study, capsys, arguments, message):
    write_study("SETTINGS: {a: [], b: [SOLVER.POWER=2]}")
    assert main(["study", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_score_without_values_per_image_is_refused(write_study, capsys):
    write_study("SETTINGS: {a: [], b: [SOLVER.POWER=2]}", "SCORE: miou")
    assert main(["study", "mine", "--table"]) == 2
    assert "SCORE: miou has no value per image; did you mean iou?" in capsys.readouterr().err


def test_a_study_that_is_stopped_says_how_to_go_on(write_study, capsys):
    write_study(
        "SETTINGS: {a: ['RUNTIME.TIME_BUDGET_HOURS=1e-9'], b: ['RUNTIME.TIME_BUDGET_HOURS=1e-9', SOLVER.POWER=2]}"
    )
    assert main(["study", "mine"]) == 3
    assert "the time budget is used up; to continue, type the same command" in capsys.readouterr().err


WAITING = "{a: [], b: [SOLVER.POWER=2], c: [SOLVER.POWER=3], d: [SOLVER.POWER=4]}"
ENDED = "{a: [SOLVER.PATIENCE=500], b: [SOLVER.NUM_EPOCHS=1]}"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("settings", "at", "to_group"),
    [
        (WAITING, "epoch   1/", True),
        (WAITING, "epoch   1/", False),
        (ENDED, "evaluate  done", True),  # the signal reaches a process that has nothing left to do, too
    ],
)
def test_ctrl_c_ends_a_study_of_two_workers_with_checkpoints(project_copy, workshop, settings, at, to_group):
    write_tiny_study(project_copy, workshop.data, settings, "SOLVER.NUM_EPOCHS=500")
    command = [sys.executable, "-u", "-m", "pipeline", "study", "mine", "--workers", "2"]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True, "start_new_session": True}
    with subprocess.Popen(command, cwd=project_copy, **pipes) as process:
        for line in process.stdout:
            if at in line:
                time.sleep(1)  # a process that has ended its run waits for the next
                (os.killpg if to_group else os.kill)(process.pid, signal.SIGINT)
                break
        rest = process.stdout.read()
    assert process.returncode == 3 and "Traceback" not in rest and "failed" not in rest
    assert "stopped: Ctrl-C; to continue, type the same command" in rest
    runs = [path.parent for path in Folders.from_environment().runs.glob("demo*/last.ckpt")]
    assert 1 <= len(runs) <= 2  # of four: what waited was not begun


def test_a_session_leaves_what_would_not_end_to_the_next(write_study, capsys):
    write_study("SETTINGS: {a: [], b: [SOLVER.POWER=2]}")
    assert main(["study", "mine", "--only", "a"]) == 0
    (finished,) = Folders.from_environment().runs.glob("demo*/metrics.json")
    for path in (finished.parent / ".stages").glob("*.json"):
        marker = json.loads(path.read_text())
        path.write_text(json.dumps(marker | {"seconds": 59.99 / MARGIN if path.stem == "train" else 0.0}))
    capsys.readouterr()
    assert main(["study", "mine", "--time-limit", "1min"]) == 3  # a minute, less what it takes to see that a is done
    captured = capsys.readouterr()
    assert "1 run left for the next session (the next takes about 60.0 s)" in captured.out
    assert "b, split 0" not in captured.out
    assert captured.err == f"stopped: {NO_TIME}; to continue, type the same command\n"
    assert main(["study", "mine"]) == 0


@pytest.mark.slow
def test_each_worker_of_a_study_sees_a_gpu_of_its_own(project_copy, workshop):
    write_tiny_study(project_copy, workshop.data, "{a: [], b: [SOLVER.POWER=2]}", "SOLVER.NUM_EPOCHS=1")
    command = [sys.executable, "-u", "-m", "pipeline", "study", "mine"]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "3,1"}
    done = subprocess.run(command, cwd=project_copy, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert sorted(re.findall(r"^\w, split 0: (on GPU \d)$", done.stdout, re.MULTILINE)) == ["on GPU 1", "on GPU 3"]
