"""Wheels of what Kaggle's image may lack, for a notebook without internet.

In: requirements.txt and the packages of this environment. Out: a folder of wheels of the same versions, for Python and
platform of Kaggle's image. There `run.sh` installs what is absent or too old, and leaves everything else alone.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from importlib import metadata
from pathlib import Path

from pipeline.bootstrap.requirements import normalised, parse_requirements
from pipeline.errors import UserError
from pipeline.files import sha256_text
from pipeline.optional import install_command
from pipeline.paths import PROJECT

# Of Kaggle's image in 2026: https://github.com/Kaggle/docker-python, which adds to Colab's packages
# (https://github.com/googlecolab/backend-info, pip-freeze.gpu.txt).
PYTHON = "3.12"
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
# In that image, large, and built for its CUDA or for each other: never replaced there.
ON_THE_IMAGE = ("torch", "torchvision", "numpy", "scipy", "pandas", "opencv-python-headless", "tensorboard", "kaggle")


def wheels_for_kaggle(folder: Path, packages: Sequence[str] = ()) -> Path:
    """Returns a folder of wheels below `folder`, downloaded if they are not there yet.

    Args:
        packages: optional ones that are needed too, and are installed here.

    Raises:
        UserError: no pip, it cannot download them, or an optional package is not installed here; says what to do.
    """
    _refuse_absent(packages)
    pins = needed_pins(packages)
    target = folder / f"wheels-{sha256_text(' '.join([PYTHON, *pins]))[:8]}"
    if target.is_dir():
        return target
    partial = target.with_name(f"{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    options = ["--quiet", "--no-deps", "--only-binary=:all:", "--implementation=cp", f"--python-version={PYTHON}"]
    options += [f"--platform={platform}" for platform in PLATFORMS]
    command = [*_pip(), "download", "--disable-pip-version-check", *options, f"--dest={partial}", *pins]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    if result.returncode:
        reason = (result.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise UserError(
            f"pip cannot download the wheels for Kaggle's Python {PYTHON}: {reason}\n"
            "Name a folder that has them with --wheels DIR, or add --internet: the notebook then installs them itself."
        )
    os.rename(partial, target)
    return target


def needed_pins(packages: Sequence[str] = ()) -> list[str]:
    """Returns `name==version` of the packages at run time and of what they need, as far as the image may lack them.

    Args:
        packages: optional ones that are needed too.
    """
    from packaging.requirements import Requirement

    lines = parse_requirements((PROJECT / "requirements.txt").read_text(encoding="utf-8"))
    waiting = [line.name for line in lines if not line.is_for_tests or line.name in packages]
    alone = {*ON_THE_IMAGE, *(line.name for line in lines if line.kind == "no-deps")}
    found: dict[str, str] = {}
    while waiting:
        name = waiting.pop()
        if name in found or name in ON_THE_IMAGE:
            continue
        try:
            distribution = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of another platform
            continue
        found[name] = distribution.version
        needed = map(Requirement, () if name in alone else distribution.requires or ())
        there = {"extra": "", "python_version": PYTHON, "python_full_version": f"{PYTHON}.0"}
        waiting += [normalised(one.name) for one in needed if one.marker is None or one.marker.evaluate(there)]
    return [f"{name}=={re.sub(r'[+].*', '', version)}" for name, version in sorted(found.items())]


def _refuse_absent(packages: Sequence[str]) -> None:
    lines = parse_requirements((PROJECT / "requirements.txt").read_text(encoding="utf-8"))
    for line in (line for line in lines if line.name in packages):
        try:
            metadata.distribution(line.name)
        except metadata.PackageNotFoundError:
            raise UserError(
                f"the notebook needs {line}, which is not installed here; type: {install_command(str(line))}"
            ) from None


def _pip() -> list[str]:
    """Returns the command of a pip on this machine: of the environment, or of the Python that it was made with.

    Raises:
        UserError: neither has one.
    """
    for python in (sys.executable, sys._base_executable):
        command = [python, "-m", "pip"]
        if subprocess.run([*command, "--version"], capture_output=True, check=False).returncode == 0:
            return command
    raise UserError(f"there is no pip to download wheels with; type: {sys.executable} -m ensurepip")
