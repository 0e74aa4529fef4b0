"""Which settings of training a number of ranks allows; see docs/two_cards.md."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pipeline.config.schema import Config
from pipeline.config.tree import Problems

RANK_KEYS = ("RUNTIME.RANKS", "RUNTIME.SYNC_BATCH_NORM")


def ranks_that_count(values: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the number of ranks by its key where the result depends on it: batch norms go by parts of a batch.

    >>> ranks_that_count({"RUNTIME.RANKS": 2, "RUNTIME.SYNC_BATCH_NORM": False})
    {'RUNTIME.RANKS': 2}
    >>> ranks_that_count({"RUNTIME.RANKS": 2, "RUNTIME.SYNC_BATCH_NORM": True})
    {}
    """
    ranks, is_synced = (values[key] for key in RANK_KEYS)
    return {} if is_synced or ranks == 1 else {RANK_KEYS[0]: ranks}


def rank_problems(config: Config) -> Problems:
    """Yields what a number of ranks that is given contradicts; what `auto` means is known on the machine only."""
    ranks = config.runtime.ranks
    if config.ensemble.members is not None:  # whose members have batches of their own
        return
    if ranks == "auto":
        if not config.runtime.sync_batch_norm:
            why = "auto with RUNTIME.SYNC_BATCH_NORM false: the result would depend on how many GPUs the machine has"
            yield "RUNTIME.RANKS", f"{why}; give a number, or set SYNC_BATCH_NORM: true"
    elif why := why_not_divided(config, ranks):
        yield "RUNTIME.RANKS", why


def why_not_divided(config: Config, ranks: int) -> str | None:
    """Returns why batches cannot be divided equally among so many ranks, with the remedy; None where they can."""
    train, accumulate = config.dataloaders.train, config.solver.accumulate
    if ranks == 1:
        return None
    if train.batch_size % (ranks * accumulate):
        of_each = f" of {accumulate} micro-batches each (SOLVER.ACCUMULATE)" if accumulate > 1 else ""
        fitting = max(ranks * accumulate, train.batch_size // (ranks * accumulate) * ranks * accumulate)
        found = (
            f"DATALOADERS.TRAIN.BATCH_SIZE {train.batch_size} cannot be divided equally among {ranks} ranks{of_each}"
        )
        return f"{found}; set it to {fitting}, or RUNTIME.RANKS: 1"
    if not train.drop_last:
        return f"{ranks} ranks need batches of one size; set DATALOADERS.TRAIN.DROP_LAST: true, or RUNTIME.RANKS: 1"
    return None
