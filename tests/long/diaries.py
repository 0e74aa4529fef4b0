"""Runs all of the Cityscapes and the aerial diary to their end, small: every plan, loss, freezing and warm-up.

    RUNS_DIR=FOLDER DATA_DIR=../shared/data WEIGHTS_DIR=../shared/weights python -m tests.long.diaries
    ... python -m tests.long.diaries ExpC06 ExpU05        only these

ExpC01 to ExpC08 run on CamVid and ExpU01 to ExpU09 on the satellite images of Dubai, both reduced to images of at most
`MOST_SIDE` pixels. Every run keeps the epochs of its config, so that each change of the plan comes at its epoch; epochs
are short instead. `overrides` has all that differs from the configs. About an hour of processor; a second start goes on
where the first was stopped, or prints the results again.

It ends with the table of the runs, what was checked in each (the epochs of each phase; the learning rate against the
plan; frozen weights and statistics against a checkpoint from before the freezing), and the pages that lay the runs side
by side. Exit code 1 when a check failed.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import torch

from pipeline.config.load import Loaded, load, load_competition
from pipeline.config.loss_mix import parse_mix
from pipeline.data.competition import find_folder
from pipeline.engine.api import open_run, run_stages
from pipeline.engine.run import Run
from pipeline.engine.stopping import Stop
from pipeline.errors import Stopped
from pipeline.paths import LAST, STEPS, Folders, scene_scores
from pipeline.report.page import write_page
from pipeline.report.read import read_columns, read_metrics
from pipeline.report.side_page import write_side_page
from pipeline.stages import STAGES
from pipeline.training.checkpoint import load_checkpoint

CITYSCAPES = tuple(f"ExpC0{number}" for number in range(1, 9))
AERIAL = tuple(f"ExpU0{number}" for number in range(1, 10))
MOST_SIDE = 128  # pixels
# What the Cityscapes diary decided, by run: the power from an epoch on, the steps of the warm-up, what was frozen.
POWERS = {
    "ExpC05": ((1, 0.9), (29, 1.2), (47, 2.0), (48, 1.2)),
    "ExpC06": ((1, 0.9), (48, 1.0)),
    "ExpC07": ((1, 0.9), (35, 1.1)),
}
WARMUP_STEPS = {"ExpC05": 500, "ExpC06": 500}
HALVES = "0.5 ce(stride=8) + 0.5 lovasz"  # of ExpC05 after epoch 46
FROZEN = ("encoder.bn1.", *(f"encoder.layer{number}." for number in (1, 2, 3, 4)))
LEARNING = ("encoder.conv1.", "segmentation_head.")
# Of the Cityscapes configs' rates, which are for an encoder that knows photographs already. Ten times as much for the
# classifier in addition diverges with random weights.
RATE_FACTOR, HEAD_LR_FACTOR = 10, 1
COMMON = (
    *("RUNTIME.DEVICE=cpu", "RUNTIME.LOG_STEPS=1", "DATASETS.SPLIT.BY=sequence", "DATALOADERS.TRAIN.NUM_WORKERS=0"),
    *("DATALOADERS.VALID.NUM_WORKERS=0", "SOLVER.SAVE_MINUTES=60"),
    "RUNTIME.KEEP_STATE=true",  # the last weights are compared with those from before a freezing
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
    has_norm = str(name != "ExpU07").lower()
    small_unet = (f"MODEL.OPTIONS={{ENCODER_DEPTH: 4, FIRST_CHANNELS: 16, USE_NORM: {has_norm}}}",)
    return (
        *COMMON,
        *("DATASETS.COMPETITION=dubai_aerial", f"DATASETS.DIRECTORY={small_copy('dubai_aerial', folders)}"),
        "DATASETS.SPLIT_INDEX=-50",  # of the images
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


def problems(name: str, run: Run, folders: Folders) -> Iterator[str]:
    """Yields what did not happen as the diary has it; every figure is read from the run's own files."""
    steps = read_columns(run.paths / STEPS) or {}
    epochs = [int(one) for one in steps["epoch"]]
    config, last = run.loaded.config, epochs[-1]
    if last != config.solver.num_epochs:
        yield f"ended after epoch {last} of {config.solver.num_epochs}"
    if name in CITYSCAPES:
        per_epoch = epochs.count(1)
        for index, (epoch, found) in enumerate(zip(epochs, map(float, steps["lr"]), strict=True)):
            wanted = rate(name, config.solver.max_lr, index, epoch, per_epoch * config.solver.num_epochs)
            if not math.isclose(found, wanted, rel_tol=1e-6, abs_tol=1e-12):
                yield f"LR {found:.6g} in step {index + 1}, of epoch {epoch}; the diary has {wanted:.6g}"
                break
    for epoch, row in zip(epochs, zip(*steps.values(), strict=True), strict=True):
        cells = dict(zip(steps, row, strict=True))
        weights = dict(parse_mix(HALVES if name == "ExpC05" and epoch > 46 else config.loss_fn.mix))
        total = sum(weight * float(cells[term]) for term, weight in weights.items()) if len(weights) > 1 else None
        if total is not None and not math.isclose(total, float(cells["loss"]), rel_tol=1e-4):
            yield f"the loss of epoch {epoch} is {cells['loss']}, its terms by the diary's weights {total}"
            break
    yield from _frozen_problems(name, run, folders)
    missing = [epoch for epoch in config.report.epochs if not (run.paths / scene_scores(f"epoch_{epoch}")).is_file()]
    if missing:
        yield f"no images of epochs {missing}"


