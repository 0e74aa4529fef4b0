"""run.sh from outside: real shells, real virtual environments, tiny packages, no network."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from pipeline.bootstrap.environment import choose_strategies
from pipeline.bootstrap.installer import offline_options
from pipeline.bootstrap.requirements import Interpreter, parse_requirements
from tests.bootstrap.fake_project import (
    PROJECT,
    REQUIREMENTS,
    Machine,
    install_wheel,
    machine_in,
    make_machine,
    write_wheel,
)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return make_machine(tmp_path)


@pytest.fixture(scope="module")
def ready_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("machine")
    machine = make_machine(folder)
    assert machine.start("demo").returncode == 0
    machine.forget()
    return folder


@pytest.fixture
def ready_machine(ready_folder: Path, tmp_path: Path) -> Machine:
    """A machine on which the demo has run before: a copy, because an environment works in any folder."""
    shutil.copytree(ready_folder, tmp_path, symlinks=True, dirs_exist_ok=True)
    return machine_in(tmp_path)


def test_a_fresh_machine_gets_an_environment_and_the_arguments_are_passed_on(machine: Machine):
    result = machine.start("ExpAAB", "a b", "KEY='x'", DATA_DIR="../images")
    received = json.loads(result.stdout)
    assert result.returncode == 0, result.stderr
    assert received["arguments"] == ["ExpAAB", "a b", "KEY='x'"]
    assert received["python"] == str(machine.venv / "bin" / "python")
    assert received["folder"] == str(machine.project)
    assert received["environment"]["NO_ALBUMENTATIONS_UPDATE"] == "1"
    assert received["environment"]["OMP_WAIT_POLICY"] == "PASSIVE"
    assert all(machine.has(name) for name in ("first", "second", "third"))


def test_paths_in_variables_are_relative_to_the_folder_of_the_command(ready_machine: Machine):
    typed_in = ready_machine.wheels.parent
    (typed_in / "images").mkdir()
    received = json.loads(ready_machine.start("demo", DATA_DIR="images", OMP_WAIT_POLICY="ACTIVE").stdout)
    assert received["environment"]["DATA_DIR"] == str(typed_in / "images")
    assert received["environment"]["OMP_WAIT_POLICY"] == "ACTIVE"


def test_lines_marked_no_deps_come_after_the_rest_and_the_tests_last(machine: Machine):
    machine.start("demo")
    assert [(call["names"], call["no_deps"]) for call in machine.installs()] == [
        (["first"], False),
        (["second"], True),
        (["third"], False),
    ]


def test_the_exit_code_is_that_of_the_pipeline(ready_machine: Machine):
    assert ready_machine.start("demo", "stop").returncode == 3


def test_a_second_start_installs_nothing_and_is_fast(ready_machine: Machine):
    python = str(ready_machine.venv / "bin" / "python")

    def fastest(command: list[str]) -> float:
        times = []
        for _ in range(7):
            begin = time.perf_counter()
            assert ready_machine.type(command).returncode == 0
            times.append(time.perf_counter() - begin)
        return min(times)

    overhead = fastest([str(ready_machine.project / "run.sh"), "demo"]) - fastest([python, "-c", "pass"])
    assert ready_machine.installs() == []
    assert ready_machine.start("demo").stderr == ""
    assert overhead < 0.1


def test_changed_requirements_install_only_what_is_missing(ready_machine: Machine):
    write_wheel(ready_machine.wheels, "fourth", "2.0")
    (ready_machine.project / "requirements.txt").write_text(REQUIREMENTS + "fourth>=2.0  # new\n")
    assert ready_machine.start("demo").returncode == 0
    assert [call["names"] for call in ready_machine.installs()] == [["fourth"]]
    assert ready_machine.has("fourth")


def test_an_environment_that_meets_the_requirements_is_used_as_it_is(ready_machine: Machine):
    (ready_machine.venv / "ready").unlink()
    assert ready_machine.start("demo").returncode == 0
    assert ready_machine.installs() == []


def test_a_killed_installation_is_removed_and_done_again(machine: Machine):
    assert machine.start("demo", UV_DIES="1").returncode not in (0, 2, 3)
    assert list(machine.venv.rglob("half.py"))
    result = machine.start("demo")
    assert result.returncode == 0, result.stderr
    assert not list(machine.venv.rglob("half.py"))
    assert machine.has("first")


def test_two_starts_at_once_install_once(machine: Machine):
    command = [str(machine.project / "run.sh"), "demo"]
    environment = machine.environment(UV_SECONDS="0.4")
    starts = [subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in "ab"]
    errors = b"".join(start.communicate(timeout=300)[1] for start in starts)
    assert [start.returncode for start in starts] == [0, 0]
    assert len(machine.installs()) == 3  # one call for each kind of line
    assert b"another run.sh is installing" in errors


def test_the_lock_of_a_killed_start_is_held_while_its_installer_works(machine: Machine):
    environment = machine.environment(UV_SECONDS="1.5")
    python = str(machine.base / "bin" / "python")
    first = subprocess.Popen([python, "-m", "pipeline.bootstrap.environment"], cwd=machine.project, env=environment)
    while not machine.installs():
        time.sleep(0.02)
    first.kill()
    first.wait()
    result = machine.start("demo")
    assert "another run.sh is installing" in result.stderr
    assert result.returncode == 0


def test_an_environment_without_its_python_is_created_again(ready_machine: Machine):
    python = ready_machine.venv / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python3")
    result = ready_machine.start("demo")
    assert result.returncode == 0, result.stderr
    assert ready_machine.has("first")


def test_a_folder_that_is_no_environment_is_refused_and_not_touched(machine: Machine):
    machine.venv.mkdir()
    (machine.venv / "thesis.txt").write_text("years of work")
    result = machine.start("demo")
    assert result.returncode == 2
    assert "is not a virtual environment" in result.stderr
    assert [path.name for path in machine.venv.iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("python", "wanted"),
    [(None, "no python3"), ("#!/bin/sh\necho Python 3.8.10\nexit 1\n", "python3 is Python 3.8.10")],
)
def test_a_missing_or_old_python_is_one_clear_line(machine: Machine, python: str | None, wanted: str):
    (machine.commands / "python3").unlink()
    if python:
        machine.add_command("python3", python)
    result = machine.start("demo")
    assert result.returncode == 2
    assert wanted in result.stderr
    assert "PYTHON=" in result.stderr
    assert len(result.stderr.splitlines()) == 1


def test_a_failed_installation_names_remedies_and_the_doctor_still_runs(machine: Machine):
    (machine.wheels / "second-1.0-py3-none-any.whl").unlink()
    result = machine.start("doctor")
    assert "cannot install second>=1.0" in result.stderr
    assert "PIP_NO_INDEX=1 PIP_FIND_LINKS=" in result.stderr
    assert "the doctor runs" in result.stdout
    assert not (machine.venv / "ready").exists()
    assert machine.start("demo").returncode == 2


@pytest.mark.parametrize("arguments", [(), ("-h",), ("help", "score"), ("score", "--help")])
def test_help_installs_nothing(machine: Machine, arguments: tuple[str, ...]):
    assert json.loads(machine.start(*arguments).stdout)["arguments"] == list(arguments)
    assert not machine.venv.exists()


def test_only_the_tests_need_the_packages_of_the_tests(machine: Machine):
    wheel = machine.wheels / "third-1.0-py3-none-any.whl"
    wheel.rename(machine.wheels / "later")
    result = machine.start("demo")
    assert result.returncode == 0
    assert "continuing without packages that only `./run.sh test` needs: third" in result.stderr
    assert machine.start("test").returncode == 2
    (machine.wheels / "later").rename(wheel)
    assert machine.start("test").returncode == 0
    assert machine.has("third")


def test_a_python_with_a_working_torch_is_used_and_nothing_in_it_is_changed(machine: Machine, tmp_path: Path):
    image = tmp_path / "image"
    image.mkdir()
    for name in ("torch", "torchvision", "first", "other"):
        install_wheel(machine.base / "bin" / "python", write_wheel(image, name, "2.0"))
    received = json.loads(machine.start("demo").stdout)
    assert received["python"] == str(machine.base / "bin" / "python")
    assert not (machine.venv / "bin").exists()
    assert [call["names"] for call in machine.installs()] == [["second"], ["third"]]
    assert set(machine.installs()[-1]["constraints"]) == {"torch==2.0", "torchvision==2.0", "first==2.0", "other==2.0"}


def test_beside_a_broken_torch_a_separate_environment_is_created(machine: Machine, tmp_path: Path):
    image = tmp_path / "image"
    image.mkdir()
    for name, code in (("torch", ""), ("torchvision", "raise ImportError('built for another torch')")):
        install_wheel(machine.base / "bin" / "python", write_wheel(image, name, "2.0", code))
    received = json.loads(machine.start("demo").stdout)
    assert received["python"] == str(machine.venv / "bin" / "python")
    assert [call["names"] for call in machine.installs()] == [["first"], ["second"], ["third"]]


def test_a_python_of_the_system_gets_a_layer_and_is_never_written_to(tmp_path: Path):
    works = tmp_path / "python3"
    works.write_text("#!/bin/sh\nexit 0\n")
    works.chmod(0o755)
    installed = {"torch": "2.10.0+cu128", "torchvision": "0.25.0", "old": "0.5"}
    image = Interpreter(str(works), (3, 12, 0), False, False, False, str(tmp_path), installed)
    system = Interpreter(str(works), (3, 12, 0), False, False, True, str(tmp_path), installed)
    missing = parse_requirements("torch>=2.6  # networks\nsmp>=0.6  # missing\n")
    changing = parse_requirements("torch>=2.6  # networks\nold>=1.0  # too old\n")
    newer = parse_requirements("torch>=2.99  # networks\n")
    assert choose_strategies(image, missing) == ["in_place", "layered", "separate"]
    assert choose_strategies(system, missing) == ["layered", "separate"]
    assert choose_strategies(image, changing) == ["layered", "separate"]
    assert choose_strategies(image, newer) == ["separate"]


@pytest.mark.parametrize("shell", [["sh"], ["bash", "--posix"]])
def test_it_runs_through_a_link_and_in_any_shell(ready_machine: Machine, shell: list[str], tmp_path: Path):
    (ready_machine.commands / "bash").symlink_to(shutil.which("bash"))
    link = tmp_path / "a link"
    link.symlink_to(os.path.relpath(ready_machine.project / "run.sh", tmp_path))
    received = json.loads(ready_machine.type([*shell, str(link), "list"]).stdout)
    assert (received["folder"], received["arguments"]) == (str(ready_machine.project), ["list"])


def test_folders_of_wheels_are_read_from_the_variables_of_pip_and_of_uv(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
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
def test_without_uv_packages_are_installed_with_pip(machine: Machine):
    (machine.commands / "uv").unlink()
    result = machine.start("demo", PYTHONPATH="")
    assert result.returncode == 0, result.stderr
    assert all(machine.has(name) for name in ("first", "second", "third"))
    assert "with pip" in result.stderr


def test_run_sh_is_plain_sh():
    text = (PROJECT / "run.sh").read_text()
    assert text.startswith("#!/bin/sh\n")
    assert not any(word in text for word in ("[[", "function ", "local ", "mapfile", "<<<", "$'"))
    assert os.access(PROJECT / "run.sh", os.X_OK)


def lock(machine: Machine, tampered: str = "") -> None:
    """Writes a lock file of the machine's wheels; the hash of one may be that of another file."""
    lines = []
    for wheel in sorted(machine.wheels.glob("*.whl")):
        name, version = wheel.name.split("-")[:2]
        content = wheel.read_bytes() + (b"another" if name == tampered else b"")
        lines.append(f"{name}=={version} \\\n    --hash=sha256:{hashlib.sha256(content).hexdigest()}\n")
    (machine.project / "requirements.lock").write_text("# the versions\n" + "".join(lines))


