"""Requests to stop: Ctrl-C, SIGTERM (Kaggle, Slurm, `docker stop`), SIGHUP (a terminal that is closed, a connection
that is lost), the time budget, and pruning in a search.

A stage that can save its state checks `stop.requested` between two steps; everywhere else the first signal raises
KeyboardInterrupt at once, which atomic writes survive.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType
from typing import Any

REASONS = {
    signal.SIGINT: "Ctrl-C",
    signal.SIGTERM: "asked to end (SIGTERM)",
    signal.SIGHUP: "the terminal was closed (SIGHUP)",
}
SIGNALS = tuple(REASONS)
_tell_unraisable = sys.unraisablehook


@dataclass(frozen=True)
class Floors:
    """What a training must have reached after an epoch in order to go on.

    Attributes:
        column: of its history; higher is better.
        label: of the column, for messages.
        by_epoch: the least value that some epoch up to this one must have had.
        reason: where the values are from, for messages.
    """

    column: str
    label: str
    by_epoch: Mapping[int, float]
    reason: str

    def missed(self, history: Sequence[Mapping[str, Any]]) -> str | None:
        """Returns in words what a history, one row per epoch, has not reached; None where it may go on.

        >>> floors = Floors("valid_score", "score", {2: 0.5}, "the median of 5 trials")
        >>> rows = [{"epoch": epoch, "valid_score": value} for epoch, value in enumerate([0.1, 0.4, 0.3])]
        >>> floors.missed(rows[:2]), floors.missed(rows)
        (None, 'pruned: score 0.4000 after epoch 2, below 0.5000, the median of 5 trials')
        """
        epoch = history[-1]["epoch"] if history else 0
        best = max((row.get(self.column) or 0.0 for row in history if row["epoch"]), default=0.0)
        floor = self.by_epoch.get(epoch)
        if floor is None or best >= floor:
            return None
        return f"pruned: {self.label} {best:.4f} after epoch {epoch}, below {floor:.4f}, {self.reason}"


class Stop:
    """Whether the run should end soon. The command line makes one per process, which also takes over the signals.

    Attributes:
        deadline: of the budget, by the clock of `time.monotonic`, or None.
        reason: why it should end, or None.
        has_signal: whether a signal came.
        floors: what the current run must reach; None: it is not pruned.
        is_pruned: whether `reason` is that it has not reached them, which concerns this run only.
        same_within_s: a further signal within so many seconds is the same request, as where both a terminal and the
            parent process send one. A later one, or with 0 any further one, interrupts at once.
    """

    def __init__(self, budget_s: float | None = None, same_within_s: float = 0.0) -> None:
        self.started_s = self.now_s()
        self.deadline: float | None = None
        self.reason: str | None = None
        self.has_signal = False
        self.floors: Floors | None = None
        self.is_pruned = False
        self.same_within_s = same_within_s
        self._ignored_until = 0.0
        self._is_deferred = False
        if budget_s is not None:
            self.set_budget(budget_s)

    def set_budget(self, seconds: float) -> None:
        """Requests a stop after this time."""
        self.deadline = time.monotonic() + seconds

    def now_s(self) -> float:
        """Returns the seconds of a clock that never goes back; `started_s` is of the same."""
        return time.monotonic()

    @property
    def requested(self) -> bool:
        """Whether a signal came, the time budget is used up or the run is pruned; `reason` says which."""
        if self.reason is None and self.deadline is not None and time.monotonic() >= self.deadline:
            self.reason = "the time budget is used up"
        return self.reason is not None

    def begin_run(self, floors: Floors | None = None) -> None:
        """Forgets that an earlier run was pruned; from now on runs have to reach `floors`."""
        if self.is_pruned:
            self.reason, self.is_pruned = None, False
        self.floors = floors

    def judge(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Requests a stop where a history, one row per epoch, misses the floors."""
        if self.floors is not None and self.reason is None and (missed := self.floors.missed(history)):
            self.reason, self.is_pruned = missed, True

    def reason_after(self, history: Sequence[Mapping[str, Any]]) -> str | None:
        """Returns why to end after a history: what was requested, or floors that it misses."""
        self.judge(history)
        return self.reason if self.requested else None

    def listen(self) -> None:
        """Takes over the signals."""
        take_signals(self._receive)
        sys.unraisablehook = _tell_but_interrupts

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Inside, the first signal only sets `requested`; a second one interrupts at once."""
        self._is_deferred = True
        try:
            yield
        finally:
            self._is_deferred = False

    def _receive(self, number: int, frame: FrameType | None) -> None:
        # One closed terminal may cause several SIGHUPs, and systemd sends one after SIGTERM: not a second request.
        is_same = time.monotonic() < self._ignored_until or (number == signal.SIGHUP and self.has_signal)
        if is_same:
            return
        self._ignored_until = time.monotonic() + self.same_within_s
        came_before, self.has_signal = self.has_signal, True
        self.is_pruned = False
        self.reason = reason_of(number)
        if came_before or not self._is_deferred:
            raise KeyboardInterrupt(self.reason)


def take_signals(receive: Callable[[int, FrameType | None], None]) -> None:
    """Has `receive` called with each signal; a program started by `nohup` continues to ignore SIGHUP."""
    for number in SIGNALS:
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN:
            signal.signal(number, receive)


def reason_of(number: int) -> str:
    """Returns what a signal means, for messages."""
    return REASONS[signal.Signals(number)]


def _tell_but_interrupts(unraisable: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised in a destructor or behind a fork, with a traceback; the request itself is kept."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        _tell_unraisable(unraisable)
