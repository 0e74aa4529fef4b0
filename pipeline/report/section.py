"""What the sections of the page share: their form, what stands where a file is missing, how numbers are written."""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.config.load import with_max_lr
from pipeline.config.plan import Phase
from pipeline.report.markup import Html, tag
from pipeline.report.read import read_steps_per_epoch, show_value
from pipeline.report.record import Record


@dataclass(frozen=True)
class Section:
    """A part of the page. `short` is its name in the table of contents."""

    anchor: str
    short: str
    title: str
    body: Html


def missing(record: Record, stage: str, what: str) -> Html:
    """Returns the line that stands for what was not made yet, with the command that makes it."""
    return tag("p", f"{what} not there yet. ", tag("code", command(record, stage)), " makes it.", class_="missing")


def command(record: Record, *stages: str) -> str:
    """Returns the command for stages of this run, its overrides included."""
    loaded = record.loaded
    overrides = [f"{key}={show_value(loaded.values[key])}" for key in loaded.changed]
    quoted = [f"'{text}'" if set(text) & set(' []{}"$&|;<>*?') else text for text in overrides]
    return " ".join(["./run.sh", loaded.name, *stages, *quoted])


def phases_of(record: Record) -> tuple[Phase, ...]:
    """Returns the plan, with the sweep's suggestion where SOLVER.MAX_LR is auto and there was a sweep."""
    loaded, found = record.loaded, (record.sweep_found or {}).get("max_lr")
    return with_max_lr(loaded, found) if loaded.config.solver.max_lr == "auto" and found else loaded.plan


def steps_of(record: Record) -> int | None:
    """Returns the optimizer steps of an epoch, or None before the run has tiles."""
    batches = record.loaded.config.dataloaders.train
    return read_steps_per_epoch(record.folder, batches.batch_size, batches.drop_last)


def scored(number: int, noun: str) -> str:
    """Returns a number with its noun, in the plural where it is not one.

    >>> scored(1, "sequence"), scored(1200, "image")
    ('1 sequence', '1,200 images')
    """
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def score(value: float | None) -> str:
    """Returns a score with three digits, or a dash.

    >>> score(0.8431), score(None)
    ('0.843', '–')
    """
    return "–" if value is None else f"{value:.3f}"


def percent(share: float | None) -> str:
    """Returns a share in per cent; small ones keep a digit that says something.

    >>> percent(0.317), percent(0.0049), percent(0.0)
    ('32 %', '0.49 %', '0 %')
    """
    if share is None:
        return "–"
    return f"{100 * share:.0f} %" if share >= 0.1 or share == 0 else f"{100 * share:.2g} %"
