"""The engine: stages run when they must and say why, one process at a time, and nothing half-done is taken for done."""

from __future__ import annotations

import json
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.config.load import load
from pipeline.engine.chain import Run, Stage, locked, run_chain, stage_states, take_over, why_run
from pipeline.engine.stopping import Stop
from pipeline.errors import Stopped, UserError
from pipeline.paths import Folders
from tests.tiny import executed, run_paths

OUTER = "the image"


class Bench:
    """Three stages in a row: `cut` reads a file outside, `learn` what `cut` wrote, `tell` what both wrote."""

    def __init__(self, folder: Path, *changes: str) -> None:
        self.outside = folder / "image.jpg"
        if not self.outside.exists():
            self.outside.write_text("pixels")
        self.loaded = load("demo", changes)
        self.paths = run_paths("bench")
        self.texts = {"cut": "cut", "learn": "learned", "tell": "told"}
        self.keys: list[str] = []
        self.reads_outside = lambda run: {OUTER: self.outside}
        self.lacks = lambda run: False
        self.during = lambda name: None

    def stages(self) -> tuple[Stage, ...]:
        def work(name: str, file: str):
            def write(run: Run) -> None:
                self.keys.append(run.key)
                self.during(name)
                (run.paths / file).write_text(self.texts[name])

            return write

        solver = ("SOLVER.MAX_LR", "SOLVER.OPTIMIZER")
        return (
            Stage("cut", "cuts", work("cut", "cut.txt"), ("DATASETS.PADDING",), (), ("cut.txt",), self._outside,
                  lacks=lambda run: self.lacks(run)),
            Stage("learn", "learns", work("learn", "learned.txt"), solver, ("cut.txt",), ("learned.txt",)),
            Stage("tell", "tells", work("tell", "told.txt"), (), ("cut.txt", "learned.txt"), ("told.txt",)),
        )  # fmt: skip

    def _outside(self, run: Run):
        return self.reads_outside(run)

    def run(self, last: str = "tell", force: tuple[str, ...] = (), stop: Stop | None = None) -> list[str]:
        """Runs the chain; returns what it said."""
        lines: list[str] = []
        run_chain(self.stages(), last, Run(self.loaded, self.paths, stop or Stop()), force, lines.append)
        return lines


@pytest.fixture
def bench(tmp_path):
    return Bench(tmp_path)


def reasons(lines: list[str]) -> dict[str, str]:
    """Returns the stages that ran, with the reasons in brackets."""
    return {line.split()[0]: line[line.index("(") + 1 : -1] for line in lines if line.endswith(")")}


def test_every_stage_runs_once_in_order_and_is_skipped_when_fresh(bench):
    first = bench.run()
    assert executed(first) == ["cut", "learn", "tell"] and set(reasons(first).values()) == {"not done yet"}
    assert bench.run() == ["cut       fresh, skipped", "learn     fresh, skipped", "tell      fresh, skipped"]


def test_stages_beyond_the_last_one_named_are_left_alone(bench):
    assert executed(bench.run("learn")) == ["cut", "learn"]
    assert list(stage_states(bench.stages(), bench.paths)) == ["cut", "learn"]


def test_a_changed_setting_runs_the_stages_that_name_it(bench, tmp_path):
    bench.run()
    other = Bench(tmp_path, "SOLVER.MAX_LR=0.5")
    before = bench.loaded.values["SOLVER.MAX_LR"]
    assert reasons(other.run()) == {"learn": f"SOLVER.MAX_LR changed ({before} -> 0.5)"}


def test_what_comes_out_as_before_makes_nothing_after_it_run(bench, tmp_path):
    bench.run()
    bench.outside.write_text("other pixels")
    assert reasons(bench.run()) == {"cut": f"{OUTER} changed"}


def test_what_comes_out_otherwise_makes_its_readers_run(bench):
    bench.run()
    bench.outside.write_text("other pixels")
    bench.texts["cut"] = "cut otherwise"
    assert reasons(bench.run()) == {
        "cut": f"{OUTER} changed",
        "learn": "cut.txt changed",
        "tell": "cut.txt changed",
    }


def test_keys_that_differ_between_machines_change_nothing(bench, tmp_path):
    bench.run()
    machine = ("RUNTIME.DEVICE=cpu", "DATALOADERS.TRAIN.NUM_WORKERS=3", "SOLVER.SAVE_MINUTES=0")
    assert executed(Bench(tmp_path, *machine).run()) == []


