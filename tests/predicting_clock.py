"""A clock that only predictions move, for tests of time limits."""

from __future__ import annotations

from collections.abc import Iterator
from types import ModuleType

import pytest

from pipeline.engine.stopping import Stop
from pipeline.segmentation import predict as predict_module

IMAGE_S, START_S = 10.0, 30.0


class Clock(Stop):
    """A clock that stands still, except that each start of a network and each prediction take their time."""

    def __init__(self) -> None:
        self.time_s = 0.0
        super().__init__()

    def now_s(self) -> float:
        return self.time_s


def moved_by_predictions(monkeypatch: pytest.MonkeyPatch, module: ModuleType = predict_module) -> Clock:
    """Returns the clock that predictions move; a view of test-time augmentation takes as long as an image.

    Args:
        module: the `predict` of a task.
    """
    clock, own, load_network = Clock(), module.predict_batches, module.make_predictor

    def predict(predictor, batches) -> Iterator:
        for found in own(predictor, batches):
            clock.time_s += IMAGE_S * {"none": 1, "flip": 2, "d4": 8}[predictor.settings.tta]
            yield found

    def make(*arguments):
        clock.time_s += START_S
        return load_network(*arguments)

    monkeypatch.setattr(module, "predict_batches", predict)
    monkeypatch.setattr(module, "make_predictor", make)
    return clock
