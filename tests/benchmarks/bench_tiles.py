"""Tiles per second without augmentation, T1, two loader workers: why the store is a memory-mapped pyramid.

    python -m tests.benchmarks.bench_tiles

Every way delivers the same batches, uint8 image and index mask, through the same loader in the same shuffled order;
the ways take turns. Bars: x1.2 of holding the whole set in memory, at most 6 MB an image on the disk.
"""

from __future__ import annotations

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from torch.utils.data import DataLoader, Dataset

from pipeline.config.load import load
from pipeline.data.build_store import build_store, resize
from pipeline.data.images import read_image
from pipeline.data.loaders import EpochSampler, SampleKey, image_loader, train_batches
from pipeline.data.store import open_store
from pipeline.data.tiles import scales_of, tile_windows
from pipeline.segmentation.labels import read_mask
from pipeline.segmentation.train_samples import TrainDataset, collate_train
from tests.benchmarks.street_images import CLASSES, write_competition
from tests.data.catalogs import IndexMasks, plain_images

AUGMENTATION = load("ExpBAA").config.datasets.augmentation
TILE = AUGMENTATION.tile
WINDOWS = tile_windows(TILE.sets, TILE.width, TILE.height)
NUM_IMAGES, NUM_ROUNDS, NUM_WORKERS, BATCH_SIZE = 16, 3, 2, 10
IN_MEMORY = "whole set in memory, resized per tile (naive)"
BAR = 1.2


class Tiles(Dataset):
    """Tiles made by a function of (image, window); stands in for `TrainDataset`."""

    def __init__(self, make: Callable):
        self.make = make

    def __len__(self):
        return NUM_IMAGES * len(WINDOWS)

    def frame(self, index):
        return TILE.height, TILE.width

    def __getitem__(self, key):
        return *self.make(*divmod(key.index, len(WINDOWS))), SampleKey(*key)


def cut(pair, box):
    part = np.s_[box.y : box.y + TILE.height, box.x : box.x + TILE.width]
    return tuple(np.ascontiguousarray(array[part]) for array in pair)


def decode(folder: Path, row) -> tuple[np.ndarray, np.ndarray]:
    return read_image(folder / row.image), read_mask(folder / row.mask)


def write_tiles(folder: Path, pairs: list, suffix: str) -> int:
    """Writes every tile as a file of its own and returns the bytes on the disk."""
    folder.mkdir()
    quality = [cv2.IMWRITE_JPEG_QUALITY, 95] if suffix == ".jpg" else []
    for number, pair in enumerate(pairs):
        for tile, (scale, box) in enumerate(WINDOWS):
            image, mask = cut(resize(*pair, scale), box)
            bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
            cv2.imwrite(str(folder / f"{number}-{tile}{suffix}"), bgr, quality)
            cv2.imwrite(str(folder / f"{number}-{tile}-mask.png"), mask)
    return sum(file.stat().st_size for file in folder.iterdir())


def write_tile_array(folder: Path, pairs: list) -> int:
    """Writes every tile into one flat file, as a memory map without shared pixels would be."""
    folder.mkdir()
    with open(folder / "tiles.u8", "wb") as file:
        for pair in pairs:
            for scale, box in WINDOWS:
                for array in cut(resize(*pair, scale), box):
                    file.write(array)
    return (folder / "tiles.u8").stat().st_size


