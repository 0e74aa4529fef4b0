"""The command that installs an optional package works where it is typed: with pip in the environment, and without."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pipeline import optional

PROJECT = Path(__file__).resolve().parent.parent
ASK = "from pipeline.optional import install_command; print(install_command('mine>=1'))"


def write_wheel(folder: Path) -> None:
    """Writes a package `mine` of one empty module."""
    folder.mkdir()
    info, files = "mine-1.0.dist-info", {"mine.py": ""}
    files[f"{info}/METADATA"] = "Metadata-Version: 2.1\nName: mine\nVersion: 1.0\n"
    files[f"{info}/WHEEL"] = "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    files[f"{info}/RECORD"] = "".join(f"{name},,\n" for name in [*files, f"{info}/RECORD"])
    with zipfile.ZipFile(folder / "mine-1.0-py3-none-any.whl", "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)


@pytest.mark.parametrize("has_uv", [False, True])
def test_the_command_installs_into_an_environment_that_has_no_pip(tmp_path, has_uv):
    write_wheel(tmp_path / "wheels")
    environment = tmp_path / "an environment"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", environment], check=True)
    python = environment / "bin" / "python"
    words = os.environ | {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": f"{tmp_path / 'wheels'}", "PYTHONPATH": str(PROJECT)}
    if has_uv:  # a stand-in that notes how it was called
        stand_in = environment / "bin" / "uv"
        stand_in.write_text(f"#!/bin/sh\necho \"$@\" > '{tmp_path / 'called'}'\n")
        stand_in.chmod(0o755)
    asked = subprocess.run([python, "-c", ASK], env=words, cwd=tmp_path, capture_output=True, text=True, check=True)
    done = subprocess.run(
        ["sh", "-c", asked.stdout], env=words, cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, (asked.stdout, done.stderr)
    if has_uv:
        assert (tmp_path / "called").read_text() == "pip install --python an environment/bin/python mine>=1\n"
    else:
        subprocess.run([python, "-c", "import mine"], check=True)


@pytest.mark.parametrize("base", ["/removed/python", "", None])
def test_a_python_below_that_is_gone_is_not_started(monkeypatch, base):
    monkeypatch.setattr(optional, "find_spec", lambda name: None)
    monkeypatch.setattr(optional.sys, "executable", "/own/python")
    monkeypatch.setattr(optional.sys, "_base_executable", base)
    monkeypatch.setenv("PATH", "/nowhere")
    expected = "/own/python -m ensurepip && /own/python -m pip install mine"
    assert optional.install_command("mine") == expected
    monkeypatch.delattr(optional.sys, "_base_executable")
    assert optional.install_command("mine") == expected
