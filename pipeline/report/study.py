"""What a study has found so far: a table of its settings, with the gain of each over the first and a verdict.

In: a study, and config.yaml, metrics.json and per_image.csv of its runs. Out: `Findings`, as text and as a CSV.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from statistics import mean, stdev

from pipeline.config.study import Study, Training
from pipeline.errors import UserError
from pipeline.report.compare import read_image_scores
from pipeline.report.read import read_metrics, read_stage_seconds
from pipeline.scores import LABELS, per_image_score
from pipeline.verdicts import Contrast, Pair, contrast, holm, verdict
from pipeline.wording import did_you_mean

COSTS = ("train", "evaluate")  # the stages whose time a setting is charged with


@dataclass(frozen=True)
class Row:
    """One setting of a study.

    Attributes:
        done: how many of its runs are evaluated, of `planned`.
        score: the mean of its runs in the compared score; None before the first.
        of_seeds, of_splits: standard deviations of the score, between seeds of a split and between the splits' means;
            None with one.
        miou: the mean IoU over all pixels, where the runs have it.
        minutes: of training and evaluation, for one run.
        gain: over the first setting, on the runs that both have; None for the first, and without such runs.
        verdict: in words, "" for the first.
    """

    setting: str
    done: int
    planned: int
    score: float | None
    of_seeds: float | None
    of_splits: float | None
    miou: float | None
    minutes: float | None
    gain: Contrast | None
    verdict: str


@dataclass(frozen=True)
class Findings:
    """The table of a study; `score` is that of the gains, by its label."""

    score: str
    rows: tuple[Row, ...]

    def __str__(self) -> str:
        head = ("setting", "runs", self.score, "by seed", "by split", "mIoU", "minutes", "gain, 95 %", "verdict")
        lines = [head, *(_cells(row) for row in self.rows)]
        widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
        text = ["  ".join(f"{cell:<{width}}" for cell, width in zip(line, widths, strict=True)) for line in lines]
        gains = [row.gain for row in self.rows if row.gain]
        if not gains:
            return "\n".join(line.rstrip() for line in text)
        notes = ["", f"gain: {self.score} per image minus {self.rows[0].setting}'s, on the same splits and seeds;"]
        notes.append(
            "the interval includes the variation between scenes and between seeds"
            if all(gain.covers_training for gain in gains)
            else "one split and one seed: the interval does not include the variation between seeds"
        )
        if len(self.rows) > 2:
            notes.append(f"better and worse are corrected for {len(self.rows) - 1} comparisons (Holm)")
        return "\n".join(line.rstrip() for line in [*text, *notes])

    @property
    def csv(self) -> str:
        """The table with all digits, one line per setting."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            (
                *("setting", "runs", "planned", "score", "sd_seeds", "sd_splits", "miou", "minutes"),
                *("gain", "low", "high", "p_value", "detectable", "images", "sequences", "verdict"),
            )
        )
        for row in self.rows:
            found = row.gain
            gain = ("",) * 7
            if found is not None:
                ends = (found.interval.mean, found.interval.low, found.interval.high)
                gain = (
                    *ends,
                    found.p_value,
                    found.detectable(len(self.rows) - 1),
                    found.num_images,
                    found.interval.num_groups,
                )
            own = (row.score, row.of_seeds, row.of_splits, row.miou, row.minutes)
            cells = ("" if value is None else value for value in own)
            writer.writerow((row.setting, row.done, row.planned, *cells, *gain, row.verdict))
        return file.getvalue()


def read_findings(study: Study, trainings: Sequence[Training], runs: Path) -> Findings:
    """Returns what the evaluated runs of a study say; runs that are missing count as not done.

    Raises:
        UserError: SCORE is no score with a value per image, or no run has it.
    """
    first = next(filter(None, (read_metrics(runs / training.run) for training in trainings)), None)
    score = study.score or per_image_score(first.main.name if first else "dice")
    if score not in LABELS or per_image_score(score) != score:
        known = [name for name in LABELS if per_image_score(name) == name]
        hint = did_you_mean(score, known, f"set one of {', '.join(known)}")
        raise UserError(f"SCORE: {score} has no value per image; {hint}")
    settings = list(dict.fromkeys(training.setting for training in trainings))
    by_setting = {setting: [one for one in trainings if one.setting == setting] for setting in settings}
    values = {one.run: _read(runs / one.run, one, score) for one in trainings}
    gains = {setting: _gain(by_setting[settings[0]], by_setting[setting], values) for setting in settings[1:]}
    known = [setting for setting, found in gains.items() if found is not None]
    adjusted = dict(zip(known, holm([gains[setting].p_value for setting in known]), strict=True))
    rows = []
    for setting in settings:
        found = gains.get(setting)
        words = verdict(found, adjusted[setting], study.equivalent, len(known)) if found else ""
        rows.append(_row(setting, by_setting[setting], values, runs, found, words))
    return Findings(LABELS[score], tuple(rows))


def _read(folder: Path, training: Training, score: str) -> dict[str, tuple[str, float]]:
    command = " ".join(["./run.sh", training.config, *(f"'{word}'" for word in training.overrides)])
    return read_image_scores(folder, command, score)


def _gain(
    reference: Sequence[Training], own: Sequence[Training], values: Mapping[str, Mapping[str, tuple[str, float]]]
) -> Contrast | None:
    other = {(training.split, training.seed): values[training.run] for training in reference}
    pairs = []
    for training in own:
        before, after = other[training.split, training.seed], values[training.run]
        gains = {key: (after[key][0], after[key][1] - before[key][1]) for key in after if key in before}
        if gains:
            pairs.append(Pair(training.split, training.seed, gains))
    return contrast(pairs) if pairs else None


def _row(
    setting: str,
    trainings: Sequence[Training],
    values: Mapping[str, Mapping[str, tuple[str, float]]],
    runs: Path,
    gain: Contrast | None,
    words: str,
) -> Row:
    done = [training for training in trainings if values[training.run]]
    by_split: dict[int, list[float]] = {}
    for training in done:
        by_split.setdefault(training.split, []).append(mean(score for _, score in values[training.run].values()))
    means = [mean(own) for own in by_split.values()]
    repeated = [stdev(own) for own in by_split.values() if len(own) > 1]
    metrics = [read_metrics(runs / training.run) for training in done]
    mious = [value for own in metrics if own and (value := own.mean("miou")) is not None]
    seconds = [read_stage_seconds(runs / training.run) for training in done]
    minutes = [sum(own.get(stage, 0) for stage in COSTS) / 60 for own in seconds]
    return Row(
        setting,
        len(done),
        len(trainings),
        score=mean(means) if means else None,
        of_seeds=mean(repeated) if repeated else None,
        of_splits=stdev(means) if len(means) > 1 else None,
        miou=mean(mious) if mious else None,
        minutes=mean(minutes) if minutes else None,
        gain=gain,
        verdict=words,
    )


def _cells(row: Row) -> tuple[str, ...]:
    score, miou = (f"{value:.3f}" if value is not None else "" for value in (row.score, row.miou))
    seeds, splits = (f"±{value:.3f}" if value is not None else "" for value in (row.of_seeds, row.of_splits))
    minutes = f"{row.minutes:.1f}" if row.minutes is not None else ""
    gain = str(row.gain.interval) if row.gain else ""
    return (row.setting, f"{row.done}/{row.planned}", score, seeds, splits, miou, minutes, gain, row.verdict)
