"""Batches of images and labels: which samples form them, and the workers that load them.

An epoch's order, batches of one size and how often rare classes come are a pure function of (seed, epoch), so an epoch
can be entered at any step. From any number of workers batches come in the same order.
"""

from __future__ import annotations

import ctypes
import faulthandler
import math
import os
import shutil
import signal
import threading
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset, Sampler

from pipeline.data.images import num_cores
from pipeline.data.open_loaders import noted
from pipeline.data.order import by_shards, distinct_frames, draw_shares, num_batches, similar_together, times_before
from pipeline.data.parts import block
from pipeline.data.streams import ORDER
from pipeline.errors import UserError
from pipeline.task import Batch

MAX_ROUNDS = 1000  # of proportional fitting; a rate that can be reached is within a few dozen
RATE_TOLERANCE = 1e-4
Collate = Callable[[list], Batch]  # samples of the dataset to a batch
PREFETCH = 2  # batches each worker keeps ready
TIME_OUT_S = 300  # a sample takes milliseconds; a worker silent for so long hangs
GRACE_S = 10  # between SIGTERM and a worker's end
IN_WORKER = f"{UserError.__module__}.{UserError.__qualname__}: "  # before the message, in a traceback
SHARED_MEMORY = Path("/dev/shm")
MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_THRESHOLD = -1, -3  # numbers of glibc's malloc.h
KEPT_BYTES = 2**28  # more than any batch of images; the settings take an int
NO_WORKERS = "DATALOADERS.TRAIN.NUM_WORKERS=0 DATALOADERS.VALID.NUM_WORKERS=0"


class SampleKey(NamedTuple):
    """What a training sample is made from: `epoch` from 1, `index` of image and tile, and how often it was drawn."""

    epoch: int
    index: int
    augment: bool = True
    repeat: int = 0


class EpochSampler(Sampler):
    """Batches of `SampleKey`s of one epoch, from one step on; set both with `begin` before iterating.

    Of millions of samples it keeps their order, as numbers; the keys of a batch are made when it is due.

    Args:
        dataset: gives the number of samples and, by `frames()`, the size (height, width) of each.
        shares: how often to draw each sample, relative to the others, from `rare_class_shares`; None: once each.
        ranks: of each sample, the position of its image in the store. Then samples of about `window` images are mixed
            at a time, see `by_shards`; None: all.
    """

    def __init__(
        self,
        dataset: Dataset,
        batch_size: int,
        seed: int,
        shuffle: bool = True,
        drop_last: bool = True,
        shares: np.ndarray | None = None,
        ranks: np.ndarray | None = None,
        window: int = 0,
    ):
        self.num_samples, self.batch_size = len(dataset), batch_size
        self.seed, self.shuffle, self.drop_last, self.shares = seed, shuffle, drop_last, shares
        self.ranks, self.window = ranks, window
        frames = dataset.frames()
        self.frames = frames if len(distinct_frames(frames)) > 1 else None
        if self.frames is not None and ranks is not None:
            found = f"needs samples of one size, found {len(distinct_frames(frames))} sizes"
            raise UserError(f"DATALOADERS.TRAIN.SHUFFLE_WINDOW {found}; enable tiles or crops, or set it to 0")
        self.begin(epoch=1)

    def begin(self, epoch: int, start_step: int = 0, augment: bool = True) -> None:
        """Chooses what the next iteration yields."""
        self.epoch, self.start_step, self.augment = epoch, start_step, augment

    def __len__(self) -> int:
        return num_batches(self.num_samples, self.batch_size, self.drop_last)

    def __iter__(self) -> Iterator[list[SampleKey]]:
        return self._batches(self.epoch, self.augment, self.start_step)

    def batches(self, epoch: int, augment: bool = True) -> list[list[SampleKey]]:
        """Returns all batches of an epoch; a pure function of (seed, epoch) and the sampler's settings."""
        return list(self._batches(epoch, augment, 0))

    def _batches(self, epoch: int, augment: bool, start_step: int) -> Iterator[list[SampleKey]]:
        rng = np.random.default_rng((self.seed, epoch, 0, 0, ORDER))
        order = np.arange(self.num_samples) if self.shares is None else draw_shares(self.shares, rng)
        if self.shuffle and self.ranks is not None:
            order = order[by_shards(self.ranks[order], self.window, rng)]
        elif self.shuffle:
            order = rng.permutation(order)
        if self.drop_last:
            order = order[: len(self) * self.batch_size]
        repeats = None if self.shares is None else times_before(order)
        if self.frames is not None:
            by_size = similar_together(self.frames[order], self.batch_size)
            order, repeats = order[by_size], None if repeats is None else repeats[by_size]
        steps = np.arange(len(self))
        if self.frames is not None and self.shuffle:
            steps = rng.permutation(len(self))
        for step in steps[start_step:].tolist():
            part = slice(step * self.batch_size, None if step == len(self) - 1 else (step + 1) * self.batch_size)
            indices = order[part].tolist()
            times = repeats[part].tolist() if repeats is not None else [0] * len(indices)
            yield [SampleKey(epoch, *key) for key in zip(indices, [augment] * len(indices), times, strict=True)]


