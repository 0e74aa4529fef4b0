"""Batches of images and labels, from any number of workers in the same order."""

from __future__ import annotations

import ctypes
import faulthandler
import math
import os
import shutil
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
from torch.utils.data import DataLoader, Dataset

from pipeline.data.images import num_cores
from pipeline.data.sampler import EpochSampler, same_size_batches
from pipeline.errors import UserError
from pipeline.task import Batch

Collate = Callable[[list], Batch]  # samples of the dataset to a batch
PREFETCH = 2  # batches each worker keeps ready
TIME_OUT_S = 300  # a sample takes milliseconds; a worker silent for so long hangs
GRACE_S = 10  # between SIGTERM and a worker's end
SHARED_MEMORY = Path("/dev/shm")
MALLOC_TRIM_THRESHOLD, MALLOC_MMAP_THRESHOLD = -1, -3  # numbers of glibc's malloc.h
KEPT_BYTES = 2**28  # more than any batch of images; the settings take an int
NO_WORKERS = "DATALOADERS.TRAIN.NUM_WORKERS=0 DATALOADERS.VALID.NUM_WORKERS=0"


def image_loader(
    dataset: Dataset,
    batches: EpochSampler | int,
    collate: Collate,
    num_workers: int,
    pin_memory: bool = False,
    log: Callable[[str], None] = print,
) -> DataLoader:
    """Returns a loader, to be iterated with `train_batches` or `valid_batches`; its workers live through all epochs.

    Args:
        batches: the sampler of training batches; or the size of batches of whole images, which come in the dataset's
            order, except that a batch holds images of one size.
    """
    is_whole = isinstance(batches, int)
    num_workers = available_workers(num_workers, log)
    if num_workers:
        # The largest padded image, with one byte more per pixel for its labels.
        num_bytes = 4 * max((math.prod(dataset.frame(index)) for index in range(len(dataset))), default=0)
        check_shared_memory(num_workers * (PREFETCH + 1) * num_bytes * (batches if is_whole else batches.batch_size))
    return DataLoader(
        dataset,
        batch_sampler=same_size_batches(dataset, batches) if is_whole else batches,
        collate_fn=collate,
        num_workers=num_workers,
        pin_memory=pin_memory,
        persistent_workers=num_workers > 0,
        prefetch_factor=PREFETCH if num_workers else None,
        timeout=TIME_OUT_S if num_workers else 0,
        worker_init_fn=start_worker,
    )


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
    """Turns torch's errors about dying or silent workers inside the block into a UserError with the likely cause."""
    try:
        yield
    except RuntimeError as error:
        if "DataLoader" not in str(error):
            raise
        if "timed out" in str(error) and loader is not None:
            _dump_stacks(loader)
        raise UserError(
            f"{error}\nA data-loading worker died or hung. Most often the machine ran out of memory (check `dmesg`) "
            f"or shared memory: lower NUM_WORKERS or BATCH_SIZE.\nTo get a worker's own error, add {NO_WORKERS}"
        ) from error


def valid_batches(loader: DataLoader) -> Iterator[Batch]:
    """Yields every batch of whole images; keys are `Frame`s. Raises UserError like `train_batches`."""
    with explained_worker_faults(loader):
        iterator = iter(loader)
    _explain_deaths_anywhere()
    while True:
        with explained_worker_faults(loader):
            batch = next(iterator, None)
        if batch is None:
            return
        yield batch


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
    # Ctrl-C and `kill` often reach the whole process group. The main process decides what they mean; a worker that died
    # at once would turn an orderly stop into a fault. After SIGTERM it stays long enough for the checkpoint.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE_S))
    cv2.setNumThreads(0)  # workers are the parallelism; OpenCV's threads times workers would only compete
    faulthandler.register(signal.SIGUSR1)
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # glibc hands each freed image back to the kernel, which then clears it for the next one
        mallopt(MALLOC_TRIM_THRESHOLD, KEPT_BYTES)
        mallopt(MALLOC_MMAP_THRESHOLD, KEPT_BYTES)


def _dump_stacks(loader: DataLoader) -> None:
    for worker in getattr(loader._iterator, "_workers", ()):
        if worker.is_alive():
            os.kill(worker.pid, signal.SIGUSR1)
