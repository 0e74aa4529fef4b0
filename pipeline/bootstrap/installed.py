"""Findings about the running Python and its packages, from their metadata. Standard library only.

In: the metadata of installed distributions, requirements.txt. Out: findings, each with what to type if something is
wrong. Importing every package would take ten seconds; only cv2 is imported, which is fast and breaks most often.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata, util
from pathlib import Path

from pipeline.bootstrap.machine import Finding
from pipeline.bootstrap.requirements import OLDEST_PYTHON, Requirement, running_interpreter, satisfies
from pipeline.paths import PROJECT, shown

REINSTALL = "rm -f .venv/ready && ./run.sh doctor"  # run.sh then checks all packages and installs missing ones
REBUILD = "rm -rf .venv && ./run.sh doctor"
# A Python that is not ours is not repaired; an existing .venv is filled and used in its place.
SEPARATE = "rm -rf .venv && python3 -m venv .venv && ./run.sh doctor"
OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


def interpreter() -> Finding:
    """Returns the version of the running Python and the kind of its environment."""
    python = running_interpreter()
    kind = "the project's .venv" if _is_ours() else "another environment" if python.in_venv else "no environment"
    layer = ", with the packages of the Python it was created with" if python.is_layered else ""
    found = ".".join(map(str, python.version))
    if python.version < OLDEST_PYTHON:
        return Finding("Python", found, "needs 3.10 or newer", "bad", "PYTHON=/path/to/python3.12 ./run.sh doctor")
    return Finding("Python", found, f"{shown(Path(python.executable))} ({kind}{layer})")


def packages(requirements: Sequence[Requirement], distributions: Mapping[str, str]) -> list[Finding]:
    """Returns a finding per line of requirements.txt."""
    findings = []
    for line in requirements:
        version, expected = distributions.get(line.name), str(line).removeprefix(line.name) or "any"
        if satisfies(version, line.bounds):
            findings.append(Finding(line.name, version or "", expected))
        else:
            state = "note" if line.kind == "tests" else "bad"
            purpose = " (only for ./run.sh test)" if line.kind == "tests" else ""
            findings.append(Finding(line.name, version or "-", f"needs {expected}{purpose}", state, REINSTALL))
    return findings


def opencv(distributions: Mapping[str, str], folders: Mapping[str, Path]) -> list[Finding]:
    """Returns whether cv2 imports, and whether two builds of OpenCV are installed in one folder.

    Args:
        distributions: name -> version of everything installed.
        folders: the folder `cv2/` of each installed build of OpenCV.
    """
    findings = []
    for folder in sorted(set(folders.values())):
        builds = [f"{name} {distributions.get(name, '')}" for name in sorted(folders) if folders[name] == folder]
        if len(builds) > 1:
            why = f"{', '.join(builds)} share {shown(folder)}: removing one breaks the others"
            findings.append(Finding("OpenCV", f"{len(builds)} in one folder", why, "note", _rebuild()))
    if folders:
        command = [sys.executable, "-c", "import cv2"]
        result = subprocess.run(command, capture_output=True, text=True, check=False)
        if result.returncode:
            last_line = (result.stderr.strip().splitlines() or ["no message"])[-1]
            findings.append(Finding("import cv2", "fails", last_line[-100:], "bad", _rebuild()))
    return findings


def torch_pair(distributions: Mapping[str, str]) -> list[Finding]:
    """Returns why the installed torch and torchvision do not fit each other; no finding where they do."""
    if not {"torch", "torchvision"} <= set(distributions):
        return []
    needed = [line for line in metadata.requires("torchvision") or [] if re.match(r"torch\b(?!-)", line)]
    bounds = re.findall(r"(==|!=|>=|<=|<|>)\s*(\d+(?:\.\d+)*)", " ".join(needed))
    builds = {name: built_for(name)[0] for name in ("torch", "torchvision")}
    found = f"torch {distributions['torch']}, torchvision {distributions['torchvision']}"
    if not satisfies(distributions["torch"], bounds):
        return [Finding("torch pair", found, f"this torchvision needs {needed[0]}", "bad", _rebuild())]
    if "cpu" in builds.values() and len(set(builds.values())) > 1:
        why = "a CPU build and a CUDA build do not work together"
        return [Finding("torch pair", f"{builds}", why, "bad", _rebuild())]
    return []


def built_for(package: str) -> tuple[str, str | None]:
    """Returns the build tag ("cu132", "cpu", "") and the CUDA version of torch or torchvision, without importing it."""
    spec = util.find_spec(package)
    file = Path(spec.origin).with_name("version.py") if spec and spec.origin else None
    text = file.read_text() if file and file.is_file() else ""
    version = re.search(r"__version__ = '([^']*)'", text)
    cuda = re.search(r"^cuda[^=]*= '([\d.]+)'", text, re.M)
    return version[1].partition("+")[2] if version else "", cuda[1] if cuda else None


def cv2_folders() -> dict[str, Path]:
    """Returns the folder `cv2/` of each installed distribution of OpenCV."""
    folders = {}
    for name in OPENCVS:
        try:
            folders[name] = Path(str(metadata.distribution(name).locate_file("cv2"))).resolve()
        except metadata.PackageNotFoundError:
            continue
    return folders


def _is_ours() -> bool:
    return Path(sys.prefix).resolve() == (PROJECT / ".venv").resolve()


def _rebuild() -> str:
    return REBUILD if _is_ours() else SEPARATE
