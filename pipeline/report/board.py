"""All that the board shows of the runs: their table, intervals, learning curves, and the lab book of each competition.

    ./run.sh board

In: the small files of `runs/*`, the configs, the log of uploads. Out: `Competition`s; `board_page.py` writes them. A
file that is damaged costs what it would have shown, and is named; nothing else of the page.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pipeline.config.family import Relative, read_family
from pipeline.engine.folder import lock_holder
from pipeline.engine.run import Stage
from pipeline.errors import UserError
from pipeline.intervals import Interval, group_numbers, interval
from pipeline.paths import CONFIGS, HISTORY, MARKERS, PER_IMAGE, REPORT, TIMINGS, Folders
from pipeline.report.compare import LEAST_IMAGES, read_image_scores
from pipeline.report.lab_book import Entry, lab_book
from pipeline.report.live import Live, declared_score, read_live
from pipeline.report.read import damaged_files, numbers, read_columns, read_header
from pipeline.report.runs_columns import RunsTable
from pipeline.report.runs_rows import RunRow
from pipeline.report.runs_table import read_rows, table_of
from pipeline.report.study_names import Setting, read_settings, read_studies
from pipeline.scores import LABELS, OF_EVERY_RUN, label_of, per_image_score

DIGITS = 4  # of a value of a curve: a tenth of a line's width on a large screen
MOST_POINTS = 200  # of a curve; a line of more pixels shows no more

ImageScores = Mapping[str, tuple[str, float]]  # by image id, its sequence and score


@dataclass(frozen=True)
class Curve:
    """Validation loss and score by epoch; None where an epoch has no value."""

    epochs: tuple[int, ...]
    loss: tuple[float | None, ...]
    score: tuple[float | None, ...]


@dataclass(frozen=True)
class BoardRun:
    """A run on the board.

    Attributes:
        images: sequence and score of each validation image, in `Competition.image_score`; empty where there are none.
        interval: of the mean over these images; None with too few.
        live: of a run that is running now, or has no score.
        faults: what of it is damaged.
    """

    row: RunRow
    images: ImageScores
    interval: Interval | None
    curve: Curve | None
    has_report: bool
    live: Live | None
    faults: tuple[str, ...]

    @property
    def name(self) -> str:
        return self.row.name

    @property
    def state(self) -> str:
        """What to know of a run beside its numbers: that it is running, why it has no score, what is damaged."""
        words = [self.row.without] if self.row.without else []
        if self.live is not None and (self.live.is_running or self.live.stage.startswith(("stopped", "refused"))):
            now = f"{self.live.stage}, epoch {self.live.epochs}" if self.live.epochs else self.live.stage
            words = [word for word in words if not word.startswith("epoch")]  # `now` says it in full
            words.append(f"running: {now}" if self.live.is_running else now)
        return "; ".join([*words, *self.faults])


@dataclass(frozen=True)
class Competition:
    """A competition of which there are runs.

    Attributes:
        name: "" of runs whose config cannot be read.
        table: of the evaluated runs.
        runs: all of them, by name.
        score: the name of the competition's own score.
        image_score: the score of intervals and gains, which has a value per image.
        settings: by run, what studies say of it.
        book: the experiments without a parent among them.
    """

    name: str
    title: str
    table: RunsTable
    runs: Mapping[str, BoardRun]
    score: str
    image_score: str
    settings: Mapping[str, Setting]
    book: tuple[Entry, ...]

    @property
    def image_label(self) -> str:
        return LABELS[self.image_score]


def read_board(folders: Folders, stages: Sequence[Stage], configs: Path = CONFIGS) -> list[Competition]:
    """Returns the competitions of all runs, by name.

    Args:
        stages: in order; the last one that a run has finished is its state.
        configs: the folder whose headers have questions and published scores.
    """
    rows, now = read_rows(folders.runs, stages, configs), time.time()
    family = read_family() if rows else {}
    settings = read_settings(read_studies(folders.runs, configs))
    return [_competition(name, own, folders, stages, family, settings, configs, now) for name, own in rows.items()]


def _competition(
    name: str,
    rows: Sequence[RunRow],
    folders: Folders,
    stages: Sequence[Stage],
    family: Mapping[str, Relative],
    settings: Mapping[str, Setting],
    configs: Path,
    now: float,
) -> Competition:
    table = table_of(name, rows, rows, folders, settings)
    score = table.columns[0].key if table.columns else declared_score(name)
    image_score = per_image_score(score) if score in LABELS else "dice"
    runs = {row.name: _read_run(row, folders, stages, score, image_score, now) for row in rows}
    images = {own.name: own.images for own in runs.values()}
    questions = {one: _question(configs / f"{one}.yaml") for one in _own_configs(name, rows, family)}
    book = lab_book(rows, images, {one: family[one] for one in questions}, questions, settings)
    return Competition(name, table.title, table, runs, score, image_score, settings, book)


def _own_configs(name: str, rows: Sequence[RunRow], family: Mapping[str, Relative]) -> list[str]:
    """Returns the configs of a competition, and those of its runs that are there."""
    of_runs = {row.config for row in rows if row.config in family}
    return sorted(of_runs | {config for config, own in family.items() if name and own.competition == name})


def _question(config: Path) -> str:
    try:
        return read_header(config).question
    except OSError:  # removed just now
        return ""


def _read_run(
    row: RunRow, folders: Folders, stages: Sequence[Stage], score: str, image_score: str, now: float
) -> BoardRun:
    paths = folders.run(row.name)
    images: ImageScores = {}
    markers = (f"{MARKERS}/{stage.name}.json" for stage in stages)
    faults = [f"its {name} is damaged" for name in damaged_files(paths.folder, (HISTORY, TIMINGS, *markers))]
    if row.metrics is not None and row.metrics.main.mean is not None:
        try:
            images = _finite(read_image_scores(paths.folder, row.name, image_score))
        except UserError:
            faults.append(f"its {PER_IMAGE} is damaged")
    curve = read_curve(paths.folder, score)
    is_running = lock_holder(paths) is not None
    live = read_live(paths, stages, now, score) if is_running or row.without else None
    return BoardRun(row, images, _interval(images), curve, (paths / REPORT).is_file(), live, tuple(faults))


def _finite(images: ImageScores) -> ImageScores:
    return {key: (sequence, value) for key, (sequence, value) in images.items() if math.isfinite(value)}


def _interval(images: ImageScores) -> Interval | None:
    """Returns the mean over images with its interval, None with fewer than a gain would need."""
    if len(images) < LEAST_IMAGES:
        return None
    values = np.array([value for _, value in images.values()])
    return interval(values, group_numbers(list(images), [sequence for sequence, _ in images.values()]))


def read_curve(run_folder: Path, score: str) -> Curve | None:
    """Returns the learning curve of a run, None where it was not trained."""
    history = read_columns(run_folder / HISTORY)
    if not history or not history["epoch"]:
        return None
    epochs = [int(epoch) for epoch in numbers(history["epoch"])]
    step = math.ceil(len(epochs) / MOST_POINTS)
    kept = sorted({*range(0, len(epochs), step), len(epochs) - 1})
    losses = _rounded(history.get("valid_loss", [""] * len(epochs)))
    name = next((f"valid_{one}" for one in (score, *OF_EVERY_RUN) if f"valid_{one}" in history), None)
    scores = _rounded(history[name]) if name else [None] * len(epochs)
    return Curve(*(tuple(values[index] for index in kept) for values in (epochs, losses, scores)))


def _rounded(cells: Sequence[str]) -> list[float | None]:
    return [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in numbers(cells)]


def best_runs(own: Competition, most: int) -> list[str]:
    """Returns the names of the runs with the highest score that have a learning curve, the best first.

    Quick runs on a share of the images come after all others.
    """
    if not own.table.columns:
        return []
    scores = dict(zip(own.table.runs, own.table.columns[0].values, strict=True))
    known = [name for name in scores if scores[name] is not None and own.runs[name].curve is not None]
    known.sort(key=lambda name: ((own.runs[name].row.split.get("index") or 0) < 0, -scores[name]))
    return known[:most]


def score_label(own: Competition) -> str:
    """Returns what the competition's own score is called."""
    return label_of(own.score)


def without_score(own: Competition) -> list[BoardRun]:
    """Returns the runs that have no row in the table of scores, by name."""
    return [run for name, run in own.runs.items() if name not in own.table.runs]


def with_name(own: Competition) -> Competition:
    """Returns a competition whose name can be shown."""
    return own if own.name.strip() else replace(own, name="unknown competition")
