"""The training loop: carries out a plan, phase by phase, and can be stopped and continued at any step.

In: a learner, batches, a plan. Out: `last.ckpt`, `best.ckpt`, `history.csv`, TensorBoard events. The learning rate is
a pure function of phase and step, and all randomness of (seed, epoch, step), so nothing else needs to be remembered.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from pipeline.config.plan import Phase, learning_rate, parse_mix
from pipeline.config.schema import Config
from pipeline.errors import Stopped, UserError
from pipeline.files import write_atomic
from pipeline.model.freeze import freeze
from pipeline.model.losses import adaptive_class_weights, build_loss, normalise_class_weights
from pipeline.paths import RunPaths, shown
from pipeline.stopping import Stop
from pipeline.training.checkpoint import keep_previous, load_or_refuse, save_checkpoint
from pipeline.training.history import append_timing, history_row, write_events, write_history
from pipeline.training.learner import Learner
from pipeline.training.state import TrainState, advance, note_validation
from pipeline.training.step import EpochSums, train_step
from pipeline.training.validate import Validation, validate

DEAD_AFTER = 3  # validations in a row without a single pixel found before a class is called dead


@dataclass
class Training:
    """All that one training needs, gathered once.

    Attributes:
        train_batches: `(epoch, start_step, augment, class_dice)` to the batches (picture_BHWC, mask_BHW, keys) of an
            epoch, counted from 1.
        valid_batches: `() -> iterable of batches`, the same each time.
        describe: a sample's key to words: picture, tile, epoch.
        steps_per_epoch: optimizer steps of an epoch.
        counted: indices of the classes that enter means and monitor.
    """

    config: Config
    plan: Sequence[Phase]
    learner: Learner
    state: TrainState
    paths: RunPaths
    stop: Stop
    seed: int
    classes: tuple[str, ...]
    counted: tuple[int, ...]
    num_outputs: int
    train_batches: Callable[..., Any]
    valid_batches: Callable[[], Any]
    describe: Callable[[Any], str]
    steps_per_epoch: int
    sums: EpochSums
    saved_at: float = field(default_factory=time.monotonic)
    say: Callable[[str], None] = tqdm.write


def train(training: Training) -> None:
    """Trains until the plan ends.

    Raises:
        Stopped: a stop was requested; everything is saved.
        UserError: the loss is not finite; the batch's sample ids are saved for inspection.
    """
    state = training.state
    if not state.history:
        finish_epoch(training, training.plan[0], None, begun=time.monotonic())
    while (phase := advance(training.plan, state)) is not None:
        begin_epoch(training, phase)
        begun = time.monotonic()
        train_epoch(training, phase)
        finish_epoch(training, phase, training.sums.means(), begun)
        training.sums.reset()


def begin_epoch(training: Training, phase: Phase) -> None:
    """Prepares the network for an epoch of a phase: what is frozen, and at the phase's start where it starts from."""
    state = training.state
    if state.phase_epoch == 0 and state.step == 0:
        training.say(f"phase {phase.name}: at most {phase.epochs} epochs, LR {phase.lr} from {phase.max_lr:g}")
        if phase.start_from == "best":
            training.learner.load_state_dict(load_or_refuse(training.paths / "best.ckpt", "train anew with --force"))
            training.say(f"phase {phase.name}: back to the best weights, of epoch {state.best_epoch}")
    training.learner.network.train()
    freeze(training.learner.network, phase.freeze)


def train_epoch(training: Training, phase: Phase) -> None:
    """Trains one epoch, or what is left of it after a resume."""
    state, learner = training.state, training.learner
    loss_of = _loss(training, phase)
    batches = training.train_batches(state.epoch + 1, state.step, phase.augment, state.class_dice)
    bar = _bar(training, phase)
    for picture_BHWC, mask_BHW, keys in batches:
        phase_step = state.phase_epoch * training.steps_per_epoch + state.step
        lr = learning_rate(phase, phase_step, training.steps_per_epoch)
        for group in learner.optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
        # Dropout and drop-path draw from here: a function of where we are, so that a resume repeats it.
        torch.manual_seed(step_seed(training.seed, state.epoch, state.step))
        try:
            train_step(learner, picture_BHWC, mask_BHW, loss_of, training.sums)
        except FloatingPointError as error:
            raise _not_finite(training, keys, str(error)) from None
        state.step += 1
        bar.update()
        if bar.n % 10 == 0 or bar.n == training.steps_per_epoch:
            means = training.sums.means()
            dice = _mean(means["dice"], training.counted)
            bar.set_postfix(loss=f"{means['loss']:.3f}", dice=f"{dice:.3f}", lr=f"{lr:.1e}", refresh=False)
        _save_if_due(training)
    bar.close()


def step_seed(seed: int, epoch: int, step: int) -> int:
    """Returns the seed of one step: different for every (seed, epoch, step) that a training can reach."""
    return (seed << 40) + (epoch << 24) + step


