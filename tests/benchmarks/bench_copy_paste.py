"""One copy-paste at 1280x720: the original's float64 Gaussian over the frame against ours, on one core.

    python -m tests.benchmarks.bench_copy_paste

Bar: x11, mask identical, picture within one grey level. Bound: copying picture and mask. Processor time is
measured, which a busy machine does not distort.
"""

from __future__ import annotations

import statistics
import time

import cv2
import numpy as np

from pipeline.data.copy_paste import choose_classes, class_areas, paste
from tests.benchmarks.street_pictures import NUM_CLASSES, medians, read_pictures

NUM_ROUNDS = 7
BAR = 11


def paste_float64(picture, mask, source, source_mask, classes):
    """The original's way: alpha softened over the whole frame and blended in float64."""
    hard = np.isin(source_mask, classes)
    alpha = cv2.GaussianBlur(hard.astype(np.float64), (0, 0), 1.0)[..., None]
    blended = source.astype(np.float64) * alpha + picture.astype(np.float64) * (1 - alpha)
    return np.rint(blended).astype(np.uint8), np.where(hard, source_mask, mask)


def paste_float32(picture, mask, source, source_mask, classes):
    """The peer: OpenCV in float32 over the whole frame."""
    hard = cv2.inRange(source_mask, classes[0], classes[0])
    for index in classes[1:]:
        hard |= cv2.inRange(source_mask, index, index)
    alpha = cv2.GaussianBlur(hard.astype(np.float32) * (1 / 255), (9, 9), 1.0)
    return cv2.blendLinear(source, picture, alpha, 1 - alpha), cv2.copyTo(source_mask, hard, mask.copy())


def paste_ours(picture, mask, source, source_mask, classes):
    """Ours works in place, on arrays that the augmentation has just made."""
    cut = lambda box: source[box.y : box.y + box.height, box.x : box.x + box.width]  # noqa: E731
    paste(picture, mask, source_mask, classes, cut)
    return picture, mask


def main() -> None:
    cv2.setNumThreads(0)
    pictures = read_pictures(16)
    rng = np.random.default_rng(1)
    ways = {"float64, whole frame (naive)": paste_float64, "float32, whole frame": paste_float32, "ours": paste_ours}
    seconds: dict[str, list[float]] = {name: [] for name in [*ways, "copying picture and mask"]}
    worst = 0
    for number, (picture, mask) in enumerate(pictures):
        source, source_mask = pictures[number - 1]
        classes = choose_classes(class_areas(source_mask), range(NUM_CLASSES), 3, 0.5 * mask.size, rng)
        job = (picture, mask, source, source_mask, classes)
        on_copies = (picture.copy(), mask.copy(), source, source_mask, classes)
        (expected, expected_mask), (ours, ours_mask) = paste_float64(*job), paste_ours(*on_copies)
        assert (ours_mask == expected_mask).all()
        worst = max(worst, int(np.abs(ours.astype(int) - expected).max()))
        calls = {name: lambda way=way, job=job: way(*job) for name, way in ways.items()}
        calls["ours"] = lambda job=on_copies: paste_ours(*job)
        calls["copying picture and mask"] = lambda picture=picture, mask=mask: (picture.copy(), mask.copy())
        for name, median in medians(calls, NUM_ROUNDS, time.process_time).items():
            seconds[name].append(median)
    naive = statistics.median(seconds["float64, whole frame (naive)"])
    print(
        f"one copy-paste, {len(pictures)} pairs of 1280x720, 1 to 3 classes; masks identical, worst pixel {worst} off"
    )
    for name, values in seconds.items():
        print(f"  {name:<30}{statistics.median(values) * 1e3:9.2f} ms   x{naive / statistics.median(values):6.1f}")
    assert worst <= 1
    print(f"  bar: x{BAR} over naive (reached x{naive / statistics.median(seconds['ours']):.1f})")


if __name__ == "__main__":
    main()
