"""Images of AeroScapes' size for benchmarks: CamVid enlarged to 1280x720, or drawn where ../shared is absent."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

CAMVID = Path(__file__).resolve().parents[3] / "shared" / "data" / "camvid"
WIDTH, HEIGHT, NUM_CLASSES = 1280, 720, 12
CLASSES = tuple(f"class {index}" for index in range(NUM_CLASSES))
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def read_images(num_images: int) -> list[tuple[np.ndarray, np.ndarray]]:
    """Returns images (uint8, 720x1280x3, RGB) with masks (uint8, 720x1280, 12 classes)."""
    ids = sorted(path.stem for path in (CAMVID / "masks" / "masks").glob("*.png"))
    if not ids:
        return [_drawn(seed) for seed in range(num_images)]
    chosen = [ids[index * len(ids) // num_images] for index in range(num_images)]
    return [_enlarged(image_id) for image_id in chosen]


def write_competition(folder: Path, num_images: int) -> pd.DataFrame:
    """Writes JPEG images (quality 95) and PNG masks and returns their catalog."""
    (folder / "imgs").mkdir(parents=True)
    (folder / "masks").mkdir()
    rows = []
    for number, (image, mask) in enumerate(read_images(num_images)):
        row = {"id": f"{number:03d}", "image": f"imgs/{number:03d}.jpg", "mask": f"masks/{number:03d}.png"}
        bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(folder / row["image"]), bgr, [cv2.IMWRITE_JPEG_QUALITY, 95])
        cv2.imwrite(str(folder / row["mask"]), mask)
        rows.append({**row, "width": WIDTH, "height": HEIGHT})
    return pd.DataFrame(rows)


def one_hot(mask: np.ndarray) -> np.ndarray:
    """Returns the original's mask: float32, height x width x classes, stacked as public notebooks do."""
    return np.stack([mask == index for index in range(NUM_CLASSES)], axis=-1).astype(np.float32)


def normalise_float64(image: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The original's preprocessing: float64 arithmetic, channels first, float32 at the end."""
    normalised = (image / 255.0 - np.array(MEAN)) / np.array(STD)
    return normalised.transpose(2, 0, 1).astype(np.float32), np.ascontiguousarray(mask.transpose(2, 0, 1))


def medians(calls: dict[str, Callable[[], object]], num_rounds: int, clock=time.perf_counter) -> dict[str, float]:
    """Returns the median seconds of each call; in each round all are called in turn.

    With `time.process_time` as clock, work on one core can be compared on a machine that others keep busy.
    """
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(num_rounds):
        for name, call in calls.items():
            began = clock()
            call()
            seconds[name].append(clock() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def in_own_process(function: Callable, *arguments):
    """Returns what `function` returns in a forked process, so that no way inherits another's memory or settings."""

    def answer(sender) -> None:
        sender.send(function(*arguments))

    context = get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=answer, args=(sender,))
    process.start()
    result = receiver.recv()
    process.join()
    return result


def _enlarged(image_id: str) -> tuple[np.ndarray, np.ndarray]:
    image = cv2.imread(str(CAMVID / "imgs" / "imgs" / f"{image_id}.jpg"))
    mask = cv2.imread(str(CAMVID / "masks" / "masks" / f"{image_id}.png"), cv2.IMREAD_UNCHANGED)
    image = cv2.cvtColor(cv2.resize(image, (WIDTH, HEIGHT)), cv2.COLOR_BGR2RGB)
    return image, cv2.resize(mask, (WIDTH, HEIGHT), interpolation=cv2.INTER_NEAREST)


def _drawn(seed: int) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    noise = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    fields = cv2.GaussianBlur(rng.random((HEIGHT, WIDTH)).astype(np.float32), (0, 0), 25)
    levels = np.quantile(fields, np.linspace(0, 1, NUM_CLASSES + 1)[1:-1])
    return cv2.GaussianBlur(noise, (0, 0), 2), np.digitize(fields, levels).astype(np.uint8)
