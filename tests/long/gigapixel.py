"""Images too large for memory: the peak of every stage, on images of 20,000 x 20,000 to train, validate and predict.

    python -m tests.long.gigapixel                       at full size, in half an hour on two cores
    python -m tests.long.gigapixel --side 9000           smaller; images above 8192 x 8192 are read by region
    python -m tests.long.gigapixel --folder FOLDER       keeps the files there, and uses images that are there

Draws a HuBMAP competition (TIFF of tiles, of planes and of strips, masks as run lengths), runs each stage in a process
of its own and prints its minutes, its peak resident memory (ru_maxrss, mapped files included) and that of it and its
workers together (PSS, looked at several times a second). Exit code 1 when a stage fails or needs 2 GB.
"""

from __future__ import annotations

import argparse
import contextlib
import csv
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tifffile

from pipeline.config.competition import Convention
from pipeline.segmentation.submission.rle import encode

BAR_BYTES = 2_000_000_000
SLUG = "hubmap-kidney-segmentation"
CONVENTION = Convention(order="column", base=1)
TILE, BLOCK, BAND = 512, 64, 500  # pixels: of tiles, of the noise, of what is drawn at once
STAGES = ("prepare", "testset", "tile", "sweep", "train", "evaluate", "fit", "predict", "submit", "report")
SETTINGS = {
    "DATASETS.COMPETITION": "hubmap_kidney",
    "DATASETS.SPLIT_INDEX": "1",  # of two images one each
    "DATASETS.SPLIT.BY": "slice",
    "DATASETS.AUGMENTATION.TILE.WIDTH": "256",
    "DATASETS.AUGMENTATION.TILE.HEIGHT": "256",
    "DATASETS.AUGMENTATION.COLOR.ENABLE": "false",
    "DATASETS.SAMPLING.RARE_CLASS_RATE": "0.4",
    "MODEL.NAME": "Linknet",
    "MODEL.ENCODER.NAME": "tu-lcnet_035",
    "DATALOADERS.TRAIN.BATCH_SIZE": "4",
    "DATALOADERS.TRAIN.NUM_WORKERS": "1",
    "DATALOADERS.VALID.NUM_WORKERS": "1",
    "DATALOADERS.VALID.BATCH_SIZE": "1",
    "LOSS_FN.MIX": "0.5 ce + 0.5 dice",
    "RUNTIME.DEVICE": "cpu",
    "SOLVER.PLAN": "one_cycle",
    "SOLVER.NUM_EPOCHS": "1",
    "SOLVER.MAX_LR": "0.01",
    "SWEEP.STEPS": "8",
    "SWEEP.REPEATS": "1",
    "SWEEP.IMAGES": "4",
    "DECODE.OFFSETS": "fitted",
    "DECODE.SUPPRESS": "fitted",
}


