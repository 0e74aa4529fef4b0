"""The time of `./run.sh board` with 300 runs, beside `./run.sh table` on the same runs.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE python -m tests.benchmarks.bench_board [NUM_RUNS]
    python -m tests.benchmarks.bench_board --make FOLDER     # ten runs as an example, to look at the board of them

Each command is a process of its own, started in alternation: what a user waits for includes the imports. The board
reads more than the table: the scores of all validation images, the histories, and all configs. Its runs have 200
validation images in 12 sequences, 40 epochs, and uploads. Bar: less than four times as long as the table.
"""

from __future__ import annotations

import csv
import json
import os
import statistics
import sys
import tempfile
import zlib
from pathlib import Path

import numpy as np

from pipeline.config.load import Loaded, load, load_competition, names
from pipeline.paths import BOARD, Folders
from pipeline.submission.log import LOG_COLUMNS
from tests.benchmarks.bench_table import seconds_of
from tests.report.small_run import mark_stages, start_run, write_csv

NUM_ROUNDS, MOST_RATIO = 5, 4.0
NUM_IMAGES, NUM_SEQUENCES, NUM_EPOCHS = 200, 12, 40
CLASSES = (
    "Background",
    "Person",
    "Bike",
    "Car",
    "Drone",
    "Boat",
    "Animal",
    "Construction",
    "Vegetation",
    "Road",
    "Sky",
)
EXAMPLE = (
    ("ExpAAB", ()), ("ExpAAC", ()), ("ExpBAA", ()), ("ExpBAB", ()), ("ExpBAC", ()), ("ExpBAD", ()), ("ExpCAA", ()),
    ("ExpAAB", ("SOLVER.POWER=2",)), ("ExpAAB", ("EXPERIMENT.SEED=1",)), ("ExpAAC", ("EXPERIMENT.SEED=1",)),
    ("ExpBBA", ("SOLVER.MAX_LR=0.01", "LOSS_FN.MIX=0.5 ce + 0.5 lovasz")),
)  # fmt: skip


def make_run(loaded: Loaded, level: float, num_epochs: int = NUM_EPOCHS) -> Path:
    """Writes the small files of a finished run whose mean Dice is about `level`; returns its folder.

    Images score by how difficult their sequence is, by the run, and by chance; the last is the run's own.
    """
    folder = start_run(loaded)
    own = np.random.default_rng(zlib.crc32(loaded.run.encode()))
    of_scenes = np.random.default_rng(0)
    difficulty = of_scenes.normal(0, 0.05, NUM_SEQUENCES)
    sequences = of_scenes.integers(0, NUM_SEQUENCES, NUM_IMAGES)
    effect = own.normal(0, 0.008, NUM_SEQUENCES)
    dice_I = np.clip(level + (difficulty + effect)[sequences] + own.normal(0, 0.03, NUM_IMAGES), 0, 1)
    offsets_C = of_scenes.normal(0, 0.15, len(CLASSES))
    dice_IC = np.clip(dice_I[:, None] + (offsets_C - offsets_C.mean()), 0, 1)
    tables = {"dice": dice_IC, "iou": dice_IC / (2 - dice_IC)}
    ids = [f"{sequence:06d}_{number:03d}" for number, sequence in enumerate(sequences)]
    head = ["id", "sequence", *tables, *(f"{score}_{name}" for score in tables for name in CLASSES)]
    cells = np.hstack([*(values.mean(1, keepdims=True) for values in tables.values()), *tables.values()])
    rows = [[name, name[:6], *(f"{value:.6f}" for value in row)] for name, row in zip(ids, cells, strict=True)]
    write_csv(folder / "per_image.csv", head, rows)
    (folder / "metrics.json").write_text(json.dumps(_metrics(tables, loaded)))
    rows = list(_history(float(dice_IC.mean()), own, num_epochs))
    write_csv(
        folder / "history.csv", ("epoch", "phase", "lr", "train_loss", "valid_loss", "valid_dice", "is_best"), rows
    )
    seconds = [[epoch, f"{own.normal(90, 4):.2f}", 20.0] for epoch in range(1, num_epochs + 1)]
    write_csv(folder / "timings.csv", ["epoch", "seconds", "samples_per_s"], seconds)
    mark_stages(folder, prepare=1.5, tile=2.0, train=90.0 * num_epochs, evaluate=4.0, predict=5.0, submit=0.5)
    (folder / "report.html").write_text(f"<!doctype html><title>{loaded.run}</title>")
    return folder


