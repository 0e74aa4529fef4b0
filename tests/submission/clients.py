"""Runs a few lines of Python in a process of its own, where `import kaggle` finds the stand-in or the real client."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

PROJECT = Path(__file__).resolve().parents[2]
STAND_IN = Path(__file__).with_name("stand_in")
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
    """How the process ended; `seconds` includes its start."""

    code: int
    out: str
    error: str
    seconds: float


def run_lines(lines: str, folder: Path, mood: str | None = "good") -> Outcome:
    """Runs `lines` with the stand-in in a mood, or with the real client and no credentials when `mood` is None."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KAGGLE")}
    environment = {**kept, "HOME": str(folder / "home"), "STAND_IN_FOLDER": str(folder), "STAND_IN_MOOD": mood or ""}
    paths = [str(PROJECT)] if mood is None else [str(STAND_IN), str(PROJECT)]
    code = PREAMBLE.format(lines=lines.strip().replace("\n", "\n    "))
    began = time.monotonic()
    process = subprocess.run(
        [sys.executable, "-c", code], cwd=folder, env={**environment, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    return Outcome(process.returncode, process.stdout, process.stderr, time.monotonic() - began)
