"""Everything that only a GPU shows, in one command: that it computes, repeats itself, goes on, and how fast.

    python -m tests.long.gpu                        all parts; `repeat` alone is forty short runs
    python -m tests.long.gpu repeat precision       some of them
    python -m tests.long.gpu --device cpu --quick   a try of the command itself where there is no GPU

tests      tests/training/test_on_a_gpu.py: numbers of the CPU, no step that waits, loss scaling, cuts at every step.
repeat     per network two trainings with SOLVER.REPRODUCIBLE, which must be identical to the bit or refused by name,
           and two without it, which show the drift and what repeating costs. Training and prediction.
precision  the same training in float32, bfloat16 and float16: loss, Dice, samples a second.
resume     tests.long.kill on the GPU: processes killed at random times end with the same bits.
speed      tests.benchmarks.bench_step: the share of the bare step's throughput.
boxes      RetinaNet with ResNet-50 and YOLOX-L on the demo with boxes, in float32 and bfloat16: AP, samples a second.

Needs no data: the demo competition is drawn. Exit code 1 when something that must hold does not.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from pipeline.demo.write import generate
from pipeline.paths import PROJECT
from pipeline.training.checkpoint import load_checkpoint
from tests.long.cuts import tensors
from tests.long.processes import load_packages, results, run_to_end

NETWORKS = ("FPN", "Unet", "UnetPlusPlus", "MAnet", "Linknet", "PAN", "DeepLabV3Plus", "Segformer", "PSPNet", "UPerNet")
REFUSED = ("PSPNet", "UPerNet")  # see docs/repeatability.md
QUICK_NETWORKS = ("Linknet", "PSPNet")
COMMON = (
    *("SWEEP.ENABLE=false", "DATASETS.AUGMENTATION.TILE.ENABLE=false", "DATALOADERS.TRAIN.NUM_WORKERS=2"),
    "RUNTIME.KEEP_STATE=true",  # the last weights are compared
)
SHORT = ("SOLVER.NUM_EPOCHS=3",)
BENCHES = (
    ("--part", "1", "--precision", "bfloat16", "--batch", "16", "--steps", "40", "--workers", "12", "--images", "64"),
    ("--part", "1", "--precision", "float16", "--batch", "16", "--steps", "40", "--workers", "12", "--images", "64"),
    ("--part", "2", "--batch", "16", "--steps", "20"),
    ("--part", "3", "--batch", "8", "--images", "64", "--workers", "12"),
)
RETINANET = ("MODEL.NAME=RetinaNet", "LOSS_FN.MIX=1 sigmoid_focal(alpha=0.25, gamma=2) + 1 smooth_l1")
BOX_NETWORKS = {
    "RetinaNet, resnet50": (*RETINANET, "MODEL.ENCODER.NAME=resnet50", "DATALOADERS.TRAIN.BATCH_SIZE=8"),
    "YOLOX, yolox_l": ("MODEL.ENCODER.NAME=yolox_l", "DATALOADERS.TRAIN.BATCH_SIZE=8"),
}
QUICK_BOX_NETWORKS = {
    "RetinaNet, resnet18": (*RETINANET, "MODEL.ENCODER.NAME=resnet18"),
    "YOLOX, yolox_nano": ("MODEL.ENCODER.NAME=yolox_nano",),
}
QUICK_BENCHES = (("--part", "1", "--encoder", "resnet18", "--steps", "1", "--rounds", "1", "--images", "2"),)


@dataclass(frozen=True)
class Chosen:
    """What was asked for, and where it is tried."""

    device: str
    is_quick: bool
    folder: Path  # of the runs
    data: Path  # the demo competition


@dataclass(frozen=True)
class Outcome:
    """One run of the chain up to `predict`."""

    code: int
    output: str
    files: dict[str, bytes]
    weights: torch.Tensor | None
    valid_loss: float
    dice: float
    samples_per_s: float


def run_demo(chosen: Chosen, name: str, *changes: str) -> Outcome:
    """Runs the demo in a process of its own and returns what it left."""
    folder = chosen.folder / name
    arguments = ["predict", f"DATASETS.DIRECTORY={chosen.data}", f"RUNTIME.DEVICE={chosen.device}", *COMMON, *changes]
    code, output = run_to_end(folder, arguments)
    if code:
        return Outcome(code, output, {}, None, np.nan, np.nan, np.nan)
    (run,) = (path.parent for path in folder.glob("runs/*/last.ckpt"))
    history, timings = pd.read_csv(run / "history.csv"), pd.read_csv(run / "timings.csv")
    weights = torch.cat(
        [tensor.double().flatten() for tensor in tensors(load_checkpoint(run / "last.ckpt")["network"])]
    )
    last = history.iloc[-1]
    speed = timings["samples_per_s"].iloc[1:].median()  # the first epoch chooses algorithms
    return Outcome(code, output, results(folder), weights, last["valid_loss"], last["valid_dice"], speed)


def try_tests(chosen: Chosen) -> list[str]:
    command = [sys.executable, "-m", "pytest", "-q", "-rs", "tests/training/test_on_a_gpu.py"]
    code = subprocess.run(
        command, cwd=PROJECT, env={**os.environ, "TEST_DEVICE": chosen.device}, check=False
    ).returncode
    return [f"tests ended with {code}"] if code else []


def try_repeat(chosen: Chosen) -> list[str]:
    """Trains and predicts each network twice with REPRODUCIBLE and twice without."""
    failures = []
    for network in QUICK_NETWORKS if chosen.is_quick else NETWORKS:
        changes = (*SHORT, f"MODEL.NAME={network}")
        kept = [run_demo(chosen, f"{network}-kept-{n}", *changes, "SOLVER.REPRODUCIBLE=true") for n in (1, 2)]
        if kept[0].code:
            line = next((line for line in kept[0].output.splitlines() if "repeatable way" in line), None)
            print(f"{network:<14} refused: {line or kept[0].output}", flush=True)
            if kept[0].code != 2 or line is None or network not in REFUSED:
                failures.append(f"{network} with REPRODUCIBLE ended with {kept[0].code}:\n{kept[0].output}")
            continue
        is_same = kept[0].files == kept[1].files
        if not is_same:
            names = sorted(name for name, content in kept[0].files.items() if kept[1].files.get(name) != content)
            failures.append(f"{network} with REPRODUCIBLE: {', '.join(names)} differ")
        loose = [run_demo(chosen, f"{network}-loose-{n}", *changes) for n in (1, 2)]
        if any(outcome.code for outcome in loose):
            failures.append(f"{network} without REPRODUCIBLE: {loose[0].output}{loose[1].output}")
            continue
        drift = (loose[0].weights - loose[1].weights).abs()
        ratio = loose[0].samples_per_s / kept[0].samples_per_s
        print(
            f"{network:<14} {'identical' if is_same else 'DIFFERENT'}, {kept[0].samples_per_s:.0f} samples/s; without: "
            f"{(drift > 0).double().mean():.1%} of weights differ, by up to {drift.max():.1e}, valid loss "
            f"{loose[0].valid_loss:.5f} and {loose[1].valid_loss:.5f}, {loose[0].samples_per_s:.0f} samples/s "
            f"(x{ratio:.2f})",
            flush=True,
        )
    return failures


def try_precision(chosen: Chosen) -> list[str]:
    """Trains the demo in each number format."""
    failures = []
    changes = SHORT if chosen.is_quick else ("SOLVER.NUM_EPOCHS=10",)
    for precision in ("float32", "bfloat16", *(() if chosen.device == "cpu" else ("float16",))):  # hours on a CPU
        outcome = run_demo(chosen, precision, *changes, f"SOLVER.PRECISION={precision}")
        if outcome.code:
            failures.append(f"{precision} ended with {outcome.code}:\n{outcome.output}")
            continue
        print(
            f"{precision:<9} valid loss {outcome.valid_loss:.4f}  Dice {outcome.dice:.4f}  "
            f"{outcome.samples_per_s:.0f} samples/s",
            flush=True,
        )
    return failures


def try_resume(chosen: Chosen) -> list[str]:
    points = "4" if chosen.is_quick else "24"
    command = [sys.executable, "-m", "tests.long.kill", "--points", points, "--device", chosen.device]
    code = subprocess.run(command, cwd=PROJECT, check=False).returncode
    return [f"tests.long.kill ended with {code}"] if code else []


def try_speed(chosen: Chosen) -> list[str]:
    failures = []
    for arguments in QUICK_BENCHES if chosen.is_quick else BENCHES:
        command = [sys.executable, "-m", "tests.benchmarks.bench_step", *arguments]
        code = subprocess.run(command, cwd=PROJECT, check=False).returncode
        failures += [f"bench_step {' '.join(arguments)} ended with {code}"] if code else []
    return failures


def try_boxes(chosen: Chosen) -> list[str]:
    """Trains networks that find boxes for two epochs on the demo with boxes, from random weights."""
    data, failures = chosen.data.with_name("demo_boxes"), []
    generate(data, labels="boxes")
    common = (f"DATASETS.DIRECTORY={data}", f"RUNTIME.DEVICE={chosen.device}", "SOLVER.NUM_EPOCHS=2")
    common += ("DATASETS.SPLIT_INDEX=-5",) if chosen.is_quick else ()  # a twentieth of the images
    for network, changes in (QUICK_BOX_NETWORKS if chosen.is_quick else BOX_NETWORKS).items():
        for precision in ("float32", "bfloat16")[: 1 if chosen.is_quick else 2]:
            folder = chosen.folder / f"{network}-{precision}"
            places = {name: str(folder / name.lower()) for name in ("RUNS_DIR", "SCRATCH_DIR", "SUBMISSIONS_DIR")}
            words = ["demo_boxes", "evaluate", *common, *changes, f"SOLVER.PRECISION={precision}"]
            command = [sys.executable, "-m", "pipeline", *words]
            done = subprocess.run(command, cwd=PROJECT, env=os.environ | places, capture_output=True, text=True)
            if done.returncode:
                failures.append(f"{network} in {precision} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
                continue
            (run,) = (path.parent for path in folder.glob("runs_dir/*/metrics.json"))
            scores, timings = json.loads((run / "metrics.json").read_text())["scores"], pd.read_csv(run / "timings.csv")
            speed = timings["samples_per_s"].iloc[-1]  # the first epoch chooses algorithms
            print(f"{network:<20} {precision:<9} AP {scores['ap']['mean']:.4f}  {speed:.0f} samples/s", flush=True)
    return failures


PARTS: dict[str, Callable[[Chosen], list[str]]] = {
    "tests": try_tests,
    "repeat": try_repeat,
    "precision": try_precision,
    "resume": try_resume,
    "speed": try_speed,
    "boxes": try_boxes,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Reads the arguments, tries the parts, prints what failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", choices=[*PARTS, []], help=f"of {', '.join(PARTS)}; all when none is named")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--quick", action="store_true", help="fewer networks, points and steps")
    given = parser.parse_args(arguments)
    os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] = "1"  # CUDA initialised before a fork fails in the child
    load_packages()
    failures: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        chosen = Chosen(given.device, given.quick, Path(folder) / "runs", Path(folder) / "demo")
        generate(chosen.data)
        for name in given.parts or PARTS:
            print(f"== {name}", flush=True)
            failures += PARTS[name](chosen)
    for failure in failures:
        print(f"FAILED {failure}", file=sys.stderr)
    print(f"{len(failures)} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
