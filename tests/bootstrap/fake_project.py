"""A project in a folder with a space in its name: the real run.sh and setup, tiny packages, a fake uv that records."""

from __future__ import annotations

import base64
import hashlib
import json
import os
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path

BOOTSTRAP = ("__init__", "environment", "installer", "requirements")
PROJECT = Path(__file__).resolve().parent.parent.parent
TOOLS = ("sh", "cat", "head", "dirname", "readlink", "sleep")
REQUIREMENTS = """
first>=1.0   # needed by everything
second>=1.0  # no-deps: pulls what we do not want
third>=1.0   # tests: the runner
"""

# The pipeline that run.sh starts: prints what it received.
MAIN = """
import json, os, sys
names = ("NO_ALBUMENTATIONS_UPDATE", "OMP_WAIT_POLICY", "DATA_DIR")
print(json.dumps({"arguments": sys.argv[1:], "python": sys.executable, "folder": os.getcwd(),
                  "environment": {name: os.environ.get(name) for name in names}}))
sys.exit(3 if "stop" in sys.argv else 0)
"""

# Replaces uv: records its arguments, unpacks wheels from --find-links; slow or killed where a test asks for it.
UV = """#!{python}
import json, os, re, signal, subprocess, sys, time, zipfile
from pathlib import Path
if sys.argv[1:] == ["--version"]:
    sys.exit(0)
values = dict(part[2:].split("=", 1) for part in sys.argv if part.startswith("--") and "=" in part)
constraints = Path(values["constraint"]).read_text().split() if "constraint" in values else []
names = [re.split("[<>=]", part)[0] for part in sys.argv[5:] if not part.startswith("--")]
with open(os.environ["UV_LOG"], "a") as log:
    print(json.dumps({{"names": names, "no_deps": "--no-deps" in sys.argv, "constraints": constraints}}), file=log)
wheels = [sorted(Path(values.get("find-links", "nowhere")).glob(name + "-*.whl")) for name in names]
if not all(wheels):
    sys.exit("no such wheel")
ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
site = Path(subprocess.run([sys.argv[4], "-c", ask], capture_output=True, text=True).stdout.strip())
assert site.is_relative_to(Path(os.environ["UV_LOG"]).parent), "nothing may be installed into a Python of this machine"
if os.environ.get("UV_DIES"):
    (site / "half.py").write_text("")
    os.kill(os.getppid(), signal.SIGKILL)
    os.kill(os.getpid(), signal.SIGKILL)
time.sleep(float(os.environ.get("UV_SECONDS", 0)))
for wheel in wheels:
    zipfile.ZipFile(wheel[-1]).extractall(site)
"""


@dataclass(frozen=True)
class Machine:
    """A fake project and the machine around it: only what lies in `commands` is on the PATH."""

    project: Path
    commands: Path
    wheels: Path
    log: Path
    base: Path  # the machine's python3: a clean virtual environment

    @property
    def venv(self) -> Path:
        return self.project / ".venv"

    def environment(self, **changes: str) -> dict[str, str]:
        """Returns the variables of a start: of the machine that runs the tests only its home.

        `PYTHONPATH` has an `ensurepip` that fails at once: the real one takes seconds, and the fake uv needs no pip.
        """
        values = {"PATH": str(self.commands), "HOME": os.environ.get("HOME", "/"), "UV_LOG": str(self.log)}
        without_pip = {"PYTHONPATH": str(self.commands)}
        return {**values, **without_pip, "PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(self.wheels), **changes}

    def start(self, *arguments: str, **changes: str) -> subprocess.CompletedProcess:
        """Types `run.sh ARGUMENTS` in another folder."""
        command = [str(self.project / "run.sh"), *arguments]
        return self.type(command, **changes)

    def type(self, command: list[str], **changes: str) -> subprocess.CompletedProcess:
        folder = self.wheels.parent
        environment = self.environment(**changes)
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300)

    def installs(self) -> list[dict]:
        """Returns the recorded calls of uv, oldest first."""
        return [json.loads(line) for line in self.log.read_text().splitlines()] if self.log.exists() else []

    def forget(self) -> None:
        self.log.unlink(missing_ok=True)

    def has(self, package: str) -> bool:
        """Returns whether the project's environment can import a package."""
        command = [str(self.venv / "bin" / "python"), "-c", f"import {package}"]
        return subprocess.run(command, capture_output=True).returncode == 0

    def add_command(self, name: str, text: str) -> None:
        path = self.commands / name
        path.unlink(missing_ok=True)
        path.write_text(text)
        path.chmod(0o755)


def machine_in(folder: Path) -> Machine:
    return Machine(folder / "my project", folder / "bin", folder / "my wheels", folder / "uv.log", folder / "base")


def make_machine(folder: Path) -> Machine:
    """Returns a fresh machine: Python 3.10+, a fake uv, three wheels, no environment."""
    machine = machine_in(folder)
    for folder_made in (machine.project / "pipeline" / "bootstrap", machine.commands, machine.wheels):
        folder_made.mkdir(parents=True)
    shutil.copy(PROJECT / "run.sh", machine.project)
    for name in ("__init__", "errors", "files", "paths", "wording", *(f"bootstrap/{name}" for name in BOOTSTRAP)):
        shutil.copy(PROJECT / "pipeline" / f"{name}.py", machine.project / "pipeline" / f"{name}.py")
    (machine.project / "pipeline" / "__main__.py").write_text(MAIN)
    (machine.project / "pipeline" / "bootstrap" / "doctor.py").write_text("print('the doctor runs')\n")
    (machine.project / "requirements.txt").write_text(REQUIREMENTS)
    for tool in TOOLS:
        (machine.commands / tool).symlink_to(shutil.which(tool))
    subprocess.run([sys._base_executable, "-m", "venv", "--without-pip", str(machine.base)], check=True)
    # A script, not a link: through a link the virtual environment would not find its own folder.
    machine.add_command("python3", f'#!/bin/sh\nexec "{machine.base}/bin/python" "$@"\n')
    machine.add_command("ensurepip.py", "raise SystemExit(1)\n")
    machine.add_command("uv", UV.format(python=sys.executable))
    for name in ("first", "second", "third"):
        write_wheel(machine.wheels, name, "1.0")
    return machine


def write_wheel(folder: Path, name: str, version: str, code: str = "") -> Path:
    """Writes a wheel with one module; pip accepts it too."""
    info = f"{name}-{version}.dist-info"
    members = {
        f"{name}.py": code,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    rows = []
    for path, text in members.items():
        digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        rows.append(f"{path},sha256={digest},{len(text.encode())}\n")
    wheel = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        for path, text in {**members, f"{info}/RECORD": "".join([*rows, f"{info}/RECORD,,\n"])}.items():
            archive.writestr(path, text)
    return wheel


def install_wheel(python: Path, wheel: Path) -> None:
    """Unpacks a wheel into an interpreter's folder of packages."""
    ask = "import sysconfig; print(sysconfig.get_path('purelib'))"
    site = subprocess.run([str(python), "-c", ask], capture_output=True, text=True, check=True).stdout.strip()
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
