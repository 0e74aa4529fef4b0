"""The table of `./run.sh table`: what the evaluated runs of each competition reached, by class too, and at what cost.

In: the small files of `runs/*`, the headers of configs, the tables of studies, the log of uploads. Out: one `RunsTable`
per competition; `runs_text.py` and `runs_page.py` write it. (`table.py` is the list of configs.) No pandas, no NumPy.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from pipeline.config.competition import Competition
from pipeline.config.load import load_competition
from pipeline.engine.run import Stage
from pipeline.errors import UserError
from pipeline.paths import CONFIGS, Folders
from pipeline.report.folders import without_split
from pipeline.report.read import is_run, show_value, split_name
from pipeline.report.runs_columns import Column, RunsTable
from pipeline.report.runs_rows import BOARDS, RunRow, board_scores, read_row, read_uploads
from pipeline.report.runs_settings import by_setting
from pipeline.report.study_names import Setting, read_settings, read_studies, repeat_words
from pipeline.report.table import overrides_text

SHOWN_FIRST = ("dice", "miou", "ap50", "ap75")  # behind the competition's own score, of masks and of boxes
COSTS = {"hours": "hours", "parameters_m": "params M"}  # headings
MOST_NAMED = 8  # runs in a note


def runs_tables(
    folders: Folders,
    stages: Sequence[Stage],
    names: Sequence[str] | None = None,
    competition: str | None = None,
    configs: Path = CONFIGS,
) -> list[RunsTable]:
    """Returns a table per competition, by name; one whose runs have no score yet has no rows, but notes.

    Args:
        stages: in order; the last one that a run has finished is its state.
        names: of run folders; None: all.
        competition: only this one.
    """
    tables, settings = [], read_settings(read_studies(folders.runs, configs))
    for name, rows in read_rows(folders.runs, stages, configs).items():
        chosen = [row for row in rows if names is None or row.name in names]
        if chosen and competition in (None, name):
            tables.append(table_of(name, chosen, rows, folders, settings))
    return tables


def read_rows(runs: Path, stages: Sequence[Stage], configs: Path = CONFIGS) -> dict[str, list[RunRow]]:
    """Returns what the small files of all runs say, by competition, in the order of the names.

    Runs whose config cannot be read are of the competition "".
    """
    every = sorted(path.name for path in runs.iterdir() if is_run(path)) if runs.is_dir() else ()
    by_competition: dict[str, list[RunRow]] = defaultdict(list)
    for row in (read_row(runs / name, stages, configs) for name in every):
        by_competition[str(row.values.get("DATASETS.COMPETITION", ""))].append(row)
    return dict(sorted(by_competition.items()))


def table_of(
    name: str, rows: Sequence[RunRow], every: Sequence[RunRow], folders: Folders, settings: Mapping[str, Setting]
) -> RunsTable:
    """Returns the table of a competition's runs, the best first.

    Args:
        every: also those that were not chosen.
        settings: by run, what studies say of it.
    """
    try:
        competition = load_competition(name) if name else None
    except UserError:  # its description was renamed or removed
        competition = None
    scored = [row for row in rows if not row.without]
    score = _main_score(scored, competition)
    label = next((row.metrics.scores[score].label for row in scored if score in row.metrics.scores), "score")
    uploads, faults = read_uploads(folders, competition)
    boards = [board_scores(row.name, uploads, folders.submissions) for row in scored]
    others = _other_splits(scored, every, score)
    columns = [
        *_score_columns(scored, score),
        _column(f"other_split_{score}", "other split", [others[row.name][0] for row in scored]),
        *(_column(key, key, [own.get(key) for own in boards]) for key in BOARDS),
        *_published(scored),
        *_loss_columns(scored),
        *(
            _column(key, heading, [_with_members(row, every, key) for row in scored], is_score=False, decimals=2)
            for key, heading in COSTS.items()
        ),
    ]
    of_classes = [row.metrics.scores[score].classes if score in row.metrics.scores else {} for row in scored]
    classes = dict.fromkeys(known for own in of_classes for known in own)
    found = RunsTable(
        competition=name,
        title=competition.title if competition else "",
        label=label,
        runs=tuple(row.name for row in scored),
        texts={
            "split": tuple(split_name(row.split) for row in scored),
            "other split": tuple(others[row.name][1] for row in scored),
            "setting": tuple(settings[row.name].name if row.name in settings else "" for row in scored),
            "settings": tuple(row.header.question or overrides_text(row.values, row.changed) for row in scored),
        },
        differing=tuple(
            row.header.question or _words(row, keys, settings)
            for row, keys in zip(scored, _differing(scored), strict=True)
        ),
        columns=tuple(column for column in columns if column.known),
        classes=tuple(_column(f"{score}_{one}", one, [own.get(one) for own in of_classes]) for one in classes),
        notes=(*_notes(rows), *faults),
    ).sorted()
    return replace(found, by_setting=by_setting(found, scored, settings))


def _words(row: RunRow, keys: Sequence[str], settings: Mapping[str, Setting]) -> str:
    """Returns what tells a run from others: its setting in a study with its split and seed, or these overrides."""
    if row.name in settings:
        return repeat_words(settings[row.name], row.values, row.changed)
    return overrides_text(row.values, keys)


def _column(key: str, heading: str, values: Sequence[float | None], **options: int) -> Column:
    return Column(key, heading, tuple(values), **options)


def _main_score(rows: Sequence[RunRow], competition: Competition | None) -> str:
    """Returns the score that the table is about: the competition's own, or that of the first run."""
    known = {name for row in rows for name in row.metrics.scores}
    if competition is not None and competition.score in known:
        return competition.score
    return rows[0].metrics.main.name if rows else ""


