"""Writes the checkpoint of a toy training that was stopped half way, by which tests see that old ones are still read.

    python -m tests.training.old_checkpoint

`format_1.ckpt` was written when the format was still the first one; it is never written again for that format. Raise
checkpoint.FORMAT where it cannot be read any more, and write `format_2.ckpt` beside it.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from pipeline.errors import Stopped
from pipeline.paths import LAST, Folders
from pipeline.training.checkpoint import FORMAT

FOLDER = Path(__file__).parent / "old_checkpoints"
SETTINGS = ("SOLVER.EMA_DECAY=0.9",)
STOPPED_AT = 16  # the question whether to stop: after an epoch that was the best


def main() -> None:
    """Writes the checkpoint of today's format."""
    from tests.training.toy import StopAt, run

    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"RUNS_DIR": folder, "SUBMISSIONS_DIR": folder, "SCRATCH_DIR": folder}
        with suppress(Stopped):
            run(changes=SETTINGS, stop=StopAt(STOPPED_AT))
        FOLDER.mkdir(exist_ok=True)
        path = FOLDER / f"format_{FORMAT.decode()}.ckpt"
        shutil.copyfile(Folders.from_environment().run("toy") / LAST, path)
        print(f"{path}: {path.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
