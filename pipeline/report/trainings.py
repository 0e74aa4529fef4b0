"""What several trainings of one setting scored: each by itself, their mean, and the spread between splits and seeds.

In: metrics.json, per_image.csv and the stages' seconds of each run. Out: `Trained`, `Summary`.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from statistics import mean, stdev

from pipeline.config.study import Training
from pipeline.errors import UserError
from pipeline.report.compare import read_image_scores
from pipeline.report.read import read_metrics, read_stage_seconds
from pipeline.scores import KINDS, LABELS, per_image_score
from pipeline.wording import did_you_mean

COSTS = ("train", "evaluate")  # the stages whose time a training is charged with


@dataclass(frozen=True)
class Trained:
    """A training and what it scored so far.

    Attributes:
        scores: sequence and score by image id; empty before it is evaluated.
        miou: the score over all images at once, see `whole_score`, where the run has it.
        minutes: of training and evaluation; None before it is evaluated.
    """

    training: Training
    scores: Mapping[str, tuple[str, float]]
    miou: float | None
    minutes: float | None

    @property
    def score(self) -> float | None:
        """The mean over images; None before it is evaluated."""
        return mean(score for _, score in self.scores.values()) if self.scores else None


@dataclass(frozen=True)
class Summary:
    """Trainings of one setting together.

    Attributes:
        done: how many are evaluated.
        score: their mean in the compared score; None before the first.
        of_seeds, of_splits, of_images: standard deviations of the score, between seeds of a split, between the splits'
            means, and between images, each with its mean over the trainings; None with one.
        miou, minutes: means, of those that have them.
    """

    done: int
    score: float | None
    of_seeds: float | None
    of_splits: float | None
    of_images: float | None
    miou: float | None
    minutes: float | None


def compared_score(given: str | None, trainings: Sequence[Training], runs: Path) -> str:
    """Returns the score that is compared: the one given, else the competition's or what stands in for it.

    Raises:
        UserError: it has no value per image.
    """
    first = next(filter(None, (read_metrics(runs / training.run) for training in trainings)), None)
    score = given or per_image_score(first.main.name if first else "dice")
    if score not in LABELS or per_image_score(score) != score:
        known = [name for name in LABELS if per_image_score(name) == name]
        hint = did_you_mean(score, known, f"set one of {', '.join(known)}")
        raise UserError(f"SCORE: {score} has no value per image; {hint}")
    return score


def whole_score(label: str) -> str:
    """Returns the score over all images at once that stands beside one of single images, by its label.

    >>> whole_score("Dice"), whole_score("AP of single images")
    ('miou', 'ap')
    """
    return "ap" if any(kind.label == label and kind.needs == "boxes" for kind in KINDS.values()) else "miou"


def read_trained(training: Training, runs: Path, score: str) -> Trained:
    """Returns what a training has scored so far."""
    folder = runs / training.run
    command = shlex.join(["./run.sh", training.config, *training.overrides])
    scores = read_image_scores(folder, command, score)
    if not scores:
        return Trained(training, {}, None, None)
    metrics, seconds = read_metrics(folder), read_stage_seconds(folder)
    minutes = sum(seconds.get(stage, 0) for stage in COSTS) / 60
    return Trained(training, scores, metrics.mean(whole_score(LABELS[score])) if metrics else None, minutes)


def summary(trained: Sequence[Trained]) -> Summary:
    """Returns trainings of one setting together; of those that are not evaluated nothing counts."""
    done = [one for one in trained if one.scores]
    by_split: dict[int, list[float]] = {}
    by_image: dict[str, list[float]] = {}
    for one in done:
        by_split.setdefault(one.training.split, []).append(one.score)
        for image, (_, score) in one.scores.items():
            by_image.setdefault(image, []).append(score)
    means = [mean(own) for own in by_split.values()]
    repeated = [stdev(own) for own in by_split.values() if len(own) > 1]
    mious = [one.miou for one in done if one.miou is not None]
    return Summary(
        len(done),
        score=mean(means) if means else None,
        of_seeds=mean(repeated) if repeated else None,
        of_splits=stdev(means) if len(means) > 1 else None,
        of_images=stdev(map(mean, by_image.values())) if len(by_image) > 1 else None,
        miou=mean(mious) if mious else None,
        minutes=mean(one.minutes for one in done) if done else None,
    )


def aligned(lines: Sequence[Sequence[str]]) -> list[str]:
    """Returns rows of cells as lines of text, with columns below each other.

    >>> aligned([("a", "bc"), ("def", "g"), ("h",)])
    ['a    bc', 'def  g', 'h']
    """
    widths = [max(map(len, column)) for column in zip_longest(*lines, fillvalue="")]
    padded = ([f"{cell:<{width}}" for cell, width in zip(line, widths, strict=False)] for line in lines)
    return ["  ".join(cells).rstrip() for cells in padded]


def three_digits(value: float | None) -> str:
    """Returns a score as text, "" where there is none."""
    return "" if value is None else f"{value:.3f}"


def one_digit(value: float | None) -> str:
    """Returns minutes as text, "" where there are none."""
    return "" if value is None else f"{value:.1f}"
