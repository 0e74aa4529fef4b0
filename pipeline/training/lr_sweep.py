"""LR sweep: a short training whose learning rate grows at every step, with the validation loss after each.

Source: Smith 2017 (arXiv:1506.01186), and the finder of fastai. Different here: the loss is that of a few fixed
validation images that together contain every class; suggestions are left of the minimum only, because the steepest
point of the whole curve is often the rebound after the divergence; several repeats give a band; steps are as long as
those of the training at the same MAX_LR (see `stride`). The sweep has its own network and optimizer.

In: tile store, split. Out: `lr_sweep.csv`, `lr_sweep.json`.
"""

from __future__ import annotations

import copy
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from tqdm import tqdm

from pipeline.config.load import Loaded
from pipeline.config.optimizers import UNEVEN
from pipeline.config.plan import Phase, learning_rate
from pipeline.config.schema import Optimizer, Sweep
from pipeline.engine.run import Run
from pipeline.errors import Stopped, UserError
from pipeline.files import write_json
from pipeline.paths import SWEEP_FACTS, SWEEP_PLOT, SWEEP_TABLE, shown
from pipeline.task import Batch, Criterion, Learning
from pipeline.training.assemble import open_data, start_learner
from pipeline.training.device import explained_faults, make_reproducible, memory_fix, validation_memory_fix
from pipeline.training.finite import FiniteWatch, NotFinite
from pipeline.training.history import write_rows
from pipeline.training.learner import Learner, freeze
from pipeline.training.optimizer import assign_lr, build_optimizer
from pipeline.training.ranger import rectified_step
from pipeline.training.step import EpochSums, train_step
from pipeline.training.sweep_curve import Point, curves_of, evaluate_curves, has_exploded, smooth
from pipeline.training.validate import validation_batches, validation_loss

Validate = Callable[[Learner, Criterion, Learning], float]
SWEEP_EPOCH = 100_000  # samples are drawn from epochs that no training reaches
SETTLE_STEPS = 10  # Ranger does next to nothing in its first five
MOST_SCALES = 40  # halvings of a loss scale, from 2**16 down to where nothing can overflow
# Decay of the means of gradient and square. The steps of the other optimizers of `config/optimizers.py` do not grow or
# shrink for long, except those listed there as UNEVEN: `tests/training/test_stride.py` measures it.
RECTIFIED = {
    **dict.fromkeys(("Ranger", "torch_optimizer.Ranger"), (0.95, 0.999)),
    **dict.fromkeys(("RAdam", "timm.radam", "timm.radamw", "timm.radamlegacy", "timm.radabelief"), (0.9, 0.999)),
}
SAMPLES = 500  # steps of a plan that enter its mean


@dataclass(frozen=True)
class LrSweep:
    """What every step of a sweep needs, gathered once."""

    run: Run
    learner: Learner
    criterion: Criterion
    sums: EpochSums

    def step(self, batches: Iterator[Batch], seed: int) -> None:
        """Does one training step; a loss scaler that leaves it out gets further batches, with its smaller scales.

        Raises:
            Stopped: a stop was requested.
            NotFinite: the loss is not finite, or the gradient at every scale.
        """
        scaler, stop = self.learner.scaler, self.run.stop
        for _ in range(MOST_SCALES):
            if stop.requested:
                raise Stopped(f"{stop.reason}; the LR sweep begins anew")
            batch = next(batches)
            torch.manual_seed(seed)
            self.sums.reset()
            scale = scaler.get_scale()
            # Its answer need not lag: each step is followed by a validation.
            train_step(self.learner, batch, self.criterion, self.sums, FiniteWatch(lags=False))
            if scaler.get_scale() >= scale:
                return
        raise NotFinite("the gradient is not finite at any loss scale")

    def points(
        self, repeat: int, batches: Iterator[Batch], validate: Validate, length: float, bar: tqdm
    ) -> Iterator[Point]:
        """Yields the points of one repeat, up to the explosion; `length` is that of a step."""
        settings, name = self.run.loaded.config.sweep, sweep_optimizer(self.run.loaded).name
        losses: list[float] = []
        for step, lr in enumerate(rates(settings)):
            assign_lr(self.learner.optimizer, lr * length / stride(name, SETTLE_STEPS + step + 1))
            try:
                self.step(batches, SETTLE_STEPS + repeat * settings.steps + step)
            except NotFinite:
                break
            losses.append(validate(self.learner, self.criterion, self.sums.learning))
            bar.update()
            if not math.isfinite(losses[-1]):
                break
            yield Point(repeat, step, lr, losses[-1], self.sums.means().loss)
            if has_exploded(smooth(losses, settings.smoothing)):
                break
        bar.update(settings.steps * (repeat + 1) - bar.n)


