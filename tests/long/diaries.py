"""Runs all of the Cityscapes and the aerial diary to their end, small: every plan, loss, freezing and warm-up.

    RUNS_DIR=FOLDER DATA_DIR=../shared/data WEIGHTS_DIR=../shared/weights python -m tests.long.diaries
    ... python -m tests.long.diaries ExpC06 ExpU05        only these

ExpC01 to ExpC08 run on CamVid and ExpU01 to ExpU09 on the satellite images of Dubai, both reduced to images of at most
`MOST_SIDE` pixels. Every run keeps the epochs of its config, so that each change of the plan comes at its epoch; epochs
are short instead. `overrides` has all that differs from the configs. About 40 minutes of processor; a second start goes
on where the first was stopped, or prints the results again.

It ends with the table of the runs, what was checked in each (the epochs of each phase; the learning rate against the
plan; frozen weights and statistics against a checkpoint from before the freezing), and the pages that lay the runs side
by side. Exit code 1 when a check failed.
"""

from __future__ import annotations

import argparse
import csv
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import cv2
import torch

from pipeline.commands.runs import compare_command
from pipeline.commands.table import Parser
from pipeline.config.load import Loaded, load, load_competition
from pipeline.config.plan import learning_rate
from pipeline.data.competition import find_folder
from pipeline.engine.api import open_run, run_stages
from pipeline.engine.run import Run
from pipeline.engine.stopping import Stop
from pipeline.errors import Stopped
from pipeline.paths import HISTORY, LAST, STEPS, Folders
from pipeline.report.page import write_page
from pipeline.report.read import read_columns, read_metrics, read_steps_per_epoch

CITYSCAPES = tuple(f"ExpC0{number}" for number in range(1, 9))
AERIAL = tuple(f"ExpU0{number}" for number in range(1, 10))
MOST_SIDE = 128  # pixels
# Of the Cityscapes configs' rates, which are for an encoder that knows photographs already. Ten times as much for the
# classifier in addition diverges with random weights.
RATE_FACTOR, HEAD_LR_FACTOR = 10, 1
COMMON = (
    *("RUNTIME.DEVICE=cpu", "RUNTIME.LOG_STEPS=1", "DATASETS.SPLIT.BY=sequence", "DATALOADERS.TRAIN.NUM_WORKERS=0"),
    *("DATALOADERS.VALID.NUM_WORKERS=0", "SOLVER.SAVE_MINUTES=60"),
)


def overrides(name: str, folders: Folders) -> tuple[str, ...]:
    """Returns the settings that make a run of the diaries a small one."""
    config = load(name).config
    if name in CITYSCAPES:
        return (
            *COMMON,
            *("DATASETS.COMPETITION=camvid", f"DATASETS.DIRECTORY={small_copy('camvid', folders)}"),
            "DATASETS.SPLIT_INDEX=-10",  # of the images: 37 and 10
            *("MODEL.ENCODER.NAME=resnet18", "MODEL.ENCODER.WEIGHTS=null", "DATALOADERS.TRAIN.BATCH_SIZE=2"),
            *(f"DATASETS.AUGMENTATION.RANDOM_CROP.{side}=64" for side in ("WIDTH", "HEIGHT")),
            "DATASETS.AUGMENTATION.RANDOM_CROP.SCALE=[0.75, 1.5]",
            "MODEL.OPTIONS={ENCODER_OUTPUT_STRIDE: 16}",  # a third of the time
            f"SOLVER.OPTIMIZER.HEAD_LR_FACTOR={HEAD_LR_FACTOR}",
            f"SOLVER.MAX_LR={RATE_FACTOR * config.solver.max_lr:g}",
            "REPORT.EPOCHS=[10, 28, 47, 67]",
        )
    small_unet = ("MODEL.OPTIONS={ENCODER_DEPTH: 4, FIRST_CHANNELS: 16, USE_NORM: " + str(name != "ExpU07").lower() + "}",)
    return (
        *COMMON,
        *("DATASETS.COMPETITION=dubai_aerial", f"DATASETS.DIRECTORY={small_copy('dubai_aerial', folders)}"),
        "DATASETS.SPLIT_INDEX=-50",  # of the images: 24 and 4 or so
        *(small_unet if config.model.name == "PlainUnet" else ()),
    )


def small_copy(competition: str, folders: Folders) -> Path:
    """Returns a copy of a competition's folder with images and masks of at most `MOST_SIDE` pixels, made once."""
    target = folders.scratch / f"{competition}_{MOST_SIDE}"
    if target.is_dir():
        return target
    source, making = find_folder(load_competition(competition), folders.data, None), target.with_suffix(".part")
    shutil.rmtree(making, ignore_errors=True)
    for path in sorted(source.rglob("*")):
        copy = making / path.relative_to(source)
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix in (".jpg", ".png"):
            image = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
            height, width = image.shape[:2]
            scale = MOST_SIDE / max(height, width)
            size = (max(32, round(width * scale)), max(32, round(height * scale)))
            how = cv2.INTER_NEAREST if path.suffix == ".png" else cv2.INTER_AREA
            cv2.imwrite(str(copy), cv2.resize(image, size, interpolation=how))
        elif path.is_file():
            shutil.copyfile(path, copy)
    making.replace(target)
    return target


class StopAfter(Stop):
    """A stop that is requested when the log says that an epoch is finished."""

    def __init__(self, epoch: int | None) -> None:
        super().__init__()
        self.epoch = epoch

    def log(self, line: str) -> None:
        print(line, flush=True)
        if self.epoch is not None and line.split("/")[0].split() == ["epoch", str(self.epoch)]:
            self.reason = f"epoch {self.epoch} is the last before parts are frozen"


def carry_out(name: str, folders: Folders) -> Run:
    """Runs one of the diaries up to its scores and its page; keeps the checkpoint from before parts are frozen."""
    settings, before = overrides(name, folders), first_frozen(load(name))
    kept = folders.scratch / f"{name}_before_freezing.ckpt"
    stop = StopAfter(before if before and not kept.is_file() else None)
    try:
        opened = run_stages(open_run(name, settings, folders, stop.log, stop), "evaluate")
    except Stopped:
        shutil.copyfile(open_run(name, settings, folders).paths / LAST, kept)
        opened = run_stages(open_run(name, settings, folders), "evaluate")
    write_page(opened)
    return opened


def first_frozen(loaded: Loaded) -> int | None:
    """Returns the last epoch before a plan freezes parts, or None where it freezes none."""
    begun = 0
    for phase in loaded.plan:
        if phase.freeze:
            return begun
        begun += phase.epochs
    return None


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", default=[*CITYSCAPES, *AERIAL], help="some of the runs; default: all")
    names = parser.parse_args(arguments).names
    torch.set_num_threads(1)
    folders, runs = Folders.from_environment(), {}
    for name in names:
        started = time.process_time()
        runs[name] = carry_out(name, folders)
        print(f"{name}: {time.process_time() - started:.0f} s of processor", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
