"""Runs of the whole chain as processes of their own: started, watched, interrupted, and what they left.

A process is forked from one that has loaded the packages and nothing else, so that a start costs no 10 seconds.
"""

from __future__ import annotations

import builtins
import importlib
import io
import os
import re
import resource
import select
import signal
import struct
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.__main__ import main
from pipeline.stages import STAGE_NAMES

# What times and dates are in, and what only remembers them.
VOLATILE = ("timings.csv", "report.html", ".stages", "events", "hparams", "provenance", "config.yaml")
FILE_OPERATIONS = ("replace", "rename", "unlink", "fsync", "link", "mkdir", "rmdir")
PACKAGES = (
    *("matplotlib.backends.backend_agg", "torch.utils.tensorboard", "sklearn.model_selection"),
    *("pipeline.stages", "pipeline.data.catalog", "pipeline.data.leakage", "pipeline.data.split"),
    *("pipeline.training.lr_sweep", "pipeline.training.trainer", "pipeline.segmentation.scores"),
    *("pipeline.submission.file", "pipeline.report.page", "pipeline.report.plots", "pipeline.detection.learning"),
)
GIVE_UP_S = 300


def load_packages() -> None:
    """Imports what stages import, so that forked children need not, and runs nothing: threads do not survive a fork."""
    for name in PACKAGES:
        importlib.import_module(name)
    sys.modules["torch"].set_num_threads(1)


def start(folder: Path, arguments: Sequence[str], before: Callable[[], None] = lambda: None) -> tuple[int, int]:
    """Starts the command in a process of its own with folders below `folder`; returns its number and its output."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    os.setpgid(0, 0)
    for name, child_folder in (("RUNS_DIR", "runs"), ("SUBMISSIONS_DIR", "submissions"), ("SCRATCH_DIR", "scratch")):
        os.environ[name] = str(folder / child_folder)
    os.dup2(writer, 1)
    os.dup2(writer, 2)
    code = 1
    try:
        before()
        code = main(["demo", *arguments])
    finally:
        sys.stdout.flush()
        os._exit(code)


def wait(child: int, reader: int, is_time: Callable[[str], bool], number: int) -> tuple[int, str, float]:
    """Waits for a child, and sends it a signal as soon as `is_time(output so far)`.

    Returns:
        Its exit code (negative: the signal that ended it), its output, and the seconds that it took to end when asked.
    """
    output, sent_at, begun = "", None, time.monotonic()
    while True:
        ready, _, _ = select.select([reader], [], [], 0.002)
        part = os.read(reader, 65536).decode(errors="replace") if ready else None
        if part == "":
            break
        output += part or ""
        if sent_at is None and is_time(output):
            sent_at = time.monotonic()
            if number == signal.SIGKILL:  # its workers live on for a while and hold the other end of the pipe open
                os.kill(child, number)
                break
            os.killpg(child, number)  # as the terminal and Slurm do: the workers get it, too
        if time.monotonic() - begun > GIVE_UP_S:
            os.kill(child, signal.SIGKILL)
    os.close(reader)
    _, status = os.waitpid(child, 0)
    took_s = time.monotonic() - sent_at if sent_at else 0.0
    return os.waitstatus_to_exitcode(status), output, took_s


def run_to_end(folder: Path, arguments: Sequence[str], before: Callable[[], None] = lambda: None) -> tuple[int, str]:
    """Runs the command to its end; returns exit code and output."""
    code, output, _ = wait(*start(folder, arguments, before), lambda output: False, 0)
    return code, output


def results(folder: Path) -> dict[str, bytes]:
    """Returns every file that must not depend on whether a run was interrupted."""
    kept = {}
    for path in sorted((folder / "runs").rglob("*")) + sorted((folder / "submissions").glob("*.csv")):
        parts = path.relative_to(folder).parts
        is_previous = path.name.startswith("previous-")  # the step or the epoch before, as it happens
        if path.is_file() and not set(parts) & set(VOLATILE) and parts[1] != "shared" and not is_previous:
            kept["/".join(parts)] = path.read_bytes()
    return kept


def stage_at(output: str) -> str:
    """Returns the stage that a run was in when `output` was all it had logged, or "between stages"."""
    at = "between stages"
    for line in output.splitlines():
        word = line.partition(" ")[0]
        if word in STAGE_NAMES:
            is_over = any(text in line for text in (" done in ", " up to date", " reused from "))
            at = "between stages" if is_over else word
    return at


def is_beyond(output: str, stage: str) -> bool:
    """Returns whether a run with this output has come to a stage after `stage`."""
    begun = [line.partition(" ")[0] for line in output.splitlines()]
    return any(later in begun for later in STAGE_NAMES[STAGE_NAMES.index(stage) + 1 :])


def stage_seconds(output: str) -> dict[str, float]:
    """Returns how long each stage took, from the output of an uninterrupted run."""
    done = [line.split() for line in output.splitlines() if " done in " in line and line.split()[0] in STAGE_NAMES]
    return {words[0]: float(words[3]) for words in done}


def note_steps(path: Path) -> None:
    """Makes training note into `path` how many steps of how many epochs it has finished, before each further one."""
    from pipeline.training import trainer

    plain_step = trainer.train_step
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT)

    def noted_step(learner, batch, criterion, sums, watch, position):
        os.pwrite(descriptor, struct.pack("<qq", *position[:2]), 0)  # what is written outlives the process
        return plain_step(learner, batch, criterion, sums, watch, position)

    trainer.train_step = noted_step


class Resumed:
    """How far a training was when it was interrupted, compared with where the next start goes on.

    Args:
        path: what `note_steps` writes.
        may_lose: finished steps that may have to be done again.
    """

    def __init__(self, path: Path, may_lose: int) -> None:
        self.path, self.may_lose = path, may_lose
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
        self.before: tuple[int, int] | None = None

    def steps_lost(self, output: str) -> int:
        """Returns how many steps of the epoch the start with this output did again; a whole epoch counts as 1000."""
        before = self.before
        self.before = struct.unpack("<qq", self.path.read_bytes()) if self.path.stat().st_size else None
        found = re.search(r"^resuming at epoch (\d+), step (\d+)", output, re.MULTILINE)
        if before is None or found is None:
            return 0
        epoch, step = int(found[1]), int(found[2])
        return max(0, (before[0] - epoch) * 1000 + before[1] - step)


class Dying:
    """Ends the process right before its `last`-th file operation; without one it only counts."""

    def __init__(self, last: int | None, count_path: Path) -> None:
        self.last, self.count, self.count_path = last, 0, count_path

    def install(self) -> None:
        for name in FILE_OPERATIONS:
            setattr(os, name, self._counted(getattr(os, name)))
        plain_open = builtins.open

        def counted_open(file, mode="r", *arguments, **options):
            if set(mode) & set("wax+"):
                self._note()
            return plain_open(file, mode, *arguments, **options)

        builtins.open = counted_open
        io.open = counted_open  # which Path.write_bytes and Path.open take

    def _counted(self, function: Callable) -> Callable:
        def counted(*arguments, **options):
            self._note()
            return function(*arguments, **options)

        return counted

    def _note(self) -> None:
        self.count += 1
        if self.count == self.last:
            os.kill(os.getpid(), signal.SIGKILL)
        if self.last is None:
            descriptor = os.open(self.count_path, os.O_WRONLY | os.O_CREAT)
            os.write(descriptor, str(self.count).encode())
            os.close(descriptor)


def limit_files(num_bytes: int) -> None:
    """Makes every write beyond a file size fail, as on a full disk."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, num_bytes))
