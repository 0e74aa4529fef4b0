"""Run-length encoding of all classes of one image, 1280x720, 12 classes: the slow ways and ours in the same run.

    python -m tests.benchmarks.bench_rle

Masks are CamVid's, enlarged to full size, where ../shared is there, else drawn. All ways must give the same text.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from itertools import groupby
from pathlib import Path

import cv2
import numpy as np
from pycocotools import mask as coco

from pipeline.config.competition import Convention
from pipeline.segmentation.submission.rle import decode_classes, encode
from tests.segmentation.submission.scenes import make_scene

NUM_CLASSES, HEIGHT, WIDTH = 12, 720, 1280
NUM_ROUNDS = 15
CAMVID = Path(__file__).resolve().parents[3] / "shared" / "data" / "camvid" / "masks" / "masks"


def encode_by_group(mask_HW: np.ndarray, order: str) -> list[str]:
    """The original's way: a Python step per pixel, once per class."""
    texts = []
    for index in range(NUM_CLASSES):
        pixels = (mask_HW == index).ravel(order="C" if order == "row" else "F")
        runs, position = [], 0
        for is_class, group in groupby(pixels):
            length = len(list(group))
            if is_class:
                runs += [position, length]
            position += length
        texts.append(" ".join(str(number) for number in runs))
    return texts


def encode_per_class(mask_HW: np.ndarray, order: str) -> list[str]:
    """The usual numpy way of public solutions: differences of each class's padded mask."""
    texts = []
    for index in range(NUM_CLASSES):
        pixels = (mask_HW == index).ravel(order="C" if order == "row" else "F")
        pixels = np.concatenate([[0], pixels, [0]])
        edges = np.where(pixels[1:] != pixels[:-1])[0]
        edges[1::2] -= edges[::2]
        texts.append(" ".join(str(number) for number in edges))
    return texts


def encode_per_class_tuned(mask_HW: np.ndarray, order: str) -> list[str]:
    """The same with one transpose, one-byte pixels and the fastest joining of Python texts."""
    pixels_HW = mask_HW if order == "row" else cv2.transpose(mask_HW)
    texts = []
    for index in range(NUM_CLASSES):
        padded = np.zeros(mask_HW.size + 2, np.uint8)
        padded[1:-1] = (pixels_HW == index).ravel()
        edges = np.flatnonzero(padded[1:] != padded[:-1])
        edges[1::2] -= edges[::2]
        texts.append(" ".join(map(str, edges.tolist())))
    return texts


def encode_coco(mask_HW: np.ndarray, order: str) -> list[dict]:
    """Pycocotools: another, compressed text, column by column only; shown for its time."""
    turned_HW = mask_HW.T if order == "row" else mask_HW
    return [coco.encode(np.asfortranarray(turned_HW == index)) for index in range(NUM_CLASSES)]


def encode_ours(mask_HW: np.ndarray, order: str) -> list[str]:
    return encode(mask_HW, NUM_CLASSES, Convention(order))


def load_masks() -> list[np.ndarray]:
    """Returns masks of full size with 5,000 to 20,000 runs each."""
    paths = sorted(CAMVID.glob("*.png"))[::80]
    if not paths:
        return [make_scene(np.random.default_rng(seed), HEIGHT, WIDTH, NUM_CLASSES) for seed in range(6)]
    masks = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]
    return [cv2.resize(mask, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST) for mask in masks]


def measure(calls: dict[str, Callable[[], object]], num_rounds: int) -> dict[str, float]:
    """Returns the median seconds of each call, all called in turn in each round."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(num_rounds):
        for name, call in calls.items():
            began = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def main() -> None:
    masks = load_masks()
    ways = {
        "groupby per class (naive)": encode_by_group,
        "numpy per class": encode_per_class,
        "numpy per class, tuned": encode_per_class_tuned,
        "pycocotools (other text)": encode_coco,
        "ours": encode_ours,
    }
    for order in ("row", "column"):
        per_image: list[dict[str, float]] = []
        for number, mask_HW in enumerate(masks):
            texts = encode_ours(mask_HW, order)
            assert texts == encode_per_class(mask_HW, order) == encode_per_class_tuned(mask_HW, order)
            assert number or texts == encode_by_group(mask_HW, order)
            pixels_N = mask_HW.ravel()
            calls = {name: lambda way=way, mask=mask_HW, o=order: way(mask, o) for name, way in ways.items()}
            if number:  # the slowest is measured on the first image only, and compared with ours on that one
                del calls["groupby per class (naive)"]
            calls["one compare pass (bound)"] = lambda pixels=pixels_N: pixels[1:] != pixels[:-1]
            calls["decode all classes (ours)"] = lambda t=texts, o=order: decode_classes(
                t, HEIGHT, WIDTH, Convention(o)
            )
            per_image.append(measure(calls, NUM_ROUNDS))
        print(f"{order} by {order}, {len(masks)} masks of {WIDTH}x{HEIGHT}, {NUM_CLASSES} classes, texts identical")
        ratios = {}
        for name in per_image[0]:
            rows = [medians for medians in per_image if name in medians]
            ratios[name] = statistics.median(medians[name] / medians["ours"] for medians in rows)
            print(f"  {name:<28}{statistics.median(medians[name] for medians in rows) * 1e3:10.3f} ms"
                  f"   x{ratios[name]:8.2f} of ours")  # fmt: skip
        naive, per_class = ratios["groupby per class (naive)"], ratios["numpy per class"]
        print(f"  bar: x4 over numpy per class (reached x{per_class:.1f}), x180 over naive (reached x{naive:.0f})")


if __name__ == "__main__":
    main()
