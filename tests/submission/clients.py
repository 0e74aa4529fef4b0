"""Runs a few lines of Python with Kaggle's client: the installed one, over HTTP, or one that cannot be imported."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.submission.loopback import kaggle_at

PROJECT = Path(__file__).resolve().parents[2]
# `kaggle/__init__.py` where the package is absent, or old and without credentials: then it fails in these ways.
CANNOT_BE_IMPORTED = {
    "not installed": "raise ImportError(\"No module named 'kaggle'\")",
    "old": "raise OSError('Could not find kaggle.json. Make sure it is in ~/.kaggle. Or use the environment method.')",
    "older": "raise ValueError('Error: Missing username in configuration.')",
    "exits": "print('Could not find kaggle.json')\nraise SystemExit(1)",
}
PREAMBLE = """
import sys
from pathlib import Path
from pipeline.download import fetch
from pipeline.errors import UserError
from pipeline.submission.kaggle import submit
from pipeline.submission.log import submissions_log
from tests.segmentation.submission.scenes import make_competition
competition = make_competition()
try:
    {lines}
except UserError as error:
    print(error, file=sys.stderr)
    sys.exit(2)
"""


class Outcome(NamedTuple):
    """How the lines ended; `seconds` includes the start of a process, where there was one."""

    code: int
    out: str
    error: str
    seconds: float


def run_lines(lines: str, folder: Path, mood: str = "good") -> Outcome:
    """Runs lines in a folder with the installed client, which talks to a Kaggle in a mood, with its state there."""
    out, error, code, began = io.StringIO(), io.StringIO(), 0, time.monotonic()
    with kaggle_at(folder, mood), _inside(folder), contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        try:
            exec(_code(lines), {"__name__": "lines"})
        except SystemExit as end:
            code = int(end.code or 0)
    return Outcome(code, out.getvalue(), error.getvalue(), time.monotonic() - began)


def run_elsewhere(lines: str, folder: Path, mood: str | None) -> Outcome:
    """Runs lines in a process without credentials: with the installed client, or with one that cannot be imported."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KAGGLE")}
    paths = [str(PROJECT)] if mood is None else [str(folder / "packages"), str(PROJECT)]
    if mood is not None:
        (folder / "packages" / "kaggle").mkdir(parents=True)
        (folder / "packages" / "kaggle" / "__init__.py").write_text(CANNOT_BE_IMPORTED[mood])
    environment = {**kept, "HOME": str(folder / "home")}
    began = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", _code(lines)], cwd=folder, env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Outcome(process.returncode, process.stdout, process.stderr, time.monotonic() - began)


def _code(lines: str) -> str:
    return PREAMBLE.format(lines=lines.strip().replace("\n", "\n    "))


@contextlib.contextmanager
def _inside(folder: Path) -> Iterator[None]:
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)
