"""What a process does that is one of several ranks: it joins the others, works, and says how it ended.

In: a `Task`, and a connection to the process that started it, see `launch.py`. Out over it: lines for the log, of the
first rank alone, and at last an `End`.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import torch
from tqdm import tqdm

from pipeline.engine.run import Run
from pipeline.engine.stopping import SIGNALS, Floors, Stop, reason_of
from pipeline.errors import Stopped, UserError
from pipeline.training.device import choose_device, make_reproducible
from pipeline.training.ranks import group

LOOPBACK = {"linux": "lo", "darwin": "lo0"}
AT_EASE = ("done", "stopped", "pruned")  # kinds of ends that all ranks have come to together


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


@dataclass(frozen=True)
class Task:
    """What a rank is given.

    Attributes:
        deadline: of the session, by the clock of `time.monotonic`, which all processes of a machine share.
    """

    rank: int
    count: int
    meeting: Path
    run: Run
    floors: Floors | None
    deadline: float | None
    work: Callable[[Run], None]


def portable(run: Run) -> Run:
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


def be_rank(connection: Connection, task: Task) -> None:
    """Is a rank, from its start to its end."""
    stop, logged = SharedStop(), threading.Event()

    def note(number: int, frame: object) -> None:  # a system that ends all processes; the starter has got it, too
        stop.reason = stop.reason or reason_of(number)

    for number in (signal.SIGINT, signal.SIGHUP):  # of the terminal, which the starter has got, too
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, note)
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

    stop.deadline = task.deadline
    stop.begin_run(task.floors)
    run = replace(task.run, stop=stop, log=log if task.rank == 0 else _nowhere)
    kind, message = _outcome(run, task, stop)
    connection.send((kind, message))
    if kind in AT_EASE:
        group.leave()


def _outcome(run: Run, task: Task, stop: Stop) -> tuple[str, str]:
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


def _join(run: Run, task: Task) -> None:
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
