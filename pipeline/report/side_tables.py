"""The tables of the page on several runs: scores, classes, plans, settings, and what is still missing.

In: `Side`s, the `Comparison` of those that were started. Out: parts of the page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence

from pipeline.config.plan import Phase
from pipeline.intervals import Interval
from pipeline.report.compare import LEAST_IMAGES, Comparison
from pipeline.report.markup import Html, bar, digits, heat, join, table, tag
from pipeline.report.overlay import run_color, run_line
from pipeline.report.scenes import missing_epochs
from pipeline.report.side import Side
from pipeline.scores import of_images
from pipeline.training.state import when
from pipeline.wording import duration

USUAL = {
    "patience": "no patience",
    "start": "starts from last",
    "loss": "loss LOSS_FN.MIX",
    "frozen": "nothing frozen",
    "augment": "augmented",
}


def run_cell(index: int, side: Side) -> Html:
    """Returns the name of a run beside the line of its curves."""
    style = f"border-top-style:{run_line(index)[1]};border-top-color:{run_color(index)}"
    line = tag("span", class_="line", style=style, aria_hidden="true")
    return tag("span", line, side.label, title=side.name)


def scores_part(sides: Sequence[Side], comparison: Comparison, own: Mapping[str, Interval]) -> Html:
    """Returns a row per run: its scores with intervals, the gain over the first, the best epoch, the time.

    Args:
        own: by run, the mean over images of the score `comparison.gain_label` with its interval.
    """
    column = {name: index for index, name in enumerate(comparison.runs)}
    guess = f"{comparison.label} of the majority class"
    labels = [name for name in comparison.scores if name not in (comparison.label, guess, "best epoch", "minutes")]
    has_mixes = len({side.mix for side in sides}) > 1
    has_published = any(side.header.published is not None for side in sides)
    rows = []
    for number, side in enumerate(sides):
        index = column.get(side.name)

        def score(label: str, index: int | None = index) -> float | None:
            return None if index is None or label not in comparison.scores else comparison.scores[label][index]

        main = score(comparison.label)
        rows.append(
            (
                run_cell(number, side),
                *((side.mix,) if has_mixes else ()),
                side.state,
                bar(tag("b", digits(main)), main or 0.0),
                _mean(own.get(side.name)),
                "–" if index in (None, 0) else _gain(comparison.gains[index], comparison.verdicts[index]),
                *(digits(score(label)) for label in labels),
                *((_published(side),) if has_published else ()),
                _epochs(side),
                duration(sum(side.seconds.values())) if side.seconds else "–",
            )
        )
    first = next((side.label for side in sides if side.name in column), "the first")
    head = ("run", *(("loss",) if has_mixes else ()), "state", comparison.label)
    head += (f"{of_images(comparison.gain_label)}, 95 %", f"gain over {first}, 95 %", *labels)
    head += (*(("published",) if has_published else ()), "best epoch", "time")
    guesses = {value for value in comparison.scores.get(guess, ()) if value is not None}
    notes = [f"The majority class everywhere has {comparison.label} {digits(max(guesses))}."] if guesses else []
    notes += ["Intervals come from the spread between sequences of validation images."]
    if comparison.num_gains > 1:
        notes.append(f"Better and worse are corrected for {comparison.num_gains} comparisons (Holm).")
    if comparison.score is not None and not own:
        notes.append(f"They need {LEAST_IMAGES} images or more.")
    if comparison.gain_label != comparison.label:
        text = f"{comparison.label} has no value per image; intervals and gains are in {comparison.gain_label}."
        notes.append(text)
    if has_published:
        notes.append("Published scores were measured on other data, splits and networks.")
    note = tag("p", " ".join(notes), class_="note")
    return join(table(head, rows, "Scores on the validation images", class_="wide"), note)


def _mean(own: Interval | None) -> Html | str:
    if own is None:
        return "–"
    return join(tag("b", digits(own.mean)), tag("small", _span(own, ".3f")))


def _gain(gain: Interval | None, verdict: str) -> Html | str:
    """Returns a gain and the verdict on it, emphasised where the gain is better or worse."""
    if gain is None:
        return "–"
    mean = tag("b" if verdict.startswith(("better", "worse")) else "span", f"{gain.mean:+.3f}")
    return join(mean, tag("small", _span(gain, "+.3f")), tag("small", f"; {verdict}"))


def _span(own: Interval, form: str) -> str:
    if not math.isfinite(own.high - own.low):
        return " one sequence: no interval"
    return f" {own.low:{form}} to {own.high:{form}}"


def _published(side: Side) -> str:
    header = side.header
    return "–" if header.published is None else f"{header.published_label} {digits(header.published)}"


def _epochs(side: Side) -> str:
    best = side.metrics.checkpoint.get("epoch") if side.metrics else None
    if side.last_epoch is None:
        return "–"
    return f"{'–' if best is None else best} of {side.last_epoch}"


def classes_part(sides: Sequence[Side], comparison: Comparison) -> Html | None:
    """Returns a row per run with its score of each class, the more intense the higher."""
    if not comparison.class_scores:
        return None
    tops = {name: max(filter(None, values), default=None) for name, values in comparison.class_scores.items()}
    column, rows = {name: index for index, name in enumerate(comparison.runs)}, []
    for number, side in enumerate(sides):
        if side.name in column:
            own = {name: values[column[side.name]] for name, values in comparison.class_scores.items()}
            mean = comparison.scores[comparison.label][column[side.name]]
            tops_own = {name for name, value in own.items() if value is not None and value == tops[name]}
            cells = (heat(value, digits(value), name in tops_own) for name, value in own.items())
            rows.append((run_cell(number, side), heat(mean, digits(mean)), *cells))
    caption = f"{comparison.label} of each class; the highest in bold"
    return table(("run", "mean", *comparison.class_scores), rows, caption, class_="heat")


def plans_part(sides: Sequence[Side]) -> Html:
    """Returns a row per run: its loss, its phases with their epochs, what was changed on the way, the time."""
    rows = [
        (
            run_cell(number, side),
            tag("code", side.mix) if side.mix else "–",
            _phases(side),
            _changes(side),
            duration(side.seconds["train"]) if side.is_trained else "–",
        )
        for number, side in enumerate(sides)
    ]
    head = ("run", "loss (LOSS_FN.MIX)", "phases with their epochs", "plan changed while it trained", "training")
    return table(head, rows, "A phase keeps the settings of the one before, unless it lists others", class_="wide")


def _phases(side: Side) -> Html | str:
    """Returns each phase with its epochs, trained or still to come, and what it sets."""
    spans = {name: (int(start) + 1, int(end)) for name, start, end in side.spans}
    if not side.phases:
        items = [f"{_range(*span)} {name}" for name, span in spans.items()]
        return tag("ul", *(tag("li", item) for item in items), class_="plain") if items else "–"
    items = []
    for phase, words in zip(side.phases, new_in_phases(side.phases), strict=True):
        reached = _range(*spans[phase.name]) if phase.name in spans else "not reached:"
        items.append(tag("li", tag("b", reached), f" {phase.name}: {words}"))
    return tag("ul", *items, class_="plain")


def _range(first: int, last: int) -> str:
    return f"{first}" if first == last else f"{first}–{last}"


def new_in_phases(phases: Sequence[Phase]) -> list[str]:
    """Returns what each phase of a plan sets, without what is usual or the same as in the phase before.

    >>> from dataclasses import replace
    >>> first = Phase("a", epochs=3, lr="poly", max_lr=0.01, min_lr=0.0, warmup_steps=500)
    >>> new_in_phases([first, replace(first, name="b", power=1.2, freeze=("encoder",))])
    ['LR poly from 0.01, power 0.9, warm-up of 500 steps', 'power 1.2, frozen encoder']
    """
    found, before = [], USUAL
    for phase in phases:
        now = phase_facts(phase)
        found.append(", ".join(text for key, text in now.items() if before.get(key) != text) or "as before")
        before = now
    return found


def phase_facts(phase: Phase) -> dict[str, str]:
    """Returns what a phase sets, in words by what it concerns.

    >>> facts = phase_facts(Phase("a", epochs=3, lr="poly", max_lr=0.01, min_lr=0.0, power=1.2, warmup_steps=500))
    >>> facts["rate"], facts["power"], facts["warm-up"], facts["frozen"]
    ('LR poly from 0.01', 'power 1.2', 'warm-up of 500 steps', 'nothing frozen')
    """
    facts = {"rate": f"LR {phase.lr} from {phase.max_lr:g}"}
    if phase.lr == "poly":
        facts["power"] = f"power {phase.power:g}"
    if phase.warmup_steps or phase.warmup:
        length = f"{phase.warmup_steps} steps" if phase.warmup_steps else f"{phase.warmup:g} epochs"
        facts["warm-up"] = f"warm-up of {length}"
    facts["patience"] = f"patience {phase.patience}" if phase.patience else "no patience"
    facts["start"] = f"starts from {phase.start_from}"
    facts["loss"] = f"loss {phase.loss or 'LOSS_FN.MIX'}"
    facts["frozen"] = f"frozen {', '.join(phase.freeze)}" if phase.freeze else "nothing frozen"
    facts["augment"] = "augmented" if phase.augment else "not augmented"
    return facts


def _changes(side: Side) -> Html | str:
    rows = zip(*(side.changes.get(name, ()) for name in ("epoch", "step", "what")), strict=True)
    items = [tag("li", f"{when(epoch, step)}: {what}") for epoch, step, what in rows]
    return tag("ul", *items, class_="plain") if items else "–"


def settings_part(sides: Sequence[Side], comparison: Comparison) -> Html:
    """Returns a row per run with the settings that are not the same in all."""
    if not comparison.settings:
        return tag("p", "No setting differs.")
    column, rows = {name: index for index, name in enumerate(comparison.runs)}, []
    for number, side in enumerate(sides):
        if side.name in column:
            own = (tag("code", values[column[side.name]]) for values in comparison.settings.values())
            rows.append((run_cell(number, side), *own))
    head = ("run", *(tag("code", key) for key in comparison.settings))
    return table(head, rows, "Settings that differ between the runs", class_="wide")


def rest_part(sides: Sequence[Side]) -> Html | None:
    """Returns what the runs lack, each with the command that makes it; None where nothing is missing."""
    rows = [
        (run_cell(number, side), what, tag("code", typed))
        for number, side in enumerate(sides)
        for what, typed in lacks(side)
    ]
    return table(("run", "what is missing", "command"), rows, "What is missing", class_="wide") if rows else None


def lacks(side: Side) -> Iterator[tuple[str, str]]:
    """Yields what a run lacks, with the command that makes it."""
    if not side.values:
        yield "everything: it was never started", f"{side.command} evaluate"
        return
    if side.values.get("ENSEMBLE.MEMBERS"):
        return
    if not side.is_trained:
        yield f"training has not ended, but is at {side.state}", f"{side.command} evaluate"
    elif side.metrics is None and side.values.get("DATASETS.SPLIT.BY") != "none":
        yield "scores", f"{side.command} evaluate"
    if not side.epochs and side.values.get("DATASETS.SPLIT.BY") != "none":
        text = "images: REPORT.EPOCHS is empty. Add REPORT: {EPOCHS: [20, 50]} to the config, then train again"
        yield text, f"{side.command} train --force"
    train = f"{side.command} train"
    yield from missing_epochs(side.epochs, side.shots, side.last_epoch, side.is_trained, train)
