"""From files to what works with them: a checkpoint to a predictor, a folder to a store of predictions."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.engine.run import Run
from pipeline.paths import PROBS, shown
from pipeline.prediction.store import PredictionStore
from pipeline.training.device import choose_device, choose_precision, make_reproducible
from pipeline.training.encoder import load_weights
from pipeline.training.learner import validated_weights


def open_predictions(run: Run, subset: str) -> PredictionStore:
    """Returns the store of a run's predictions; `subset` is "valid" or "test".

    Raises:
        UserError: there is no whole store.
    """
    return PredictionStore(run.paths / PROBS[subset], run.task.unpack)


def load_predictor(run: Run, content: dict[str, Any], path: Path) -> Any:
    """Returns the predictor of a run, with the weights that were validated, on its device.

    Args:
        content: of the checkpoint.
        path: where it was read, for messages.

    Raises:
        UserError: its weights do not fit the network, or the device is not there.
    """
    task, loaded, solver = run.task, run.loaded, run.loaded.config.solver
    make_reproducible(solver.reproducible)  # as in training, whichever process predicts
    device = choose_device(loaded.config.runtime.device)
    network = task.build_network(loaded)
    load_weights(network, validated_weights(content), shown(path))
    return task.make_predictor(loaded, network.to(device), device, choose_precision(solver.precision, device))
