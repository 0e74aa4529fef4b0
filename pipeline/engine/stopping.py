"""Requests to stop: Ctrl-C, SIGTERM (Kaggle, Slurm, `docker stop`) and the time budget.

A stage that can save its state checks `stop.requested` between two steps; everywhere else the first signal raises
KeyboardInterrupt at once, which atomic writes survive.
"""

from __future__ import annotations

import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_tell_unraisable = sys.unraisablehook


class Stop:
    """Whether the run should end soon. The command line makes one per process, which also takes over the signals.

    Attributes:
        deadline: of the budget, by the clock of `time.monotonic`, or None.
        reason: why it should end, or None.
        has_signal: whether a signal came.
        same_within_s: a further signal within so many seconds is the same request, as where both a terminal and the
            parent process send one. A later one, or with 0 any further one, interrupts at once.
    """

    def __init__(self, budget_s: float | None = None, same_within_s: float = 0.0) -> None:
        self.started_s = self.now_s()
        self.deadline: float | None = None
        self.reason: str | None = None
        self.has_signal = False
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
        """Whether a signal came or the time budget is used up; `reason` says which."""
        if self.reason is None and self.deadline is not None and time.monotonic() >= self.deadline:
            self.reason = "the time budget is used up"
        return self.reason is not None

    def listen(self) -> None:
        """Takes over the signals."""
        for number in SIGNALS:
            signal.signal(number, self._receive)
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
        if time.monotonic() < self._ignored_until:
            return
        self._ignored_until = time.monotonic() + self.same_within_s
        came_before, self.has_signal = self.has_signal, True
        self.reason = reason_of(number)
        if came_before or not self._is_deferred:
            raise KeyboardInterrupt(self.reason)


def reason_of(number: int) -> str:
    """Returns what a signal means, for messages."""
    return "Ctrl-C" if number == signal.SIGINT else "asked to end (SIGTERM)"


def _tell_but_interrupts(unraisable: sys.UnraisableHookArgs) -> None:
    """Python drops what is raised in a destructor or behind a fork, with a traceback; the request itself is kept."""
    if not isinstance(unraisable.exc_value, KeyboardInterrupt):
        _tell_unraisable(unraisable)