def finish_epoch(training: Training, phase: Phase, train_means: dict[str, Any] | None, begun: float) -> None:
    """Validates, notes the result, and saves: best before last, so that `last` never knows of a best that is not there."""
    state, learner, config = training.state, training.learner, training.config
    # The monitor is one fixed loss for the whole plan, without class weights that change.
    loss = build_loss(parse_mix(config.loss_fn.mix), training.num_outputs)
    weights = _fixed_weights(training)
    validation = validate(learner, training.valid_batches(), lambda *pair: loss(*pair, weights), len(training.classes))
    if train_means is not None:
        state.epoch, state.phase_epoch, state.step = state.epoch + 1, state.phase_epoch + 1, 0
    dice = _mean(validation.dice, training.counted)
    monitored = validation.loss if config.solver.monitor == "valid_loss" else 1 - dice
    _refuse_nan(training, monitored)
    is_best = note_validation(state, monitored, validation.dice, validation.has_hit)
    lr = learner.optimizer.param_groups[-1]["lr"] / (learner.optimizer.param_groups[-1]["lr_factor"] or 1)
    facts = {"epoch": state.epoch, "phase": phase.name, "lr": lr if train_means else None, "is_best": int(is_best)}
    facts["epochs_since_best"] = state.epochs_since_best
    row = history_row(facts, train_means, validation, training.classes, training.counted)
    state.history.append(row)
    if is_best:
        save_checkpoint(training.paths / "best.ckpt", _content(training))
    save(training)
    write_history(training.paths / "history.csv", state.history)
    write_events(training.paths.events, row)
    append_timing(training.paths / "timings.csv", state.epoch, time.monotonic() - begun, training.sums.num_samples())
    _tell(training, row, validation)
    _stop_if_asked(training)


def save(training: Training) -> None:
    """Writes `last.ckpt`, keeping the one before it."""
    path = training.paths / "last.ckpt"
    keep_previous(path)
    save_checkpoint(path, _content(training))
    training.saved_at = time.monotonic()


def _content(training: Training) -> dict[str, Any]:
    return {
        **training.learner.state_dict(),
        "state": training.state.as_dict(),
        "sums": training.sums.state_dict(),
        "classes": list(training.classes),
    }


def _save_if_due(training: Training) -> None:
    minutes = (time.monotonic() - training.saved_at) / 60
    if training.stop.requested or minutes >= training.config.solver.save_minutes:
        if training.state.step < training.steps_per_epoch:  # else the epoch's end saves in a moment
            training.sums.refuse_nan()
            save(training)
            _stop_if_asked(training)


def _stop_if_asked(training: Training) -> None:
    if training.stop.requested:
        state = training.state
        raise Stopped(f"{training.stop.reason}; saved at epoch {state.epoch}, step {state.step}")


def _loss(training: Training, phase: Phase) -> Callable[[Tensor, Tensor], Tensor]:
    """Returns the phase's loss with the class weights of this epoch."""
    loss_fn = training.config.loss_fn
    loss = build_loss(parse_mix(phase.loss or loss_fn.mix), training.num_outputs)
    weights = _fixed_weights(training)
    # The original adapts after the first epoch; the validation before training does not count.
    if loss_fn.adaptive.enable and training.state.epoch > 0:
        dice = torch.tensor(training.state.class_dice, dtype=torch.float32, device=training.learner.device)
        weights = _with_padding_class(training, adaptive_class_weights(dice, loss_fn.adaptive.max_weight))
    return lambda logits_BCHW, mask_BHW: loss(logits_BCHW, mask_BHW, weights)


def _fixed_weights(training: Training) -> Tensor | None:
    """Returns LOSS_FN.WEIGHTS, with zeros for classes outside DATASETS.CLASSES; None when all are equal."""
    given = training.config.loss_fn.weights
    all_count = len(training.counted) == len(training.classes)
    if given is None and all_count:
        return None
    weights = torch.tensor(given or [1.0] * len(training.classes), dtype=torch.float32)
    keep = torch.zeros(len(training.classes))
    keep[list(training.counted)] = 1.0
    return _with_padding_class(training, normalise_class_weights(weights * keep).to(training.learner.device))


def _with_padding_class(training: Training, weights: Tensor) -> Tensor:
    """Returns the weights with 1 for the padding class, where the network has one."""
    extra = training.num_outputs - len(training.classes)
    return torch.cat([weights, weights.new_ones(extra)])


def _refuse_nan(training: Training, monitored: float) -> None:
    if monitored != monitored:
        raise _not_finite(training, (), "the validation loss is not a number")


def _not_finite(training: Training, keys: Sequence[Any], what: str) -> UserError:
    state = training.state
    facts = {"epoch": state.epoch, "step": state.step, "samples": [training.describe(key) for key in keys]}
    path = training.paths / "not_finite.json"
    write_atomic(path, json.dumps(facts, indent=1))
    return UserError(
        f"{what} at epoch {state.epoch}, step {state.step}; nothing broken was saved, the batch is named in {shown(path)}.\n"
        f"Lower SOLVER.MAX_LR (now {training.plan[state.phase_index].max_lr:g}; see the LR sweep), set SOLVER.CLIP_NORM=1, "
        f"or SOLVER.PRECISION=float32."
    )


def _bar(training: Training, phase: Phase) -> tqdm:
    state = training.state
    name = f"epoch {state.epoch + 1} {phase.name} {state.phase_epoch + 1}/{phase.epochs}"
    return tqdm(total=training.steps_per_epoch, initial=state.step, desc=name, leave=False, dynamic_ncols=True, disable=None)


def _mean(values: Sequence[float], counted: Sequence[int]) -> float:
    return sum(values[index] for index in counted) / len(counted)


def _tell(training: Training, row: dict[str, Any], validation: Validation) -> None:
    state = training.state
    train = f"train loss {row['train_loss']:.4f}  " if row["train_loss"] is not None else ""
    mark = "  best" if row["is_best"] else f"  {state.epochs_since_best} since best"
    training.say(
        f"epoch {state.epoch:>3} {row['phase']:<8} {train}valid loss {row['valid_loss']:.4f}  "
        f"Dice {row['valid_dice']:.4f}  mIoU {row['valid_miou']:.4f}{mark}"
    )
    dead = [name for name, count in zip(training.classes, state.epochs_without_hit, strict=True) if count == DEAD_AFTER]
    for name in dead:
        score = validation.dice[training.classes.index(name)]
        training.say(f"dead class {name}: no pixel of it found in {DEAD_AFTER} validations; its Dice {score:.3f} is the share of pictures without it")
