"""What commands that train many runs have in common: `--workers`, and how the runs ended."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipeline.engine.cards import shares, visible_cards
from pipeline.errors import Stopped, UserError

if TYPE_CHECKING:
    from pipeline.engine.api import Outcome
    from pipeline.engine.stopping import Stop

WORKERS = "how many runs to train at a time, each in a process of its own; default: one per GPU"


@dataclass(frozen=True)
class Workers:
    """How many runs are trained at a time, and which GPUs each worker sees; none: all there are."""

    number: int
    cards: tuple[str, ...] = ()


def choose_workers(prog: str, wanted: int | None, ranks: Iterable[int | str] = ()) -> Workers:
    """Returns the workers of a command: those that are wanted, or one per GPU.

    Args:
        ranks: RUNTIME.RANKS of the runs; each worker gets as many GPUs.

    Raises:
        UserError: fewer than one is wanted.
    """
    if wanted is not None and wanted < 1:
        raise UserError(f"{prog}: --workers {wanted}: expected at least 1")
    found = visible_cards(os.environ)
    if wanted == 1 or len(found) < 2:
        return Workers(wanted or 1)
    each = max((len(found) if own == "auto" else own for own in ranks), default=1)
    number = wanted or max(1, len(found) // each)
    return Workers(number, tuple(shares(found, number, each)) if number > 1 else ())


def has_cards() -> bool:
    """Returns whether this machine has a GPU that may be used."""
    return bool(visible_cards(os.environ))


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
        told = next((one.message for one in outcomes if one.state == "stopped" and one.message), "Ctrl-C")
        raise Stopped(told if stop.reason is None else stop.reason)
    return 1 if "failed" in states else 2 if "refused" in states else 0