def sweep_learning_rates(run: Run) -> None:
    """Sweeps the learning rate, writes curve and suggestions, and logs them.

    Raises:
        Stopped: a stop was requested; the sweep is short and begins anew.
        UserError: the loss is not finite even at the lowest rate, or a GPU cannot do what it is asked.
    """
    config = run.loaded.config
    batches = list(validation_batches(run))

    def validate(learner: Learner, criterion: Criterion, learning: Learning) -> float:
        with explained_faults(validation_memory_fix(config)):
            return validation_loss(learner, batches, criterion, learning)

    with explained_faults(memory_fix(config)):
        untrained, points = sweep_points(run, validate)
    if not points:
        fix = "lower it, " + ("" if config.solver.precision == "float32" else "set SOLVER.PRECISION=float32, ")
        raise UserError(
            f"the loss is not finite even at SWEEP.START_LR {config.sweep.start_lr:g}; {fix}or check the data"
        )
    write_sweep(run, points, untrained)


def sweep_points(run: Run, validate: Validate) -> tuple[float, list[Point]]:
    """Returns the loss before the first step, and the points of all repeats, each from the same start.

    Each repeat has batches of its own.

    Args:
        validate: returns the validation loss after a step.
    """
    loaded = run.loaded
    settings, first_phase = loaded.config.sweep, loaded.plan[0]
    make_reproducible(loaded.config.solver.reproducible)
    data = open_data(run)

    def batches_of(part: int) -> Iterator[Batch]:
        """Yields training batches without end, others for each part of the sweep."""
        for epoch in itertools.count(SWEEP_EPOCH * (part + 1)):
            yield from data.train_batches(epoch, 0, first_phase.augment, [])

    optimizer, learner = sweep_optimizer(loaded), start_learner(run)
    # Averaged weights would hide what the present rate does.
    learner = replace(learner, optimizer=build_optimizer(learner.network, optimizer), ema=None)
    learning = run.task.learning(run, learner.device)
    # The loss that training begins with.
    criterion = learning.criterion(first_phase.loss or loaded.config.loss_fn.mix, 0, ())
    # At MAX_LR the training's steps will be of this length on average, and so are the sweep's.
    length = mean_stride(optimizer.name, loaded.plan, data.steps_per_epoch)
    if length == 0:
        raise UserError(
            f"the plan has too few steps: {optimizer.name} would not move the weights; raise "
            "SOLVER.NUM_EPOCHS, lower DATALOADERS.TRAIN.BATCH_SIZE, or set SOLVER.OPTIMIZER.NAME=AdamW"
        )
    sweep = LrSweep(run, learner, criterion, EpochSums(learning, (), learner.device))
    learner.network.train()
    freeze(learner.network, first_phase.freeze)
    points: list[Point] = []
    with tqdm(total=settings.repeats * settings.steps, desc="LR sweep", leave=False, disable=None) as bar:
        settling = batches_of(0)
        try:
            # The optimizer gathers its means of the gradient at a learning rate of 0, which changes no weight.
            for step in range(SETTLE_STEPS):
                sweep.step(settling, step)
        except NotFinite:
            return math.nan, []
        start = copy.deepcopy(learner.state_dict())
        untrained = validate(learner, criterion, learning)
        for repeat in range(settings.repeats):
            learner.load_state_dict(copy.deepcopy(start))
            points += sweep.points(repeat, batches_of(repeat + 1), validate, length, bar)
    return untrained, points


