"""A small finished run for the report: drawn images, invented but coherent numbers, every file of the contract."""

from __future__ import annotations

import csv
import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from pipeline.config.load import Loaded, nested
from pipeline.paths import Folders
from pipeline.report.figure import encode_png
from pipeline.segmentation.panels import draw_panel

CLASSES = ("Background", "Person", "Road", "Sky")
COLORS = ((0, 0, 0), (192, 128, 128), (128, 128, 0), (0, 128, 128))
DICE = (0.9, 0.4, 0.95, 0.8)


def write_csv(path: Path, head: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(head)
        writer.writerows(rows)


def make_image(width: int = 96, height: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """An image (uint8, H, W, 3) and its mask with all four classes and a corner that is not scored."""
    generator = np.random.default_rng(0)
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), np.uint8)
    mask[: height // 3] = 3
    mask[height // 2 :] = 2
    mask[height // 3 : height // 2, width // 3 : width // 2] = 1
    mask[-height // 8 :, : width // 4] = 255
    return image, mask


def make_history(num_flat: int = 6, num_anneal: int = 2) -> tuple[list[str], list[list[object]]]:
    """Head and rows of history.csv: losses fall, rise for two epochs, then the anneal starts from the best epoch."""
    head = "epoch phase lr train_loss valid_loss train_dice train_iou valid_dice valid_iou valid_miou is_best"
    names = [f"{side}_{score}_{name}" for side in ("valid", "train") for score in ("dice", "iou") for name in CLASSES]
    rows: list[list[object]] = []
    best = 9.0
    for epoch in range(num_flat + num_anneal + 1):
        is_flat = epoch <= num_flat
        loss = 0.8 - 0.08 * epoch if epoch <= num_flat - 2 else 0.55 if is_flat else 0.4 - 0.01 * epoch
        is_best = int(epoch > 0 and loss < best)
        best = loss if is_best else best
        train = [loss - 0.05, 1 - loss] if epoch else ["", ""]
        row = [epoch, "flat" if is_flat else "anneal", 0.001 if is_flat else 0.0005, train[0], loss, train[1], train[1]]
        row += [1 - loss, 0.8 - loss / 2, 0.7 - loss / 2, is_best, int(epoch > 0 and not is_best)]
        rows.append(row + [min(1.0, dice * epoch / 8) for dice in DICE] * 2 + ([0.5] * 8 if epoch else [""] * 8))
    return [*head.split(), "epochs_since_best", *names], rows


def score_of(label: str, values: Sequence[float | None]) -> dict[str, object]:
    known = [value for value in values if value is not None]
    return {"label": label, "mean": sum(known) / len(known), "classes": dict(zip(CLASSES, values, strict=True))}


def metrics_of(split_by: str = "slice", dice: Sequence[float] = DICE, score: str = "dice") -> dict[str, object]:
    return {
        "images": 12,
        "score": score,
        "scores": {
            "dice": score_of("Dice", dice),
            "iou": score_of("IoU", [value - 0.1 for value in dice]),
            "miou": score_of("mIoU", [value - 0.2 for value in dice]),
        },
        "scored": list(CLASSES),
        "majority": {"class": "Road", "scores": {"dice": 0.31, "iou": 0.25, "miou": 0.05}},
        "split": {"by": split_by, "index": 0},
        "checkpoint": {"epoch": 7, "valid_loss": 0.33, "sha256": "c" * 64},
        "duplicates": {"near_duplicates": 5, "valid_images_affected": 3},
    }


def write_prepared(folder: Path) -> None:
    ids = [f"{sequence:06d}_{frame:03d}" for sequence in range(5) for frame in range(6)]
    rows = [[name, name[:6], f"{name}.jpg", f"{name}.png", 96, 64] for name in ids]
    write_csv(folder / "catalog_train.csv", ["id", "sequence", "image", "mask", "width", "height"], rows)
    write_csv(
        folder / "split.csv", ["id", "subset"], [[name, "valid" if name[3:6] == "004" else "train"] for name in ids]
    )
    leaks = [[ids[index], ids[-1 - index % 3], index] for index in range(5)]
    write_csv(folder / "leakage.csv", ["train_id", "valid_id", "distance"], leaks)
    head = ["index", "name", "red", "green", "blue", "images", "pixels", "pixel_share"]
    head += ["train_images", "valid_images"]
    counts = (30, 4, 29, 20)
    rows = [
        [index, name, *COLORS[index], counts[index], 10 ** (index + 2), 0.25, counts[index] - 1, 1]
        for index, name in enumerate(CLASSES)
    ]
    write_csv(folder / "classes.csv", head, rows)


def write_sweep(folder: Path) -> None:
    head = ["repeat", "step", "lr", "valid_loss", "valid_loss_smooth", "train_loss", "train_loss_smooth"]
    rows = []
    for repeat in range(3):
        for step in range(20 - repeat):
            rate = 1e-4 * 10 ** (step / 4)
            loss = 0.7 - 0.2 * np.exp(-((np.log10(rate) + 1) ** 2)) + (rate > 1) * rate + 0.01 * repeat
            rows.append([repeat, step, rate, loss, loss, loss + 0.05, loss + 0.05])
    write_csv(folder / "lr_sweep.csv", head, rows)
    found = {
        "suggestions": {"steep": 0.01, "minimum": 0.1, "valley": 0.03},
        "band": {"steep": [0.005, 0.02]},
        "max_lr": 0.001,
        "warnings": ["SOLVER.MAX_LR 0.001 lies far below the sweep's suggestion 0.01"],
    }
    (folder / "lr_sweep.json").write_text(json.dumps(found))


def write_evaluated(folder: Path, split_by: str = "slice", dice: Sequence[float] = DICE, score: str = "dice") -> None:
    (folder / "metrics.json").write_text(json.dumps(metrics_of(split_by, dice, score)))
    head = ["id", "sequence", "dice", "iou", *(f"{score}_{name}" for score in ("dice", "iou") for name in CLASSES)]
    mean = sum(dice) / len(dice)
    rows = [
        [f"{index % 6:06d}_{index:03d}", f"{index % 6:06d}", mean + 0.01 * (index - 6), 0.5, *dice, *dice]
        for index in range(13)
    ]
    write_csv(folder / "per_image.csv", head, rows)
    confusion = [["Background", 90, 0, 8, 2], ["Person", 20, 0, 20, 0], ["Road", 1, 0, 99, 0], ["Sky", 10, 0, 0, 90]]
    write_csv(folder / "confusion.csv", ["truth", *CLASSES], confusion)


def write_images(folder: Path) -> None:
    for name, content in encoded_images().items():
        (folder / name).write_bytes(content)


@functools.cache
def encoded_images() -> dict[str, bytes]:
    """Returns the images of a run by their paths in it: drawn once, as each test has a run of its own."""
    image, mask = make_image()
    found = {}
    for group in ("best", "median", "worst"):
        panel = draw_panel(image, mask, np.roll(mask, 5, axis=1) % 4, CLASSES, COLORS, f"{group} 1")
        found[f"panels/{group}_1_000004_003.png"] = encode_png(Image.fromarray(panel))
    return found | {f"plots/{name}.png": encode_png(Image.fromarray(image)) for name in ("samples", "tile_grid_1")}


def write_submission(name: str, dice: float) -> Path:
    folders = Folders.from_environment()
    path = folders.submissions / f"{name}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("ImageID,EncodedPixels\n000004_000_0,0 5\n")
    content_hash = hashlib.sha256(path.read_bytes()).hexdigest()
    facts = {"experiment": name, "rows": 1, "sha256": content_hash, "created_utc": "2026-11-12"}
    facts |= {"score": "dice", "local_score": dice, "local_scores": {"dice": dice, "iou": dice - 0.1}}
    path.with_suffix(".json").write_text(json.dumps(facts))
    (folders.runs / name / "submission.json").write_text(json.dumps({"sha256": content_hash, "checked": True}))
    return path


def start_run(loaded: Loaded) -> Path:
    """The folder of a run with its resolved config, as `chain.py` writes it."""
    folder = Folders.from_environment().runs / loaded.run
    for name in ("plots", "panels", ".stages"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    lines = [f"# Resolved values of {loaded.name}."]
    if loaded.changed:
        lines.append(f"# Overridden on the command line: {', '.join(loaded.changed)}")
    (folder / "config.yaml").write_text("\n".join([*lines, json.dumps(nested(loaded.values), indent=2)]))
    return folder


def mark_stages(folder: Path, **seconds: float) -> None:
    for stage, value in seconds.items():
        marker = {"version": 1, "settings": {}, "inputs": {}, "outputs": {}, "seconds": value}
        (folder / ".stages" / f"{stage}.json").write_text(json.dumps(marker))
