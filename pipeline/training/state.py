"""The training loop's state: everything that decides how training continues, saved in every checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from pipeline.config.plan import Phase
from pipeline.scores import monitor_label, score_of


@dataclass
class TrainState:
    """Where training stands.

    Attributes:
        key: hash of everything that the result depends on; a checkpoint with another key is not continued.
        epoch: finished epochs.
        phase_index: index of the current phase in the plan.
        phase_epoch: finished epochs of that phase.
        step: finished optimizer steps of the current epoch.
        best: the lowest monitored value so far (validation loss, or 1 - the monitored score); None before the first.
        best_epoch: the epoch that reached it; 0 is the network before training.
        epochs_since_best: finished epochs since then.
        class_scores: see `Scores.class_scores`, of the last validation.
        epochs_without_hit: per class, validations in a row in which nothing of it was found.
        history: one row per finished epoch, the first being the validation before training.
        changes: what was changed in the plan on the way: `epoch` and `step` that were finished then, `what` in words.
        asked: the phases of the plan from which the clock made the one that is carried out; empty where it made none.
    """

    key: str
    epoch: int = 0
    phase_index: int = 0
    phase_epoch: int = 0
    step: int = 0
    best: float | None = None
    best_epoch: int = 0
    epochs_since_best: int = 0
    class_scores: list[float] = field(default_factory=list)
    epochs_without_hit: list[int] = field(default_factory=list)
    history: list[dict[str, Any]] = field(default_factory=list)
    changes: list[dict[str, Any]] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)


def phase_over(phase: Phase, state: TrainState) -> bool:
    """Returns whether a phase has ended. Asked before an epoch, from saved state only, so that a resume agrees.

    Patience counts epochs of this phase without a new best.

    >>> phase = Phase("flat", epochs=9, lr="flat", max_lr=1.0, min_lr=0.0, patience=2)
    >>> phase_over(phase, TrainState("", phase_epoch=3, epochs_since_best=2))
    True
    """
    if state.step:
        return False
    epochs_without_best = min(state.epochs_since_best, state.phase_epoch)
    is_impatient = phase.patience is not None and epochs_without_best >= phase.patience
    return state.phase_epoch >= phase.epochs or is_impatient


def advance(plan: Sequence[Phase], state: TrainState) -> Phase | None:
    """Moves the state to the phase of the next epoch; returns that phase, or None at the plan's end."""
    while state.phase_index < len(plan) and phase_over(plan[state.phase_index], state):
        state.phase_index += 1
        state.phase_epoch = 0
    return plan[state.phase_index] if state.phase_index < len(plan) else None


def note_validation(
    state: TrainState,
    monitored: float,
    class_scores: Sequence[float],
    has_hit: Sequence[bool],
    starts_trained: bool = False,
) -> bool:
    """Adds a validation to the state; returns whether it is a new best.

    Args:
        starts_trained: whether training starts from a trained network (EXPERIMENT.LOAD_PREV). Otherwise epoch 0, the
            validation before training, is never best: a loss may be lower at random weights than
            after an epoch that found the first objects, and the random weights would be kept and submitted.
    """
    is_best = (state.epoch > 0 or starts_trained) and (state.best is None or monitored < state.best)
    if is_best:
        state.best, state.best_epoch = monitored, state.epoch
    state.epochs_since_best = state.epoch - state.best_epoch
    state.class_scores = list(class_scores)
    before = state.epochs_without_hit or [0] * len(has_hit)
    state.epochs_without_hit = [0 if hit else count + 1 for hit, count in zip(has_hit, before, strict=True)]
    return is_best


def start_warning(
    monitored: Sequence[float | None], best_epoch: int, monitor: str = "valid_loss", load_prev: str | None = None
) -> str | None:
    """Returns a sentence where no epoch of a finished training was better than the network it started from.

    Args:
        monitored: the column of `history.csv` that decides what is best, from epoch 0 on; None counts as 0.
        best_epoch: the epoch whose weights were kept.
        monitor: SOLVER.MONITOR.
        load_prev: EXPERIMENT.LOAD_PREV.

    >>> start_warning([0.599, 0.609], best_epoch=1)
    'No epoch reached the validation loss of the untrained network (0.5990); the best is 0.6090, of epoch 1.'
    >>> start_warning([0.599, 0.509], best_epoch=1) is None
    True
    """
    name, sign = monitor_label(monitor), -1 if score_of(monitor) else 1
    network = f"network of EXPERIMENT.LOAD_PREV {load_prev}" if load_prev else "untrained network"
    start, best = monitored[0] or 0.0, monitored[best_epoch] or 0.0
    if best_epoch == 0:
        return f"No epoch improved on the {network} ({name} {start:.4f}), which is kept."
    if sign * best < sign * start:
        return None
    return f"No epoch reached the {name} of the {network} ({start:.4f}); the best is {best:.4f}, of epoch {best_epoch}."


def when(epoch: int | str, step: int | str) -> str:
    """Returns how far training was, in words.

    Args:
        epoch: finished epochs.
        step: finished steps of the next one.

    >>> when(28, 0), when("3", "2")
    ('after epoch 28', 'in epoch 4, after step 2')
    """
    return f"in epoch {int(epoch) + 1}, after step {step}" if int(step) else f"after epoch {epoch}"
