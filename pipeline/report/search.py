"""What a search has found so far: its trials, and whether the best one is better than the reference with fresh seeds.

In: a study with SEARCH, its trials, and metrics.json, per_image.csv and history.csv of their runs. Out: `Trial` as CSV
and back, `Floors` for the next training, `SearchFindings` as text and as CSV. Needs no Optuna.
"""

from __future__ import annotations

import csv
import io
import math
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from pipeline.config.study import REFERENCE, WINNER, Study, Training, trainings_of
from pipeline.engine.stopping import Floors
from pipeline.errors import UserError
from pipeline.paths import HISTORY
from pipeline.report.read import read_columns
from pipeline.report.study import Findings, Row, read_findings
from pipeline.report.trainings import aligned, one_digit, three_digits
from pipeline.scores import label_of

LEAST_TRIALS = 5  # finished ones, before any is pruned: the median of fewer says little
WARM_UP_SHARE = 0.25  # of the epochs, in which nothing is pruned: the learning rate of many plans still rises
MOST_SHOWN = 10  # trials, in the text; the CSV has all
State = Literal["done", "pruned", "failed", "running"]


@dataclass(frozen=True)
class Trial:
    """One proposed setting.

    Attributes:
        number: of the first proposal of this setting.
        state: `failed` where a run of it ended in an error.
        score: the mean over its splits and seeds; None where it is not done.
        words: the proposed overrides.
    """

    number: int
    state: State
    score: float | None
    words: tuple[str, ...]


def write_trials(trials: Sequence[Trial]) -> str:
    """Returns trials as CSV."""
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(("trial", "state", "score", "settings"))
    for trial in trials:
        writer.writerow(
            (trial.number, trial.state, "" if trial.score is None else trial.score, shlex.join(trial.words))
        )
    return file.getvalue()


def read_trials(path: Path) -> list[Trial]:
    """Returns the trials of a file that `write_trials` wrote; none where it is absent."""
    columns = read_columns(path) or {"trial": [], "state": [], "score": [], "settings": []}
    rows = zip(columns["trial"], columns["state"], columns["score"], columns["settings"], strict=True)
    return [
        Trial(int(number), state, float(score) if score else None, tuple(shlex.split(words)))
        for number, state, score, words in rows
    ]


def best_trial(trials: Sequence[Trial]) -> Trial | None:
    """Returns the trial with the highest score, of equal ones the earliest."""
    done = [trial for trial in trials if trial.state == "done" and trial.score is not None]
    return max(done, key=lambda trial: (trial.score, -trial.number), default=None)


def floors_of(histories: Sequence[Mapping[str, Sequence[str]]], score: str, num_epochs: int) -> Floors | None:
    """Returns what a training must reach so that it is not worse than half of the earlier ones at the same epoch.

    Compared is the best epoch so far. No floor is in the first quarter of the epochs, nor at the last one.

    Args:
        histories: columns of history.csv of earlier trainings that ended, on the same split with the same seed.
        score: its validation score is compared.
        num_epochs: of the training's plan.

    Raises:
        UserError: a history does not have this score.

    Source: the median stopping rule, Golovin et al. 2017, "Google Vizier", with the best instead of the mean so far.
    """
    column = f"valid_{score}"
    if any(column not in history for history in histories):  # of the first one already, not after LEAST_TRIALS
        raise UserError(f"SEARCH.PRUNE: the trainings do not compute {label_of(score)} per epoch; set PRUNE: false")
    if len(histories) < LEAST_TRIALS:
        return None
    curves = [[float(value or 0) for value in history[column][1:]] for history in histories]  # [0]: before training
    first = max(1, math.ceil(WARM_UP_SHARE * num_epochs))
    by_epoch = {
        epoch: median(max(curve[:epoch], default=0.0) for curve in curves) for epoch in range(first, num_epochs)
    }
    return Floors(column, label_of(score), by_epoch, f"the median of {len(curves)} trials")


def read_floors(trainings: Sequence[Training], runs: Path, score: str, num_epochs: int) -> Floors | None:
    """Returns `floors_of` the histories of trainings; those without one are left out."""
    histories = [read_columns(runs / training.run / HISTORY) for training in trainings]
    return floors_of([history for history in histories if history], score, num_epochs)


