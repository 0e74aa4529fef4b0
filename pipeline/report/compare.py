"""Several runs side by side: the settings that differ, the scores, and how sure a gain is.

In: config.yaml, metrics.json, history.csv and per_image.csv of each run. Out: `Comparison`, its text, its plots.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.load import is_machine_key
from pipeline.errors import UserError
from pipeline.intervals import Interval, group_numbers, interval
from pipeline.paths import CONFIG, HISTORY, shown
from pipeline.report.figure import LIGHT, Theme, add_legend, draw_heat_map, encode, new_figure, style_axes
from pipeline.report.read import numbers, read_columns, read_config, read_origin, read_stage_seconds, show_value
from pipeline.report.scores import Metrics, read_image_scores, read_metrics
from pipeline.scores import LABELS, per_image_score
from pipeline.wording import did_you_mean

NAMES_ONLY = ("EXPERIMENT.PREFIX", "EXPERIMENT.SUFFIX", "MODEL.ABBR", "MODEL.ENCODER.ABBR")  # differ without meaning
LEAST_IMAGES = 10  # in common, for a gain to be shown
# Okabe and Ito's eight without black; more runs repeat them in dashes
RUN_COLORS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#b3a100")


@dataclass(frozen=True)
class Comparison:
    """Runs in columns. `settings` holds only keys that differ; a score that a run lacks is None.

    Attributes:
        score: name of the score that is compared: the own one of the first evaluated run's competition. None: no run
            was evaluated.
        label: its name for people.
        scores: values by label; beside the scores what the majority class reaches, the best epoch and the time.
        class_scores: the compared score by class.
        gains: of each run over the first.
        gain_label: which score they are of: a neighbour of the compared one where that has no value per image.
        notes: what is missing, and what to type.
    """

    runs: tuple[str, ...]
    settings: dict[str, tuple[str, ...]]
    score: str | None
    label: str
    scores: dict[str, tuple[float | None, ...]]
    class_scores: dict[str, tuple[float | None, ...]]
    gains: tuple[Interval | None, ...]
    gain_label: str
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        """Returns a comparison as text, runs in columns."""
        gains = tuple("" if gain is None else str(gain) for gain in self.gains)
        rows = [("", *self.runs)]
        rows += [(key, *values) for key, values in self.settings.items()] or [("no setting differs",)]
        scores = {name: values for name, values in self.scores.items() if any(value is not None for value in values)}
        rows += [(), *((name, *map(_number, values)) for name, values in scores.items())] if scores else []
        rows += [(f"gain in {self.gain_label}, 95 % interval", *gains)] if any(gains) else []
        classes = self.class_scores.items()
        named = [(f"{self.label} {name}", *map(_number, values)) for name, values in classes]
        rows += [(), *named] if named else []
        widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
        padded = ([f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)] for row in rows)
        lines = ["  ".join(row).rstrip() for row in padded]
        lines += ["\nIntervals come from drawing whole sequences with replacement."] if any(gains) else []
        if any(gains) and self.gain_label != self.label:
            lines.append(f"{self.label} has no value per image; the gains are in {self.gain_label}.")
        return "\n".join([*lines, *(["", *self.notes] if self.notes else [])])


def compare_runs(names: Sequence[str], runs: Path) -> Comparison:
    """Returns the comparison of runs with the first one.

    Raises:
        UserError: a run does not exist or its config is damaged; names the nearest.
    """
    folders = [run_folder(name, runs) for name in names]
    configs = [_read_config(folder) for folder in folders]
    commands = [_command(folder, values) for folder, values in zip(folders, configs, strict=True)]
    metrics = [read_metrics(folder) for folder in folders]
    first = next(filter(None, metrics), None)
    seconds = [sum(read_stage_seconds(folder).values()) for folder in folders]
    score, label, gains, gain_label = None, "score", (None,) * len(names), "score"
    if first is not None:
        score, label, gain_score = first.main.name, first.main.label, per_image_score(first.main.name)
        own, *others = (read_image_scores(*pair, gain_score) for pair in zip(folders, commands, strict=True))
        gains, gain_label = (None, *(paired_gain(own, other) for other in others)), LABELS[gain_score]
    scores = _scores(metrics, first) | {"minutes": tuple(value / 60 or None for value in seconds)}
    by_class = [own.scores[score].classes if own and score in own.scores else {} for own in metrics]
    classes = dict.fromkeys(name for own in by_class for name in own)
    class_scores = {name: tuple(own.get(name) for own in by_class) for name in classes}
    notes = tuple(_notes(names, commands, metrics, first))
    settings = differing(configs)
    return Comparison(tuple(names), settings, score, label, scores, class_scores, gains, gain_label, notes)


def _scores(metrics: Sequence[Metrics | None], first: Metrics | None) -> dict[str, tuple[float | None, ...]]:
    """Returns by label what is compared; `first` is the run that decides the main score."""
    if first is None:
        return {}
    ordered = [first.main, *first.others]
    found = {score.label: tuple(own and own.mean(score.name) for own in metrics) for score in ordered}
    majority = tuple(own and own.majority.get(first.main.name) for own in metrics)
    epochs = tuple(own and own.checkpoint.get("epoch") for own in metrics)
    return found | {f"{first.main.label} of the majority class": majority, "best epoch": epochs}


def _notes(
    names: Sequence[str], commands: Sequence[str], metrics: Sequence[Metrics | None], first: Metrics | None
) -> list[str]:
    notes = []
    for name, command, own in zip(names, commands, metrics, strict=True):
        if own is None or own.main.mean is None:
            notes.append(f"{name} has no scores yet; type: {command} evaluate")
        elif own.main.name != first.main.name:
            notes.append(f"the competition of {name} is scored by {own.main.label}; compared here: {first.main.label}")
    return notes


def differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Returns the keys whose values are not the same in all configs, without names and without the machine's own.

    >>> differing([{"SOLVER.POWER": 1.0, "SOLVER.PLAN": "constant"}, {"SOLVER.POWER": 2.0, "SOLVER.PLAN": "constant"}])
    {'SOLVER.POWER': ('1.0', '2.0')}
    """
    keys = dict.fromkeys(key for values in configs for key in values)
    shown = {key: tuple(show_value(values.get(key)) for values in configs) for key in keys}
    return {
        key: values
        for key, values in shown.items()
        if len(set(values)) > 1 and key not in NAMES_ONLY and not is_machine_key(key)
    }


