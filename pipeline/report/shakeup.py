"""How likely the first of several submissions stays first on a private leaderboard, and which pairs differ.

    ./run.sh shakeup ExpBAA EnsAAA Ens01

In: metrics.json and per_image.csv of each run. Out: `ShakeUp`, of public and private boards drawn again and again from
the images that all runs were evaluated on. Sequences are drawn whole, because a new test set means new flights, not new
frames of the old ones. The networks stay as they are, so that other seeds do not matter here.

Letters: I images, N submissions, G sequences, B boards.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from pipeline.errors import UserError
from pipeline.intervals import Interval, group_numbers, interval, mean_and_error
from pipeline.paths import CONFIG
from pipeline.report.compare import LEAST_IMAGES, read_image_scores
from pipeline.report.folders import command_of
from pipeline.report.read import read_config, read_metrics, why_no_score
from pipeline.scores import LABELS, per_image_score
from pipeline.verdicts import contrast_of_images, verdicts

LEAST_SEQUENCES = 4  # in common, for boards to be drawn
PUBLIC_SHARE = 0.3  # of the test images, usual for Kaggle
NUM_BOARDS = 4000  # a probability is then known to one per cent
MOST_PAIRS = 15  # that are shown; of more, those of the first submission
DIGITS = 6  # by which two finals are better than two others; less is rounding


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
        verdict: on the gap, corrected for the number of pairs.
        kept_share: on how many private boards the first is ahead.
        flipped_share: on how many boards public and private disagree about the two.
    """

    first: str
    second: str
    gap: Interval
    verdict: str
    kept_share: float
    flipped_share: float

    def __str__(self) -> str:
        return (
            f"{self.first} over {self.second}: {self.gap}, ahead on {100 * self.kept_share:.0f} % of private boards, "
            f"public and private disagree on {100 * self.flipped_share:.0f} %: {self.verdict}"
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
        width = max(len("submission"), *(len(outlook.name) for outlook in self.outlooks))
        lines = [
            f"{self.num_images} images in {self.num_sequences} sequences; {NUM_BOARDS:,} boards, "
            f"{100 * PUBLIC_SHARE:.0f} % of the sequences public",
            f"{'submission':<{width}}  {LABELS[self.score]:>6}  {'95 %':>16}  {'shake-up':>8}  best on private",
        ]
        for outlook in self.outlooks:
            score, best = outlook.score, f"{100 * outlook.best_share:.0f} % of boards"
            span = f"{score.mean:6.4f}  {score.low:7.4f} to {score.high:.4f}"
            lines.append(f"{outlook.name:<{width}}  {span}  ±{outlook.shake:.4f}  {best}")
        of_first = [pair for pair in self.pairs if pair.first == self.outlooks[0].name]
        shown = self.pairs if len(self.pairs) <= MOST_PAIRS else of_first
        lines += ["", self._first(of_first), "", *map(str, shown)]
        if len(self.pairs) > 1:
            lines.append(f'"better" is corrected for {len(self.pairs)} comparisons (Holm)')
        lines.append(f"proposed finals: {self.finals[0]} and {self.finals[1]}")
        return "\n".join(lines)

    def _first(self, pairs: Sequence[Pair]) -> str:
        """Returns how sure the first place is, in two sentences."""
        first = self.outlooks[0]
        kinds = {"better": "worse", "equal": "equal"}
        counts = dict.fromkeys(("worse", "equal", "inconclusive"), 0)
        for pair in pairs:
            counts[kinds.get(pair.verdict.partition(" ")[0], "inconclusive")] += 1
        parts = [f"{number} {kind}" for kind, number in counts.items() if number]
        others = f"Of {len(pairs)} other{'' if len(pairs) == 1 else 's'}: {', '.join(parts)}"
        share = f"{100 * first.best_share:.0f} % of private boards"
        return f"{first.name} is first on the local images, and on {share}. {others}."


def read_scores(folders: Mapping[str, Path]) -> tuple[dict[str, np.ndarray], np.ndarray, str]:
    """Returns each run's scores of the images, float64 (I,), each image's sequence, int64 (I,), and the score's name.

    The images are those that all runs were evaluated on; the score is the competition's own, or IoU where that has no
    value per image.

    Raises:
        UserError: a run was not evaluated, its scores are damaged, or too few images or sequences are common to all.
    """
    found, score = {}, ""
    for run, folder in folders.items():
        own, command = read_metrics(folder), command_of(folder, read_config(folder / CONFIG) or {})
        if own is None:
            raise UserError(f"{run} {why_no_score(folder, command)}")
        score = score or per_image_score(own.main.name)
        found[run] = read_image_scores(folder, command, score)
    first, *others = found.values()
    ids = [image_id for image_id in first if all(image_id in other for other in others)]
    scores = {run: np.array([own[image_id][1] for image_id in ids]) for run, own in found.items()}
    groups = group_numbers(ids, [first[image_id][0] for image_id in ids])
    num_groups, most = len(np.unique(groups)), max(map(len, found.values()))
    if len(ids) < LEAST_IMAGES or num_groups < LEAST_SEQUENCES:
        remedy = "These runs validate on too few images"
        if most > len(ids):
            remedy = "They validate on different images: compare runs of one slice, or ensembles of such runs"
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
    two_each = list(combinations(order, 2))
    # All pairs are corrected for, also those that are not shown: which run is first was chosen by looking at all.
    gaps = [contrast_of_images(scores_IN[:, first] - scores_IN[:, second], groups) for first, second in two_each]
    pairs = []
    for (first, second), gap, words in zip(two_each, gaps, verdicts(gaps, about=""), strict=True):
        public_B, private_B = (board[:, first] - board[:, second] for board in (public_BN, private_BN))
        kept, flipped = float((private_B > 0).mean()), float((public_B * private_B < 0).mean())
        pairs.append(Pair(names[first], names[second], gap.interval, words, kept, flipped))
    finals = max(two_each, key=lambda two: round(private_BN[:, list(two)].max(1).mean(), DIGITS))
    ordered, named = tuple(outlooks[index] for index in order), tuple(names[index] for index in finals)
    return ShakeUp(score, ordered, tuple(pairs), named, len(scores_IN), len(np.unique(groups)))


def draw_boards(scores_IN: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns possible public and private scores, float64 (B, N) each.

    For each board, sequences (0 to G - 1) are drawn with replacement, and true scores of the submissions are drawn from
    those that the local scores allow. Around the local scores alone, the first would stay first too often: of several
    submissions that are equally good, the luckiest is first. `tests/long/shakeup.py` measures both.
    """
    sums_GN = np.stack([np.bincount(groups, column) for column in scores_IN.T], 1)
    sizes_G = np.bincount(groups)
    num_groups, generator = len(sizes_G), np.random.default_rng(0)
    degrees = mean_and_error(scores_IN[:, 0], groups)[2]
    moved_BN = _true_scores(sums_GN, sizes_G, degrees, generator) - sums_GN.sum(0) / sizes_G.sum()
    num_public = min(max(1, round(PUBLIC_SHARE * num_groups)), num_groups - 1)
    boards = []
    for num_drawn in (num_public, num_groups - num_public):
        counts_BG = generator.multinomial(num_drawn, np.full(num_groups, 1 / num_groups), NUM_BOARDS)
        boards.append((counts_BG @ sums_GN) / (counts_BG @ sizes_G)[:, None] + moved_BN)
    return boards[0], boards[1]


def _true_scores(
    sums_GN: np.ndarray, sizes_G: np.ndarray, degrees: float, generator: np.random.Generator
) -> np.ndarray:
    """Returns what the submissions may score on all images like these, float64 (B, N); only differences have a meaning.

    The local scores shrink towards their mean by the share of their spread that chance explains, and vary by the rest
    of it as Student's t does.

    Source: shrinkage, Efron and Morris 1975, "Data analysis using Stein's estimator and its generalizations". The error
    of a mean is that of `intervals.mean_and_error`.
    """
    shares_G, means_N = sizes_G / sizes_G.sum(), sums_GN.sum(0) / sizes_G.sum()
    errors_GN = (sums_GN / sizes_G.sum() - shares_G[:, None] * means_N) / np.sqrt(1 - shares_G)[:, None]
    apart_GN = errors_GN - errors_GN.mean(1, keepdims=True)
    gaps_N, by_chance = means_N - means_N.mean(), float(np.square(apart_GN).sum())
    spread = float(np.square(gaps_N).sum())
    kept = max(0.0, 1 - by_chance / spread) if spread > 0 else 0.0
    normal_BN = generator.multivariate_normal(
        np.zeros(len(means_N)), apart_GN.T @ apart_GN, NUM_BOARDS, check_valid="ignore", method="eigh"
    )
    tails_B = np.sqrt(generator.chisquare(degrees, NUM_BOARDS) / degrees)
    return means_N.mean() + kept * gaps_N + np.sqrt(kept) * normal_BN / tails_B[:, None]
