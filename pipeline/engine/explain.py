"""Why each stage of a run would run now, or that it is up to date: all that has changed since it was done.

In: markers and files of a run. Out: `Explanation`s. Nothing is run and nothing is written.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pipeline.engine.chain import FILES_GONE
from pipeline.engine.dependence import reads_of, reasons_to_run
from pipeline.engine.freshness import CHANGED, NOT_DONE, Fingerprints, read_marker
from pipeline.engine.reuse import known_at, sibling_runs
from pipeline.engine.run import Run, Stage
from pipeline.paths import shown

State = Literal["up to date", "would run", "may run", "would be reused"]


@dataclass(frozen=True)
class Explanation:
    """What would become of a stage.

    Attributes:
        state: `may run`: it reads what an earlier stage would write again, and runs if that comes out otherwise.
        reasons: everything that has changed; of a stage that is up to date, what there is to know, if anything.
    """

    stage: str
    state: State
    reasons: tuple[str, ...] = ()

    def __str__(self) -> str:
        """One line: the first reason, as the log would give it, and how many more there are."""
        first, more = self.reasons[:1], len(self.reasons) - 1
        rest = f" (and {more} more)" if more > 0 else ""
        return f"{self.state}{': ' if first else ''}{''.join(first)}{rest}"


def explain(run: Run) -> list[Explanation]:
    """Returns what would become of each stage of a run, in order."""
    fingerprints, siblings = Fingerprints.of_run(run.paths), sibling_runs(run)
    writers = {name: stage.name for stage in run.stages for name in stage.writes}
    again: dict[str, str] = {}  # names of files that would be written again, with the stage that writes them
    found = []
    for stage in run.stages:
        reasons = tuple(reasons_to_run(stage, run, fingerprints))
        read = (*reads_of(stage, run), *_read_outside(stage, run))
        awaited = tuple(f"{name} is written by {again[name]}" for name in read if name in again)
        state: State = "would run"
        if reasons == (NOT_DONE,) and stage.is_shared and (sibling := known_at(siblings, stage, run)):
            state, reasons = "would be reused", (f"from {shown(sibling.folder)}, if its inputs are the same",)
        elif not reasons and awaited:
            state, reasons = "may run", awaited
        elif not reasons:
            state, reasons = "up to date", (FILES_GONE,) if stage.lacks(run) else ()
        else:
            reasons = tuple(_with_writer(reason, writers) for reason in reasons)
        if state in ("would run", "may run"):
            again |= dict.fromkeys((*stage.writes, *stage.writes_outside(run)), stage.name)
        found.append(Explanation(stage.name, state, reasons))
    return found


def what_it_reads(stage: Stage, run: Run) -> list[str]:
    """Returns the files that a stage reads, each with the stage that writes it, and what it has read elsewhere."""
    writers = {name: other.name for other in run.stages for name in other.writes}
    return [
        *(f"{name} ({writers[name]})" if name in writers else name for name in reads_of(stage, run)),
        *_read_outside(stage, run),
    ]


def _read_outside(stage: Stage, run: Run) -> list[str]:
    """Returns the names of what a stage has read outside the run's folder; nothing where it was never started."""
    before = read_marker(run.paths.marker(stage.name)) or read_marker(run.paths.started(stage.name))
    return sorted(set(before.inputs) - set(reads_of(stage, run))) if before else []


def _with_writer(reason: str, writers: dict[str, str]) -> str:
    """Returns a reason with the stage that wrote the file that has changed."""
    name = reason.removesuffix(f" {CHANGED}")
    return f"{reason} (written by {writers[name]})" if name != reason and name in writers else reason
