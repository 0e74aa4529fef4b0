"""Starts the ranks of a training as processes, and waits for them; the run's own process trains nothing.

In: a run, whose stages up to `train` are prepared. Out: what training writes, by the first rank alone.

The processes are started here, and not by torch's elastic launcher (torchrun, and Accelerate, which calls it): that
takes over the signals of the process that it is called from, which mean "save and end" here, and answers a death with
new starts, where here the same command continues from the checkpoint. What the ranks do together is torch's, see
`group.py` and `engine.py`.

- A request to stop goes to the first rank, which all others ask before each step (`SharedStop`).
- A rank that ends otherwise than by its work's end takes all others with it: each waits for the sums of the others.
- Ranks whose starter dies end at once.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from pipeline.config.check_ranks import why_not_divided
from pipeline.config.schema import Config
from pipeline.engine.run import Run
from pipeline.engine.stopping import SIGNALS, Floors, Stop, reason_of
from pipeline.errors import Stopped, UserError
from pipeline.training.device import choose_device, make_reproducible
from pipeline.training.ranks import group

START_METHOD = "spawn"  # torch's threads and a GPU do not survive a fork
POLL_S = 0.2  # between two looks at whether a stop was requested
GRACE_S = 10.0  # for the other ranks to say why they end, once one has ended
END_S = 10.0  # for a process to end that has said how
LOG_LEVEL = "TORCH_CPP_LOG_LEVEL"
LOOPBACK = {"linux": "lo", "darwin": "lo0"}
ENDED_FROM_OUTSIDE = {signal.SIGKILL, signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


@dataclass(frozen=True)
class End:
    """How a rank ended.

    Attributes:
        kind: `done`; `stopped` or `pruned`, resumable; `refused`, a mistake of the user's; `killed` from outside;
            `failed`, a fault of the program.
        message: for the user; of a fault its traceback.
    """

    kind: Literal["done", "stopped", "pruned", "refused", "killed", "failed"]
    message: str = ""


# What is told when ranks end in several ways: a rank that was killed, or has refused, is why others fail.
AT_EASE = ("done", "stopped", "pruned")
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
        raise UserError(f"{found}; set RUNTIME.RANKS={cards}")
    return ranks


def run_ranks(run: Run, count: int, work: Callable[[Run], None]) -> None:
    """Does some work in `count` processes, each with the run, and waits for their end.

    Args:
        work: a function of a module; its last lines may differ between ranks by `group.rank()`.

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
            task = _Task(number, count, folder / "meeting", _portable(run), run.stop.floors, work)
            process = context.Process(target=_be_rank, args=(other, task), name=f"rank {number}")
            with _quiet(), _signals_later():
                process.start()
            other.close()
            ranks.append(_Rank(number, process, own))
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

    def send(self, *message: str) -> None:
        with contextlib.suppress(OSError):  # it has ended
            self.connection.send(message)

    def read(self, log: Callable[[str], None]) -> None:
        """Takes what it has sent; or notes its end, where it has ended without a word."""
        try:
            while self.connection.poll():
                kind, text = self.connection.recv()
                if kind == "line":
                    log(text)
                    self.send("logged", "")
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
            ranks[0].send("stop", run.stop.reason or "")
    ends = [one.end for one in ranks if one.end is not None]
    return min(ends, key=lambda end: BY_WEIGHT.index(end.kind))


@dataclass(frozen=True)
class _Task:
    """What a rank is given."""

    rank: int
    count: int
    meeting: Path
    run: Run
    floors: Floors | None
    work: Callable[[Run], None]


def _portable(run: Run) -> Run:
    """Returns a run that can be sent to another process: without its log and its stop."""
    return replace(run, log=_nowhere, stop=None)


def _nowhere(line: str) -> None:
    pass


class SharedStop(Stop):
    """A stop that all ranks ask together, and that is requested where one of them knows of a request."""

    @property
    def requested(self) -> bool:
        is_requested = group.any_of(self.reason is not None)
        if is_requested and self.reason is None:
            self.reason = "another rank was asked to end"
        return is_requested


def _be_rank(connection: Connection, task: _Task) -> None:
    """Is a rank, from its start to its end."""
    stop, logged = SharedStop(), threading.Event()

    def note(number: int, frame: object) -> None:  # a system that ends all processes; the starter has got it, too
        stop.reason = stop.reason or reason_of(number)

    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN if number == signal.SIGINT else note)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)

    def listen() -> None:
        while True:
            try:
                kind, text = connection.recv()
            except (EOFError, OSError):
                os._exit(1)  # the starter is gone
            if kind == "stop":
                stop.reason = text
            else:
                logged.set()

    threading.Thread(target=listen, daemon=True).start()

    def log(line: str) -> None:
        logged.clear()
        with tqdm.external_write_mode(nolock=True):  # the starter prints the line: no progress bar may be in its way
            connection.send(("line", line))
            logged.wait()

    stop.begin_run(task.floors)
    run = replace(task.run, stop=stop, log=log if task.rank == 0 else _nowhere)
    kind, message = _outcome(run, task, stop)
    connection.send((kind, message))
    if kind in AT_EASE:
        group.leave()


def _outcome(run: Run, task: _Task, stop: Stop) -> tuple[str, str]:
    """Does the work; returns kind and message of its `End`."""
    try:
        _join(run, task)
        task.work(run)
    except Stopped as stopped:
        return ("pruned" if stop.is_pruned else "stopped"), str(stopped)
    except UserError as error:
        return "refused", str(error) if task.rank == 0 else f"rank {task.rank}: {error}"
    except Exception:
        return "failed", f"rank {task.rank} of {task.count}:\n{traceback.format_exc()}"
    return "done", ""


def _join(run: Run, task: _Task) -> None:
    if task.rank:
        warnings.simplefilter("ignore")  # the first rank gives the same
    config = run.loaded.config
    make_reproducible(config.solver.reproducible)
    device = choose_device(config.runtime.device)
    if device.type == "cuda":
        torch.cuda.set_device(task.rank)
    else:
        torch.set_num_threads(max(1, torch.get_num_threads() // task.count))
    # All ranks are on this machine, whatever its name resolves to.
    if loopback := LOOPBACK.get(sys.platform):
        os.environ.setdefault("GLOO_SOCKET_IFNAME", loopback)
        os.environ.setdefault("NCCL_SOCKET_IFNAME", loopback)
    group.join(task.rank, task.count, task.meeting, device)
