"""A training step end to end against its bare bones, and an epoch with copy-paste against one without.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m tests.benchmarks.bench_step
    python -m tests.benchmarks.bench_step --workers 4 --batch 16 --steps 50 --precision float16     on a GPU

1. Ours: `train_epoch`, that is data with full augmentation, transfer, normalisation, loss, optimizer, metrics, the
   progress bar, `steps.csv`, the checks of finiteness and of the time since the last checkpoint. Bound: forward,
   backward and optimizer on one batch that is on the device already. Bar: 5 % on a CPU, 0.95 of the bound's throughput
   on a GPU.
2. The same bare step on NCHW, as the original had it, against channels_last. Bar: x1.2 on a CPU.
3. Epochs of ExpABF with copy-paste, without, and with the original's blocking pass before the epoch. Bar: x1.15.
4. The bare step in bfloat16 against float32. Bar: x1.3 on a CPU that has instructions for it (avx512_bf16, amx_bf16).

On a CPU processor time of this process is measured, which neighbours disturb least: leave `--workers` at 0 there, so
that data loading counts in full. On a GPU it is the wall clock.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import torch

from pipeline.config.load import Loaded, load
from pipeline.data.build_store import build_store
from pipeline.data.loaders import EpochSampler, image_loader, train_batches
from pipeline.data.store import open_store
from pipeline.engine.run import Run
from pipeline.engine.stopping import Stop
from pipeline.paths import STEPS, Folders
from pipeline.segmentation.learning import bind
from pipeline.segmentation.networks import build_network
from pipeline.segmentation.train_samples import TrainDataset, collate_train
from pipeline.stages import stages_of, task_of
from pipeline.task import Batch, Criterion, Learning
from pipeline.training.assemble import loss_terms
from pipeline.training.device import make_reproducible
from pipeline.training.encoder import normalise, scaling_of
from pipeline.training.finite import FiniteWatch
from pipeline.training.history import StepLog
from pipeline.training.learner import Learner, autocast, build_learner
from pipeline.training.state import TrainState
from pipeline.training.step import EpochSums
from pipeline.training.trainer import RunData, Training, train_epoch
from tests.benchmarks.bench_copy_paste import paste_float64
from tests.benchmarks.street_images import CLASSES, NUM_CLASSES, read_images
from tests.data.catalogs import IndexMasks, plain_images

WIDTH, HEIGHT = 640, 352
STEP_BAR, GPU_BAR, PASTE_BAR, LAYOUT_BAR, FORMAT_BAR = 1.05, 0.95, 1.15, 1.2, 1.3


class Clock:
    """Adds up seconds by name: of the processor, or where a GPU works on the wall, once it is done."""

    def __init__(self, is_gpu: bool) -> None:
        self.is_gpu, self.spent = is_gpu, dict.fromkeys(("data", "metrics"), 0.0)

    def now(self) -> float:
        if self.is_gpu:
            torch.cuda.synchronize()
        return time.perf_counter() if self.is_gpu else time.process_time()

    def timed(self, name: str, function: Callable) -> Callable:
        """Returns the function with its processor time added; for a CPU, as a GPU would have to be waited for."""

        def call(*arguments):
            began = time.process_time()
            result = function(*arguments)
            self.spent[name] += time.process_time() - began
            return result

        return call

    def timed_batches(self, batches: Iterable) -> Iterator:
        iterator = iter(batches)
        following = self.timed("data", lambda: next(iterator, None))
        while (batch := following()) is not None:
            yield batch


def write_images(folder: Path, num_images: int) -> pd.DataFrame:
    """Writes street images of 640x352 and returns their catalog."""
    rows = []
    for name in ("imgs", "masks"):
        (folder / name).mkdir(parents=True)
    for number, (image, mask) in enumerate(read_images(num_images)):
        row = {"id": f"{number:03d}", "image": f"imgs/{number:03d}.jpg", "mask": f"masks/{number:03d}.png"}
        image = cv2.cvtColor(cv2.resize(image, (WIDTH, HEIGHT), interpolation=cv2.INTER_AREA), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / row["image"]), image)
        cv2.imwrite(str(folder / row["mask"]), cv2.resize(mask, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST))
        rows.append({**row, "width": WIDTH, "height": HEIGHT})
    return pd.DataFrame(rows)


def load_experiment(name: str, chosen: argparse.Namespace, *changes: str) -> Loaded:
    return load(
        name,
        (
            *(f"MODEL.ENCODER.NAME={chosen.encoder}", "MODEL.ENCODER.WEIGHTS=null", "DATASETS.SPLIT_INDEX=0"),
            *("DATASETS.AUGMENTATION.TILE.ENABLE=false", f"DATALOADERS.TRAIN.BATCH_SIZE={chosen.batch}"),
            *(f"SOLVER.PRECISION={chosen.precision}", *changes),
        ),
    )


def make_learner(loaded: Loaded) -> Learner:
    return build_learner(loaded.config, build_network(loaded.config.model, NUM_CLASSES))


def make_learning(loaded: Loaded, learner: Learner) -> Learning:
    """Returns what training needs of segmentation, with every class scored and in the loss."""
    every = range(NUM_CLASSES)
    return bind(CLASSES, every, every, NUM_CLASSES, loaded.config.loss_fn, learner.device)


def make_training(loaded: Loaded, learner: Learner, folder: Path, ids: list[str], num_workers: int) -> Training:
    """Returns a training as `assemble` makes it, except that it never validates."""
    store = open_store(next(path for path in (folder / "stores").iterdir() if path.is_dir()))
    dataset = TrainDataset(store, ids, loaded.config.datasets.augmentation, 1, CLASSES)
    sampler = EpochSampler(dataset, loaded.config.dataloaders.train.batch_size, 1)
    loader = image_loader(dataset, sampler, collate_train, num_workers, pin_memory=learner.device.type == "cuda")

    def batches(epoch: int, start_step: int, augment: bool, class_scores: Sequence[float]) -> Iterator[Batch]:
        dataset.set_class_scores(class_scores)
        return train_batches(loader, epoch, start_step, augment)

    folders = replace(Folders.from_environment(), runs=folder / "runs")
    run = Run(loaded, folders, print, Stop(), stages_of, task_of)
    run.paths.folder.mkdir(parents=True, exist_ok=True)
    learning, terms = make_learning(loaded, learner), loss_terms(loaded, loaded.plan)
    return Training(
        run=run,
        config=loaded.config,
        plan=loaded.plan,
        learner=learner,
        learning=learning,
        state=TrainState("", class_scores=np.linspace(0.1, 0.9, NUM_CLASSES).tolist()),
        seed=1,
        data=RunData(batches, lambda: iter(()), num_valid=0, describe=str, steps_per_epoch=len(sampler)),
        sums=EpochSums(learning, terms, learner.device),
        watch=FiniteWatch(lags=learner.device.type == "cuda"),
        step_log=StepLog(run.paths / STEPS, loaded.config.runtime.log_steps, terms, len(sampler), epoch=1, step=0),
    )


def one_epoch(training: Training, num_steps: int | None = None) -> None:
    """Trains a whole epoch, or its last `num_steps` steps."""
    training.state.step = training.data.steps_per_epoch - (num_steps or training.data.steps_per_epoch)
    training.state.epoch += 1
    train_epoch(training, training.plan[0])


def fixed_loss(loaded: Loaded, learner: Learner) -> Criterion:
    """Returns the loss by which every epoch is validated."""
    return make_learning(loaded, learner).criterion(loaded.config.loss_fn.mix, 0, ())


def bare_step(
    learner: Learner, forward: Callable, images: torch.Tensor, masks: torch.Tensor, criterion: Criterion
) -> None:
    """Forward, backward, optimizer; nothing else."""
    learner.optimizer.zero_grad(set_to_none=True)
    learner.scaler.scale(criterion(forward(images), masks).total).backward()
    learner.scaler.step(learner.optimizer)
    learner.scaler.update()


def step_overhead(chosen: argparse.Namespace, folder: Path, ids: list[str]) -> None:
    """Prints the cost of a step of ours beside the bare one, and where the difference goes."""
    loaded = load_experiment("ExpBAA", chosen)
    learner = make_learner(loaded)
    training = make_training(loaded, learner, folder, ids, chosen.workers)
    clock, plain_batches = Clock(learner.device.type == "cuda"), training.data.train_batches
    batch = next(plain_batches(1, 0, True, training.state.class_scores))
    if not clock.is_gpu:
        training.data = replace(
            training.data, train_batches=lambda *arguments: clock.timed_batches(plain_batches(*arguments))
        )
        training.sums.add = clock.timed("metrics", training.sums.add)
        sample_sums = clock.timed("metrics", training.learning.sample_sums)
        training.sums.learning = replace(training.learning, sample_sums=sample_sums)
    criterion = fixed_loss(loaded, learner)
    images, masks = batch.images.to(learner.device), batch.labels.to(learner.device)

    def bare() -> None:
        for _ in range(chosen.steps):
            bare_step(learner, learner.outputs, images, masks, criterion)

    seconds = alternate({"bare": bare, "ours": lambda: one_epoch(training, chosen.steps)}, chosen.rounds, clock)
    ratio = statistics.median(ours / bare for ours, bare in zip(seconds["ours"], seconds["bare"], strict=True))
    bare_s, ours_s = (statistics.median(seconds[name]) / chosen.steps for name in ("bare", "ours"))
    print(
        f"1. a step of FPN/{chosen.encoder}, {chosen.batch} x {WIDTH}x{HEIGHT}, {learner.precision}, {learner.device}"
    )
    print(f"  bare step on a fixed batch (bound) {bare_s * 1e3:10.1f} ms")
    print(f"  ours, end to end                   {ours_s * 1e3:10.1f} ms   x{ratio:.3f}")
    if clock.is_gpu:
        print(f"  throughput {1 / ratio:.3f} of the bound; bar: {GPU_BAR}")
        return
    num_steps = chosen.steps * (chosen.rounds + 1)
    for name, spent in clock.spent.items():
        print(f"    {name:<33}{spent / num_steps * 1e3:10.1f} ms   {spent / num_steps / ours_s:6.1%}")
    rest = ours_s * (1 - 1 / ratio) - sum(clock.spent.values()) / num_steps
    print(f"    {'all else (logging, finiteness, ...)':<33}{rest * 1e3:8.1f} ms   {rest / ours_s:6.1%}")
    print(f"  bar: x{STEP_BAR} (reached x{ratio:.3f})")


def memory_layout(chosen: argparse.Namespace) -> None:
    """Prints what channels_last gains."""
    ways = {
        name: bare_steps(chosen, chosen.precision, layout)
        for name, layout in (("NCHW", torch.contiguous_format), ("channels_last", torch.channels_last))
    }
    print_gain("2. memory layout, the bare step", ways, chosen, f"x{LAYOUT_BAR} on a CPU")


def number_format(chosen: argparse.Namespace) -> None:
    """Prints what bfloat16 gains."""
    ways = {name: bare_steps(chosen, name, torch.channels_last) for name in ("float32", "bfloat16")}
    print_gain("4. number format, the bare step", ways, chosen, f"x{FORMAT_BAR} on a CPU with instructions for it")


def bare_steps(chosen: argparse.Namespace, precision: str, layout: torch.memory_format) -> Callable[[], None]:
    """Returns a function that trains on one fixed batch for `chosen.steps` steps."""
    loaded = load_experiment("ExpBAA", argparse.Namespace(**{**vars(chosen), "precision": precision}))
    learner = make_learner(loaded)
    learner.network.to(memory_format=layout)
    criterion, scaling = fixed_loss(loaded, learner), scaling_of(learner.network, learner.config.model.encoder)
    images = torch.randint(0, 256, (chosen.batch, HEIGHT, WIDTH, 3), dtype=torch.uint8, device=learner.device)
    masks = torch.randint(0, NUM_CLASSES, (chosen.batch, HEIGHT, WIDTH), dtype=torch.uint8, device=learner.device)

    def forward(images: torch.Tensor) -> torch.Tensor:
        inputs = normalise(images, scaling).contiguous(memory_format=layout)
        with autocast(learner.device, learner.precision):
            return learner.network(inputs)

    def steps() -> None:
        for _ in range(chosen.steps):
            bare_step(learner, forward, images, masks, criterion)

    return steps


def print_gain(title: str, ways: dict[str, Callable[[], None]], chosen: argparse.Namespace, bar: str) -> None:
    """Times two ways of the same steps and prints how many times faster the second one is."""
    seconds = alternate(ways, chosen.rounds, Clock(torch.cuda.is_available()))
    gain = statistics.median(one / other for one, other in zip(*seconds.values(), strict=True))
    print(title)
    for name, values in seconds.items():
        print(f"  {name:<35}{statistics.median(values) / chosen.steps * 1e3:10.1f} ms")
    print(f"  bar: {bar} (reached x{gain:.2f})")


def copy_paste_epochs(chosen: argparse.Namespace, folder: Path, ids: list[str]) -> None:
    """Prints what copy-paste adds to an epoch."""
    learner = make_learner(load_experiment("ExpABF", chosen))
    trainings = {}
    for name, is_on in (("without", "false"), ("with", "true")):
        loaded = load_experiment(
            "ExpABF", chosen, *(f"DATASETS.AUGMENTATION.COPY_PASTE.{text}" for text in (f"ENABLE={is_on}", "DELAY=0"))
        )
        trainings[name] = make_training(loaded, learner, folder, ids, chosen.workers)
    images = [
        (cv2.resize(image, (WIDTH, HEIGHT)), cv2.resize(mask, (WIDTH, HEIGHT), interpolation=0))
        for image, mask in read_images(len(ids))
    ]

    def naive() -> None:
        for number, (image, mask) in enumerate(images):
            if number % 3:  # two thirds of them, as there
                paste_float64(image, mask, *images[number - 1], [int(index) for index in np.unique(mask)[:3]])
        one_epoch(trainings["without"])

    ways = {name: (lambda training=training: one_epoch(training)) for name, training in trainings.items()}
    clock = Clock(learner.device.type == "cuda")
    seconds = alternate({**ways, "blocking pass (naive)": naive}, chosen.rounds, clock)
    print(f"3. an epoch of ExpABF, FPN/{chosen.encoder}, {len(ids)} x {WIDTH}x{HEIGHT}")
    for name, values in seconds.items():
        ratio = statistics.median(one / plain for one, plain in zip(values, seconds["without"], strict=True))
        print(f"  {name:<35}{statistics.median(values):10.2f} s    x{ratio:.3f}")
    print(f"  bar: x{PASTE_BAR} of an epoch without")


def alternate(ways: dict[str, Callable[[], None]], num_rounds: int, clock: Clock) -> dict[str, list[float]]:
    """Returns the seconds of each way in every round; a first round is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(num_rounds + 1):
        for name, way in ways.items():
            began = clock.now()
            way()
            if number:
                seconds[name].append(clock.now() - began)
    return seconds


def main() -> None:
    """Reads the arguments and prints all parts, or the chosen one."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--part", type=int, choices=(1, 2, 3, 4), help="only this one")
    parser.add_argument("--encoder", default="efficientnet-b3")
    parser.add_argument("--batch", type=int, default=2)
    parser.add_argument("--steps", type=int, default=2, help="in a round of parts 1 and 2")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--images", type=int, default=4, help="in an epoch")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--precision", default="auto")
    chosen = parser.parse_args()
    cv2.setNumThreads(0)
    make_reproducible(False)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalog = write_images(folder / "data", chosen.images)
        build_store(
            plain_images(folder / "data"),
            catalog,
            None,
            folder / "stores",
            IndexMasks(folder / "data"),
            log=lambda line: None,
        )
        ids = list(catalog.id)
        if chosen.part in (None, 1):
            step_overhead(chosen, folder, ids)
        if chosen.part in (None, 2):
            memory_layout(chosen)
        if chosen.part in (None, 3):
            copy_paste_epochs(chosen, folder, ids)
        if chosen.part in (None, 4):
            number_format(chosen)


if __name__ == "__main__":
    main()