def _metrics(tables: dict[str, np.ndarray], loaded: Loaded) -> dict[str, object]:
    def score(label: str, values_C: np.ndarray) -> dict[str, object]:
        by_class = dict(zip(CLASSES, map(float, values_C), strict=True))
        return {"label": label, "mean": float(values_C.mean()), "classes": by_class}

    scores = {"dice": score("Dice", tables["dice"].mean(0)), "iou": score("IoU", tables["iou"].mean(0))}
    scores["miou"] = score("mIoU", tables["iou"].mean(0) - 0.03)
    split = {"by": loaded.config.datasets.split.by, "index": loaded.config.datasets.split_index}
    checkpoint = {"epoch": 30, "sha256": f"{zlib.crc32(loaded.run.encode()):064x}", "parameters": 13_000_000}
    return {"images": NUM_IMAGES, "score": "dice", "scores": scores, "split": split, "checkpoint": checkpoint}


def _history(level: float, own: np.random.Generator, num_epochs: int):
    rate = own.uniform(0.1, 0.25)
    for epoch in range(num_epochs + 1):
        done = 1 - np.exp(-rate * epoch)
        loss, dice = (
            0.9 - (level - 0.1) * done + own.normal(0, 0.012),
            0.05 + (level - 0.05) * done + own.normal(0, 0.008),
        )
        yield [epoch, "flat" if epoch else "", 0.001, loss - 0.05 if epoch else "", loss, dice, int(epoch > 0)]


def write_uploads(scores: dict[str, float], folders: Folders) -> None:
    """Writes the log of uploads: by run, its public score."""
    slug = load_competition("aeroscapes").kaggle_slug
    folders.submissions.mkdir(parents=True, exist_ok=True)
    with open(folders.submissions / "log.csv", "w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, LOG_COLUMNS)
        writer.writeheader()
        for run, public in scores.items():
            row = {"competition": slug, "file": f"{run}.csv", "sha256": "a" * 12, "public": f"{public:.5f}"}
            writer.writerow(dict.fromkeys(LOG_COLUMNS, "") | row)


def make_runs(num_runs: int) -> None:
    """Writes runs of all experiments in turn, each third of them as it stands, and uploads of twenty."""
    experiments = [name for name in names() if name.startswith("Exp")]
    uploads, chance = {}, np.random.default_rng(1)
    for number in range(num_runs):
        name, repeat = experiments[number % len(experiments)], number // len(experiments)
        loaded = load(name, (f"SOLVER.POWER={1 + number / 1000}",) if repeat else ())
        level = 0.6 + 0.1 * float(chance.random())
        make_run(loaded, level)
        if number < 20:
            uploads[loaded.run] = level - 0.02 + float(chance.normal(0, 0.01))
    write_uploads(uploads, Folders.from_environment())


def make_example(folder: Path) -> None:
    """Writes ten finished runs, and one each that trains, is damaged, and was stopped half-way."""
    os.environ |= {"RUNS_DIR": str(folder / "runs"), "SUBMISSIONS_DIR": str(folder / "submissions")}
    uploads, chance = {}, np.random.default_rng(2)
    for number, (name, overrides) in enumerate(EXAMPLE):
        loaded, level = load(name, overrides), 0.62 + 0.012 * number
        make_run(loaded, level)
        if number < 7:
            uploads[loaded.run] = level - 0.02 + float(chance.normal(0, 0.008))
    write_uploads(uploads, Folders.from_environment())
    damaged = make_run(load("ExpBAE"), 0.6)
    (damaged / "metrics.json").write_text('{"images": 200, "score": "di')
    half = make_run(load("ExpBAF"), 0.6, 12)
    for name in ("metrics.json", "per_image.csv", "report.html", ".stages/train.json", ".stages/evaluate.json"):
        (half / name).unlink()
    plan = {"settings": {"SOLVER.PLAN": [{"epochs": NUM_EPOCHS}]}, "inputs": {}, "outputs": {}, "seconds": 0.0}
    (half / ".stages" / "train.begun.json").write_text(json.dumps({"version": 1, **plan}))


def main(num_runs: int) -> None:
    """Prints the median time of each command, and the ratio of the board to the table."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"RUNS_DIR": f"{folder}/runs", "SUBMISSIONS_DIR": f"{folder}/submissions"}
        make_runs(num_runs)
        commands = {name: [sys.executable, "-m", "pipeline", name] for name in ("table", "board")}
        seconds: dict[str, list[float]] = {name: [] for name in commands}
        for _ in range(NUM_ROUNDS):
            for name, command in commands.items():
                seconds[name].append(seconds_of(command))
        size = (Folders.from_environment().runs / BOARD).stat().st_size
    medians = {name: statistics.median(own) for name, own in seconds.items()}
    print(f"{num_runs} runs, median of {NUM_ROUNDS}; bar: x{MOST_RATIO:g}; the page has {size / 1e6:.2f} MB")
    for name, own in medians.items():
        print(f"  ./run.sh {name}  {own:6.2f} s  x{own / medians['table']:.2f}")


if __name__ == "__main__":
    if sys.argv[1:2] == ["--make"]:
        make_example(Path(sys.argv[2]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
