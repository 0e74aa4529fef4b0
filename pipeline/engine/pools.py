"""Where many runs are carried out, as one interface for `run_each`, and processes of this machine behind it.

A pool takes a function and its arguments, as `concurrent.futures.Executor` does, and returns a future. Pools of many
machines are in `clusters.py`.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing.queues import SimpleQueue
from typing import Any, Protocol

from pipeline.engine.cards import VISIBLE
from pipeline.engine.starter import end_with
from pipeline.errors import UserError


class Pool(Protocol):
    """Carries out functions elsewhere; a context manager."""

    def submit(self, function: Callable, *arguments: Any, cpus: int = 1, gpus: int = 0) -> Future: ...

    def interrupt(self) -> None:
        """Asks what is running to save its state and end, and begins nothing more."""

    def describe(self) -> str | None:
        """Returns what there is to say of the machines, where that can change; else None."""

    def __enter__(self) -> Pool: ...

    def __exit__(self, *error: object) -> None: ...


class LocalPool:
    """Processes of this machine, one run each at a time.

    Args:
        cards: the GPUs that each process sees, as from `cards.shares`; none: all see all.
        begin: called in each new process with its GPUs, or None, before anything else is imported.
    """

    def __init__(self, workers: int, cards: Sequence[str], begin: Callable[[str | None], None]) -> None:
        # Not forked: torch's threads and a GPU do not survive a fork.
        context = multiprocessing.get_context("spawn")
        try:
            queue = context.SimpleQueue()
            self.executor = ProcessPoolExecutor(workers, context, _begin_process, (queue, begin))
        except OSError as error:  # of semaphores, which Linux keeps in /dev/shm
            fix = "free space in /dev/shm, allow writing there, or add --workers 1"
            raise UserError(f"cannot start {workers} processes: {error.strerror} in shared memory; {fix}") from error
        for number in range(workers):
            queue.put(cards[number] if cards else None)
        self.futures: list[Future] = []

    def submit(self, function: Callable, *arguments: Any, cpus: int = 1, gpus: int = 0) -> Future:
        self.futures.append(self.executor.submit(function, *arguments))
        return self.futures[-1]

    def interrupt(self) -> None:
        for future in self.futures:
            future.cancel()
        for process in multiprocessing.active_children():
            process.terminate()

    def describe(self) -> str | None:
        return None

    def __enter__(self) -> LocalPool:
        self.executor.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self.executor.__exit__(*error)


def _begin_process(cards: SimpleQueue, begin: Callable[[str | None], None]) -> None:
    # Otherwise it would go on training, keep its run locked, and then wait for work forever.
    end_with(multiprocessing.parent_process().pid, is_joined=False)
    own = cards.get()
    # With several processes on the same cores, threads that wait by spinning take the time of those that compute.
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    if own is not None:
        os.environ[VISIBLE] = own
    begin(own)
