"""LR sweep: a short training whose learning rate grows at every step, with the validation loss after each.

Source: Smith 2017 (arXiv:1506.01186), and the finder of fastai. Different here: the loss is that of a few fixed
validation images that together contain every class; suggestions are left of the minimum only, because the steepest
point of the whole curve is often the rebound after the divergence; several repeats give a band; steps are as long as
those of the training at the same MAX_LR (see `stride.py`). The sweep has its own network and optimizer.

In: tile store, split. Out: `lr_sweep.csv`, `lr_sweep.json`.
"""

from __future__ import annotations

import copy
import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from tqdm import tqdm

from pipeline.config.load import Loaded
from pipeline.config.optimizers import UNEVEN
from pipeline.config.schema import Sweep
from pipeline.engine.run import Run
from pipeline.engine.stopping import Stop
from pipeline.errors import Stopped, UserError
from pipeline.files import write_atomic
from pipeline.paths import SWEEP_FACTS, SWEEP_PLOT, SWEEP_TABLE, RunPaths, shown
from pipeline.task import Criterion, Learning
from pipeline.training.assemble import RunData, open_data, start_learner
from pipeline.training.device import explained_faults, make_reproducible
from pipeline.training.finite import FiniteWatch, NotFinite
from pipeline.training.freeze import freeze
from pipeline.training.learner import Learner
from pipeline.training.messages import memory_fix, validation_memory_fix
from pipeline.training.optimizer import assign_lr, build_optimizer
from pipeline.training.step import EpochSums, train_step
from pipeline.training.stride import mean_stride, stride
from pipeline.training.sweep_curve import Point, curves_of, evaluate_curves, has_exploded, smooth
from pipeline.training.sweep_validation import validation_batches, validation_loss

Validate = Callable[[Learner, Criterion, Learning], float]
SWEEP_EPOCH = 100_000  # samples are drawn from epochs that no training reaches
SETTLE_STEPS = 10  # Ranger does next to nothing in its first five
MOST_SCALES = 40  # halvings of a loss scale, from 2**16 down to where nothing can overflow


def sweep_learning_rates(run: Run) -> None:
    """Sweeps the learning rate, writes curve and suggestions, and logs them.

    Raises:
        Stopped: a stop was requested; the sweep is short and begins anew.
        UserError: the loss is not finite even at the lowest rate, or a GPU cannot do what it is asked.
    """
    loaded = run.loaded
    batches = list(validation_batches(run))

    def validate(learner: Learner, loss_of: Criterion, learning: Learning) -> float:
        with explained_faults(validation_memory_fix(loaded.config)):
            return validation_loss(learner, batches, loss_of, learning)

    with explained_faults(memory_fix(loaded.config)):
        points = sweep_points(run, validate)
    if not points:
        start_lr = loaded.config.sweep.start_lr
        fix = "set SOLVER.PRECISION=float32 or check the data"
        raise UserError(f"the loss is not finite even at SWEEP.START_LR {start_lr:g}; {fix}")
    name = optimizer_name(loaded)
    is_own = name == loaded.config.solver.optimizer.name and name not in UNEVEN
    settings = loaded.config.sweep
    write_sweep(run.paths, points, settings.smoothing, loaded.config.solver.max_lr, run.log, is_own, settings.end_lr)


def sweep_points(run: Run, validate: Validate) -> list[Point]:
    """Returns the points of all repeats, each from the same start on batches of its own.

    Args:
        validate: returns the validation loss after a step.
    """
    loaded, stop = run.loaded, run.stop
    settings = loaded.config.sweep
    make_reproducible(loaded.config.solver.reproducible)
    data = open_data(run)
    learner = start_learner(run)
    # Averaged weights would hide what the present rate does.
    learner = replace(learner, optimizer=_optimizer(loaded, learner), ema=None)
    learning = run.task.learning(loaded, learner.device)
    # The loss that training begins with.
    loss_of = learning.criterion(loaded.plan[0].loss or loaded.config.loss_fn.mix, 0, ())
    # At MAX_LR the training's steps will be of this length on average, and so are the sweep's.
    length = mean_stride(optimizer_name(loaded), loaded.plan, len(data.sampler))
    if length == 0:
        raise UserError(
            f"the plan has too few steps: {optimizer_name(loaded)} would not move the weights; raise "
            "SOLVER.NUM_EPOCHS, lower DATALOADERS.TRAIN.BATCH_SIZE, or set SOLVER.OPTIMIZER.NAME=AdamW"
        )
    points: list[Point] = []
    with tqdm(total=settings.repeats * settings.steps, desc="LR sweep", leave=False, disable=None) as bar:
        try:
            _settle(loaded, learner, _batches(loaded, data, 0), loss_of, learning, stop)
        except NotFinite:
            return []
        start = copy.deepcopy(learner.state_dict())
        for repeat in range(settings.repeats):
            learner.load_state_dict(copy.deepcopy(start))
            batches = _batches(loaded, data, repeat + 1)
            points += _sweep_once(loaded, learner, batches, validate, loss_of, learning, length, repeat, stop, bar)
    return points


