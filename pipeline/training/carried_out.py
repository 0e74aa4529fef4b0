"""The part of a plan that was carried out: what a training has done by it, and whether another plan would have too.

In: two plans, and the history of a training by the first. Out: the first epoch that the second would have trained
otherwise, or the training's state under the second.

Carried out are all steps up to the newest checkpoint, with what decided them: the learning rate of each, and of each
epoch the frozen parts, the loss, the augmentation, and whether it began from the best weights. Patience counts where it
ended a phase, and SOLVER.MONITOR where it chose the best weights. How phases are named and cut does not count. So a
plan that is changed on the way describes the whole run: from nothing it gives the same weights, bit for bit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from typing import Any, NamedTuple

from pipeline.config.loss_mix import parse_mix
from pipeline.config.plan import Phase, learning_rate
from pipeline.scores import score_of
from pipeline.training.state import TrainState, advance, note_validation

RATE_FIELDS = ("max_lr", "min_lr", "power", "lr", "warmup", "warmup_steps", "curve_epochs", "curve_start", "epochs")


@dataclass(frozen=True)
class Course:
    """What may change while a run trains, and what is needed to compare it.

    Attributes:
        monitor: SOLVER.MONITOR.
        mix: LOSS_FN.MIX, the loss of phases that name none.
        starts_trained: whether EXPERIMENT.LOAD_PREV is given, so that epoch 0 may be the best.
    """

    plan: tuple[Phase, ...]
    monitor: str
    mix: str
    steps_per_epoch: int
    starts_trained: bool = False

    def state_dict(self) -> dict[str, Any]:
        """Returns plain values for a checkpoint."""
        plan = [asdict(phase) | {"freeze": list(phase.freeze)} for phase in self.plan]
        return {field.name: getattr(self, field.name) for field in fields(self)} | {"plan": plan}

    @classmethod
    def from_state(cls, content: Mapping[str, Any]) -> Course:
        """Returns what `state_dict` was made from."""
        plan = tuple(Phase(**{**phase, "freeze": tuple(phase["freeze"])}) for phase in content["plan"])
        return cls(**{**content, "plan": plan})


class Difference(NamedTuple):
    """The first epoch, counted from 1, that another course would have trained otherwise, and by which setting."""

    epoch: int
    what: str


class Place(NamedTuple):
    """Where in a plan an epoch is: which phase, and how many epochs of it were before."""

    phase_index: int
    phase_epoch: int


def is_over(course: Course, state: TrainState) -> bool:
    """Returns whether the plan has ended."""
    return advance(course.plan, deepcopy(state)) is None


def places(plan: Sequence[Phase], epochs_since_best: Sequence[int]) -> list[Place]:
    """Returns where in a plan each epoch would be, as far as the plan goes.

    Args:
        epochs_since_best: before each epoch, which decides where patience runs out.
    """
    state, found = TrainState(""), []
    for count in epochs_since_best:
        state.epochs_since_best = count
        if advance(plan, state) is None:
            break
        found.append(Place(state.phase_index, state.phase_epoch))
        state.phase_epoch += 1
    return found


def under(course: Course, state: TrainState, before: Course) -> TrainState | Difference:
    """Returns the state that a training would have under another course, or where that differs from what was done.

    The change is noted in the state. Where nothing was trained yet, there is nothing to note.

    Args:
        state: of a training by `before`; it is not changed.
    """
    state = deepcopy(state)
    if course == before:
        return state
    since_before = [row["epochs_since_best"] for row in state.history]
    if course.monitor != before.monitor:
        if any(course.monitor not in row for row in state.history):
            return Difference(1, f"SOLVER.MONITOR ({before.monitor} -> {course.monitor}, which was not measured)")
        _watch(state, course)
    num_begun = state.epoch + (state.step > 0)
    since = [row["epochs_since_best"] for row in state.history][:num_begun]
    was, now = places(before.plan, since_before[:num_begun]), places(course.plan, since)
    for number, old in enumerate(was):
        num_steps = state.step if number == state.epoch else before.steps_per_epoch
        if number >= len(now):
            return Difference(number + 1, f"the plan ends after epoch {number}")
        if what := _difference(before, old, course, now[number], num_steps):
            return Difference(number + 1, what)
        if _reverts(course.plan, now[number]) and since[number] != since_before[number]:
            what = f"SOLVER.MONITOR ({before.monitor} -> {course.monitor}), other weights to go back to"
            return Difference(number + 1, what)
    if now:
        state.phase_index, state.phase_epoch = now[-1]
        state.phase_epoch += state.step == 0
    for row, place in zip(state.history, [Place(0, 0), *now], strict=False):
        row["phase"] = course.plan[place.phase_index].name
    if num_begun and (what := changes(before, course)):
        state.changes.append({"epoch": state.epoch, "step": state.step, "what": what})
    return state


def changes(before: Course, after: Course) -> list[str]:
    """Returns what differs between two courses, in words.

    >>> flat = Phase("flat", epochs=9, lr="flat", max_lr=1.0, min_lr=0.0)
    >>> longer = Phase("flat", epochs=12, lr="flat", max_lr=1.0, min_lr=0.0, freeze=("encoder",))
    >>> changes(Course((flat,), "valid_loss", "ce", 4), Course((longer,), "valid_score", "ce", 4))
    ['phase flat: EPOCHS 9 -> 12, FREEZE [] -> [encoder]', 'SOLVER.MONITOR valid_loss -> valid_score']
    """
    old, new = ({phase.name: phase for phase in course.plan} for course in (before, after))
    found = [f"phase {name} removed" for name in old if name not in new]
    for name, phase in new.items():
        if name not in old:
            found.append(f"phase {name} added")
        elif listed := [_change(field.name, old[name], phase) for field in fields(phase)]:
            found += [f"phase {name}: {', '.join(filter(None, listed))}"] if any(listed) else []
    if list(old) != list(new) and sorted(old) == sorted(new):
        found.append("order of the phases")
    if before.monitor != after.monitor:
        found.append(f"SOLVER.MONITOR {before.monitor} -> {after.monitor}")
    return found


def _watch(state: TrainState, course: Course) -> None:
    """Puts into the state and its history what would have been best, had another value been monitored."""
    trial, is_score = TrainState(""), score_of(course.monitor) is not None
    for trial.epoch, row in enumerate(state.history):
        value = row[course.monitor]
        monitored = 1 - (value or 0.0) if is_score else value
        row["is_best"] = int(note_validation(trial, monitored, (), (), course.starts_trained))
        row["epochs_since_best"] = trial.epochs_since_best
    state.best, state.best_epoch, state.epochs_since_best = trial.best, trial.best_epoch, trial.epochs_since_best


def _reverts(plan: Sequence[Phase], place: Place) -> bool:
    """Returns whether an epoch begins from the best weights."""
    return place.phase_epoch == 0 and plan[place.phase_index].start_from == "best"


def _difference(before: Course, old: Place, after: Course, new: Place, num_steps: int) -> str | None:
    """Returns by which setting an epoch's first steps differ between its places in two plans, or None."""
    was, now, num = before.plan[old.phase_index], after.plan[new.phase_index], before.steps_per_epoch
    if _reverts(before.plan, old) != _reverts(after.plan, new):
        return f"phase {now.name}: START_FROM ({was.start_from} -> {now.start_from})"
    if set(was.freeze) != set(now.freeze):
        return f"phase {now.name}: FREEZE ({_shown(was.freeze)} -> {_shown(now.freeze)})"
    mixes = [was.loss or before.mix, now.loss or after.mix]
    if parse_mix(mixes[0]) != parse_mix(mixes[1]):
        return f"phase {now.name}: LOSS ({mixes[0]} -> {mixes[1]})"
    if was.augment != now.augment:
        return f"phase {now.name}: AUGMENT ({_shown(was.augment)} -> {_shown(now.augment)})"
    for step in range(num_steps):
        rates = [learning_rate(phase, place.phase_epoch * num + step, num) for phase, place in ((was, old), (now, new))]
        if rates[0] != rates[1]:
            found = next((text for name in RATE_FIELDS if (text := _change(name, was, now))), "LR")
            return f"phase {now.name}: {found}, LR {_apart(*rates)} in step {step + 1}"
    return None


def _apart(old: float, new: float) -> str:
    """Returns two different numbers with as many digits as show the difference, at least three.

    >>> _apart(0.011, 0.0110021), _apart(0.0279, 0.0275)
    ('0.011 -> 0.011002', '0.0279 -> 0.0275')
    """
    shown = ((f"{old:.{digits}g}", f"{new:.{digits}g}") for digits in range(3, 18))
    return " -> ".join(next(pair for pair in shown if pair[0] != pair[1]))


def _change(name: str, old: Phase, new: Phase) -> str | None:
    was, now = getattr(old, name), getattr(new, name)
    return None if was == now else f"{name.upper()} {_shown(was)} -> {_shown(now)}"


def _shown(value: Any) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(value)}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