def write_sweep(run: Run, points: Sequence[Point], untrained: float = math.inf) -> None:
    """Writes `lr_sweep.csv` and `lr_sweep.json`, and logs the suggestions.

    Args:
        untrained: the validation loss before the first step; not finite: unknown.
    """
    config = run.loaded.config
    curves = curves_of(points, config.sweep.smoothing)
    columns = ("lr_smooth", "valid_loss_smooth", "train_loss_smooth")
    rows = [
        vars(point) | dict(zip(columns, smoothed, strict=True))
        for curve in curves
        for point, *smoothed in zip(curve.points, curve.lr_smooth, curve.valid_smooth, curve.train_smooth, strict=True)
    ]
    # MAX_LR can be compared where the training's own optimizer swept, with steps as long as the training's.
    name = sweep_optimizer(run.loaded).name
    is_own = name == config.solver.optimizer.name and name not in UNEVEN
    facts = evaluate_curves(curves, config.solver.max_lr, is_own, config.sweep.end_lr, untrained)
    write_rows(run.paths / SWEEP_TABLE, rows)
    write_json(run.paths / SWEEP_FACTS, facts)
    band = facts["band"]
    spans = {name: f" ({low:.2g} to {high:.2g})" if len(curves) > 1 else "" for name, (low, high) in band.items()}
    words = (f"{name} {rate:.2g}{spans[name]}" for name, rate in facts["suggestions"].items())
    run.log(f"LR sweep suggests {', '.join(words)}; MAX_LR is {facts['max_lr']:.2g}")
    for warning in facts["warnings"]:
        run.log(f"warning: {warning}; see {shown(run.paths / SWEEP_PLOT)}")


def rates(settings: Sweep) -> list[float]:
    """Returns the learning rate of every step: from START_LR to END_LR, the same factor each time."""
    growth = (settings.end_lr / settings.start_lr) ** (1 / (settings.steps - 1))
    return [settings.start_lr * growth**step for step in range(settings.steps)]


def sweep_optimizer(loaded: Loaded) -> Optimizer:
    """Returns the settings of the optimizer that sweeps: the experiment's own, or plain SGD as the original had it."""
    own = loaded.config.solver.optimizer
    is_plain = loaded.config.sweep.optimizer == "SGD"
    return replace(own, name="SGD", weight_decay=0.0, momentum=0.0) if is_plain else own


def stride(optimizer: str, step: int) -> float:
    """Returns the length of step number `step` (1, 2, ...) over that of a late one at the same learning rate.

    The rectification of Ranger and RAdam (Liu et al. 2020, arXiv:1908.03265) makes the first five steps nearly 0, the
    40th an eighth of what the same rate gives later, the 240th a third, the 2,000th five sixths. An LR sweep consists
    of such early steps, a long training hardly: the same rate means other steps in the two.

    >>> [round(stride("Ranger", step), 2) for step in (1, 6, 40, 240, 2000)]
    [0.0, 0.03, 0.13, 0.34, 0.83]
    >>> stride("AdamW", 1)
    1.0
    """
    if optimizer not in RECTIFIED:
        return 1.0
    beta1, beta2 = RECTIFIED[optimizer]
    size, is_rectified = rectified_step(step, beta1, beta2)
    # The size also holds Adam's correction of means that began at 0, which makes no step longer or shorter.
    return size * (1 - beta1**step) / math.sqrt(1 - beta2**step) if is_rectified else 0.0


def mean_stride(optimizer: str, plan: Sequence[Phase], steps_per_epoch: int) -> float:
    """Returns the mean stride of a plan's steps, weighted with their learning rates, as if no patience ran out."""
    num_steps = sum(phase.epochs for phase in plan) * steps_per_epoch
    total = weighted = 0.0
    begun = 0
    for phase in plan:
        length = phase.epochs * steps_per_epoch
        count = min(length, max(1, round(SAMPLES * length / max(num_steps, 1))))
        for sample in range(count):
            step = int((sample + 0.5) * length / count)
            rate = learning_rate(phase, step, steps_per_epoch) * length / count
            total += rate
            weighted += rate * stride(optimizer, begun + step + 1)
        begun += length
    return weighted / total
