"""How a stage was carried out is recorded beside its results, and makes none of them stale."""

from __future__ import annotations

import json
import mmap
import shutil
import subprocess
from pathlib import Path

import pytest

from pipeline.engine.dependence import why_run
from pipeline.errors import Stopped
from pipeline.paths import MEMORY
from pipeline.training.memory import micro_batches
from pipeline.work.provenance import commit, peak_bytes, recorded
from tests.tiny import executed, run_of, run_stages

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="needs git")
MIB = 1024**2


def facts_of(paths, stage: str) -> dict:
    return json.loads((paths / "provenance" / f"{stage}.json").read_text())


@pytest.fixture
def evaluated(workshop, without_drawing):
    loaded = workshop.tiny("SWEEP.ENABLE=false")
    paths, _ = run_stages(loaded, "evaluate")
    return loaded, paths


def test_training_and_evaluation_record_versions_machine_and_memory(evaluated):
    _, paths = evaluated
    for stage in ("train", "evaluate"):
        facts = facts_of(paths, stage)
        assert {"Python", "torch", "segmentation-models-pytorch", "timm", "albumentations"} <= set(facts["versions"])
        assert facts["machine"]["cores"] >= 1 and facts["machine"]["memory_bytes"] > 100 * MIB
        assert facts["peak_bytes"]["process"] > 100 * MIB and facts["device"] == "the CPU, float32"


def test_batches_that_were_cut_because_memory_ran_out_are_recorded(workshop):
    run = run_of(workshop.tiny("SWEEP.ENABLE=false"))
    with recorded(run, "train"):
        pass
    assert "micro_batches" not in facts_of(run.paths, "train")
    micro = micro_batches(run.loaded.config, run.paths / MEMORY)
    (run.paths / MEMORY).write_text(json.dumps({"key": micro.key, "accumulate": 2}))
    for stage in ("train", "evaluate"):
        with recorded(run, stage):
            pass
    assert facts_of(run.paths, "train")["micro_batches"] == {"batch_size": 2, "parts": 2, "wanted": 1}
    assert "micro_batches" not in facts_of(run.paths, "evaluate")


def test_another_machine_makes_nothing_stale(evaluated):
    loaded, paths = evaluated
    for stage in ("train", "evaluate"):
        (paths / "provenance" / f"{stage}.json").write_text("{}")
    run = run_of(loaded)
    assert [why_run(run.stage(name), run) for name in ("train", "evaluate")] == [None, None]
    shutil.rmtree(paths / "provenance")
    assert executed(run_stages(loaded, "evaluate")[1]) == []


def test_a_training_that_was_stopped_and_goes_on_keeps_its_highest_peak_and_its_machines(workshop):
    run = run_of(workshop.tiny("SWEEP.ENABLE=false"))
    (run.paths / "last.ckpt").write_bytes(b"")
    with pytest.raises(Stopped), recorded(run, "train"):
        raise Stopped("enough")
    path = run.paths / "provenance/train.json"
    before = json.loads(path.read_text())
    before["peak_bytes"]["process"], before["machine"]["cpu"] = 2**50, "Another CPU"
    path.write_text(json.dumps(before))
    with recorded(run, "train"):
        pass
    after = json.loads(path.read_text())
    assert after["peak_bytes"]["process"] == 2**50
    assert [one["cpu"] for one in after["earlier"]] == ["Another CPU"]
    (run.paths / "last.ckpt").unlink()  # one that begins anew has neither
    with recorded(run, "train"):
        pass
    assert json.loads(path.read_text())["peak_bytes"]["process"] < 2**50


def test_a_stage_that_fails_records_nothing(workshop):
    run = run_of(workshop.tiny("SWEEP.ENABLE=false"))
    with pytest.raises(ZeroDivisionError), recorded(run, "evaluate"):
        raise ZeroDivisionError
    assert not (run.paths / "provenance").exists()


def test_no_stage_fails_for_it(workshop):
    lines: list[str] = []
    run = run_of(workshop.tiny("SWEEP.ENABLE=false"), lines.append)
    (run.paths / "provenance").write_text("a file where the folder should be")
    with recorded(run, "evaluate"):
        pass
    assert lines == ["warning: evaluate.json with versions and machine was not written: " + lines[0].split(": ", 2)[2]]
    with pytest.raises(Stopped), recorded(run, "evaluate"):
        raise Stopped("Ctrl-C")


def fill(num_bytes: int) -> None:
    """Writes memory that comes from the system: malloc could give some that earlier tests have freed."""
    with mmap.mmap(-1, num_bytes) as block:
        for _ in range(num_bytes // MIB):
            block.write(b"1" * MIB)


def test_the_peak_is_that_of_the_stage_not_of_what_ran_before(workshop):
    run = run_of(workshop.tiny("SWEEP.ENABLE=false"))
    fill(300 * MIB)
    if not Path("/proc/self/clear_refs").exists():
        pytest.skip("only Linux tells the peak of a part of a process's life")
    with recorded(run, "evaluate"):
        before = peak_bytes()["process"]
        fill(200 * MIB)
    assert facts_of(run.paths, "evaluate")["peak_bytes"]["process"] - before == pytest.approx(200 * MIB, rel=0.1)


@needs_git
def test_the_commit_is_that_of_the_checkout_and_says_whether_code_was_changed(tmp_path):
    assert commit(tmp_path) is None

    def git(*arguments: str) -> str:
        own = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
        command = ["git", "-C", str(tmp_path), *own, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()

    git("init")
    assert commit(tmp_path) is None, "no commit yet"
    (tmp_path / "pipeline").mkdir()
    (tmp_path / "pipeline" / "a.py").write_text("a = 1\n")
    git("add", "."), git("commit", "-m", "first")
    assert commit(tmp_path) == {"hash": git("rev-parse", "HEAD"), "is_changed": False}
    (tmp_path / "notes.txt").write_text("no code")
    assert not commit(tmp_path)["is_changed"]
    (tmp_path / "pipeline" / "b.py").write_text("b = 1\n")
    assert commit(tmp_path)["is_changed"]
