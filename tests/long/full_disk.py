"""Each folder on a file system that is full, at the beginning of each stage: refused by name, and continued later.

    python -m tests.long.full_disk [--free 0 20480 400000]

Needs root on Linux: mounts small file systems in a namespace of its own. The end of a stage that was refused must be a
UserError that names a path below the full folder; no temporary file may stay, and with space again the same run ends.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from pipeline.config.load import Loaded
from pipeline.engine.chain import run_chain
from pipeline.errors import UserError
from pipeline.files import TEMPORARY_MARK
from tests.tiny import draw_nothing, run_of, run_stages, tiny, write_competition

VARIABLES = {"RUNS_DIR": "runs", "SUBMISSIONS_DIR": "submissions", "SCRATCH_DIR": "scratch"}
STAGES = ("prepare", "testset", "tile", "sweep", "train", "evaluate", "predict", "submit", "report")
WRITES = {"tile": ("scratch", "runs"), "submit": ("submissions", "runs")}  # other stages: runs alone
SIZE = "90m"  # more than the reserve that is kept free of 64 MiB
FILLER = ".filler"


def fill(folder: Path, free: int) -> None:
    """Leaves so many bytes of a file system free."""
    with (folder / FILLER).open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, shutil.disk_usage(folder).free - free)


def try_stage(loaded: Loaded, stage: str, full: Path, free: int) -> str:
    """Runs a stage from its beginning, with `full` filled when it begins; returns how it ended."""

    def log(line: str) -> None:
        if line.startswith(f"{stage} ") and not (full / FILLER).exists():
            fill(full, free)

    try:
        run_chain(run_of(loaded, log), stage, (stage,))
    except UserError as error:
        return f"refused: {error}" if str(full) in str(error) else f"WRONG, without the folder: {error}"
    except Exception as error:
        return f"WRONG: {type(error).__name__}: {error}"
    finally:
        (full / FILLER).unlink(missing_ok=True)
    return "done"


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--free", type=int, nargs="+", default=[0, 20_480, 400_000], help="bytes left free")
    chosen = options.parse_args()
    if "IN_NAMESPACE" not in os.environ:
        command = ["unshare", "--mount", sys.executable, "-W", "ignore", "-m", "tests.long.full_disk", *sys.argv[1:]]
        return subprocess.run(command, env={**os.environ, "IN_NAMESPACE": "1"}, check=False).returncode
    num_wrong = 0
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as name, pytest.MonkeyPatch.context() as monkeypatch:
        place = Path(name).resolve()
        for variable, folder in VARIABLES.items():
            (place / folder).mkdir()
            mount = ["mount", "-t", "tmpfs", "-o", f"size={SIZE}", folder, str(place / folder)]
            subprocess.run(mount, check=True)
            monkeypatch.setenv(variable, str(place / folder))
        draw_nothing(monkeypatch)
        loaded = tiny(write_competition(place / "data"))
        for stage in STAGES:
            for folder in WRITES.get(stage, ("runs",)):
                for free in chosen.free:
                    if folder == "scratch":
                        shutil.rmtree(place / folder / "tiles", ignore_errors=True)
                    ended = try_stage(loaded, stage, place / folder, free)
                    left_over = [path.name for path in place.rglob(f"*{TEMPORARY_MARK}*")]
                    ended = f"WRONG, temporary files stay: {left_over}" if left_over else ended
                    num_wrong += ended.startswith("WRONG")
                    print(f"{stage:<9} {folder:<11} {free:>7,} bytes free: {ended.splitlines()[0]}", flush=True)
            run_stages(loaded, stage)  # with space again
        for folder in VARIABLES.values():
            subprocess.run(["umount", str(place / folder)], check=True)
    print(f"{num_wrong} wrong ends")
    return 1 if num_wrong else 0


if __name__ == "__main__":
    sys.exit(main())
