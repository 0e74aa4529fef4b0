"""The cost of each further option of the augmentation, over the plain loader in the same run, on one core.

    python -m tests.benchmarks.bench_augment_options

Plain: tiles of 640x352 (ExpBAA's size) from a store of images of 1280x720, flipped and warped half of the time, nothing
else. Each option is applied to every sample, whatever its share is by default, so its cost in a training is its share
of that. Samples of all ways alternate, so a busy machine slows all alike; processor time is measured.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2

from pipeline.config.augmentation import Augmentation, Random
from pipeline.config.load import load
from pipeline.data.build_store import build_store
from pipeline.data.contact_sheet import CUTS, SHOWN_ALONE
from pipeline.data.loaders import SampleKey, start_worker
from pipeline.data.store import open_store
from pipeline.segmentation.train_samples import TrainDataset, collate_train
from tests.benchmarks.street_images import CLASSES, write_competition
from tests.data.catalogs import IndexMasks, plain_images

NUM_IMAGES, NUM_ROUNDS, BATCH_SIZE = 6, 9, 4
PLAIN = "plain: flip, shift-scale-rotate"
EARLIER = ("color", "gaussian_noise", "copy_paste")  # what there was before, to compare with
TILE = "TILE={ENABLE: true, WIDTH: 640, HEIGHT: 352, SETS: [[1280, 720, 3, 3]]}"
CROP = "RANDOM_CROP={WIDTH: 640, HEIGHT: 352}"


def rules_of(name: str) -> Augmentation:
    """Returns the plain augmentation with one option more, applied to every sample."""
    rules = load("ExpAAC", tuple(f"DATASETS.AUGMENTATION.{text}" for text in (TILE, CROP))).config.datasets.augmentation
    kept = (*CUTS, "horizontal_flip", "shift_scale_rotate")
    off = {other: replace(kind, enable=False) for other, kind in vars(rules).items() if other not in kept}
    if name == PLAIN:
        return replace(rules, **off)
    own = getattr(rules, name)
    own = replace(own, enable=True, probability=1.0) if isinstance(own, Random) else replace(own, enable=True)
    tile = replace(rules.tile, enable=name != "random_crop")
    return replace(rules, **off | {"tile": tile, name: own})


def open_datasets(folder: Path) -> dict[str, TrainDataset]:
    """Returns a dataset for each way."""
    catalog = write_competition(folder / "data", NUM_IMAGES)
    datasets = {}
    for name in (PLAIN, *EARLIER, *SHOWN_ALONE):
        rules = rules_of(name)
        scales = ((1280, 720),) if rules.tile.enable else None
        images, masks = plain_images(folder / "data"), IndexMasks(folder / "data")
        store = open_store(build_store(images, catalog, scales, folder / "tiles", masks, lambda line: None))
        datasets[name] = TrainDataset(store, list(catalog.id), rules, 1, CLASSES, "ignore")
    return datasets


def main() -> None:
    cv2.setNumThreads(0)
    start_worker()
    with tempfile.TemporaryDirectory() as folder:
        datasets = open_datasets(Path(folder))
        seconds: dict[str, list[float]] = {name: [] for name in datasets}
        for number in range(NUM_ROUNDS + 1):
            for name, dataset in datasets.items():
                keys = [SampleKey(number + 1, (5 * index + number) % len(dataset)) for index in range(BATCH_SIZE)]
                began = time.process_time()
                collate_train(dataset.__getitems__(keys))
                if number:  # the first round fills the caches
                    seconds[name].append((time.process_time() - began) / BATCH_SIZE)
    plain = statistics.median(seconds[PLAIN])
    print(f"640x352 from 1280x720, one core, median of {NUM_ROUNDS} batches of {BATCH_SIZE}, processor time per sample")
    for name, values in seconds.items():
        median = statistics.median(values)
        print(f"  {name:<34}{1e3 * median:8.2f} ms   x{median / plain:5.2f} of plain")


if __name__ == "__main__":
    main()
