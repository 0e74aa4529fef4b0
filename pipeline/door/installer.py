"""Installs requirements into one interpreter: with uv where there is one or where pip can fetch it, else with pip.

Comes in: the target interpreter and what it lacks. Goes out: an interpreter that lacks less. Standard library only.

Exactly one OpenCV: pytorch-toolbelt asks for opencv-python, which would write the same `cv2/` as
opencv-python-headless, and removing either would then break it. So its line in requirements.txt is marked `no-deps:`
and comes after the lines that it needs.
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

from pipeline.door.requirements import PROJECT, Interpreter, Requirement, gaps, look_at
from pipeline.paths import KAGGLE

GB = 1000**3
# Measured with torch 2.15 on Linux x86-64, where it comes with CUDA; elsewhere the wheels are plain CPU builds.
DISK_NEEDED_GB = 7 if (sys.platform, platform.machine()) == ("linux", "x86_64") else 2.5
# They would send packages elsewhere than into the interpreter that is asked for.
MISLEADING = ("PIP_USER", "PIP_TARGET", "PIP_PREFIX", "PIP_REQUIRE_VIRTUALENV", "UV_SYSTEM_PYTHON", "PYTHONHOME")
# A version as PEP 440 writes it; pip refuses a whole list of constraints for one that is not.
_VERSION = re.compile(r"(\d+!)?\d+(\.\d+)*((a|b|rc)\d+)?(\.post\d+)?(\.dev\d+)?(\+[a-z0-9]+([._-][a-z0-9]+)*)?")


@dataclass(frozen=True)
class Installation:
    """Where to install, and what to look after meanwhile."""

    target: Interpreter
    base: Interpreter  # the Python that makes the environment
    is_ours: bool  # target is an environment of this project, not somebody else's Python
    unfinished: Path  # this file stands while an installer works
    lock: int  # descriptor; installers inherit it, so that the lock outlives us if only we are killed


def say(message: str) -> None:
    """Prints a line for the person who typed run.sh; standard output belongs to the command."""
    print(f"run.sh: {message}", file=sys.stderr, flush=True)


def fill(installation: Installation, requirements: Sequence[Requirement]) -> list[Requirement]:
    """Installs what the target lacks; returns what it lacks afterwards."""
    lacking = gaps(requirements, installation.target.distributions)
    if not lacking:
        return []
    _warn_of_full_disk(installation, lacking)
    for installer in installers(installation):
        name = "uv" if Path(installer[0]).name == "uv" else "pip"
        say(f"installing {len(lacking)} packages with {name} for {installation.target.executable}")
        install(installer, installation, lacking)
        found = look_at(installation.target.executable)
        lacking = gaps(requirements, found.distributions if found else {})
        if all(line.kind == "tests" for line in lacking):
            break
    return lacking


def installers(installation: Installation) -> Iterator[list[str]]:
    """Yields commands that install into the target, the fastest first; each next one in case the one before failed."""
    target = installation.target
    # uv looks only at what lies in the target's own folder (astral-sh/uv#4466): below a layer, or where an image
    # spreads its packages over several folders, it would bring a second torch. pip sees all that can be imported.
    is_whole = installation.is_ours and not target.is_layered
    uv = shutil.which("uv")
    by_uv = [uv, "pip", "install", "--python", target.executable] if uv and _succeeds([uv, "--version"]) else None
    if is_whole and by_uv:
        yield by_uv
    pip = _pip_for(installation)
    if is_whole and pip and not by_uv:
        fetched = Path(target.executable).with_name("uv")
        if _succeeds([*pip, "install", "--quiet", "--retries", "1", *offline_options(), "uv"]):
            yield [str(fetched), "pip", "install", "--python", target.executable]
    if pip:
        # Beside others' packages pip would print a line for each of the hundred that are there already. Where uv has
        # not got through before, the network is not worth half a minute of trying again.
        options = ["--retries", "2"] if is_whole else ["--quiet"]
        yield [*pip, "install", *options, "--no-input", "--disable-pip-version-check", "--no-warn-script-location"]
    elif by_uv and not target.is_layered:
        yield by_uv  # an activated environment that uv made has no pip


def install(installer: list[str], installation: Installation, lacking: Sequence[Requirement]) -> None:
    """Runs the installer once for each kind of line; stops at the first that fails."""
    pinned = pins(installation, lacking)
    with tempfile.TemporaryDirectory() as folder:
        constraints = Path(folder, "constraints.txt")
        constraints.write_text("".join(f"{line}\n" for line in pinned))
        for kind in ("run", "no-deps", "tests"):
            lines = [str(line) for line in lacking if line.kind == kind]
            options = [f"--constraint={constraints}"] if pinned else []
            if kind == "no-deps":
                options = ["--no-deps"]
            if lines and not _run(installation, [*installer, *offline_options(), *options, *lines]):
                return


def pins(installation: Installation, lacking: Sequence[Requirement]) -> list[str]:
    """Returns constraints `name==version` for what must stay: torch always, everything in somebody else's Python."""
    to_change = {line.name for line in lacking}
    # What the packages below a layer were compiled against must not be covered by another version.
    kept = {"torch", "torchvision", "numpy"} if installation.target.is_layered else {"torch"}
    return [
        f"{name}=={version}"
        for name, version in installation.target.distributions.items()
        if (not installation.is_ours or name in kept) and name not in to_change and _VERSION.fullmatch(version)
    ]


