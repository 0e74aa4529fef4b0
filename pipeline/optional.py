"""What to type to install an optional package into the environment that the pipeline runs in. Standard library only."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

from pipeline.paths import shown


def install_command(*packages: str) -> str:
    """Returns a command that installs packages into this environment, for a shell.

    The environment's own pip is used if there is one. An environment made by uv has none, and Debian's Python cannot
    add one. The command then uses uv, the pip of the base Python (`pip --python`, since pip 22.3), or `ensurepip`.
    """
    python, wanted = shlex.quote(shown(Path(sys.executable))), shlex.join(packages)
    if find_spec("pip") is not None:
        return f"{python} -m pip install {wanted}"
    beside = Path(sys.executable).with_name("uv")
    uv = shown(beside) if beside.is_file() else shutil.which("uv")
    if uv is not None:
        return f"{shlex.quote(uv)} pip install --python {python} {wanted}"
    base = shutil.which(getattr(sys, "_base_executable", None) or "")  # absent where Python is embedded or was removed
    if base is not None:
        pip = [base, "-m", "pip", "--python", sys.executable]
        if subprocess.run([*pip, "--version"], capture_output=True, check=False).returncode == 0:
            return f"{shlex.quote(base)} -m pip --python {python} install {wanted}"
    return f"{python} -m ensurepip && {python} -m pip install {wanted}"
