"""The share of padded pixels in training batches of images of many sizes, by how batches are formed.

    python -m tests.benchmarks.bench_padding

The sizes are drawn like COCO's: most images have a long side of 640 pixels, the frequent sizes are 640x480, 480x640 and
640x427. Bar: fewer padded pixels than with each of the other ways.
- by orientation: portrait and landscape images apart, in random order, as Detectron2 does it. It resizes all images to
  one short side before; here images keep their scale.
- sorted: by height, then by width.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from pipeline.data.order import similar_together
from pipeline.data.padding import padded_size

FREQUENT = ((480, 640, 0.23), (640, 480, 0.11), (427, 640, 0.16), (640, 427, 0.06), (375, 500, 0.06), (500, 375, 0.03))
NUM_ROUNDS = 5


def coco_like(number: int, rng: np.random.Generator) -> np.ndarray:
    """Returns (height, width) of images: int64 (number, 2)."""
    shares = [share for *_, share in FREQUENT]
    kinds = rng.choice(len(FREQUENT) + 1, number, p=[*shares, 1 - sum(shares)])
    long = np.where(rng.random(number) < 0.8, 640, rng.integers(300, 640, number))
    short = np.clip(long * rng.normal(0.68, 0.12, number), 0.35 * long, long).astype(int)
    others = np.where((rng.random(number) < 0.7)[:, None], np.stack([short, long], 1), np.stack([long, short], 1))
    known = np.array([size[:2] for size in FREQUENT])
    return np.where((kinds < len(FREQUENT))[:, None], known[np.minimum(kinds, len(FREQUENT) - 1)], others)


def by_orientation(frames: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns an order whose batches have images of one orientation, except one batch."""
    return np.argsort(frames[:, 1] > frames[:, 0], kind="stable")


def by_size(frames: np.ndarray, batch_size: int) -> np.ndarray:
    """Returns an order by height, then by width."""
    return np.lexsort(frames.T[::-1])


WAYS: dict[str, Callable[[np.ndarray, int], np.ndarray]] = {
    "random": lambda frames, batch_size: np.arange(len(frames)),
    "by orientation": by_orientation,
    "sorted": by_size,
    "similar_together": similar_together,
}


def padded_share(sizes: np.ndarray, way: Callable[[np.ndarray, int], np.ndarray], batch_size: int) -> float:
    """Returns the padded pixels of whole batches as a share of all their pixels."""
    frames = np.array([padded_size(*size) for size in sizes.tolist()])[: len(sizes) // batch_size * batch_size]
    batches = frames[way(frames, batch_size)].reshape(-1, batch_size, 2)
    return 1 - sizes[: len(frames)].prod(1).sum() / (batches.max(1).prod(1) * batch_size).sum()


def main() -> None:
    print(f"{'images':>7}{'batch':>7}" + "".join(f"{name:>18}" for name in WAYS))
    is_best = True
    for number in (200, 2000, 20000):
        for batch_size in (4, 16, 32):
            sets = [coco_like(number, np.random.default_rng(seed)) for seed in range(NUM_ROUNDS)]
            shares = [np.mean([padded_share(one, way, batch_size) for one in sets]) for way in WAYS.values()]
            is_best = is_best and shares[-1] == min(shares)
            print(f"{number:>7}{batch_size:>7}" + "".join(f"{share:>17.1%} " for share in shares))
    print("bar: similar_together pads least: " + ("passed" if is_best else "FAILED"))


if __name__ == "__main__":
    main()
