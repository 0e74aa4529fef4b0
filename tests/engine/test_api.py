"""Runs by one call each: folders are handed over, nothing is kept between calls, many runs end each for itself."""

from __future__ import annotations

import errno
import os
import time
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.engine import api
from pipeline.engine.api import Outcome, Request, open_run, run, run_many
from pipeline.engine.stopping import Stop
from pipeline.errors import Stopped, UserError
from pipeline.paths import BEST, TEST_CATALOG, TRAIN_CATALOG, Folders
from tests.tiny import executed, overrides, write_competition

pytestmark = pytest.mark.usefixtures("without_drawing")

# The competition is looked for by its name, below the folders that are handed over.
BY_NAME = ("DATASETS.COMPETITION=aeroscapes", "DATASETS.DIRECTORY=null", "SWEEP.ENABLE=false")


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Path:
    """A folder of data with one competition in it."""
    folder = tmp_path_factory.mktemp("data")
    write_competition(folder / "aeroscapes")
    return folder


def folders_in(folder: Path, data: Path) -> Folders:
    return Folders(folder / "runs", folder / "out", folder / "scratch", (data,), (folder / "weights",))


def tiny(*changes: str) -> tuple[str, ...]:
    return overrides(Path("nowhere"), *BY_NAME, *changes)


def test_two_runs_in_one_process_have_their_own_folders_and_the_same_result(data, tmp_path):
    found = []
    for name in ("first", "second"):
        finished = run("demo", tiny(), "train", folders_in(tmp_path / name, data), log=lambda line: None)
        assert finished.paths.folder.parent == tmp_path / name / "runs"
        assert (tmp_path / name / "scratch" / "tiles").is_dir()
        found.append((finished.paths / BEST).read_bytes())
    assert found[0] == found[1]
    # Nothing below the API reads the environment, where other folders are named.
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "second"]


def test_a_run_can_be_opened_without_running_anything(data, tmp_path):
    opened = open_run("demo", tiny("SOLVER.MAX_LR=0.5"), folders_in(tmp_path, data))
    assert opened.loaded.settings["SOLVER.MAX_LR"] == 0.5
    assert [stage.name for stage in opened.stages][:4] == ["prepare", "testset", "tile", "train"]
    assert opened.paths.folder == tmp_path / "runs" / opened.name and opened.name.startswith("demo-")
    assert opened.stage("train").writes == ("best.ckpt", "history.csv")
    assert list(tmp_path.iterdir()) == []


def test_without_folders_the_environment_names_them(tmp_path):
    assert open_run("demo").paths.folder == tmp_path / "runs" / "demo"


def test_lines_go_to_the_log_that_is_given_or_are_printed(data, tmp_path, capsys):
    lines: list[str] = []
    folders = folders_in(tmp_path, data)
    run("demo", tiny(), "testset", folders, log=lines.append)
    assert executed(lines) == ["prepare", "testset"] and "4 test images" in lines
    assert capsys.readouterr().out == ""
    run("demo", tiny(), "testset", folders)
    assert capsys.readouterr().out == "prepare   up to date\ntestset   up to date\n"


def test_stages_can_be_forced(data, tmp_path):
    lines: list[str] = []
    for force in ((), ("testset",)):
        run("demo", tiny(), "testset", folders_in(tmp_path, data), log=lines.append, force=force)
    assert executed(lines) == ["prepare", "testset", "testset"]


@pytest.mark.parametrize("arguments", [{"last_stage": "sweep"}, {"force": ("sweep",)}])
def test_a_stage_that_the_config_does_not_have_is_refused_with_those_it_has(data, tmp_path, arguments):
    with pytest.raises(UserError, match="demo has no stage sweep; it has prepare testset tile train evaluate"):
        run("demo", tiny(), folders=folders_in(tmp_path, data), **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_mistake_in_config_or_data_is_raised(data, tmp_path):
    with pytest.raises(UserError, match=r"unknown key SOLVER\.MAXLR"):
        run("demo", ("SOLVER.MAXLR=1",), folders=folders_in(tmp_path, data))
    with pytest.raises(UserError, match=r"No data of the competition 'aeroscapes' found\. Searched for"):
        run("demo", tiny(), folders=folders_in(tmp_path, tmp_path / "elsewhere"))
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())


def test_a_time_budget_ends_the_run_and_the_same_call_continues(data, tmp_path):
    folders, lines = folders_in(tmp_path, data), []
    with pytest.raises(Stopped, match="the time budget is used up, before prepare"):
        run("demo", tiny("RUNTIME.TIME_BUDGET_HOURS=1e-9"), "testset", folders)
    asked = Stop()
    asked.reason = "the notebook says so"
    with pytest.raises(Stopped, match="the notebook says so, before prepare"):
        run("demo", tiny(), "testset", folders, stop=asked)
    run("demo", tiny("RUNTIME.TIME_BUDGET_HOURS=9"), "testset", folders, log=lines.append)
    assert executed(lines) == ["prepare", "testset"]
    assert len(list((tmp_path / "runs").iterdir())) == 1  # a budget is no other experiment


REQUESTS = (
    Request("demo", tiny("EXPERIMENT.SEED=1")),
    Request("demo", tiny("EXPERIMENT.SEED=2", "SOLVER.MAXLR=1")),  # refused by the config
    Request("demo", tiny("DATASETS.SPLIT_INDEX=1", "DATASETS.DIRECTORY=/nowhere")),  # refused by a stage
    Request("demo", tiny("EXPERIMENT.SEED=4")),
)


