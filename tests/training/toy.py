"""A training of milliseconds: a network of two convolutions on noise, with the real loop, state and checkpoints."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from pipeline.config.load import Loaded, load
from pipeline.config.loss_mix import parse_mix
from pipeline.config.plan import Phase
from pipeline.config.schema import Config, Optimizer
from pipeline.engine.stopping import Stop
from pipeline.errors import Stopped
from pipeline.paths import BEST, HISTORY, LAST, RunPaths
from pipeline.paths import STEPS as STEPS_TABLE
from pipeline.segmentation.learning import bind
from pipeline.task import Batch, Learning, Score, Scores
from pipeline.training.assemble import assemble, loss_terms, restore
from pipeline.training.finite import FiniteWatch
from pipeline.training.learner import Learner, build_scaler
from pipeline.training.optimizer import EmaWeights, build_optimizer
from pipeline.training.resume import content_to_continue, course_of, plan_to_follow
from pipeline.training.state import TrainState
from pipeline.training.step import EpochSums, Means
from pipeline.training.trainer import RunData, Training, train
from tests.tiny import run_of, run_paths

CLASSES = ("Ground", "Road", "Car")
STEPS, BATCH_SIZE, SIDE = 4, 4, 8
NUM_VALID_BATCHES = 2
OVERFLOWING = 2.0**19  # a loss scale at which gradients overflow float16, so that the first steps are left out
SETTINGS = (
    "DATALOADERS.TRAIN.BATCH_SIZE=4",
    "LOSS_FN.MIX=1 ce",
    "RUNTIME.LOG_STEPS=1",
    "SOLVER.PLAN=flat_cosine",
    "SOLVER.MAX_LR=0.05",
    "SOLVER.NUM_EPOCHS=3",
    "SOLVER.ANN_EPOCHS=2",
    "SOLVER.PATIENCE=2",
)


class Toy(nn.Module):
    """Two convolutions with batch norm and dropout between, in the parts that real networks have."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU())
        self.decoder = nn.Dropout(0.3)
        self.segmentation_head = nn.Conv2d(4, len(CLASSES), 1)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.segmentation_head(self.decoder(self.encoder(image_BCHW)))


class StopAt(Stop):
    """A stop that is requested when it has been asked about for the `count`-th time."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.left = count

    @property
    def requested(self) -> bool:
        self.left -= 1
        if self.left < 0:
            self.reason = "the test says so"
        return self.reason is not None


def train_in_pieces(loaded: Loaded) -> int:
    """Trains a run anew, stopped at every other question and continued; returns how many stops there were."""
    for path in run_paths(loaded.run).folder.glob("*.ckpt"):
        path.unlink()
    stops = 0
    while True:
        try:
            train(assemble(run_of(loaded, lambda line: None, StopAt(2))))
            return stops
        except Stopped:
            stops += 1


def batch(*seed: int, keys: Sequence[Any] = ()) -> Batch:
    """Returns images of noise whose brightness depends on the class, and their masks: a function of the seed."""
    generator = torch.Generator().manual_seed(sum(part << (16 * index) for index, part in enumerate(seed)))
    mask_BHW = torch.randint(0, len(CLASSES), (BATCH_SIZE, SIDE, SIDE), generator=generator, dtype=torch.uint8)
    noise_BHWC = torch.randint(0, 120, (BATCH_SIZE, SIDE, SIDE, 3), generator=generator, dtype=torch.uint8)
    return Batch(noise_BHWC + mask_BHW[..., None] * 60, mask_BHW, list(keys))


def train_batches(epoch: int, start_step: int, augment: bool, class_scores: Sequence[float]) -> Iterator[Batch]:
    for step in range(start_step, STEPS):
        yield batch(epoch, step, int(augment), keys=[f"epoch {epoch} sample {step}"])


def valid_batches() -> Iterator[Batch]:
    return iter([batch(999, index) for index in range(NUM_VALID_BATCHES)])


def toy_learning(config: Config, device: torch.device) -> Learning:
    """Returns what training needs of segmentation for the toy's classes, all scored and in the loss."""
    every = range(len(CLASSES))
    return bind(CLASSES, every, every, len(CLASSES), config.loss_fn, device)


