"""Poisons a training at every step, in four ways, and checks that nothing broken is ever saved.

    python -m tests.long.poison

A loss of NaN, an infinite gradient, a weight or a batch-norm statistic that becomes NaN; with answers at once and one
step late (as on a GPU), with and without a loss scaler, saving at every step and at epochs only. No checkpoint may hold
a number that is not finite, and the same training started again without the poison must end with the bits of one that
never had it. Exit code 1 when not.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Callable
from dataclasses import replace
from itertools import product

import pytest
import torch

from pipeline.errors import UserError
from pipeline.task import Criterion, Loss
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.trainer import Training, train
from tests.long.cuts import tensors
from tests.training.toy import STEPS, make, results

EPOCHS = 3
CHANGES = (f"SOLVER.NUM_EPOCHS={EPOCHS}", "SOLVER.ANN_EPOCHS=1", "SOLVER.PATIENCE=5")
SAVES = ("SOLVER.SAVE_MINUTES=0", "SOLVER.SAVE_MINUTES=60")


def poison_loss(training: Training, is_time: Callable[[], bool], monkeypatch) -> None:
    plain = training.learning.criterion

    def poisoned(*arguments) -> Criterion:
        criterion = plain(*arguments)

        def loss(logits: torch.Tensor, mask: torch.Tensor) -> Loss:
            found = criterion(logits, mask)
            return found._replace(total=found.total * (float("nan") if is_time() else 1.0))

        return loss

    monkeypatch.setattr(training, "learning", replace(training.learning, criterion=poisoned))


def poison_gradient(training: Training, is_time: Callable[[], bool], monkeypatch) -> None:
    weight = training.learner.network.segmentation_head.weight
    weight.register_hook(lambda gradient: gradient * float("inf") if is_time() else gradient)


def poison_weight(training: Training, is_time: Callable[[], bool], monkeypatch) -> None:
    weight = training.learner.network.segmentation_head.weight
    spoil_after_step(training, is_time, weight)


def poison_statistics(training: Training, is_time: Callable[[], bool], monkeypatch) -> None:
    spoil_after_step(training, is_time, training.learner.network.encoder[1].running_var)


def spoil_after_step(training: Training, is_time: Callable[[], bool], tensor: torch.Tensor) -> None:
    def spoil(*_) -> None:
        if is_time():
            tensor.data.view(-1)[0] = float("nan")

    training.learner.optimizer.register_step_post_hook(spoil)


POISONS = (poison_loss, poison_gradient, poison_weight, poison_statistics)


def faults_of(
    poison: Callable, position: tuple[int, int], lags: bool, has_scaler: bool, changes: list[str]
) -> list[str]:
    """Returns what was wrong with one poisoned training, begun anew in the run folder `poisoned`."""
    faults, times = [], []
    training = make("poisoned", changes=changes, lags=lags, has_scaler=has_scaler)

    def is_time() -> bool:
        times.append((training.state.epoch, training.state.step) == position)
        return times[-1]

    with pytest.MonkeyPatch.context() as monkeypatch:
        poison(training, is_time, monkeypatch)
        try:
            train(training)
        except UserError as error:
            if "not finite" not in str(error):
                faults.append(f"another error: {error}")
        else:
            # A scaler leaves out a step with such a gradient, and rightly; in a step left out no weight is poisoned.
            if not has_scaler or (any(times) and poison is not poison_gradient):
                faults.append("it was not noticed")
    for path in training.run.paths.folder.glob("*.ckpt"):
        if not all(bool(torch.isfinite(tensor.double()).all()) for tensor in tensors(load_checkpoint(path))):
            faults.append(f"{path.name} is not finite")
    return faults


def main() -> int:
    """Tries everything; prints and returns what was wrong."""
    failed, count, refused = 0, 0, 0
    for lags, has_scaler, saves in product((False, True), (False, True), SAVES):
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setitem(os.environ, "RUNS_DIR", folder)
            changes = [*CHANGES, saves]
            whole = make("whole", changes=changes, has_scaler=has_scaler)
            train(whole)
            for poison, epoch, step in product(POISONS, range(EPOCHS), range(STEPS)):
                faults = faults_of(poison, (epoch, step), lags, has_scaler, changes)
                again = make("poisoned", changes=changes, lags=lags, has_scaler=has_scaler)
                was_refused = (again.run.paths / "not_finite.json").exists()
                train(again)
                if was_refused and results(again.run.paths) != results(whole.run.paths):
                    faults.append("started again without the poison, it ended otherwise")
                for path in again.run.paths.folder.iterdir():
                    if path.is_file():
                        path.unlink()
                count, refused, failed = count + 1, refused + was_refused, failed + bool(faults)
                if faults:
                    print(f"FAILED {poison.__name__}, epoch {epoch}, step {step}, lags {lags}: {'; '.join(faults)}")
        print(f"lags {lags}, scaler {has_scaler}, {saves}: {count} poisoned so far, {failed} failures", flush=True)
    print(f"{count} poisoned trainings, {refused} refused, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