@pytest.fixture
def machine_with_pip(machine: Machine) -> Machine:
    """A machine without uv, whose pip is the real one, and a lock file beside the ranges."""
    (machine.commands / "uv").unlink()
    lock(machine)
    return machine


@pytest.mark.slow
def test_with_a_lock_file_versions_and_hashes_are_those_of_the_file(machine_with_pip: Machine):
    machine = machine_with_pip
    write_wheel(machine.wheels, "first", "2.0")  # newer, and not in the lock file
    result = machine.start("demo", PYTHONPATH="", LOCKED="1")
    assert result.returncode == 0, result.stderr
    assert all(machine.has(name) for name in ("first", "second", "third"))
    installed = {path.name for path in machine.venv.glob("lib/*/site-packages/first-*")}
    assert installed == {"first-1.0.dist-info"}
    lock(machine)  # two versions of the same package: the later line, 2.0, is what the file asks for
    text = (machine.project / "requirements.lock").read_text()
    newer = text[: text.index("first==1.0")] + text[text.index("first==2.0") :]
    (machine.project / "requirements.lock").write_text(newer)
    assert "installing 1 packages" in machine.start("demo", PYTHONPATH="", LOCKED="1").stderr
    assert "first-2.0.dist-info" in {path.name for path in machine.venv.glob("lib/*/site-packages/first-*")}
    assert "installing" not in machine.start("demo", PYTHONPATH="", LOCKED="1").stderr


@pytest.mark.slow
def test_a_file_of_another_hash_is_refused_by_its_packages_name(machine_with_pip: Machine):
    machine = machine_with_pip
    lock(machine, tampered="second")
    result = machine.start("demo", PYTHONPATH="", LOCKED="1")
    assert result.returncode == 2 and "second" in result.stderr and "hash" in result.stderr.lower(), result.stderr
    assert not machine.has("second")
    assert machine.start("demo", PYTHONPATH="").returncode == 0, "without LOCKED the ranges are enough"
