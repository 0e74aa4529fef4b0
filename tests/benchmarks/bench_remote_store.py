"""Samples per second from a tile store that lies elsewhere, against one on this disk; only ratios count.

    python -m tests.benchmarks.bench_remote_store [--latency 20] [--images 240]

A web server on this machine answers each request after the latency. Tiles of 320 x 180 are cut from images of 1280 x
720, in any order or in that of SHUFFLE_WINDOW; nothing is augmented, so that reading counts.

- local: the store is on this disk
- cold: nothing is here yet; warm: everything has come
- half: at most half of the store may be on this disk (STORES_CACHE_GIB)
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from pipeline.config.augmentation import Augmentation
from pipeline.data import remote_store
from pipeline.data.build_store import build_store
from pipeline.data.loaders import EpochSampler, image_loader, train_batches
from pipeline.data.positions import storage_ranks
from pipeline.data.remote_store import Remote, attach, upload
from pipeline.data.store import open_store
from pipeline.segmentation.train_samples import TrainDataset, collate_train
from pipeline.wording import GIB, size
from tests.data.catalogs import IndexMasks, plain_images
from tests.data.range_server import RangeServer, serving
from tests.data.small_competition import CLASSES, augmentation, make_competition

BATCH_SIZE, SCALE, NUM_ROUNDS = 16, (1280, 720), 3
CHUNK_BYTES = 2**19  # smaller than in reality, as the store is: a shard of images has several
TILES = ("TILE.ENABLE=true", "TILE.WIDTH=320", "TILE.HEIGHT=180", "TILE.SETS=[[1280, 720, 4, 4]]")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--latency", type=float, default=20, help="of each answer, in milliseconds")
    options.add_argument("--images", type=int, default=240)
    options.add_argument("--workers", type=int, default=2)
    options.add_argument("--folder", type=Path, help="where the stores are written; default: a temporary folder")
    chosen = options.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=chosen.folder) as name:
        measure(Path(name), chosen.images, chosen.latency / 1e3, chosen.workers)


def measure(folder: Path, num_images: int, latency_s: float, num_workers: int) -> None:
    """Prints a line for each way of reading one epoch."""
    catalog = make_competition(folder / "data", num_images, (SCALE,))
    masks, ids = IndexMasks(folder / "data"), list(catalog.id)
    local = build_store(plain_images(folder / "data"), catalog, (SCALE,), folder / "tiles", masks)
    remote_store.CHUNK_BYTES = CHUNK_BYTES
    upload(local, Remote(str(folder / "remote")))
    total = sum(file.stat().st_size for file in local.iterdir())
    rules, window = augmentation(*TILES), num_images // 6
    with serving(folder / "remote", latency_s) as server:

        def rate(path: Path, window: int = 0, epoch: int = 1) -> float:
            return samples_per_s(path, ids, rules, window, epoch, num_workers)

        def cache(name: str, share: float | None = None) -> Path:
            path = folder / name / local.name
            gib = share and share * total / GIB
            attach(path, Remote(server.address, gib), lambda line: None)
            return path

        cold, shards, half, half_shards = cache("a"), cache("b"), cache("c", 0.5), cache("d", 0.5)
        rate(local)  # what follows is in the memory of the machine
        print(f"{size(total)}, {num_images} images, {1e3 * latency_s:.0f} ms, {num_workers} workers")
        first = {"cold, any order": rate(cold), f"cold, window of {window}": rate(shards, window)}
        rounds = [(rate(local), rate(cold)) for _ in range(NUM_ROUNDS)]
        base, warm = np.median(rounds, axis=0)
        print(f"{'local':<34}{base:8.0f} samples/s\n{'warm':<34}{warm:8.0f} samples/s  x{warm / base:.2f}")
        for what, found in first.items():
            print(f"{what:<34}{found:8.0f} samples/s  x{found / base:.2f}")
        for what, path, own in (("half, any order", half, 0), (f"half, window of {window}", half_shards, window)):
            for epoch in (1, 2):
                asked = fetched(server)
                found = rate(path, own, epoch)
                text = f"{what}, epoch {epoch}"
                print(f"{text:<34}{found:8.0f} samples/s  x{found / base:.2f}   {fetched(server) - asked} requests")


def fetched(server: RangeServer) -> int:
    return sum(first is not None for _, first in server.asked)


def samples_per_s(path: Path, ids: list[str], rules: Augmentation, window: int, epoch: int, num_workers: int) -> float:
    dataset = TrainDataset(open_store(path), ids, rules, 1, CLASSES)
    ranks = storage_ranks(dataset.store, dataset.positions) if window else None
    sampler = EpochSampler(dataset, BATCH_SIZE, 1, ranks=ranks, window=window)
    loader = image_loader(dataset, sampler, collate_train, num_workers, log=lambda line: None)
    began = time.perf_counter()
    number = sum(len(batch.keys) for batch in train_batches(loader, epoch, augment=False))
    assert number == len(np.unique([key.index for batch in sampler.batches(epoch) for key in batch]))
    return number / (time.perf_counter() - began)


if __name__ == "__main__":
    main()
