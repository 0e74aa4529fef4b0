"""What a leaderboard may do to submissions: public and private boards drawn again and again from out-of-fold scores.

    ./run.sh shakeup ExpBAA EnsAAA Ens01

In: `per_image.csv` of several runs, on the images that all of them were evaluated on. Out: a table, the gap at which
two submissions differ, and which two to choose as finals. Sequences are drawn whole, because a new test
set means new flights, not new frames of the old ones.

Letters: I images, N submissions, G sequences, B boards.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd

from pipeline.errors import UserError
from pipeline.intervals import Interval, group_numbers, interval
from pipeline.paths import METRICS
from pipeline.report.read import read_json
from pipeline.report.scores import read_image_scores
from pipeline.scores import LABELS, per_image_score

PUBLIC_SHARE = 0.3  # of the test images, usual for Kaggle
NUM_BOARDS = 4000  # a probability is then known to one per cent
LEAST_IMAGES, LEAST_SEQUENCES = 10, 4


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
        """Returns the estimate as a table."""
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


def read_scores(folders: Mapping[str, Path]) -> tuple[pd.DataFrame, np.ndarray, str]:
    """Returns the score of each run (columns) by image, each image's sequence, and the score's name.

    The images are those that all runs were evaluated on; the score is the competition's own, or IoU where that has no
    value per image.

    Raises:
        UserError: a run was not evaluated, its scores are damaged, or too few images or sequences are common to all.
    """
    found, score = {}, ""
    for run, folder in folders.items():
        own = (read_json(folder / METRICS) or {}).get("score")
        if own is None:
            raise UserError(f"{run} was not evaluated yet; type: ./run.sh {run} evaluate")
        score = score or per_image_score(own)
        found[run] = read_image_scores(folder, f"./run.sh {run}", score)
    first, *others = found.values()
    ids = [image_id for image_id in first if all(image_id in other for other in others)]
    columns = {run: [own[image_id][1] for image_id in ids] for run, own in found.items()}
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
    return pd.DataFrame(columns, index=ids), groups, score


def shake_up(scores: pd.DataFrame, groups: np.ndarray, score: str = "dice") -> ShakeUp:
    """Returns the estimate for several submissions.

    Args:
        scores: by image, a column per submission (I x N).
        groups: int (I,), the sequence of each image.
        score: the name of the score.
    """
    names, scores_IN = list(scores.columns), scores.to_numpy()
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
    ordered = tuple(outlooks[index] for index in order)
    first, second = (names[index] for index in finals)
    return ShakeUp(score, ordered, tuple(pairs), (first, second), len(scores_IN), len(np.unique(groups)))


def draw_boards(scores_IN: np.ndarray, groups: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Returns public and private scores, float64 (B, N) each: sequences drawn with replacement, then split."""
    _, group_of = np.unique(groups, return_inverse=True)
    num_groups = int(group_of.max()) + 1
    sums_GN = np.stack([np.bincount(group_of, column) for column in scores_IN.T], 1)
    sizes_G = np.bincount(group_of)
    num_public = min(max(1, round(PUBLIC_SHARE * num_groups)), num_groups - 1)
    generator = np.random.default_rng(0)
    boards = []
    for num_drawn in (num_public, num_groups - num_public):
        counts_BG = generator.multinomial(num_drawn, np.full(num_groups, 1 / num_groups), NUM_BOARDS)
        boards.append((counts_BG @ sums_GN) / (counts_BG @ sizes_G)[:, None])
    return boards[0], boards[1]