def write_sweep(
    paths: RunPaths,
    points: Sequence[Point],
    smoothing: float,
    max_lr: float | str,
    log: Callable[[str], None],
    is_own: bool = True,
    end_lr: float = math.inf,
) -> None:
    """Writes `lr_sweep.csv` and `lr_sweep.json`, and logs the suggestions.

    Args:
        is_own: whether the training's own optimizer swept, with steps as long as the training's, so that MAX_LR can be
            compared with the suggestions.
        end_lr: SWEEP.END_LR.
    """
    curves = curves_of(points, smoothing)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    columns = [
        "repeat",
        "step",
        "lr",
        "valid_loss",
        "train_loss",
        "lr_smooth",
        "valid_loss_smooth",
        "train_loss_smooth",
    ]
    writer.writerow(columns)
    for curve in curves:
        smoothed = zip(curve.lr_smooth, curve.valid_smooth, curve.train_smooth, strict=True)
        for point, values in zip(curve.points, smoothed, strict=True):
            writer.writerow([point.repeat, point.step, point.lr, point.valid_loss, point.train_loss, *values])
    facts = evaluate_curves(curves, max_lr, is_own, end_lr)
    write_atomic(paths / SWEEP_TABLE, table.getvalue())
    write_atomic(paths / SWEEP_FACTS, json.dumps(facts, indent=1))
    band = facts["band"]
    spans = {name: f" ({low:.2g} to {high:.2g})" if len(curves) > 1 else "" for name, (low, high) in band.items()}
    words = (f"{name} {rate:.2g}{spans[name]}" for name, rate in facts["suggestions"].items())
    log(f"LR sweep suggests {', '.join(words)}; MAX_LR is {facts['max_lr']:.2g}")
    for warning in facts["warnings"]:
        log(f"warning: {warning}; see {shown(paths / SWEEP_PLOT)}")


def rates(settings: Sweep) -> list[float]:
    """Returns the learning rate of every step: from START_LR to END_LR, the same factor each time."""
    growth = (settings.end_lr / settings.start_lr) ** (1 / (settings.steps - 1))
    return [settings.start_lr * growth**step for step in range(settings.steps)]


def _batches(loaded: Loaded, data: RunData, part: int) -> Iterator:
    """Yields training batches without end, others for each part of the sweep."""
    augment, first = loaded.plan[0].augment, SWEEP_EPOCH * (part + 1)
    epochs = (data.train_batches(first + more, 0, augment, []) for more in itertools.count())
    return itertools.chain.from_iterable(epochs)


def _settle(
    loaded: Loaded, learner: Learner, batches: Iterator, loss_of: Criterion, learning: Learning, stop: Stop
) -> None:
    """Lets the optimizer gather its means of the gradient at a learning rate of 0, so that no weight changes."""
    _begin(loaded, learner)
    assign_lr(learner.optimizer, 0.0)
    for step in range(SETTLE_STEPS):
        _step(learner, batches, loss_of, step, EpochSums(learning, (), learner.device), stop)


def _sweep_once(
    loaded: Loaded,
    learner: Learner,
    batches: Iterator,
    validate: Validate,
    loss_of: Criterion,
    learning: Learning,
    length: float,
    repeat: int,
    stop: Stop,
    bar: tqdm,
) -> list[Point]:
    """Returns the points of one repeat, up to the explosion."""
    settings, name = loaded.config.sweep, optimizer_name(loaded)
    points: list[Point] = []
    sums = EpochSums(learning, (), learner.device)
    _begin(loaded, learner)
    for step, lr in enumerate(rates(settings)):
        assign_lr(learner.optimizer, lr * length / stride(name, SETTLE_STEPS + step + 1))
        try:
            _step(learner, batches, loss_of, SETTLE_STEPS + repeat * settings.steps + step, sums, stop)
        except NotFinite:
            break
        valid_loss = validate(learner, loss_of, learning)
        bar.update()
        if not math.isfinite(valid_loss):
            break
        points.append(Point(repeat, step, lr, valid_loss, sums.means().loss))
        if has_exploded(smooth([point.valid_loss for point in points], settings.smoothing)):
            break
    bar.update(settings.steps * (repeat + 1) - bar.n)
    return points


def _begin(loaded: Loaded, learner: Learner) -> None:
    learner.network.train()
    freeze(learner.network, loaded.plan[0].freeze)


def _step(learner: Learner, batches: Iterator, loss_of: Criterion, seed: int, sums: EpochSums, stop: Stop) -> None:
    """Does one training step; a loss scaler that leaves it out gets further batches, with its smaller scales.

    Raises:
        Stopped: a stop was requested.
        NotFinite: the loss is not finite, or the gradient at every scale.
    """
    for _ in range(MOST_SCALES):
        if stop.requested:
            raise Stopped(f"{stop.reason}; the LR sweep begins anew")
        batch = next(batches)
        torch.manual_seed(seed)
        sums.reset()
        scale = learner.scaler.get_scale()
        # Its answer need not lag: each step is followed by a validation.
        train_step(learner, batch, loss_of, sums, FiniteWatch(lags=False))
        if learner.scaler.get_scale() >= scale:
            return
    raise NotFinite("the gradient is not finite at any loss scale")


def optimizer_name(loaded: Loaded) -> str:
    """Returns the optimizer that sweeps: the experiment's own, or plain SGD as the original swept with."""
    return "SGD" if loaded.config.sweep.optimizer == "SGD" else loaded.config.solver.optimizer.name


def _optimizer(loaded: Loaded, learner: Learner) -> torch.optim.Optimizer:
    """Returns a fresh optimizer for the sweep; SWEEP.OPTIMIZER SGD knows neither momentum nor weight decay."""
    chosen = loaded.config.solver.optimizer
    is_plain = loaded.config.sweep.optimizer == "SGD"
    return build_optimizer(
        learner.network,
        name=optimizer_name(loaded),
        weight_decay=0.0 if is_plain else chosen.weight_decay,
        encoder_lr_factor=chosen.encoder_lr_factor,
        decay_norm_and_bias=chosen.decay_norm_and_bias,
        momentum=0.0 if is_plain else chosen.momentum,
    )
