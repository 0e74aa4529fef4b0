"""One copy-paste at 1280x720: the original's float64 Gaussian over the frame against ours, on one core.

    python -m tests.benchmarks.bench_copy_paste

Bar: x11, mask identical, image within one grey level. Bound: copying image and mask. Each way runs in processes of
its own, ours set up as the loader's workers are. Processor time is measured, which a busy machine distorts least.
"""

from __future__ import annotations

import statistics
import time

import cv2
import numpy as np

from pipeline.data.loaders import start_worker
from pipeline.segmentation.copy_paste import choose_classes, paste
from pipeline.segmentation.labels import count_values
from tests.benchmarks.street_images import NUM_CLASSES, in_own_process, read_images

NUM_PAIRS, NUM_ROUNDS = 32, 5
BAR = 11


def paste_float64(image, mask, source, source_mask, classes):
    """The original's way: alpha softened over the whole frame and blended in float64."""
    hard = np.isin(source_mask, classes)
    alpha = cv2.GaussianBlur(hard.astype(np.float64), (0, 0), 1.0)[..., None]
    blended = source.astype(np.float64) * alpha + image.astype(np.float64) * (1 - alpha)
    return np.rint(blended).astype(np.uint8), np.where(hard, source_mask, mask)


def paste_float32(image, mask, source, source_mask, classes):
    """The peer: OpenCV in float32 over the whole frame."""
    hard = cv2.inRange(source_mask, classes[0], classes[0])
    for index in classes[1:]:
        hard |= cv2.inRange(source_mask, index, index)
    alpha = cv2.GaussianBlur(hard.astype(np.float32) * (1 / 255), (9, 9), 1.0)
    return cv2.blendLinear(source, image, alpha, 1 - alpha), cv2.copyTo(source_mask, hard, mask.copy())


def paste_ours(image, mask, source, source_mask, classes):
    """Ours works in place, on arrays that the augmentation has just made."""
    cut = lambda box: source[box.y : box.y + box.height, box.x : box.x + box.width]  # noqa: E731
    paste(image, mask, source_mask, classes, cut)
    return image, mask


def copy_both(image, mask, source, source_mask, classes):
    return image.copy(), mask.copy()


NAIVE, OURS = "float64, whole frame (naive)", "ours"
WAYS = {
    NAIVE: paste_float64,
    "float32, whole frame": paste_float32,
    OURS: paste_ours,
    "copying both (bound)": copy_both,
}


def make_jobs(num_pairs: int) -> list[tuple]:
    """Returns (image, mask, source, source mask, classes), 1 to 3 classes of at most half the frame each."""
    images, rng = read_images(num_pairs), np.random.default_rng(1)
    jobs = []
    for number, (image, mask) in enumerate(images):
        source, source_mask = images[number - 1]
        classes = choose_classes(count_values(source_mask), range(NUM_CLASSES), 3, 0.5 * mask.size, rng)
        jobs.append((image, mask, source, source_mask, classes))
    return jobs


def worst_difference(jobs: list[tuple]) -> int:
    """Returns the largest difference in grey levels between ours and float64; masks must be the same."""
    worst = 0
    for image, mask, *rest in jobs:
        expected, expected_mask = paste_float64(image, mask, *rest)
        ours, ours_mask = paste_ours(image.copy(), mask.copy(), *rest)
        assert (ours_mask == expected_mask).all()
        worst = max(worst, int(np.abs(ours.astype(int) - expected).max()))
    return worst


def median_seconds(name: str, jobs: list[tuple]) -> float:
    """Returns the median over all jobs; the images of each job are no longer in the caches."""
    if name == OURS:
        start_worker()
    jobs = [(image.copy(), mask.copy(), *rest) for image, mask, *rest in jobs]  # no page is shared any more
    seconds = []
    for job in jobs * 2:
        began = time.process_time()
        WAYS[name](*job)
        seconds.append(time.process_time() - began)
    return statistics.median(seconds[len(jobs) :])  # the first pass warms the memory allocator


def main() -> None:
    cv2.setNumThreads(0)
    jobs = make_jobs(NUM_PAIRS)
    worst = worst_difference(jobs)
    assert worst <= 1
    rounds = [{name: in_own_process(median_seconds, name, jobs) for name in WAYS} for _ in range(NUM_ROUNDS)]
    seconds = {name: statistics.median(one[name] for one in rounds) for name in WAYS}
    print(f"one copy-paste, {NUM_PAIRS} pairs of 1280x720, 1 to 3 classes; masks identical, pixels at most {worst} off")
    for name, value in seconds.items():
        print(f"  {name:<30}{value * 1e3:9.2f} ms   x{seconds[NAIVE] / value:6.1f}")
    print(f"  bar: x{BAR} over naive (reached x{seconds[NAIVE] / seconds[OURS]:.1f})")


if __name__ == "__main__":
    main()
