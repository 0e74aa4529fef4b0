"""Stops a training that is no longer finite before anything of it is saved."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pipeline.errors import UserError
from pipeline.files import write_json
from pipeline.paths import shown
from pipeline.training.state import TrainState

LEAST_SCALE = 2.0**-10  # it starts at 2**16, and trainings settle far above 1


class NotFinite(Exception):
    """A loss, gradient or weight that is not finite.

    Attributes:
        what: which of them.
        position: where it was, as given to `FiniteWatch.check`; None where it is not known.
    """

    def __init__(self, what: str, position: Any = None) -> None:
        super().__init__(what)
        self.what, self.position = what, position

    def explained(self, state: TrainState, max_lr: float, describe: Callable[[Any], str], path: Path) -> UserError:
        """Returns the message of a training that cannot continue; writes the batch's samples to `path`."""
        epoch, step, keys = self.position or (state.epoch, state.step, ())
        facts = {"what": self.what, "epoch": epoch, "step": step, "samples": [describe(key) for key in keys]}
        write_json(path, facts)
        named = f"the batch is named in {shown(path)}" if keys else f"see {shown(path)}"
        return UserError(
            f"{self.what} at epoch {epoch}, step {step}. The saved checkpoints are intact; {named}.\n"
            f"Lower SOLVER.MAX_LR (now {max_lr:g}; see the LR sweep), set SOLVER.CLIP_NORM=1, or "
            f"SOLVER.PRECISION=float32."
        )


class FiniteWatch:
    """Checks whether each step was finite.

    On a CPU the answer is there before the step is taken. To wait for a GPU's answer would cost it the time to queue
    the next step, so there the answer lags: it is asked for at the next step, or by `settle`, which belongs before
    whatever must not know of a broken network. In between the network may be broken, in memory only.

    Args:
        lags: whether to ask one step later.
    """

    def __init__(self, lags: bool) -> None:
        self.lags = lags
        self.pending: tuple[Tensor, torch.cuda.Event | None, str, Any] | None = None

    def check(self, is_finite: Tensor, what: str, position: Any) -> None:
        """Takes a step's answer, a boolean scalar on its device.

        Raises:
            NotFinite: this step, or where answers lag the one before it, was not finite.
        """
        noted = (*_to_host(is_finite), what, position)
        earlier, self.pending = self.pending, noted
        if self.lags:
            _refuse(earlier)
        else:
            self.settle()

    def settle(self) -> None:
        """Waits for the answer that is still on its way.

        Raises:
            NotFinite: it says no.
        """
        noted, self.pending = self.pending, None
        _refuse(noted)


def refuse_collapsed_scale(scaler: torch.amp.GradScaler) -> None:
    """Refuses a training whose gradients overflow at every loss scale: the scaler leaves out all steps, and is silent.

    Raises:
        NotFinite: the scale is where no gradient of sound weights overflows.
    """
    if scaler.is_enabled() and scaler.get_scale() < LEAST_SCALE:
        raise NotFinite("the gradient is not finite at any loss scale")


def refuse_not_finite(content: Mapping[str, Any]) -> None:
    """Refuses a checkpoint's content in which a number is not finite.

    Raises:
        NotFinite: names the first such tensor.
    """
    for name, tensor in _tensors(content):
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise NotFinite(f"{name} is not finite")


def _to_host(is_finite: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
    if not is_finite.is_cuda:
        return is_finite, None
    copy = torch.empty((), dtype=torch.bool, pin_memory=True).copy_(is_finite, non_blocking=True)
    arrived = torch.cuda.Event()
    arrived.record()
    return copy, arrived


def _refuse(noted: tuple[Tensor, torch.cuda.Event | None, str, Any] | None) -> None:
    if noted is None:
        return
    is_finite, arrived, what, position = noted
    if arrived is not None:
        arrived.synchronize()
    if not bool(is_finite):
        raise NotFinite(what, position)


def _tensors(content: Any, name: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yields every tensor inside nested mappings, lists and tuples, with its path."""
    if isinstance(content, Tensor):
        yield name, content
    elif isinstance(content, Mapping):
        for key, value in content.items():
            yield from _tensors(value, f"{name}.{key}" if name else str(key))
    elif isinstance(content, (list, tuple)):
        for index, value in enumerate(content):
            yield from _tensors(value, f"{name}.{index}")
