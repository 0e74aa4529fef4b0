"""What a study has found so far: a table of its settings, with the gain of each over the first and a verdict.

In: a study, and config.yaml, metrics.json and per_image.csv of its runs. Out: `Findings`, as text and as a CSV.
"""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pipeline.config.study import Study, Training
from pipeline.errors import UserError
from pipeline.report.trainings import (
    Summary,
    Trained,
    aligned,
    compared_score,
    one_digit,
    read_trained,
    summary,
    three_digits,
    whole_score,
)
from pipeline.scores import LABELS, label_of
from pipeline.verdicts import Contrast, Pair, contrast, verdicts


@dataclass(frozen=True)
class Row:
    """One setting of a study.

    Attributes:
        runs: the names of all its runs.
        own: what those that are evaluated say.
        gain: over the first setting, on the runs that both have; None for the first, and without such runs.
        verdict: in words, "" for the first.
    """

    setting: str
    runs: tuple[str, ...]
    own: Summary
    gain: Contrast | None
    verdict: str


@dataclass(frozen=True)
class Findings:
    """The table of a study; `score` is that of the gains, by its label, `faults` which runs cannot be read, and why."""

    score: str
    rows: tuple[Row, ...]
    faults: tuple[str, ...] = ()

    def __str__(self) -> str:
        whole = label_of(whole_score(self.score))
        head = (
            "setting",
            "runs",
            self.score,
            "by seed",
            "by split",
            "by image",
            whole,
            "minutes",
            "gain, 95 %",
            "verdict",
        )
        text = aligned([head, *(_cells(row) for row in self.rows)])
        text += [f"left out: {fault}" for fault in self.faults]
        gains = [row.gain for row in self.rows if row.gain]
        if not gains:
            return "\n".join(text)
        notes = ["", f"gain: {self.score} per image minus {self.rows[0].setting}'s, on the same splits and seeds;"]
        notes.append(
            "the interval includes the variation between scenes and between seeds"
            if all(gain.covers_training for gain in gains)
            else "the interval does not include the variation between seeds; for that, three or more seeds are needed"
        )
        if len(self.rows) > 2:
            notes.append(f"better and worse are corrected for {len(self.rows) - 1} comparisons (Holm)")
        return "\n".join([*text, *notes])

    @property
    def csv(self) -> str:
        """The table with all digits, one line per setting."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            (
                *(
                    "setting",
                    "runs",
                    "planned",
                    "score",
                    "sd_seeds",
                    "sd_splits",
                    "sd_images",
                    whole_score(self.score),
                    "minutes",
                ),
                *("gain", "low", "high", "p_value", "detectable", "images", "sequences", "verdict", "names"),
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
            own = row.own
            scores = (own.score, own.of_seeds, own.of_splits, own.of_images, own.miou, own.minutes)
            cells = ("" if value is None else value for value in scores)
            writer.writerow((row.setting, own.done, len(row.runs), *cells, *gain, row.verdict, " ".join(row.runs)))
        return file.getvalue()


def read_findings(study: Study, trainings: Sequence[Training], runs: Path) -> Findings:
    """Returns what the evaluated runs of a study say; runs that are missing or damaged count as not done.

    Raises:
        UserError: SCORE is no score with a value per image.
    """
    score = compared_score(study.score, trainings, runs)
    settings = list(dict.fromkeys(training.setting for training in trainings))
    by_setting = {setting: [one for one in trainings if one.setting == setting] for setting in settings}
    trained: dict[str, list[Trained]] = {setting: [] for setting in settings}
    faults = []
    for one in trainings:
        try:
            trained[one.setting].append(read_trained(one, runs, score))
        except UserError as error:  # the others are no worse for it
            trained[one.setting].append(Trained(one, {}, None, None))
            faults.append(str(error))
    gains = {setting: _gain(trained[settings[0]], trained[setting]) for setting in settings[1:]}
    words = dict(zip(gains, verdicts(list(gains.values()), study.equivalent), strict=True))
    rows = []
    for setting, own in trained.items():
        names = tuple(one.run for one in by_setting[setting])
        rows.append(Row(setting, names, summary(own), gains.get(setting), words.get(setting, "")))
    return Findings(LABELS[score], tuple(rows), tuple(faults))


def _gain(reference: Sequence[Trained], own: Sequence[Trained]) -> Contrast | None:
    other = {(one.training.split, one.training.seed): one.scores for one in reference}
    pairs = []
    for one in own:
        before, after = other[one.training.split, one.training.seed], one.scores
        gains = {key: (after[key][0], after[key][1] - before[key][1]) for key in after if key in before}
        if gains:
            pairs.append(Pair(one.training.split, one.training.seed, gains))
    return contrast(pairs) if pairs else None


def _cells(row: Row) -> tuple[str, ...]:
    own = row.own
    spreads = (own.of_seeds, own.of_splits, own.of_images)
    spread = (f"±{value:.3f}" if value is not None else "" for value in spreads)
    scores, gain = (three_digits(own.score), *spread, three_digits(own.miou)), row.gain
    interval = str(gain.interval) if gain else ""
    return (row.setting, f"{own.done}/{len(row.runs)}", *scores, one_digit(own.minutes), interval, row.verdict)
