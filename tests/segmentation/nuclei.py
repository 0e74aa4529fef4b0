"""A folder like that of Data Science Bowl 2018: a folder per image, a mask file per nucleus, images of three sizes."""

from __future__ import annotations

import csv
import hashlib
from pathlib import Path

import cv2
import numpy as np

SIZES = ((256, 256), (256, 320), (520, 696))  # (height, width), the commonest three of the competition


def draw_nuclei(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, list[np.ndarray]]:
    """Returns an RGBA image, uint8 (H, W, 4), and the pixels of each nucleus, bool (H, W): many touch, none overlap."""
    y, x = np.mgrid[:height, :width].astype(np.float32)
    taken, bright, nuclei = np.zeros((height, width), bool), np.full((height, width), 12, np.float32), []
    for _ in range(rng.integers(6, 10) * height * width // 256**2):
        center, radius = rng.uniform(0, (height, width)), rng.uniform(6, 22)
        for _ in range(rng.integers(1, 4)):  # neighbours that touch
            distance = np.hypot((y - center[0]) * rng.uniform(0.8, 1.2), x - center[1])
            own = (distance < radius) & ~taken
            center = center + rng.uniform(-1, 1, 2) * 2 * radius
            if own.sum() < 40 or cv2.connectedComponents(own.astype(np.uint8))[0] > 2:
                continue
            taken |= own
            bright[own] = rng.uniform(110, 200) * (1 - 0.55 * (distance[own] / radius) ** 4)  # darker at its rim
            nuclei.append(own)
    grey = np.clip(bright + rng.normal(0, 4, bright.shape), 0, 255).astype(np.uint8)
    return np.dstack([grey, grey, grey, np.full_like(grey, 255)]), nuclei


def write_folder(folder: Path, num_train: int = 12, num_test: int = 3, seed: int = 5) -> dict[str, list[np.ndarray]]:
    """Writes the folder; returns the nuclei of each training image by id."""
    rng, found = np.random.default_rng(seed), {}
    ids = [hashlib.sha256(f"{seed} {number}".encode()).hexdigest() for number in range(num_train + num_test)]
    for number, image_id in enumerate(ids):
        subset = "stage1_train" if number < num_train else "stage1_test"
        kind = 2 if number == 5 else number % 2  # one large one, for the sake of time
        image, nuclei = draw_nuclei(rng, *SIZES[kind if number < num_train else (number - num_train) % 3])
        (folder / subset / image_id / "images").mkdir(parents=True)
        cv2.imwrite(str(folder / subset / image_id / "images" / f"{image_id}.png"), image)
        if subset == "stage1_train":
            found[image_id] = nuclei
            (folder / subset / image_id / "masks").mkdir()
            for own in nuclei:
                name = hashlib.sha256(own.tobytes()).hexdigest()
                cv2.imwrite(str(folder / subset / image_id / "masks" / f"{name}.png"), own * np.uint8(255))
    with open(folder / "stage1_sample_submission.csv", "w", newline="") as file:
        csv.writer(file).writerows([("ImageId", "EncodedPixels"), *((image_id, "") for image_id in ids[num_train:])])
    return found
