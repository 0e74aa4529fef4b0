"""LR sweep: a short training whose rate grows from step to step, the validation loss watched after each.

Smith 2017 (arXiv:1506.01186) is the idea, fastai's finder the habit. What differs: the loss looked at is that of a
fixed handful of validation pictures which hold every class; suggestions look left of the minimum only, because the
steepest point of the whole curve is often the rebound after the explosion; several repeats give a band. The sweep has
a network and an optimizer of its own, so nothing that training uses is touched.

In: tile store, split. Out: `lr_sweep.csv`, `lr_sweep.json`.
"""

from __future__ import annotations

import csv
import io
import itertools
import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from tqdm import tqdm

from pipeline.config.competition import num_scored
from pipeline.config.load import Loaded
from pipeline.config.schema import Sweep
from pipeline.data.competition import find_folder
from pipeline.data.dataset import ValidDataset
from pipeline.data.loaders import valid_batches, valid_loader
from pipeline.errors import Stopped, UserError
from pipeline.files import write_atomic
from pipeline.model.build import normalise
from pipeline.model.freeze import freeze
from pipeline.model.optimizer import build_optimizer
from pipeline.paths import RunPaths
from pipeline.stopping import Stop
from pipeline.training.assemble import open_data, start_learner
from pipeline.training.criterion import Criterion, criterion, fixed_weights
from pipeline.training.finite import FiniteWatch, NotFinite
from pipeline.training.inputs import counted_classes, num_outputs, split_rows
from pipeline.training.learner import Learner, autocast, build_scaler, make_reproducible
from pipeline.training.step import EpochSums, train_step
from pipeline.training.sweep_curve import Point, curves_of, has_exploded, judge_curves, smooth

REPEAT_EPOCH = 100_000  # repeats draw their samples from epochs that no training reaches


def sweep_learning_rates(
    loaded: Loaded, paths: RunPaths, stop: Stop, find_run: Callable[[str], Path], say: Callable[[str], None]
) -> None:
    """Sweeps the learning rate, writes curve and suggestions, and says them.

    Raises:
        Stopped: a stop was requested; the sweep is short and begins anew.
        UserError: the loss is not finite even at the lowest rate.
    """
    judged = list(_judged_batches(loaded, paths))
    points = sweep_points(loaded, paths, stop, find_run, say, lambda learner, loss_of: _judge(learner, judged, loss_of))
    if not points:
        start_lr = loaded.config.sweep.start_lr
        cure = "set SOLVER.PRECISION=float32 or look at the data"
        raise UserError(f"the loss is not finite even at SWEEP.START_LR {start_lr:g}; {cure}")
    write_sweep(paths, points, loaded.config.sweep.smoothing, loaded.config.solver.max_lr, say)


def sweep_points(
    loaded: Loaded,
    paths: RunPaths,
    stop: Stop,
    find_run: Callable[[str], Path],
    say: Callable[[str], None],
    judge: Callable[[Learner, Criterion], float],
) -> list[Point]:
    """Returns the points of all repeats, each from the same start on batches of its own.

    Args:
        judge: the validation loss that follows a step.
    """
    settings = loaded.config.sweep
    make_reproducible(loaded.config.solver.reproducible)
    learner = start_learner(loaded, find_run)
    start = {name: value.detach().clone() for name, value in learner.network.state_dict().items()}
    data = open_data(loaded, paths, say)
    points: list[Point] = []
    with tqdm(total=settings.repeats * settings.steps, desc="LR sweep", leave=False, disable=None) as bar:
        for repeat in range(settings.repeats):
            learner.network.load_state_dict(start)
            # Averaged weights would hide what the present rate does.
            scaler = build_scaler(learner.device, learner.precision)
            fresh = replace(learner, optimizer=_optimizer(loaded, learner), scaler=scaler, ema=None)
            epochs = (data.train_batches(REPEAT_EPOCH * (repeat + 1) + more, 0, True, []) for more in itertools.count())
            batches = itertools.chain.from_iterable(epochs)
            points += _sweep_once(loaded, fresh, batches, judge, repeat, stop, bar)
    return points


def write_sweep(
    paths: RunPaths, points: Sequence[Point], smoothing: float, max_lr: float | str, say: Callable[[str], None]
) -> None:
    """Writes `lr_sweep.csv` and `lr_sweep.json`, and says the suggestions."""
    curves = curves_of(points, smoothing)
    table = io.StringIO()
    writer = csv.writer(table, lineterminator="\n")
    writer.writerow(["repeat", "step", "lr", "valid_loss", "valid_loss_smooth", "train_loss", "train_loss_smooth"])
    for curve in curves:
        for point, valid, train in zip(curve.points, curve.valid_smooth, curve.train_smooth, strict=True):
            writer.writerow([point.repeat, point.step, point.lr, point.valid_loss, valid, point.train_loss, train])
    facts = judge_curves(curves, max_lr)
    write_atomic(paths / "lr_sweep.csv", table.getvalue())
    write_atomic(paths / "lr_sweep.json", json.dumps(facts, indent=1))
    band = facts["band"]
    told = (
        f"{name} {rate:.2g} ({band[name][0]:.2g} to {band[name][1]:.2g})" for name, rate in facts["suggestions"].items()
    )
    say(f"LR sweep suggests {', '.join(told)}; MAX_LR is {facts['max_lr']:.2g}")
    for warning in facts["warnings"]:
        say(f"warning: {warning}")


