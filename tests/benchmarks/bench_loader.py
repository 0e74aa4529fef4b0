"""Training samples per second through the loader, T1 tiles: the original's way, ours, and where the time goes.

    python -m tests.benchmarks.bench_loader

1. Geometry only, to a normalised float batch, two workers. Naive: the set in memory, the whole image and one-hot
   float32 mask warped for each tile, float64 preprocessing. Bar: x5, and 15 times fewer bytes through the pipe.
2. ExpBAA, the headline: full augmentation, per core, step by step, with copy-paste beside it.
"""

from __future__ import annotations

import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from pipeline.config.augmentation import Augmentation
from pipeline.config.competition import IGNORE
from pipeline.config.load import load
from pipeline.data.augment import (
    affine_matrix,
    apply_color,
    apply_noise,
    color_chain,
    cut_image,
    cut_label,
    draw_geometry,
)
from pipeline.data.build_store import build_store
from pipeline.data.loaders import EpochSampler, SampleKey, image_loader, start_worker, train_batches
from pipeline.data.store import open_store
from pipeline.data.tiles import scales_of, tile_windows
from pipeline.segmentation.train_samples import TrainDataset, collate_train
from tests.benchmarks.street_images import CLASSES, MEAN, STD, medians, normalise_float64, one_hot, write_competition
from tests.data.catalogs import IndexMasks, plain_images

NUM_IMAGES, NUM_ROUNDS, NUM_WORKERS, BATCH_SIZE = 12, 3, 2, 10
MAX_NAIVE_STEPS = 4
BAR = 5.0
OFF = ("COLOR.ENABLE=false", "GAUSSIAN_NOISE.ENABLE=false")


class NaiveDataset(Dataset):
    """The original's way: every decoded image held, the whole of it augmented and resized for each tile."""

    def __init__(self, store, ids, augmentation: Augmentation, num_samples: int):
        self.pairs = [
            (np.array(store.image(name, (1280, 720))), np.array(store.label(name, (1280, 720)))) for name in ids
        ]
        self.augmentation, self.num_samples = augmentation, num_samples
        tile = augmentation.tile
        self.windows = tile_windows(tile.sets, tile.width, tile.height)

    def __len__(self):
        return self.num_samples

    def __getitem__(self, index):
        number, tile = divmod(index * 7 % (len(self.pairs) * len(self.windows)), len(self.windows))
        image, mask = self.pairs[number]
        mask, (scale, box) = one_hot(mask), self.windows[tile]
        geometry = draw_geometry(self.augmentation, np.random.default_rng(index))
        if geometry.warped:
            image, mask = (warp_whole(array, affine_matrix(geometry, 1280, 720)) for array in (image, mask))
        elif geometry.flip:
            image, mask = np.ascontiguousarray(image[:, ::-1]), np.ascontiguousarray(mask[:, ::-1])
        if scale != (1280, 720):
            image = cv2.resize(image, scale)
            mask = cv2.resize(mask, scale, interpolation=cv2.INTER_NEAREST)
        part = np.s_[box.y : box.y + 352, box.x : box.x + 640]
        return normalise_float64(image[part], mask[part])


def warp_whole(array: np.ndarray, matrix: np.ndarray) -> np.ndarray:
    """Warps an image linearly or a one-hot mask to the nearest, four channels at a time as albumentations does."""
    flags = cv2.INTER_LINEAR if array.dtype == np.uint8 else cv2.INTER_NEAREST
    size, border = (array.shape[1], array.shape[0]), cv2.BORDER_REFLECT_101
    parts = [array[..., start : start + 4] for start in range(0, array.shape[2], 4)]
    return np.dstack(
        [cv2.warpAffine(np.ascontiguousarray(part), matrix, size, flags=flags, borderMode=border) for part in parts]
    )


def normalise(image_BHWC: torch.Tensor) -> torch.Tensor:
    """What the device does after collating, here on the CPU."""
    mean, std = (torch.tensor(values).mul(255).view(1, 3, 1, 1) for values in (MEAN, STD))
    return image_BHWC.permute(0, 3, 1, 2).float().sub_(mean).div_(std)


def geometry_only(store, ids) -> None:
    augmentation = experiment(*OFF)
    dataset = TrainDataset(store, ids, augmentation, 1, CLASSES)
    ours = image_loader(dataset, EpochSampler(dataset, BATCH_SIZE, 1), collate_train, NUM_WORKERS)
    naive_dataset = NaiveDataset(store, ids, augmentation, MAX_NAIVE_STEPS * NUM_WORKERS * BATCH_SIZE)
    settings = {
        "num_workers": NUM_WORKERS,
        "persistent_workers": True,
        "worker_init_fn": lambda _: cv2.setNumThreads(0),
    }
    naive = DataLoader(naive_dataset, BATCH_SIZE, shuffle=True, **settings)
    rates: dict[str, list[float]] = {"naive": [], "ours": []}
    num_bytes = {}
    for epoch in range(NUM_ROUNDS + 1):
        for name in rates:
            began, num_samples = time.perf_counter(), 0
            for batch in naive if name == "naive" else train_batches(ours, epoch + 1):
                num_bytes[name] = sum(array.nbytes for array in batch[:2]) / len(batch[0])
                num_samples += len(batch[0])
                if name == "ours":
                    normalise(batch[0])
            if epoch:
                rates[name].append(num_samples / (time.perf_counter() - began))
    first, second = (statistics.median(values) for values in rates.values())
    print(f"geometry only to a normalised float batch, T1, {NUM_WORKERS} workers, batch {BATCH_SIZE}")
    for name, rate in (("naive", first), ("ours", second)):
        print(f"  {name:<30}{rate:8.0f} samples/s   {num_bytes[name] / 1e6:6.2f} MB each")
    fewer = num_bytes["naive"] / num_bytes["ours"]
    print(f"  bar: x{BAR} (reached x{second / first:.1f}), 15 times fewer bytes (reached {fewer:.1f})")


