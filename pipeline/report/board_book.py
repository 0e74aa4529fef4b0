"""The lab book as a part of the board: the tree of experiments, each with its question and what was measured.

In: a `Competition`. Out: nested lists. Branches in which nothing was run are closed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from pipeline.report.board import Competition
from pipeline.report.lab_book import MEMBERS, NOT_RUN, Entry
from pipeline.report.markup import Html, digits, join, quantity, tag

MOST_CHANGES = 4  # settings that are shown without opening them
KINDS = {"better": "better", "worse": "worse", "equal": "equal"}  # the first word of a verdict: its colour


def book_part(own: Competition, links: Mapping[str, str]) -> Html | None:
    """Returns the lab book, None where the competition has neither configs nor runs.

    Args:
        links: by run, the address of its report.
    """
    if not own.book:
        return None
    started = [entry for entry in own.book if entry.num_runs]
    idle = [entry for entry in own.book if not entry.num_runs]
    gains = [entry.gain for root in own.book for entry in root.walk() if entry.gain is not None]
    parts = [tag("ul", *(_item(entry, own, links) for entry in started), class_="book")] if started else []
    return join(*parts, _closed(idle, own, links), _notes(own, gains))


def _notes(own: Competition, gains: list) -> Html | None:
    if not gains:
        return None
    words = [
        f"Gain: {own.image_label} per image minus that of the experiment it is compared with, on the images that both "
        "validated, with its 95 % interval from the spread between sequences.",
        "Better and worse are corrected for the number of experiments compared with the same one (Holm).",
    ]
    if not all(gain.covers_training for gain in gains):
        words.append(
            "With one or two runs per experiment, the interval does not include the variation between seeds. To "
            "measure it, add --seeds 3, or write a study."
        )
    return tag("p", " ".join(words), class_="note")


def _item(entry: Entry, own: Competition, links: Mapping[str, str]) -> Html:
    started = [child for child in entry.children if child.num_runs]
    idle = [child for child in entry.children if not child.num_runs]
    below = join(*(_item(child, own, links) for child in started))
    return tag(
        "li",
        _entry(entry, own, links),
        tag("ul", below) if started else None,
        _closed(idle, own, links),
    )


def _closed(entries: list[Entry], own: Competition, links: Mapping[str, str]) -> Html | None:
    """Returns branches in which nothing was run, behind a line that opens them."""
    if not entries:
        return None
    number = sum(1 for entry in entries for _ in entry.walk())
    items = (_item_not_run(entry) for entry in entries)
    return tag("details", tag("summary", f"{quantity(number, 'experiment')} not run"), tag("ul", *items), class_="idle")


def _item_not_run(entry: Entry) -> Html:
    below = tag("ul", *map(_item_not_run, entry.children)) if entry.children else None
    return tag("li", tag("b", entry.name), " ", tag("span", entry.question, class_="asks"), below)


def _entry(entry: Entry, own: Competition, links: Mapping[str, str]) -> Html:
    """Returns an experiment: name, score, question, answer, and the settings that differ.

    A setting of a study is headed by its name there, with its overrides below.
    """
    name = tag("b" if entry.is_config else "code", _linked(entry, links))
    question = tag("p", entry.question, class_="asks") if entry.question else None
    if question and not entry.is_config:
        name, question = tag("b", entry.question), tag("p", name, class_="asks")
    return tag(
        "div", tag("p", name, _scores(entry, own, links), class_="named"), question, _answer(entry), _changes(entry)
    )


def _linked(entry: Entry, links: Mapping[str, str]) -> Html | str:
    if len(entry.runs) == 1 and entry.runs[0] in links:
        return tag("a", entry.name, href=links[entry.runs[0]])
    return entry.name


def _scores(entry: Entry, own: Competition, links: Mapping[str, str]) -> Html | None:
    """Returns the mean score of an entry's runs, or their state."""
    runs = [own.runs[name] for name in entry.runs]
    known = {run.name: run.row.metrics.mean(own.score) for run in runs if run.row.metrics and not run.row.without}
    known = {name: value for name, value in known.items() if value is not None}
    if not known:
        return None
    words = f"{own.table.label} {digits(sum(known.values()) / len(known))}"
    without = f"; {quantity(len(runs) - len(known), 'run')} without a score" if len(known) < len(runs) else ""
    if len(known) == 1:
        return tag("span", words, without, class_="reached")
    names = (tag("a", name, href=links[name]) if name in links else name for name in known)
    listed = join(*(join(", " if number else " ", name) for number, name in enumerate(names)))
    return tag("span", f"{words}, mean of {len(known)} runs:", listed, without, class_="reached")


def _answer(entry: Entry) -> Html:
    """Returns the verdict with the gain behind it, or why there is none."""
    if entry.gain is None:
        kind = "missing-answer" if entry.answer != NOT_RUN else "missing-answer idle"
        return tag("p", entry.answer, class_=f"answer {kind}")
    found = entry.gain.interval
    span = f" ({found.low:+.4f} to {found.high:+.4f})" if math.isfinite(found.low) else ""
    runs = "one run each" if entry.num_pairs == 1 else f"{entry.num_pairs} pairs of runs"
    runs = quantity(entry.num_pairs, "member") if entry.reference == MEMBERS else runs
    facts = f"{quantity(entry.gain.num_images, 'image')}, {quantity(found.num_groups, 'sequence')}, {runs}"
    kind = KINDS.get(entry.answer.partition(" ")[0], "open")
    verdict = tag("strong", entry.answer, class_=f"verdict {kind}")
    words = tag("span", f" {found.mean:+.4f}{span} over {entry.reference}; {facts}")
    cautions = [tag("span", f" Read with care: {caution}.", class_="care") for caution in entry.cautions]
    return tag("p", verdict, words, *cautions, class_="answer")


def _changes(entry: Entry) -> Html | None:
    if not entry.changes:
        return None
    texts = [f"{key}: {old} → {new}" for key, (old, new) in entry.changes.items()]
    if len(texts) <= MOST_CHANGES:
        return tag("p", *(tag("code", text) for text in texts), class_="changes")
    listed = tag("ul", *(tag("li", tag("code", text)) for text in texts), class_="plain")
    words = f"{quantity(len(texts), 'setting')} differ from {entry.reference}"
    return tag("details", tag("summary", words), listed, class_="changes")
