"""The training loop: carries out a plan, phase by phase, and can be stopped and continued at any step.

In: a learner, batches, a plan. Out: `last.ckpt`, `best.ckpt`, `history.csv`, TensorBoard events. The learning rate is
a pure function of phase and step, and all randomness of (seed, epoch, step), so nothing else needs to be remembered.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from tqdm import tqdm

from pipeline.config.plan import Phase, learning_rate
from pipeline.config.schema import Config
from pipeline.engine.run import Run
from pipeline.errors import Stopped
from pipeline.paths import BEST, HISTORY, LAST, NOT_FINITE, STEPS, TIMINGS
from pipeline.task import Batch, Learning
from pipeline.training.bars import epoch_bar, move_on
from pipeline.training.candidates import keep_candidates
from pipeline.training.checkpoint import load_or_refuse, replace_best, replace_last
from pipeline.training.clock import Clock, ending_in_time, give_up_if_late, next_phase
from pipeline.training.device import described, explained_faults, memory_fix, validation_memory_fix
from pipeline.training.finite import FiniteWatch, NotFinite, refuse_collapsed_scale, refuse_not_finite
from pipeline.training.history import (
    StepLog,
    append_timing,
    epoch_line,
    history_row,
    missed_class_lines,
    write_changes,
    write_rows,
)
from pipeline.training.learner import Learner, freeze, frozen_words, validated_weights
from pipeline.training.optimizer import assign_lr
from pipeline.training.ranks import group
from pipeline.training.resume import course_of, made_from
from pipeline.training.scenes import Scenes
from pipeline.training.state import TrainState, note_validation, start_warning
from pipeline.training.step import EpochSums, Means, train_step
from pipeline.training.tracking import Tracking
from pipeline.training.validate import monitored_value, no_validation, validate


@dataclass(frozen=True)
class RunData:
    """Training and validation data of a run, ready to be iterated.

    Attributes:
        train_batches: (epoch, start step, augment, class scores) to the batches of an epoch, counted from 1.
        valid_batches: () to the validation batches, the same each time; None where other ranks have one more.
        num_valid: validation images; 0: the run is on all images, and its last weights are its best.
        describe: a sample's key to words: image, tile, epoch.
        steps_per_epoch: optimizer steps of an epoch.
    """

    train_batches: Callable[[int, int, bool, Sequence[float]], Iterator[Batch]]
    valid_batches: Callable[[], Iterator[Batch | None]]
    num_valid: int
    describe: Callable[[Any], str]
    steps_per_epoch: int


@dataclass
class Training:
    """All that one training needs, gathered once.

    Attributes:
        learning: what it needs of the task.
        clock: of a run that has to finish in time.
    """

    run: Run
    config: Config
    plan: Sequence[Phase]
    learner: Learner
    learning: Learning
    state: TrainState
    seed: int
    data: RunData
    sums: EpochSums
    watch: FiniteWatch
    saved_at: float = field(default_factory=time.monotonic)
    started_at: float = field(default_factory=time.monotonic)
    start_epoch: int = 0
    step_log: StepLog | None = None
    scenes: Scenes | None = None
    clock: Clock | None = None
    tracking: Tracking = field(init=False)

    def __post_init__(self) -> None:
        self.tracking = Tracking(self.run)


def train(training: Training) -> None:
    """Trains until the plan ends.

    Raises:
        Stopped: a stop was requested; everything is saved.
        UserError: loss or weights are not finite, and the batch's sample ids are saved; or a GPU lacks an operation.
    """
    learner = training.learner
    ranks = f"{group.count()} ranks, each on " if group.count() > 1 else "on "
    training.run.log(f"{ranks}{described(learner.device, learner.precision)}")
    try:
        with training.tracking, explained_faults(memory_fix(training.config)):
            carry_out(training)
    except NotFinite as fault:
        if not group.is_first():
            raise
        max_lr = training.plan[training.state.phase_index].max_lr
        raise fault.explained(training.state, max_lr, training.data.describe, training.run.paths / NOT_FINITE) from None


def carry_out(training: Training) -> None:
    """Goes through the plan's phases, from wherever the state stands."""
    begin(training)
    with ending_in_time(training):
        while (phase := next_phase(training)) is not None:
            begin_epoch(training, phase)
            train_epoch(training, phase)
            finish_epoch(training, phase)
    if not training.data.num_valid:
        return
    for line in missed_class_lines(training.state, training.learning, is_last=True):
        training.run.log(line)
    state, monitor = training.state, training.config.solver.monitor
    monitored = [row[monitor] for row in state.history]
    if warning := start_warning(monitored, state.best_epoch, monitor, training.config.experiment.load_prev):
        training.run.log(f"warning: {warning}")
    if training.scenes is not None:
        training.scenes.finish(training.learner, state.best_epoch)


