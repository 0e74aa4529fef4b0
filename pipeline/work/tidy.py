"""Removes the state of a training from the run's folder when it has ended; without torch, as finished runs start fast.

Called once the stage is marked as finished, and again whenever it is found up to date: a kill in between leaves files
that the next start removes.
"""

from __future__ import annotations

from pipeline.engine.run import Run
from pipeline.paths import BEST, LAST, previous_of


def remove_state(run: Run) -> None:
    """Removes the newest checkpoint and the ones before, which only a training needs; the best weights stay."""
    if run.loaded.config.runtime.keep_state or not (run.paths / BEST).is_file():
        return
    for path in (previous_of(run.paths / BEST), previous_of(run.paths / LAST), run.paths / LAST):
        path.unlink(missing_ok=True)
