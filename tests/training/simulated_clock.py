"""A clock of the test's own for training against the clock: only steps and validations take time."""

from __future__ import annotations

import numpy as np

from pipeline.engine.stopping import Stop
from pipeline.segmentation import evaluation as evaluation_module
from pipeline.segmentation import predict as predict_module
from pipeline.training import clock as clock_module
from pipeline.training import trainer
from pipeline.work import report as report_module

STEP_S, VALIDATION_S = 10.0, 25.0
PREDICTION_S, SCORING_S, PAGE_S = 8.0, 3.0, 15.0  # of an image; of the report


class Simulated(Stop):
    """A clock that stands still, except that each step and each validation takes its time."""

    def __init__(
        self, seed: int = 0, noise: float = 0.1, slower_after: float = float("inf"), slowdown: float = 2.0
    ) -> None:
        self.time_s, self.rng = 0.0, np.random.default_rng(seed)
        self.noise, self.slower_after, self.slowdown = noise, slower_after, slowdown
        super().__init__()

    def now_s(self) -> float:
        return self.time_s

    @property
    def requested(self) -> bool:
        if self.reason is None and self.deadline is not None and self.time_s >= self.deadline:
            self.reason = "the time budget is used up"
        return self.reason is not None

    def set_budget(self, seconds: float) -> None:
        self.deadline = self.time_s + seconds

    def spend(self, seconds: float) -> None:
        slowdown = self.slowdown if self.time_s > self.slower_after else 1.0
        self.time_s += seconds * slowdown * float(self.rng.uniform(1 - self.noise, 1 + self.noise))


def simulate(monkeypatch, stop: Simulated) -> None:
    """Makes each step and each validation of a training spend the time of a clock."""
    for module, name, seconds in (
        (trainer, "train_step", STEP_S),
        (clock_module, "train_step", STEP_S),
        (trainer, "validate", VALIDATION_S),
    ):
        own = getattr(module, name)

        def spend(*args, own=own, seconds=seconds):
            stop.spend(seconds)
            return own(*args)

        monkeypatch.setattr(module, name, spend)


def simulate_finishing(monkeypatch, stop: Simulated) -> None:
    """Makes each prediction of an image, each scoring of one, and the report spend the time of a clock."""
    storable, decoded, report = predict_module._storable, evaluation_module.decode, report_module.write_page

    def slow_storable(predictor, images, factor):
        stop.spend(PREDICTION_S * len(images))
        return storable(predictor, images, factor=factor)

    def slow_decode(prediction):
        stop.spend(SCORING_S)
        return decoded(prediction)

    def slow_page(*arguments, **options):
        stop.spend(PAGE_S)
        return report(*arguments, **options)

    monkeypatch.setattr(predict_module, "_storable", slow_storable)
    monkeypatch.setattr(evaluation_module, "decode", slow_decode)
    monkeypatch.setattr(report_module, "write_page", slow_page)
