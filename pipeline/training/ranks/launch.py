"""Starts the ranks of a training as processes, and waits for them; the run's own process trains nothing.

In: a run, whose stages up to `train` are prepared. Out: what training writes, by the first rank alone.

The processes are started here, and not by torch's elastic launcher (torchrun, and Accelerate, which calls it): that
takes over the signals of the process that it is called from, and ends the ranks at the first one, where here they save
their state. What the ranks do together is torch's, see `group.py` and `engine.py`.

- A request to stop goes to the first rank, which all others ask before each step (`SharedStop` in `member.py`).
- A rank that ends otherwise than by its work's end takes all others with it: each waits for the sums of the others.
- Ranks whose starter dies end at once, see `begin.py`.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

import torch

from pipeline.config.check_ranks import why_not_divided
from pipeline.config.schema import Config
from pipeline.engine.run import Run
from pipeline.engine.stopping import SIGNALS
from pipeline.errors import Stopped, UserError
from pipeline.training.device import choose_device
from pipeline.training.ranks.begin import begin
from pipeline.training.ranks.member import AT_EASE, End, Task, portable

START_METHOD = "spawn"  # torch's threads and a GPU do not survive a fork
POLL_S = 0.2  # between two looks at whether a stop was requested
GRACE_S = 10.0  # for the other ranks to say why they end, once one has ended
END_S = 10.0  # for a process to end that has said how
LOG_LEVEL = "TORCH_CPP_LOG_LEVEL"
ENDED_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
# What is told when ranks end in several ways: a rank that was killed, or has refused, is why others fail.
BY_WEIGHT = ("refused", "killed", "failed", "pruned", "stopped", "done")


def ranks_of(config: Config) -> int:
    """Returns how many ranks a training has on this machine; 1: it trains in the run's own process.

    Raises:
        UserError: there are fewer GPUs, or batches cannot be divided among them.
    """
    ranks, is_gpu = config.runtime.ranks, choose_device(config.runtime.device).type == "cuda"
    cards = torch.cuda.device_count() if is_gpu else None
    if ranks == "auto":
        ranks = cards or 1
        if why := why_not_divided(config, ranks):
            raise UserError(f"RUNTIME.RANKS is auto, which means {ranks} here: {why}")
    if cards is not None and ranks > cards:
        found = f"RUNTIME.RANKS is {ranks}, and each rank needs a GPU, but torch finds {cards}"
        most = next(count for count in range(cards, 0, -1) if why_not_divided(config, count) is None)
        raise UserError(f"{found}; set RUNTIME.RANKS={most}")
    return ranks


def run_ranks(run: Run, count: int, work: Callable[[Run], None]) -> None:
    """Does some work in `count` processes, each with the run, and waits for their end.

    Args:
        work: a function of a module; in it, `group` knows which rank it is.

    Raises:
        UserError: a rank has found a mistake of the user's.
        Stopped: a stop was requested and the state is saved; or a rank was killed.
        RuntimeError: a rank has failed.
    """
    if torch.cuda.is_initialized():
        torch.cuda.empty_cache()  # of earlier stages; the first rank has the same GPU
    folder = Path(tempfile.mkdtemp(prefix="ranks-"))
    context = multiprocessing.get_context(START_METHOD)
    ranks: list[_Rank] = []
    try:
        for number in range(count):
            own, other = context.Pipe()
            task = Task(number, count, folder / "meeting", portable(run), run.stop.floors, run.stop.deadline, work)
            process = context.Process(target=begin, args=(other, os.getpid()), name=f"rank {number}")
            with _quiet(), _signals_later():
                process.start()
            other.close()
            ranks.append(_Rank(number, process, own))
            ranks[-1].send(task)
        end = _wait(ranks, run)
    finally:
        for one in ranks:
            one.kill()
        shutil.rmtree(folder, ignore_errors=True)
    if end.kind == "pruned":
        run.stop.reason, run.stop.is_pruned = end.message, True
    if end.kind in ("stopped", "pruned", "killed"):
        is_asked = end.kind == "killed" and run.stop.requested
        raise Stopped(run.stop.reason if is_asked else end.message)
    if end.kind == "refused":
        raise UserError(end.message)
    if end.kind == "failed":
        raise RuntimeError(end.message)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Within the block, processes are started whose torch says nothing of what is as it should be.

    Its reducer warns where every parameter is used; one that is not is allowed, as in a single process.
    """
    before = os.environ.get(LOG_LEVEL)
    os.environ.setdefault(LOG_LEVEL, "ERROR")
    try:
        yield
    finally:
        if before is None:
            del os.environ[LOG_LEVEL]


@contextlib.contextmanager
def _signals_later() -> Iterator[None]:
    """Within the block, signals wait; in a process that is started here, until it has said what it does with them.

    Ctrl-C reaches all processes of a terminal, and would end those that still load their packages with a traceback.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)


class _Rank:
    """A rank, seen from the process that started it."""

    def __init__(self, number: int, process: multiprocessing.Process, connection: Connection) -> None:
        self.number, self.process, self.connection = number, process, connection
        self.end: End | None = None

    def send(self, message: Any) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self.connection.send(message)

    def read(self, log: Callable[[str], None]) -> None:
        """Takes what it has sent; or notes its end, where it has ended without a word."""
        try:
            while self.connection.poll():
                kind, text = self.connection.recv()
                if kind == "line":
                    log(text)
                    self.send(("logged", ""))
                else:
                    self.end = End(kind, text)
                    return
        except (EOFError, OSError):
            pass
        if not self.process.is_alive() and self.end is None:
            self.end = _end_of(self.number, self.process.exitcode)

    def kill(self) -> None:
        """Ends it at once. What it had written is whole, as after any kill."""
        if self.end is not None and self.end.kind in AT_EASE:
            self.process.join(END_S)
        if self.process.is_alive():
            self.process.kill()
        self.process.join()
        self.connection.close()


def _end_of(number: int, code: int | None) -> End:
    """Returns how a rank ended that has not said it."""
    if code is not None and code < 0 and -code in ENDED_FROM_OUTSIDE:
        name = signal.Signals(-code).name
        cause = "; most often the machine ran out of memory (check `dmesg`)" if -code == signal.SIGKILL else ""
        return End("killed", f"rank {number} was killed by {name}{cause}")
    how = f"by {signal.Signals(-code).name}" if code is not None and code < 0 else f"with exit code {code}"
    return End("failed", f"rank {number} ended {how}; its messages, if any, are above")


def _wait(ranks: Sequence[_Rank], run: Run) -> End:
    """Returns how the ranks ended, once all have, or some time after the first that was not done."""
    asked, give_up_at = False, float("inf")
    while time.monotonic() < give_up_at:
        running = [one for one in ranks if one.end is None]
        if not running:
            break
        wait_for([one.connection for one in running] + [one.process.sentinel for one in running], POLL_S)
        for one in running:
            one.read(run.log)
        ends = [one.end for one in ranks if one.end is not None]
        if give_up_at == float("inf") and any(end.kind not in AT_EASE for end in ends):
            give_up_at = time.monotonic() + GRACE_S
        if run.stop.requested and not asked:
            asked = True
            ranks[0].send(("stop", run.stop.reason or ""))
    ends = [one.end for one in ranks if one.end is not None]
    return min(ends, key=lambda end: BY_WEIGHT.index(end.kind))
