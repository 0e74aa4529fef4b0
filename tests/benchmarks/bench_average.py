"""What AVERAGE costs: the stage against a validation pass and an epoch, and the kept weights against an epoch.

    python -m tests.benchmarks.bench_average [--network NAME] [--encoder NAME]

The tiny competition with 160 images of one frame each (128 to train, 32 to validate), trained for four epochs. Measured
is processor time of each part, on one thread; ratios hold better than seconds.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path
from unittest.mock import patch

import torch

from pipeline.paths import CANDIDATES, LAST
from pipeline.training import candidates, trainer
from pipeline.work import average as average_module
from pipeline.work.average import Averaging
from tests import tiny as tiny_module
from tests.tiny import run_of, run_stages, tiny, write_competition

NUM_IMAGES, NUM_EPOCHS, NUM_ROUNDS = 160, 4, 3


@contextmanager
def timed(owner: object, name: str, seconds: list[float]):
    """Notes the processor time of each call of a function."""
    function: Callable = getattr(owner, name)

    def call(*arguments, **options):
        began = time.process_time()
        result = function(*arguments, **options)
        seconds.append(time.process_time() - began)
        return result

    with patch.object(owner, name, call):
        yield


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--network", default="Linknet")
    parser.add_argument("--encoder", default="tu-lcnet_035")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for variable in ("RUNS_DIR", "SCRATCH_DIR", "SUBMISSIONS_DIR"):
            os.environ[variable] = str(Path(folder) / variable)
        measure(Path(folder), options.network, options.encoder)


def measure(folder: Path, network: str, encoder: str) -> None:
    """Trains one run with kept epochs and times the parts of it and of the stage."""
    with patch.multiple(tiny_module, TRAIN_SEQUENCES=NUM_IMAGES, FRAMES=1):
        data = write_competition(folder / "data")
    changes = ("DATASETS.SPLIT.BY=slice", "SWEEP.ENABLE=false", "SOLVER.PLAN=constant", "SOLVER.MAX_LR=0.003")
    changes += (f"SOLVER.NUM_EPOCHS={NUM_EPOCHS}", "AVERAGE.METHOD=swa", "AVERAGE.COUNT=3")
    loaded = tiny(data, *changes, f"MODEL.NAME={network}", f"MODEL.ENCODER.NAME={encoder}")
    epochs, validations, saves, kept = [], [], [], []
    with (
        timed(trainer, "train_epoch", epochs),
        timed(trainer, "validate_epoch", validations),
        timed(trainer, "replace_last", saves),
        timed(candidates, "save_checkpoint", kept),
    ):
        paths, _ = run_stages(loaded, "train")
    stages, renewed, scored = [], [], []
    run = run_of(loaded, lambda line: None)
    with (
        timed(average_module, "renew_statistics", renewed),
        timed(Averaging, "_score", scored),
        timed(average_module, "average", stages),
    ):
        for _ in range(NUM_ROUNDS):
            average_module.average(run)
    sizes = [path.stat().st_size for path in (paths / CANDIDATES).iterdir()]
    epoch, validation = statistics.median(epochs), statistics.median(validations[1:])
    parts = {"the stage": stages, "statistics of batch norms": renewed, "scoring one network": scored}
    parts |= {"keeping an epoch's weights": kept, "for comparison: last.ckpt": saves}
    print(f"{network}, {encoder}; 128 training and 32 validation samples of 64x64, one thread, processor time")
    print(f"an epoch of training {epoch:.2f} s, a validation {validation:.2f} s")
    for name, seconds in parts.items():
        median = statistics.median(seconds)
        ratios = f"x{median / validation:6.3f} of a validation  x{median / epoch:6.3f} of an epoch"
        print(f"  {name:28s} {median:7.3f} s  {ratios}")
    whole = (paths / LAST).stat().st_size
    print(f"  {CANDIDATES}/: {len(sizes)} files of {max(sizes):,} bytes each; {LAST} has {whole:,}")


if __name__ == "__main__":
    main()
