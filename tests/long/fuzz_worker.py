"""Runs cases of the fuzzer in a process of its own, with limits of time and memory; one that dies is replaced."""

from __future__ import annotations

import math
import multiprocessing
import os
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from pipeline.__main__ import main, report_end
from pipeline.config import load as load_module
from tests.long.fuzz_case import DIED, HUNG, Case, Ending
from tests.tiny import draw_nothing

FORK = multiprocessing.get_context("fork")  # a new process has all modules at once
CASES_PER_PROCESS = 400  # so that nothing that a case leaves behind stays for long
TICK_S = 5.0
MEMORY_BYTES = 4 * 1024**3  # beyond what the process has at its start
FOLDERS = {"RUNS_DIR": "runs", "SUBMISSIONS_DIR": "submissions", "SCRATCH_DIR": "scratch", "DATA_DIR": "data"}
CASE_PROJECT = "project"  # below the work folder: a copy of code and configs

Function = Callable[[Path, Case], None]


def environment_of(work: Path) -> dict[str, str]:
    """Returns the environment in which everything is read and written below the work folder."""
    own = {name: str(work / folder) for name, folder in FOLDERS.items()}
    return {**os.environ, **own, "WEIGHTS_DIR": str(work / "weights"), "HF_HUB_OFFLINE": "1", "MPLBACKEND": "Agg"}


def settle(work: Path, is_drawing: bool = True) -> None:
    """Makes this process read and write below the work folder, and its configs from the copy of the project there."""
    import cv2
    import torch

    os.environ.update(environment_of(work))
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    load_module.CONFIGS = work / CASE_PROJECT / "configs"
    if not is_drawing:
        draw_nothing(pytest.MonkeyPatch())


def run_case(work: Path, case: Case, function: Function | None) -> int:
    """Returns the exit code of a case: of its first command that fails, or of its target's function."""
    if function is not None:
        try:
            function(work, case)
        except Exception as error:
            return report_end(error, ())
        return 0
    for words in case.commands:
        if case.is_process:
            command, project = [sys.executable, "-m", "pipeline", *words], work / CASE_PROJECT
            code = subprocess.run(command, cwd=project, env=environment_of(work), check=False).returncode
        else:
            code = _in_process(words)
        if code:
            return code
    return 0


def _in_process(words: Sequence[str]) -> int:
    try:
        return main(words)
    except SystemExit as end:
        return int(end.code or 0)


@contextmanager
def _captured(files: tuple[Path, Path]) -> Any:
    """Inside, what this process and its children write goes into two files."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = [os.dup(number) for number in (1, 2)]
    try:
        for number, path in zip((1, 2), files, strict=True):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, number)
            os.close(descriptor)
        yield
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        for number, descriptor in zip((1, 2), kept, strict=True):
            os.dup2(descriptor, number)
            os.close(descriptor)


def captured_case(work: Path, case: Case, function: Function | None) -> Ending:
    """Returns how a case ends in this process."""
    files = (work / "output.txt", work / "errors.txt")
    start = time.monotonic()
    with _captured(files):
        code = run_case(work, case, function)
    texts = [path.read_bytes().decode("utf-8", "replace") for path in files]
    return Ending(code, *texts, time.monotonic() - start)


def _serve(
    parents: Any, connection: Any, work: Path, function_of: Callable[[str], Function | None], is_drawing: bool
) -> None:
    parents.close()  # else a parent that is killed would not be noticed
    os.setsid()  # its children end with it
    settle(work, is_drawing)
    status = Path("/proc/self/status").read_text()
    used = int(status.partition("VmData:")[2].split()[0]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (used + MEMORY_BYTES,) * 2)
    with suppress(EOFError, ConnectionError):
        while True:
            case = connection.recv()
            connection.send(captured_case(work, case, function_of(case.target)))


class Worker:
    """A process that runs cases; it is started when a case comes and none is there.

    Args:
        work: the folder that cases change.
        function_of: a target's name to its function; None: it runs commands.
        limit_s: how long a case may take.
    """

    def __init__(self, work: Path, function_of: Callable[[str], Function | None], limit_s: float, is_drawing: bool):
        self.work, self.function_of, self.limit_s, self.is_drawing = work, function_of, limit_s, is_drawing
        self.process: Any = None
        self.connection: Any = None
        self.num_cases = 0

    def run(self, case: Case, until: float = math.inf, tick: Callable[[], None] = lambda: None) -> Ending:
        """Returns how a case ends.

        Args:
            until: when it is cut off at the latest, as `time.monotonic` counts.
            tick: called every TICK_S while it runs.
        """
        if self.process is None:
            self.connection, theirs = FORK.Pipe()
            arguments = (self.connection, theirs, self.work, self.function_of, self.is_drawing)
            self.process, self.num_cases = FORK.Process(target=_serve, args=arguments), 0
            self.process.start()
            theirs.close()
        start = time.monotonic()
        self.num_cases += 1
        try:
            self.connection.send(case)
            until = min(until, start + self.limit_s)
            while not (is_over := self.connection.poll(max(0.0, min(TICK_S, until - time.monotonic())))):
                tick()
                if time.monotonic() >= until:
                    break
            if is_over:
                ending = self.connection.recv()
                if self.num_cases >= CASES_PER_PROCESS:
                    self.close()
                return ending
            code = HUNG
        except (EOFError, ConnectionError):
            code = DIED
        self.close()
        texts = [self.work / name for name in ("output.txt", "errors.txt")]
        written = [path.read_bytes().decode("utf-8", "replace") if path.is_file() else "" for path in texts]
        return Ending(code, *written, time.monotonic() - start)

    def close(self) -> None:
        """Ends the process."""
        if self.process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
            self.process.join()
            self.connection.close()
            self.process = None
