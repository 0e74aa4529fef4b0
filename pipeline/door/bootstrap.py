"""Finds or makes a Python that has what requirements.txt asks for. Called by run.sh when `.venv/ready` does not hold.

Comes in: requirements.txt, the interpreter that runs this, what `.venv` already is. Standard library only.
Goes out: `.venv/ready`, written last: the interpreter to use, whether the tests' packages are in, the text of
requirements.txt. One of three ways, the first that succeeds:

- here:    the running interpreter has a torch that works, and what is missing can be added without changing anything
           that is there (Kaggle, Colab, an activated environment);
- layered: the same, but it is the system's own (PEP 668), read-only, or something must change: `.venv` sees its
           packages and holds the rest;
- own:     `.venv` holds everything.

A `.venv` that is already there and starts is filled up instead. `.venv/unfinished` stands while an installer works:
what it leaves behind when killed is not trusted but made again. `.venv/lock` keeps two starts apart.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from pipeline.door.installer import Installation, advice, fill, say
from pipeline.door.requirements import PROJECT, Interpreter, Requirement, gaps, look_at, parse_requirements
from pipeline.errors import UserError
from pipeline.files import write_atomic

Way = Literal["there", "here", "layered", "own"]
READY, UNFINISHED, LOCK = "ready", "unfinished", "lock"


def main(arguments: Sequence[str]) -> int:
    """Makes the environment ready; returns run.sh's exit code."""
    try:
        prepare_environment(PROJECT / ".venv", needs_tests=list(arguments[:1]) == ["test"])
    except UserError as error:
        say(str(error))
        return 2
    except KeyboardInterrupt:
        say("stopped while installing; the next start begins that again")
        return 3
    return 0


def prepare_environment(venv: Path, needs_tests: bool) -> None:
    """Leaves `venv/ready` naming an interpreter that meets requirements.txt.

    Raises:
        UserError: it cannot be done; tells what is missing and how to get it.
    """
    text = (PROJECT / "requirements.txt").read_text()
    requirements = parse_requirements(text)
    with locked(venv) as lock:
        there = None if (venv / UNFINISHED).exists() else look_at(venv / "bin" / "python")
        base = _base(venv)
        for way in ["there"] if there else ways_to_begin(base, requirements):
            target = there or begin(way, base, venv)
            lacking = fill(Installation(target, base, way != "here", venv / UNFINISHED, lock), requirements)
            essential = [line for line in lacking if needs_tests or line.kind != "tests"]
            if not essential:
                break
        else:
            raise UserError(advice(essential, beside_others=way == "here" or target.is_layered))
        if lacking:
            say(f"going on without what only the tests need: {', '.join(map(str, lacking))}")
        python = target.executable if way == "here" else f"{venv.name}/bin/python"
        (venv / UNFINISHED).unlink(missing_ok=True)
        write_atomic(venv / READY, f"{python}\n{'without' if lacking else 'with'} tests\n{text}")


def ways_to_begin(base: Interpreter, requirements: Sequence[Requirement]) -> list[Way]:
    """Returns the ways to try, best first, for a machine on which `base` is the Python."""
    lacking = gaps(requirements, base.distributions)
    # Both must be there and import: a torchvision taken from elsewhere does not fit a torch that was built specially.
    torches = {"torch", "torchvision"}
    if not torches <= set(base.distributions) or any(line.name in torches for line in lacking):
        return ["own"]
    if not _torch_imports(base):
        return ["own"]
    changes_something = any(line.name in base.distributions and line.kind != "tests" for line in lacking)
    can_add = os.access(base.site, os.W_OK) and not base.is_managed and not changes_something
    here: list[Way] = ["here"] if can_add or not lacking else []
    # A layer shows the packages of a real installation only, not those of another virtual environment.
    return [*here, "own"] if base.in_venv else [*here, "layered", "own"]


def begin(way: Way, base: Interpreter, venv: Path) -> Interpreter:
    """Returns the interpreter to install into: `base` itself, or that of a fresh `venv`.

    Raises:
        UserError: this Python cannot make virtual environments.
    """
    if way == "here":
        return base
    if (venv / "bin").exists():
        say(f"{venv.name} is broken or was never finished; making it again")
    (venv / UNFINISHED).touch()
    for path in venv.iterdir():  # its contents, not the folder: that may be a link to a larger disk
        if path.name in (UNFINISHED, LOCK):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    layers = ["--system-site-packages"] if way == "layered" else []
    # Without pip: where uv is there nobody needs it, and Debian splits it off into python3-venv.
    command = [base.executable, "-m", "venv", "--without-pip", *layers, str(venv)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    target = look_at(venv / "bin" / "python")
    if target is None:
        raise UserError(
            f"{base.executable} cannot make a virtual environment: {(made.stderr or made.stdout).strip()[-500:]}\n"
            f"On Debian and Ubuntu: apt install python3-venv. Or name another one: PYTHON=/path/to/python3.12 ./run.sh"
        )
    (venv / UNFINISHED).unlink()
    return target


@contextmanager
def locked(venv: Path) -> Iterator[int]:
    """Lets one start at a time work on `venv`; yields the descriptor that holds the lock.

    Raises:
        UserError: `venv` cannot be made, or is somebody else's folder.
    """
    if venv.is_dir() and any(venv.iterdir()) and not any((venv / name).exists() for name in ("pyvenv.cfg", LOCK)):
        raise UserError(f"{venv} is there but is no virtual environment; move it away and start again.")
    try:
        venv.mkdir(exist_ok=True)
        descriptor = os.open(venv / LOCK, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise UserError(
            f"cannot write {venv}: {error.strerror}.\n"
            f"Copy the project to a folder of yours and start it there: cp -r '{venv.parent}' /tmp/segmentation"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("another start is installing; waiting until it is done")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # some network disks know no locks; going on without one beats not starting
        yield descriptor
    finally:
        os.close(descriptor)


def _base(venv: Path) -> Interpreter:
    """Returns the running interpreter, or the one below it where `venv` itself is the activated environment."""
    inside = Path(sys.prefix).resolve() == venv.resolve()
    found = look_at(sys._base_executable if inside else sys.executable)
    if found is None:
        raise UserError(f"{sys.executable} does not start again. Name another: PYTHON=/path/to/python3 ./run.sh")
    return found


def _torch_imports(base: Interpreter) -> bool:
    say(f"trying the torch {base.distributions['torch']} of {base.executable}")
    command = [base.executable, "-c", "import torch, torchvision"]
    try:
        return subprocess.run(command, capture_output=True, check=False, timeout=300).returncode == 0
    except subprocess.TimeoutExpired:
        return False


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
