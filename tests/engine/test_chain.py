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
from pipeline.engine.added import ADDED
from pipeline.engine.chain import reuse_finished, run_chain, stage_seconds
from pipeline.engine.dependence import why_run
from pipeline.engine.folder import locked
from pipeline.engine.run import Run, Stage
from pipeline.engine.stopping import Stop
from pipeline.errors import Stopped, UserError
from pipeline.paths import REFUSAL, Folders, RunPaths, shown
from tests.tiny import executed

OUTER = "the image"


class Bench:
    """Three stages in a row: `cut` reads a file outside, `learn` what `cut` wrote, `tell` what both wrote.

    The run's folder is `bench` whatever the overrides are, as if the config's file had been edited.
    """

    def __init__(self, folder: Path, *changes: str) -> None:
        self.outside = folder / "image.jpg"
        if not self.outside.exists():
            self.outside.write_text("pixels")
        self.loaded = replace(load("demo", changes), run="bench")
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

    def make_run(self, log=print, stop: Stop | None = None) -> Run:
        """Returns the run in the folders that the environment names now."""
        return Run(self.loaded, Folders.from_environment(), log, stop or Stop(), lambda loaded: self.stages())

    @property
    def paths(self) -> RunPaths:
        return self.make_run().paths

    def run(self, last: str = "tell", force: tuple[str, ...] = (), stop: Stop | None = None, stages=None) -> list[str]:
        """Runs the chain; returns the lines that it logged."""
        lines: list[str] = []
        run_chain(self.make_run(lines.append, stop), last, force, stages)
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
    assert bench.run() == ["cut       up to date", "learn     up to date", "tell      up to date"]


def test_stages_beyond_the_last_one_named_are_left_alone(bench):
    assert executed(bench.run("learn")) == ["cut", "learn"]
    assert list(stage_seconds(bench.stages(), bench.paths)) == ["cut", "learn"]


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


def test_a_key_that_was_added_later_makes_a_run_stale_only_where_it_changes_something(bench, tmp_path, monkeypatch):
    bench.run()
    marker = bench.paths.marker("learn")
    content = json.loads(marker.read_text())
    usual = content["settings"].pop("SOLVER.MAX_LR")  # as if a pipeline without the key had finished the stage
    marker.write_text(json.dumps(content))
    assert reasons(bench.run()) == {"learn": f"SOLVER.MAX_LR changed (null -> {usual})"}
    marker.write_text(json.dumps(content))
    monkeypatch.setitem(ADDED, "SOLVER.MAX_LR", usual)
    assert executed(bench.run()) == []
    other = Bench(tmp_path, "SOLVER.MAX_LR=0.5")
    assert reasons(other.run()) == {"learn": "SOLVER.MAX_LR changed (null -> 0.5)"}
    assert reasons(bench.run()) == {"learn": "SOLVER.MAX_LR changed (0.5 -> null)"}


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


def test_a_mistake_reported_before_any_stage_was_done_leaves_no_run(bench):
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


class Sibling(Bench):
    """The same with its first two stages shared, in the folder that these overrides have."""

    def __init__(self, folder: Path, *changes: str) -> None:
        super().__init__(folder, *changes)
        self.loaded = load("demo", changes)

    def stages(self) -> tuple[Stage, ...]:
        cut, learn, tell = super().stages()
        return replace(cut, is_shared=True), replace(learn, is_shared=True, leaves=("log.txt", "events")), tell


OTHER = "DECODE.SUPPRESS=fitted"  # on which none of the stages depends


def test_shared_stages_are_reused_from_a_run_that_has_finished_them_with_the_same_settings(tmp_path):
    first, second = Sibling(tmp_path), Sibling(tmp_path, OTHER)
    first.run()
    (first.paths / "log.txt").write_text("log")
    (first.paths / "events").mkdir()
    (first.paths / "events" / "one").write_text("event")
    lines = second.run()
    assert len(second.keys) == 1 and executed(lines) == ["tell"]
    assert [line for line in lines if "learn" in line] == [
        f"learn     reused from {shown(first.paths.folder)} (same settings)"
    ]
    for name in ("learned.txt", "log.txt", "events/one"):
        assert (second.paths / name).samefile(first.paths / name)
    assert executed(second.run()) == []
    (first.paths / "learned.txt").unlink()
    assert executed(second.run()) == []