def rare_class_shares(presence: np.ndarray, rate: float, classes: Sequence[str]) -> np.ndarray:
    """Returns how often to draw each sample so that every class shows in at least `rate` of the draws.

    Of all such shares these are nearest to drawing evenly (least Kullback-Leibler divergence): samples that show the
    same classes stay equal, and classes frequent enough are left alone. Found by iterative proportional fitting.

    Args:
        presence: bool, samples x classes, as from `class_presence` of a dataset. Classes that never show are left out.
        rate: `DATASETS.SAMPLING.RARE_CLASS_RATE`, 0 to 1.

    Returns:
        float64, one per sample, summing to 1.

    Raises:
        UserError: the classes cannot all reach that rate; names the one that falls short.
    """
    kinds, kind_of, counts = np.unique(presence, axis=0, return_inverse=True, return_counts=True)
    kind_of = kind_of.ravel()
    present = np.flatnonzero(kinds.any(axis=0))
    boosts = np.zeros(presence.shape[1])  # logarithm of the factor that each class gives to samples that show it

    def kind_shares() -> np.ndarray:
        logits = kinds @ boosts + np.log(counts)
        shares = np.exp(logits - logits.max())
        return shares / shares.sum()

    for _ in range(MAX_ROUNDS):
        shown = kind_shares() @ kinds[:, present]
        excess = shown - rate
        if ((excess >= -RATE_TOLERANCE) & ((boosts[present] == 0) | (excess <= RATE_TOLERANCE))).all():
            return (kind_shares() / counts)[kind_of]
        for index in present:
            share = np.clip(kind_shares() @ kinds[:, index], 1e-12, 1 - 1e-12)
            wanted = np.clip(rate, 1e-12, 1 - 1e-6)
            boosts[index] = max(0.0, boosts[index] + np.log(wanted * (1 - share) / (share * (1 - wanted))))
    worst = present[np.argmin(kind_shares() @ kinds[:, present])]
    raise UserError(
        f"DATASETS.SAMPLING.RARE_CLASS_RATE is {rate}: the classes cannot all show in that share of the samples; "
        f"{classes[worst]} stays at {kind_shares() @ kinds[:, worst]:.3f}. Lower the rate."
    )


def same_size_batches(dataset: Dataset, batch_size: int) -> list[list[int]]:
    """Returns batches of indices; each holds images of one padded size, with labels or without.

    Windows of a large image come in their order, and share a batch with each other only.
    """
    groups: dict[tuple, list[int]] = {}
    for index in range(len(dataset)):
        groups.setdefault(dataset.group(index), []).append(index)
    cut = [group[start : start + batch_size] for group in groups.values() for start in range(0, len(group), batch_size)]
    return sorted(cut)


def image_loader(
    dataset: Dataset,
    batches: EpochSampler | int,
    collate: Collate,
    num_workers: int,
    pin_memory: bool = False,
    log: Callable[[str], None] = print,
    part: tuple[int, int] = (0, 1),
    time_out_s: float = TIME_OUT_S,
) -> DataLoader:
    """Returns a loader, to be iterated with `train_batches` or `valid_batches`; its workers live through all epochs.

    Args:
        batches: the sampler of training batches; or the size of batches of whole images, which come in the dataset's
            order, except that a batch holds images of one size.
        part: of whole images: which part of the batches, in their order, of how many parts of about one length.
        time_out_s: a worker that sends nothing for so long counts as hanging.
    """
    is_whole = isinstance(batches, int)
    num_workers = available_workers(num_workers, log)
    if num_workers:
        frames = map(dataset.frame, range(len(dataset))) if is_whole else distinct_frames(dataset.frames())
        num_px = max(map(math.prod, frames), default=0)
        num_bytes = num_px * dataset.pixel_bytes
        check_shared_memory(num_workers * (PREFETCH + 1) * num_bytes * (batches if is_whole else batches.batch_size))
    loader = DataLoader(
        dataset,
        batch_sampler=block(same_size_batches(dataset, batches), *part) if is_whole else batches,
        collate_fn=collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        prefetch_factor=PREFETCH if num_workers else None,
        timeout=time_out_s if num_workers else 0,
        worker_init_fn=start_worker,
    )
    return noted(loader)