@pytest.mark.parametrize("change", [lambda path: path.unlink(), lambda path: path.write_text("by hand")])
def test_an_output_that_is_gone_or_was_changed_is_made_again(bench, change):
    bench.run()
    change(bench.paths / "learned.txt")
    assert reasons(bench.run()) == {"learn": "learned.txt is gone or was changed"}
    assert (bench.paths / "learned.txt").read_text() == "learned"


def test_touched_files_stay_fresh(bench):
    bench.run()
    for path in (bench.outside, bench.paths / "cut.txt", bench.paths / "told.txt"):
        os.utime(path, (1, 1))
    assert executed(bench.run()) == []


def stop_within(bench: Bench, name: str) -> str:
    """Runs the chain, stops in the middle of a stage, and returns the key that the stage had."""

    def stop(running: str) -> None:
        if running == name:
            raise Stopped("the test says so")

    bench.during = stop
    with pytest.raises(Stopped):
        bench.run()
    bench.during = lambda running: None
    return bench.keys[-1]


def test_a_half_done_stage_is_continued_where_what_it_began_with_has_gone(bench):
    key = stop_within(bench, "cut")
    bench.outside.unlink()
    bench.run()
    assert bench.keys[1] == key


def test_a_half_done_stage_is_continued_where_what_it_did_without_turns_up(bench):
    bench.outside.unlink()
    key = stop_within(bench, "cut")
    bench.outside.write_text("pixels")
    bench.run()
    assert bench.keys[1] == key


@pytest.mark.parametrize("is_done", [True, False])
def test_a_stage_with_other_inputs_or_settings_is_not_continued(bench, tmp_path, is_done):
    keys = [stop_within(bench, "cut")]
    if is_done:
        bench.run("cut")
        assert bench.keys[1] == keys[0]
    bench.outside.write_text("other pixels")
    keys.append(stop_within(bench, "cut"))
    other = Bench(tmp_path, "DATASETS.PADDING=ignore")
    keys.append(stop_within(other, "cut"))
    assert len(set(keys)) == 3


def test_a_run_copied_elsewhere_stays_fresh(bench, tmp_path, monkeypatch):
    bench.run()
    shutil.copytree(tmp_path / "runs", tmp_path / "other/runs")
    monkeypatch.setenv("RUNS_DIR", str(tmp_path / "other/runs"))
    shutil.rmtree(tmp_path / "runs")
    bench.outside = bench.outside.rename(tmp_path / "other/photo.jpg")
    assert executed(bench.run()) == []


def test_what_lies_outside_and_is_gone_is_no_reason_to_run_again(bench):
    bench.run()
    bench.outside.unlink()
    assert executed(bench.run()) == []

    def refuse(run):
        raise UserError("no data here")

    bench.reads_outside = refuse
    assert executed(bench.run()) == []
    with pytest.raises(UserError, match="no data here"):
        bench.run(force=("cut",))
    assert executed(bench.run()) == []  # what was there is still whole


def test_what_was_not_outside_before_is_no_reason_either(bench):
    bench.outside.unlink()
    bench.run()
    bench.outside.write_text("turned up")
    assert executed(bench.run()) == []


def test_the_names_of_many_files_outside_count(bench, tmp_path):
    for name in ("a", "b"):
        (tmp_path / name).write_text(name)
    bench.reads_outside = lambda run: {OUTER: [tmp_path / "a", tmp_path / "b"]}
    bench.run()
    (tmp_path / "b").rename(tmp_path / "c")
    bench.reads_outside = lambda run: {OUTER: [tmp_path / "a", tmp_path / "c"]}
    assert reasons(bench.run()) == {"cut": f"{OUTER} changed"}
    bench.reads_outside = lambda run: {OUTER: []}
    assert reasons(bench.run()) == {"cut": f"{OUTER} changed"}


def test_force_does_the_named_stages_again_from_their_beginning(bench):
    bench.run()
    seen = []
    bench.during = lambda name: seen.append((name, (bench.paths / "learned.txt").exists()))
    assert reasons(bench.run(force=("learn",))) == {"learn": "--force"}
    assert seen == [("learn", False)]
    assert executed(bench.run(force=("cut", "learn", "tell"))) == ["cut", "learn", "tell"]


def test_a_stage_that_fails_is_not_done_and_those_before_it_are(bench):
    def fail(name):
        if name == "learn":
            raise UserError("no")

    bench.during = fail
    with pytest.raises(UserError, match="no"):
        bench.run()
    bench.during = lambda name: None
    assert reasons(bench.run()) == {"learn": "not finished", "tell": "not done yet"}


