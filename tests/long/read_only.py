"""A whole run without a network where all file systems are read-only, except for the run's own folders.

    python -m tests.long.read_only

Needs root on Linux. Code, competition and home are read-only in a namespace of its own; RUNS_DIR, SUBMISSIONS_DIR and
SCRATCH_DIR can be written, and so can `/tmp` and `/dev/shm`, which are empty before and must hold no file afterwards.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from pipeline.paths import PROJECT
from tests.tiny import overrides, write_competition

OWN = {"RUNS_DIR": "runs", "SUBMISSIONS_DIR": "submissions", "SCRATCH_DIR": "scratch"}
EMPTY = ("/tmp", "/dev/shm")
PLACE = "READ_ONLY_PLACE"
# The run's folders become mounts of their own, which stay writable when the root is not.
ENTER = """
set -e
for name in runs submissions scratch; do mount --bind "$READ_ONLY_PLACE/$name" "$READ_ONLY_PLACE/$name"; done
mount -o remount,bind,ro /
mount -t tmpfs tmpfs /tmp
mount -t tmpfs tmpfs /dev/shm
exec "$@"
"""


def run_inside(place: Path) -> int:
    """Runs the chain in the namespace; returns 1 where it failed, or where something is left in a shared folder."""
    for folder in (PROJECT, place / "data", Path.home()):
        try:
            (folder / "stray").touch()
        except OSError:
            continue
        print(f"WRONG: {folder} can be written, so nothing is shown")
        return 1
    environment = os.environ | {name: str(place / below) for name, below in OWN.items()}
    command = [sys.executable, "-B", "-m", "pipeline", "demo", *overrides(place / "data")]
    result = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
    left = [str(path) for folder in EMPTY for path in Path(folder).rglob("*") if not path.is_dir()]
    warnings = [line for line in (result.stdout + result.stderr).splitlines() if "warning" in line.lower()]
    print(f"exit code {result.returncode}; left in {' and '.join(EMPTY)}: {left or 'nothing'}", *warnings, sep="\n")
    if result.returncode:
        print(result.stdout[-2000:], result.stderr[-2000:])
    return int(result.returncode != 0 or bool(left))


def main() -> int:
    """Enters the namespace; returns the exit code."""
    if PLACE in os.environ:
        return run_inside(Path(os.environ[PLACE]))
    with tempfile.TemporaryDirectory(dir=PROJECT.parent) as name:  # not in /tmp, which is hidden
        place = Path(name)
        write_competition(place / "data")
        for folder in OWN.values():
            (place / folder).mkdir()
        command = ["unshare", "--mount", "--net", "sh", "-c", ENTER, "sh", sys.executable, "-B", "-m", __spec__.name]
        environment = {name: value for name, value in os.environ.items() if name != "TMPDIR"} | {PLACE: name}
        return subprocess.run(command, cwd=PROJECT, env=environment, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