@dataclass(frozen=True)
class SearchFindings:
    """The trials of a search, and the table of its best one and the reference, trained again with fresh seeds.

    Attributes:
        winner: the best trial; None before the first is done.
        command: repeats the winner's first run, ready to be typed.
        fresh: of the reference, then the winner; None without a winner.
    """

    study: Study
    trials: tuple[Trial, ...]
    winner: Trial | None
    command: str
    fresh: Findings | None

    def __str__(self) -> str:
        lines = [self._progress()]
        best = sorted(self.trials, key=lambda trial: (-_or_zero(trial.score), trial.number))[:MOST_SHOWN]
        label = self.fresh.score if self.fresh else "score"
        cells = [(str(one.number), one.state, three_digits(one.score), " ".join(one.words)) for one in best]
        lines += ["", *aligned([("trial", "state", label, "settings"), *cells])] if cells else []
        if len(self.trials) > MOST_SHOWN:
            lines.append(f"... {len(self.trials) - MOST_SHOWN} more in the CSV of trials")
        if self.fresh is None:
            return "\n".join(lines)
        head = ("setting", "in search", "fresh seeds", "flattered by", "by seed", "runs", "minutes", "gain, 95 %")
        lines += ["", *aligned([(*head, "verdict"), *(self._cells(row) for row in self.fresh.rows)]), ""]
        return "\n".join([*lines, *self._notes(), "", "to repeat the winner:", self.command])

    def _progress(self) -> str:
        counts = Counter(trial.state for trial in self.trials)
        words = {"done": "done", "pruned": "pruned", "failed": "ended in an error", "running": "to be continued"}
        parts = [f"{counts[state]} {text}" for state, text in words.items() if counts[state]]
        return f"{len(self.trials)} of {self.study.search.trials} trials: {', '.join(parts) or 'none begun'}"

    @property
    def flattered(self) -> float | None:
        """The winner's score in the search minus its score with fresh seeds."""
        again = self.fresh.rows[1].own.score if self.fresh else None
        return None if again is None else self.winner.score - again

    def _cells(self, row: Row) -> tuple[str, ...]:
        is_winner, own = row.setting == WINNER, row.own
        flattered = "" if not is_winner or self.flattered is None else f"{self.flattered:+.3f}"
        seeds = "" if own.of_seeds is None else f"±{own.of_seeds:.3f}"
        scores = (three_digits(self.winner.score) if is_winner else "", three_digits(own.score), flattered, seeds)
        runs, gain = f"{own.done}/{len(row.runs)}", str(row.gain.interval) if row.gain else ""
        return (row.setting, *scores, runs, one_digit(own.minutes), gain, row.verdict)

    def _notes(self) -> list[str]:
        label, seeds = self.fresh.score, ", ".join(map(str, self.study.fresh_seeds))
        if self.flattered is None:
            return [f"with fresh seeds ({seeds}) nothing is evaluated yet"]
        notes = [f"winner: trial {self.winner.number}, with {label} {self.winner.score:.3f} the best of the search."]
        again = f"With fresh seeds ({seeds}) it has {self.winner.score - self.flattered:.3f}"
        if self.flattered > 0:
            notes.append(f"{again}: the search flattered it by {self.flattered:.3f}.")
        else:
            notes.append(f"{again}: the search did not flatter it.")
        notes.append("Gain and verdict are of the runs with fresh seeds only. The winner was chosen on the same")
        return [*notes, "validation images, so its gain on other images may be smaller."]

    @property
    def csv(self) -> str:
        """The table of winner and reference with all digits."""
        if self.fresh is None:
            return ""
        head, *rows = list(csv.reader(io.StringIO(self.fresh.csv)))
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow((*head, "in_search", "flattered"))
        for row in rows:
            of_search = (self.winner.score, self.flattered) if row[0] == WINNER else ("", "")
            writer.writerow((*row, *("" if value is None else value for value in of_search)))
        return file.getvalue()


def read_search_findings(study: Study, trials: Sequence[Trial], runs: Path) -> SearchFindings:
    """Returns what trials and the runs with fresh seeds say.

    Raises:
        UserError: SCORE is no score with a value per image, or no run has it.
    """
    winner = best_trial(trials)
    if winner is None:
        return SearchFindings(study, tuple(trials), None, "", None)
    fresh = read_findings(study, fresh_trainings(study, winner), runs)
    first = trainings_of(study, WINNER, winner.words, study.seeds)[0]
    command = shlex.join(["./run.sh", first.config, *first.overrides])
    return SearchFindings(study, tuple(trials), winner, command, fresh)


def fresh_trainings(study: Study, winner: Trial) -> tuple[Training, ...]:
    """Returns the runs that judge the winner: with each seed that the search has not seen, reference and winner."""
    reference = trainings_of(study, REFERENCE, (), study.fresh_seeds)
    own = trainings_of(study, WINNER, winner.words, study.fresh_seeds)
    pairs = sorted(zip(reference, own, strict=True), key=lambda pair: study.fresh_seeds.index(pair[0].seed))
    return tuple(training for pair in pairs for training in pair)


def _or_zero(score: float | None) -> float:
    return -1.0 if score is None else score
