"""Ten million tiles: what the index, the samples and the order of an epoch cost in time and memory.

    python -m tests.long.many_tiles [--tiles 10000000] [--folder FOLDER]

The pixel files are sparse, since only what depends on the number of tiles is measured: no pixel is read. Prints a line
for each part, with the process's peak memory so far.
"""

from __future__ import annotations

import argparse
import json
import resource
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from itertools import islice
from pathlib import Path

from pipeline.config.load import load
from pipeline.data.loaders import EpochSampler
from pipeline.data.store import FORMAT, PIXELS, PLANES, open_store
from pipeline.paths import INDEX
from pipeline.segmentation.train_samples import TrainDataset

SIZE, TILES_PER_IMAGE, BATCH_SIZE = (320, 180), 10, 32
TILES = "DATASETS.AUGMENTATION.TILE={ENABLE: true, WIDTH: 96, HEIGHT: 96, SETS: [[320, 180, 5, 2]]}"


def write_store(folder: Path, num_images: int) -> list[str]:
    """Writes the index of a store, and files of its size without content; returns the ids of its images."""
    ids, num_pixels = [f"{number:09d}" for number in range(num_images)], SIZE[0] * SIZE[1]
    images = {image_id: [[*SIZE, number * num_pixels, 0, 0]] for number, image_id in enumerate(ids)}
    index = {"format": FORMAT, "scales": [SIZE], "num_pixels": num_images * num_pixels, "channels": 3}
    (folder / INDEX).write_text(json.dumps(index | {"dtype": "uint8", "planes": None, "images": images}))
    for name, num_bytes in ((PIXELS, 3), (PLANES, 1)):
        with open(folder / name, "wb") as file:
            file.truncate(num_images * num_pixels * num_bytes)
    return ids


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiles", type=int, default=10_000_000)
    parser.add_argument("--folder", type=Path, help="where the sparse files are written; default: a temporary folder")
    options = parser.parse_args()
    loaded = load("demo", (TILES,))
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        with ProcessPoolExecutor(1) as pool:  # whose memory does not count
            ids = pool.submit(write_store, Path(name), options.tiles // TILES_PER_IMAGE).result()
        start = time.perf_counter()

        def report(what: str) -> None:
            nonlocal start
            peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
            print(f"{what:<44} {time.perf_counter() - start:7.2f} s   peak {peak:8,.0f} MB", flush=True)
            start = time.perf_counter()

        report("before")
        store = open_store(name)
        report("index of the store")
        config, classes = loaded.config, loaded.competition.class_names
        dataset = TrainDataset(store, ids, config.datasets.augmentation, 0, classes)
        report(f"samples: {len(dataset):,}")
        sampler = EpochSampler(dataset, BATCH_SIZE, 0)
        report("sampler")
        for epoch in (1, 2):
            sampler.begin(epoch)
            batches = iter(sampler)
            next(batches)
            report(f"epoch {epoch}, first batch")
            number = sum(1 for _ in islice(batches, 1000))
            report(f"epoch {epoch}, {number} more batches")
        sampler.begin(3, start_step=len(sampler) - 1)
        assert len(list(sampler)) == 1
        report("epoch 3, entered at its last step")


if __name__ == "__main__":
    main()
