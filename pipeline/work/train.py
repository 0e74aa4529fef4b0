"""`train`: carries out the training plan, from wherever an earlier process left it."""

from __future__ import annotations

from pipeline.engine.run import Run
from pipeline.paths import LAST
from pipeline.training.assemble import assemble, start_learner
from pipeline.training.trainer import train as carry_out
from pipeline.work.inputs import competition_folder


def train(run: Run) -> None:
    """Writes `last.ckpt`, `best.ckpt`, `history.csv` and TensorBoard events."""
    training = assemble(run)
    with run.stop.deferred():
        carry_out(training)


def check_start(run: Run) -> None:
    """Refuses a network that could not be built, filled with its first weights, or asked for predictions here."""
    competition_folder(run)  # missing data comes first
    if not (run.paths / LAST).exists():  # a training that continues needs no first weights, which may be gone by now
        learner = start_learner(run)
        run.task.make_predictor(run.loaded, learner.network, learner.device, learner.precision)