def test_finished_stages_may_be_reused_without_running_anything(tmp_path):
    Sibling(tmp_path).run()
    second = Sibling(tmp_path, OTHER)
    reuse_finished(second.make_run(), "learn")
    assert list(stage_seconds(second.stages(), second.paths)) == ["cut", "learn"] and second.keys == []
    other = Sibling(tmp_path, "SOLVER.MAX_LR=0.5", "DATASETS.PADDING=ignore")
    reuse_finished(other.make_run(), "learn")
    assert not other.paths.folder.exists()


def test_a_stage_runs_where_the_sibling_was_changed_or_differs_or_force_is_given(tmp_path):
    first, second = Sibling(tmp_path), Sibling(tmp_path, OTHER)
    first.run()
    assert "learn" in executed(Sibling(tmp_path, "SOLVER.MAX_LR=0.5").run())
    assert "learn" in executed(second.run(force=("learn",)))
    shutil.rmtree(second.paths.folder)
    (first.paths / "learned.txt").write_text("by hand")
    assert "learn" in executed(second.run())


def test_work_of_its_own_is_never_replaced_by_a_siblings(tmp_path):
    first, other, second = Sibling(tmp_path), Sibling(tmp_path, "SOLVER.MAX_LR=0.5"), Sibling(tmp_path, OTHER)
    first.run()
    other.run()
    other.loaded = replace(first.loaded, run=other.loaded.run)  # the edited config equals the first run's now
    assert executed(other.run("learn")) == ["learn"]

    def stop(name: str) -> None:
        raise Stopped("the test says so")

    second.during = stop
    with pytest.raises(Stopped):
        second.run(force=("learn",))
    second.during = lambda name: None
    assert "learn" in executed(second.run())  # half done, and so continued


def refuse(run: Run) -> None:
    raise UserError("no weights for this network")


def test_what_a_sibling_read_and_is_gone_by_now_is_no_reason_to_run_its_stages_again(tmp_path):
    first = Sibling(tmp_path)
    first.run()
    second = Sibling(tmp_path, OTHER)
    second.outside.unlink()
    stages = [replace(stage, check=refuse) if stage.is_shared else stage for stage in second.stages()]
    assert executed(second.run(stages=stages)) == ["tell"]


def test_large_files_that_a_sibling_lacks_are_made_again_before_they_are_needed(tmp_path):
    Sibling(tmp_path).run()
    store = tmp_path / "store"
    second = Sibling(tmp_path, OTHER, "SOLVER.MAX_LR=0.5")
    second.lacks = lambda run: not store.exists()

    def during(name: str) -> None:
        if name == "cut":
            store.touch()
        assert store.exists()

    second.during = during
    lines = second.run()
    assert executed(lines) == ["cut", "learn", "tell"] and "reused from" in lines[0]


def test_who_finds_a_run_in_use_leaves_it_alone(bench):
    with locked(bench.paths):
        (bench.paths / "half.txt").write_text("done")
        child = os.fork()
        if not child:
            code = 1
            try:
                bench.run()
            except UserError as error:
                code = 7 if "is already being run by process" in str(error) else 2
            finally:
                os._exit(code)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
        assert (bench.paths / "half.txt").exists()


def test_a_stage_that_writes_nothing_is_a_fault(bench):
    stage = replace(bench.stages()[0], function=lambda run: None)
    with pytest.raises(RuntimeError, match=r"stage cut ended without writing cut\.txt"):
        bench.run("cut", stages=[stage])


def test_a_new_version_of_a_stage_runs_again(bench):
    bench.run()
    stages = (replace(bench.stages()[0], version=2), *bench.stages()[1:])
    assert reasons(bench.run(stages=stages)) == {"cut": "the stage itself has a new version"}


def test_a_product_elsewhere_that_is_gone_is_made_again_only_when_it_is_needed(bench):
    bench.run()
    bench.lacks = lambda run: True
    lines = bench.run()
    assert executed(lines) == []
    assert lines[0] == "cut       up to date (its large files are gone; they are made again when needed)"
    assert reasons(bench.run(force=("learn",)))["cut"] == "its large files are gone"