def train_batches(loader: DataLoader, epoch: int, start_step: int = 0, augment: bool = True) -> Iterator[Batch]:
    """Yields the batches of an epoch from step `start_step` (0 = first) on; keys are `SampleKey`s.

    Raises:
        UserError: a worker died or hung; names likely causes.
    """
    loader.batch_sampler.begin(epoch, start_step, augment)
    yield from valid_batches(loader)


def available_workers(wanted: int, log: Callable[[str], None] = print) -> int:
    """Returns `wanted`, or the number of cores this process may use when that is less."""
    cores = num_cores()
    if wanted <= cores:
        return wanted
    log(f"NUM_WORKERS is {wanted}, but {cores} cores are available: {cores} workers load the data")
    return cores


def check_shared_memory(num_bytes: int, folder: Path = SHARED_MEMORY) -> None:
    """Refuses to start workers whose batches would not fit into shared memory, where they would die by SIGBUS.

    Raises:
        UserError: less than `num_bytes` are free.
    """
    if not folder.exists():
        return
    free = shutil.disk_usage(folder).free
    if free < num_bytes:
        raise UserError(
            f"{folder}, the shared memory, has {free / 2**20:.0f} MiB free; the loader's workers need "
            f"{num_bytes / 2**20:.0f} MiB.\nStart the container with more (docker run --shm-size=2g), lower BATCH_SIZE "
            f"or NUM_WORKERS, or add {NO_WORKERS}"
        )


@contextmanager
def explained_worker_faults(loader: DataLoader | None = None) -> Iterator[None]:
    """Turns torch's errors about dying or silent workers inside the block into a UserError with the likely cause.

    A worker's own UserError comes without the traceback that torch puts before it.
    """
    try:
        yield
    except Exception as error:
        # A frame of torch refers to the error that it raises. When such a cycle is collected, workers may not be told
        # to end any more, and Python waits GRACE_S for them as it exits.
        traceback.clear_frames(error.__traceback__)
        if isinstance(error, UserError):
            raise UserError(str(error).rpartition(IN_WORKER)[2].strip()) from None
        if not isinstance(error, RuntimeError) or "DataLoader" not in str(error):
            raise
        if "timed out" in str(error) and loader is not None:
            for worker in getattr(loader._iterator, "_workers", ()):
                if worker.is_alive():
                    os.kill(worker.pid, signal.SIGUSR1)  # prints its stack
        raise UserError(
            f"{error}\nA data-loading worker died or hung. Most often the machine ran out of memory (check `dmesg`) "
            f"or shared memory: lower NUM_WORKERS or BATCH_SIZE.\nTo get a worker's own error, add {NO_WORKERS}"
        ) from error


def valid_batches(loader: DataLoader) -> Iterator[Batch]:
    """Yields every batch of whole images; keys are `Frame`s. Raises UserError like `train_batches`.

    Before each batch of windows, freed memory is returned: of hundreds of windows glibc would keep a gigabyte.
    """
    with explained_worker_faults(loader):
        iterator = iter(loader)
    _explain_deaths_anywhere()
    while True:
        with explained_worker_faults(loader):
            batch = next(iterator, None)
        if batch is None:
            return
        if batch.windows_of is not None:
            return_freed_memory()
        yield batch


def return_freed_memory() -> None:
    """Gives memory that was freed back to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def _explain_deaths_anywhere() -> None:
    """Explains a worker's death wherever it interrupts the main process: in a step, in validation, while saving.

    torch raises its error from a handler of SIGCHLD, which interrupts whatever is being done, also outside the
    functions here; the handler itself is wrapped, so that no loop has to think of it.
    """
    handler = signal.getsignal(signal.SIGCHLD)
    in_main_thread = threading.current_thread() is threading.main_thread()  # nobody else may set handlers
    if callable(handler) and not hasattr(handler, "__wrapped__") and in_main_thread:
        signal.signal(signal.SIGCHLD, explained_worker_faults()(handler))  # the wrapper has `__wrapped__`


def start_worker(worker: int = 0) -> None:
    """Sets a worker process up: one thread, stacks on demand, and memory that is kept from sample to sample."""
    # Ctrl-C, a closed terminal and `kill` often reach the whole process group. The main process decides what they mean;
    # a worker that died at once would turn an orderly stop into a fault. After SIGTERM it stays for the checkpoint.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE_S))
    cv2.setNumThreads(0)  # workers are the parallelism; OpenCV's threads times workers would only compete
    faulthandler.register(signal.SIGUSR1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc hands each freed image back to the kernel, which then clears it for the next one
        mallopt(MALLOC_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(MALLOC_MMAP_THRESHOLD, KEPT_BYTES)
