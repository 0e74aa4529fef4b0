"""run.sh as a person meets it: real shells, real virtual environments, tiny packages, no network."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pipeline.door.bootstrap import ways_to_begin
from pipeline.door.installer import offline_options
from pipeline.door.requirements import Interpreter, parse_requirements
from tests.door.fake_project import PROJECT, REQUIREMENTS, Door, door_in, make_door, put_into, write_wheel


@pytest.fixture
def door(tmp_path: Path) -> Door:
    return make_door(tmp_path)


@pytest.fixture(scope="module")
def ready_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machine")
    door = make_door(folder)
    assert door.start("demo").returncode == 0
    door.forget()
    return folder


@pytest.fixture
def ready_door(ready_folder: Path, tmp_path: Path) -> Door:
    """A machine on which the demo has run before: a copy, for an environment works wherever it lies."""
    shutil.copytree(ready_folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    return door_in(tmp_path)


def test_a_fresh_machine_gets_an_environment_and_the_command_is_handed_on(door: Door):
    answer = door.start("ExpAAB", "a b", "KEY='x'", DATA_DIR="../images")
    told = json.loads(answer.stdout)
    assert answer.returncode == 0, answer.stderr
    assert told["arguments"] == ["ExpAAB", "a b", "KEY='x'"]
    assert told["python"] == str(door.venv / "bin" / "python")
    assert told["folder"] == str(door.project)
    assert told["environment"]["NO_ALBUMENTATIONS_UPDATE"] == "1"
    assert told["environment"]["OMP_WAIT_POLICY"] == "PASSIVE"
    assert all(door.has(name) for name in ("first", "second", "third"))


def test_paths_of_the_environment_are_meant_from_where_the_command_was_typed(ready_door: Door):
    typed_in = ready_door.wheels.parent
    (typed_in / "images").mkdir()
    told = json.loads(ready_door.start("demo", DATA_DIR="images", OMP_WAIT_POLICY="ACTIVE").stdout)
    assert told["environment"]["DATA_DIR"] == str(typed_in / "images")
    assert told["environment"]["OMP_WAIT_POLICY"] == "ACTIVE"


def test_lines_marked_no_deps_come_after_the_rest_and_the_tests_last(door: Door):
    door.start("demo")
    assert [(call["names"], call["no_deps"]) for call in door.installs()] == [
        (["first"], False),
        (["second"], True),
        (["third"], False),
    ]


def test_the_exit_code_of_the_pipeline_comes_out(ready_door: Door):
    assert ready_door.start("demo", "stop").returncode == 3


def test_a_second_start_installs_nothing_and_is_fast(ready_door: Door):
    python = str(ready_door.venv / "bin" / "python")

    def fastest(command: list[str]) -> float:
        times = []
        for _ in range(7):
            begin = time.perf_counter()
            assert ready_door.type(command).returncode == 0
            times.append(time.perf_counter() - begin)
        return min(times)

    overhead = fastest([str(ready_door.project / "run.sh"), "demo"]) - fastest([python, "-c", "pass"])
    assert ready_door.installs() == []
    assert ready_door.start("demo").stderr == ""
    assert overhead < 0.1


def test_changed_requirements_install_only_what_is_missing(ready_door: Door):
    write_wheel(ready_door.wheels, "fourth", "2.0")
    (ready_door.project / "requirements.txt").write_text(REQUIREMENTS + "fourth>=2.0  # new\n")
    assert ready_door.start("demo").returncode == 0
    assert [call["names"] for call in ready_door.installs()] == [["fourth"]]
    assert ready_door.has("fourth")


def test_an_environment_that_meets_the_requirements_is_taken_as_it_is(ready_door: Door):
    (ready_door.venv / "ready").unlink()
    assert ready_door.start("demo").returncode == 0
    assert ready_door.installs() == []


def test_an_installation_that_was_killed_is_made_again_from_nothing(door: Door):
    assert door.start("demo", UV_DIES="1").returncode not in (0, 2, 3)
    assert list(door.venv.rglob("half.py"))
    answer = door.start("demo")
    assert answer.returncode == 0, answer.stderr
    assert not list(door.venv.rglob("half.py"))
    assert door.has("first")


def test_two_starts_at_once_install_once(door: Door):
    command = [str(door.project / "run.sh"), "demo"]
    environment = door.environment(UV_SECONDS="0.4")
    starts = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "ab"]
    words = b"".join(start.communicate(timeout=300)[1] for start in starts)
    assert [start.returncode for start in starts] == [0, 0]
    assert len(door.installs()) == 3  # one call for each kind of line
    assert b"another start is installing" in words


def test_a_lock_outlives_a_killed_start_while_its_installer_works(door: Door):
    environment = door.environment(UV_SECONDS="1.5")
    python = str(door.base / "bin" / "python")
    first = subprocess.Popen([python, "-m", "pipeline.door.bootstrap"], cwd=door.project, env=environment)
    while not door.installs():
        time.sleep(0.02)
    first.kill()
    first.wait()
    answer = door.start("demo")
    assert "another start is installing" in answer.stderr
    assert answer.returncode == 0


def test_an_environment_whose_python_is_gone_is_made_again(ready_door: Door):
    python = ready_door.venv / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    answer = ready_door.start("demo")
    assert answer.returncode == 0, answer.stderr
    assert ready_door.has("first")


def test_a_folder_that_is_no_environment_is_refused_and_left_alone(door: Door):
    door.venv.mkdir()
    (door.venv / "thesis.txt").write_text("years of work")
    answer = door.start("demo")
    assert answer.returncode == 2
    assert "is no virtual environment" in answer.stderr
    assert [path.name for path in door.venv.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("python", "wanted"),
    [(None, "no python3"), ("#!/bin/sh\necho Python 3.8.10\nexit 1\n", "python3 is Python 3.8.10")],
)
def test_a_missing_or_old_python_is_one_clear_line(door: Door, python: str | None, wanted: str):
    (door.commands / "python3").unlink()
    if python:
        door.add_command("python3", python)
    answer = door.start("demo")
    assert answer.returncode == 2
    assert wanted in answer.stderr
    assert "PYTHON=" in answer.stderr
    assert len(answer.stderr.splitlines()) == 1


def test_an_installation_that_fails_tells_the_cure_and_the_doctor_still_speaks(door: Door):
    (door.wheels / "second-1.0-py3-none-any.whl").unlink()
    answer = door.start("doctor")
    assert "could not install second>=1.0" in answer.stderr
    assert "PIP_NO_INDEX=1 PIP_FIND_LINKS=" in answer.stderr
    assert "the doctor speaks" in answer.stdout
    assert not (door.venv / "ready").exists()
    assert door.start("demo").returncode == 2


def test_help_installs_nothing(door: Door):
    assert json.loads(door.start("-h").stdout)["arguments"] == ["-h"]
    assert not door.venv.exists()


def test_without_the_packages_of_the_tests_all_but_the_tests_goes_on(door: Door):
    wheel = door.wheels / "third-1.0-py3-none-any.whl"
    wheel.rename(door.wheels / "later")
    answer = door.start("demo")
    assert answer.returncode == 0
    assert "going on without what only the tests need: third" in answer.stderr
    assert door.start("test").returncode == 2
    (door.wheels / "later").rename(wheel)
    assert door.start("test").returncode == 0
    assert door.has("third")


def test_a_python_with_a_working_torch_is_used_and_nothing_in_it_is_changed(door: Door, tmp_path: Path):
    image = tmp_path / "image"
    image.mkdir()
    for name in ("torch", "torchvision", "first", "other"):
        put_into(door.base / "bin" / "python", write_wheel(image, name, "2.0"))
    told = json.loads(door.start("demo").stdout)
    assert told["python"] == str(door.base / "bin" / "python")
    assert not (door.venv / "bin").exists()
    assert [call["names"] for call in door.installs()] == [["second"], ["third"]]
    assert set(door.installs()[-1]["constraints"]) == {"torch==2.0", "torchvision==2.0", "first==2.0", "other==2.0"}


def test_a_python_with_a_broken_torch_gets_an_environment_of_its_own(door: Door, tmp_path: Path):
    image = tmp_path / "image"
    image.mkdir()
    for name, code in (("torch", ""), ("torchvision", "raise ImportError('built for another torch')")):
        put_into(door.base / "bin" / "python", write_wheel(image, name, "2.0", code))
    told = json.loads(door.start("demo").stdout)
    assert told["python"] == str(door.venv / "bin" / "python")
    assert [call["names"] for call in door.installs()] == [["first"], ["second"], ["third"]]


def test_a_python_of_the_system_is_seen_through_a_layer_and_never_written_to(tmp_path: Path):
    works = tmp_path / "python3"
    works.write_text("#!/bin/sh\nexit 0\n")
    works.chmod(0o755)
    there = {"torch": "2.10.0+cu128", "torchvision": "0.25.0", "old": "0.5"}
    image = Interpreter(str(works), (3, 12, 0), False, False, False, str(tmp_path), there)
    system = Interpreter(str(works), (3, 12, 0), False, False, True, str(tmp_path), there)
    lacking = parse_requirements("torch>=2.6  # networks\nsmp>=0.6  # missing\n")
    changing = parse_requirements("torch>=2.6  # networks\nold>=1.0  # too old\n")
    newer = parse_requirements("torch>=2.99  # networks\n")
    assert ways_to_begin(image, lacking) == ["here", "layered", "own"]
    assert ways_to_begin(system, lacking) == ["layered", "own"]
    assert ways_to_begin(image, changing) == ["layered", "own"]
    assert ways_to_begin(image, newer) == ["own"]


@pytest.mark.parametrize("shell", [["sh"], ["bash", "--posix"]])
def test_it_runs_through_a_link_and_in_any_shell(ready_door: Door, shell: list[str], tmp_path: Path):
    (ready_door.commands / "bash").symlink_to(shutil.which("bash"))
    link = tmp_path / "a link"
    link.symlink_to(os.path.relpath(ready_door.project / "run.sh", tmp_path))
    told = json.loads(ready_door.type([*shell, str(link), "list"]).stdout)
    assert (told["folder"], told["arguments"]) == (str(ready_door.project), ["list"])


def test_wheels_are_found_whichever_tool_their_folder_was_named_for(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    spaced = tmp_path / "my wheels"
    spaced.mkdir()
    for name in ("PIP_FIND_LINKS", "UV_FIND_LINKS", "PIP_NO_INDEX", "UV_NO_INDEX"):
        monkeypatch.delenv(name, raising=False)
    assert offline_options() == []
    monkeypatch.setenv("PIP_FIND_LINKS", str(spaced))
    monkeypatch.setenv("UV_FIND_LINKS", "/a,/b")
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    assert offline_options() == ["--no-index", f"--find-links={spaced}", "--find-links=/a", "--find-links=/b"]


@pytest.mark.slow
def test_without_uv_pip_does_it(door: Door):
    (door.commands / "uv").unlink()
    answer = door.start("demo", PYTHONPATH="")
    assert answer.returncode == 0, answer.stderr
    assert all(door.has(name) for name in ("first", "second", "third"))
    assert "with pip" in answer.stderr


def test_run_sh_is_plain_sh():
    text = (PROJECT / "run.sh").read_text()
    assert text.startswith("#!/bin/sh\n")
    assert not any(word in text for word in ("[[", "function ", "local ", "mapfile", "<<<", "$'"))
    assert os.access(PROJECT / "run.sh", os.X_OK)
