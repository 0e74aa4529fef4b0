"""A training plan cut to the epochs that there is time for, and a plan as the text of its file.

In: a plan, where training stands in it, and how many more epochs fit. Out: a plan that ends in time and has not changed
what was carried out, so that it describes the whole run: see `docs/plans.md`.

The longest curves give way first: they are cut to a common length, and shorter ones stay whole. Of 100 epochs at one
rate and 4 of annealing, 20 epochs leave 16 and 4. A curve that has not begun is drawn anew over fewer epochs. One that
has begun goes from its rate of this moment to its end in the epochs that are left.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from pipeline.config.plan import Phase, learning_rate

WARMUP_SHARE = 0.5  # of a curve that is drawn anew, at most


@dataclass(frozen=True)
class Part:
    """A phase, or what is left of one.

    Attributes:
        done: finished epochs of the phase.
    """

    phase: Phase
    done: int = 0

    @property
    def left(self) -> int:
        return self.phase.epochs - self.done


def epochs_left(plan: Sequence[Phase], phase_index: int, phase_epoch: int) -> int:
    """Returns the epochs from a place in a plan to its end, as if no patience ran out."""
    return sum(phase.epochs for phase in plan[phase_index:]) - phase_epoch


def shortened(
    plan: Sequence[Phase], phase_index: int, phase_epoch: int, room: int, steps_per_epoch: int
) -> tuple[Phase, ...]:
    """Returns a plan of which at most `room` epochs are left from a place on; the same plan where all of them fit.

    A phase of one rate is ended at the last moment only: while it goes on and the epochs behind it still fit, nothing
    is changed.

    Args:
        phase_index: of the phase of the next epoch.
        phase_epoch: finished epochs of that phase.

    >>> flat = Phase("flat", 100, "flat", 0.1, 0.0)
    >>> anneal = Phase("anneal", 4, "cosine", 0.1, 0.0, start_from="best")
    >>> [phase.epochs for phase in shortened((flat, anneal), 0, 7, 5, 10)]  # one more, then all of the annealing
    [100, 4]
    >>> [phase.epochs for phase in shortened((flat, anneal), 0, 7, 4, 10)]
    [7, 4]
    >>> [phase.epochs for phase in shortened((flat, anneal), 0, 7, 2, 10)]
    [7, 2]
    """
    plan = tuple(plan)
    if epochs_left(plan, phase_index, phase_epoch) <= room:
        return plan
    curves = _curves([Part(plan[phase_index], phase_epoch), *map(Part, plan[phase_index + 1 :])])
    sizes = [sum(part.left for part in curve) for curve in curves]
    if is_endless(plan[phase_index]):
        if capped([sizes[0] + phase_epoch, *sizes[1:]], room + phase_epoch)[0] > phase_epoch:
            return plan
        lengths = capped([0, *sizes[1:]], room)
    else:
        lengths = capped(sizes, room)
    if phase_index == phase_epoch == 0 and lengths[0] == 0 < room:  # a later phase may start from the best of this one
        lengths = [1, *capped(sizes[1:], room - 1)]
    cut = list(plan[:phase_index])
    for curve, length, size in zip(curves, lengths, sizes, strict=True):
        whole = [part.phase for part in curve]
        cut += whole if length == size else _cut(curve, length, steps_per_epoch, {phase.name for phase in plan})
    return tuple(cut)


def is_endless(phase: Phase) -> bool:
    """Returns whether a phase may end after any epoch, as its rate does not depend on its length."""
    return phase.lr == "flat"


def capped(sizes: Sequence[int], room: int) -> list[int]:
    """Returns lengths of at most `sizes`, together at most `room`, of which the longest are as equal as can be.

    >>> capped([100, 4], 20), capped([3, 100], 20), capped([100, 4], 5), capped([100, 4], 1)
    ([16, 4], [3, 17], [3, 2], [1, 0])
    """
    lengths = [0] * len(sizes)
    longest_first = sorted(range(len(sizes)), key=lambda index: -sizes[index])
    room = min(room, sum(sizes))
    while room > 0:
        for index in longest_first:
            if room and lengths[index] < sizes[index]:
                lengths[index] += 1
                room -= 1
    return lengths


def _curves(parts: Sequence[Part]) -> list[list[Part]]:
    """Returns parts in groups that are on one curve of the learning rate, as those of AFTER are."""
    curves: list[list[Part]] = []
    for part in parts:
        if curves and _goes_on(curves[-1][-1].phase, part.phase):
            curves[-1].append(part)
        else:
            curves.append([part])
    return curves


def _goes_on(first: Phase, second: Phase) -> bool:
    alike = ("lr", "max_lr", "min_lr", "warmup", "warmup_steps", "curve_epochs")
    is_same = all(getattr(first, name) == getattr(second, name) for name in alike)
    return is_same and first.curve_epochs is not None and second.curve_start == first.curve_start + first.epochs


def _cut(curve: Sequence[Part], length: int, steps_per_epoch: int, names: set[str]) -> list[Phase]:
    """Returns the phases of a curve of which `length` epochs are left; what was carried out of it stays."""
    first, shares = curve[0], proportional([part.left for part in curve], length)
    lengths = [part.done + share for part, share in zip(curve, shares, strict=True)]
    if is_endless(first.phase):
        return [_ended(part.phase, epochs) for part, epochs in zip(curve, lengths, strict=True) if epochs]
    begun = [replace(first.phase, epochs=first.done, curve_epochs=_curve_epochs(first.phase))] if first.done else []
    changed, start = _new_curve(first, length, steps_per_epoch), 0
    drawn = []
    for part, share in zip(curve, shares, strict=True):
        if share and changed["max_lr"] > 0:
            own = {"epochs": share, "curve_start": float(start), "curve_epochs": length if share < length else None}
            if part.done:  # the phase is cut in two
                own |= {"name": _free_name(f"{part.phase.name}_short", names), "start_from": "last"}
            drawn.append(replace(part.phase, **{**changed, **own}))
            start += share
    return [*begun, *drawn]


def _ended(phase: Phase, epochs: int) -> Phase:
    """Returns a phase of one rate with another number of epochs; a warm-up stays as it is."""
    has_warmup = phase.warmup > 0 or phase.warmup_steps > 0
    return replace(phase, epochs=epochs, curve_epochs=_curve_epochs(phase) if has_warmup else phase.curve_epochs)


def _new_curve(part: Part, length: int, steps_per_epoch: int) -> dict[str, Any]:
    """Returns what is changed in the phases of a curve that is drawn anew over `length` epochs."""
    phase = part.phase
    if not part.done and not phase.curve_start:
        warmup_steps = min(phase.warmup_steps, int(WARMUP_SHARE * length * steps_per_epoch))
        return {
            "max_lr": phase.max_lr,
            "warmup": min(phase.warmup, WARMUP_SHARE * length),
            "warmup_steps": warmup_steps,
        }
    rate = learning_rate(phase, part.done * steps_per_epoch, steps_per_epoch)
    kind = "cosine" if phase.lr == "one_cycle" else phase.lr
    return {"lr": kind, "max_lr": rate, "min_lr": min(phase.min_lr, rate), "warmup": 0.0, "warmup_steps": 0}


def proportional(sizes: Sequence[int], length: int) -> list[int]:
    """Returns whole numbers in the proportion of `sizes` that are `length` together; each has at least 1 if possible.

    >>> proportional([28, 18, 1, 20], 10), proportional([28, 18, 1, 20], 2)
    ([4, 2, 1, 3], [1, 0, 0, 1])
    """
    shares = [0] * len(sizes)
    for index in sorted(range(len(sizes)), key=lambda index: -sizes[index])[:length]:
        shares[index] = 1
    for _ in range(length - sum(shares)):
        behind = [length * size / sum(sizes) - share for size, share in zip(sizes, shares, strict=True)]
        shares[behind.index(max(behind))] += 1
    return shares


def _curve_epochs(phase: Phase) -> int:
    return phase.curve_epochs or phase.epochs


def _free_name(name: str, names: set[str]) -> str:
    free, number = name, 2
    while free in names:
        free, number = f"{name}_{number}", number + 1
    return free


def plan_text(plan: Sequence[Phase], comment: str) -> str:
    """Returns the text of the file in `configs/plans/` that gives exactly this plan.

    Args:
        comment: its first line.

    >>> print(plan_text([Phase("flat", 3, "flat", 0.1, 0.0, patience=2, freeze=("encoder",))], "Three epochs."))
    # Three epochs.
    - {NAME: flat, EPOCHS: 3, LR: flat, MAX_LR: 0.1, MIN_LR: 0.0, PATIENCE: 2, FREEZE: [encoder]}
    <BLANKLINE>
    """
    lines = [f"# {comment}"]
    for phase in plan:
        plain = Phase(phase.name, phase.epochs, phase.lr, phase.max_lr, phase.min_lr)
        always = ("name", "epochs", "lr", "max_lr", "min_lr")
        names = [field.name for field in fields(Phase)]
        shown = [name for name in names if name in always or getattr(phase, name) != getattr(plain, name)]
        lines.append(f"- {{{', '.join(f'{name.upper()}: {_yaml(getattr(phase, name))}' for name in shown)}}}")
    return "\n".join(lines) + "\n"


def _yaml(value: object) -> str:
    if isinstance(value, tuple):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, str):
        return value if re.fullmatch(r"[\w.]+", value) else json.dumps(value)  # a loss has commas
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
