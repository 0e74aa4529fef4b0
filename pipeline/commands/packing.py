"""Which run of a study is next; in a session that ends at a known time, one that can still end in it.

In: the runs in the study's order, what finished ones took. Out: the next run, or none where nothing more can end.

The study's order holds: every setting with the first split and seed before the next ones begin. Within that, where time
is limited, finished runs come first (they take seconds), then one of unknown length, then the longest that can still
end, so that short ones fill what is left.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.load import load
from pipeline.config.study import Training
from pipeline.engine.api import NOT_BEGUN, Outcome, Request
from pipeline.engine.stopping import Stop
from pipeline.paths import HISTORY, METRICS, TIMINGS
from pipeline.report.read import read_columns, read_stage_seconds
from pipeline.wording import duration

MARGIN = 1.1  # on what a run is expected to take: epochs differ by some percent, and other runs load the same disk
TRAIN = "train"
NO_TIME = "not started: it would not finish in this session"


@dataclass
class Planned:
    """A run of a study: what it is, and how it is asked for."""

    training: Training
    request: Request


class Packer:
    """Proposes the runs of a study, see `run_each`.

    Attributes:
        outcomes: of the runs that have ended.
        is_full: whether no run that is left can end in the session.
    """

    def __init__(
        self, planned: Sequence[Planned], runs: Path, stop: Stop, log: Callable[[str], None], last_stage: str
    ) -> None:
        self.waiting, self.runs, self.stop, self.log, self.last_stage = list(planned), runs, stop, log, last_stage
        self.trainings = [one.training for one in planned]
        self.session_s = self._left()
        self.outcomes: list[Outcome] = []
        self.is_full = False

    def propose(self) -> Request | None:
        """Returns the next run; None where none is left, or none can end in what is left of the session."""
        if not self.waiting or self.stop.requested:
            return None
        if self.stop.deadline is None:
            return self.waiting.pop(0).request
        first = self.waiting[0].training
        block = [one for one in self.waiting if _place(one.training) == _place(first)]
        expected = {id(one): self.expected_s(one.training) for one in block}
        fitting = [one for one in block if (expected[id(one)] or 0) <= self._left()]
        # What is longer than a whole session has to begin in one of them, and goes on in the next.
        fitting = fitting or [one for one in block if expected[id(one)] > self.session_s]
        self.is_full = not fitting
        if self.is_full:
            return None
        chosen = next((one for one in fitting if expected[id(one)] is None), None)
        if chosen is None:
            done = [one for one in fitting if expected[id(one)] == 0]
            chosen = done[0] if done else max(fitting, key=lambda one: expected[id(one)])
        self.waiting.remove(chosen)
        if expected[id(chosen)]:
            took = f"takes about {duration(expected[id(chosen)])}, {duration(max(self._left(), 0))} left"
            self.log(f"{chosen.request.label}: starts ({took})")
        return chosen.request

    def note(self, outcome: Outcome) -> None:
        """Takes how a run ended."""
        self.outcomes.append(outcome)

    def finish(self) -> list[Outcome]:
        """Returns how all runs ended, those that were not begun among them."""
        if self.waiting and self.is_full:
            number = "1 run" if len(self.waiting) == 1 else f"{len(self.waiting)} runs"
            took = self.expected_s(self.waiting[0].training)
            expected = f" (the next takes about {duration(took)})" if took else ""
            self.log(f"{number} left for the next session{expected}")
        end = ("stopped", NO_TIME) if self.is_full else ("stopped", NOT_BEGUN)
        if not self.is_full and not self.stop.requested:
            end = ("failed", "not started, because the process of another run died")
        return [*self.outcomes, *(Outcome(one.request, one.request.name, *end) for one in self.waiting)]

    def expected_s(self, training: Training) -> float | None:
        """Returns how long a run will take from where it stands; 0: it is finished; None: nothing to go by.

        That is what runs of its setting took, or else the slowest run of the study.
        """
        if self._is_finished(training):
            return 0.0
        finished = [one for one in self.trainings if self._is_finished(one)]
        of_setting = [one for one in finished if one.setting == training.setting]
        took = [taken_s(self.runs / one.run) for one in of_setting or finished]
        if not took:
            return None
        whole = sum(took) / len(took) if of_setting else max(took)
        return MARGIN * whole * (1 - self._share_done(training))

    def _left(self) -> float:
        return math.inf if self.stop.deadline is None else self.stop.deadline - time.monotonic()

    def _is_finished(self, training: Training) -> bool:
        folder = self.runs / training.run
        return (folder / METRICS).is_file() and self.last_stage in read_stage_seconds(folder)

    def _share_done(self, training: Training) -> float:
        """Returns the share of a run's epochs that are trained; patience may leave out some of the others."""
        epochs = (read_columns(self.runs / training.run / HISTORY) or {}).get("epoch", ())
        planned = sum(phase.epochs for phase in load(training.config, training.overrides).plan)
        return min(1.0, max(0, len(epochs) - 1) / max(planned, 1))


def taken_s(run_folder: Path) -> float:
    """Returns how long a finished run took, all its processes together.

    The stage's own seconds are those of the process that finished it; `timings.csv` has all training steps.
    """
    seconds = read_stage_seconds(run_folder)
    steps = sum(map(float, (read_columns(run_folder / TIMINGS) or {}).get("seconds", ())))
    return sum(seconds.values()) - seconds.get(TRAIN, 0.0) + max(seconds.get(TRAIN, 0.0), steps)


def _place(training: Training) -> tuple[int, int | None]:
    return training.split, training.seed
