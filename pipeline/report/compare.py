"""Several runs side by side: the settings that differ, the scores, and how sure a gain is.

    ./run.sh compare ExpAAB ExpAAC

In: config.yaml, metrics.json and per_image.csv of each run. Out: `Comparison`.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Any

from pipeline.config.load import COMBINING_KEYS, is_machine_key
from pipeline.errors import UserError
from pipeline.intervals import Interval
from pipeline.paths import PER_IMAGE, shown
from pipeline.report.folders import command_of, config_of, run_folder
from pipeline.report.read import (
    read_columns,
    read_metrics,
    read_stage_seconds,
    show_value,
    why_no_score,
)
from pipeline.report.table import cut
from pipeline.scores import LABELS, per_image_score
from pipeline.verdicts import Contrast, Pair, contrast, verdicts
from pipeline.wording import is_below

NAMES_ONLY = ("EXPERIMENT.PREFIX", "EXPERIMENT.SUFFIX", "MODEL.ABBR", "MODEL.ENCODER.ABBR")  # differ without meaning
MEMBERS_OWN = "(members')"  # in place of a setting that an ensemble's members have
MOST_LETTERS = 60  # of a value; lists of members are longer
LEAST_IMAGES = 10  # in common, for a gain to be shown


@dataclass(frozen=True)
class Comparison:
    """Runs in columns. `settings` holds only keys that differ; a score that a run lacks is None.

    Attributes:
        score: the compared score: that of the first evaluated run's competition, or None; `label`: for people.
        scores: values by label; beside the scores what the majority class reaches, the best epoch and the time.
        class_scores: the compared score by class.
        gains: of each run over the first, in the score `gain_label`, as the compared one may have no value per image.
        verdicts: what each gain allows to conclude, corrected for the number of runs; "" without a gain.
        notes: what is missing, and what to type.
    """

    runs: tuple[str, ...]
    settings: dict[str, tuple[str, ...]]
    score: str | None
    label: str
    scores: dict[str, tuple[float | None, ...]]
    class_scores: dict[str, tuple[float | None, ...]]
    gains: tuple[Interval | None, ...]
    verdicts: tuple[str, ...]
    gain_label: str
    notes: tuple[str, ...] = ()

    @property
    def num_gains(self) -> int:
        """How many runs were compared with the first."""
        return sum(gain is not None for gain in self.gains)

    def __str__(self) -> str:
        gains = tuple("" if gain is None else str(gain) for gain in self.gains)
        scores = {name: values for name, values in self.scores.items() if any(value is not None for value in values)}
        rows = [("", *self.runs)]
        settings = [(key, *(cut(value, MOST_LETTERS) for value in values)) for key, values in self.settings.items()]
        rows += settings or [("no setting differs",)]
        rows += [(), *((name, *map(_number, values)) for name, values in scores.items())] if scores else []
        rows += (
            [(f"gain in {self.gain_label}, 95 % interval", *gains), ("verdict", *self.verdicts)] if any(gains) else []
        )
        named = [(f"{self.label} {name}", *map(_number, values)) for name, values in self.class_scores.items()]
        rows += [(), *named] if named else []
        widths = [max(map(len, column)) for column in zip_longest(*rows, fillvalue="")]
        padded = ([f"{cell:<{width}}" for cell, width in zip(row, widths, strict=False)] for row in rows)
        lines = ["  ".join(row).rstrip() for row in padded]
        if any(gains):
            lines.append("\nIntervals include the variation between sequences, but not the variation between seeds.")
            lines.append("A study with three or more seeds includes both (docs/studies.md).")
        if self.num_gains > 1:
            lines.append(f"Better and worse are corrected for {self.num_gains} comparisons (Holm).")
        if any(gains) and self.gain_label != self.label:
            lines.append(f"{self.label} has no value per image; the gains are in {self.gain_label}.")
        return "\n".join([*lines, *(["", *self.notes] if self.notes else [])])


def compare_runs(names: Sequence[str], runs: Path) -> Comparison:
    """Returns the comparison of runs with the first one.

    Raises:
        UserError: a run does not exist or its config is damaged; names the nearest.
    """
    folders = [run_folder(name, runs) for name in names]
    configs = [config_of(folder) for folder in folders]
    commands = [command_of(folder, values) for folder, values in zip(folders, configs, strict=True)]
    metrics = [read_metrics(folder) for folder in folders]
    first = next(filter(None, metrics), None)
    seconds = [sum(read_stage_seconds(folder).values()) for folder in folders]
    score, label, gains, gain_label, scores = None, "score", (None,) * len(names), "score", {}
    words = ("",) * len(names)
    if first is not None:
        score, label, gain_score = first.main.name, first.main.label, per_image_score(first.main.name)
        of_images, *others = (read_image_scores(*pair, gain_score) for pair in zip(folders, commands, strict=True))
        found = [paired_contrast(of_images, other) for other in others]
        gains, gain_label = (None, *(one and one.interval for one in found)), LABELS[gain_score]
        words = ("", *verdicts(found))
        ordered = (first.main, *first.others)
        scores = {known.label: tuple(own and own.mean(known.name) for own in metrics) for known in ordered}
        scores[f"{label} of the majority class"] = tuple(own and own.majority.get(score) for own in metrics)
        scores["best epoch"] = tuple(own and own.checkpoint.get("epoch") for own in metrics)
    scores["minutes"] = tuple(value / 60 or None for value in seconds)
    by_class = [own.scores[score].classes if own and score in own.scores else {} for own in metrics]
    classes = dict.fromkeys(name for own in by_class for name in own)
    class_scores = {name: tuple(own.get(name) for own in by_class) for name in classes}
    notes = []
    for name, folder, command, own in zip(names, folders, commands, metrics, strict=True):
        if own is None or own.main.mean is None:
            notes.append(f"{name} {why_no_score(folder, command)}")
        elif own.main.name != score:
            notes.append(f"the competition of {name} is scored by {own.main.label}; compared here: {label}")
    compared = (score, label, scores, class_scores, gains, words, gain_label)
    return Comparison(tuple(names), differing(configs), *compared, tuple(notes))


def differing(configs: Sequence[Mapping[str, Any]]) -> dict[str, tuple[str, ...]]:
    """Returns the keys whose values are not the same in all configs, without names and without the machine's own.

    >>> differing([{"SOLVER.POWER": 1.0, "SOLVER.PLAN": "constant"}, {"SOLVER.POWER": 2.0, "SOLVER.PLAN": "constant"}])
    {'SOLVER.POWER': ('1.0', '2.0')}
    """
    keys = dict.fromkeys(key for values in configs for key in values if key not in NAMES_ONLY)
    shown = {key: tuple(_shown(key, values) for values in configs) for key in keys if not is_machine_key(key)}
    return {key: values for key, values in shown.items() if len(set(values) - {MEMBERS_OWN}) > 1}


def _shown(key: str, values: Mapping[str, Any]) -> str:
    """Returns the value of a setting as text; an ensemble only has those of combining, its members have the others."""
    if values.get("ENSEMBLE.MEMBERS") and not is_below(key, COMBINING_KEYS):
        return MEMBERS_OWN
    return show_value(values.get(key))


def paired_contrast(first: Mapping[str, tuple[str, float]], other: Mapping[str, tuple[str, float]]) -> Contrast | None:
    """Returns the gain of `other` over `first`, sequence and score by image id, on 10 or more images of both."""
    gains = {key: (sequence, other[key][1] - score) for key, (sequence, score) in first.items() if key in other}
    return contrast([Pair(0, 0, gains)]) if len(gains) >= LEAST_IMAGES else None


def _number(value: float | None) -> str:
    return "" if value is None else str(value) if isinstance(value, int) else f"{value:.3f}"


def read_image_scores(run_folder: Path, command: str, score: str) -> dict[str, tuple[str, float]]:
    """Returns sequence and score by image from per_image.csv, without images that have no value of this score.

    Nothing where the run was not evaluated.

    Raises:
        UserError: the file is damaged; `command`, which runs the stages of this run, writes it again.
    """
    path = run_folder / PER_IMAGE
    if not os.path.lexists(path):
        return {}
    columns = read_columns(path)
    if columns is None or score not in columns:
        found = f"{shown(path)} is damaged or older than this program"
        raise UserError(f"{found}; type: {command} evaluate --force")
    rows = zip(columns["id"], columns["sequence"], columns[score], strict=True)
    return {image_id: (sequence, float(cell)) for image_id, sequence, cell in rows if cell}