def draw(side: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns the centres (x, y) and radii of the glomeruli of an image: int64 (N, 2), (N,)."""
    rng = np.random.default_rng(seed)
    number = max(4, (side // 1000) ** 2)
    return rng.integers(0, side, (number, 2)), rng.integers(60, 150, number)


def window(side: int, seed: int, top: int, left: int, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Returns pixels and mask of a part of an image: uint8 (H, W, 3) and (H, W); beyond the image they go on."""
    grid = (side // BLOCK + 10, side // BLOCK + 10)
    blocks = np.random.default_rng((seed, 1)).integers(-12, 13, grid, dtype=np.int16)
    rows, columns = np.arange(top, top + height), np.arange(left, left + width)
    brightness = blocks[rows[:, None] // BLOCK, columns[None] // BLOCK]
    mask = np.zeros((height, width), np.uint8)
    for (x, y), radius in zip(*draw(side, seed), strict=True):
        if left - radius < x < left + width + radius and top - radius < y < top + height + radius:
            mask |= ((rows[:, None] - y) ** 2 + (columns[None] - x) ** 2 < radius**2).astype(np.uint8)
    color = np.array([[225, 195, 215], [150, 70, 130]], np.int16)[mask]
    return (color + brightness[..., None]).clip(0, 255).astype(np.uint8), mask


def write_tiff(path: Path, side: int, seed: int, kind: str) -> None:
    """Writes an image as a TIFF of compressed tiles, of planes of them, or of uncompressed strips."""
    options = {"photometric": "rgb", "shape": (side, side, 3), "dtype": np.uint8}
    if kind == "strips":
        bands = (window(side, seed, top, 0, min(BAND, side - top), side)[0] for top in range(0, side, BAND))
        rows = (row[None] for band in bands for row in band)
        tifffile.imwrite(path, rows, rowsperstrip=1, **options)
        return
    corners = [(top, left) for top in range(0, side, TILE) for left in range(0, side, TILE)]
    tiles = (window(side, seed, *corner, TILE, TILE)[0] for corner in corners)
    if kind == "planes":
        options |= {"planarconfig": "separate", "shape": (3, side, side)}
        tiles = (window(side, seed, *corner, TILE, TILE)[0][..., plane] for plane in range(3) for corner in corners)
    tifffile.imwrite(path, tiles, tile=(TILE, TILE), compression="zlib", **options)


def write_competition(folder: Path, side: int) -> None:
    """Writes two training images, of which one validates, and a test image."""
    root = folder / SLUG
    for name in ("train", "test"):
        (root / name).mkdir(parents=True)
    rows = []
    for seed, (name, kind) in enumerate((("train/a", "tiles"), ("train/b", "planes"), ("test/c", "strips"))):
        write_tiff(root / f"{name}.tiff", side, seed, kind)
        if name.startswith("train"):
            bands = (window(side, seed, top, 0, min(BAND, side - top), side)[1] for top in range(0, side, BAND))
            mask = np.concatenate(list(bands))
            rows.append((name[-1], encode(mask, 2, CONVENTION)[1]))
    for name, header, lines in (("train", "encoding", rows), ("sample_submission", "predicted", [("c", "")])):
        with open(root / f"{name}.csv", "w", newline="") as file:
            csv.writer(file).writerows([("id", header), *lines])


def draw_apart(folder: Path, side: int) -> None:
    """Writes the competition in a process of its own: what is forked from here later would count its memory, too."""
    child = os.fork()
    if not child:
        write_competition(folder, side)
        os._exit(0)
    if os.waitpid(child, 0)[1]:
        raise RuntimeError("the images could not be drawn")


def processes_below(process: int) -> list[int]:
    """Returns the numbers of a process and of all that it started."""
    children = []
    with contextlib.suppress(OSError):
        for thread in os.listdir(f"/proc/{process}/task"):
            children += map(int, Path(f"/proc/{process}/task/{thread}/children").read_text().split())
    return [process, *(below for child in children for below in processes_below(child))]


def shared_fairly(process: int) -> int:
    """Returns the resident bytes of a process and its workers; a page that several map is counted once."""
    total = 0
    for number in processes_below(process):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/{number}/smaps_rollup").read_text().splitlines():
                if line.startswith("Pss:"):
                    total += 1024 * int(line.split()[1])
    return total


def run_stage(folder: Path, stage: str, changes: list[str]) -> tuple[int, int, int, float]:
    """Returns exit code, peak memory of the process and of it with its workers, and minutes, of a run up to a stage."""
    environment = os.environ | {"DATA_DIR": str(folder)}
    environment |= {f"{name.upper()}_DIR": str(folder / name) for name in ("runs", "submissions", "scratch")}
    settings = [f"{key}={value}" for key, value in SETTINGS.items()] + changes
    begun, peak, is_over = time.monotonic(), 0, threading.Event()
    command = [sys.executable, "-m", "pipeline", "demo", stage, *settings]
    with open(folder / f"{stage}.log", "w") as log:
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)

        def watch() -> None:
            nonlocal peak
            while not is_over.wait(0.2):
                peak = max(peak, shared_fairly(child.pid))

        watcher = threading.Thread(target=watch)
        watcher.start()
        _, status, usage = os.wait4(child.pid, 0)
        is_over.set()
        watcher.join()
    return os.waitstatus_to_exitcode(status), usage.ru_maxrss * 1024, peak, (time.monotonic() - begun) / 60


@contextlib.contextmanager
def working_folder(given: Path | None) -> Iterator[Path]:
    if given is not None:
        given.mkdir(parents=True, exist_ok=True)
        yield given
        return
    with tempfile.TemporaryDirectory() as folder:
        yield Path(folder)


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--side", type=int, default=20_000)
    parser.add_argument("--folder", type=Path)
    parser.add_argument("changes", nargs="*", help="KEY=VALUE")
    arguments = parser.parse_args()
    failed = False
    with working_folder(arguments.folder) as folder:
        begun = time.monotonic()
        if not (folder / SLUG).is_dir():
            draw_apart(folder, arguments.side)
        megabytes = sum(path.stat().st_size for path in folder.rglob("*.tiff")) / 1e6
        took = (time.monotonic() - begun) / 60
        drawn = f"three images of {arguments.side} x {arguments.side}, {megabytes:,.0f} MB, {took:.1f} min"
        print(f"drawn: {drawn}", flush=True)
        print(f"{'stage':<9} {'minutes':>7} {'peak MB':>8} {'with workers':>12}", flush=True)
        # The pixels as they are and a tenth of the size, of few tiles: an epoch over all of them would take an hour.
        sets = f"DATASETS.AUGMENTATION.TILE.SETS=[[{arguments.side}, {arguments.side}, 32, 32], [0.1, 0.0]]"
        for stage in STAGES:
            code, own, together, minutes = run_stage(folder, stage, [sets, *arguments.changes])
            is_good = code == 0 and max(own, together) < BAR_BYTES
            verdict = "" if is_good else f"  exit code {code}" if code else "  above 2,000 MB"
            print(f"{stage:<9} {minutes:7.1f} {own / 1e6:8,.0f} {together / 1e6:12,.0f}{verdict}", flush=True)
            failed |= not is_good
            if code:
                print((folder / f"{stage}.log").read_text()[-3000:])
                break
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