def headline(store, ids) -> None:
    """Prints ExpBAA's samples per second of one core and the milliseconds of each step."""
    start_worker()
    plain, pasting = experiment(), experiment("COPY_PASTE.ENABLE=true")
    dataset = TrainDataset(store, ids, plain, 1, CLASSES)
    with_paste = TrainDataset(store, ids, pasting, 1, CLASSES)
    chain = color_chain(plain.color)
    keys = [SampleKey(1, index) for index in range(len(dataset))]
    geometries = [draw_geometry(plain, np.random.default_rng(index)) for index in range(len(dataset))]
    images = [dataset[key][0] for key in keys[:BATCH_SIZE]]

    def cut_all():
        for (image_id, scale, box), geometry in zip(dataset.positions, geometries, strict=True):
            cut_image(store.image(image_id, scale), geometry, box)
            cut_label(store.label(image_id, scale), geometry, box, IGNORE)

    def color_all():
        for index in range(len(keys)):
            rng = np.random.default_rng(index)
            apply_noise(plain.gaussian_noise, apply_color(chain, images[index % BATCH_SIZE], rng), rng)

    calls: dict[str, Callable[[], object]] = {
        "geometry into the tile": cut_all,
        "colour and noise": color_all,
        "whole sample": lambda: [dataset[key] for key in keys],
        "whole sample with copy-paste": lambda: [with_paste[key] for key in keys],
        "only copied (bound)": lambda: [dataset[key._replace(augment=False)] for key in keys],
        "collating": lambda: [np.stack(images) for _ in range(len(keys) // BATCH_SIZE)],
    }
    print("ExpBAA, T1 tiles, full augmentation, one core (processor time)")
    for name, seconds in medians(calls, NUM_ROUNDS, time.process_time).items():
        print(f"  {name:<30}{seconds / len(keys) * 1e3:8.3f} ms a sample {len(keys) / seconds:8.0f} samples/s")
    for name, made in (("without copy-paste", dataset), ("with copy-paste", with_paste)):
        through_the_loader(name, made)


def through_the_loader(name: str, dataset: TrainDataset) -> None:
    """Prints the rate of whole epochs, and what a sample costs workers and main process, the pipe included."""
    loader = image_loader(dataset, EpochSampler(dataset, BATCH_SIZE, 1), collate_train, NUM_WORKERS)
    num_steps = sum(1 for _ in train_batches(loader, 1))
    workers = [worker.pid for worker in loader._iterator._workers]
    spent, began = processor_seconds([*workers, os.getpid()]), time.perf_counter()
    for epoch in range(2, NUM_ROUNDS + 2):
        for _ in train_batches(loader, epoch):
            pass
    num_samples = num_steps * BATCH_SIZE * NUM_ROUNDS
    rate = num_samples / (time.perf_counter() - began)
    cost = (processor_seconds([*workers, os.getpid()]) - spent) / num_samples * 1e3
    print(
        f"  loader, {NUM_WORKERS} workers, {name}: {rate:.0f} samples/s; a sample costs the workers "
        f"{cost[:-1, 0].sum():.2f} ms + {cost[:-1, 1].sum():.2f} ms in the kernel (the pipe), the main process "
        f"{cost[-1].sum():.2f} ms"
    )


def processor_seconds(processes: list[int]) -> np.ndarray:
    """Returns user and kernel time of each process: float64, processes x 2."""
    fields = [Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split() for process in processes]
    return np.array([(float(field[11]), float(field[12])) for field in fields]) / os.sysconf("SC_CLK_TCK")


def experiment(*overrides: str) -> Augmentation:
    return load("ExpBAA", tuple(f"DATASETS.AUGMENTATION.{text}" for text in overrides)).config.datasets.augmentation


def main() -> None:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    folder = Path(tempfile.mkdtemp())
    try:
        catalog = write_competition(folder / "data", NUM_IMAGES)
        scales = scales_of(experiment().tile.sets)
        store = open_store(
            build_store(plain_images(folder / "data"), catalog, scales, folder / "stores", IndexMasks(folder / "data"))
        )
        geometry_only(store, list(catalog.id))
        headline(store, list(catalog.id))
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