def paired_gain(first: Mapping[str, tuple[str, float]], other: Mapping[str, tuple[str, float]]) -> Interval | None:
    """Returns the gain of `other` over `first` on the images of both, or None with fewer than 10 of them.

    Args:
        first, other: sequence and score by image id.
    """
    shared = [image_id for image_id in first if image_id in other]
    if len(shared) < LEAST_IMAGES:
        return None
    steps = np.array([other[image_id][1] - first[image_id][1] for image_id in shared])
    return interval(steps, group_numbers(shared, [first[image_id][0] for image_id in shared]))


def draw_comparison(comparison: Comparison, theme: Theme = LIGHT) -> bytes:
    """Returns a heat map: a row per run, the mean of the compared score and its classes in columns."""
    num_runs = len(comparison.runs)
    columns = {"mean": comparison.scores.get(comparison.label, (None,) * num_runs), **comparison.class_scores}
    width = 60 + 7 * max(map(len, comparison.runs)) + 44 * len(columns)
    figure = new_figure(theme, height=120 + 26 * num_runs, width=width)
    axes = figure.subplots()
    style_axes(axes, theme, f"Validation {comparison.label}", grid="none")
    values = [[np.nan if value is None else value for value in row] for row in zip(*columns.values(), strict=True)]
    texts = [["–" if np.isnan(value) else f"{value:.2f}" for value in row] for row in values]
    draw_heat_map(axes, values, texts, comparison.runs, list(columns), theme, aspect="auto")
    axes.axvline(0.5, color=theme.background, linewidth=3)
    axes.spines["bottom"].set_visible(False)
    return encode(figure)


def draw_run_curves(comparison: Comparison, runs: Path, theme: Theme = LIGHT) -> bytes:
    """Returns the compared score on the validation images over epochs of all runs."""
    figure = new_figure(theme, height=380, width=720)
    axes = figure.subplots()
    style_axes(axes, theme, f"Validation {comparison.label} over epochs")
    for index, name in enumerate(comparison.runs):
        history = read_columns(run_folder(name, runs) / HISTORY) or {}
        column = f"valid_{comparison.score}"
        if column in history:
            style = {"color": RUN_COLORS[index % len(RUN_COLORS)], "linewidth": 1.6, "label": name}
            style["linestyle"] = "-" if index < len(RUN_COLORS) else "--"
            axes.plot(numbers(history["epoch"]), numbers(history[column]), **style)
    axes.set_xlabel("epoch (0: before training)")
    if axes.lines:
        add_legend(axes, theme, columns=1, loc="center left", bbox_to_anchor=(1.01, 0.5))
    return encode(figure)


def run_folder(name: str, runs: Path) -> Path:
    """Returns the folder of a run.

    Raises:
        UserError: there is none; names the nearest.
    """
    folder = runs / name
    if not folder.is_dir():
        known = sorted(path.name for path in runs.iterdir() if (path / CONFIG).is_file()) if runs.is_dir() else []
        hint = did_you_mean(name, known, f"there are: {', '.join(known) or 'none yet'}", most=3)
        raise UserError(f"there is no run {name!r} in {runs}; {hint}\n`./run.sh {name}` makes one of a config.")
    return folder


def _read_config(folder: Path) -> dict[str, Any]:
    """Returns the resolved config of a run that must be there."""
    path, (name, dash, _) = folder / CONFIG, folder.name.partition("-")
    values = read_config(path)
    if values is None:
        again = f"./run.sh {name}{' with its settings' if dash else ''}"
        raise UserError(f"{shown(path)} is {'damaged' if path.is_file() else 'missing'}; {again} writes it again")
    return values


def _command(folder: Path, values: Mapping[str, Any]) -> str:
    """Returns what was typed for a run, by the comments of its config."""
    experiment, changed = read_origin(folder / CONFIG)
    overrides = [f"{key}={json.dumps(values.get(key))}" for key in changed if not is_machine_key(key)]
    return " ".join(["./run.sh", experiment or folder.name, *map(shlex.quote, overrides)])


def _number(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"
