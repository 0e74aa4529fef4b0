"""What requirements.txt asks for and what an interpreter has. Standard library only: it runs before packages exist.

In: requirements.txt, the metadata of installed distributions. Out: the lines that are not met.
Command: `python -m pipeline.bootstrap.requirements` prints the running interpreter as JSON (`Interpreter`).
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import sysconfig
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from operator import eq, ge, gt, le, lt, ne
from pathlib import Path
from typing import Literal

from pipeline.errors import UserError
from pipeline.paths import PROJECT

OLDEST_PYTHON = (3, 10)

_LINE = re.compile(r"(?P<name>[\w.-]+)(?P<bounds>[^#]*?)\s+#\s*((?P<kind>no-deps|tests|tests-no-deps):\s*)?\S.*")
_BOUND = re.compile(r"(?P<operator>==|!=|>=|<=|<|>)\s*(?P<version>\d+(\.\d+)*)")
_COMPARE = dict(zip(("==", "!=", ">=", "<=", ">", "<"), (eq, ne, ge, le, gt, lt), strict=True))


@dataclass(frozen=True)
class Requirement:
    """One line of requirements.txt."""

    name: str
    bounds: tuple[tuple[str, str], ...]  # (">=", "2.6")
    kind: Literal["run", "no-deps", "tests", "tests-no-deps"]

    @property
    def is_for_tests(self) -> bool:
        """Whether only tests need it."""
        return self.kind.startswith("tests")

    def __str__(self) -> str:
        return self.name + ",".join(operator + version for operator, version in self.bounds)


@dataclass(frozen=True)
class Interpreter:
    """The properties of a Python that matter for installing into it."""

    executable: str
    version: tuple[int, int, int]
    in_venv: bool
    is_layered: bool  # a virtual environment that also sees the packages of the Python it was created with
    is_managed: bool  # belongs to the system's package manager (PEP 668): pip must not write into it
    site: str  # the folder that packages are installed into
    distributions: dict[str, str]  # normalised name -> version


def normalised(name: str) -> str:
    """Returns a distribution's name in the form in which PEP 503 compares names.

    >>> normalised("PyYAML_x.y")
    'pyyaml-x-y'
    """
    return re.sub(r"[-_.]+", "-", name).lower()


def parse_requirements(text: str) -> tuple[Requirement, ...]:
    """Returns the lines of a requirements.txt in order.

    >>> [str(line) for line in parse_requirements("ruff>=0.17,<0.18  # tests: linter")]
    ['ruff>=0.17,<0.18']

    Raises:
        UserError: a line is not `name`, bounds, `# reason`; markers, extras and options are not supported.
    """
    requirements = []
    for number, line in enumerate(text.splitlines(), start=1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.rstrip())
        parts = match["bounds"].split(",") if match else []
        bounds = [_BOUND.fullmatch(part.strip()) for part in parts if part.strip()]
        if match is None or None in bounds:
            raise UserError(f"requirements.txt line {number}: found {line!r}, expected: name>=1.2  # reason")
        signs = tuple((bound["operator"], bound["version"]) for bound in bounds)
        requirements.append(Requirement(normalised(match["name"]), signs, match["kind"] or "run"))
    return tuple(requirements)


def parse_lock(text: str) -> tuple[Requirement, ...]:
    """Returns the exact versions that a lock file pins, in order; its hashes are for the installer.

    >>> [str(line) for line in parse_lock("# why\\nnumpy==2.4.6 \\\\\\n    --hash=sha256:00\\n")]
    ['numpy==2.4.6']
    """
    pinned = re.findall(r"^([\w.-]+)==([\w.!+-]+)", text, re.MULTILINE)
    return tuple(Requirement(normalised(name), (("==", version),), "run") for name, version in pinned)


def satisfies(version: str | None, bounds: Iterable[tuple[str, str]]) -> bool:
    """Returns whether an installed version is within the bounds; only release numbers are compared.

    A build such as 2.10.0a0+nv25.9 counts as 2.10.0: vendors' images have such builds, and replacing one breaks the
    image.

    >>> satisfies("2.10.0+cu128", [(">=", "2.6")]), satisfies("2.0.9", [("==", "2.0.8")]), satisfies(None, [])
    (True, False, False)
    """
    if not version:
        return False
    found = release(version)
    return all(_COMPARE[sign](found, release(bound)) for sign, bound in bounds)


def release(version: str) -> tuple[int, ...]:
    """Returns the release numbers of a version, without trailing zeros.

    >>> release("2.10.0+cu128"), release("1.0rc2"), release("1!2.0"), release("dev")
    ((2, 10), (1,), (2,), ())
    """
    match = re.match(r"v?(?:\d+!)?(\d+(?:\.\d+)*)", version)
    numbers = [int(number) for number in match[1].split(".")] if match else []
    while numbers and numbers[-1] == 0:
        numbers.pop()
    return tuple(numbers)


def unmet(requirements: Iterable[Requirement], distributions: Mapping[str, str]) -> list[Requirement]:
    """Returns the requirements that the installed distributions do not meet."""
    return [line for line in requirements if not satisfies(distributions.get(line.name), line.bounds)]


def installed_distributions() -> dict[str, str]:
    """Returns normalised name -> version of what the running interpreter can import; the first on `sys.path` wins."""
    found: dict[str, str] = {}
    for distribution in metadata.distributions():
        try:
            name, version = distribution.metadata.get("Name"), distribution.metadata.get("Version")
        except FileNotFoundError:  # a folder that a killed installation left behind, without its metadata
            continue
        if name and version:
            found.setdefault(normalised(name), version)
    return found


def running_interpreter() -> Interpreter:
    """Returns the interpreter that runs this code."""
    in_venv = sys.prefix != sys.base_prefix
    settings = Path(sys.prefix, "pyvenv.cfg")
    layered = re.compile(r"(?im)^include-system-site-packages\s*=\s*true\s*$")
    return Interpreter(
        executable=sys.executable,
        version=sys.version_info[:3],
        in_venv=in_venv,
        is_layered=in_venv and settings.is_file() and bool(layered.search(settings.read_text(encoding="utf-8"))),
        is_managed=not in_venv and Path(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED").exists(),
        site=sysconfig.get_path("purelib"),
        distributions=installed_distributions(),
    )


def output_of(command: Sequence[str], limit_s: float | None = 3.0) -> str | None:
    """Returns the output of a program, run in the project; None where it is missing, fails or takes too long."""
    try:
        result = subprocess.run(
            command, cwd=PROJECT, capture_output=True, encoding="utf-8", errors="replace", timeout=limit_s
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout if result.returncode == 0 else None


def inspect_python(python: Path | str) -> Interpreter | None:
    """Returns the properties of another interpreter, or None where it does not start or is too old."""
    if not os.access(python, os.X_OK):
        return None
    if (output := output_of([str(python), "-m", "pipeline.bootstrap.requirements"], limit_s=None)) is None:
        return None
    values = json.loads(output)
    found = Interpreter(**{**values, "version": tuple(values["version"])})
    return found if found.version >= OLDEST_PYTHON else None


if __name__ == "__main__":
    print(json.dumps(asdict(running_interpreter())))
