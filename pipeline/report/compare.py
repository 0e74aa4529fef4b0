"""Several runs side by side: the settings that differ, the scores, how sure a gain is, and what a leaderboard may do.

    ./run.sh compare ExpAAB ExpAAC
    ./run.sh shakeup ExpBAA EnsAAA Ens01

In: config.yaml, metrics.json and per_image.csv of each run. Out: `Comparison`; `ShakeUp`, of public and private boards
drawn again and again from the images that all runs were evaluated on. Sequences are drawn whole, because a new test set
means new flights, not new frames of the old ones.

Letters: I images, N submissions, G sequences, B boards.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.config.load import COMBINING_KEYS, is_machine_key
from pipeline.config.study import Study
from pipeline.errors import UserError
from pipeline.intervals import Interval, group_numbers, interval
from pipeline.paths import CONFIG, PER_IMAGE, shown
from pipeline.report.folders import command_of, config_of, run_folder
from pipeline.report.read import (
    read_columns,
    read_config,
    read_metrics,
    read_stage_seconds,
    show_value,
    why_no_score,
)
from pipeline.report.table import cut
from pipeline.scores import LABELS, per_image_score
from pipeline.verdicts import Contrast, contrast, holm, verdict
from pipeline.verdicts import Pair as PairOfTrainings
from pipeline.wording import is_below

NAMES_ONLY = ("EXPERIMENT.PREFIX", "EXPERIMENT.SUFFIX", "MODEL.ABBR", "MODEL.ENCODER.ABBR")  # differ without meaning
EQUIVALENT = Study.equivalent  # a difference of up to so much does not matter in practice
MEMBERS_OWN = "(members')"  # in place of a setting that an ensemble's members have
MOST_LETTERS = 60  # of a value; lists of members are longer
LEAST_IMAGES, LEAST_SEQUENCES = 10, 4  # in common, for a gain to be shown (images) or a shake-up to be drawn (both)
PUBLIC_SHARE = 0.3  # of the test images, usual for Kaggle
NUM_BOARDS = 4000  # a probability is then known to one per cent


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
    verdicts = ("",) * len(names)
    if first is not None:
        score, label, gain_score = first.main.name, first.main.label, per_image_score(first.main.name)
        of_images, *others = (read_image_scores(*pair, gain_score) for pair in zip(folders, commands, strict=True))
        found = [paired_contrast(of_images, other) for other in others]
        gains, gain_label = (None, *(one and one.interval for one in found)), LABELS[gain_score]
        verdicts = ("", *_verdicts(found))
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
    compared = (score, label, scores, class_scores, gains, verdicts, gain_label)
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
    return contrast([PairOfTrainings(0, 0, gains)]) if len(gains) >= LEAST_IMAGES else None


def _verdicts(found: Sequence[Contrast | None]) -> list[str]:
    known = [one for one in found if one is not None]
    adjusted = iter(holm([one.p_value for one in known]))
    return ["" if one is None else verdict(one, next(adjusted), EQUIVALENT, len(known)) for one in found]


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


@dataclass(frozen=True)
class Outlook:
    """The estimate for one submission.

    Attributes:
        score: the mean over images with its 95 % interval.
        shake: standard deviation of private minus public score.
        best_share: on how many of the private boards it is the best of all.
    """

    name: str
    score: Interval
    shake: float
    best_share: float


@dataclass(frozen=True)
class Pair:
    """Two submissions, the one with the higher score first.

    Attributes:
        gap: the difference of their scores with its 95 % interval.
        kept_share: on how many private boards the first is ahead.
        flipped_share: on how many boards public and private disagree about the two.
        needed: how large the gap must be for its interval to exclude 0.
    """

    first: str
    second: str
    gap: Interval
    kept_share: float
    flipped_share: float
    needed: float

    def __str__(self) -> str:
        verdict = "different" if self.gap.low > 0 else f"not distinguishable, a gap of {self.needed:.4f} is needed"
        return (
            f"{self.first} over {self.second}: {self.gap}, ahead on {100 * self.kept_share:.0f} % of private boards, "
            f"public and private disagree on {100 * self.flipped_share:.0f} %: {verdict}"
        )


@dataclass(frozen=True)
class ShakeUp:
    """The whole estimate; `finals` are the two whose better one has the highest mean private score."""

    score: str
    outlooks: tuple[Outlook, ...]
    pairs: tuple[Pair, ...]
    finals: tuple[str, str]
    num_images: int
    num_sequences: int

    def __str__(self) -> str:
        width = max(len(outlook.name) for outlook in self.outlooks)
        lines = [
            f"{self.num_images} images in {self.num_sequences} sequences; {NUM_BOARDS:,} boards, "
            f"{100 * PUBLIC_SHARE:.0f} % of the sequences public",
            f"{'submission':<{width}}  {LABELS[self.score]:>6}  {'95 %':>16}  {'shake-up':>8}  best on private",
        ]
        for outlook in self.outlooks:
            score, best = outlook.score, f"{100 * outlook.best_share:.0f} % of boards"
            span = f"{score.mean:6.4f}  {score.low:7.4f} to {score.high:.4f}"
            lines.append(f"{outlook.name:<{width}}  {span}  ±{outlook.shake:.4f}  {best}")
        lines += ["", *map(str, self.pairs)]
        lines.append(f"two finals: {self.finals[0]} and {self.finals[1]}")
        return "\n".join(lines)


def read_scores(folders: Mapping[str, Path]) -> tuple[dict[str, np.ndarray], np.ndarray, str]:
    """Returns each run's scores of the images, float64 (I,), each image's sequence, int64 (I,), and the score's name.

    The images are those that all runs were evaluated on; the score is the competition's own, or IoU where that has no
    value per image.

    Raises:
        UserError: a run was not evaluated, its scores are damaged, or too few images or sequences are common to all.
    """
    found, score = {}, ""
    for run, folder in folders.items():
        own = read_metrics(folder)
        if own is None:
            raise UserError(f"{run} {why_no_score(folder, command_of(folder, read_config(folder / CONFIG) or {}))}")
        score = score or per_image_score(own.main.name)
        found[run] = read_image_scores(folder, command_of(folder, read_config(folder / CONFIG) or {}), score)
    first, *others = found.values()
    ids = [image_id for image_id in first if all(image_id in other for other in others)]
    scores = {run: np.array([own[image_id][1] for image_id in ids]) for run, own in found.items()}
    groups = group_numbers(ids, [first[image_id][0] for image_id in ids])
    num_groups, most = len(np.unique(groups)), max(map(len, found.values()))
    if len(ids) < LEAST_IMAGES or num_groups < LEAST_SEQUENCES:
        remedy = "These runs validate on too few images"
        if most > len(ids):
            remedy = f"They validate on different images, at most {most}: compare runs of one slice, or ensembles of it"
        raise UserError(
            f"{', '.join(folders)} were evaluated on {len(ids)} images in common, of {num_groups} sequences (an "
            f"image without one is its own); expected at least {LEAST_IMAGES} of {LEAST_SEQUENCES}. {remedy}."
        )
    return scores, groups, score


def shake_up(scores: Mapping[str, np.ndarray], groups: np.ndarray, score: str = "dice") -> ShakeUp:
    """Returns the estimate for several submissions; see `read_scores`."""
    names, scores_IN = list(scores), np.stack(list(scores.values())).T
    public_BN, private_BN = draw_boards(scores_IN, groups)
    best_B = private_BN.argmax(1)
    shakes_N = (private_BN - public_BN).std(0)
    outlooks = [
        Outlook(name, interval(scores_I, groups), float(shake), float((best_B == index).mean()))
        for index, (name, scores_I, shake) in enumerate(zip(names, scores_IN.T, shakes_N, strict=True))
    ]
    order = sorted(range(len(names)), key=lambda index: -outlooks[index].score.mean)
    pairs = []
    for first, second in combinations(order, 2):
        gap = interval(scores_IN[:, first] - scores_IN[:, second], groups)
        public_B, private_B = (board[:, first] - board[:, second] for board in (public_BN, private_BN))
        kept, flipped = float((private_B > 0).mean()), float((public_B * private_B < 0).mean())
        pairs.append(Pair(names[first], names[second], gap, kept, flipped, gap.mean - gap.low))
    finals = max(combinations(order, 2), key=lambda two: private_BN[:, list(two)].max(1).mean())
    ordered, named = tuple(outlooks[index] for index in order), tuple(names[index] for index in finals)
    return ShakeUp(score, ordered, tuple(pairs), named, len(scores_IN), len(np.unique(groups)))


def draw_boards(scores_IN: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns public and private scores, float64 (B, N) each, of sequences (0 to G - 1) drawn with replacement."""
    sums_GN = np.stack([np.bincount(groups, column) for column in scores_IN.T], 1)
    sizes_G = np.bincount(groups)
    num_groups = len(sizes_G)
    num_public = min(max(1, round(PUBLIC_SHARE * num_groups)), num_groups - 1)
    generator = np.random.default_rng(0)
    boards = []
    for num_drawn in (num_public, num_groups - num_public):
        counts_BG = generator.multinomial(num_drawn, np.full(num_groups, 1 / num_groups), NUM_BOARDS)
        boards.append((counts_BG @ sums_GN) / (counts_BG @ sizes_G)[:, None])
    return boards[0], boards[1]