def test_half_done_work_has_the_key_of_all_that_it_depends_on(bench, tmp_path):
    bench.run()
    bench.run(force=("learn",))
    first, again = bench.keys[1], bench.keys[3]
    other = Bench(tmp_path, "SOLVER.OPTIMIZER.NAME=SGD")
    other.run()
    assert first == again != other.keys[0] and len(first) == 64


def test_asking_why_runs_nothing(bench):
    assert why_run(bench.stages()[0], bench.make_run()) == "not done yet"
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


def test_a_folder_that_cannot_be_written_is_refused(bench, tmp_path, monkeypatch):
    monkeypatch.setenv("RUNS_DIR", str(bench.outside))
    wanted = r"cannot write below .*: Not a directory; .*set RUNS_DIR to a folder that you can write to"
    with pytest.raises(UserError, match=wanted):
        bench.run()


def test_a_file_in_the_place_of_a_runs_folder_and_the_reverse_are_named(bench):
    bench.run()
    (bench.paths / "plots").write_text("x")
    with pytest.raises(UserError, match="plots is a file, expected a folder; move it away"):
        bench.run()
    (bench.paths / "plots").unlink()
    (bench.paths / "best.ckpt").mkdir()
    with pytest.raises(UserError, match=r"best\.ckpt is a folder, expected a file; move it away"):
        bench.run()


def test_a_full_disk_is_refused_from_the_first_byte_on(bench):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
        with pytest.raises(UserError, match=r"cannot write below .*: File too large; free space there"):
            bench.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert executed(bench.run()) == ["cut", "learn", "tell"]


def test_a_refusal_that_cannot_be_kept_for_the_report_is_still_the_one_that_is_told(bench):
    def blocked(run: Run) -> None:
        (bench.paths / REFUSAL).mkdir()  # in the place of the file
        refuse(run)

    stages = (replace(bench.stages()[0], function=blocked), *bench.stages()[1:])
    with pytest.raises(UserError, match="no weights for this network"):
        bench.run(stages=stages)


def test_what_a_later_stage_could_not_do_is_refused_before_the_first_one_runs(bench):
    cut, learn, tell = bench.stages()
    stages, lines = (cut, replace(learn, check=refuse), tell), []
    with pytest.raises(UserError, match="no weights"):
        run_chain(bench.make_run(lines.append), "tell", stages=stages)
    assert lines == [] and bench.keys == [] and stage_seconds(stages, bench.paths) == {}
    assert executed(bench.run("cut", stages=stages)) == ["cut"]  # what is not wanted now need not be possible now


def test_a_stage_that_was_finished_once_is_not_checked_ahead(bench):
    bench.run()
    stages = (*bench.stages()[:2], replace(bench.stages()[2], check=refuse))
    assert executed(bench.run(force=("cut",), stages=stages)) == ["cut"]


HOLD = """
    import os, time
    from pipeline.engine.folder import locked
    from pipeline.paths import Folders
    with locked(Folders.from_environment().run("bench")):
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
    with another_process() as (holder, _), pytest.raises(UserError) as refusal:
        bench.run()
    holds = f"bench is already being run by process {holder.pid}"
    assert str(refusal.value) == f"{holds}; wait for it to end, or stop it: kill {holder.pid}"
    assert executed(bench.run()) == ["cut", "learn", "tell"]


def test_a_process_of_another_machine_is_named_with_its_machine(bench):
    with another_process() as (holder, _):
        (bench.paths.markers / "lock").write_text(f"{holder.pid} node-7")  # as it would have written on that machine
        with pytest.raises(UserError, match=rf"by process {holder.pid} on machine node-7; .*stop it there: kill"):
            bench.run()
        (bench.paths.markers / "lock").write_bytes(b"\xff\xfe")
        with pytest.raises(UserError, match="bench is already being run"):
            bench.run()


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


def test_a_stage_named_as_the_last_makes_its_lost_files_again(bench):
    bench.run()
    bench.lacks = lambda run: True
    assert reasons(bench.run("cut")) == {"cut": "its large files are gone"}
