"""The progress bar of an epoch, with the running means."""

from __future__ import annotations

import time

from tqdm import tqdm

from pipeline.config.plan import Phase
from pipeline.scores import label_of
from pipeline.training.state import TrainState
from pipeline.training.step import EpochSums

BAR_SECONDS = 1.0  # between two updates of the running means, each of which waits for the GPU


def epoch_bar(state: TrainState, phase: Phase, steps: int, is_shown: bool) -> tqdm:
    """Returns the bar of the next epoch, which has so many steps."""
    name = f"epoch {state.epoch + 1} {phase.name} {state.phase_epoch + 1}/{phase.epochs}"
    hidden = None if is_shown else True  # None: where nobody would see it
    return tqdm(total=steps, initial=state.step, desc=name, leave=False, dynamic_ncols=True, disable=hidden)


def move_on(bar: tqdm, sums: EpochSums, lr: float) -> None:
    """Moves the bar on by a step; now and then, where anybody sees it, with the running means."""
    bar.update()
    if bar.disable or time.monotonic() - getattr(bar, "told_at", 0.0) < BAR_SECONDS:
        return
    bar.told_at = time.monotonic()
    means = sums.means()
    scores = {label_of(name): score.mean for name, score in means.scores.by_name.items()}
    shown = {label: f"{mean:.3f}" for label, mean in scores.items() if mean is not None}
    bar.set_postfix({"loss": f"{means.loss:.3f}", **shown, "lr": f"{lr:.1e}"}, refresh=False)
