"""The table of `./run.sh list`: every experiment with its score, the published one, its state and its question.

In: the comments that open `configs/*.yaml`, and the small files of `runs/*`. Out: text. No pandas, no NumPy, no YAML.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.engine.run import Stage
from pipeline.paths import CONFIG, CONFIGS, HISTORY, METRICS
from pipeline.report.read import read_columns, read_config, read_header, read_json, read_stage_seconds, show_value

HEADINGS = ("experiment", "dice", "published", "state", "question")
LEAST_QUESTION = 24  # columns; in a narrower terminal lines wrap rather than say nothing
VARIANT = re.compile(r"^(?P<config>.+)-[0-9a-f]{6,}$")


@dataclass(frozen=True)
class ExperimentRow:
    """A line of the table. `name` is a run's name; a run with overrides follows its config.

    Attributes:
        config: the config's name, which that of a run with overrides leaves out.
        competition: what a run with a score was judged on.
    """

    name: str
    config: str
    competition: str | None
    score: float | None
    published: float | None
    state: str
    question: str


def experiment_table(
    runs: Path,
    stages: Sequence[Stage],
    words: Sequence[str] = (),
    width: int | None = None,
    configs: Path | None = None,
) -> str:
    """Returns the table of all experiments, and minimum, average, maximum of scores of one competition.

    Args:
        runs: the folder of the runs.
        stages: in order; the last one that a run has finished is its state.
        words: only lines that contain all of them, in any column, in any case.
        width: columns of the terminal; None: asks it.
        configs: the folder of the configs, else the project's.
    """
    width = width or shutil.get_terminal_size((120, 24)).columns
    rows = [row for row in experiment_rows(configs or CONFIGS, runs, stages) if _has(row, words)]
    if not rows:
        return f"No experiment matches {' '.join(words)}." if words else "There are no configs."
    cells = [(row.name, _score(row.score), _score(row.published), row.state, row.question) for row in rows]
    is_one = len({row.competition for row in rows if row.score is not None}) == 1  # Dice of two have no mean
    scores, published = _known(rows, "score") if is_one else [], _known(rows, "published")
    summary = [(word, _score(choose(scores)), _score(choose(published)), "", "") for word, choose in SUMMARIES]
    widths = [max(len(row[column]) for row in (HEADINGS, *cells, *summary)) for column in range(4)]
    room = max(width - sum(widths) - 2 * 4, LEAST_QUESTION)
    lines = [_line(row, widths, room) for row in (HEADINGS, *cells)]
    rule = "-" * min(width, max(map(len, lines)))
    table = [lines[0], rule, *lines[1:]]
    if scores or published:
        table += [rule, *(_line(row, widths, room) for row in summary)]
    return "\n".join(table)


def experiment_rows(configs: Path, runs: Path, stages: Sequence[Stage]) -> list[ExperimentRow]:
    """Returns a row for every config, and one for each run of it that had overrides."""
    variants: dict[str, list[Path]] = {}
    for folder in sorted(runs.iterdir()) if runs.is_dir() else []:
        match = VARIANT.match(folder.name)
        if match and (folder / CONFIG).is_file():
            variants.setdefault(match["config"], []).append(folder)
    rows = []
    for path in sorted(configs.glob("*.yaml")):
        if path.stem == "base" or not path.is_file():
            continue
        header, folder = read_header(path), runs / path.stem
        state = read_state(folder, stages)
        rows.append(_row(path.stem, path.stem, folder, state, header.published_dice, header.question))
        for variant in variants.get(path.stem, []):
            name = f"  {variant.name.removeprefix(path.stem)}"
            rows.append(_row(name, path.stem, variant, read_state(variant, stages), None, _overrides(variant)))
    return rows


def _row(name: str, config: str, folder: Path, state: str, published: float | None, question: str) -> ExperimentRow:
    score = read_score(folder)
    values = read_config(folder / CONFIG) if score is not None else None
    competition = (values or {}).get("DATASETS.COMPETITION")
    return ExperimentRow(name, config, competition, score, published, state, question)


def read_score(run_folder: Path) -> float | None:
    """Returns the validation mean Dice of a run, or None while it has none."""
    dice = (read_json(run_folder / METRICS) or {}).get("dice") or {}
    return dice.get("mean")


def read_state(run_folder: Path, stages: Sequence[Stage]) -> str:
    """Returns how far a run has come in one or two words, or "" when it was never started."""
    seconds = read_stage_seconds(run_folder)
    if "train" not in seconds:
        history = read_columns(run_folder / HISTORY)
        if history and history.get("epoch"):
            return f"epoch {history['epoch'][-1]}"
    done = [stage.done for stage in stages if stage.name in seconds]
    if done:
        return done[-1]
    return "started" if (run_folder / CONFIG).is_file() else ""


def _overrides(variant: Path) -> str:
    """Returns the overrides of a run as KEY=VALUE, from the comments and values of its resolved config."""
    path = variant / CONFIG
    values = read_config(path) or {}
    keys: list[str] = []
    for line in path.read_text(encoding="utf-8").splitlines() if values else []:
        if line.startswith("# Overridden on the command line: "):
            keys = line.partition(": ")[2].split(", ")
    return " ".join(f"{key}={show_value(values[key])}" for key in keys if key in values)


def _has(row: ExperimentRow, words: Sequence[str]) -> bool:
    text = f"{row.config} {row.name} {row.state} {row.question}".lower()
    return all(word.lower() in text for word in words)


def _known(rows: Sequence[ExperimentRow], column: str) -> list[float]:
    return [value for row in rows if (value := getattr(row, column)) is not None]


def _average(values: Sequence[float]) -> float:
    return sum(values) / len(values)


def _or_none(choose: Callable[[Sequence[float]], float]) -> Callable[[Sequence[float]], float | None]:
    return lambda values: choose(values) if values else None


SUMMARIES = (("minimum", _or_none(min)), ("average", _or_none(_average)), ("maximum", _or_none(max)))


def _score(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"


def _line(cells: Sequence[str], widths: Sequence[int], room: int) -> str:
    name, score, published, state, question = cells
    question = question if len(question) <= room else question[: room - 1].rstrip() + "…"
    left = f"{name:<{widths[0]}}  {score:>{widths[1]}}  {published:>{widths[2]}}  {state:<{widths[3]}}  {question}"
    return left.rstrip()
