"""Training against the clock: the plan ends early enough for all that follows it, SOLVER.FINISH_WITHIN_HOURS.

In: a deadline, the pace of this run as it is measured, and what the stages behind training will take. Out: a plan that
is cut where it must be, before an epoch begins, and what was decided, in the state and in `plan.yaml`.

Of several ranks the first one decides. Nothing else depends on the time: each decision is a change of the plan such as
a user may make, and the plan that was carried out gives the same weights again, without a clock.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from pipeline.config.plan import Phase, learning_rate
from pipeline.config.shorten import epochs_left, plan_text, shortened
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.files import write_atomic, write_json
from pipeline.paths import CLOCK, PLAN_FILE, shown
from pipeline.training.carried_out import Course, changes
from pipeline.training.finite import FiniteWatch
from pipeline.training.history import write_changes
from pipeline.training.learner import freeze
from pipeline.training.optimizer import assign_lr
from pipeline.training.ranks import group
from pipeline.training.state import advance
from pipeline.training.step import EpochSums, train_step
from pipeline.wording import duration

KEY = "SOLVER.FINISH_WITHIN_HOURS"
MARGIN = 1.2  # on an epoch: from one to the next speeds differ by a tenth, and a hot machine gets slower
REHEARSED_STEPS, REHEARSAL_S = 6, 20.0  # at most so many steps, or so long for those after the second
RECENT = 3  # epochs whose mean is the pace


class OutOfTime(Exception):
    """An epoch that would end too late is given up."""


@dataclass
class Clock:
    """What a training knows of the time.

    Attributes:
        deadline_s: when the whole run must be finished, by `Stop.now_s`.
        finishing: (training) to the seconds that the stages behind training take, margin included.
        finish_s: these seconds, once they are estimated.
        step_s: seconds of a step, by the frozen parts.
        validation_s: seconds from the last step of an epoch to the first of the next.
        expected_s: seconds of an epoch, as expected before the first.
        epochs_s: seconds of the epochs that this process trained as a whole.
        opened_s: when this process began to train.
        session: a name of this session that no other has.
    """

    run: Run
    deadline_s: float
    finishing: Callable[[Any], float]
    finish_s: float = 0.0
    step_s: dict[tuple[str, ...], float] = field(default_factory=dict)
    validation_s: float = 0.0
    expected_s: float = 0.0
    epochs_s: list[float] = field(default_factory=list)
    opened_s: float = field(init=False)
    session: str = field(default_factory=lambda: f"{time.time():.3f} {os.getpid()}")
    _mark: tuple[int, float, tuple[str, ...]] | None = None

    def __post_init__(self) -> None:
        self.opened_s = self.run.stop.now_s()

    @property
    def left_s(self) -> float:
        """Seconds that are left for training. A machine that has become slower is slower behind training, too."""
        return self.deadline_s - self.run.stop.now_s() - self.finish_s * self.slowdown

    @property
    def slowdown(self) -> float:
        """How much longer than expected an epoch takes by now; 1 where it does not."""
        if not self.epochs_s or not self.expected_s:
            return 1.0
        recent = self.epochs_s[-RECENT:]
        return max(1.0, sum(recent) / len(recent) / self.expected_s)

    def epoch_s(self, training: Any, phases: Sequence[Phase]) -> float:
        """Returns the expected seconds of an epoch of some phases, the slowest of them."""
        steps, slowest = training.data.steps_per_epoch, max(self.step_s[phase.freeze] for phase in phases)
        if not self.epochs_s:
            return steps * slowest + self.validation_s
        recent, measured = self.epochs_s[-RECENT:], self.step_s[self._mark[2]]
        return sum(recent) / len(recent) + steps * max(0.0, slowest - measured)

    def note_epoch(self, state: Any, phase: Phase) -> None:
        """Measures the epoch that has ended, and remembers the time that the run has used."""
        now_s = self.run.stop.now_s()
        if self._mark is not None and self._mark[0] + 1 == state.epoch:
            self.epochs_s.append(now_s - self._mark[1])
        self._mark = (state.epoch, now_s, phase.freeze) if not state.step else None
        write_used(self)

    def is_too_late(self, state: Any) -> bool:
        """Returns whether not even a validation fits any more, while there are best weights to finish with."""
        return state.best is not None and self.left_s < MARGIN * self.validation_s


def open_clock(run: Run, finishing: Callable[[Any], float]) -> Clock | None:
    """Returns the clock of a run that has to finish in time; None for any other run.

    Raises:
        UserError: it is to finish in this session, which has no limit.
    """
    hours, stop = run.loaded.config.solver.finish_within_hours, run.stop
    if hours is None:
        return None
    if hours == "session":
        if stop.deadline is None:
            why = "is session, but this session has no time limit"
            raise UserError(f"{KEY} {why}; set RUNTIME.TIME_BUDGET_HOURS, or {KEY} to a number of hours")
        return Clock(run, stop.deadline, finishing)
    return Clock(run, run.began_s + hours * 3600 - used_before(run), finishing)


def used_before(run: Run) -> float:
    """Returns the seconds that earlier sessions have worked on a training, by what they left in `clock.json`."""
    return sum(_sessions(run).values())


def write_used(clock: Clock) -> None:
    """Notes in `clock.json` how long this session has worked on the run; a kill loses what came since the last note."""
    if not group.is_first():
        return
    used_s = round(clock.run.stop.now_s() - clock.run.began_s, 1)
    write_json(clock.run.paths / CLOCK, {"sessions": _sessions(clock.run) | {clock.session: used_s}})


def _sessions(run: Run) -> dict[str, float]:
    """Returns the seconds of each session; none where the file is absent or damaged."""
    try:
        return {
            name: float(seconds)
            for name, seconds in json.loads((run.paths / CLOCK).read_text(encoding="utf-8"))["sessions"].items()
        }
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return {}


def next_phase(training: Any) -> Phase | None:
    """Returns the phase of the next epoch, or None at the plan's end; cuts the plan first where time is short.

    Raises:
        UserError: there is no time for a single epoch.
    """
    state, clock = training.state, training.clock
    phase = advance(training.plan, state)
    if clock is None or phase is None:
        return phase
    if not clock.step_s:
        _measure(training, phase)
    clock.note_epoch(state, phase)
    if state.step:
        return phase
    epoch_s = MARGIN * clock.epoch_s(training, training.plan[state.phase_index :])
    room = group.of_first(max(0, math.floor(clock.left_s / epoch_s)))
    if state.epoch == 0 and room == 0:
        needed = duration(epoch_s + clock.finish_s)
        raise UserError(
            f"{KEY}: {duration(max(0.0, clock.left_s + clock.finish_s))} are left, but one epoch and the stages "
            f"after training take about {needed}, margin included; allow more time"
        )
    plan = shortened(training.plan, state.phase_index, state.phase_epoch, room, training.data.steps_per_epoch)
    if plan == tuple(training.plan):
        return phase
    _change(training, plan)
    return advance(training.plan, state)


@contextlib.contextmanager
def ending_in_time(training: Any) -> Iterator[None]:
    """Within the block an epoch that is given up ends the training, as if its plan had ended before that epoch."""
    try:
        yield
    except OutOfTime:
        state, steps = training.state, training.data.steps_per_epoch
        training.run.log(
            f"epoch {state.epoch + 1} is stopped after step {state.step} and discarded: it would end too late"
        )
        state.step = 0
        _change(training, shortened(training.plan, state.phase_index, state.phase_epoch, 0, steps))
    if training.state.asked and group.is_first():
        write_plan(training.run, training.plan)


def give_up_if_late(training: Any) -> None:
    """Gives an epoch up that came out so much slower than the ones before that what follows would be too late."""
    clock = training.clock
    if clock is not None and group.any_of(group.is_first() and clock.is_too_late(training.state)):
        raise OutOfTime


def write_plan(run: Run, plan: Sequence[Phase]) -> None:
    """Writes the plan that was carried out as a file for `configs/plans/`; logs how to repeat the run with it."""
    name = f"{run.loaded.name}_in_time"
    comment = (
        f"The plan that {run.name} carried out; with SOLVER.PLAN: {name} and {KEY}: null it gives the same weights."
    )
    write_atomic(run.paths / PLAN_FILE, plan_text(plan, comment))
    run.log(
        f"the plan as it was trained is in {shown(run.paths / PLAN_FILE)}; to repeat the run without a time limit, "
        f"copy it to configs/plans/{name}.yaml and set SOLVER.PLAN: {name}, {KEY}: null"
    )


def _change(training: Any, plan: tuple[Phase, ...]) -> None:
    """Goes on with another plan, and notes what the clock has changed in it."""
    state, run = training.state, training.run
    before, after = (Course(tuple(one), "", "", 0) for one in (training.plan, plan))
    if not state.asked:
        state.asked = before.state_dict()["plan"]
    what = changes(before, after)
    state.changes.append({"epoch": state.epoch, "step": state.step, "what": [f"{KEY}: {change}" for change in what]})
    training.plan = plan
    if group.is_first():
        write_changes(run.paths, state)
    left, more = duration(max(0.0, training.clock.left_s)), epochs_left(plan, state.phase_index, state.phase_epoch)
    epochs = "1 more epoch" if more == 1 else f"{more} more epochs"
    run.log(f"time: {left} left for training, the plan now has {epochs}; {'; '.join(what)}")


def _measure(training: Any, phase: Phase) -> None:
    """Measures what the clock must know before the first epoch of this process; nothing of the training changes."""
    clock, state = training.clock, training.state
    clock.validation_s = training.run.stop.now_s() - clock.opened_s  # with the start: rather more than less
    phases = training.plan[state.phase_index :]
    clock.step_s = rehearse(training, phases)
    clock.finish_s = clock.finishing(training)
    clock.expected_s = training.data.steps_per_epoch * clock.step_s[phase.freeze] + clock.validation_s
    if state.epoch or state.step:  # this process has not validated yet
        clock.validation_s = max(clock.validation_s, clock.finish_s / 2)
    training.run.log(
        f"time: {duration(max(0.0, clock.left_s))} for training and {duration(clock.finish_s)} for the stages "
        f"after it; an epoch takes about {duration(clock.epoch_s(training, phases))}"
    )


def rehearse(training: Any, phases: Sequence[Phase]) -> dict[tuple[str, ...], float]:
    """Returns the seconds of a step by what is frozen, from a few steps of each kind that are undone afterwards."""
    learner, state, now_s, found = training.learner, training.state, training.run.stop.now_s, {}
    kept = _on_cpu(learner.state_dict())
    sums = EpochSums(training.learning, training.sums.terms, learner.device)
    watch = FiniteWatch(lags=learner.device.type == "cuda")
    for phase in {phase.freeze: phase for phase in phases}.values():
        learner.network.train()
        freeze(learner.network, phase.freeze)
        learner.join_ranks()
        criterion = training.learning.criterion(
            phase.loss or training.config.loss_fn.mix, state.epoch, state.class_scores
        )
        marks = [now_s()]
        # At the end of an epoch that waits for its validation only, there is no batch left: those of the next.
        start = state.step if state.step < training.data.steps_per_epoch else 0
        batches = training.data.train_batches(state.epoch + 1, start, phase.augment, state.class_scores)
        for number, batch in enumerate(batches):
            assign_lr(learner.optimizer, learning_rate(phase, number, training.data.steps_per_epoch))
            train_step(learner, batch, criterion, sums, watch)
            sums.num_samples()  # waits for the device
            marks.append(now_s())
            is_long = len(marks) > 3 and marks[-1] - marks[2] > REHEARSAL_S
            if len(marks) > REHEARSED_STEPS or group.any_of(is_long):
                break
        watch.settle()
        batches.close()
        first = min(1, len(marks) - 2)  # the first step starts workers and kernels
        found[phase.freeze] = (marks[-1] - marks[first]) / (len(marks) - 1 - first)
    learner.load_state_dict(kept)
    learner.optimizer.zero_grad(set_to_none=True)
    return found


def _on_cpu(content: Any) -> Any:
    """Returns a copy of nested content with all tensors in the host's memory."""
    if isinstance(content, torch.Tensor):
        return content.detach().cpu().clone()
    if isinstance(content, dict):
        return {key: _on_cpu(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return type(content)(map(_on_cpu, content))
    return content