def ways(folder: Path, catalog) -> dict[str, tuple[Dataset, float]]:
    """Returns each way's dataset and megabytes an image on the disk."""
    rows = list(catalog.itertuples())
    pairs = [decode(folder, row) for row in rows]
    pyramid = [{scale: resize(*pair, scale) for scale in scales_of(TILE.sets)} for pair in pairs]
    sizes = {suffix: write_tiles(folder / f"tiles{suffix}", pairs, suffix) for suffix in (".png", ".jpg")}
    array_bytes = write_tile_array(folder / "array", pairs)
    array = np.memmap(folder / "array" / "tiles.u8", np.uint8, "r").reshape(NUM_IMAGES, len(WINDOWS), -1)
    store = open_store(
        build_store(plain_images(folder), catalog, scales_of(TILE.sets), folder / "stores", IndexMasks(folder))
    )
    store_bytes = sum(file.stat().st_size for file in store.path.iterdir())
    trained = TrainDataset(store, list(catalog.id), AUGMENTATION, 1, CLASSES)
    num_pixels = TILE.height * TILE.width

    def from_files(suffix):
        path = str(folder / f"tiles{suffix}")
        return lambda number, tile: (
            read_image(f"{path}/{number}-{tile}{suffix}"),
            read_mask(f"{path}/{number}-{tile}-mask.png"),
        )

    def from_array(number, tile):
        flat = np.array(array[number, tile])
        image = flat[: 3 * num_pixels].reshape(TILE.height, TILE.width, 3)
        return image, flat[3 * num_pixels :].reshape(TILE.height, TILE.width)

    def scaled(pair, tile):
        return cut(resize(*pair, WINDOWS[tile].scale), WINDOWS[tile])

    file_mb = sum(file.stat().st_size for name in ("imgs", "masks") for file in (folder / name).iterdir()) / 1e6
    return {
        IN_MEMORY: (Tiles(lambda number, tile: scaled(pairs[number], tile)), file_mb / NUM_IMAGES),
        "decoded anew for each tile": (
            Tiles(lambda number, tile: scaled(decode(folder, rows[number]), tile)),
            file_mb / NUM_IMAGES,
        ),
        "tiles as PNG files": (Tiles(from_files(".png")), sizes[".png"] / 1e6 / NUM_IMAGES),
        "tiles as JPEG files": (Tiles(from_files(".jpg")), sizes[".jpg"] / 1e6 / NUM_IMAGES),
        "memory-mapped tiles": (Tiles(from_array), array_bytes / 1e6 / NUM_IMAGES),
        "pyramid in memory (bound)": (
            Tiles(lambda number, tile: cut(pyramid[number][WINDOWS[tile].scale], WINDOWS[tile])),
            file_mb / NUM_IMAGES,
        ),
        "memory-mapped pyramid (ours)": (trained, store_bytes / 1e6 / NUM_IMAGES),
    }


def main() -> None:
    cv2.setNumThreads(0)
    folder = Path(tempfile.mkdtemp())
    try:
        catalog = write_competition(folder / "data", NUM_IMAGES)
        made = ways(folder / "data", catalog)
        loaders: dict[str, DataLoader] = {}
        for name, (dataset, _) in made.items():
            sampler = EpochSampler(dataset, BATCH_SIZE, seed=1)
            loaders[name] = image_loader(dataset, sampler, collate_train, NUM_WORKERS)
            if not name.endswith("(ours)"):
                loaders[name].worker_init_fn = lambda _: cv2.setNumThreads(0)
        seconds: dict[str, list[float]] = {name: [] for name in made}
        for epoch in range(NUM_ROUNDS + 1):
            for name, loader in loaders.items():
                began = time.perf_counter()
                num_tiles = sum(len(keys) for _, _, keys in train_batches(loader, epoch + 1, augment=False))
                if epoch:  # the first starts the workers
                    seconds[name].append(time.perf_counter() - began)
        rates = {name: num_tiles / statistics.median(values) for name, values in seconds.items()}
        print(f"tiles of {TILE.width}x{TILE.height} (T1), {NUM_IMAGES} images, {NUM_WORKERS} workers")
        for name, rate in rates.items():
            print(f"  {name:<46}{rate:8.0f} /s   x{rate / rates[IN_MEMORY]:5.2f}   {made[name][1]:6.2f} MB an image")
        reached = rates["memory-mapped pyramid (ours)"] / rates[IN_MEMORY]
        print(f"  bar: x{BAR} of the set in memory (reached x{reached:.2f}), at most 6 MB an image")
    finally:
        shutil.rmtree(folder)


if __name__ == "__main__":
    main()
