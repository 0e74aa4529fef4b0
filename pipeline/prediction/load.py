"""A checkpoint to a network that is ready to predict."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.config.load import Loaded
from pipeline.paths import shown
from pipeline.segmentation.networks import build_network, load_weights
from pipeline.segmentation.predict import Predictor
from pipeline.training.device import choose_device, choose_precision, make_reproducible
from pipeline.training.inputs import num_outputs
from pipeline.training.learner import judged_weights


def load_predictor(loaded: Loaded, content: dict[str, Any], path: Path) -> Predictor:
    """Returns the network of a run with the weights that were validated, on its device, in evaluation mode.

    Args:
        content: of the checkpoint.
        path: where it was read, for messages.

    Raises:
        UserError: its weights do not fit the network, or the device is not there.
    """
    config = loaded.config
    make_reproducible(config.solver.reproducible)  # as in training, whichever process predicts
    device = choose_device(config.runtime.device)
    network = build_network(config.model, num_outputs(loaded))
    load_weights(network, judged_weights(content), shown(path))
    return Predictor(
        network.to(device).eval(),
        config.model.encoder,
        config.predict,
        loaded.competition.num_classes,
        device,
        choose_precision(config.solver.precision, device),
    )
