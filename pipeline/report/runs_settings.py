"""The table of runs with a row per setting: the mean over the runs that differ only in split and seed.

In: the runs of a competition and their `RunsTable`, their names in studies. Out: another `RunsTable`. No pandas, no
NumPy.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import mean, stdev

from pipeline.report.read import split_name
from pipeline.report.runs_columns import SETTING, Column, RunsTable
from pipeline.report.runs_rows import RunRow
from pipeline.report.study_names import REPEATED, Setting
from pipeline.report.table import cut, overrides_text

MOST_LETTERS = 60  # of overrides that stand for a name


def by_setting(table: RunsTable, rows: Sequence[RunRow], settings: Mapping[str, Setting]) -> RunsTable | None:
    """Returns the table with a row per setting, the best first; None if every setting has only one run.

    A setting is a config and its overrides without split and seed; runs on two kinds of split, or on a share of the
    images, are not averaged. Of a score, each split counts as much as the others, as in the table of a study.

    Args:
        table: of the runs.
        rows: at least its runs.
        settings: by run, what studies say of it.
    """
    by_name = {row.name: row for row in rows}
    groups: dict[tuple, list[int]] = defaultdict(list)
    for index, name in enumerate(table.runs):
        groups[_key(by_name[name])].append(index)
    if len(groups) == len(table.runs):
        return None
    own = [[by_name[table.runs[index]] for index in indices] for indices in groups.values()]
    splits = [[split_name(row.split) for row in some] for some in own]
    columns = [_means(column, groups.values(), splits) for column in table.columns]
    spreads = [_spread(table.columns[0], indices) for indices in groups.values()]
    spread = Column("spread", "±", tuple(spreads), is_score=False)
    counts = Column("runs", "runs", tuple(map(float, map(len, own))), is_score=False, decimals=0)
    differing = _differing(own)
    unsorted = RunsTable(
        competition=table.competition,
        title=table.title,
        label=table.label,
        runs=tuple(_names(own, settings, differing)),
        texts={"split": tuple(map(_splits, own, splits)), "other split": ("",) * len(own), "settings": ()},
        differing=differing,
        columns=tuple(column for column in (*columns[:1], spread, counts, *columns[1:]) if column.known),
        classes=tuple(_means(column, groups.values(), splits) for column in table.classes),
        notes=(_note(table, splits), *table.notes),
        heading=SETTING,
    )
    return unsorted.sorted()


def _key(row: RunRow) -> tuple:
    """Returns what the runs of a setting have in common."""
    own = [key for key in row.changed if key not in REPEATED and key in row.values]
    is_quick = (row.split.get("index") or 0) < 0
    return row.config, overrides_text(row.values, own), row.split.get("by"), row.split.get("folds"), is_quick


def _means(column: Column, groups: Sequence[Sequence[int]], splits: Sequence[Sequence[str]]) -> Column:
    """Returns a column with the mean of each group: over the runs of a split, then over the splits."""
    means = []
    for indices, own in zip(groups, splits, strict=True):
        by_split = defaultdict(list)
        for index, split in zip(indices, own, strict=True):
            if column.values[index] is not None:
                by_split[split].append(column.values[index])
        means.append(mean(map(mean, by_split.values())) if by_split else None)
    return replace(column, values=tuple(means))


def _spread(column: Column, indices: Sequence[int]) -> float | None:
    """Returns the standard deviation of a column between runs."""
    known = [column.values[index] for index in indices if column.values[index] is not None]
    return stdev(known) if len(known) > 1 else None


def _names(groups: Sequence[Sequence[RunRow]], settings: Mapping[str, Setting], differing: Sequence[str]) -> list[str]:
    """Returns the name of each setting in its study, else its only run, else its config with what differs."""
    names = []
    for own, words in zip(groups, differing, strict=True):
        known = next((settings[row.name].name for row in own if row.name in settings), None)
        first = own[0]
        overrides = "" if first.header.question else words
        together = cut(f"{first.config} {overrides}".rstrip(), MOST_LETTERS)
        names.append(known or (first.name if len(own) == 1 else together))
    return names


def _splits(own: Sequence[RunRow], splits: Sequence[str]) -> str:
    """Returns the splits of a setting as text: "sequence 0, 1, 2 of 3 folds"."""
    names = list(dict.fromkeys(splits))
    if len(names) == 1:
        return names[0]
    indices = sorted({row.split.get("index") for row in own}, key=lambda index: (index is None, index))
    shared = {**own[0].split, "index": ", ".join(map(str, indices))}
    return split_name(shared)


def _differing(groups: Sequence[Sequence[RunRow]]) -> tuple[str, ...]:
    """Returns question or overrides of each setting, without those that all settings of its config share."""
    first = [own[0] for own in groups]
    values: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in first:
        for key in row.changed:
            values[row.config, key].append(overrides_text(row.values, [key]))
    counts = {config: sum(row.config == config for row in first) for config in {row.config for row in first}}

    def words(row: RunRow) -> str:
        own = [key for key in row.changed if key not in REPEATED]
        shared = [key for key in own if len(values[row.config, key]) == counts[row.config] > 1]
        own = [key for key in own if key not in shared or len(set(values[row.config, key])) > 1]
        return row.header.question or overrides_text(row.values, own)

    return tuple(map(words, first))


def _note(table: RunsTable, splits: Sequence[Sequence[str]]) -> str:
    """Returns how the rows are computed, and whether they are of the same images."""
    text = f"mean over the runs of each setting ({len(table.runs)} runs in all)"
    text += f"; ±: standard deviation of {table.label} between the runs of a setting"
    kinds = {tuple(sorted(set(own))) for own in splits}
    if len(kinds) > 1:
        text += "; settings with different splits cannot be compared, as they are averages over different images"
    return text
