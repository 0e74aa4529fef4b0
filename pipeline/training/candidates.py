"""The weights of single epochs that AVERAGE may need, kept while a run trains: `candidates/epoch_0012.ckpt`.

Which epochs these are is a function of the history alone: the last COUNT, or the COUNT best. A file holds the weights
that were validated (the running average where the run has one), without the optimizer. There are at most COUNT + 1:
those that the newest epoch wants, and those that the one before wanted, in case a damaged `last.ckpt` makes training go
back to it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from pipeline.config.schema import Config
from pipeline.errors import UserError
from pipeline.paths import CANDIDATES, CHECKPOINTS, RunPaths, shown
from pipeline.scores import score_of
from pipeline.training.checkpoint import load_or_refuse, save_checkpoint
from pipeline.training.learner import validated_weights

REMEDY = "train anew with `train --force`, or set AVERAGE.METHOD: none"
History = Sequence[Mapping[str, Any]]


def wanted_epochs(config: Config, history: History, monitor: str | None = None) -> tuple[int, ...]:
    """Returns the epochs whose mean would be taken if training ended now, in order.

    The network before training counts where it is a trained one (EXPERIMENT.LOAD_PREV), as for `best.ckpt`. Of two
    epochs that are equally good the earlier one counts as better.

    Args:
        history: of a training, a row per epoch from 0 on.
        monitor: None: SOLVER.MONITOR.
    """
    average, monitor = config.average, monitor or config.solver.monitor
    first = 0 if config.experiment.load_prev is not None and average.method == "best" else 1
    epochs = list(range(first, len(history)))
    if average.method == "best":
        sign = -1 if score_of(monitor) else 1
        epochs.sort(key=lambda epoch: sign * (history[epoch][monitor] or 0.0))
        return tuple(sorted(epochs[: average.count]))
    return tuple(epochs[-average.count :]) if average.method == "swa" else ()


def keep_candidates(
    paths: RunPaths, config: Config, state: Mapping[str, Any], weights: Callable[[], Mapping[str, Tensor]]
) -> None:
    """Writes the weights of the newest finished epoch if they are wanted, and removes those that nobody wants now.

    Doing so twice changes nothing. A kill at any instant leaves whole files; what is missing then is written at the
    next start, see `missing_candidates`.

    Args:
        state: the fields of a `TrainState`.
        weights: () to the validated weights of that epoch.

    Raises:
        UserError: the disk cannot hold them.
    """
    if not config.average.keeps_epochs:
        return
    folder, history = paths / CANDIDATES, state["history"]
    wanted = wanted_epochs(config, history)
    newest = candidate_path(folder, state["epoch"])
    if state["epoch"] in wanted and not newest.is_file():
        network = {name: value.detach().cpu() for name, value in weights().items()}
        own = {"key": state["key"], "epoch": state["epoch"]}
        save_checkpoint(newest, {"network": network, "ema": None, "state": own})
    needed = {candidate_path(folder, epoch) for epoch in (*wanted, *wanted_epochs(config, history[:-1]))}
    for path in set(folder.glob(CHECKPOINTS)) - needed:
        path.unlink()


def missing_candidates(paths: RunPaths, config: Config, content: Mapping[str, Any]) -> list[int]:
    """Brings the kept weights into the state of a checkpoint that training goes on from; returns which are gone.

    Args:
        content: of that checkpoint. Its own epoch is written again, unless it has begun the next one.
    """
    state = content["state"]
    if not config.average.keeps_epochs or not state["history"]:
        return []
    folder = paths / CANDIDATES
    for path in folder.glob(CHECKPOINTS):
        if path > candidate_path(folder, state["epoch"]):
            path.unlink()  # of an epoch that is now trained again
    if state["step"] == 0:
        keep_candidates(paths, config, state, lambda: validated_weights(content))
    wanted = wanted_epochs(config, state["history"])
    return [epoch for epoch in wanted if not candidate_path(folder, epoch).is_file()]


def candidate_path(folder: Path, epoch: int) -> Path:
    """Returns the file of an epoch's weights; names sort by epoch.

    >>> candidate_path(Path("candidates"), 12).name
    'epoch_0012.ckpt'
    """
    return folder / f"epoch_{epoch:04d}.ckpt"


def load_candidates(paths: RunPaths, epochs: Sequence[int], key: str) -> Iterator[dict[str, Tensor]]:
    """Yields the weights of epochs one after the other, so that only one is in memory.

    Args:
        key: of the training's state, which each of them must have.

    Raises:
        UserError: one is gone, damaged, or of another training.
    """
    for epoch in epochs:
        path = candidate_path(paths / CANDIDATES, epoch)
        content = load_or_refuse(path, REMEDY)
        if content["state"]["key"] != key:
            raise UserError(f"{shown(path)} is of another training than the best checkpoint beside it; {REMEDY}")
        yield content["network"]