def check_outcomes(outcomes: list[Outcome], folders: Folders) -> None:
    assert [outcome.request for outcome in outcomes] == list(REQUESTS)
    assert [outcome.state for outcome in outcomes] == ["done", "refused", "refused", "done"]
    assert outcomes[1].run == "demo" and "unknown key SOLVER.MAXLR" in outcomes[1].message
    assert "there is no folder /nowhere" in outcomes[2].message
    for outcome in (outcomes[0], outcomes[3]):
        assert outcome.message == "" and outcome.run.startswith("demo-")
        assert (folders.run(outcome.run) / TRAIN_CATALOG).is_file()
        assert (folders.run(outcome.run) / TEST_CATALOG).is_file()
    assert not (folders.run(outcomes[2].run) / TRAIN_CATALOG).exists()


def test_many_runs_in_this_process_end_each_for_itself(data, tmp_path):
    lines: list[str] = []
    folders = folders_in(tmp_path, data)
    check_outcomes(run_many(REQUESTS, "testset", folders, log=lines.append), folders)
    assert all(line.startswith("demo: ") for line in lines) and "demo: 4 test images" in lines


def test_many_runs_in_two_processes_end_as_in_one(data, tmp_path, capfd):
    folders = folders_in(tmp_path, data)
    check_outcomes(run_many(REQUESTS, "testset", folders, workers=2), folders)
    lines = capfd.readouterr().out.splitlines()
    assert "demo: 4 test images" in lines and all(line.startswith("demo: ") for line in lines)


def test_names_alone_are_requests_too_and_equal_ones_have_an_outcome_each(tmp_path, data):
    outcomes = run_many(["NoSuch", "NoSuch", "nobody"], folders=folders_in(tmp_path, data))
    assert [(outcome.run, outcome.state) for outcome in outcomes] == [(name, "refused") for name in
                                                                      ("NoSuch", "NoSuch", "nobody")]  # fmt: skip


def test_a_process_of_many_runs_has_data_loading_workers_of_its_own(data, tmp_path):
    # Python starts those of a process that was not forked itself anew, as on macOS: what they get must be picklable.
    request = Request("demo", tiny("DATALOADERS.TRAIN.NUM_WORKERS=1", "DATALOADERS.VALID.NUM_WORKERS=1"))
    (outcome,) = run_many([request], "train", folders_in(tmp_path, data), workers=2)
    assert (outcome.state, outcome.message) == ("done", "")


def test_after_a_stop_no_further_run_begins(data, tmp_path):
    stop, lines = Stop(), []

    def stop_at_once(line: str) -> None:
        lines.append(line)
        stop.reason = "Ctrl-C"

    requests = [replace(REQUESTS[0], label="first"), *REQUESTS[1:]]
    first, *rest = run_many(requests, "prepare", folders_in(tmp_path, data), log=stop_at_once, stop=stop)
    assert first.state == "done"  # its only stage had begun
    assert {(outcome.state, outcome.message) for outcome in rest} == {("stopped", "before it began")}
    assert all(line.startswith("first: ") for line in lines)


def test_a_fault_or_a_stop_of_one_run_spares_the_others(data, tmp_path, monkeypatch):
    from pipeline.work import prepare

    plain = prepare.prepare

    def faulty(run) -> None:
        if run.loaded.settings["EXPERIMENT.SEED"] == 1:
            raise RuntimeError("a fault of the program")
        plain(run)

    monkeypatch.setattr(prepare, "prepare", faulty)
    requests = [REQUESTS[0], replace(REQUESTS[3], overrides=(*REQUESTS[3].overrides, "RUNTIME.TIME_BUDGET_HOURS=1e-9"))]
    failed, stopped, done = run_many([*requests, REQUESTS[3]], "prepare", folders_in(tmp_path, data))
    assert (failed.state, stopped.state, done.state) == ("failed", "stopped", "done")
    assert "Traceback" in failed.message and "RuntimeError: a fault of the program" in failed.message
    assert stopped.message == "the time budget is used up, before prepare" and stopped.run == done.run


def test_processes_that_find_no_shared_memory_are_refused_with_what_to_do(tmp_path, data, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("multiprocessing.synchronize.SemLock.__init__", refuse)  # as with a /dev/shm that is full
    with pytest.raises(UserError, match="cannot start 2 processes: No space left on device in shared memory; free"):
        run_many(["demo"], folders=folders_in(tmp_path, data), workers=2)


@pytest.mark.parametrize("moved_s", [86_400, -86_400])
def test_a_clock_that_is_set_while_runs_wait_does_not_end_the_session(tmp_path, data, monkeypatch, moved_s):
    end = api._end_of(Stop(budget_s=3600.0))
    now = time.time()
    monkeypatch.setattr(time, "time", lambda: now + moved_s)
    monkeypatch.setattr(Stop, "listen", lambda self: None)  # the signals of this process stay as they are
    monkeypatch.setattr(api, "_note_signals", lambda: None)
    began: list[Stop] = []
    monkeypatch.setattr(api, "run", lambda *arguments, **options: began.append(arguments[5]))
    outcome = api._attempt_alone(Request("demo", tiny()), "testset", folders_in(tmp_path, data), False, end)
    assert outcome.state == "done"
    assert 3500 < began[0].deadline - time.monotonic() <= 3600