def test_a_stage_that_fails_a_second_time_is_not_taken_for_done(bench):
    bench.run()

    def fail(name):
        raise KeyboardInterrupt

    bench.during = fail
    with pytest.raises(KeyboardInterrupt):
        bench.run(force=("learn",))
    bench.during = lambda name: None
    assert reasons(bench.run()) == {"learn": "not finished"}


def test_of_a_half_done_stage_the_setting_that_changed_is_named(bench, tmp_path):
    stop_within(bench, "learn")
    before = bench.loaded.values["SOLVER.MAX_LR"]
    assert reasons(Bench(tmp_path, "SOLVER.MAX_LR=0.5").run())["learn"] == f"SOLVER.MAX_LR changed ({before} -> 0.5)"


def test_a_mistake_told_before_any_stage_was_done_leaves_no_run(bench):
    def fail(name):
        raise UserError("no such encoder")

    bench.during = fail
    with pytest.raises(UserError):
        bench.run()
    assert not bench.paths.folder.exists()
    bench.during = lambda name: None
    bench.run("cut")
    bench.during = fail
    with pytest.raises(UserError):
        bench.run(force=("cut",))
    assert bench.paths.folder.exists()


def shared(bench: Bench) -> tuple[Stage, ...]:
    cut, learn, tell = bench.stages()
    return replace(cut, is_shared=True), replace(learn, is_shared=True, leaves=("log.txt", "events")), tell


def run_twin(tmp_path: Path, *changes: str, force: tuple[str, ...] = (), during=None) -> tuple[Bench, list[str]]:
    """Runs the chain with its first two stages shared, in the folder that these overrides have."""
    bench, lines = Bench(tmp_path, *changes), []
    bench.paths = run_paths(bench.loaded.run)
    bench.during = during or bench.during
    run_chain(shared(bench), "tell", Run(bench.loaded, bench.paths, Stop()), force, lines.append)
    return bench, lines


TWIN = "DECODE.SUPPRESS=fitted"


def test_shared_stages_are_taken_over_from_a_run_that_has_done_them_with_the_same_settings(tmp_path):
    first, _ = run_twin(tmp_path)
    (first.paths / "log.txt").write_text("log")
    (first.paths / "events").mkdir()
    (first.paths / "events" / "one").write_text("event")
    second, lines = run_twin(tmp_path, TWIN)
    assert len(second.keys) == 1 and executed(lines) == ["tell"]
    assert [line for line in lines if "learn" in line] == [
        f"learn     taken from {first.paths.folder}, where it was done with the same settings"
    ]
    for name in ("learned.txt", "log.txt", "events/one"):
        assert (second.paths / name).samefile(first.paths / name)
    assert executed(run_twin(tmp_path, TWIN)[1]) == []
    (first.paths / "learned.txt").unlink()
    assert executed(run_twin(tmp_path, TWIN)[1]) == []


def test_what_is_there_may_be_taken_over_without_running_anything(tmp_path):
    run_twin(tmp_path)
    second = Bench(tmp_path, TWIN)
    run = Run(second.loaded, run_paths(second.loaded.run), Stop())
    take_over(shared(second), "learn", run, lambda line: None)
    assert list(stage_states(shared(second), run.paths)) == ["cut", "learn"] and second.keys == []
    other = Bench(tmp_path, "SOLVER.MAX_LR=0.5", "DATASETS.PADDING=ignore")
    run = Run(other.loaded, run_paths(other.loaded.run), Stop())
    take_over(shared(other), "learn", run, lambda line: None)
    assert not run.paths.folder.exists()


def test_a_stage_is_carried_out_where_the_other_run_was_changed_or_differs_or_force_says_so(tmp_path):
    first, _ = run_twin(tmp_path)
    assert "learn" in executed(run_twin(tmp_path, "SOLVER.MAX_LR=0.5")[1])
    second, lines = run_twin(tmp_path, TWIN, force=("learn",))
    assert "learn" in executed(lines)
    shutil.rmtree(second.paths.folder)
    (first.paths / "learned.txt").write_text("by hand")
    assert "learn" in executed(run_twin(tmp_path, TWIN)[1])