def optimizer_named(
    network: nn.Module,
    name: str,
    weight_decay: float = 0.0,
    encoder_lr_factor: float = 1.0,
    decay_norm_and_bias: bool = True,
    momentum: float = 0.9,
    encoder_lr_decay: float = 1.0,
) -> torch.optim.Optimizer:
    """Returns an optimizer by its name, with the settings of a test."""
    rates = (encoder_lr_factor, encoder_lr_decay)
    return build_optimizer(network, Optimizer(name, weight_decay, momentum, *rates, decay_norm_and_bias))


def make(
    name: str = "toy",
    changes: Sequence[str] = (),
    stop: Stop | None = None,
    plan: Sequence[Phase] | None = None,
    lags: bool = False,
    has_scaler: bool = False,
    device: torch.device | str = "cpu",
    precision: torch.dtype = torch.float32,
    log: Callable[[str], None] = lambda line: None,
    batches: Callable[..., Iterator[Batch]] = train_batches,
    key: str = "key",
    network: nn.Module | None = None,
    learning_of: Callable[[Config, torch.device], Learning] = toy_learning,
    validation: Callable[[], Iterator[Batch]] = valid_batches,
) -> Training:
    """Returns a training in the run folder `name`, new or as an earlier one left it.

    Args:
        network: with its first weights; None: a `Toy`.
        learning_of: the task's part; `batches` and `validation` yield labels that it understands.
        has_scaler: whether it is in float16 with a loss scaler, whose scale grows every third step until gradients
            overflow.
    """
    settings = dict(text.split("=", 1) for text in (*SETTINGS, *changes))
    loaded = load("demo", tuple(f"{key}={value}" for key, value in settings.items()))
    config, solver = loaded.config, loaded.config.solver
    toy_run = replace(run_of(replace(loaded, run=name), log, stop), key=key)
    toy_run.paths.folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(1)
    device = torch.device(device)
    network = (network or Toy()).to(device)
    optimizer = optimizer_named(network, solver.optimizer.name, encoder_lr_factor=solver.optimizer.encoder_lr_factor)
    ema = EmaWeights(network, solver.ema_decay) if solver.ema_decay is not None else None
    precision = torch.float16 if has_scaler else precision
    scaler = build_scaler(device, precision)
    if has_scaler:
        scaler = torch.amp.GradScaler(device.type, init_scale=OVERFLOWING, growth_interval=3)
    learner = Learner(config, network, network, optimizer, scaler, ema, device, precision)
    learning, plan = learning_of(config, device), plan or loaded.plan
    sums = EpochSums(learning, loss_terms(loaded, plan), device)
    content = content_to_continue(toy_run, course_of(toy_run, plan, STEPS))
    return Training(
        run=toy_run,
        config=config,
        plan=plan_to_follow(content, plan),
        learner=learner,
        learning=learning,
        state=TrainState(key) if content is None else restore(content, learner, sums),
        seed=3,
        data=RunData(batches, validation, NUM_VALID_BATCHES * BATCH_SIZE, describe=str, steps_per_epoch=STEPS),
        sums=sums,
        watch=FiniteWatch(lags),
    )


def run(name: str = "toy", **options: Any) -> RunPaths:
    """Trains to the end of the plan or until stopped; returns the run's paths."""
    training = make(name, **options)
    train(training)
    return training.run.paths


def script(monkeypatch, losses: Sequence[float], **scores: Sequence[float | None]) -> None:
    """Makes the following validations return these losses and mean scores, the one before training first.

    Args:
        scores: by name (dice, iou, miou); those that are not given are 0.5.
    """
    indices = iter(range(len(losses)))

    def validate(learner, batches, criterion, learning) -> Means:
        for _ in batches:
            pass
        index = next(indices)
        means = {name: scores[name][index] if name in scores else 0.5 for name in ("dice", "iou", "miou")}
        by_name = {name: Score(mean, [math.nan if mean is None else mean] * 3) for name, mean in means.items()}
        terms = {name: losses[index] for name, _ in parse_mix(learner.config.loss_fn.mix)}
        return Means(losses[index], terms, Scores(by_name, by_name["dice"].classes, [True] * 3))

    monkeypatch.setattr("pipeline.training.trainer.validate", validate)


def history(paths: RunPaths) -> list[dict[str, str]]:
    """Returns the rows of `history.csv`."""
    with open(paths / HISTORY) as file:
        return list(csv.DictReader(file))


def results(paths: RunPaths) -> dict[str, bytes]:
    """Returns the files that must not depend on how often a training was stopped."""
    return {name: (paths / name).read_bytes() for name in (LAST, BEST, HISTORY, STEPS_TABLE)}
