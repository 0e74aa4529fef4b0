"""The whole augmentation chain to a normalised float image, one core: the original's way against ours.

    python -m tests.benchmarks.bench_augment

Naive: one-hot float32 masks through albumentations, noise and preprocessing in float64, channels first. The peer: the
same library on uint8 and the index mask, normalised in float32. Ours ends in uint8, to be normalised on the device; it
is shown with normalising on the CPU too. Each way runs in processes of its own, ours set up as the loader's workers
are. Processor time is measured, which a busy machine distorts least. Bars: x10 at 1280x720, x3.8 at 640x352.
"""

from __future__ import annotations

import os
import statistics
import time

os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A
import cv2
import numpy as np
import torch

from pipeline.config.competition import IGNORE
from pipeline.config.load import load
from pipeline.data.augment import apply_color, apply_noise, color_chain, cut_image, cut_label, draw_geometry
from pipeline.data.loaders import start_worker
from pipeline.data.tiles import Box
from tests.benchmarks.street_images import MEAN, STD, in_own_process, normalise_float64, one_hot, read_images

AUGMENTATION = load("ExpAAC").config.datasets.augmentation
NUM_IMAGES, REPEATS, NUM_ROUNDS = 12, 5, 3
BARS = {(1280, 720): 10.0, (640, 352): 3.8}
NAIVE, OURS, OURS_NORMALISED = "one-hot float32, float64 (naive)", "ours, uint8 for the device", "ours, normalised here"
# 256 levels x 3 channels: (level / 255 - mean) / std, looked up instead of computed
NORMALISED = ((np.arange(256)[:, None, None] / 255 - np.array(MEAN)) / np.array(STD)).astype(np.float32)


def library_chain() -> list[A.BasicTransform]:
    """Returns flip, shift-scale-rotate and colour of ExpAAC as albumentations transforms, then the noise."""
    limits = {"scale": (0.9, 1.1), "translate_percent": (-0.0625, 0.0625), "rotate": (-10, 10)}
    geometry = [A.HorizontalFlip(p=0.5), A.Affine(**limits, border_mode=cv2.BORDER_REFLECT_101, p=0.5)]
    low, high = (np.sqrt(variance) / 255 for variance in AUGMENTATION.gaussian_noise.var_limit)
    noise = A.GaussNoise(std_range=(low, high), p=AUGMENTATION.gaussian_noise.probability)
    return [*geometry, *color_chain(AUGMENTATION.color).transforms, noise]


def naive():
    chain = A.Compose(library_chain()[:-1], strict=True)

    def way(image: np.ndarray, mask: np.ndarray, index: int):
        chain.set_random_seed(index)
        changed = chain(image=image, mask=one_hot(mask))
        image, rng = changed["image"], np.random.default_rng(index)
        if rng.random() < AUGMENTATION.gaussian_noise.probability:  # as the library did it in 2021
            noise = rng.normal(0, np.sqrt(rng.uniform(*AUGMENTATION.gaussian_noise.var_limit)), image.shape)
            image = np.clip(image.astype(np.float32) + noise, 0, 255).astype(np.uint8)
        return normalise_float64(image, changed["mask"])

    return way


def peer():
    chain = A.Compose(library_chain(), strict=True)

    def way(image: np.ndarray, mask: np.ndarray, index: int):
        chain.set_random_seed(index)
        changed = chain(image=image, mask=mask)
        return cv2.LUT(changed["image"], NORMALISED), changed["mask"]

    return way


def ours(normalised: bool = False):
    start_worker()
    chain = color_chain(AUGMENTATION.color)

    def way(image: np.ndarray, mask: np.ndarray, index: int):
        box = Box(0, 0, mask.shape[1], mask.shape[0])
        geometry = draw_geometry(AUGMENTATION, np.random.default_rng((1, 1, index)))
        image, mask = cut_image(image, geometry, box), cut_label(mask, geometry, box, IGNORE)
        rng = np.random.default_rng((1, 1, index, 1))
        image = apply_noise(AUGMENTATION.gaussian_noise, apply_color(chain, image, rng), rng)
        return (cv2.LUT(image, NORMALISED), mask) if normalised else (image, mask)

    return way


WAYS = {
    NAIVE: naive,
    "albumentations on uint8 + index": peer,
    OURS_NORMALISED: lambda: ours(normalised=True),
    OURS: ours,
}


def seconds_a_sample(name: str, images: list, offset: int) -> float:
    cv2.setNumThreads(0)
    torch.set_num_threads(1)
    way = WAYS[name]()
    way(*images[0], 0)
    began = time.process_time()
    for index, (image, mask) in enumerate(images * REPEATS):
        way(image, mask, offset + index)
    # The mean: half of the samples are not warped, and the price of an epoch is the sum.
    return (time.process_time() - began) / (REPEATS * len(images))


def main() -> None:
    full = read_images(NUM_IMAGES)
    for (width, height), bar in BARS.items():
        images = [tuple(np.ascontiguousarray(array[:height, :width]) for array in pair) for pair in full]
        rounds = [
            {name: in_own_process(seconds_a_sample, name, images, number * 1000) for name in WAYS}
            for number in range(NUM_ROUNDS)
        ]
        rates = {name: 1 / statistics.median(seconds[name] for seconds in rounds) for name in WAYS}
        print(f"{width}x{height}, one core, {NUM_ROUNDS} rounds of {NUM_IMAGES * REPEATS} samples of ExpAAC's chain")
        for name, rate in rates.items():
            print(f"  {name:<34}{rate:8.1f} images/s   x{rate / rates[NAIVE]:5.1f}")
        reached, with_normalising = rates[OURS] / rates[NAIVE], rates[OURS_NORMALISED] / rates[NAIVE]
        print(f"  bar: x{bar} (reached x{reached:.1f}, with normalising x{with_normalising:.1f})")


if __name__ == "__main__":
    main()