def offline_options() -> list[str]:
    """Returns `--find-links` and `--no-index` from pip's and uv's environment variables, for either of the two.

    pip separates folders with blanks, uv with commas; a folder with a blank in its name is taken as one.
    """
    links = []
    for name, separator in (("PIP_FIND_LINKS", None), ("UV_FIND_LINKS", ",")):
        value = os.environ.get(name, "")
        links += [value] if value and Path(value).is_dir() else [link for link in value.split(separator) if link]
    switches = [os.environ.get(name, "").lower() for name in ("PIP_NO_INDEX", "UV_NO_INDEX")]
    is_offline = any(switch not in ("", "0", "false", "no", "off") for switch in switches)
    return [*(["--no-index"] if is_offline else []), *(f"--find-links={link}" for link in dict.fromkeys(links))]


def advice(lacking: Sequence[Requirement], beside_others: bool) -> str:
    """Returns what to tell when installing failed: what is missing and the cure for each usual cause.

    `beside_others`: the packages go beside somebody else's torch, so what they pull is there already.
    """
    lines = " ".join(f"'{line}'" for line in lacking)
    missing = ", ".join(map(str, lacking[:4])) + (f" and {len(lacking) - 4} more" if len(lacking) > 4 else "")
    what = f"--no-deps {lines}" if beside_others else "-r requirements.txt"
    mounted = sorted({path.parent for path in (KAGGLE / "input").glob("*/**/*.whl")})
    wheels = mounted[0] if mounted else "/path/to/wheels"
    free_gb = shutil.disk_usage(PROJECT).free / GB
    python = ".".join(map(str, sys.version_info[:2]))
    return (
        f"could not install {missing}. Why is in the installer's words above; the usual cures:\n"
        f"  no internet  where there is some, with Python {python}: pip download -d wheels {what}\n"
        f"               here: PIP_NO_INDEX=1 PIP_FIND_LINKS={wheels} ./run.sh ...\n"
        f"  a mirror     PIP_INDEX_URL=https://... ./run.sh ...   (for uv: UV_DEFAULT_INDEX=https://...)\n"
        f"  disk full    {free_gb:.1f} GB are free at {PROJECT}; a whole environment takes {DISK_NEEDED_GB} GB\n"
        f"  Python {python} too new or old for a package   rm -rf .venv; PYTHON=/path/to/python3.12 ./run.sh ..."
    )


def _run(installation: Installation, command: list[str]) -> bool:
    """Runs one installer; the mark of unfinished work stands while what is in the target cannot be trusted."""
    site, mark = Path(installation.target.site), installation.unfinished
    before = _last_change(site)
    mark.touch()
    environ = {name: value for name, value in os.environ.items() if name not in MISLEADING}
    keep = (installation.lock,)
    code = subprocess.run(command, stdout=sys.stderr, env=environ, pass_fds=keep, check=False).returncode
    # An installer that gives up before it has touched anything (no network, nothing that fits) leaves all as it was.
    if code == 0 or (code > 0 and _last_change(site) == before):
        mark.unlink(missing_ok=True)
    return code == 0


def _last_change(folder: Path) -> int:
    return folder.stat().st_mtime_ns if folder.exists() else 0


def _pip_for(installation: Installation) -> list[str] | None:
    """Returns the command of a pip that installs into the target, making one where an environment of ours has none."""
    target = installation.target.executable
    own = [target, "-m", "pip"]
    if _succeeds([*own, "--version"]) or (installation.is_ours and _succeeds([target, "-m", "ensurepip"])):
        return own
    lent = [installation.base.executable, "-m", "pip", "--python", target]  # pip 22.3 and newer
    return lent if _succeeds([*lent, "--version"]) else None


def _succeeds(command: list[str]) -> bool:
    try:
        return subprocess.run(command, capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def _warn_of_full_disk(installation: Installation, lacking: Sequence[Requirement]) -> None:
    folder = installation.unfinished.parent
    free_gb = shutil.disk_usage(folder).free / GB
    if any(line.name == "torch" for line in lacking) and free_gb < DISK_NEEDED_GB:
        say(f"only {free_gb:.1f} GB are free at {folder}; this takes about {DISK_NEEDED_GB} GB")