def test_work_of_its_own_is_never_taken_over_by_anothers(tmp_path):
    first, _ = run_twin(tmp_path)
    other, _ = run_twin(tmp_path, "SOLVER.MAX_LR=0.5")
    other.loaded = first.loaded  # the edited config now says what the first run's did
    lines: list[str] = []
    run_chain(shared(other), "learn", Run(first.loaded, other.paths, Stop()), (), lines.append)
    assert executed(lines) == ["learn"]

    def stop(name: str) -> None:
        raise Stopped("the test says so")

    with pytest.raises(Stopped):
        run_twin(tmp_path, TWIN, force=("learn",), during=stop)
    lines = run_twin(tmp_path, TWIN)[1]
    assert "learn" in executed(lines)  # half done, and so continued


def test_what_a_twin_read_and_is_not_here_any_more_is_no_reason_to_do_its_work_again(tmp_path):
    first, _ = run_twin(tmp_path)
    first.outside.unlink()
    second = Bench(tmp_path, TWIN)
    second.outside.unlink()  # which Bench writes where it is absent
    second.paths, lines = run_paths(second.loaded.run), []

    def refuse(run: Run) -> None:
        raise UserError("nothing to start from")

    stages = [replace(stage, check=refuse) if stage.is_shared else stage for stage in shared(second)]
    run_chain(stages, "tell", Run(second.loaded, second.paths, Stop()), (), lines.append)
    assert executed(lines) == ["tell"]


def test_large_files_that_a_twin_lacks_are_made_again_before_they_are_needed(tmp_path):
    run_twin(tmp_path)
    store = tmp_path / "store"
    second = Bench(tmp_path, TWIN, "SOLVER.MAX_LR=0.5")
    second.paths, second.lacks, lines = run_paths(second.loaded.run), lambda run: not store.exists(), []

    def during(name: str) -> None:
        if name == "cut":
            store.touch()
        assert store.exists()

    second.during = during
    run_chain(shared(second), "tell", Run(second.loaded, second.paths, Stop()), (), lines.append)
    assert executed(lines) == ["cut", "learn", "tell"] and "taken from" in lines[0]


def test_who_finds_a_run_in_use_leaves_it_alone(bench):
    with locked(bench.paths):
        (bench.paths / "half.txt").write_text("done")
        child = os.fork()
        if not child:
            code = 1
            try:
                bench.run()
            except UserError as error:
                code = 7 if "is being run by process" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert (bench.paths / "half.txt").exists()


def test_a_stage_that_writes_nothing_is_a_fault(bench):
    stage = replace(bench.stages()[0], function=lambda run: None)
    with pytest.raises(RuntimeError, match=r"stage cut ended without writing cut\.txt"):
        run_chain([stage], "cut", Run(bench.loaded, bench.paths, Stop()), (), lambda line: None)


def test_a_new_version_of_a_stage_runs_again(bench):
    bench.run()
    stages = (replace(bench.stages()[0], version=2), *bench.stages()[1:])
    lines: list[str] = []
    run_chain(stages, "tell", Run(bench.loaded, bench.paths, Stop()), (), lines.append)
    assert reasons(lines) == {"cut": "the stage itself has a new version"}


def test_a_product_elsewhere_that_is_gone_is_made_again_only_when_it_is_needed(bench):
    bench.run()
    bench.lacks = lambda run: True
    lines = bench.run()
    assert executed(lines) == [] and "its large files are gone, made again when needed" in lines[0]
    assert reasons(bench.run(force=("learn",)))["cut"] == "its large files are gone"


def test_half_done_work_has_the_key_of_all_that_it_depends_on(bench, tmp_path):
    bench.run()
    bench.run(force=("learn",))
    first, again = bench.keys[1], bench.keys[3]
    other = Bench(tmp_path, "SOLVER.OPTIMIZER.NAME=SGD")
    other.run()
    assert first == again != other.keys[0] and len(first) == 64


def test_asking_why_runs_nothing(bench):
    run = Run(bench.loaded, bench.paths, Stop())
    assert why_run(bench.stages()[0], run) == "not done yet"
    assert not bench.paths.folder.exists()


def test_a_stop_is_heeded_between_two_stages(bench):
    stop = Stop()
    bench.during = lambda name: setattr(stop, "reason", "the time budget is used up")
    with pytest.raises(Stopped, match="the time budget is used up, before learn"):
        bench.run(stop=stop)
    assert executed(bench.run()) == ["learn", "tell"]