def rate(name: str, max_lr: float, step: int, epoch: int, num_steps: int) -> float:
    """Returns the learning rate that the diary gives a step, 0-based: `lr0 * (1 - iter / max_iter) ** power`."""
    warmup = WARMUP_STEPS.get(name, 0)
    if step < warmup:
        return max_lr * (step + 1) / warmup
    power = next(power for first, power in reversed(POWERS.get(name, ((1, 0.9),))) if epoch >= first)
    return max_lr * (1 - (step - warmup) / (num_steps - warmup)) ** power


def _frozen_problems(name: str, run: Run, folders: Folders) -> Iterator[str]:
    """Yields which frozen tensors, weights or statistics of batch norms, have changed since the freezing."""
    kept = folders.scratch / f"{name}_before_freezing.ckpt"
    if not kept.is_file():
        return
    before, after = (load_checkpoint(path)["network"] for path in (kept, run.paths / LAST))
    changed = {key for key in before if not torch.equal(before[key], after[key])}
    frozen = {key for key in before if key.startswith(FROZEN)}
    if len(frozen) < 50 or changed & frozen:
        yield f"{len(changed & frozen)} of {len(frozen)} frozen tensors changed, such as {sorted(changed & frozen)[:2]}"
    if idle := {key for key in before if key.startswith(LEARNING)} - changed:
        yield f"{len(idle)} tensors that are not frozen did not change, such as {sorted(idle)[:2]}"
    print(f"{name}: {len(frozen - changed)} frozen tensors are the same as before, {len(changed)} others learnt")


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
    found = {name: list(problems(name, run, folders)) for name, run in runs.items()}
    print(f"\n{'run':<8} {'mIoU':>6} {'Dice':>6}  {'best':>5}  loss")
    for name, run in runs.items():
        metrics = read_metrics(run.paths.folder)
        scores = f"{metrics.mean('miou'):6.3f} {metrics.mean('dice'):6.3f}  {metrics.checkpoint['epoch']:>5}"
        print(f"{name:<8} {scores}  {run.loaded.config.loss_fn.mix}")
    for name, listed in found.items():
        print(*(f"{name}: {problem}" for problem in listed), sep="\n", end="\n" if listed else "")
    for group in (CITYSCAPES, AERIAL):
        folders_of_group = [runs[name].name for name in group if name in runs]
        if len(folders_of_group) > 1:
            print(f"page: {write_side_page(folders_of_group, folders, STAGES)}")
    return int(any(found.values()))


if __name__ == "__main__":
    sys.exit(main())
