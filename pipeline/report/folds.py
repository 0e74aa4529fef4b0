"""What the runs of `--folds` and `--seeds` say: whether they are folds at all, and a table of their scores.

In: split.csv and catalog of each fold, then metrics.json and per_image.csv of each run. Out: `FoldFindings`, as text
and as a CSV.
"""

from __future__ import annotations

import csv
import io
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pipeline.config.folds import Folds
from pipeline.engine.run import Run
from pipeline.errors import UserError
from pipeline.intervals import Interval, group_numbers, interval
from pipeline.paths import SPLIT, TRAIN_CATALOG
from pipeline.report.read import read_columns
from pipeline.report.trained_on import images_before
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


@dataclass(frozen=True)
class FoldFindings:
    """The runs in rows, and all of them together.

    Attributes:
        score: the compared score, by its label.
        index: what DATASETS.SPLIT_INDEX is called, "fold" or "split".
        seeds: of each run.
        own: of all runs.
        out_of_fold: of the mean score of each image over the seeds, on all images of the evaluated folds; None before
            the first.
        num_images: in it.
    """

    score: str
    index: str
    trained: tuple[Trained, ...]
    seeds: tuple[int, ...]
    own: Summary
    out_of_fold: Interval | None
    num_images: int

    def __str__(self) -> str:
        own = self.own
        lines = [(self.index, "seed", self.score, label_of(whole_score(self.score)), "minutes", "run")]
        for one, seed in zip(self.trained, self.seeds, strict=True):
            scores = (three_digits(one.score), three_digits(one.miou), one_digit(one.minutes))
            lines.append((str(one.training.split), str(seed), *scores, one.training.run))
        lines.append(("mean", "", three_digits(own.score), three_digits(own.miou), one_digit(own.minutes)))
        text = aligned(lines)
        spreads = ((own.of_splits, f"by {self.index}"), (own.of_seeds, "by seed"))
        known = [f"±{value:.3f} {name}" for value, name in spreads if value is not None]
        text += [f"spread of {self.score}: {', '.join(known)} (standard deviation)"] if known else []
        return "\n".join([*text, *([self._out_of_fold()] if self.out_of_fold else [])])

    def _out_of_fold(self) -> str:
        found, done, planned = self.out_of_fold, self.own.done, len(self.trained)
        ends = f"95 % interval {found.low:.4f} to {found.high:.4f}" if np.isfinite(found.low) else "no interval"
        some = f", so far {done} of {planned} runs" if done < planned else ""
        groups = "1 sequence" if found.num_groups == 1 else f"{found.num_groups} sequences"
        text = f"out of fold: {self.score} {found.mean:.4f}, {ends} ({self.num_images} images in {groups}{some})"
        return f"{text}\nThe interval covers the spread between sequences only, not between repeated trainings."

    @property
    def csv(self) -> str:
        """The runs with all digits, one line each, and a line for all images out of fold."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(
            (
                self.index,
                "seed",
                "run",
                "score",
                whole_score(self.score),
                "minutes",
                "images",
                "low",
                "high",
                "sequences",
            )
        )
        for one, seed in zip(self.trained, self.seeds, strict=True):
            cells = ("" if value is None else value for value in (one.score, one.miou, one.minutes))
            writer.writerow((one.training.split, seed, one.training.run, *cells, len(one.scores) or "", "", "", ""))
        if found := self.out_of_fold:
            ends = (found.low, found.high, found.num_groups)
            writer.writerow(("all", "", "", found.mean, "", "", self.num_images, *ends))
        return file.getvalue()


def read_fold_findings(folds: Folds, seeds: Sequence[int], runs: Path) -> FoldFindings:
    """Returns what the evaluated runs say; `seeds` are those of the trainings."""
    score = compared_score(None, folds.trainings, runs)
    trained = tuple(read_trained(training, runs, score) for training in folds.trainings)
    values, sequence_of = defaultdict(list), {}
    for one in trained:
        for image_id, (sequence, value) in one.scores.items():
            values[image_id].append(value)
            sequence_of[image_id] = sequence
    found = None
    if values:
        groups = group_numbers(list(values), [sequence_of[image_id] for image_id in values])
        found = interval(np.array([np.mean(own) for own in values.values()]), groups)
    index = "split" if folds.num_folds is None else "fold"
    return FoldFindings(LABELS[score], index, trained, tuple(seeds), summary(trained), found, len(values))


def check_folds(folds: Folds, first: Sequence[Run]) -> None:
    """Refuses runs whose scores would not be out of fold, or that do not validate every image exactly once.

    Args:
        first: a prepared run of each fold.

    Raises:
        UserError: says which images, and what to type.
    """
    valid = [_valid_ids(run) for run in first]
    for number, (run, own) in enumerate(zip(first, valid, strict=True)):
        _check_start(f"fold {number}" if folds.num_folds else run.name, run, own)
    if folds.num_folds is None:
        return
    catalog = read_columns(first[0].paths / TRAIN_CATALOG)
    times, ids = Counter(image_id for own in valid for image_id in own), catalog["id"]
    never, often = ([id for id in ids if times[id] == 0], [id for id in ids if times[id] > 1])
    if never or often:
        kinds = ((never, "would never validate"), (often, "would validate more than once"))
        parts = [f"{len(own)} of {len(ids)} images {what} (such as {own[0]})" for own, what in kinds if own]
        found = (
            f"the folds of DATASETS.SPLIT.BY {folds.by} do not validate each image exactly once: {' and '.join(parts)}"
        )
        raise UserError(f"--folds {folds.num_folds}: {found}.\n{_instead(folds, catalog.get('given', []))}")


def _instead(folds: Folds, given: Sequence[str]) -> str:
    """Returns what to type where the organisers' own split has other folds, or none."""
    names = sorted(set(given))
    kfold = f"--folds {folds.num_folds} DATASETS.SPLIT.BY=kfold (or stratified, which keeps sequences whole)"
    if folds.by == "given" and len(names) > 1 and all(name.isdecimal() for name in names):
        return f"The competition's own folds are {', '.join(names)}: type --folds {len(names)}, or {kfold}."
    if folds.by == "given":
        listed = ", ".join(name or "none" for name in names)
        return (
            f"The competition's own subsets are {listed}, not folds: type {kfold}, or --seeds 3 for this split alone."
        )
    return f"Type {kfold}."


def _check_start(name: str, run: Run, valid: set[str]) -> None:
    before, key = images_before(run), "EXPERIMENT.LOAD_PREV"
    start = f"{name} starts from {run.loaded.config.experiment.load_prev} ({key})"
    remedy = f"its score would not be out of fold. Type {key}=null, or name a run that was trained on none of them"
    if before is None:
        raise UserError(f"{start}, and its training images are unknown: {remedy}.")
    if shared := sorted(valid & before):
        found = f"which was trained on {len(shared)} of its {len(valid)} validation images, such as {shared[0]}"
        raise UserError(f"{start}, {found}: {remedy}.")


def _valid_ids(run: Run) -> set[str]:
    split = read_columns(run.paths / SPLIT)
    return {id for id, subset in zip(split["id"], split["subset"], strict=True) if subset == "valid"}
