"""Notebooks pushed with the installed client, over HTTP to a Kaggle on this machine; their output fetched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from pipeline.__main__ import main
from pipeline.config.load import load
from pipeline.notebook import push as push_module
from pipeline.paths import Folders
from tests.bootstrap.fake_project import write_wheel
from tests.submission.loopback import ASKS_UNTIL_READY, Kaggle, kaggle_at

FILES, KERNEL = "somebody/demo-train-files", "somebody/demo-train"


@pytest.fixture
def wheels(tmp_path) -> Path:
    (tmp_path / "wheels").mkdir()
    return write_wheel(tmp_path / "wheels", "first", "1.0").parent


@pytest.fixture
def server(tmp_path, monkeypatch):
    (tmp_path / "kaggle").mkdir()
    monkeypatch.setattr(push_module, "ASK_EVERY_S", 0.01)
    with kaggle_at(tmp_path / "kaggle") as server:
        yield server


def push(wheels: Path, *words: str) -> int:
    return main(["kaggle", "demo", "--wheels", str(wheels), "--push", *words])


def end_session(server: Kaggle, status: str = "COMPLETE", **more: str) -> None:
    server.write("kernels.json", {KERNEL: {"version": 1, "status": status, **more}})


def test_a_first_push_uploads_everything_and_the_next_continues_without_uploading_again(server, wheels, capsys):
    assert push(wheels) == 0
    out = capsys.readouterr().out
    assert "the session has started: https://www.kaggle.com/code/somebody/demo-train" in out
    assert server.read("datasets.json", {})[FILES]["files"] == ["demo-train.pack"]
    with tarfile.open(server.folder / "uploads" / "demo-train.pack") as pack:
        assert "project/run.sh" in pack.getnames()
    sent = server.bodies["SaveKernel"]
    assert sent["datasetDataSources"] == [FILES] and not sent.get("kernelDataSources")
    assert (sent["enableInternet"], sent["machineShape"], sent["isPrivate"]) == (False, "NvidiaTeslaT4", True)
    assert "train('demo-train', WORDS, " in "".join(cell["source"] for cell in json.loads(sent["text"])["cells"])
    assert server.asked.index("CreateDataset") < server.asked.index("SaveKernel")
    assert push(wheels) == 2
    assert "the last session of somebody/demo-train is queued; wait until it ends" in capsys.readouterr().err
    end_session(server)
    server.asked.clear()
    assert push(wheels) == 0
    assert "which continues from its last output" in capsys.readouterr().out
    assert server.bodies["SaveKernel"]["kernelDataSources"] == [KERNEL]
    assert "StartBlobUpload" not in server.asked


def test_what_has_changed_is_uploaded_as_a_new_version(server, wheels):
    assert push(wheels) == 0
    end_session(server)
    write_wheel(wheels, "second", "1.0")
    assert push(wheels) == 0
    own = server.read("datasets.json", {})[FILES]
    assert own["version"] == 2 and own["asked"] > ASKS_UNTIL_READY + 1  # the notebook has not got the version before
    assert server.asked.count("SaveKernel") == 2


@pytest.mark.parametrize(
    ("mood", "message"),
    [
        ("401", "no Kaggle credentials"),
        ("500", "Kaggle refused to look up somebody/demo-train: 500"),
        ("no network", "Kaggle cannot be reached"),
        (
            "broken upload",
            "failed to create somebody/demo-train-files: ValueError: Upload unsuccessful: demo-train.pack",
        ),
        ("data set refused", "Kaggle refused the dataset somebody/demo-train-files: the title is already in use"),
        ("damaged data set", "Kaggle could not process the dataset somebody/demo-train-files: its state is failed"),
        ("notebook refused", "Kaggle refused the notebook somebody/demo-train: Maximum weekly GPU quota"),
    ],
)
def test_a_refusal_says_what_kaggle_said(wheels, tmp_path, monkeypatch, capsys, mood, message):
    monkeypatch.setattr(push_module, "ASK_EVERY_S", 0.01)
    (tmp_path / "kaggle").mkdir()
    with kaggle_at(tmp_path / "kaggle", mood):
        assert push(wheels) == 2
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def test_an_input_that_kaggle_leaves_out_is_an_error(server, wheels, capsys):
    server.mood = "rules not accepted"
    assert main(["kaggle", "ExpAAB", "MODEL.ENCODER.WEIGHTS=null", "--wheels", str(wheels), "--push"]) == 2
    error = capsys.readouterr().err
    assert "without its input opencv-pytorch-course-segmentation, which it does not know or does not allow" in error
    assert "Accept the competition's rules" in error


def session_output(server: Kaggle, state: str) -> None:
    """Writes what a session leaves in /kaggle/working."""
    made, output = server.folder / "made", server.folder / "output"
    for name, text in {"runs/demo/.stages/train.json": state, "submissions/demo.csv": f"ImageID\n{state}\n"}.items():
        (made / name).parent.mkdir(parents=True, exist_ok=True)
        (made / name).write_text(text)
    output.mkdir(exist_ok=True)
    with tarfile.open(output / "demo-train-runs.pack", "w") as pack:
        for path in sorted(made.rglob("*.*")):
            if path.is_file():
                pack.add(path, path.relative_to(made))
    for name in ("demo_report.html", "submission.csv", "demo-train.log"):
        (output / name).write_text(state)


def test_the_state_of_a_session_and_its_runs_arrive_here(server, capsys):
    words = ["kaggle", "demo"]
    assert main([*words, "--status"]) == 0
    assert capsys.readouterr().out == "somebody/demo-train has not been pushed yet; add --push\n"
    end_session(server, "ERROR", why="out of memory")
    assert main([*words, "--status"]) == 0
    assert capsys.readouterr().out == "somebody/demo-train: error, out of memory\n"
    end_session(server)
    assert main([*words, "--fetch"]) == 2
    assert "the last session of somebody/demo-train left no output" in capsys.readouterr().err
    folders = Folders.from_environment()
    for state in ("first", "second"):  # the second session's runs replace the first one's
        session_output(server, state)
        assert main([*words, "--fetch"]) == 0
        assert (folders.runs / "demo/.stages/train.json").read_text() == state
        assert (folders.submissions / "demo.csv").read_text() == f"ImageID\n{state}\n"
        assert (folders.runs / "notebooks/demo-train/output/demo_report.html").read_text() == state
    assert "fetched: " in capsys.readouterr().out


def write_session(server: Kaggle, slug: str, files: dict[str, str]) -> None:
    """Writes the pack that a session leaves, with some files."""
    (server.folder / "output").mkdir(exist_ok=True)
    with tarfile.open(server.folder / "output" / f"{slug}-runs.pack", "w") as pack:
        for name, text in files.items():
            path = server.folder / "made" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
            os.utime(path, (1_000_000, 1_000_000))
            pack.add(path, name)


def test_all_runs_of_a_study_arrive_and_those_that_were_trained_here_stay(server, capsys):
    folders, table = Folders.from_environment(), "runs/study_tables/demo_losses.csv"
    names = [f"DemoAAA-{number}" for number in range(3)]
    server.write("kernels.json", {"somebody/demo-losses-study": {"version": 1, "status": "COMPLETE"}})
    own = folders.runs / names[0] / "history.csv"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    for state in ("first", "second"):
        files = {f"runs/{name}/{file}": state for name in names for file in (".stages/train.json", "history.csv")}
        write_session(server, "demo-losses-study", {**files, table: state})
        assert main(["kaggle", "demo_losses", "--fetch"]) == 0
        out = capsys.readouterr().out
        assert f"{names[0]} was not fetched from somebody/demo-losses-study; the session's run is in " in out
        assert "the table of all runs: ./run.sh study demo_losses --table" in out
        found = [(folders.runs / name / "history.csv").read_text() for name in names]
        assert found == ["mine", state, state]
    (folders.runs / names[1] / "history.csv").write_text("continued here")
    assert main(["kaggle", "demo_losses", "--fetch"]) == 0
    assert f"{names[1]} has been trained on since it was fetched; " in capsys.readouterr().out
    assert (folders.runs / names[1] / "history.csv").read_text() == "continued here"
    assert not (folders.runs / "study_tables").exists()  # the command makes it, of all runs that are here


def test_folds_arrive_with_the_config_of_their_ensemble(server, configs, capsys):
    slug, names = "demo-3folds-train", ("demo-1a2b3c4d", "demo-3folds")
    server.write("kernels.json", {f"somebody/{slug}": {"version": 1, "status": "COMPLETE"}})
    write_session(server, slug, {f"runs/{name}/.stages/evaluate.json": "{}" for name in names})
    assert main(["kaggle", "demo", "--folds", "3", "--fetch"]) == 0
    assert "the table of all runs: ./run.sh demo --folds 3\n" in capsys.readouterr().out
    assert {path.name for path in Folders.from_environment().runs.glob("demo-*")} == set(names)
    assert len(load("demo-3folds").config.ensemble.members) == 3


def test_the_journal_of_a_search_arrives_unless_this_machine_has_added_to_it(server, capsys):
    slug, here = "demo-search-study", Folders.from_environment().runs / "study_tables"
    server.write("kernels.json", {f"somebody/{slug}": {"version": 1, "status": "COMPLETE"}})
    journal, trials = (f"demo_search_1a2b3c4d_trials.{suffix}" for suffix in ("journal", "csv"))
    for text in ("a\n", "a\nb\n"):
        write_session(server, slug, {f"runs/study_tables/{journal}": text, f"runs/study_tables/{trials}": text})
        assert main(["kaggle", "demo_search", "--fetch"]) == 0
        assert (here / journal).read_text() == (here / trials).read_text() == text
    (here / journal).write_text("a\nc\n")
    assert main(["kaggle", "demo_search", "--fetch"]) == 0
    out = capsys.readouterr().out
    assert f"{journal}, to which this machine has added trials; the session's is in " in out
    assert ((here / journal).read_text(), (here / trials).read_text()) == ("a\nc\n", "a\nb\n")
    (named,) = (here.parent / "notebooks").rglob(journal)
    assert str(named) in out
    assert named.read_text() == "a\nb\n"


def test_submissions_of_runs_that_are_not_replaced_stay(server, configs, capsys):
    folders, slug = Folders.from_environment(), "demo-3folds-train"
    server.write("kernels.json", {f"somebody/{slug}": {"version": 1, "status": "COMPLETE"}})
    # That of the first run is in the pack, that of the second was left out of it, that of the third is not here.
    (folders.runs / "demo-1a2b3c4d").mkdir(parents=True)
    (folders.runs / "demo-2b3c4d5e").mkdir()
    folders.submissions.mkdir(parents=True)
    files = ("demo-1a2b3c4d.json", "demo-1a2b3c4d.origin.json", "demo-2b3c4d5e.csv", "demo-3folds.csv")
    for name in files[:3]:
        (folders.submissions / name).write_text("mine")
    runs = {f"runs/{name}/.stages/evaluate.json": "{}" for name in ("demo-1a2b3c4d", "demo-3folds")}
    write_session(server, slug, runs | {f"submissions/{name}": "theirs" for name in files})
    assert main(["kaggle", "demo", "--folds", "3", "--fetch"]) == 0
    assert "not replaced: " in capsys.readouterr().out
    assert [(folders.submissions / name).read_text() for name in files] == ["mine", "mine", "mine", "theirs"]


def test_a_fetched_run_that_is_running_here_is_not_replaced(server, capsys):
    run = Folders.from_environment().runs / "demo"
    end_session(server)
    session_output(server, "first")
    assert main(["kaggle", "demo", "--fetch"]) == 0
    (run / ".stages").mkdir(exist_ok=True)
    code = "import fcntl, sys; file = open(sys.argv[1], 'wb'); fcntl.lockf(file, fcntl.LOCK_EX); print(); input()"
    command = [sys.executable, "-c", code, str(run / ".stages" / "lock")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        holder.stdout.readline()
        capsys.readouterr()
        assert main(["kaggle", "demo", "--fetch"]) == 2
        assert "demo is running here, so it is not replaced" in capsys.readouterr().err
        assert (run / ".stages" / "lock").is_file()
        holder.stdin.close()


def test_a_run_of_this_machine_is_not_replaced(server, capsys):
    run = Folders.from_environment().runs / "demo"
    run.mkdir(parents=True)
    end_session(server)
    session_output(server, "first")
    assert main(["kaggle", "demo", "--fetch"]) == 2
    assert "was not fetched from somebody/demo-train, so it is not replaced. Move it away" in capsys.readouterr().err
    assert list(run.iterdir()) == []
