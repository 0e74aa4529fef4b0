"""What a training step costs with each option of a study, as a ratio to the step of the study's reference.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m tests.benchmarks.bench_training_options [steps] [rare]
    ... --study demo_options steps                     the options of another study than dubai_options

Every setting of the study that changes the loss, the network or the solver, with its network, optimizer and batch size,
on one batch of noise with labels of blobs: the step as `train` does it, with the scores of its samples. Then sampling
of rare classes: batches of an epoch, and the search for the shares, against samples that come once each.

Steps of all settings alternate, each after one step of the reference; processor time is measured. `--scale` is
INPUT_SCALE, by default 1; dubai_options has 0.25, demo_options 0.5.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch

from pipeline.config.load import Loaded, load
from pipeline.config.study import load_study
from pipeline.data.build_store import build_store
from pipeline.data.loaders import EpochSampler, rare_class_shares, start_worker
from pipeline.data.store import open_store
from pipeline.segmentation.learning import bind
from pipeline.segmentation.networks import network_of, num_outputs
from pipeline.segmentation.train_samples import TrainDataset, collate_train
from pipeline.task import Batch
from pipeline.training.assemble import loss_terms
from pipeline.training.finite import FiniteWatch
from pipeline.training.learner import build_learner
from pipeline.training.optimizer import assign_lr
from pipeline.training.step import EpochSums, train_step
from tests.benchmarks.bench_augment_options import PLAIN, rules_of
from tests.benchmarks.street_images import CLASSES, write_competition
from tests.data.catalogs import IndexMasks, plain_images

NUM_ROUNDS, BLOB_PX = 9, 16
SMALL_LR = 1e-4  # labels are noise, so with a large rate the weights would diverge
PARTS = ("steps", "rare")
OF_A_STEP = ("LOSS_FN.", "MODEL.", "SOLVER.")  # keys that change a step, or nothing that is measured here
NUM_IMAGES, RARE_RATE, IMAGE_SIZES = 24, 0.3, ((1280, 720),)


def settings_of(name: str, scale: float) -> dict[str, Loaded]:
    """Returns the reference of a study, then its settings that change a training step."""
    study, trainings = load_study(name)
    chosen = {}
    for training in trainings:
        is_step = all(text.startswith(OF_A_STEP) for text in study.settings[training.setting])
        if training.split == study.splits[0] and is_step:
            changes = dict(text.split("=", 1) for text in training.overrides)
            changes |= {"DATASETS.INPUT_SCALE": str(scale), "MODEL.ENCODER.WEIGHTS": "null"}
            chosen[training.setting] = load(training.config, [f"{key}={value}" for key, value in changes.items()])
    return chosen


def step_of(loaded: Loaded) -> Callable[[], object]:
    """Returns a function that does a training step on a fixed batch."""
    config, num_classes = loaded.config, loaded.competition.num_classes
    tile, size = config.datasets.augmentation.tile, config.dataloaders.train.batch_size
    torch.manual_seed(0)
    learner = build_learner(config, network_of(loaded))
    assign_lr(learner.optimizer, SMALL_LR)
    every = range(num_classes)
    # Weights by frequency would be computed before training; any numbers cost the same.
    weights = [1.0 + index for index in every] if isinstance(config.loss_fn.weights, str) else None
    options = {"weights": weights, "aux_weight": config.model.aux_weight}
    names = loaded.competition.class_names
    learning = bind(names, every, every, num_outputs(loaded), config.loss_fn, learner.device, **options)
    sums, watch = EpochSums(learning, loss_terms(loaded, loaded.plan), learner.device), FiniteWatch(lags=False)
    criterion = learning.criterion(config.loss_fn.mix, 1, ())
    images = torch.randint(0, 256, (size, tile.height, tile.width, 3), dtype=torch.uint8)
    blobs = torch.randint(0, num_classes, (size, -(-tile.height // BLOB_PX), -(-tile.width // BLOB_PX)))
    masks = blobs.repeat_interleave(BLOB_PX, 1).repeat_interleave(BLOB_PX, 2)[:, : tile.height, : tile.width]
    batch = Batch(images, masks.to(torch.uint8).contiguous(), [])
    learner.network.train()
    return lambda: train_step(learner, batch, criterion, sums, watch)


def seconds_of(function: Callable[[], object]) -> float:
    """Returns the processor time of a call."""
    began = time.process_time()
    function()
    return time.process_time() - began


def time_steps(study: str, scale: float) -> None:
    """Prints the time of a step with each setting, and the median of its ratios to the reference's step before it."""
    settings = settings_of(study, scale)
    plain, *others = settings
    steps = {name: step_of(loaded) for name, loaded in settings.items()}
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in others}
    for number in range(NUM_ROUNDS + 1):
        for name in others:
            pair = seconds_of(steps[plain]), seconds_of(steps[name])
            if number:  # the first round fills the caches
                seconds[name].append(pair)
    before = [first for pairs in seconds.values() for first, _ in pairs]
    solver, tile = settings[plain].config.dataloaders.train, settings[plain].config.datasets.augmentation.tile
    shape = f"{solver.batch_size} x {tile.width}x{tile.height} at {scale:g} of the size"
    print(f"\na training step of {study}, {shape}: {plain} {1e3 * statistics.median(before):.0f} ms")
    for name, pairs in seconds.items():
        ratio = statistics.median(own / first for first, own in pairs)
        print(f"  {name:40s} {1e3 * statistics.median(own for _, own in pairs):9.1f} ms  x{ratio:.2f}")


def time_rare_classes() -> None:
    """Prints what sampling of rare classes adds to the loading of an epoch, and once before training."""
    with tempfile.TemporaryDirectory() as folder:
        catalog = write_competition(Path(folder) / "data", NUM_IMAGES)
        images, masks = plain_images(Path(folder) / "data"), IndexMasks(Path(folder) / "data")
        store = open_store(build_store(images, catalog, IMAGE_SIZES, Path(folder) / "tiles", masks, lambda line: None))
        dataset = TrainDataset(store, list(catalog.id), rules_of(PLAIN), 1, CLASSES, "ignore")
        found: list = []
        once = seconds_of(lambda: found.append(rare_class_shares(dataset.class_presence(), RARE_RATE, CLASSES)))
        samplers = {"once each": None, "rare classes": found[0]}
        samplers = {name: EpochSampler(dataset, 4, 1, shares=shares) for name, shares in samplers.items()}

        def loaded(sampler: EpochSampler, epoch: int) -> None:
            for keys in sampler.batches(epoch):
                collate_train(dataset.__getitems__(keys))

        seconds: dict[str, list[float]] = {name: [] for name in samplers}
        for epoch in range(1, 5):
            for name, sampler in samplers.items():
                seconds[name].append(seconds_of(lambda own=sampler, epoch=epoch: loaded(own, epoch)))
        pairs = list(zip(*(own[1:] for own in seconds.values()), strict=True))
    print(f"\nloading an epoch of {len(dataset)} samples of 640x352: {1e3 * pairs[0][0]:.0f} ms")
    print(f"  rare classes in at least {RARE_RATE:.0%}: x{statistics.median(own / first for first, own in pairs):.2f}")
    print(f"  once before training: {1e3 * once:.0f} ms")


def main() -> None:
    """Prints the parts that are named on the command line, or both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", default="dubai_options")
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("parts", nargs="*", default=PARTS)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    start_worker()
    if "steps" in chosen.parts:
        time_steps(chosen.study, chosen.scale)
    if "rare" in chosen.parts:
        time_rare_classes()


if __name__ == "__main__":
    main()