def rates(settings: Sweep) -> list[float]:
    """Returns the learning rate of every step: from START_LR to END_LR, the same factor each time."""
    growth = (settings.end_lr / settings.start_lr) ** (1 / (settings.steps - 1))
    return [settings.start_lr * growth**step for step in range(settings.steps)]


def choose_pictures(rows: pd.DataFrame, count: int) -> list[str]:
    """Returns ids of validation pictures that together hold every class they can: rarest classes first, greedily.

    Args:
        rows: catalog rows with `id` and `pixels_<class>` columns.
    """
    columns = [name for name in rows.columns if name.startswith("pixels_") and name != "pixels_ignored"]
    present = rows[columns].to_numpy() > 0
    rarity = 1 / np.maximum(present.sum(0), 1)
    chosen: list[int] = []
    seen = np.zeros(present.shape[1], int)
    for _ in range(min(count, len(rows))):
        gain = (present * (rarity / (1 + seen) ** 2)).sum(1)
        gain[chosen] = -1
        chosen.append(int(gain.argmax()))
        seen += present[chosen[-1]]
    return rows["id"].iloc[sorted(chosen)].tolist()


def _sweep_once(
    loaded: Loaded, learner: Learner, batches: Iterator, judge: Callable, repeat: int, stop: Stop, bar: tqdm
) -> list[Point]:
    """Returns the points of one repeat, up to the explosion."""
    settings = loaded.config.sweep
    loss_of = _criterion(loaded, learner)
    points: list[Point] = []
    sums = EpochSums(num_scored(loaded.competition), learner.device)
    watch = FiniteWatch(lags=False)  # each step is judged anyway
    learner.network.train()
    freeze(learner.network, loaded.plan[0].freeze)
    for step, lr in enumerate(rates(settings)):
        if stop.requested:
            raise Stopped(f"{stop.reason}; the LR sweep begins anew")
        for group in learner.optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
        picture_BHWC, mask_BHW, _ = next(batches)
        torch.manual_seed(repeat * settings.steps + step)
        sums.reset()
        try:
            train_step(learner, picture_BHWC, mask_BHW, loss_of, sums, watch)
        except NotFinite:
            break
        valid_loss = judge(learner, loss_of)
        bar.update()
        if not math.isfinite(valid_loss):
            break
        points.append(Point(repeat, step, lr, valid_loss, sums.means()["loss"]))
        if has_exploded(smooth([point.valid_loss for point in points], settings.smoothing)):
            break
    bar.update(settings.steps * (repeat + 1) - bar.n)
    return points


def _criterion(loaded: Loaded, learner: Learner) -> Criterion:
    """Returns the loss that training begins with."""
    loss_fn, counted = loaded.config.loss_fn, counted_classes(loaded)
    weights = fixed_weights(loss_fn.weights, counted, num_scored(loaded.competition), num_outputs(loaded))
    weights = None if weights is None else weights.to(learner.device)
    return criterion(loaded.plan[0].loss or loss_fn.mix, weights, num_outputs(loaded))


def _judge(learner: Learner, judged: list, loss_of: Criterion) -> float:
    total = count = 0
    with learner.judged() as network:
        for batch in judged:
            picture_BHWC, mask_BHW = batch.picture_BHWC.to(learner.device), batch.mask_BHW.to(learner.device)
            with autocast(learner.device, learner.precision):
                logits_BCHW = network(normalise(picture_BHWC, learner.config.model.encoder))
            total += float(loss_of(logits_BCHW, mask_BHW)) * len(mask_BHW)
            count += len(mask_BHW)
    return total / count


def _judged_batches(loaded: Loaded, paths: RunPaths) -> Iterator:
    """Yields the fixed validation pictures as batches, decoded once for the whole sweep."""
    datasets, competition = loaded.config.datasets, loaded.competition
    rows = split_rows(paths, "valid")
    chosen = rows[rows["id"].isin(choose_pictures(rows, loaded.config.sweep.pictures))]
    folder = find_folder(competition, datasets.directory)
    dataset = ValidDataset(folder, chosen, competition.ignore_index, datasets.padding)
    yield from valid_batches(valid_loader(dataset, loaded.config.dataloaders.valid.batch_size, num_workers=0))


def _optimizer(loaded: Loaded, learner: Learner) -> torch.optim.Optimizer:
    """Returns a fresh optimizer: the experiment's own, or plain SGD as the original swept with."""
    chosen = loaded.config.solver.optimizer
    is_plain = loaded.config.sweep.optimizer == "SGD"
    return build_optimizer(
        learner.network,
        name="SGD" if is_plain else chosen.name,
        weight_decay=0.0 if is_plain else chosen.weight_decay,
        encoder_lr_factor=chosen.encoder_lr_factor,
        decay_norm_and_bias=chosen.decay_norm_and_bias,
        momentum=0.0 if is_plain else chosen.momentum,
    )
