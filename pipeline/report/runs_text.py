"""The table of `./run.sh table` as text: for a terminal, as CSV with all digits, as Markdown.

In: a `RunsTable`. Out: text. Minimum, average and maximum stand below the runs, but not in the CSV: it is for programs,
which would take them for runs.
"""

from __future__ import annotations

import csv
import io
import textwrap
from collections.abc import Sequence

from pipeline.report.runs_columns import SETTING, Column, RunsTable
from pipeline.report.table import LEAST_QUESTION, cut

GAP = "  "
SUMMARIES = ("minimum", "average", "maximum")
SETTINGS = "question or settings"  # the heading
NO_SUMMARY = ("",) * len(SUMMARIES)

Cells = list[str]  # of one column: heading, runs, summaries; all of one width


def terminal_text(table: RunsTable, width: int, with_classes: bool = False) -> str:
    """Returns the table in lines of at most `width` columns; what does not fit stands in a block of its own below.

    Args:
        with_classes: whether the score of each class follows.
    """
    parts = [f"{table.competition}: {table.title}" if table.title else table.competition or "unknown competition"]
    if table.runs:
        # Names of runs are typed, so that they stay whole.
        runs = table.runs if table.heading != SETTING else [cut(name, width // 2) for name in table.runs]
        names = _padded((table.heading, *runs, *SUMMARIES))
        columns = [_numbers(column) for column in table.columns if not column.is_detail]
        columns.append(_padded(("split", *table.texts["split"], *NO_SUMMARY)))
        blocks = _blocks(names, columns, width)
        room = width - len(_line(blocks[-1], 0)) - len(GAP)
        if room >= LEAST_QUESTION:
            settings = (cut(text, room) for text in table.differing)
            blocks[-1].append(_padded((SETTINGS, *settings, *NO_SUMMARY)))
        if with_classes:
            blocks += _blocks(names, [_numbers(column) for column in table.classes], width)
        parts += ["\n\n".join(map(_drawn, blocks))]
    return "\n".join([*parts, *(textwrap.fill(note, width, subsequent_indent=GAP) for note in table.notes)])


def _numbers(column: Column) -> Cells:
    cells = (column.heading, *map(column.shown, (*column.values, *column.summary().values())))
    most = max(map(len, cells))
    return [cell.rjust(most) for cell in cells]


def _padded(cells: Sequence[str]) -> Cells:
    most = max(map(len, cells))
    return [cell.ljust(most) for cell in cells]


def _blocks(names: Cells, columns: Sequence[Cells], width: int) -> list[list[Cells]]:
    """Returns the columns in groups that fit the width, each behind the names."""
    blocks = [[names]]
    for column in columns:
        if len(blocks[-1]) > 1 and len(_line([*blocks[-1], column], 0)) > width:
            blocks.append([names])
        blocks[-1].append(column)
    return blocks


def _line(block: Sequence[Cells], index: int) -> str:
    return GAP.join(column[index] for column in block)


def _drawn(block: Sequence[Cells]) -> str:
    """Returns a block's lines, with a rule below the heading and one above the summaries."""
    head, *lines = (_line(block, index) for index in range(len(block[0])))
    rule = "-" * len(head)
    end = len(lines) - len(SUMMARIES)
    return "\n".join(line.rstrip() for line in (head, rule, *lines[:end], rule, *lines[end:]))


def csv_text(table: RunsTable) -> str:
    """Returns a line per run, every number with all its digits; an empty cell is not known."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    columns = [*table.columns, *table.classes]
    words = {heading.replace(" ", "_"): cells for heading, cells in table.texts.items()}
    writer.writerow(("experiment", *words, *(column.key for column in columns)))
    values = ((("" if value is None else repr(value)) for value in column.values) for column in columns)
    writer.writerows(zip(table.runs, *words.values(), *values, strict=True))
    return file.getvalue()


def markdown_text(table: RunsTable) -> str:
    """Returns the table as Markdown, with one of the settings before it, and the score of each class behind it."""
    title = f"# {table.competition}: {table.title}" if table.title else f"# {table.competition}"
    settings = table.by_setting
    parts = [title]
    if settings is not None:
        parts += ["## Settings", _markdown(settings, settings.columns, _words(settings)), "## Runs"]
    parts += [_markdown(table, table.columns, _words(table)), f"## {table.label} of each class"]
    parts += [_markdown(table, table.classes, {})]
    parts += (f"- {note}" for note in (settings or table).notes)
    return "\n\n".join(parts) + "\n"


def _words(table: RunsTable) -> dict[str, tuple[str, ...]]:
    """Returns the columns of words for people, without those that are empty."""
    words = {heading: table.texts[heading] for heading in ("split", "other split")} | {SETTINGS: table.differing}
    return {heading: cells for heading, cells in words.items() if any(cells)}


def _markdown(table: RunsTable, columns: Sequence[Column], words: dict[str, tuple[str, ...]]) -> str:
    heads = (table.heading, *(column.heading for column in columns), *words)
    rows = [heads, ("---", *("---:" for _ in columns), *("---" for _ in words))]
    shown = (map(column.shown, column.values) for column in columns)
    rows += zip(table.runs, *shown, *words.values(), strict=True)
    for name in SUMMARIES:
        cells = (column.shown(column.summary()[name]) for column in columns)
        rows.append((f"**{name}**", *(f"**{cell}**" if cell else "" for cell in cells), *("" for _ in words)))
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows)
