"""Installs requirements into one interpreter, with uv where it is installed or pip can fetch it, otherwise with pip.

In: the target interpreter and the requirements. Out: the requirements that it still does not meet. Standard library
only.

There must be one OpenCV: pytorch-toolbelt asks for opencv-python, which writes the same folder `cv2/` as
opencv-python-headless, and removing either then breaks the other. So its line in requirements.txt is marked `no-deps:`
and stands below the lines that it needs.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.bootstrap.requirements import Interpreter, Requirement, inspect_python, output_of, unmet
from pipeline.paths import KAGGLE, PROJECT

GB = 1000**3
LOCK_FILE = PROJECT / "requirements.lock"
# Measured with torch 2.15 on Linux x86-64, where it comes with CUDA; elsewhere the wheels are plain CPU builds.
DISK_NEEDED_GB = 7 if (sys.platform, platform.machine()) == ("linux", "x86_64") else 2.5
# These would install packages elsewhere than into the target.
REDIRECTING = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV", "UV_SYSTEM_PYTHON", "PYTHONHOME")
# A version as PEP 440 defines it; pip refuses a whole file of constraints for one version that is not.
VERSION = re.compile(r"(\d+!)?\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9]+([._-][a-z0-9]+)*)?")


@dataclass(frozen=True)
class Installation:
    """Where to install, and the files that guard the installation."""

    target: Interpreter
    base: Interpreter  # the Python that the environment is created with
    is_ours: bool  # target is an environment of this project, not somebody else's Python
    unfinished: Path  # this file exists while an installer works
    lock: int  # descriptor; installers inherit it, so that they hold the lock even when only this process is killed


def is_locked() -> bool:
    """Returns whether LOCKED asks for the versions in requirements.lock, whose files must have the hashes there."""
    return os.environ.get("LOCKED", "").lower() not in ("", "0", "false", "no", "off")


def log(message: str) -> None:
    """Prints a line to standard error; standard output belongs to the command."""
    print(f"run.sh: {message}", file=sys.stderr, flush=True)


def install_missing(installation: Installation, requirements: Sequence[Requirement]) -> list[Requirement]:
    """Installs the requirements that the target does not meet; returns those that it still does not meet."""
    missing = unmet(requirements, installation.target.distributions)
    if not missing:
        return []
    folder = installation.unfinished.parent
    free_gb = shutil.disk_usage(folder).free / GB
    if any(line.name == "torch" for line in missing) and free_gb < DISK_NEEDED_GB:
        log(f"only {free_gb:.1f} GB are free at {folder}; the packages need about {DISK_NEEDED_GB} GB")
    for installer in installers(installation):
        name = "uv" if Path(installer[0]).name == "uv" else "pip"
        log(f"installing {len(missing)} packages with {name} into {installation.target.executable}")
        install(installer, installation, missing)
        found = inspect_python(installation.target.executable)
        missing = unmet(requirements, found.distributions if found else {})
        if all(line.is_for_tests for line in missing):
            break
    return missing


def installers(installation: Installation) -> Iterator[list[str]]:
    """Yields commands that install into the target, fastest first; the next is for when the one before has failed."""
    target = installation.target
    # uv sees only packages in the target's own folder (astral-sh/uv#4466): in a layered environment, or where an image
    # has its packages in several folders, it would install a second torch. pip sees everything that can be imported.
    is_whole = installation.is_ours and not target.is_layered
    uv = shutil.which("uv")
    by_uv = [uv, "pip", "install", "--python", target.executable] if uv and _succeeds([uv, "--version"]) else None
    if is_whole and by_uv:
        yield by_uv
    pip = _pip_for(installation)
    if is_whole and pip and not by_uv and not is_locked():  # uv itself would be installed without a checked hash
        fetched = Path(target.executable).with_name("uv")
        if _succeeds([*pip, "install", "--quiet", "--retries", "1", *offline_options(), "uv"]):
            yield [str(fetched), "pip", "install", "--python", target.executable]
    if pip:
        # In a Python that is not ours, pip would print a line for each of some hundred packages already installed.
        # Where uv has failed before, the network is likely down: two retries instead of half a minute of them.
        options = ["--retries", "2"] if is_whole else ["--quiet"]
        yield [*pip, "install", *options, "--no-input", "--disable-pip-version-check", "--no-warn-script-location"]
    elif by_uv and not target.is_layered:
        yield by_uv  # an activated environment that was created by uv has no pip


def install(installer: list[str], installation: Installation, missing: Sequence[Requirement]) -> None:
    """Runs the installer once for each kind of requirement, or once for the lock file; stops at the first failure."""
    if is_locked():
        _run(
            installation,
            [*installer, *offline_options(), "--no-deps", "--require-hashes", f"--requirement={LOCK_FILE}"],
        )
        return
    pinned = pins(installation, missing)
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("".join(f"{line}\n" for line in pinned), encoding="utf-8")
        for kind in ("run", "no-deps", "tests", "tests-no-deps"):
            lines = [str(line) for line in missing if line.kind == kind]
            options = [f"--constraint={constraints}"] if pinned else []
            if kind.endswith("no-deps"):
                options = ["--no-deps"]
            if lines and not _run(installation, [*installer, *offline_options(), *options, *lines]):
                return


def pins(installation: Installation, missing: Sequence[Requirement]) -> list[str]:
    """Returns constraints `name==version` for packages that must stay: torch; all, in a Python that is not ours."""
    to_change = {line.name for line in missing}
    # Packages of the layer below were compiled against these versions.
    kept = {"torch", "torchvision", "numpy"} if installation.target.is_layered else {"torch"}
    return [
        f"{name}=={version}"
        for name, version in installation.target.distributions.items()
        if (not installation.is_ours or name in kept) and name not in to_change and VERSION.fullmatch(version)
    ]


def offline_options() -> list[str]:
    """Returns `--find-links` and `--no-index` from pip's and uv's environment variables, for either of the two.

    pip separates folders by spaces, uv by commas; an existing folder with a space in its name counts as one.
    """
    links = []
    for name, separator in (("PIP_FIND_LINKS", None), ("UV_FIND_LINKS", ",")):
        value = os.environ.get(name, "")
        links += [value] if value and Path(value).is_dir() else [link for link in value.split(separator) if link]
    switches = [os.environ.get(name, "").lower() for name in ("PIP_NO_INDEX", "UV_NO_INDEX")]
    is_offline = any(switch not in ("", "0", "false", "no", "off") for switch in switches)
    return [*(["--no-index"] if is_offline else []), *(f"--find-links={link}" for link in dict.fromkeys(links))]


def failure_message(missing: Sequence[Requirement], has_torch: bool) -> str:
    """Returns the message for a failed installation: the missing packages and a remedy for each usual cause.

    `has_torch`: the packages go beside an installed torch, so that their dependencies are installed already.
    """
    lines = " ".join(f"'{line}'" for line in missing)
    names = ", ".join(map(str, missing[:4])) + (f" and {len(missing) - 4} more" if len(missing) > 4 else "")
    what = f"--no-deps {lines}" if has_torch else "-r requirements.txt"
    mounted = sorted({path.parent for path in (KAGGLE / "input").glob("*/**/*.whl")})
    wheels = mounted[0] if mounted else "/path/to/wheels"
    free_gb = shutil.disk_usage(PROJECT).free / GB
    python = ".".join(map(str, sys.version_info[:2]))
    return (
        f"cannot install {names}. The installer's output above has the cause. Usual remedies:\n"
        f"  no internet    on a machine with internet and Python {python}: pip download -d wheels {what}\n"
        f"                 here: PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels} ./run.sh ...\n"
        f"  a mirror       PIP_INDEX_URL=https://... ./run.sh ...   (for uv: UV_DEFAULT_INDEX=https://...)\n"
        f"  disk full      {free_gb:.1f} GB are free at {PROJECT}; a complete environment needs {DISK_NEEDED_GB} GB\n"
        f"  other Python   where {python} is not supported: rm -rf .venv; PYTHON=/path/to/python3.12 ./run.sh ..."
    )


def _run(installation: Installation, command: list[str]) -> bool:
    """Runs one installer; the file `unfinished` exists until it is known that the target is not half changed."""
    site, mark = Path(installation.target.site), installation.unfinished
    before = _modified_ns(site)
    mark.touch()
    environ = {name: value for name, value in os.environ.items() if name not in REDIRECTING}
    keep = (installation.lock,)
    code = subprocess.run(command, stdout=sys.stderr, env=environ, pass_fds=keep, check=False).returncode
    # An installer that fails before it changes anything (no network, no matching version) leaves a sound target.
    if code == 0 or (code > 0 and _modified_ns(site) == before):
        mark.unlink(missing_ok=True)
    return code == 0


def _modified_ns(folder: Path) -> int:
    return folder.stat().st_mtime_ns if folder.exists() else 0


def _pip_for(installation: Installation) -> list[str] | None:
    """Returns the command of a pip that installs into the target; adds pip to an environment of ours that has none."""
    target = installation.target.executable
    own = [target, "-m", "pip"]
    if _succeeds([*own, "--version"]) or (installation.is_ours and _succeeds([target, "-m", "ensurepip"])):
        return own
    from_base = [installation.base.executable, "-m", "pip", "--python", target]  # pip 22.3 and newer
    return from_base if _succeeds([*from_base, "--version"]) else None


def _succeeds(command: list[str]) -> bool:
    return output_of(command, limit_s=None) is not None
