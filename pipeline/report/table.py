"""The table of `./run.sh list`: every experiment with its score, the published one, its state and its question.

In: the comments that open `configs/*.yaml`, and the small files of `runs/*`. Out: text. No pandas, no NumPy, no YAML.
"""

from __future__ import annotations

import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.engine.run import Stage
from pipeline.paths import CONFIG, CONFIGS, HISTORY, MARKERS, METRICS, STUDIES
from pipeline.report.read import (
    Header,
    damage_of,
    is_run,
    read_columns,
    read_config,
    read_header,
    read_metrics,
    read_origin,
    read_stage_seconds,
    show_value,
)

LEAST_QUESTION = 24  # columns; in a narrower terminal lines wrap rather than lose the question
VARIANT = re.compile(r"^(?P<config>.+)-[0-9a-f]{6,}$")


@dataclass(frozen=True)
class ExperimentRow:
    """A line of the table. `name` is a run's name; a run with overrides follows its config.

    Attributes:
        config: the config's name, which that of a run with overrides leaves out.
        scores: the validation mean of the competition's own score, and the published one, each with its label.
        competition: of a run with a score.
    """

    name: str
    config: str
    scores: tuple[tuple[float | None, str], tuple[float | None, str]]
    competition: str | None
    state: str
    question: str


def experiment_table(
    runs: Path,
    stages: Sequence[Stage],
    words: Sequence[str] = (),
    width: int | None = None,
    configs: Path = CONFIGS,
) -> str:
    """Returns the table of all experiments, and minimum, average, maximum of scores of one competition.

    Args:
        stages: in order; the last one that a run has finished is its state.
        words: only lines that contain all of them, in any column, in any case.
        width: columns of the terminal; None: asks it.
    """
    width = width or shutil.get_terminal_size((120, 24)).columns
    rows = [row for row in experiment_rows(configs, runs, stages) if _has(row, words)]
    if not rows:
        return f"No experiment matches {' '.join(words)}." if words else "There are no configs."
    labels = {label for row in rows for value, label in row.scores if value is not None}
    is_one = len(labels) <= 1  # then the heading names it, else each cell does
    headings = ("experiment", f"score ({labels.pop()})" if len(labels) == 1 else "score")
    headings += ("published", "state", "question")
    shown = ([_score(value, "" if is_one else label) for value, label in row.scores] for row in rows)
    cells = [(row.name, *own, row.state, row.question) for row, own in zip(rows, shown, strict=True)]
    own, published = ([row.scores[index][0] for row in rows if row.scores[index][0] is not None] for index in (0, 1))
    if len({row.competition for row in rows if row.scores[0][0] is not None}) > 1:
        own = []  # scores of two competitions have no mean
    if len({row.scores[1][1] for row in rows if row.scores[1][0] is not None}) > 1:
        published = []  # nor have Dice and mIoU
    summaries = {"minimum": min, "average": lambda values: sum(values) / len(values), "maximum": max}
    summary = [
        (word, *(_score(choose(values)) if values else "" for values in (own, published)), "", "")
        for word, choose in summaries.items()
    ]
    widths = [max(len(row[column]) for row in (headings, *cells, *summary)) for column in range(4)]
    question_width = max(width - sum(widths) - 2 * 4, LEAST_QUESTION)
    head, *lines = [_line(row, widths, question_width) for row in (headings, *cells)]
    rule = "-" * min(width, max(map(len, (head, *lines))))
    if own or published:
        lines += [rule, *(_line(row, widths, question_width) for row in summary)]
    return "\n".join([head, rule, *lines])


def experiment_rows(configs: Path, runs: Path, stages: Sequence[Stage]) -> list[ExperimentRow]:
    """Returns a row for every config, and one for each run of it that had overrides."""
    variants: dict[str, list[Path]] = defaultdict(list)
    for folder in sorted(runs.iterdir()) if runs.is_dir() else []:
        if (match := VARIANT.match(folder.name)) and is_run(folder):
            variants[match["config"]].append(folder)
    rows, setting_of = [], _settings_of(runs, configs)
    for path in sorted(configs.glob("*.yaml")):
        if path.stem == "base" or not path.is_file():
            continue
        rows.append(_row(path.stem, runs / path.stem, stages, read_header(path)))
        for variant in variants[path.stem]:
            values, (_, changed) = read_config(variant / CONFIG) or {}, read_origin(variant / CONFIG)
            words = " ".join(filter(None, (setting_of(variant.name, values, changed), overrides_text(values, changed))))
            rows.append(_row(path.stem, variant, stages, Header(words, None, "")))
    return rows


def _settings_of(runs: Path, configs: Path) -> Callable[[str, Mapping[str, Any], Sequence[str]], str]:
    """Returns a function of a run, its values and overridden keys: the run's name in studies, "" if it has none."""
    if not (runs / STUDIES).is_dir():
        return lambda run, values, changed: ""
    from pipeline.report.study_names import read_settings, read_studies, repeat_words  # needs YAML

    known = read_settings(read_studies(runs, configs))
    return lambda run, values, changed: f"{repeat_words(known[run], values, changed)}:" if run in known else ""


def _row(config: str, folder: Path, stages: Sequence[Stage], header: Header) -> ExperimentRow:
    metrics, suffix = read_metrics(folder), folder.name.removeprefix(config)
    own = (metrics.main.mean, metrics.main.label) if metrics else (None, "")
    values = read_config(folder / CONFIG) or {}
    name, scores = f"  {suffix}" if suffix else config, (own, (header.published, header.published_label))
    competition = None if own[0] is None else values.get("DATASETS.COMPETITION")
    state = read_state(folder, stages)
    state += ", all images" if state and values.get("DATASETS.SPLIT.BY") == "none" else ""
    kept = (CONFIG, METRICS, HISTORY, *(f"{MARKERS}/{stage.name}.json" for stage in stages))
    state = ", ".join(filter(None, (state, damage_of(folder, kept))))
    return ExperimentRow(name, config, scores, competition, state, header.question)


def read_state(run_folder: Path, stages: Sequence[Stage]) -> str:
    """Returns how far a run has come in one or two words, or "" when it was never started."""
    finished = read_stage_seconds(run_folder)
    if "train" not in finished:
        history = read_columns(run_folder / HISTORY)
        if history and history.get("epoch"):
            return f"epoch {history['epoch'][-1]}"
    done = [stage.done for stage in stages if stage.name in finished]
    if done:
        return done[-1]
    return "started" if (run_folder / CONFIG).is_file() else ""


def overrides_text(values: Mapping[str, Any], keys: Sequence[str]) -> str:
    """Returns the overrides of a run as KEY=VALUE; of these keys, those that its config has."""
    return " ".join(f"{key}={show_value(values[key])}" for key in keys if key in values)


def _has(row: ExperimentRow, words: Sequence[str]) -> bool:
    text = f"{row.config} {row.name} {row.state} {row.question}".lower()
    return all(word.lower() in text for word in words)


def _score(value: float | None, label: str = "") -> str:
    return "" if value is None else f"{value:.3f} {label}".rstrip()


def _line(cells: Sequence[str], widths: Sequence[int], question_width: int) -> str:
    name, score, published, state, question = cells
    left = f"{name:<{widths[0]}}  {score:>{widths[1]}}  {published:>{widths[2]}}  {state:<{widths[3]}}"
    return f"{left}  {cut(question, question_width)}".rstrip()


def cut(text: str, width: int) -> str:
    """Returns a text of at most `width` characters, with … where it was longer.

    >>> cut("larger tiles", 8)
    'larger…'
    """
    return text if len(text) <= width else text[: width - 1].rstrip() + "…"