def test_the_resolved_config_lies_in_the_runs_folder(bench, tmp_path):
    bench.run()
    text = (bench.paths / "config.yaml").read_text()
    assert text.startswith("# Resolved values of demo.\n") and "Overridden" not in text
    assert json.loads(text[text.index("{") :])["SOLVER"]["MAX_LR"] == bench.loaded.values["SOLVER.MAX_LR"]
    Bench(tmp_path, "SOLVER.MAX_LR=0.5").run()
    assert "# Overridden on the command line: SOLVER.MAX_LR" in (bench.paths / "config.yaml").read_text()


def test_what_killed_writers_left_is_swept_but_not_what_other_runs_are_writing(bench):
    bench.paths.markers.mkdir(parents=True)
    Folders.from_environment().submissions.mkdir(parents=True)
    dead = [bench.paths / "last.tmp-123.ckpt", bench.paths.markers / "train.tmp-9.json"]
    dead.append(Folders.from_environment().submissions / "bench.tmp-123.csv")
    alive = Folders.from_environment().submissions / "bench2.tmp-123.csv"
    for path in (*dead, alive):
        path.write_text("half")
    bench.run()
    assert [path.exists() for path in (*dead, alive)] == [False, False, False, True]


def test_a_folder_that_cannot_be_written_is_told(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS_DIR", str(bench.outside))
    with pytest.raises(UserError, match=r"cannot write below .*: Not a directory; .*set RUNS_DIR to a folder of yours"):
        bench.run()


def test_a_full_disk_is_told_from_the_first_byte_on(bench):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        with pytest.raises(UserError, match=r"cannot write below .*: File too large; free space there"):
            bench.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert executed(bench.run()) == ["cut", "learn", "tell"]


def test_what_a_later_stage_could_not_do_is_refused_before_the_first_one_runs(bench):
    def refuse(run):
        raise UserError("no weights here")

    stages = (*bench.stages()[:2], replace(bench.stages()[2], check=refuse))
    with pytest.raises(UserError, match="no weights here"):
        run_chain(stages, "tell", Run(bench.loaded, bench.paths, Stop()), (), pytest.fail)
    assert stage_states(stages, bench.paths) == {}
    bench.run()
    run_chain(stages, "tell", Run(bench.loaded, bench.paths, Stop()), ("cut",), lambda line: None)


HOLD = """
    import os, time
    from pipeline.engine.chain import locked
        with locked(run_paths("bench")):
        worker = os.fork()  # as a loader's worker is
        if worker:
            print(worker, flush=True)
        time.sleep(60)
"""


@contextmanager
def another_process():
    """Another process that holds the run's lock, with a worker of its own: yields both."""
    command = [sys.executable, "-c", textwrap.dedent(HOLD)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        worker = int(holder.stdout.readline())
        try:
            yield holder, worker
        finally:
            for number in (holder.pid, worker):
                os.kill(number, signal.SIGKILL)


def test_a_second_process_is_refused_by_the_number_of_the_first(bench):
    with another_process() as (holder, _):
        wanted = f"bench is being run by process {holder.pid} already; wait for it or stop it"
        with pytest.raises(UserError, match=wanted):
            bench.run()
    assert executed(bench.run()) == ["cut", "learn", "tell"]


def test_the_lock_goes_with_a_killed_process_although_its_workers_live_on(bench):
    with another_process() as (holder, worker):
        holder.kill()
        os.waitid(os.P_PID, holder.pid, os.WEXITED | os.WNOWAIT)
        os.kill(worker, 0)  # it is alive
        with locked(bench.paths):
            pass


def test_a_file_system_without_locks_is_worked_on_without(bench, monkeypatch):
    def refuse(*arguments):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.lockf", refuse)
    assert executed(bench.run()) == ["cut", "learn", "tell"]


def test_what_a_later_stage_cannot_do_is_refused_before_the_first_one_runs(bench):
    def refuse(run: Run) -> None:
        raise UserError("no weights for this network")

    stages = tuple(replace(stage, check=refuse) if stage.name == "learn" else stage for stage in bench.stages())
    run, said = Run(bench.loaded, bench.paths, Stop()), []
    with pytest.raises(UserError, match="no weights"):
        run_chain(stages, "tell", run, (), said.append)
    assert said == [] and bench.keys == []
    run_chain(stages, "cut", run, (), said.append)  # what is not wanted now need not be possible now
    assert executed(said) == ["cut"]


def test_a_stage_named_as_the_last_makes_its_lost_files_again(bench):
    bench.run()
    bench.lacks = lambda run: True
    assert reasons(bench.run("cut")) == {"cut": "its large files are gone"}
