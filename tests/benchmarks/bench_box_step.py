"""A training step of boxes end to end against its bare bones.

    OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE DATA_DIR=../shared/data WEIGHTS_DIR=../shared/weights \\
        python -m tests.benchmarks.bench_box_step

Ours: `train_epoch` of `BccdR`, that is data with augmentation, normalisation, loss, optimizer, logs, the progress bar,
the checks of finiteness and of time. Bound: forward, loss, backward and optimizer on one batch that is loaded already.
Bar: 1.05. Processor time of this process is measured, which neighbours disturb least.
"""

from __future__ import annotations

import argparse
import statistics

import cv2

from pipeline.engine.api import open_run, run_stages
from pipeline.training.assemble import assemble
from pipeline.training.history import StepLog
from pipeline.training.trainer import Training
from tests.benchmarks.bench_step import Clock, alternate, bare_step, one_epoch

BAR = 1.05


def open_training(name: str) -> Training:
    """Returns the training of a config at its start, in a run folder of its own."""
    run = open_run(name, ("EXPERIMENT.SUFFIX=bench",))
    run_stages(run, "tile")
    training = assemble(run)
    training.step_log = StepLog(
        run.paths / "bench_steps.csv", 0, training.sums.terms, training.data.steps_per_epoch, 1, 0
    )
    return training


def main() -> None:
    """Reads the arguments and prints both ways with their ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--config", default="BccdR")
    parser.add_argument("--steps", type=int, default=10, help="in a round")
    parser.add_argument("--rounds", type=int, default=5)
    chosen = parser.parse_args()
    cv2.setNumThreads(0)
    training = open_training(chosen.config)
    learner, learning, config = training.learner, training.learning, training.config
    training.learner.network.train()
    batch = next(training.data.train_batches(1, 0, True, ()))
    images, labels = batch.images.to(learner.device), learning.to_device(batch.labels)
    criterion = learning.criterion(config.loss_fn.mix, 0, ())

    def bare() -> None:
        for _ in range(chosen.steps):
            bare_step(learner, learner.outputs, images, labels, criterion)

    ways = {"bare": bare, "ours": lambda: one_epoch(training, chosen.steps)}
    seconds = alternate(ways, chosen.rounds, Clock(learner.device.type == "cuda"))
    ratio = statistics.median(ours / own for ours, own in zip(seconds["ours"], seconds["bare"], strict=True))
    size = "x".join(str(side) for side in images.shape[2:0:-1])
    print(f"a step of {chosen.config}, {len(images)} x {size}, {learner.precision}, {learner.device}")
    for name, values in seconds.items():
        print(f"  {name:<6}{statistics.median(values) / chosen.steps * 1e3:10.1f} ms")
    print(f"  bar: x{BAR} (reached x{ratio:.3f})")


if __name__ == "__main__":
    main()