def _score_columns(rows: Sequence[RunRow], main: str) -> Iterator[Column]:
    """Yields the mean of every score, the competition's own first."""
    labels = {name: score.label for row in rows for name, score in row.metrics.scores.items()}
    order = dict.fromkeys(name for name in (main, *SHOWN_FIRST, *labels) if name in labels)
    for name in order:
        values = [row.metrics.mean(name) for row in rows]
        yield _column(name, labels[name], values, is_detail=name not in (main, *SHOWN_FIRST))


def _loss_columns(rows: Sequence[RunRow]) -> Iterator[Column]:
    """Yields the losses at the epoch whose weights are scored; only that of validation is shown on the terminal."""
    for name in dict.fromkeys(name for row in rows for name in row.losses):
        values = [row.losses.get(name) for row in rows]
        yield _column(name, name.replace("_", " "), values, is_score=False, is_detail=name != "valid_loss")


def _published(rows: Sequence[RunRow]) -> Iterator[Column]:
    """Yields a column for each score of which there is a published value."""
    headers = [row.header for row in rows]
    for label in dict.fromkeys(header.published_label for header in headers if header.published is not None):
        values = [header.published if header.published_label == label else None for header in headers]
        yield _column(f"published_{label.lower()}", f"published {label}", values)


def _with_members(row: RunRow, every: Sequence[RunRow], cost: str) -> float | None:
    """Returns what a run costs, or an ensemble's members together; they are known by the weights they predict with."""
    if not row.members:
        return getattr(row, cost)
    by_checkpoint = {one.checkpoint: getattr(one, cost) for one in every if not one.members}
    own = [by_checkpoint.get(member) for member in row.members]
    return None if None in own else sum(own)


def _other_splits(rows: Sequence[RunRow], every: Sequence[RunRow], score: str) -> dict[str, tuple[float | None, str]]:
    """Returns by run the score of the same settings on the other kind of split, and the name of that split.

    Of several, the one with the same SPLIT_INDEX is taken, or else the one with the lowest.
    """
    alike: dict[str, list[RunRow]] = defaultdict(list)
    for row in every:
        if not row.without and score in row.metrics.scores:
            alike[_settings_key(row)].append(row)
    found = {}
    for row in rows:
        others = [one for one in alike[_settings_key(row)] if one.split.get("by") != row.split.get("by")]
        index = row.split.get("index")
        others.sort(key=lambda one: (one.split.get("index") != index, one.split.get("index") or 0))
        other = others[0] if others else None
        found[row.name] = (other.metrics.mean(score), split_name(other.split)) if other else (None, "")
    return found


def _differing(rows: Sequence[RunRow]) -> list[list[str]]:
    """Returns by run the overridden keys, without those whose value all overridden runs of its config share."""
    values: dict[tuple[str, str], list[str]] = defaultdict(list)
    for row in rows:
        for key in row.changed:
            values[row.config, key].append(show_value(row.values[key]))
    num_runs = Counter(row.config for row in rows if row.changed)

    def tells(config: str, key: str) -> bool:
        own = values[config, key]
        return num_runs[config] == 1 or len(own) < num_runs[config] or len(set(own)) > 1

    return [[key for key in row.changed if tells(row.config, key)] for row in rows]


def _settings_key(row: RunRow) -> str:
    return json.dumps([row.config, without_split(row.values)], sort_keys=True)


def _notes(rows: Sequence[RunRow]) -> list[str]:
    """Returns which runs have no row, and which rows not to compare."""
    notes, scored = [], [row for row in rows if not row.without]
    if any(len(keys) < len(row.changed) for row, keys in zip(scored, _differing(scored), strict=True)):
        notes.append("settings that all overridden runs of a config share are left out here; the CSV has them")
    if without := [row for row in rows if row.without]:
        states = [f"{row.name} ({row.without})" for row in without]
        notes.append(f"without a score: {_listed(states)}")
    if quick := [row.name for row in scored if (row.split.get("index") or 0) < 0]:
        notes.append(f"quick runs on a share of the images, not to be compared: {_listed(quick)}")
    kinds = sorted({str(row.split.get("by")) for row in scored})
    if len(kinds) > 1:
        notes.append(f"validated on different splits ({', '.join(kinds)}): compare runs of one kind only")
    return notes


def _listed(words: Sequence[str]) -> str:
    rest = len(words) - MOST_NAMED
    return ", ".join(words[:MOST_NAMED]) + (f" and {rest} more" if rest > 0 else "")
