"""Finds or creates a Python that meets requirements.txt. run.sh calls it when `.venv/ready` is missing or outdated.

In: requirements.txt, the running interpreter, an existing `.venv`. Standard library only. Out: `.venv/ready`, written
last: the interpreter to use, whether the packages for the tests are installed, and the text of requirements.txt.

The first of these strategies that succeeds is used:

- existing: `.venv` is there and its Python starts; missing packages are installed into it;
- in_place: the running interpreter has a working torch, and missing packages can be added without changing installed
            ones (Kaggle, Colab, an activated environment);
- layered:  it has a working torch, but is managed by the system (PEP 668), is read-only, or has a package that must
            change: `.venv` sees its packages and holds the others;
- separate: `.venv` holds every package.

With LOCKED=1, `.venv` has exactly the versions in requirements.lock, and the installer checks the hash of each file.

`.venv/unfinished` exists while an installer works: what a killed installer leaves behind is removed, not used.
`.venv/lock` lets one start at a time install.
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

from pipeline.bootstrap.installer import LOCK_FILE, Installation, failure_message, install_missing, is_locked, log
from pipeline.bootstrap.requirements import (
    Interpreter,
    Requirement,
    inspect_python,
    output_of,
    parse_lock,
    parse_requirements,
    unmet,
)
from pipeline.errors import UserError
from pipeline.files import write_atomic
from pipeline.paths import PROJECT

Strategy = Literal["existing", "in_place", "layered", "separate"]
READY, UNFINISHED, LOCK = "ready", "unfinished", "lock"


def main(arguments: Sequence[str]) -> int:
    """Prepares the environment; returns run.sh's exit code."""
    try:
        prepare_environment(PROJECT / ".venv", needs_tests=list(arguments[:1]) == ["test"])
    except UserError as error:
        log(str(error))
        return 2
    except KeyboardInterrupt:
        log("interrupted while installing packages; the next start begins the installation again")
        return 3
    return 0


def prepare_environment(venv: Path, needs_tests: bool) -> None:
    """Writes `venv/ready` with an interpreter that meets requirements.txt, which is created where there is none.

    Raises:
        UserError: packages cannot be installed; the message names them and the usual remedies.
    """
    text = (PROJECT / "requirements.txt").read_text(encoding="utf-8")
    requirements = parse_lock(LOCK_FILE.read_text(encoding="utf-8")) if is_locked() else parse_requirements(text)
    with locked(venv) as lock:
        existing = None if (venv / UNFINISHED).exists() else inspect_python(venv / "bin" / "python")
        base = _base_interpreter(venv)
        for strategy in ["existing"] if existing else choose_strategies(base, requirements):
            target = existing or create_target(strategy, base, venv)
            is_ours = strategy != "in_place"
            missing = install_missing(Installation(target, base, is_ours, venv / UNFINISHED, lock), requirements)
            essential = [line for line in missing if needs_tests or not line.is_for_tests]
            if not essential:
                break
        else:
            raise UserError(failure_message(essential, has_torch=strategy == "in_place" or target.is_layered))
        if missing:
            log(f"continuing without packages that only `./run.sh test` needs: {', '.join(map(str, missing))}")
        python = f"{venv.name}/bin/python" if is_ours else target.executable
        (venv / UNFINISHED).unlink(missing_ok=True)
        write_atomic(venv / READY, f"{python}\n{'without' if missing else 'with'} tests\n{text}")


def choose_strategies(base: Interpreter, requirements: Sequence[Requirement]) -> list[Strategy]:
    """Returns the strategies to try, best first, on a machine whose Python is `base` and that has no `.venv` yet."""
    missing = unmet(requirements, base.distributions)
    if is_locked():
        return ["separate"]  # what is installed elsewhere has no hashes to compare
    # Both must be installed and import: a torchvision from elsewhere does not fit a torch that was built specially.
    torches = {"torch", "torchvision"}
    is_there = torches <= set(base.distributions) and not any(line.name in torches for line in missing)
    if not is_there or not _torch_imports(base):
        return ["separate"]
    needs_change = any(line.name in base.distributions and not line.is_for_tests for line in missing)
    can_add = os.access(base.site, os.W_OK) and not base.is_managed and not needs_change
    in_place: list[Strategy] = ["in_place"] if can_add or not missing else []
    # A layer shows the packages of a real installation only, not those of another virtual environment.
    return [*in_place, "separate"] if base.in_venv else [*in_place, "layered", "separate"]


def create_target(strategy: Strategy, base: Interpreter, venv: Path) -> Interpreter:
    """Returns the interpreter to install into: `base` itself, or that of a newly created `venv`.

    Raises:
        UserError: this Python cannot create virtual environments.
    """
    if strategy == "in_place":
        return base
    if (venv / "bin").exists():
        log(f"{venv.name} is broken or incomplete; creating it again")
    (venv / UNFINISHED).touch()
    for path in venv.iterdir():  # its content, not the folder: that may be a link to a larger disk
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        elif path.name not in (UNFINISHED, LOCK):
            path.unlink()
    options = ["--system-site-packages"] if strategy == "layered" else []
    # Without pip: uv does not need it, and Debian has it in a package of its own, python3-venv.
    command = [base.executable, "-m", "venv", "--without-pip", *options, str(venv)]
    result = subprocess.run(command, capture_output=True, encoding="utf-8", errors="replace", check=False)
    target = inspect_python(venv / "bin" / "python")
    if target is None:
        output = (result.stderr or result.stdout).strip()
        raise UserError(
            f"{base.executable} cannot create a virtual environment: {output[-500:]}\n"
            f"On Debian and Ubuntu: apt install python3-venv. Another Python: PYTHON=/path/to/python3.12 ./run.sh ..."
        )
    (venv / UNFINISHED).unlink()
    return target


@contextmanager
def locked(venv: Path) -> Iterator[int]:
    """Lets one start at a time work on `venv`; yields the descriptor that holds the lock.

    Raises:
        UserError: `venv` cannot be created, or is a folder with other content.
    """
    if venv.is_dir() and any(venv.iterdir()) and not any((venv / name).exists() for name in ("pyvenv.cfg", LOCK)):
        raise UserError(f"{venv} exists but is not a virtual environment; move it away, then start again.")
    try:
        venv.mkdir(exist_ok=True)
        descriptor = os.open(venv / LOCK, os.O_RDWR | os.O_CREAT)
    except OSError as error:
        raise UserError(
            f"cannot write {venv}: {error.strerror}.\n"
            f"Copy the project to a writable folder and start it there: cp -r '{venv.parent}' /tmp/project"
        ) from error
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            log("another run.sh is installing packages; waiting for it to finish")
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        except OSError:
            pass  # some network file systems have no locks; continuing without one is better than not starting
        yield descriptor
    finally:
        os.close(descriptor)


def _base_interpreter(venv: Path) -> Interpreter:
    """Returns the running interpreter, or the one that `venv` was created with where `venv` itself is activated."""
    is_inside = Path(sys.prefix).resolve() == venv.resolve()
    found = inspect_python(sys._base_executable if is_inside else sys.executable)
    if found is None:
        raise UserError(f"{sys.executable} does not start; use another Python: PYTHON=/path/to/python3 ./run.sh ...")
    return found


def _torch_imports(base: Interpreter) -> bool:
    log(f"checking whether torch {base.distributions['torch']} of {base.executable} works")
    return output_of([base.executable, "-c", "import torch, torchvision"], limit_s=300) is not None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
