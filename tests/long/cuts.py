"""Stops a training at every step and continues it, for every optimizer, plan, loss scaler and weight average.

    python -m tests.long.cuts               with the project's own optimizers, in two minutes
    python -m tests.long.cuts timm.lamb     with one optimizer

At every cut what was loaded must be, bit for bit, what was saved; at the end weights, optimizer state and history must
be those of a training that was not stopped. Validation losses are scripted, so that patience ends the first phase early
and the second one reverts. The training is the toy of milliseconds; exit code 1 when anything differs.
"""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator, Sequence
from itertools import product

import pytest
import torch

from pipeline.config.optimizers import OURS
from pipeline.errors import Stopped
from pipeline.training.checkpoint import load_checkpoint
from pipeline.training.trainer import train
from tests.training.toy import StopAt, make, results, script

# Best at epoch 1 and again at 4: patience of 2 ends a flat phase after epoch 3, and a phase that begins there reverts.
TIRED = [9, 7, 8, 8.5, 6.5, 6, 5.5, 7, 8, 9, 10]
PLANS = ("flat_cosine", "one_cycle", "constant", "poly_warmup", "warmup_cosine_clean_tail", "freeze_then_thaw")
SCALERS, AVERAGES = (False, True), (None, 0.9)
MOST_STARTS = 100


def settings(optimizer: str, plan: str, average: float | None) -> list[str]:
    """Returns the overrides of one combination."""
    given = [f"SOLVER.OPTIMIZER.NAME={optimizer}", f"SOLVER.PLAN={plan}"]
    return given + ([f"SOLVER.EMA_DECAY={average}"] if average else [])


def tensors(content) -> Iterator[torch.Tensor]:
    """Yields every tensor and number of nested content, as a tensor, in one order."""
    if isinstance(content, dict):
        for key in sorted(content, key=str):
            yield from tensors(content[key])
    elif isinstance(content, (list, tuple)):
        for value in content:
            yield from tensors(value)
    elif isinstance(content, (torch.Tensor, int, float)):
        yield torch.as_tensor(content).cpu()


def equal(one, other) -> bool:
    """Returns whether two nested contents hold the same bits."""
    pairs = zip(tensors(one), tensors(other), strict=True)
    return all(left.dtype == right.dtype and torch.equal(left, right) for left, right in pairs)


def stop_at_every_step(
    monkeypatch, changes: Sequence[str], has_scaler: bool, device: str = "cpu"
) -> tuple[int, list[str]]:
    """Returns how many cuts a training had, and what was wrong."""
    script(monkeypatch, TIRED)
    options = {"changes": changes, "has_scaler": has_scaler, "device": device, "lags": device != "cpu"}
    whole = make("whole", **options)
    train(whole)
    script(monkeypatch, TIRED)
    faults: list[str] = []
    cuts = 0
    while cuts < MOST_STARTS:
        # A stop is asked about at each step and each of two validation batches: every start gets beyond a validation.
        training = make("cut", stop=StopAt(2), **options)
        last = training.run.paths / "last.ckpt"
        if last.exists():
            saved, state = load_checkpoint(last), training.state
            if not equal(training.learner.state_dict(), {name: saved[name] for name in training.learner.state_dict()}):
                faults.append(f"loaded otherwise than saved at epoch {state.epoch}, step {state.step}")
        try:
            train(training)
            break
        except Stopped:
            cuts += 1
    if results(training.run.paths) != results(whole.run.paths):
        faults.append("the end differs")
    return cuts, faults


def main(optimizers: Sequence[str]) -> int:
    """Tries all combinations with these optimizers, or with ours; prints and returns what was wrong."""
    num_cuts, num_runs, failed = 0, 0, 0
    for optimizer, plan, has_scaler, average in product(optimizers or OURS, PLANS, SCALERS, AVERAGES):
        with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setitem(os.environ, "RUNS_DIR", folder)
            cuts, faults = stop_at_every_step(monkeypatch, settings(optimizer, plan, average), has_scaler)
        name = f"{optimizer}, {plan}, scaler {has_scaler}, average {average}"
        print(f"{name}: {cuts} cuts {'; '.join(faults) or 'identical'}", flush=True)
        num_cuts, num_runs, failed = num_cuts + cuts, num_runs + 1, failed + bool(faults)
    print(f"{num_runs} combinations, {num_cuts} cuts, {failed} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