def begin(training: Training) -> None:
    """Validates the network before training, or writes what a killed process had saved but not written yet."""
    if training.scenes is not None:
        training.scenes.begin(training.state)
    state, terms, steps = training.state, training.sums.terms, training.data.steps_per_epoch
    path, every = training.run.paths / STEPS, training.config.runtime.log_steps if group.is_first() else 0
    training.step_log = StepLog(path, every, terms, steps, state.epoch + 1, state.step)
    training.start_epoch = state.epoch
    if state.history:
        record(training)
        training.run.stop.judge(state.history)  # as it would have been without the kill
    else:
        finish_epoch(training, training.plan[0])


def begin_epoch(training: Training, phase: Phase) -> None:
    """Prepares the network for an epoch of a phase: what is frozen, and at the phase's start where it starts from."""
    state = training.state
    if state.phase_epoch == 0 and state.step == 0:
        training.run.log(f"phase {phase.name}: at most {phase.epochs} epochs, LR {phase.lr} from {phase.max_lr:g}")
        if phase.start_from == "best":
            group.wait()  # for the first rank, which writes it
            training.learner.load_state_dict(load_or_refuse(training.run.paths / BEST, "train anew with --force"))
            training.run.log(f"phase {phase.name}: back to the best weights, of epoch {state.best_epoch}")
    training.learner.network.train()
    freeze(training.learner.network, phase.freeze)
    if phase.freeze and state.phase_epoch == 0 and state.step == 0:
        training.run.log(frozen_words(training.learner.network))
    training.learner.join_ranks()


