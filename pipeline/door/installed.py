"""Findings about the running Python and its packages, without importing any of them. Standard library only.

Comes in: the metadata of what is installed, requirements.txt. Goes out: findings, each with what to type where it is
amiss. Imports tell more than metadata but take ten seconds; only cv2, which is quick and breaks most often, is tried.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Mapping, Sequence
from importlib import metadata, util
from pathlib import Path

from pipeline.door.machine import Finding
from pipeline.door.requirements import OLDEST_PYTHON, Requirement, running_interpreter, satisfies
from pipeline.paths import PROJECT, shown

REINSTALL = "rm -f .venv/ready && ./run.sh doctor"  # run.sh then looks closer and installs what is missing
REBUILD = "rm -rf .venv && ./run.sh doctor"
# Beside somebody else's packages nothing is mended in place; a .venv that is there already is filled and used instead.
OWN_INSTEAD = "rm -rf .venv && python3 -m venv .venv && ./run.sh doctor"
OPENCVS = ("opencv-python", "opencv-python-headless", "opencv-contrib-python", "opencv-contrib-python-headless")


def interpreter() -> Finding:
    """Returns which Python runs and whose environment it is."""
    python = running_interpreter()
    kind = "the project's .venv" if _is_ours() else "another environment" if python.in_venv else "not an environment"
    layer = ", over the packages of the Python below it" if python.is_layered else ""
    found = ".".join(map(str, python.version))
    if python.version < OLDEST_PYTHON:
        return Finding("Python", found, "3.10 or newer wanted", "bad", "PYTHON=/path/to/python3.12 ./run.sh doctor")
    return Finding("Python", found, f"{shown(Path(python.executable))} ({kind}{layer})")


def packages(requirements: Sequence[Requirement], distributions: Mapping[str, str]) -> list[Finding]:
    """Returns a finding per line of requirements.txt."""
    findings = []
    for line in requirements:
        version, wanted = distributions.get(line.name), str(line).removeprefix(line.name) or "any"
        if satisfies(version, line.bounds):
            findings.append(Finding(line.name, version or "", wanted))
        else:
            state = "note" if line.kind == "tests" else "bad"
            only = " (only for ./run.sh test)" if line.kind == "tests" else ""
            findings.append(Finding(line.name, version or "-", f"{wanted} wanted{only}", state, REINSTALL))
    return findings


def opencv(distributions: Mapping[str, str], folders: Mapping[str, Path]) -> list[Finding]:
    """Returns whether cv2 imports, and whether two builds of OpenCV have written into one folder.

    Args:
        distributions: name -> version of everything installed.
        folders: for each installed build of OpenCV the folder `cv2/` that it wrote.
    """
    findings = []
    for folder in sorted(set(folders.values())):
        builds = [f"{name} {distributions.get(name, '')}" for name in sorted(folders) if folders[name] == folder]
        if len(builds) > 1:
            why = f"{', '.join(builds)} wrote into {shown(folder)}: removing one breaks the others"
            findings.append(Finding("OpenCV", f"{len(builds)} in one folder", why, "note", _rebuild()))
    if folders:
        command = [sys.executable, "-c", "import cv2"]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            words = (done.stderr.strip().splitlines() or ["no words"])[-1]
            findings.append(Finding("import cv2", "fails", words[-100:], "bad", _rebuild()))
    return findings


def torch_pair(distributions: Mapping[str, str]) -> list[Finding]:
    """Returns what speaks against torch and torchvision working together; nothing where they are a pair."""
    if not {"torch", "torchvision"} <= set(distributions):
        return []
    wanted = [line for line in metadata.requires("torchvision") or [] if re.match(r"torch\b(?!-)", line)]
    bounds = re.findall(r"(==|!=|>=|<=|<|>)\s*(\d+(?:\.\d+)*)", " ".join(wanted))
    builds = {name: built_for(name)[0] for name in ("torch", "torchvision")}
    found = f"torch {distributions['torch']}, torchvision {distributions['torchvision']}"
    if not satisfies(distributions["torch"], bounds):
        return [Finding("torch pair", found, f"this torchvision wants {wanted[0]}", "bad", _rebuild())]
    if "cpu" in builds.values() and len(set(builds.values())) > 1:
        why = "a CPU build and one for CUDA do not work together"
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
    """Returns for each installed distribution of OpenCV the folder `cv2/` that it wrote."""
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
    return REBUILD if _is_ours() else OWN_INSTEAD
