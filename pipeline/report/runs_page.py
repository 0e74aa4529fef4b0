"""The table of `./run.sh table` as a page whose columns are sorted by a click; it loads nothing.

In: a `RunsTable`. Out: a page for light and dark, wide and narrow screens; a wide table scrolls inside its box.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from pipeline.report.frame import document
from pipeline.report.markup import Html, breakable, digits, heat, join, quantity, table, tag
from pipeline.report.runs_columns import SETTING, Column, RunsTable
from pipeline.report.runs_text import SETTINGS, SUMMARIES
from pipeline.report.table import cut

MOST_LETTERS = 60  # of the overrides of a setting: two lines of a cell
SORT = Path(__file__).with_name("sort.js")
MEANINGS = {
    "other split": "the score of the same settings on the other kind of split, by slice or by sequence",
    "public": "public score on Kaggle's leaderboard, of the run's current submission",
    "private": "private score on Kaggle's leaderboard, of the run's current submission",
    "valid loss": "loss of the validation images, at the epoch of the scored weights; not comparable between losses",
    "hours": "hours of training; of an ensemble, of all its members",
    "params M": "millions of parameters; of an ensemble, of all its members",
}

Shown = Callable[[Column, "float | None"], Html | str]


def table_page(own: RunsTable) -> str:
    """Returns the page of a competition's runs."""
    caption = f"{own.label} of each class"
    classes = _table(own, own.classes, _heated, {}, caption, "sorted heat")
    sections = [("Runs", "Runs", join(runs_part(own), _meanings(own))), ("Classes", caption, classes)]
    if own.by_setting is not None:
        sections.insert(0, ("Settings", "Settings", join(runs_part(own.by_setting), settings_note(own.by_setting))))
    title = f"{own.competition}: {quantity(len(own.runs), 'run')}"
    return document(title, own.competition, _headline(own), sections, SORT)


def runs_part(own: RunsTable) -> Html:
    """Returns the table of runs, or of settings, with scores and costs."""
    words = {heading: own.texts[heading] for heading in ("split", "other split") if any(own.texts[heading])}
    is_settings = own.heading == SETTING
    if any(own.differing):
        most = MOST_LETTERS if is_settings else None
        words[SETTINGS] = [_words(text, most) for text in own.differing]
    caption = "Validation scores and costs" if own.by_setting is None else "Validation scores and costs of each run"
    columns = [column for column in own.columns if not (is_settings and column.is_detail)]
    return _table(own, columns, number_cell, words, caption, "sorted settings" if is_settings else "sorted")


def _words(text: str, most: int | None) -> Html:
    """Returns overrides or a question, of `most` letters and whole as a tooltip."""
    shown = text if most is None else cut(text, most)
    return tag("span", breakable(shown), class_="words", title=text if shown != text else None)


def settings_note(own: RunsTable) -> Html:
    """Returns a note on how the rows of a table of settings are computed."""
    note = own.notes[0]
    text = f"{note[:1].upper()}{note[1:]}. A study compares settings on the same splits and seeds, and gives verdicts."
    return tag("p", text, class_="note")


def _headline(own: RunsTable) -> Html:
    main = own.columns[0]
    best, run = max((value, name) for value, name in zip(main.values, own.runs, strict=True) if value is not None)
    notes = tag("aside", tag("ul", *(tag("li", note) for note in own.notes)), class_="caution") if own.notes else None
    return tag(
        "header",
        tag("p", own.title, class_="eyebrow") if own.title else None,
        tag("div", tag("h1", own.competition, " ", tag("small", quantity(len(own.runs), "run"))), class_="title"),
        tag("p", tag("strong", digits(best)), f" the highest validation {own.label}, of {run}", class_="score"),
        notes,
    )


def _meanings(own: RunsTable) -> Html:
    headings = [column.heading for column in own.columns]
    known = [f"{heading}: {meaning}." for heading, meaning in MEANINGS.items() if heading in headings]
    if any(heading.startswith("published") for heading in headings):
        known.append("published: what the source of the experiment reports, on its own split.")
    return tag("p", " ".join(["A click on a heading sorts.", *known]), class_="note")


def _table(
    own: RunsTable,
    columns: Sequence[Column],
    shown: Shown,
    words: Mapping[str, Sequence[str]],
    caption: str,
    kind: str,
) -> Html:
    """Returns a table of the runs with words behind the numbers, and the summaries below."""
    first = SETTING if own.heading == SETTING else "run"
    heads = sort_heads((first, *(one.heading for one in columns), *words))
    cells = ([shown(column, value) for value in column.values] for column in columns)
    summaries = [(name, *summary_cells(name, columns), *("" for _ in words)) for name in SUMMARIES]
    rows = zip(own.runs, *cells, *words.values(), strict=True)
    return table(heads, rows, caption, summaries, class_=kind)


def sort_heads(texts: Sequence[str]) -> list[Html]:
    """Returns heads of columns that `sort.js` sorts by."""
    return [tag("button", text, type="button") for text in texts]


def summary_cells(name: str, columns: Sequence[Column]) -> list[str]:
    """Returns the minimum, average or maximum of each column."""
    return [column.shown(column.summary()[name]) or "–" for column in columns]


def number_cell(column: Column, value: float | None) -> Html | str:
    """Returns a number for people, the highest of its column in bold where it is a score; sorted with all digits."""
    if value is None:
        return "–"
    text = column.shown(value)
    is_top = column.is_score and value == max(column.known)
    return tag("data", tag("b", text) if is_top else text, value=repr(value))


def _heated(column: Column, value: float | None) -> Html | str:
    return heat(value, number_cell(column, value))