def train_epoch(training: Training, phase: Phase) -> None:
    """Trains one epoch, or what is left of it after a resume."""
    state, learner, sums, steps = training.state, training.learner, training.sums, training.data.steps_per_epoch
    mix = phase.loss or training.config.loss_fn.mix
    criterion = training.learning.criterion(mix, state.epoch, state.class_scores)
    started, num_before = time.monotonic(), sums.num_samples()
    batches = training.data.train_batches(state.epoch + 1, state.step, phase.augment, state.class_scores)
    with epoch_bar(state, phase, steps, group.is_first()) as bar:
        for batch in batches:
            lr = learning_rate(phase, state.phase_epoch * steps + state.step, steps)
            assign_lr(learner.optimizer, lr)
            # Dropout and drop-path draw from here: a function of epoch and step, so that a resume repeats it.
            group.seed_step(step_seed(training.seed, state.epoch, state.step))
            position = (state.epoch, state.step, batch.keys)
            loss = train_step(learner, batch, criterion, sums, training.watch, position)
            state.step += 1
            training.step_log.add(state.epoch + 1, state.step, lr, loss)
            move_on(bar, sums, lr)
            save_if_due(training)
    training.watch.settle()
    num_samples = sums.num_samples() - num_before
    if group.is_first():
        append_timing(training.run.paths / TIMINGS, state.epoch + 1, time.monotonic() - started, num_samples)


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Returns the seed of one step: different for every (seed, epoch, step) that a training can reach."""
    return (seed << 40) + (epoch << 24) + step


def finish_epoch(training: Training, phase: Phase) -> None:
    """Validates, adds the result to the state, and saves; once before the first epoch too, as epoch 0.

    `last.ckpt` is written first and `best.ckpt` becomes a second name of it. A kill between the two is repaired at the
    next start, see `repair_best`, and `best.ckpt` is never of an epoch that `last.ckpt` has not reached.
    """
    state, steps = training.state, training.data.steps_per_epoch
    is_trained = bool(state.history)
    validation = validate_epoch(training)
    means = training.sums.means() if is_trained else None
    lr = learning_rate(phase, state.phase_epoch * steps + steps - 1, steps) if is_trained else None
    if is_trained:
        state.epoch, state.phase_epoch, state.step = state.epoch + 1, state.phase_epoch + 1, 0
        training.sums.reset()
    scores, monitored = validation.scores, monitored_value(training.config.solver.monitor, validation, state.epoch)
    starts_trained = training.config.experiment.load_prev is not None
    is_best = note_validation(state, monitored, scores.class_scores, scores.has_hit, starts_trained)
    facts = {"epoch": state.epoch, "phase": phase.name, "lr": lr, "is_best": int(is_best)}
    facts["epochs_since_best"] = state.epochs_since_best
    row = history_row(facts, means, validation, training.learning, training.sums.terms)
    state.history.append(row)
    if training.scenes is not None:
        training.scenes.after_epoch(training.learner, state.epoch)
    save(training)
    if group.is_first():
        keep(training, is_best)
    record(training)
    training.run.log(epoch_line(row, scores.by_name, sum(one.epochs for one in training.plan), _seconds_left(training)))
    for line in missed_class_lines(state, training.learning) if training.data.num_valid else ():
        training.run.log(line)
    stop_if_asked(training)


def keep(training: Training, is_best: bool) -> None:
    """Names the checkpoint that was just saved the best, if it is, and keeps the weights that AVERAGE wants."""
    paths, learner = training.run.paths, training.learner
    if is_best:
        replace_best(paths / BEST, paths / LAST)
    keep_candidates(paths, training.config, vars(training.state), lambda: validated_weights(learner.state_dict()))


def validate_epoch(training: Training) -> Means:
    """Returns loss and scores of the validation, by one fixed loss for the whole plan, without weights that change.

    Raises:
        Stopped: a stop was requested; the epoch is saved with all its steps done, so that only this is repeated.
        NotFinite: the validation loss is not finite.
    """
    if not training.data.num_valid:
        return no_validation(training.learning)
    criterion = training.learning.criterion(training.config.loss_fn.mix, 0, ())
    try:
        with explained_faults(validation_memory_fix(training.config)):
            validation = validate(training.learner, _until_stopped(training), criterion, training.learning)
    except Stopped:
        save(training)
        raise
    if not math.isfinite(validation.loss):
        raise NotFinite("the validation loss is not finite")
    return validation


def save(training: Training) -> None:
    """Writes `last.ckpt`, keeping the one before it. All ranks have the same content, and the first one writes.

    Raises:
        NotFinite: something in it is not finite; nothing is written.
    """
    training.watch.settle()
    refuse_collapsed_scale(training.learner.scaler)
    content = {
        **training.learner.state_dict(),
        "state": asdict(training.state),
        "sums": training.sums.state_dict(),
        "terms": list(training.sums.terms),
        "classes": list(training.learning.classes),
        "made_from": made_from(training.run, course_of(training.run, training.plan, training.data.steps_per_epoch)),
    }
    refuse_not_finite(content)
    if group.is_first():
        replace_last(training.run.paths / LAST, content)
    training.saved_at = time.monotonic()


def record(training: Training) -> None:
    """Writes `history.csv`, what was changed in the plan, and events; each may be written twice."""
    if not group.is_first():
        return
    write_rows(training.run.paths / HISTORY, training.state.history)
    write_changes(training.run.paths, training.state)
    training.tracking.log_epochs(training.state.history)


def save_if_due(training: Training) -> None:
    """Saves inside an epoch every SOLVER.SAVE_MINUTES, and when asked to stop."""
    give_up_if_late(training)
    minutes = (time.monotonic() - training.saved_at) / 60
    if group.any_of(training.run.stop.requested or minutes >= training.config.solver.save_minutes):
        save(training)
        stop_if_asked(training)  # only here: a stop that comes after the question above is for the next step


def stop_if_asked(training: Training) -> None:
    """Raises Stopped when a stop was requested, or a search prunes the run for its history so far."""
    state = training.state
    if reason := training.run.stop.reason_after(state.history):
        raise Stopped(f"{reason}; saved at epoch {state.epoch}, step {state.step}")


def _until_stopped(training: Training) -> Iterator[Any]:
    """Yields the validation batches with a progress bar."""
    is_hidden = None if group.is_first() else True
    options = {"unit": "image", "leave": False, "dynamic_ncols": True, "disable": is_hidden}
    with tqdm(total=training.data.num_valid, desc="validate", **options) as bar:
        for batch in training.data.valid_batches():
            stop_if_asked(training)
            if batch is not None:
                yield batch
                bar.update(len(batch.images) * group.count())


def _seconds_left(training: Training) -> float | None:
    """Returns how long the rest of the plan takes at the pace of this process, as if no patience ran out."""
    done = training.state.epoch - training.start_epoch
    left = sum(phase.epochs for phase in training.plan[training.state.phase_index :]) - training.state.phase_epoch
    return (time.monotonic() - training.started_at) / done * left if done else None
