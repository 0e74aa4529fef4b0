"""What a pseudo-labelled training sample costs, over a labelled one in the same run, on one core.

    python -m tests.benchmarks.bench_pseudo

Tiles of 640x352 (ExpBAA's size) from stores of images of 1280x720, flipped, warped and coloured as ExpAAC says. Labels:
masks of files; hard pseudo-labels; soft ones, planes of 12 classes. Then the loss with its gradient, by batches with
hard and with soft labels. Ways alternate, so a busy machine slows all alike; processor time is measured.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch

from pipeline.config.load import load
from pipeline.data.build_store import build_store
from pipeline.data.loaders import SampleKey, start_worker
from pipeline.data.store import open_store
from pipeline.segmentation.planes import FULL, from_index
from pipeline.segmentation.soft_losses import mixed_loss
from pipeline.segmentation.train_samples import TrainDataset, collate_train
from tests.benchmarks.street_images import CLASSES, write_competition
from tests.data.catalogs import IndexMasks, plain_images

NUM_IMAGES, NUM_ROUNDS, BATCH_SIZE, NUM_PSEUDO = 6, 15, 4, 1
NUM_CLASSES = len(CLASSES)
UNSURE = 0.3  # share of the pixels that are ignored
TILE = "DATASETS.AUGMENTATION.TILE={ENABLE: true, WIDTH: 640, HEIGHT: 352, SETS: [[1280, 720, 3, 3]]}"
MIX = [("ce", 0.5), ("dice", 0.5)]


class Labels(IndexMasks):
    """Masks of files with some pixels ignored, as index masks or as the planes of soft labels."""

    def __init__(self, folder: Path, is_soft: bool) -> None:
        super().__init__(folder)
        self.is_soft, self.planes = is_soft, NUM_CLASSES if is_soft else None

    def read(self, row: Any) -> np.ndarray:
        mask = super().read(row).copy()
        rng = np.random.default_rng(len(row.id))
        blocks = (rng.random((9, 16)) < UNSURE).astype(np.uint8)
        mask[cv2.resize(blocks, mask.shape[::-1], interpolation=cv2.INTER_NEAREST) > 0] = 255
        if not self.is_soft:
            return mask
        planes = from_index(mask, NUM_CLASSES)
        is_known = planes[..., 0] != 255
        planes[is_known] = planes[is_known] // 10 * 9 + FULL // 10 // NUM_CLASSES
        return planes

    def content(self, row: Any) -> str:
        return f"{self.is_soft} {super().content(row)}"


def medians(ways: Mapping[str, Callable[[int], Any]]) -> dict[str, float]:
    """Returns the median processor time of each way in seconds; the first round fills the caches."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(NUM_ROUNDS + 1):
        for name, do in ways.items():
            began = time.process_time()
            do(number)
            seconds[name].append(time.process_time() - began)
    return {name: statistics.median(values[1:]) for name, values in seconds.items()}


def show(title: str, found: Mapping[str, float], per: int = 1) -> None:
    """Prints times and their ratio to the first."""
    first = next(iter(found.values()))
    print(title)
    for name, value in found.items():
        print(f"  {name:<34}{1e3 * value / per:8.2f} ms   x{value / first:5.2f}")


def main() -> None:
    cv2.setNumThreads(0)
    start_worker()
    torch.set_num_threads(1)
    rules = load("ExpAAC", (TILE,)).config.datasets.augmentation
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        catalog, images = write_competition(folder / "data", NUM_IMAGES), plain_images(folder / "data")
        kinds = {"labelled": IndexMasks(folder / "data")}
        kinds |= {
            "hard pseudo-label": Labels(folder / "data", False),
            "soft pseudo-label": Labels(folder / "data", True),
        }
        datasets = {}
        for kind, masks in kinds.items():
            path = build_store(images, catalog, ((1280, 720),), folder / "tiles", masks, lambda line: None)
            datasets[kind] = TrainDataset(open_store(path), list(catalog.id), rules, 1, CLASSES, "ignore")

        def keys(number: int) -> list[SampleKey]:
            return [SampleKey(number + 1, (5 * index + number) % 54) for index in range(BATCH_SIZE)]

        ways = {kind: lambda number, own=own: own.__getitems__(keys(number)) for kind, own in datasets.items()}
        show(f"one sample of 640x352, median of {NUM_ROUNDS} batches of {BATCH_SIZE}", medians(ways), BATCH_SIZE)

        def batch(kind: str, number: int = 0) -> Any:
            own = [datasets["labelled"][key] for key in keys(number)[NUM_PSEUDO:]]
            return [*own, *(datasets[kind][key] for key in keys(number)[:NUM_PSEUDO])]

        drawn = {kind: batch(kind) for kind in datasets}
        joined = {kind: collate_train(samples) for kind, samples in drawn.items()}
        ways = {kind: lambda number, samples=samples: collate_train(samples) for kind, samples in drawn.items()}
        show(f"joining a batch of {BATCH_SIZE}, {NUM_PSEUDO} of them of the kind", medians(ways))
        logits = torch.randn(BATCH_SIZE, NUM_CLASSES, *joined["labelled"].labels.shape[1:], requires_grad=True)

        def learn(labels: torch.Tensor) -> None:
            logits.grad = None
            mixed_loss(MIX, logits, labels).total.backward()

        ways = {kind: lambda number, labels=own.labels: learn(labels) for kind, own in joined.items()}
        show("0.5 ce + 0.5 dice of such a batch, with its gradient", medians(ways))


if __name__ == "__main__":
    main()
