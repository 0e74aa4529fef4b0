"""What commands that train many runs have in common: `--workers`, and how the runs ended."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from pipeline.errors import Stopped, UserError

if TYPE_CHECKING:
    from pipeline.engine.api import Outcome
    from pipeline.engine.stopping import Stop

WORKERS = "how many runs to train at a time, each in its own process; default: 1"


def check_workers(prog: str, workers: int) -> None:
    """Refuses a number of workers below 1."""
    if workers < 1:
        raise UserError(f"{prog}: --workers {workers}: expected at least 1")


def print_errors(outcomes: Sequence[Outcome]) -> None:
    """Prints each error once, with the runs that had it."""
    broken = [outcome for outcome in outcomes if outcome.state in ("refused", "failed")]
    labels_by_message: dict[str, list[str]] = {}
    for outcome in broken:
        labels_by_message.setdefault(f"{outcome.state}: {outcome.message}", []).append(outcome.request.label)
    for message, labels in labels_by_message.items():
        others = f" and {len(labels) - 1} more" if len(labels) > 1 else ""
        print(f"\n{labels[0]}{others}: {message}")
    if broken:
        print(f"\n{len(broken)} of {len(outcomes)} runs ended in an error; the same command tries them again")


def exit_code(outcomes: Sequence[Outcome], stop: Stop) -> int:
    """Returns 0, or 2 where a run was refused, or 1 where one failed.

    Raises:
        Stopped: a run was stopped, and the same command continues.
    """
    states = {outcome.state for outcome in outcomes}
    if "stopped" in states:
        raise Stopped("Ctrl-C" if stop.reason is None else stop.reason)
    return 1 if "failed" in states else 2 if "refused" in states else 0
