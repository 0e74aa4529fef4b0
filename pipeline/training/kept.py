"""What the checkpoints of a training need on disk: announced before it begins, cut to the weights when it has ended.

While a plan is carried out there are four checkpoints with the optimizer's state at most, two newest and two best, and
a fifth that is being written; newest and best are often two names of one file. A finished run keeps its best weights
alone, unless RUNTIME.KEEP_STATE is set. What is removed then, and when: `pipeline/work/tidy.py`.
"""

from __future__ import annotations

import shutil
from typing import Any

from torch import Tensor

from pipeline.engine.run import Run
from pipeline.paths import BEST, CHECKPOINTS, shown
from pipeline.training.checkpoint import load_or_refuse, save_checkpoint
from pipeline.training.learner import Learner, validated_weights
from pipeline.wording import size

NUM_WHOLE = 4  # newest, best, and the one before each
USUAL_STATES = 2  # tensors that an optimizer keeps for each weight, as Adam does
NOT_NEEDED = ("optimizer", "scaler", "sums")  # where no training goes on from it


def checkpoint_bytes(learner: Learner) -> tuple[int, int]:
    """Returns the expected bytes of a checkpoint with the optimizer's state, and of one with the weights alone."""
    weights = sum(map(_bytes, learner.network.state_dict().values()))
    trained = sum(map(_bytes, learner.network.parameters()))
    settings = learner.config.solver.optimizer
    states = {"Ranger": 3, "SGD": int(settings.momentum > 0)}.get(settings.name, USUAL_STATES)
    return weights + states * trained + (weights if learner.ema else 0), weights


def announce(run: Run, learner: Learner) -> None:
    """Logs what the checkpoints of a training need at most, while it trains and afterwards, and what is free."""
    whole, weights = checkpoint_bytes(learner)
    average, keeps_state = run.loaded.config.average, run.loaded.config.runtime.keep_state
    epochs = weights * (average.count + 1 if average.keeps_epochs else 0)
    chosen = weights if run.loaded.is_averaged else 0
    peak = (NUM_WHOLE + 1) * whole + epochs
    after = (NUM_WHOLE * whole if keeps_state else weights) + epochs + chosen
    free = shutil.disk_usage(run.paths.folder).free
    present = sum({path.stat().st_ino: path.stat().st_size for path in run.paths.folder.glob(CHECKPOINTS)}.values())
    run.log(f"checkpoints: at most {size(peak)} in {shown(run.paths.folder)} during training, {size(after)} afterwards")
    if free + present < peak:
        run.log(f"warning: only {size(free)} are free there; delete files, or set RUNS_DIR to a larger disk")


def keep_weights(run: Run) -> None:
    """Writes the best checkpoint of a finished training without the optimizer's state; a second time changes nothing.

    `last.ckpt` stays until the stage is marked as finished: a kill before that goes on from there.
    """
    path = run.paths / BEST
    content = load_or_refuse(path, "train anew with --force")
    if "optimizer" in content:
        save_checkpoint(path, weights_alone(content))


def weights_alone(content: dict[str, Any]) -> dict[str, Any]:
    """Returns a checkpoint's content without what only training needs; the validated weights are the network's."""
    kept = {name: value for name, value in content.items() if name not in NOT_NEEDED}
    return kept | {"network": validated_weights(content), "ema": None}


def _bytes(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()
